from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from running import (
    LIGHTLY,
    SCORED,
    ScoredRun,
    checkpoint_steps,
    here,
    refusal,
    resume,
    same_run,
    start,
    state_digest,
    succeed,
    wait_until,
)

import jaxgan
from jaxgan.gan.state import EVALUATE
from jaxgan.runs.directory import read_record
from jaxgan.runs.journal import read_rows
from jaxgan.runs.loading import load_state
from jaxgan.train import main
from jaxgan.yardsticks import feature_network


def scores(run_dir: Path) -> dict[int, dict[str, float]]:
    """The journal's scores by step."""
    return {int(row["step"]): row for row in read_rows(run_dir) if "score/frechet" in row}


def best(run_dir: Path) -> tuple[int, float, str]:
    """Step, distance and digest of the one checkpoint in best/."""
    (step,) = checkpoint_steps(run_dir, "best")
    meta = json.loads((run_dir / "best" / str(step) / "meta" / "metadata").read_text())
    return step, meta["frechet"], state_digest(run_dir, step, "best")


def test_a_run_is_scored_every_so_many_steps_in_its_journal_and_on_the_screen(scored: ScoredRun) -> None:
    found = scores(scored.path)
    assert list(found) == list(range(25, 301, 25))
    for row in found.values():
        assert set(row) == {"step", "score/frechet", "score/recall"}
        assert row["score/frechet"] > 0
        assert 0 <= row["score/recall"] <= 1
    lines = re.findall(r"^step +(\d+)  Fréchet ([\d.]+)  recall ([\d.]+)$", scored.output, re.MULTILINE)
    assert lines == [
        (str(step), f"{row['score/frechet']:.2f}", f"{row['score/recall']:.3f}") for step, row in found.items()
    ]


def test_a_run_with_scores_leaves_all_that_one_without_does(scored: ScoredRun) -> None:
    names = {path.name for path in scored.path.iterdir()}
    assert {"samples.gif", "samples.npz", "losses.png", "best"} <= names
    assert checkpoint_steps(scored.path) == [50, 100, 150, 200, 250, 300]


def test_the_one_checkpoint_that_is_kept_as_the_best_has_the_least_distance_of_the_journal(scored: ScoredRun) -> None:
    distances = {step: row["score/frechet"] for step, row in scores(scored.path).items()}
    step, frechet, _ = best(scored.path)
    assert frechet == distances[step] == min(distances.values())


def test_the_distance_is_that_of_as_many_images_as_are_held_out_of_latents_that_stay_the_same(
    scored: ScoredRun,
) -> None:
    record = read_record(scored.path)
    held_out = jaxgan.load_dataset(record.config, "validation").images
    network = feature_network(record.config.data)
    for step in (200, 300):
        state = load_state(scored.path, record, step)
        images = jaxgan.generate(record.config, state, jax.random.fold_in(state.key, EVALUATE), 100)
        found = jaxgan.score(np.asarray(images), held_out, network=network)
        assert found["frechet"] == pytest.approx(scores(scored.path)[step]["score/frechet"], rel=1e-3)
        assert found["recall/3"] == pytest.approx(scores(scored.path)[step]["score/recall"], abs=0.02)


def test_the_feature_network_is_trained_by_the_first_run_on_a_data_set_and_read_by_the_next(
    scored: ScoredRun, tmp_path: Path
) -> None:
    assert "training the feature network of digits: 0 of " in scored.errors
    path = next(scored.data.rglob("features-*.npz"))
    before = path.read_bytes()
    process = start(scored.data, tmp_path / "run", *SCORED, "--num-steps", "25", compiled=LIGHTLY)
    output, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, "")
    assert "Fréchet" in output
    assert path.read_bytes() == before
    assert scores(tmp_path / "run")[25] == scores(scored.path)[25]


def test_a_run_that_is_killed_and_resumed_ends_with_the_scores_and_the_best_of_one_that_was_not(
    scored: ScoredRun, tmp_path: Path
) -> None:
    process = start(scored.data, tmp_path / "run", *SCORED, compiled=LIGHTLY)
    wait_until((tmp_path / "run" / "checkpoints" / "50").exists, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert 300 not in checkpoint_steps(tmp_path / "run")
    resume(tmp_path / "run", compiled=LIGHTLY)
    same_run(scored.path, tmp_path / "run", 300)
    assert best(scored.path) == best(tmp_path / "run")


def test_samples_are_drawn_from_the_best_checkpoint_by_its_name(scored: ScoredRun, tmp_path: Path) -> None:
    step, _, _ = best(scored.path)
    text = succeed(here("sample", scored.path, "--out", tmp_path / "a.npy", "--num", "2", "--checkpoint", "best"))
    assert f"2 images from step {step} " in text


def test_other_scores_of_a_run_that_is_complete_are_refused_with_what_to_do(scored_copy: Path) -> None:
    before = (scored_copy / "config.json").read_bytes()
    told = refusal(main, "--run-dir", scored_copy, "--resume", "--eval-every", 50)
    assert "is complete, and --eval-every and --keep-best score a run while it trains: extend it with" in told
    assert told.endswith(f"score it with python -m jaxgan.evaluate {scored_copy} --every-checkpoint")
    assert (scored_copy / "config.json").read_bytes() == before
