"""Several processes that train one GAN together: how they find each other, agree, and end.

Every process runs the same program on the same values. What only one can do (choose a directory, look at the clock,
hear a signal) the first does or all tell each other, so that they go on with the same steps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar, cast

import tyro

from jaxgan.config import InputError

T = TypeVar("T")

_links: dict[int, socket.socket] = {}  # To the other processes, or to the first.
_last_word = threading.Lock()
_GOODBYE, _LOSS = b".", b"!"

HEARTBEAT_SECONDS = 30
"""How long a process may be silent before it counts as lost."""
SOCKET_SECONDS = 20
"""How long processes that JAX has brought together try to have sockets of their own."""
TELLING_SECONDS = 0.5
"""How long the first process waits for others to hear from it that one is lost."""
LOST = 4
"""The exit code where another process of the job is lost, or a device of this one."""
_MESSAGE_BYTES = 2**14
_LOSS_BYTES = 16
_CANNOT = "the processes of this job cannot start together"


@dataclass(frozen=True)
class Hosts:
    """Which job of several processes this one belongs to."""

    distributed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """One of several processes that train together; SLURM, GKE, TPU pods and Open MPI say which."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, where nothing else says so; with --num-processes, --process-id."""
    num_processes: int | None = None
    """How many processes train together."""
    process_id: int | None = None
    """Which of them this is, from 0, the one that --coordinator names."""
    start_timeout: int = 300
    """Seconds to wait for the other processes to start."""

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.distributed or self.coordinator is not None


def check(wanted: Hosts) -> None:
    """Raises InputError where flags contradict each other."""
    by_hand = (wanted.coordinator, wanted.num_processes, wanted.process_id)
    if wanted.start_timeout < 1:
        raise InputError(f"--start-timeout must be 1 or more seconds, not {wanted.start_timeout}")
    if by_hand == (None, None, None):
        return
    if None in by_hand:
        raise InputError("--coordinator HOST:PORT, --num-processes N and --process-id I go together")
    assert wanted.coordinator is not None
    assert wanted.num_processes is not None
    assert wanted.process_id is not None
    host, _, port = wanted.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"--coordinator must be HOST:PORT, not {wanted.coordinator}")
    if wanted.num_processes < 1:
        raise InputError(f"--num-processes must be 1 or more, not {wanted.num_processes}")
    if not 0 <= wanted.process_id < wanted.num_processes:
        last = wanted.num_processes - 1
        raise InputError(f"--process-id must be from 0 to {last} (--num-processes - 1), not {wanted.process_id}")


def join(wanted: Hosts) -> None:
    """Joins the job that the flags speak of, if they do; returns when all of its processes are there.

    Raises:
        InputError: They do not come together in time, or there is no such job.
    """
    check(wanted)
    if not wanted.several:
        return
    from jaxgan.rendezvous import meet

    if wanted.coordinator is not None and wanted.num_processes is not None and wanted.process_id is not None:
        # JAX itself aborts the process where others are missing or too many, so they are counted first.
        _watch_all(meet(wanted.coordinator, wanted.num_processes, wanted.process_id, wanted.start_timeout))
    import jax

    # It takes SIGTERM, which a run answers with a checkpoint.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with _without_proxies(), _bounded(wanted.start_timeout):
            jax.distributed.initialize(
                wanted.coordinator,
                wanted.num_processes,
                wanted.process_id,
                initialization_timeout=wanted.start_timeout + SOCKET_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
    except (ValueError, RuntimeError, OSError) as error:
        if wanted.coordinator is None and isinstance(error, ValueError):
            raise InputError(
                "--distributed finds no cluster (SLURM, GKE, a TPU pod, Open MPI) around it: "
                "name one with --coordinator HOST:PORT --num-processes N --process-id I"
            ) from error
        raise InputError(f"{_CANNOT}: {error}") from error


@contextlib.contextmanager
def _bounded(seconds: int) -> Iterator[None]:
    """Ends this process with one line where what is inside takes longer; JAX itself aborts it, with pages of traces."""

    def give_up() -> None:
        told = f"jaxgan: error: {_CANNOT}: after {seconds} s (--start-timeout) not all of them are there\n"
        os.write(sys.stderr.fileno(), told.encode())
        os._exit(2)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def _without_proxies() -> Iterator[None]:
    """Hides the proxies that the environment names for the web: gRPC would look for the coordinator behind them."""
    names = [name for name in os.environ if name.lower() in ("grpc_proxy", "http_proxy", "https_proxy")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def watch() -> None:
    """Has this process end where another one of its job is lost; all of them must come here after `join`.

    Processes that `join` has not counted itself open sockets to each other. Where they cannot, the first one warns.
    """
    import jax

    num_processes, process_id = jax.process_count(), jax.process_index()
    if num_processes == 1 or _links:
        return
    from jaxgan.rendezvous import introduce, receive

    listener = socket.create_server(("", 0), backlog=num_processes) if process_id == 0 else None
    mine = None if listener is None else (sorted({socket.getfqdn(), socket.gethostname()}), listener.getsockname()[1])
    names, port = cast("tuple[list[str], int]", gather(mine)[0])
    links: dict[int, socket.socket] = {}
    failed: str | None = None
    try:
        if listener is not None:
            links = receive(listener, num_processes, SOCKET_SECONDS)
        else:
            links = {0: introduce(names, port, num_processes, process_id, SOCKET_SECONDS)}
    except (InputError, TimeoutError) as error:
        failed = str(error)
    reasons = [reason for reason in gather(failed) if reason is not None]
    if not reasons:
        _watch_all(links)
        return
    for link in links.values():
        link.close()
    if is_first():
        print(
            f"jaxgan: warning: the processes of this job have no sockets to each other ({reasons[0]}): "
            f"where one is lost, it takes {HEARTBEAT_SECONDS} s until JAX ends the others",
            file=sys.stderr,
        )


def _watch_all(links: dict[int, socket.socket]) -> None:
    _links.update(links)
    for i, link in links.items():
        threading.Thread(target=_watch, args=(i, link), daemon=True).start()


def _watch(i: int, link: socket.socket) -> None:
    """Ends this process where another one ends without a goodbye, or hears of one that has."""
    try:
        said = link.recv(_LOSS_BYTES)
    except OSError:
        said = b""
    links = dict(_links)
    if said == _GOODBYE or i not in links:
        return
    lost = int(said[1:]) if said.startswith(_LOSS) and said[1:].isdigit() else i
    others = [other for other in links if other not in (i, lost)]
    for other in others:
        with contextlib.suppress(OSError):
            links[other].sendall(_LOSS + str(lost).encode())
    lose(f"process {lost} of this job is lost", after=TELLING_SECONDS if others else 0.0)


def lose(what: str, after: float = 0.0) -> NoReturn:
    """Ends this process, with one line, because it cannot go on without another one.

    Args:
        what: What is lost.
        after: Seconds to wait before the end, that of the first process being the end of JAX's own service for all.
    """
    _last_word.acquire()
    told = f"{' '.join(what.split())}: see what it says, then start all of them again with --resume"
    # In one piece: JAX's threads may speak at the same moment.
    os.write(sys.stderr.fileno(), f"jaxgan: error: {told}\n".encode())
    time.sleep(after)
    os._exit(LOST)


def is_first() -> bool:
    """Whether this process writes and speaks for all; the only one does."""
    import jax

    return jax.process_index() == 0


def gather(value: T) -> list[T]:
    """What each process hands in, a JSON value, in the order of the processes; all of them must come here."""
    import jax

    if jax.process_count() == 1:
        return [value]
    import numpy as np
    from jax.experimental import multihost_utils

    message = json.dumps(value).encode()
    if len(message) > _MESSAGE_BYTES:
        raise ValueError(f"a message of {len(message)} bytes is too long")
    padded = np.frombuffer(message.ljust(_MESSAGE_BYTES), np.uint8)
    return [json.loads(bytes(row)) for row in multihost_utils.process_allgather(padded)]


@contextlib.contextmanager
def agreed() -> Iterator[None]:
    """Raises in every process the InputError that one of them raises inside; no process may wait for others inside."""
    failed: InputError | None = None
    try:
        yield
    except InputError as error:
        failed = error
    reasons = [reason for reason in gather(None if failed is None else str(failed)) if reason is not None]
    if reasons:
        leave()
        raise InputError(reasons[0]) from failed


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes, a JSON value, in every process; or the InputError that it raises."""
    made: T | None = None
    with agreed():
        if is_first():
            made = make()
    return gather(made)[0]  # pyright: ignore[reportReturnType]


def check_same(what: str, value: object) -> None:
    """Raises InputError in every process where something that must be the same in all of them is not."""
    digests = gather(hashlib.sha256(repr(value).encode()).hexdigest())
    others = [i for i, digest in enumerate(digests) if digest != digests[0]]
    if others:
        leave()
        raise InputError(f"process {others[0]} of this job has another {what} than process 0: give all the same")


def in_job() -> bool:
    """Whether this process still belongs to a job of several."""
    jax: Any = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def is_loss(error: Exception) -> bool:
    """Whether an error of JAX may say that this process waited in vain for another one of its job.

    JAX has no other error where a device of this process fails.
    """
    if not in_job():
        return False
    import jax

    return isinstance(error, jax.errors.JaxRuntimeError)


def leave() -> None:
    """Leaves the job together with all others, for which it waits."""
    if not in_job():
        return
    import jax

    links = dict(_links)
    _links.clear()
    for link in links.values():
        with contextlib.suppress(OSError):
            link.sendall(_GOODBYE)
    jax.distributed.shutdown()
    for link in links.values():
        link.close()


def end(code: int) -> None:
    """Ends this process at once if it belongs to a job: the others, which would wait for it, notice and end too."""
    if in_job():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
