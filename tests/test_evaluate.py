from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from running import LIGHTLY, ScoredRun, complaint, here, refusal, run, succeed

import jaxgan
from jaxgan import yardsticks
from jaxgan.config import InputError, with_values
from jaxgan.evaluate import Arguments, main, score_generator
from jaxgan.gan.objectives import judgement
from jaxgan.gan.sampling import discriminate
from jaxgan.metrics.classifier import scale
from jaxgan.metrics.scores import feature_scores, measure_reference, to_levels
from jaxgan.runs import published
from jaxgan.runs.directory import read_record, write_record
from jaxgan.runs.loading import load_state
from jaxgan.runs.scores import Row, Scores, read_scores
from jaxgan.yardsticks import GENERATED, feature_network, image_scores, prepare_yardstick

# As many images as the test split of the small data has: sets of one size share their programs.
FEW = ("--num", "64", "--draws", "2")
NOTHING_HELD_OUT = {"data.holdout": 0, "eval_every": 0, "keep_best": False}
REFERENCES = ["real", "k-means", "collapsed", "noise"]


class Evaluated(NamedTuple):
    """A run whose checkpoint 250 was scored, and then its newest; and what that printed and left."""

    path: Path
    output: str
    errors: str
    first: Scores
    again: str
    again_errors: str


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run("evaluate", *arguments, compiled=LIGHTLY)


@pytest.fixture(scope="module")
def evaluated(scored: ScoredRun, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    path = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(scored.path, path)
    one = evaluate(path, *FEW, "--checkpoint", "250")
    output = succeed(one)
    assert not (path / "scores.png").exists()
    first = read_scores(path / "scores.json")
    two = here("evaluate", path, *FEW)
    return Evaluated(path, output, one.stderr, first, succeed(two), two.stderr)


def means(row: Row) -> dict[str, float]:
    """The means of a row, of which those that are not finite are NaN."""
    return {name: np.nan if value["mean"] is None else value["mean"] for name, value in row.items()}


def test_an_evaluation_prints_a_table_of_the_checkpoint_and_four_references(evaluated: Evaluated) -> None:
    lines = evaluated.output.splitlines()
    assert f"{evaluated.path}: 64 images against the test images of digits" in lines[0]
    assert lines[0].endswith("mean ± standard deviation of 2 draws")
    assert re.fullmatch(r"features of digits-[0-9a-f]{8}, which classifies [\d.]+% of the test images", lines[1])
    assert re.split(r"\s{2,}", lines[3].strip()) == ["step 250", *REFERENCES]
    row = evaluated.first.checkpoints[250]["frechet"]
    assert any(line.startswith("Fréchet") and f" {row['mean']:.2f} ±{row['sd']:.2f} " in line for line in lines)
    for label in ("precision", "recall", "density", "coverage", "classes hit", "Parzen", "nearest", "D(generated)"):
        assert any(line.startswith(label) for line in lines), label
    assert not any(line.startswith("two-sample") for line in lines)
    assert lines[-1] == f"wrote {evaluated.path / 'scores.json'}"


def test_scores_json_holds_the_protocol_the_checkpoint_and_four_references(evaluated: Evaluated) -> None:
    found, record = evaluated.first, read_record(evaluated.path)
    protocol = found.protocol
    assert (protocol.dataset, protocol.fingerprint) == ("digits", record.dataset.fingerprint)
    assert (protocol.against, protocol.num, protocol.draws) == ("test", 64, 2)
    assert protocol.network == feature_network(record.config.data).version
    assert list(found.references) == REFERENCES
    assert list(found.checkpoints) == [250]
    row = found.checkpoints[250]
    assert {"parzen", "nearest", "prob/fake", "accuracy/disc", "share/9"} < set(row)
    assert row["frechet"]["sd"] is not None
    # Sets of which there is only one have no spread.
    assert [found.references[name]["frechet"]["sd"] is None for name in REFERENCES] == [False, True, True, False]


def test_the_references_lie_in_their_order(evaluated: Evaluated) -> None:
    real, centroids, collapsed, noise = (means(evaluated.first.references[name]) for name in REFERENCES)
    assert real["frechet"] < collapsed["frechet"] < noise["frechet"]
    assert real["recall/3"] > 0.8 > collapsed["recall/3"] == 0
    assert collapsed["classes/hit"] == 1
    # They are training images, or made of them.
    assert real["nearest"] == pytest.approx(0, abs=0.01)
    assert centroids["nearest"] < 1 < noise["nearest"]


def test_a_second_evaluation_adds_its_checkpoint_and_draws_curves(evaluated: Evaluated) -> None:
    both = read_scores(evaluated.path / "scores.json")
    assert list(both.checkpoints) == [250, 300]
    assert both.checkpoints[250] == evaluated.first.checkpoints[250]
    assert both.checkpoints[300] != both.checkpoints[250]
    assert (both.protocol, both.references) == (evaluated.first.protocol, evaluated.first.references)
    with Image.open(evaluated.path / "scores.png") as picture:
        assert picture.size == (990, 715)
    assert "step 300" in evaluated.again
    assert evaluated.again.splitlines()[-1].endswith("scores.json and " + str(evaluated.path / "scores.png"))


def test_references_are_scored_once(evaluated: Evaluated) -> None:
    assert "scoring the reference rows, once: 4 of 4" in evaluated.errors
    # The feature network is there since the run was trained.
    assert "training" not in evaluated.errors
    assert evaluated.again_errors == ""


def test_the_scores_are_those_of_the_library_for_the_images_that_the_seed_draws(evaluated: Evaluated) -> None:
    record = read_record(evaluated.path)
    state = load_state(evaluated.path, record, 300)
    network = feature_network(record.config.data)
    reference = measure_reference(network, jaxgan.load_dataset(record.config, "test").images)
    key = jax.random.fold_in(jax.random.key(0), GENERATED)
    # D compares a real image with one that G was asked for, of the same class.
    labels = jaxgan.load_dataset(record.config, "test").labels
    real = discriminate(record.config, state, scale(reference.images), labels)
    draws = []
    for i in range(2):
        images, asked_for = (
            to_levels(np.asarray(jaxgan.generate(record.config, state, jax.random.fold_in(key, i), 64, labels=given)))
            for given in (None, labels)
        )
        fake = discriminate(record.config, state, scale(asked_for), labels)
        judged = judgement(record.config, real_logits=real, fake_logits=fake)
        draws.append(feature_scores(network, images, reference) | {k: float(value) for k, value in judged.items()})
    assert draws[0]["prob/real"] != draws[0]["prob/fake"]
    row = read_scores(evaluated.path / "scores.json").checkpoints[300]
    judged = ("prob/real", "prob/fake", "accuracy/disc")
    for name in ("frechet", "classifier_score", "precision/5", "density/3", "share/3", *judged):
        values = [draw[name] for draw in draws]
        assert row[name]["mean"] == pytest.approx(np.mean(values), rel=1e-3, abs=0.01), name
        assert row[name]["sd"] == pytest.approx(np.std(values, ddof=1), rel=0.02, abs=0.01), name


def test_all_images_of_the_run_may_be_memorised_whatever_it_is_scored_against(
    scored: ScoredRun, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_record(scored.path)
    assert record.config.data.holdout == 100
    whole = jaxgan.load_dataset(with_values(record.config, NOTHING_HELD_OUT), "train").images
    for against in ("test", "validation", "train"):
        yardstick = prepare_yardstick(record, against)
        np.testing.assert_array_equal(yardstick.trained_on, whole[100:])
    assert capsys.readouterr().err == ""
    # As `deep-batchnorm`, which holds nothing out, and so has seen the 64 validation images.
    all_of_them = replace(record, config=with_values(record.config, NOTHING_HELD_OUT))
    yardstick = prepare_yardstick(all_of_them, "validation")
    assert "jaxgan: warning: the run was trained on 64 of the 64 validation images" in capsys.readouterr().err
    assert image_scores(yardstick, yardstick.validation, yardstick.trained_on)["nearest"] == pytest.approx(0, abs=2e-3)


def test_images_of_a_class_that_the_run_was_never_told_are_refused(scored: ScoredRun) -> None:
    record = read_record(scored.path)
    state = load_state(scored.path, record, 300)
    assert state.label_counts is not None
    fewer = state._replace(label_counts=state.label_counts[:9])
    yardstick = prepare_yardstick(record, "test")
    with pytest.raises(InputError, match="the test images show class 9, which no training image of the run has"):
        score_generator(Arguments(str(scored.path), num=64), 1, record.config, fewer, yardstick, with_disc=True)


def test_what_cannot_be_kept_for_the_next_time_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    yardsticks._keep(tmp_path / "file" / "references.json", b"{}")
    said = capsys.readouterr().err
    assert re.fullmatch(r"jaxgan: warning: .*references\.json cannot be kept for the next time \(.*\)\n", said)


def test_every_checkpoint_that_can_be_read_is_scored_by_another_protocol_and_damaged_caches_are_made_again(
    evaluated: Evaluated, scored: ScoredRun, tmp_path: Path
) -> None:
    shutil.copytree(evaluated.path, tmp_path / "run")
    caches = [next(scored.data.rglob("features-*.npz")), next(scored.data.rglob("references-*.json"))]
    before = [path.read_bytes() for path in caches]
    for path, content in zip(caches, before, strict=True):
        path.write_bytes(content[: len(content) // 2])
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "200" / "state")
    done = evaluate(tmp_path / "run", *FEW[:2], "--every-checkpoint")
    assert "jaxgan: warning: the checkpoint of step 200 cannot be read" in done.stderr
    assert (
        f"moved what scores.json held, of another protocol or damaged, to {tmp_path / 'run' / 'scores-1.json'}"
        in done.stdout
    )
    assert (tmp_path / "run" / "scores-1.json").read_bytes() == (evaluated.path / "scores.json").read_bytes()
    # The table shows the last four.
    shown = [f"step {step}" for step in (100, 150, 250, 300)]
    assert re.split(r"\s{2,}", succeed(done).splitlines()[3].strip()) == [*shown, *REFERENCES]
    assert "\nThese are the last 4 of 5 checkpoints.\n" in done.stdout
    assert "training the feature network of digits: 0 of " in done.stderr
    assert "scoring the reference rows, once: 4 of 4" in done.stderr
    assert [path.read_bytes() for path in caches] == before
    found = read_scores(tmp_path / "run" / "scores.json")
    assert found.protocol.draws == 1
    assert list(found.checkpoints) == [50, 100, 150, 250, 300]
    assert {row["frechet"]["sd"] for row in found.checkpoints.values()} == {None}
    assert found.references == evaluated.first.references
    assert (tmp_path / "run" / "scores.png").stat().st_size > 1000


def test_the_best_checkpoint_is_scored_by_its_name_on_data_that_were_moved(
    evaluated: Evaluated, scored: ScoredRun, tmp_path: Path
) -> None:
    shutil.copytree(evaluated.path, tmp_path / "run")
    record = read_record(evaluated.path)
    lost = replace(record, config=with_values(record.config, {"data.data_dir": tmp_path / "nowhere"}))
    write_record(tmp_path / "run", lost)
    (best,) = (int(path.name) for path in (tmp_path / "run" / "best").iterdir() if path.name.isdecimal())
    where = ("--data.data-dir", str(scored.data))
    fixed = (*FEW, "--checkpoint", "best", "--against", "validation")
    text = succeed(here("evaluate", tmp_path / "run", *fixed, *where))
    assert f"step {best} " in text
    assert "against the validation images of digits" in text
    found = read_scores(tmp_path / "run" / "scores.json")
    assert list(found.checkpoints) == [best]
    assert found.protocol.against == "validation"
    assert found.references != evaluated.first.references


def test_training_images_are_no_reference_for_themselves(scored_copy: Path) -> None:
    text = succeed(
        here("evaluate", scored_copy, *FEW, "--against", "train", "--latent.scale", "1.5", "--latent.label-scale", "2")
    )
    assert "64 images of latents scaled by 1.5 and labels scaled by 2 against the train images of digits" in text
    found = read_scores(scored_copy / "scores.json")
    assert (found.protocol.against, found.protocol.latent_scale, found.protocol.label_scale) == ("train", 1.5, 2.0)
    # The row of real images is drawn from other training images than those that it is scored against.
    assert means(found.references["real"])["frechet"] > 0.01
    assert means(found.references["real"])["coverage/5"] < 0.99
    assert list(found.references) == REFERENCES


def test_a_published_generator_is_scored_as_the_run_that_it_was_made_of_and_nothing_is_written(
    evaluated: Evaluated,
    scored: ScoredRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = read_record(evaluated.path)
    made = published.encode_generator(record, load_state(evaluated.path, record, 250), {})
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "small.npz").write_bytes(made)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(published, "_FOLDER", tmp_path / "published")
    monkeypatch.chdir(tmp_path / "here")
    for bad in ("--checkpoint=250", "--every-checkpoint"):
        assert "the published generator small has none to choose from" in refusal(main, "small", bad)
    assert main(["small", *FEW, "--data.data-dir", str(scored.data)]) == 0
    alone = capsys.readouterr().out.splitlines()
    assert list((tmp_path / "here").iterdir()) == []
    # A run of that name comes first. But for what D says, which a published generator is without, it is the same.
    shutil.copytree(scored.path, "small")
    assert main(["small", *FEW, "--checkpoint", "250"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "wrote small/scores.json"
    assert [line for line in lines if not line.startswith(("D's", "D(", "wrote"))] == alone
    assert len(lines) == len(alone) + 4


def test_a_network_that_learns_to_tell_images_is_a_row_more(evaluated: Evaluated) -> None:
    text = succeed(here("evaluate", evaluated.path, *FEW, "--checkpoint", "250", "--two-sample"))
    assert re.search(r"^two-sample accuracy ↓( +[\d.]+ ±[\d.]+| +[\d.]+){5}$", text, re.MULTILINE)
    found = read_scores(evaluated.path / "scores.json")
    told = {name: means(row)["two_sample"] for name, row in found.references.items()}
    assert all(0 <= accuracy <= 1 for accuracy in told.values())
    assert told["noise"] > 0.75
    assert "two_sample" in found.checkpoints[250]
    assert "two_sample" not in found.checkpoints[300]
    # The rest of the row is what it was.
    before = evaluated.first.checkpoints[250]
    assert {name: found.checkpoints[250][name] for name in before} == before


BAD = [
    (["--num", "3"], "--num"),
    (["--num", "many"], "--num"),
    (["--num", "10001"], "--num 10001 is more than the 10,000 real images"),
    (["--draws", "0"], "--draws"),
    (["--seed", "-1"], "--seed"),
    (["--against", "nothing"], "--against"),
    (["--checkpoint", "250", "--every-checkpoint"], "exclude each other"),
    (["--checkpoint", "260"], "200, 250, 300"),
    (["--checkpoint", "newest"], "--checkpoint"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_a_bad_flag_is_refused_in_one_line(scored: ScoredRun, arguments: list[str], named: str) -> None:
    assert named in refusal(main, scored.path, *arguments)
    assert not (scored.path / "scores.json").exists()


def test_no_run_and_a_run_without_checkpoints_are_refused(scored_copy: Path, tmp_path: Path) -> None:
    assert "holds no run" in complaint(evaluate(tmp_path))
    shutil.rmtree(scored_copy / "checkpoints")
    assert "no checkpoint" in refusal(main, scored_copy)


def test_the_best_of_a_run_that_keeps_none_is_refused_with_what_to_do(scored_copy: Path) -> None:
    shutil.rmtree(scored_copy / "best")
    assert "--keep-best" in refusal(main, scored_copy, "--checkpoint", "best")


def test_data_that_changed_since_the_run_is_refused(scored_copy: Path) -> None:
    record = scored_copy / "config.json"
    fingerprint = read_record(scored_copy).dataset.fingerprint
    record.write_text(record.read_text().replace(fingerprint, "0" * 64))
    assert "fingerprint" in refusal(main, scored_copy)
