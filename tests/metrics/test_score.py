from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgan
from jaxgan import PRESETS, generate, init_state, train_steps
from jaxgan.data.files import read_idx
from jaxgan.gan.batches import Dataset
from jaxgan.metrics import scores as metric_scores
from jaxgan.metrics.classifier import classify
from jaxgan.metrics.frechet import Gaussian
from jaxgan.metrics.network import shipped_network
from jaxgan.metrics.parzen import parzen_score
from jaxgan.metrics.references import collapsed, noise
from jaxgan.metrics.scores import (
    Reference,
    feature_scores,
    frechet_and_recall,
    measure_reference,
    pixel_scores,
    summarise_draws,
    to_levels,
    two_sample_scores,
)
from jaxgan.runs.published import load_published

N = 1200


class Sets(NamedTuple):
    """Test images of MNIST: a reference, others that are as real, and those of them that nobody takes for a 4."""

    reference: np.ndarray
    real: np.ndarray
    without_4: np.ndarray


@pytest.fixture(scope="module")
def sets(mnist_dir: Path) -> Sets:
    images = read_idx(mnist_dir / "t10k-images-idx3-ubyte.gz")[..., None]
    labels = read_idx(mnist_dir / "t10k-labels-idx1-ubyte.gz")
    others = images[N : 3 * N]
    seen = np.asarray(classify(shipped_network().params, jnp.asarray(others))[1]).argmax(axis=1)
    return Sets(images[:N], others[:N], others[(labels[N : 3 * N] != 4) & (seen != 4)][:N])


def score(images: np.ndarray | jax.Array, sets: Sets) -> dict[str, float]:
    return jaxgan.score(images, sets.reference)


@pytest.fixture(scope="module")
def of_real(sets: Sets) -> dict[str, float]:
    return score(sets.real, sets)


def test_a_set_scores_perfectly_against_itself(sets: Sets) -> None:
    scores = score(sets.reference, sets)
    assert scores["frechet"] < 0.01
    for k in (3, 5):
        for name in ("precision", "recall", "coverage"):
            assert scores[f"{name}/{k}"] == pytest.approx(1, rel=1e-6)
        # Every ball holds its own centre beside its k neighbours.
        assert scores[f"density/{k}"] == pytest.approx((k + 1) / k)
    assert scores["classes/kl"] == pytest.approx(0, abs=1e-6)


def test_the_scores_are_those_that_are_promised_and_their_ranges_are_kept(of_real: dict[str, float]) -> None:
    neighbours = {f"{name}/{k}" for name in ("precision", "recall", "density", "coverage") for k in (3, 5)}
    shares = [f"share/{i}" for i in range(10)]
    assert set(of_real) == {"frechet", "classifier_score", "classes/hit", "classes/kl"} | neighbours | set(shares)
    assert all(type(value) is float for value in of_real.values())
    assert sum(of_real[name] for name in shares) == pytest.approx(1, rel=1e-5)
    assert 9 < of_real["classifier_score"] <= 10
    assert of_real["classes/hit"] == 10


def test_a_missing_digit_lowers_recall_and_coverage_and_tells_in_the_classes(
    sets: Sets, of_real: dict[str, float]
) -> None:
    scores = score(sets.without_4, sets)
    for k in (3, 5):
        assert scores[f"recall/{k}"] < of_real[f"recall/{k}"] - 0.07
        assert scores[f"coverage/{k}"] < of_real[f"coverage/{k}"] - 0.07
        assert scores[f"precision/{k}"] == pytest.approx(of_real[f"precision/{k}"], abs=0.03)
    assert scores["classes/hit"] == 9
    assert scores["share/4"] == 0
    # The other nine share what it leaves: KL is about ln of 10 / 9 and of how rare 4 is.
    assert scores["classes/kl"] > 10 * of_real["classes/kl"]
    assert scores["classes/kl"] == pytest.approx(-np.log(1 - 0.1), abs=0.03)
    assert scores["frechet"] > 3 * of_real["frechet"]


@pytest.fixture(scope="module")
def of_generators(sets: Sets, mnist_dir: Path) -> dict[str, dict[str, float]]:
    """Scores of the published `modern`, and of `vanilla` after 2,000 steps."""
    config, key = PRESETS["vanilla"], jax.random.key(0)
    images = read_idx(mnist_dir / "train-images-idx3-ubyte.gz")[..., None]
    labels = read_idx(mnist_dir / "train-labels-idx1-ubyte.gz").astype(np.int32)
    state = init_state(config, key)
    state, _ = train_steps(config, state, Dataset(jnp.asarray(images), jnp.asarray(labels)), 2000)
    record, published = load_published("modern")
    made = {"modern": (record.config, published), "vanilla": (config, state)}
    return {name: score(generate(config, state, key, N), sets) for name, (config, state) in made.items()}


def test_noise_lies_beyond_one_image_beyond_vanilla_beyond_modern_beyond_real_images(
    sets: Sets, of_real: dict[str, float], of_generators: dict[str, dict[str, float]]
) -> None:
    training, key = jnp.asarray(sets.real), jax.random.key(0)
    same, rubbish = (score(make(key, training, N), sets) for make in (collapsed, noise))
    vanilla, modern = of_generators["vanilla"], of_generators["modern"]
    distances = [scores["frechet"] for scores in (of_real, modern, vanilla, same, rubbish)]
    assert distances == sorted(distances)
    assert 10 * distances[1] < distances[2] < 0.8 * distances[3]
    assert same["classifier_score"] == pytest.approx(1, abs=1e-4)
    assert same["classes/hit"] == 1
    assert [same["recall/3"], same["recall/5"]] == [0, 0]
    assert rubbish["coverage/5"] < 0.02 < vanilla["coverage/5"] < modern["coverage/5"] < of_real["coverage/5"]


def test_floats_in_the_unit_interval_score_as_their_bytes_do(sets: Sets, of_real: dict[str, float]) -> None:
    floats = sets.real.astype(np.float32) / 255
    assert jaxgan.score(floats, jnp.asarray(sets.reference.astype(np.float32) / 255)) == of_real


def test_floats_are_rounded_to_the_nearest_of_256_levels() -> None:
    values = np.array([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 3.0], np.float32).reshape(6, 1, 1, 1)
    found = to_levels(values)
    assert found.dtype == jnp.uint8
    assert found.ravel().tolist() == [0, 0, 0, 1, 255, 255]
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    assert np.array_equal(to_levels(levels.astype(np.float32) / 255), levels)
    assert np.array_equal(to_levels(levels), levels)


def black(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("images", "reference", "said"),
    [
        (black(9, 27, 28, 1), black(9, 28, 28, 1), r"images of \(27, 28, 1\) cannot be scored"),
        (black(9, 28, 28, 1), black(9, 14, 14, 1), r"images of \(14, 14, 1\) cannot be scored"),
        (black(5, 28, 28, 1), black(9, 28, 28, 1), "5 images are too few"),
        (black(9, 28, 28, 1), black(0, 28, 28, 1), "0 images are too few"),
    ],
    ids=["shape", "reference's shape", "too few", "no reference"],
)
def test_images_of_another_shape_or_too_few_are_refused(images: np.ndarray, reference: np.ndarray, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        jaxgan.score(images, reference)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((9, 28, 28, 1, 1), np.uint8), r"\(9, 28, 28, 1, 1\) are not \[n, h, w, c\]"),
        (np.full((9, 28, 28, 1), 255, np.int32), "not int32"),
        (np.full((9, 28, 28, 1), 255.0, np.float32), "these go from 255 to 255"),
        (np.full((9, 28, 28, 1), -1.0, np.float32), "these go from -1 to -1"),
        (np.full((9, 28, 28, 1), np.nan, np.float32), "these go from nan to nan"),
    ],
    ids=["five axes", "integers", "floats to 255", "floats from -1", "NaN"],
)
def test_images_on_another_scale_are_refused_and_not_clipped(images: np.ndarray, said: str) -> None:
    good = black(9, 28, 28, 1)
    for sets in ((images, good), (good, images)):
        with pytest.raises(ValueError, match=said):
            jaxgan.score(*sets)


def test_images_of_one_channel_need_no_axis_for_it(sets: Sets, of_real: dict[str, float]) -> None:
    # As `python -m jaxgan.sample` writes them into an .npy file.
    assert jaxgan.score(sets.real[..., 0], sets.reference[..., 0]) == of_real


def test_what_a_journal_follows_is_the_distance_and_the_recall_of_three_neighbours(
    sets: Sets, of_real: dict[str, float]
) -> None:
    network = shipped_network()
    reference = measure_reference(network, jnp.asarray(sets.reference))
    found = frechet_and_recall(network, jnp.asarray(sets.real), reference)
    assert found == {"score/frechet": of_real["frechet"], "score/recall": of_real["recall/3"]}
    assert feature_scores(network, jnp.asarray(sets.real), reference) == of_real


def test_pixel_scores_find_memorised_images_and_give_the_likelihood_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    real, validation, training, other = (jnp.asarray(rng.integers(0, 256, (40, 3, 3, 1)), jnp.uint8) for _ in range(4))
    nothing = jnp.zeros((40, 0))
    reference = Reference(real, nothing, nothing, Gaussian(nothing[0], nothing), nothing[0])
    found = pixel_scores(other, reference, validation, training)
    images, points, learnt, held_out = (
        np.asarray(each, np.float64).reshape(40, -1) / 255 for each in (other, real, training, validation)
    )
    nearest = np.linalg.norm(images[:, None] - learnt[None], axis=2).min(axis=1).mean()
    assert found["nearest"] == pytest.approx(nearest, rel=1e-4)
    flat = [jnp.asarray(each, jnp.float32) for each in (images, held_out, points)]
    likelihood, error, sigma = parzen_score(*flat)
    assert found["parzen"] == pytest.approx(likelihood, rel=1e-4)
    assert found["parzen/error"] == pytest.approx(error, rel=1e-4)
    assert found["parzen/sigma"] == sigma
    assert pixel_scores(training[::-1], reference, validation, training)["nearest"] == pytest.approx(0, abs=2e-3)


def test_draws_are_summarised_by_mean_and_standard_deviation() -> None:
    draws: list[Mapping[str, float]] = [{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 5.0}, {"a": 6.0, "b": 5.0}]
    assert summarise_draws(draws) == {"a": {"mean": 3.0, "sd": pytest.approx(7**0.5)}, "b": {"mean": 5.0, "sd": 0.0}}
    assert summarise_draws(draws[:1]) == {"a": {"mean": 1.0, "sd": None}, "b": {"mean": 5.0, "sd": None}}


def test_draws_with_an_infinite_score_have_no_spread() -> None:
    # The relative entropy is infinite where a generator draws a class that the data has not.
    found = summarise_draws([{"classes/kl": np.inf}, {"classes/kl": 1.0}])
    assert found == {"classes/kl": {"mean": np.inf, "sd": None}}


def test_pixel_scores_take_the_first_images_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images, real, training, noise = (jnp.asarray(rng.integers(0, 256, (40, 3, 3, 1)), jnp.uint8) for _ in range(4))
    nothing = jnp.zeros((40, 0))
    reference = Reference(real, nothing, nothing, Gaussian(nothing[0], nothing), nothing[0])
    # The first validation images are samples, which take the narrowest window; the others take a wide one.
    validation = jnp.concatenate([images[:5], noise])
    few = pixel_scores(images[:5], reference, validation[:5], training)
    narrow = pixel_scores(images, reference, validation[:5], training)
    assert narrow["parzen/sigma"] != pixel_scores(images, reference, validation, training)["parzen/sigma"]
    monkeypatch.setattr(metric_scores, "NEAREST", 5)
    monkeypatch.setattr(metric_scores, "PARZEN_VALIDATION", 5)
    assert pixel_scores(images, reference, validation, training) == {**narrow, "nearest": few["nearest"]}


@pytest.mark.parametrize(("n", "m"), [(9, 6), (6, 9)])
def test_the_two_sample_test_takes_as_many_images_of_each_set(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        metric_scores, "two_sample_accuracy", lambda _, real, fake: told.append((len(real), len(fake))) or 0.5
    )
    images, real, nothing = jnp.zeros((n, 3, 3, 1), jnp.uint8), jnp.zeros((m, 3, 3, 1), jnp.uint8), jnp.zeros((m, 0))
    reference = Reference(real, nothing, nothing, Gaussian(nothing[0], nothing), nothing[0])
    two_sample_scores(jax.random.key(0), images, reference)
    assert told == [(6, 6)]


def test_a_class_that_real_images_miss_by_chance_does_not_put_a_generator_infinitely_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = {"real": np.r_[0:7, 0:3], "fake": np.r_[0:8, 0:2]}
    monkeypatch.setattr(
        metric_scores,
        "_features_and_logits",
        lambda _, images: (jnp.eye(10)[:, :4], 50.0 * jnp.eye(8)[labels["real" if images[0, 0, 0, 0] else "fake"]]),
    )
    real, fake = jnp.ones((10, 2, 2, 1), jnp.uint8), jnp.zeros((10, 2, 2, 1), jnp.uint8)
    network = shipped_network()
    reference = metric_scores.measure_reference(network, real)
    shares = np.array([2, 2, 2, 1, 1, 1, 1, 0.5]) / 10.5
    np.testing.assert_allclose(reference.shares, shares, rtol=1e-6)
    drawn = np.array([2, 2, 1, 1, 1, 1, 1, 1]) / 10
    found = metric_scores.feature_scores(network, fake, reference)
    assert found["classes/kl"] == pytest.approx((drawn * np.log(drawn / shares)).sum(), rel=1e-5)
    assert found["classes/hit"] == 8
