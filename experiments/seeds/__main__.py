"""The spread that a single seed hides: many seeds of `vanilla` and of `modern` on real MNIST, scored and counted.

    python -m experiments.seeds --manual-dir folder/with/the/four/gz/files [--seeds 64] [--out experiments/seeds]

Trains a sweep for each preset (one that is there already is taken, or resumed) and writes, to `--out`, `<preset>.json`
with every member's scores, `<preset>.png` with ten samples of each, and `histograms.png`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from jaxgan.runs.sweeps import holds_sweep, read_results, read_sweep

STEPS = {"vanilla": 20_000, "modern": 16_000}
SHOWN = ("member", "seed", "step", "diverged", "collapsed", "frechet", "precision/3", "recall/3", "classes/kl")


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    seeds: int = 64
    """Seeds of each preset, from 0."""
    presets: tuple[Literal["vanilla", "modern"], ...] = ("vanilla", "modern")
    """Which presets."""
    num_steps: int | None = None
    """Steps of each member; by default 20,000 of vanilla and 16,000 of modern."""
    runs: Path = Path("runs/seeds")
    """Where the sweeps are."""
    out: Path = Path(__file__).parent
    """Where figures go."""
    data_dir: Path | None = None
    """Folder of prepared data sets."""
    manual_dir: Path | None = None
    """Folder with the four original files of MNIST."""


def main(wanted: Arguments) -> None:
    """Trains what is missing, and writes what came out."""
    wanted.out.mkdir(parents=True, exist_ok=True)
    for preset in wanted.presets:
        path = wanted.runs / preset
        line = sweep(wanted, preset, path)
        rows = read_results(path)
        told = {
            "command": f"python -m experiments.seeds --seeds {wanted.seeds}",
            "sweep": " ".join(line),
            "versions": read_sweep(path).versions,
            "collapsed": sum(bool(row["collapsed"]) for row in rows),
            "diverged": sum(row["diverged"] for row in rows),
            "members": [{name: row[name] for name in SHOWN if name in row} for row in rows],
        }
        (wanted.out / f"{preset}.json").write_text(json.dumps(told, indent=1) + "\n")
        shutil.copy(path / "samples.png", wanted.out / f"{preset}.png")
    files = {preset: wanted.out / f"{preset}.json" for preset in STEPS}
    found = {preset: json.loads(file.read_text())["members"] for preset, file in files.items() if file.exists()}
    write_histograms(found, wanted.out / "histograms.png")


def sweep(wanted: Arguments, preset: str, path: Path) -> list[str]:
    """Trains the seeds of a preset, or what is missing of them; the arguments that say which."""
    steps = wanted.num_steps or STEPS[preset]
    line = [preset, "--seeds", str(wanted.seeds), "--num-steps", str(steps), "--data.name", "mnist"]
    where = ["--run-dir", str(path), *(["--resume"] if holds_sweep(path) else [])]
    for name, folder in (("data-dir", wanted.data_dir), ("manual-dir", wanted.manual_dir)):
        where += [f"--data.{name}", str(folder)] if folder else []
    done = subprocess.run([sys.executable, "-m", "jaxgan.sweep", *line, *where], check=False)
    if done.returncode != 0:
        sys.exit(done.returncode)  # It has said why.
    return line


def write_histograms(found: dict[str, list[dict[str, Any]]], target: Path) -> None:
    """Draws how many members have which Fréchet distance, those that collapsed apart."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.8 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for panel, (preset, rows) in zip(panels, found.items(), strict=True):
        values = {
            kind: [row["frechet"] for row in rows if row["collapsed"] is kind and row["frechet"] is not None]
            for kind in (False, True)
        }
        style: dict[str, Any] = {"stacked": True, "color": ["C0", "C3"], "label": ["member", "collapsed"]}
        panel.hist([values[False], values[True]], bins=24, **style)
        lost = sum(row["diverged"] for row in rows)
        panel.set_title(
            f"{preset}: {len(rows)} seeds, {len(values[True])} collapsed, {lost} diverged", fontsize="medium"
        )
        panel.set_ylabel("members")
        panel.legend(frameon=False)
    panels[-1].set_xlabel("Fréchet distance to the validation images")
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
