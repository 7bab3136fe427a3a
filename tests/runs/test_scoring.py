"""The loop around the program, with scores that the tests make up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxgan.config import Config, DiscriminatorConfig, EveryConfig, GeneratorConfig
from jaxgan.gan.batches import Dataset
from jaxgan.gan.program import train_steps
from jaxgan.gan.state import TrainState, init_state
from jaxgan.runs.checkpoints import Checkpoints, digest
from jaxgan.runs.journal import read_rows, summarise
from jaxgan.runs.scores import Scorer
from jaxgan.runs.terminal import Terminal
from jaxgan.runs.training import run_training

FRECHET = {4: 9.0, 8: 5.5, 10: 7.0, 12: 6.0, 16: 5.0, 20: 8.0}
"""By step: the least of the first twelve steps is that of step 8, the least of all that of step 16."""

CONFIG = Config(
    num_steps=20,
    batch_size=8,
    eval_every=4,
    keep_best=True,
    gen=GeneratorConfig(widths=(4,)),
    disc=DiscriminatorConfig(widths=(4,)),
    every=EveryConfig(log=2, print=0, sample=0, grid=1, checkpoint=4),
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (32, 28, 28, 1))
    return Dataset(jnp.asarray(images, jnp.uint8), jnp.zeros(32, jnp.int32))


def evaluate(state: TrainState) -> Mapping[str, float]:
    return {"score/frechet": FRECHET[int(state.step)], "score/recall": int(state.step) / 100}


def train(run: Path, dataset: Dataset, config: Config = CONFIG, state: TrainState | None = None) -> None:
    run.mkdir(exist_ok=True)
    state = init_state(config, jax.random.key(0)) if state is None else state
    scorer = Scorer("mnist-01234567", evaluate) if config.eval_every else None
    assert (
        run_training(config, state, lambda state, n: train_steps(config, state, dataset, n), run, Terminal(), scorer)
        is None
    )


def resume(run: Path, dataset: Dataset, step: int, config: Config = CONFIG) -> None:
    with Checkpoints(run) as checkpoints:
        state = checkpoints.restore(jax.eval_shape(lambda: init_state(config, jax.random.key(0))), step)
        checkpoints.set_aside_after(step)
    train(run, dataset, config, state)


def best(run: Path) -> dict[int, dict]:
    """What each checkpoint in best/ records of itself, by step."""
    folders = [path for path in (run / "best").iterdir() if path.name.isdecimal()]
    return {int(path.name): json.loads((path / "meta" / "metadata").read_text()) for path in folders}


def test_scores_are_rows_of_the_journal_at_their_steps_and_at_the_end(tmp_path: Path, dataset: Dataset) -> None:
    train(tmp_path, dataset, replace(CONFIG, num_steps=10))
    scores = [row for row in read_rows(tmp_path) if "score/frechet" in row]
    assert scores == [{"step": step, "score/frechet": FRECHET[step], "score/recall": step / 100} for step in (4, 8, 10)]
    assert [row["step"] for row in read_rows(tmp_path) if "loss/disc" in row] == [1, 3, 5, 7, 9]
    assert [row["step"] for row in read_rows(tmp_path)] == [1, 3, 4, 5, 7, 8, 9, 10]


def test_scores_leave_the_training_and_its_rows_as_they_are(tmp_path: Path, dataset: Dataset) -> None:
    plain = replace(CONFIG, eval_every=0, keep_best=False)
    train(tmp_path / "scored", dataset)
    train(tmp_path / "plain", dataset, plain)
    assert not (tmp_path / "plain" / "best").exists()
    losses = [row for row in read_rows(tmp_path / "scored") if "score/frechet" not in row]
    assert losses == read_rows(tmp_path / "plain")
    digests = []
    for name in ("scored", "plain"):
        with Checkpoints(tmp_path / name) as checkpoints:
            template = jax.eval_shape(lambda: init_state(CONFIG, jax.random.key(0)))
            digests.append(digest(checkpoints.restore(template, 20)))
    assert digests[0] == digests[1]


def test_the_checkpoint_of_the_least_distance_is_kept_beside_the_newest(tmp_path: Path, dataset: Dataset) -> None:
    train(tmp_path, dataset)
    kept = best(tmp_path)
    assert list(kept) == [16]
    assert (kept[16]["frechet"], kept[16]["network"]) == (5.0, "mnist-01234567")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [12, 16, 20]
    with Checkpoints(tmp_path, folder="best") as checkpoints:
        state = checkpoints.restore(jax.eval_shape(lambda: init_state(CONFIG, jax.random.key(0))), 16)
    assert kept[16]["sha256"] == digest(state)


@pytest.mark.parametrize("cut", [4, 12], ids="cut at step {}".format)
def test_a_run_that_is_cut_and_continued_ends_as_one_that_was_not(tmp_path: Path, dataset: Dataset, cut: int) -> None:
    train(tmp_path / "whole", dataset)
    train(tmp_path / "cut", dataset, replace(CONFIG, num_steps=cut))
    resume(tmp_path / "cut", dataset, cut)
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert one == other
    assert best(tmp_path / "whole") == best(tmp_path / "cut")


def test_a_run_that_goes_back_behind_its_best_step_ends_as_one_that_was_not_cut(
    tmp_path: Path, dataset: Dataset
) -> None:
    # As after a kill, or where the newest checkpoints are damaged.
    train(tmp_path / "whole", dataset)
    train(tmp_path / "cut", dataset)
    resume(tmp_path / "cut", dataset, 12)
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert one == other
    assert best(tmp_path / "whole") == best(tmp_path / "cut")


@pytest.mark.parametrize("log", [0, 2], ids="log {}".format)
def test_curves_are_drawn_of_the_losses_where_there_are_any(tmp_path: Path, dataset: Dataset, log: int) -> None:
    config = replace(CONFIG, num_steps=8, every=replace(CONFIG.every, log=log))
    train(tmp_path, dataset, config)
    assert ("losses.png" in summarise(tmp_path, config, (28, 28, 1))) == bool(log)
    if log:
        with Image.open(tmp_path / "losses.png") as picture:
            assert picture.size[0] == 990
