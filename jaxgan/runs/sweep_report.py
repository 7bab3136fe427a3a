"""What a finished sweep tells: a table over its members, plots of the scores, a picture with a row a member."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxgan.config import flag
from jaxgan.runs.directory import write_atomically
from jaxgan.runs.figures import grid
from jaxgan.runs.sweeps import Result, SweepRecord, best_members, read_samples, show_value

SCORES_PLOT = "scores.png"
SAMPLES_PICTURE = "samples.png"
MOST_LINES = 30
MOST_ROWS = 200
"""Members in the picture of all: the first of them."""
_GUTTER = 40  # Pixels for a member's number.
_SCORES = (("frechet", "Fréchet distance", 2), ("recall/3", "recall", 3))
_DECADES = 10.0  # Values that span more than this factor are drawn on a logarithmic axis.


def sweep_table(record: SweepRecord, results: Sequence[Result]) -> list[str]:
    """Lines of a table: a line for each combination of the swept values over its seeds, the best mean first; then all.

    Means and standard deviations are over the members that have scores, collapsed ones among them; the shares of those
    that collapsed and that diverged are of all members.
    """
    fields = [name for name in record.fields if name != "seed"]
    groups: dict[tuple[str, ...], list[Result]] = {}
    for row in results:
        groups.setdefault(tuple(show_value(row[name]) for name in fields), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: _mean_or_worst(item[1]))
    lines = [(*fields, "members", "Fréchet ↓", "best", "recall ↑", "collapsed", "diverged")]
    lines += [(*values, *_cells(rows)) for values, rows in ordered[:MOST_LINES] if fields]
    lines.append((*(["all", *[""] * (len(fields) - 1)] if fields else []), *_cells(results)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(map(str.rjust, line, widths)) for line in lines]
    if len(ordered) > MOST_LINES:
        table.insert(-1, f"... and {len(ordered) - MOST_LINES} more combinations of values")
    return table


def _cells(rows: Sequence[Result]) -> tuple[str, ...]:
    best = best_members(rows)
    cells = [str(len(rows)), *(_mean_and_spread(rows, name, digits) for name, _, digits in _SCORES)]
    cells.insert(2, f"{best[0]['frechet']:.2f}" if best else "-")
    shares = [sum(bool(row[name]) for row in rows) / len(rows) for name in ("collapsed", "diverged")]
    return (*cells, *(f"{share:.0%}" for share in shares))


def _scored(rows: Sequence[Result], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def _mean_and_spread(rows: Sequence[Result], name: str, digits: int) -> str:
    values = _scored(rows, name)
    if not values:
        return "-"
    spread = f" ±{np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def _mean_or_worst(rows: Sequence[Result]) -> float:
    values = _scored(rows, "frechet")
    return float(np.mean(values)) if values else float("inf")


def write_score_plots(record: SweepRecord, results: Sequence[Result], target: Path) -> None:
    """Draws Fréchet distance and recall against each swept field; a cross collapsed, a triangle diverged."""
    from matplotlib.figure import Figure

    fields = [name for name in record.fields if name != "seed"] or ["seed"]
    figure = Figure(figsize=(max(5.0, 4.2 * len(fields)), 7), layout="constrained")
    panels = figure.subplots(2, len(fields), squeeze=False, sharex="col", sharey="row")
    for column, name in enumerate(fields):
        places, labels = _places([row[name] for row in results])
        for line, (score, label, _) in enumerate(_SCORES):
            _scatter(panels[line, column], places, results, score)
            panels[line, 0].set_ylabel(label)
        if labels is not None:
            panels[1, column].set_xticks(range(len(labels)), labels)
        elif _is_logarithmic(places):
            panels[1, column].set_xscale("log")
        elif all(isinstance(row[name], int) for row in results):
            panels[1, column].xaxis.get_major_locator().set_params(integer=True)
        panels[1, column].set_xlabel(flag(name).removeprefix("--"))
    distances = [row["frechet"] for row in results if row.get("frechet")]
    if distances and _is_logarithmic(distances):
        panels[0, 0].set_yscale("log")
    panels[1, 0].set_ylim(-0.02, 1.02)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    write_atomically(target, buffer.getvalue())


def _scatter(panel: Any, places: Sequence[float], results: Sequence[Result], score: str) -> None:
    for collapsed, marker, color, label in ((False, "o", "C0", "member"), (True, "x", "C3", "collapsed")):
        chosen = [(x, row[score]) for x, row in zip(places, results, strict=True) if row["collapsed"] is collapsed]
        points = [point for point in chosen if point[1] is not None]
        panel.scatter(
            [x for x, _ in points], [y for _, y in points], marker=marker, color=color, alpha=0.7, label=label
        )
    lost = [x for x, row in zip(places, results, strict=True) if row["diverged"]]
    top = {"transform": panel.get_xaxis_transform(), "clip_on": False}  # Whatever the scores of the others.
    if lost:
        panel.plot(lost, [1.0] * len(lost), "^", color="black", label="diverged", **top)
    panel.grid(alpha=0.3)


def _places(values: Sequence[Any]) -> tuple[list[float], list[str] | None]:
    """Where values stand on an axis; and what stands there, where they are no numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values], None
    labels = list(dict.fromkeys(map(show_value, values)))
    return [float(labels.index(show_value(value))) for value in values], labels


def _is_logarithmic(places: Sequence[float]) -> bool:
    return min(places) > 0 and max(places) >= _DECADES * min(places)


def write_samples_picture(record: SweepRecord, run: Path) -> None:
    """Draws a row of samples for each member, in their order, with its number; grey where it diverged."""
    pictures: dict[int, UInt8[np.ndarray, "n h w c"]] = {}
    for number, wave in enumerate(record.waves):
        pictures |= dict(zip(wave, read_samples(run, number), strict=True))
    shown = sorted(pictures)[:MOST_ROWS]
    columns = len(pictures[shown[0]])
    rows = grid(np.concatenate([pictures[member] for member in shown]), columns, 1)
    canvas = Image.new(rows.mode, (rows.width + _GUTTER, rows.height))
    canvas.paste(rows, (_GUTTER, 0))
    pen, height = ImageDraw.Draw(canvas), (rows.height + 1) / len(shown)
    for i, member in enumerate(shown):
        white = 255 if rows.mode == "L" else (255, 255, 255)
        pen.text((4, (i + 0.5) * height), str(member), fill=white, font=ImageFont.load_default(13), anchor="lm")
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    write_atomically(run / SAMPLES_PICTURE, buffer.getvalue())
