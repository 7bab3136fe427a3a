"""Trains small GANs with every objective and penalty on real MNIST, and scores them on validation images.

    python -m experiments.objectives run --manual-dir folder/with/the/four/gz/files
    python -m experiments.objectives table

`run` adds what is missing to `results.jsonl`, a line a run, so that it can be stopped and started again. The committed
file is whole and of earlier programs: move it away before `run`. `table` makes the table of the README anew. All runs
count, whatever became of them; no test image is looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import jax
import numpy as np
import tyro

from jaxgan import Config, generate, init_state, load_dataset, score, train_steps
from jaxgan.config import ObjectiveConfig, ObjectiveName
from jaxgan.presets import PRESETS
from jaxgan.runs.directory import installed_versions

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
README = HERE / "README.md"
MARKS = ("<!-- table -->", "<!-- end of table -->")

SEEDS = 3
STEPS = 6000
IMAGES = 10_000
PENALTIES = {
    "none": {"r1": 0.0, "r2": 0.0},
    "R1": {"r1": 1.0, "r2": 0.0},
    "R1 + R2": {"r1": 1.0, "r2": 1.0},
    "Wasserstein": {"r1": 0.0, "r2": 0.0, "gradient_penalty": 10.0},
}
RATES = (3e-4, 1e-3)
"""Learning rates; the table shows the better one of each pair, by the mean over seeds."""
SCORES = {"frechet": 1, "classifier_score": 2, "precision/3": 3, "recall/3": 3, "classes/hit": 1}
"""Scores of the table, with decimals."""


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    what: Annotated[Literal["run", "table"], tyro.conf.Positional]
    """Train what is missing, or write the table."""
    data_dir: Path | None = None
    """Folder of prepared data sets."""
    manual_dir: Path | None = None
    """Folder with the four original files of MNIST."""


def main(wanted: Arguments) -> None:
    """Trains, or writes the table."""
    if wanted.what == "run":
        run(wanted)
    before, _, rest = README.read_text().partition(MARKS[0])
    README.write_text("\n".join([before + MARKS[0], *table(), MARKS[1] + rest.partition(MARKS[1])[2]]))


def plans() -> Iterator[dict[str, object]]:
    """What identifies each run."""
    for seed in range(SEEDS):
        for rate in RATES:
            for objective in get_args(ObjectiveName):
                for penalty in PENALTIES:
                    yield {"objective": objective, "penalty": penalty, "learning_rate": rate, "seed": seed}


def config_of(plan: dict[str, object], wanted: Arguments) -> Config:
    """`modern` with two layers of 256, half the batch, another objective, a constant learning rate, latents of scale 1.

    Its D is as it was when the committed runs were made. Its G is not (gradients pass the clip of its pixels since),
    nor are its latents (of another generator of random numbers): start with no `results.jsonl`, not with that one.
    """
    modern = PRESETS["modern"]
    adam = replace(modern.gen.optimizer, learning_rate=plan["learning_rate"])
    before = replace(modern.disc, activation="leaky_relu", black_at_zero=False)
    return replace(
        modern,
        seed=plan["seed"],
        num_steps=STEPS,
        batch_size=64,
        decay_steps=0,
        gen=replace(modern.gen, widths=(256, 256), optimizer=adam),
        disc=replace(before, widths=(256, 256), optimizer=adam),
        latent=replace(modern.latent, scale=1.0),
        objective=ObjectiveConfig(name=plan["objective"], **PENALTIES[plan["penalty"]]),  # pyright: ignore
        data=replace(modern.data, name="mnist", data_dir=wanted.data_dir, manual_dir=wanted.manual_dir),
    )


def run(wanted: Arguments) -> None:
    """Trains every run that has no line yet."""
    done = [row["run"] for row in read()]
    for plan in plans():
        if plan in done:
            continue
        config = config_of(plan, wanted)
        dataset, validation = load_dataset(config, "train"), load_dataset(config, "validation")
        started = time.perf_counter()
        state, metrics = train_steps(config, init_state(config, jax.random.key(config.seed)), dataset, STEPS)
        losses = np.asarray(metrics["loss/disc"])
        seconds = time.perf_counter() - started
        images = np.asarray(generate(config, state, jax.random.key(0), IMAGES))
        finite = bool(np.isfinite(losses).all() and np.isfinite(images).all())
        # A generator that returns NaN is scored as the black images that a file would hold.
        found = score(np.nan_to_num(images), validation.images)
        row = {
            "run": plan,
            "finite": finite,
            "scores": {name: round(found[name], 4) for name in SCORES},
            "seconds": round(seconds, 1),
            "versions": installed_versions(),
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(*plan.values(), row["scores"], f"{seconds:.0f} s", flush=True)


def read() -> list[dict]:
    """The lines of the results."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table() -> Iterator[str]:
    """The lines of the table, the best mean Fréchet distance first."""
    groups: dict[tuple, list[dict]] = {}
    for row in read():
        plan = row["run"]
        groups.setdefault((plan["objective"], plan["penalty"], plan["learning_rate"]), []).append(row)

    def distance(rows: list[dict]) -> float:
        return float(np.mean([row["scores"]["frechet"] for row in rows]))

    best: dict[tuple, tuple[float, list[dict]]] = {}
    for (objective, penalty, rate), rows in groups.items():
        pair = (objective, penalty)
        if pair not in best or distance(rows) < distance(best[pair][1]):
            best[pair] = rate, rows
    names = ("objective", "penalty", "learning rate", "seeds", *(name.split("/")[0] for name in SCORES))
    yield "| " + " | ".join(names).replace("_", " ").replace("frechet", "Fréchet") + " |"
    yield "|" + "---|" * len(names)
    for (objective, penalty), (rate, rows) in sorted(best.items(), key=lambda item: distance(item[1][1])):
        cells = []
        for name, decimals in SCORES.items():
            values = [row["scores"][name] for row in rows]
            spread = f" ±{np.std(values, ddof=1):.{decimals}f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.{decimals}f}{spread}")
        yield f"| `{objective}` | {penalty} | {rate:g} | {len(rows)} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
