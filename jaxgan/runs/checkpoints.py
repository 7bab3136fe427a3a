"""Checkpoints by Orbax: whole states, the newest few kept, checked bit for bit when they are read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding, SingleDeviceSharding

from jaxgan import hosts
from jaxgan.config import InputError
from jaxgan.gan.population import Population
from jaxgan.gan.state import TrainState, init_state
from jaxgan.runs.directory import RunRecord, free_directory

CHECKPOINTS = "checkpoints"
BEST = "best"
DAMAGED = "damaged-checkpoints"
_SPARE_BYTES = 1_000_000
_TOLD_IN_WORDS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EMFILE,
    errno.EIO,
)

Opened = TypeVar("Opened", bound="Checkpoints")
State = TypeVar("State", TrainState, Population)
"""What a checkpoint holds: one run, or all members of a population."""


class Checkpoints:
    """The checkpoints of one run, in `<run>/<folder>/<step>/`.

    Saving is asynchronous; a step counts only once all of it is on the disk.
    """

    def __init__(self, run: Path, keep: int | None = None, folder: str = CHECKPOINTS) -> None:
        """Opens the checkpoints of a run, to read only where `keep` is None."""
        logging.getLogger("absl").setLevel(logging.CRITICAL + 1)  # Orbax narrates every save, and logs what it raises.
        self._run = run.absolute()
        self._folder = self._run / folder
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, read_only=keep is None, create=keep is not None)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        # A save that failed fails again on closing; what went wrong first is told.
        with contextlib.suppress(Exception) if kind else _storage_errors(self._run):
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, chosen_by: Mapping[str, float | str] | None = None) -> None:
        """Starts to save a state, with what it was chosen by if it was; waits for the save before."""
        step = int(state.step)
        if step not in self._manager.all_steps():
            self._check_room(state)
            meta = {"step": step, "sha256": digest(state), **(chosen_by or {})}
            arguments = ocp.args.Composite(state=ocp.args.StandardSave(_written(state)), meta=ocp.args.JsonSave(meta))
            with _storage_errors(self._run):
                self._manager.save(step, args=arguments)

    def _check_room(self, state: State) -> None:
        # Orbax does fail on a full disk, but with pages of traces from its threads.
        needed = _SPARE_BYTES + 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self._run).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._run))

    def meta(self) -> dict[str, Any]:
        """What was saved beside the newest state; empty where there is none, or it cannot be read."""
        step = max(self.steps(), default=None)
        if step is None:
            return {}
        try:
            restored: Any = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            return dict(restored.meta)
        except Exception:  # Orbax raises whatever its storage raises.
            return {}

    def wait(self) -> None:
        """Returns when everything is on the disk."""
        with _storage_errors(self._run):
            self._manager.wait_until_finished()

    def restore(self, template: State, step: int) -> State:
        """Reads the state of one step.

        Args:
            template: A state of the same run, of `ShapeDtypeStruct`s.
            step: One of `steps()`.

        Raises:
            InputError: The checkpoint is damaged, or not one of this run's config.
        """
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(_written(template)), meta=ocp.args.JsonRestore())
        _hush_reads_left_behind()
        try:
            restored: Any = self._manager.restore(step, args=arguments)
            state = _read(restored.state, template)
            sound = restored.meta["sha256"] == digest(state) and int(state.step) == step
        except Exception as error:  # Orbax raises whatever its storage raises.
            raise InputError(f"the checkpoint of step {step} cannot be read ({type(error).__name__})") from error
        if not sound:
            raise InputError(f"the checkpoint of step {step} is damaged: its checksum differs")
        return state

    def restore_newest(self, template: State, warn: Callable[[str], None]) -> State | None:
        """Reads the newest good state, with a warning for each newer one that is damaged; None where there is none yet.

        Raises:
            InputError: There are checkpoints, and none of them is good.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(template, step)
            except InputError as error:
                warn(f"{error}; looking for an older one")
        if steps:
            raise InputError(f"{self._folder}: none of its {len(steps)} checkpoints can be read")
        return None

    def set_aside_after(self, step: int) -> None:
        """Moves the checkpoints of later steps to `<run>/damaged-checkpoints/`, out of the way of those to come."""
        for damaged in [later for later in self.steps() if later > step and hosts.is_first()]:
            target = free_directory(self._run / DAMAGED / str(damaged))
            target.parent.mkdir(exist_ok=True)
            (self._folder / str(damaged)).rename(target)
        hosts.gather(None)
        self._manager.reload()


class Best(Checkpoints):
    """The one checkpoint of a run with the least Fréchet distance, in `<run>/best/<step>/`.

    A run that is resumed before that step comes by it again with the same score, so it stays where it is; so it does
    where it was chosen at the end of a run that is longer now.
    """

    def __init__(self, run: Path, network: str) -> None:
        """Opens it.

        Raises:
            InputError: What it holds was chosen by scores of another feature network, which cannot be compared.
        """
        super().__init__(run, keep=1, folder=BEST)
        meta = self.meta()
        if (other := meta.get("network", network)) != network:
            self._manager.close()
            raise InputError(
                f"{run / BEST} was chosen by scores of the feature network {other}, and the data set here has "
                f"{network}: bring back the folder of the data set, or add --no-keep-best"
            )
        self._network = network
        self._least: float | None = meta.get("frechet")

    def offer(self, state: TrainState, frechet: float) -> None:
        """Saves the state if its score is better than all before."""
        if self._least is None or frechet < self._least:
            for later in (step for step in self.steps() if step > int(state.step)):
                self._manager.delete(later)  # Orbax refuses to save a step before the newest.
            self.save(state, {"frechet": frechet, "network": self._network})
            self.wait()  # Else a kill could leave a checkpoint of this step, from where it never comes again.
            self._least = frechet


@cache
def _hush_reads_left_behind() -> None:
    """Where one read of a checkpoint fails, Orbax leaves the others: each would tell it again, in pages, as it ends."""
    tell = sys.unraisablehook

    def tell_others(unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        left = code is not None and Path(ocp.__file__).parent in Path(code.co_filename).parents
        if not left and str(unraisable.exc_value) != "Event loop is closed":
            tell(unraisable)

    sys.unraisablehook = tell_others
    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
    logging.getLogger("asyncio").addFilter(lambda record: "exception was never retrieved" not in record.getMessage())


@contextlib.contextmanager
def _storage_errors(run: Path) -> Iterator[None]:
    """Tells what a user can mend as OSError: Orbax tells it in words."""
    try:
        yield
    except Exception as error:
        for code in _TOLD_IN_WORDS:
            if os.strerror(code) in str(error):
                raise OSError(code, os.strerror(code), str(run)) from error
        raise


def checkpoint_steps(run: Path) -> list[int]:
    """The steps of a run that have a checkpoint, oldest first; no other process of a job is waited for."""
    folder = run / CHECKPOINTS
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []


def fresh_state(record: RunRecord) -> TrainState:
    """State 0 of a run."""
    config, data = record.config, record.dataset
    return init_state(config, jax.random.key(config.seed), data.image_shape, data.label_counts)


def state_template(record: RunRecord, sharding: Sharding | None = None) -> TrainState:
    """The shapes and types of a run's states, to restore into, on the first device or as a sharding says.

    A checkpoint may come from other devices than are here, so a template always says where to.
    """
    place = sharding or SingleDeviceSharding(jax.local_devices()[0])
    shapes = jax.eval_shape(lambda: fresh_state(record))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes)


def _written(state: TrainState | Population) -> Any:
    """What a checkpoint holds of a state: a field that came later is left out where it is empty, as it was before."""
    if isinstance(state, Population):
        return state._replace(states=_written(state.states))
    return {name: value for name, value in state._asdict().items() if name != "label_counts" or value is not None}


def _read(written: Any, template: State) -> State:
    """The state that `_written` made it of."""
    if isinstance(template, Population):
        return written._replace(states=TrainState(**written.states))
    return TrainState(**written)  # pyright: ignore[reportReturnType]


def digest(state: State) -> str:
    """SHA-256 over the bytes of every leaf of a state, with its place, type and shape."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = _bytes_of(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def _bytes_of(leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
