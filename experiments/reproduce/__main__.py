"""Reruns the published systems, and our own, on real MNIST, scores them, and writes what came out beside this script.

    python -m experiments.reproduce vanilla --manual-dir folder/with/the/four/gz/files --runs folder/for/runs
    python -m experiments.reproduce tables

One command a system: it trains the runs of PLANS (those that are there already are taken, or resumed), scores the last
checkpoint of each with the two-sample test, and every checkpoint of a run of a million steps. `tables` makes
the table of the README anew from all `<system>.json` of MNIST.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from PIL import Image

from jaxgan.runs.directory import read_record
from jaxgan.runs.journal import read_rows
from jaxgan.runs.scores import SCORES, SCORES_PLOT, Scores, read_scores

HERE = Path(__file__).parent
README = HERE / "README.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")
MILLION = 1_000_000
OVER_STEPS = "over-steps"
"""Folder of a run with the scores of all its checkpoints."""


@dataclass(frozen=True)
class Plan:
    """How one system is rerun."""

    lengths: tuple[int, ...]
    """Steps of each seed from 0; a run is also scored at the length of the shortest."""
    checkpoint: int
    """Steps between checkpoints, all of which are kept."""
    pictures: tuple[int, ...]
    """Steps whose pictures are shown: those that the original shows, where it names them."""
    data: str = "mnist"
    protocol: tuple[str, ...] = ("--two-sample",)
    """Flags of `jaxgan.evaluate`."""


PLANS = {
    "vanilla": Plan((MILLION, 100_000, 100_000), 20_000, (1000, 10_000, 100_000, 300_000, 600_000, MILLION)),
    "leaky-tanh": Plan((55_000,) * 3, 5000, (550, 5500, 16_500, 27_500, 41_250, 55_000)),
    "deep-batchnorm": Plan((30_000,) * 3, 5000, (201, 1001, 5001, 10_001, 20_001, 29_801)),
    "logged": Plan(
        (MILLION, 100_000, 100_000),
        20_000,
        (2000, 6000, 42_000, 144_000, 244_000, 316_000, 857_000, 936_000, 972_000),
    ),
    "gaussian-leaky": Plan((30_000,) * 3, 5000, (1000, 5000, 10_000, 20_000, 30_000)),
    "modern": Plan((16_000,) * 5, 2000, (1000, 2000, 4000, 8000, 12_000, 16_000)),
    "best": Plan((85_000,) * 5, 5000, (5000, 10_000, 20_000, 40_000, 60_000, 85_000)),
    "stacked": Plan((30_000,), 2000, (2000, 5000, 10_000, 30_000), "stacked_mnist", ("--num", "26000")),
}


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    what: Annotated[str, tyro.conf.Positional]
    """A system, or `tables`."""
    runs: Path = Path("runs/reproduce")
    """Where the runs are."""
    data_dir: Path | None = None
    """Folder of prepared data sets."""
    manual_dir: Path | None = None
    """Folder with the four original files of MNIST."""


def main(wanted: Arguments) -> None:
    """Reruns one system, or writes the tables."""
    if wanted.what == "tables":
        before, _, rest = README.read_text().partition(MARKS[0])
        README.write_text("\n".join([before + MARKS[0], *tables(), MARKS[1] + rest.partition(MARKS[1])[2]]))
        return
    if wanted.what not in PLANS:
        sys.exit(f"there is no system {wanted.what!r}: choose from {', '.join(PLANS)}, or tables")
    plan = PLANS[wanted.what]
    for seed, length in enumerate(plan.lengths):
        train(wanted, plan, seed, length)
    first = run_dir(wanted, 0)
    # Before the scores of its ends, which are of another protocol and of more draws.
    over_steps = {"over_steps": score_all(first)} if max(plan.lengths) >= MILLION else {}
    rows = [row for seed in range(len(plan.lengths)) for row in score(wanted, plan, seed)]
    found = {
        "system": wanted.what,
        "command": f"python -m experiments.reproduce {wanted.what}",
        "versions": read_record(first).versions,
        "rows": rows,
        "classes": class_shares(first) if plan.data == "mnist" else [],
        "losses": loss_bands(first),
        **over_steps,
    }
    if over_steps:
        shutil.copy(first / OVER_STEPS / SCORES_PLOT, HERE / f"{wanted.what}-scores.png")
    (HERE / f"{wanted.what}.json").write_text(json.dumps(found, indent=1) + "\n")
    shutil.copy(first / "losses.png", HERE / f"{wanted.what}-losses.png")
    picture_strip([first / "samples" / f"{step:08d}.png" for step in plan.pictures], HERE / f"{wanted.what}.png")


def run_dir(wanted: Arguments, seed: int) -> Path:
    """Where the run of a seed is."""
    return wanted.runs / f"{wanted.what}-{seed}"


def train(wanted: Arguments, plan: Plan, seed: int, length: int) -> None:
    """Trains one run, or what is missing of it."""
    run = run_dir(wanted, seed)
    if (run / "losses.png").exists():
        return
    where: list[object] = ["--run-dir", run]
    if (run / "config.json").exists():
        command("train", *where, "--resume")
        return
    keep = length // plan.checkpoint + 2
    data: list[object] = ["--data.name", plan.data]
    for name, folder in (("data-dir", wanted.data_dir), ("manual-dir", wanted.manual_dir)):
        data += [f"--data.{name}", folder] if folder else []
    fixed = ["--seed", seed, "--num-steps", length, "--every.checkpoint", plan.checkpoint, "--keep", keep]
    command("train", wanted.what, *fixed, *data, *where)


def score(wanted: Arguments, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Scores of a run at its end, and where other seeds end earlier, at their end too."""
    run, length = run_dir(wanted, seed), plan.lengths[seed]
    for step in sorted({min(plan.lengths), length}):
        if not (run / "scores.json").exists() or step not in read_scores(run / "scores.json").checkpoints:
            command("evaluate", run, *plan.protocol, "--checkpoint", step)
        scores = read_scores(run / "scores.json")
        row = {"seed": seed, "step": step, "scores": {k: v["mean"] for k, v in scores.checkpoints[step].items()}}
        if step == length and (seconds := seconds_of(run)):
            row |= {"seconds": round(seconds), "steps_per_second": round(length / seconds)}
        yield row | {"references": _means(scores), "network": scores.protocol.network}


def seconds_of(run: Path) -> float | None:
    """The time between the first file of a run and its last; None where it was interrupted, which makes more events."""
    if len(list(run.glob("events.out.tfevents*"))) > 1:
        return None
    return (run / "losses.png").stat().st_mtime - (run / "config.json").stat().st_mtime


def _means(scores: Scores) -> dict[str, dict[str, float | None]]:
    return {name: {k: v["mean"] for k, v in row.items()} for name, row in scores.references.items()}


def class_shares(run: Path) -> list[float]:
    """How much of the training split each class is."""
    from jaxgan.data.dataset import load_dataset

    config = read_record(run).config
    whole = replace(config, eval_every=0, keep_best=False, data=replace(config.data, holdout=0))
    counts = np.bincount(load_dataset(whole, "train").labels)
    return list(counts / counts.sum())


def score_all(run: Path) -> dict[str, list[Any]]:
    """Scores of every checkpoint of a run, one draw each, by name; and their steps."""
    kept = run / OVER_STEPS
    if not (kept / SCORES).exists():
        command("evaluate", run, "--every-checkpoint")
        kept.mkdir(exist_ok=True)
        for name in (SCORES_PLOT, SCORES):
            (run / name).replace(kept / name)
    rows = read_scores(kept / SCORES).checkpoints
    names = ("frechet", "classifier_score", "precision/3", "recall/3", "parzen", "accuracy/disc")
    return {"step": list(rows)} | {name: [row[name]["mean"] for row in rows.values()] for name in names}


def loss_bands(run: Path) -> list[dict[str, float]]:
    """Means of the journal over twentieths of a run, and the extremes of the rows that the original prints."""
    config = read_record(run).config
    rows = [row for row in read_rows(run) if "loss/disc" in row]
    names = [name for name in ("loss/disc", "loss/gen", "accuracy/disc") if name in rows[0]]
    bands = []
    for piece in np.array_split(np.arange(len(rows)), 20):
        part = [rows[i] for i in piece]
        bands.append(
            {"until": part[-1]["step"]} | {name: float(np.mean([row[name] for row in part])) for name in names}
        )
    printed = [row for row in rows if row["step"] > 1 and (row["step"] - 1) % config.every.print == 0]
    extremes = {name: [f(row[name] for row in printed) for f in (min, max)] for name in names}
    return [*bands, {"printed": extremes}]  # pyright: ignore[reportReturnType]


def command(door: str, *arguments: object) -> None:
    """Runs a command of jaxgan to its end."""
    done = subprocess.run([sys.executable, "-m", f"jaxgan.{door}", *map(str, arguments)], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # It has said why.


def picture_strip(paths: list[Path], target: Path) -> None:
    """Pictures of samples side by side, each half as large."""
    pictures = [Image.open(path) for path in paths]
    mode = "L" if pictures[0].mode in ("L", "1", "P") else "RGB"
    pictures = [picture.convert(mode) for picture in pictures]
    pictures = [picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX) for picture in pictures]
    gap = 8
    strip = Image.new(mode, (sum(each.width + gap for each in pictures) - gap, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width + gap
    strip.save(target, optimize=True)


def tables() -> Iterator[str]:
    """The lines of the table."""
    one, two, three = (partial(_spread, decimals=decimals) for decimals in (1, 2, 3))
    columns = (
        ("Fréchet", "frechet", one),
        ("classifier score", "classifier_score", two),
        ("precision", "precision/3", three),
        ("recall", "recall/3", three),
        ("coverage", "coverage/5", three),
        ("classes", "classes/hit", _count),
        ("Parzen", "parzen", one),
        ("two-sample", "two_sample", three),
    )
    yield (
        "| system | steps | seeds | "
        + " | ".join(name for name, _, _ in columns)
        + " | class off | minutes | steps/s |"
    )
    yield "|---|---|---|" + "---|" * (len(columns) + 3)
    references: dict[str, Any] = {}
    networks = set()
    for system, plan in PLANS.items():
        path = HERE / f"{system}.json"
        if plan.data != "mnist" or not path.exists():
            continue
        found = json.loads(path.read_text())
        networks |= {row["network"] for row in found["rows"]}
        for step in sorted({row["step"] for row in found["rows"]}):
            rows = [row for row in found["rows"] if row["step"] == step]
            cells = [form([row["scores"][key] for row in rows]) for _, key, form in columns]
            shares = [np.mean([row["scores"][f"share/{i}"] for row in rows]) for i in range(len(found["classes"]))]
            cells.append(f"{100 * np.abs(np.subtract(shares, found['classes'])).max():.2f}")
            timed = [row for row in rows if "seconds" in row]
            cells.append(_spread([row["seconds"] / 60 for row in timed], 1) if timed else "")
            cells.append(_spread([row["steps_per_second"] for row in timed], 0) if timed else "")
            yield f"| `{system}` | {step:,} | {len(rows)} | " + " | ".join(cells) + " |"
        references = found["rows"][0]["references"]
    assert len(networks) == 1, f"scores of different feature networks cannot be compared: {networks}"
    for name, row in references.items():
        cells = [form([row[key]]) for _, key, form in columns]
        yield f"| {name} | | | " + " | ".join(cells) + " | | | |"


def _spread(values: list[float], decimals: int) -> str:
    mean = f"{np.mean(values):,.{decimals}f}"
    return f"{mean} ±{np.std(values, ddof=1):,.{decimals}f}" if len(values) > 1 and decimals else mean


def _count(values: list[float]) -> str:
    """Counts that may be means: a whole one that all share without decimals and spread."""
    return _spread(values, 0 if len(set(values)) == 1 and values[0].is_integer() else 1)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
