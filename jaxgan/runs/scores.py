"""What evaluation leaves behind: `scores.json`, a table for people, a plot of scores over the steps."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import cattrs
from cattrs.preconf.json import make_converter

from jaxgan.config import InputError
from jaxgan.runs.directory import alone, write_atomically

SCORES = "scores.json"
SCORES_PLOT = "scores.png"
FORMAT = 1

Row = dict[str, dict[str, float | None]]
"""Mean and standard deviation of each score over draws of images."""

Call_co = TypeVar("Call_co", covariant=True)


@dataclass(frozen=True)
class Scorer(Generic[Call_co]):
    """What scores states, and with which feature network: scores of different networks cannot be compared."""

    network: str
    """Its version."""
    scores: Call_co
    """From a state to its scores by name."""


# Name of the score, what people call it, decimals. An arrow says which way is better.
_LINES = (
    ("frechet", "Fréchet distance ↓", 2),
    ("classifier_score", "classifier score ↑", 2),
    ("precision/3", "precision (k=3) ↑", 3),
    ("recall/3", "recall (k=3) ↑", 3),
    ("density/5", "density (k=5) ↑", 3),
    ("coverage/5", "coverage (k=5) ↑", 3),
    ("classes/hit", "classes hit ↑", 0),
    ("classes/kl", "KL to data's classes ↓", 4),
    ("parzen", "Parzen, nats ↑", 1),
    ("nearest", "nearest training image", 2),
    ("two_sample", "two-sample accuracy ↓", 3),
    ("accuracy/disc", "D's accuracy", 3),
    ("prob/real", "D(real images)", 3),
    ("prob/fake", "D(generated)", 3),
)


@dataclass(frozen=True)
class Protocol:
    """How scores were made: those of different protocols cannot be compared."""

    network: str
    """Version of the feature network."""
    dataset: str
    fingerprint: str
    against: str
    """The split of real images that they are scored against."""
    num: int
    """Generated images of a draw."""
    draws: int
    latent_scale: float = 1.0
    label_scale: float = 1.0
    seed: int | None = None
    """Of the latents and of the reference rows; None where an earlier version has not told it."""


@dataclass(frozen=True)
class Scores:
    """What `scores.json` holds."""

    protocol: Protocol
    network_accuracy: float
    """The share of the test images that the feature network classifies right."""
    versions: dict[str, str]
    references: dict[str, Row]
    checkpoints: dict[int, Row] = field(default_factory=dict)
    """By step."""
    format: int = FORMAT


def read_scores(path: Path) -> Scores:
    """Reads a `scores.json`.

    Raises:
        InputError: It is missing, damaged or of another format.
    """
    try:
        stored: Any = json.loads(path.read_text())
        if stored["format"] != FORMAT:
            raise InputError(f"{path} has format {stored['format']}; this jaxgan reads format {FORMAT}")
        return make_converter(forbid_extra_keys=True).structure(stored, Scores)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, cattrs.BaseValidationError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({type(error).__name__}): remove it") from error


def add_scores(run: Path, scores: Scores) -> tuple[Scores, Path | None]:
    """Writes `scores.json`, beside the checkpoints that were scored before by the same protocol.

    Scores of another protocol cannot stand beside these: their file is put aside, as is one that cannot be read.

    Returns:
        All that the file now holds, and where the one before was put, if it was.
    """
    path, aside = run / SCORES, None
    with alone(run):
        try:
            before = read_scores(path)
        except InputError:
            before = None
        if before is not None and before.protocol == scores.protocol:
            together = {**before.checkpoints, **scores.checkpoints}
            # Scores of later additions, such as the two-sample test, join those that were there.
            for step in set(before.checkpoints) & set(scores.checkpoints):
                together[step] = {**before.checkpoints[step], **scores.checkpoints[step]}
            references = {name: {**before.references.get(name, {}), **row} for name, row in scores.references.items()}
            scores = replace(scores, checkpoints=dict(sorted(together.items())), references=references)
        elif path.exists():
            names = (run / f"{path.stem}-{i}{path.suffix}" for i in itertools.count(1))
            aside = path.rename(next(name for name in names if not name.exists()))
        write_atomically(path, encode_scores(scores))
    return scores, aside


def encode_scores(scores: Scores) -> bytes:
    """The JSON text of scores; numbers that are not finite become null."""
    return (json.dumps(_finite(make_converter().unstructure(scores)), indent=1, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(columns: Mapping[str, Row]) -> list[str]:
    """Lines of a table: a column a set of images, a line a score, with ± where there are several draws."""
    lines = [("", *columns)]
    for name, label, decimals in _LINES:
        if any(name in row for row in columns.values()):
            lines.append((label, *(_cell(row.get(name), decimals) for row in columns.values())))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    aligned = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return ["  ".join(cells).rstrip() for cells in aligned]


def _cell(value: Mapping[str, float | None] | None, decimals: int) -> str:
    if value is None or value["mean"] is None:
        return "-"
    if not decimals and not value["sd"] and value["mean"].is_integer():
        return f"{value['mean']:.0f}"
    decimals = decimals or 1  # A mean of counts.
    spread = "" if value["sd"] is None else f" ±{value['sd']:.{decimals}f}"
    return f"{value['mean']:.{decimals}f}{spread}"


def write_score_curves(scores: Scores, target: Path) -> None:
    """Draws Fréchet distance, and precision and recall, over the steps, with the lines of real images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    steps = sorted(scores.checkpoints)
    plots = (("frechet", "Fréchet distance", 0), ("precision/3", "precision", 1), ("recall/3", "recall", 1))
    for i, (name, label, panel) in enumerate(plots):
        values = [scores.checkpoints[step][name]["mean"] for step in steps]
        panels[panel].plot(steps, values, marker="o", markersize=3, color=f"C{i}", label=label)
        real = scores.references["real"][name]["mean"]
        if real is not None:
            panels[panel].axhline(real, linestyle="--", linewidth=1, color=f"C{i}", label=f"{label} of real images")
    panels[0].set_yscale("log")
    panels[1].set_ylim(-0.02, 1.02)
    panels[1].set_xlabel("step")
    for panel in panels:
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    write_atomically(target, buffer.getvalue())
