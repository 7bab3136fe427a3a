"""What a run writes down while it goes: rows of metrics, TensorBoard events, pictures of samples."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxgan.config import Config, InputError
from jaxgan.runs.directory import write_atomically
from jaxgan.runs.figures import decode_samples, encode_samples, to_bytes, write_curves, write_film

# tensorboardX imports PyTorch where that is installed, which takes two seconds, for the name of a type.
_hidden = sys.modules.setdefault("torch", None)  # pyright: ignore[reportArgumentType]
from tensorboardX import SummaryWriter  # noqa: E402

if _hidden is None:
    del sys.modules["torch"]

METRICS = "metrics.jsonl"
FRECHET = "score/frechet"
"""A metric that rows of scores have, and only they."""
SUMMARIES = ("losses.png", "samples.gif", "samples.npz")
"""What is drawn of a whole run."""


class Journal:
    """The written record of one run, from `step` on: what lies after `step` is taken back, for it comes again."""

    def __init__(self, run: Path, step: int) -> None:
        self._run = run
        (run / "samples").mkdir(exist_ok=True)
        rows = [row for row in read_rows(run) if row["step"] <= step]
        write_atomically(run / METRICS, "".join(map(encode_row, rows)).encode(), sync=True)
        for picture in sample_files(run):
            if int(picture.stem) > step:
                picture.unlink()
        self._rows = (run / METRICS).open("a")
        self._events = SummaryWriter(str(run), purge_step=step + 1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._rows.close()
        self._events.close()

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Writes the metrics of one step as a row, and as TensorBoard scalars."""
        self._rows.write(encode_row({"step": step, **row}))
        for name, value in row.items():
            self._events.add_scalar(name, value, step)

    def flush(self) -> None:
        """Hands everything to the system, so that a killed process loses none of it."""
        self._rows.flush()
        self._events.flush()

    def picture(self, step: int, images: Float[np.ndarray, "n h w c"], logits: Float[np.ndarray, " n"]) -> None:
        """Writes samples in [0, 1] with D's logits as `samples/<step>.png`, and to TensorBoard."""
        write_atomically(self._run / "samples" / f"{step:08d}.png", encode_samples(images, logits, step))
        self._events.add_images("samples", to_bytes(images), step, dataformats="NHWC")


def forget_end(run: Path, config: Config, end: int) -> None:
    """Takes back what a run journaled of its end and of no cadence: a longer run has no such scores and picture.

    Args:
        run: Its directory.
        config: Its cadences.
        end: The step at which it ended; of any other step at which it stands there is nothing to take back.
    """
    every = config.every
    if not is_due(end, config.eval_every):
        rows = [row for row in read_rows(run) if row["step"] != end or FRECHET not in row]
        write_atomically(run / METRICS, "".join(map(encode_row, rows)).encode(), sync=True)
    if not is_due(end, every.sample, int(every.sample_after)):
        (run / "samples" / f"{end:08d}.png").unlink(missing_ok=True)


def is_due(step: int, every: int, after: int = 0) -> bool:
    """Whether state `step` falls on a cadence that counts from 0; with `after` = 1 on the state after that step."""
    return every > 0 and step >= after and (step - after) % every == 0


class Unwritten(Journal):
    """The journal of a process that is not the first of its job: it writes nothing."""

    def __init__(self) -> None:  # pyright: ignore[reportMissingSuperCall]
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, step: int, row: Mapping[str, float]) -> None:
        """Writes nothing."""

    def flush(self) -> None:
        """Does nothing."""

    def picture(self, step: int, images: Float[np.ndarray, "n h w c"], logits: Float[np.ndarray, " n"]) -> None:
        """Writes nothing."""


def encode_row(row: Mapping[str, float]) -> str:
    """A row as a line of JSON."""
    return json.dumps(row, allow_nan=False) + "\n"


def read_rows(run: Path) -> list[dict[str, float]]:
    """The rows of `metrics.jsonl`; a last line that a kill cut short is left out.

    Raises:
        InputError: Another line is damaged.
    """
    rows = read_row_file(run / METRICS)
    for number, row in enumerate(rows, start=1):
        if not {type(value) for value in row.values()} <= {int, float}:
            raise InputError(f"{run / METRICS}: line {number} is damaged: remove it")
    return rows


def read_row_file(path: Path, key: str = "step") -> list[dict[str, Any]]:
    """The rows of one such file, none where it is missing; `key` is the whole number that each of them must have.

    Raises:
        InputError: A line but the last is damaged.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(row := json.loads(line))
            whole = type(row[key]) is int
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{path}: line {number} is damaged: remove it") from error
        if not whole:
            raise InputError(f"{path}: line {number} is damaged: remove it")
    return rows


def sample_files(run: Path) -> list[Path]:
    """The pictures of samples, first step first."""
    return sorted(path for path in (run / "samples").glob("*.png") if path.stem.isdecimal())


def last_step(run: Path) -> int:
    """The last step that rows or pictures tell of; 0 where there are none.

    Raises:
        InputError: A row is damaged.
    """
    return max([0, *(int(row["step"]) for row in read_rows(run)), *(int(path.stem) for path in sample_files(run))])


def summarise(run: Path, config: Config, image_shape: tuple[int, int, int]) -> list[str]:
    """Draws what a run's files tell: `losses.png`, `samples.gif`, `samples.npz`. Returns the names of what it wrote.

    `samples.npz` holds `steps` [k], `images` uint8 [k, n, h, w, c] and D's `logits` [k, n] of every picture.
    """
    written = []
    if rows := [row for row in read_rows(run) if {"loss/disc", "loss/gen"} <= row.keys()]:  # Others hold scores.
        write_curves(rows, config, run / "losses.png")
        written.append("losses.png")
    if paths := sample_files(run):
        steps, images, logits = zip(*(decode_samples(path, image_shape) for path in paths), strict=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, steps=np.array(steps), images=np.stack(images), logits=np.stack(logits))
        write_atomically(run / "samples.npz", buffer.getvalue())
        write_film(paths, [f"step {step:,}" for step in steps], run / "samples.gif")
        written += ["samples.gif", "samples.npz"]
    return written
