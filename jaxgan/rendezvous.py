"""The processes of a job meet: each says to the first, over a socket, who it is.

They do so before JAX connects them where they know how, for JAX itself aborts a process whose job is not whole. And
the sockets stay open: where one of them closes without a goodbye, that process is lost, which is known at once,
whatever the collectives of a platform do then.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import operator
import socket
import time
from collections.abc import Sequence

from jaxgan.config import InputError

_LINE_BYTES = 1024
_PAUSE = 0.1
_PATIENCE = 5.0  # Seconds in which a process that has connected says who it is.


def meet(coordinator: str, num_processes: int, process_id: int, seconds: float) -> dict[int, socket.socket]:
    """Returns when all processes of a job have come to its first one, with a socket to each: the others' to the first.

    Args:
        coordinator: HOST:PORT at which the first process listens.
        num_processes: How many there must be.
        process_id: Which one this is, from 0.
        seconds: How long to wait.

    Raises:
        InputError: They are not all there in time, or do not agree on who they are.
    """
    host, _, port = coordinator.rpartition(":")
    if process_id == 0:
        try:
            listener = socket.create_server(("", int(port)), backlog=num_processes)
        except OSError as error:
            raise InputError(f"--coordinator {coordinator} cannot be listened at: {error.strerror}") from error
        return receive(listener, num_processes, seconds)
    try:
        return {0: introduce([host], int(port), num_processes, process_id, seconds)}
    except TimeoutError as error:
        raise InputError(
            f"--coordinator {coordinator} cannot be reached within {seconds:.0f} s ({error}): "
            "start process 0 there, or mend the address"
        ) from error


def receive(listener: socket.socket, num_processes: int, seconds: float) -> dict[int, socket.socket]:
    """Hears all others at a socket, then tells each of them how it went, and closes it.

    Raises:
        InputError: They are not all there in time, or do not agree on who they are.
    """
    deadline = time.monotonic() + seconds
    guests: dict[int, socket.socket] = {}
    verdict: str | None = None
    with listener, contextlib.ExitStack() as opened:
        while verdict is None and len(guests) < num_processes - 1:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                guest = opened.enter_context(listener.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(1, num_processes) if i not in guests)
                verdict = f"after {seconds:.0f} s process {missing} of {num_processes} is missing"
                break
            try:
                guest.settimeout(_PATIENCE)
                theirs, i = map(operator.index, json.loads(_read_line(guest)))
            except (OSError, ValueError, TypeError):  # A stranger, or a process that is gone again.
                guest.close()
                continue
            if theirs != num_processes:
                verdict = f"process {i} was started with --num-processes {theirs}, process 0 with {num_processes}"
            elif i in guests:
                verdict = f"two processes were started with --process-id {i}"
                _tell(guest, verdict)
                break
            guests[i] = guest
        for guest in guests.values():
            _tell(guest, verdict)
        if verdict is not None:
            raise InputError(verdict)
        opened.pop_all()
    return guests


def _tell(guest: socket.socket, verdict: str | None) -> None:
    with contextlib.suppress(OSError):
        guest.sendall(json.dumps(verdict).encode() + b"\n")
        guest.settimeout(None)


def introduce(hosts: Sequence[str], port: int, num_processes: int, process_id: int, seconds: float) -> socket.socket:
    """Goes to the first process at any of some names of its host, says who this is, and hears how it went.

    Raises:
        InputError: The processes do not agree on who they are, or another one does not come.
        TimeoutError: Nobody is there in time; says why.
    """
    deadline = time.monotonic() + seconds
    reason = "nobody answers"
    for host in itertools.cycle(hosts):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        with contextlib.ExitStack() as opened:
            try:
                first = opened.enter_context(socket.create_connection((host, port), timeout=left))
                first.sendall(json.dumps([num_processes, process_id]).encode() + b"\n")
                # The first process keeps the time while it waits for the others.
                first.settimeout(max(1.0, deadline - time.monotonic()) + _PATIENCE)
                verdict = json.loads(_read_line(first))
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or reason
                time.sleep(_PAUSE)
                continue
            if verdict is not None:
                raise InputError(verdict)
            first.settimeout(None)
            opened.pop_all()
            return first
    raise TimeoutError(reason)


def _read_line(connection: socket.socket) -> str:
    """One line, without its end.

    Raises:
        ValueError: It is too long, or the other side closed before its end.
    """
    line = b""
    while not line.endswith(b"\n"):
        piece = connection.recv(_LINE_BYTES)
        if not piece or len(line) > _LINE_BYTES:
            raise ValueError("no whole line came")
        line += piece
    return line.decode().rstrip("\n")
