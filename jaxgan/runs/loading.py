"""Trained generators, to draw from or to score: those of a run's checkpoints, and those that come with the package."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from jaxgan.config import Config, InputError
from jaxgan.gan.state import TrainState
from jaxgan.runs.checkpoints import BEST, CHECKPOINTS, Checkpoints, state_template
from jaxgan.runs.directory import SWEEP, RunRecord, holds_run, read_record
from jaxgan.runs.published import load_published, published_names
from jaxgan.runs.terminal import Terminal

Step = int | Literal["best"] | None
"""Which checkpoint: one of a step, the best, or the newest."""


def load_run(run: str | Path, checkpoint: Step = None) -> tuple[Config, TrainState]:
    """What a run is and what it has learned: all that `generate`, `discriminate` and `train_steps` take.

    Args:
        run: A run directory, or the name of a published generator, `best` or `modern`, whose D is untrained.
        checkpoint: A step, "best" (of a run with `keep_best`), or None for the newest that is not damaged.

    Raises:
        InputError: There is no such run, generator or checkpoint, or it is damaged.
    """
    record, state = load_generator(run, checkpoint)
    return record.config, state


def load_generator(run: str | Path, step: Step) -> tuple[RunRecord, TrainState]:
    """A run's record and one of its states; or a published generator, where no run directory has its name.

    Raises:
        InputError: There is no such run, generator or checkpoint, or it is damaged.
    """
    if not is_published(run):
        path = Path(run)
        if not path.exists():
            raise InputError(_missing(run))
        record = read_record(path)
        return record, load_state(path, record, step)
    if step is not None:
        raise InputError(f"--checkpoint {step}: the published generator {run} has none to choose from")
    return load_published(str(run))


def is_published(run: str | Path) -> bool:
    """Whether it names a published generator, and no directory of a run or sweep; "./best" names a directory."""
    path = Path(run)
    return str(run) in published_names() and not holds_run(path) and not (path / SWEEP).is_file()


def _missing(run: str | Path) -> str:
    names = published_names()
    close = difflib.get_close_matches(str(run).lower(), names, 1)
    hint = f"did you mean {close[0]}?" if close else "python -m jaxgan.train makes runs"
    return f"there is no run {run}, and no published generator of that name ({', '.join(names)}); {hint}"


def load_state(run: Path, record: RunRecord, step: Step) -> TrainState:
    """The state of a step of a run, its best, or its newest good one, with a warning where newer ones are damaged.

    Raises:
        InputError: There is no such checkpoint, or it is damaged.
    """
    if step == "best" and not (run / BEST).is_dir():
        raise InputError(f"{run} keeps no best checkpoint: train with --eval-every N --keep-best")
    with Checkpoints(run, folder=BEST if step == "best" else CHECKPOINTS) as checkpoints:
        if step is None or step == "best":
            state = checkpoints.restore_newest(state_template(record), Terminal().warn)
            if state is None:
                raise InputError(f"{run} has no checkpoint yet")
            return state
        steps = checkpoints.steps()
        if not steps:
            raise InputError(f"{run} has no checkpoint yet")
        if step not in steps:
            raise InputError(f"--checkpoint {step}: {run} has checkpoints of the steps {', '.join(map(str, steps))}")
        return checkpoints.restore(state_template(record), step)
