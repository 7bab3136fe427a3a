from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics.neighbours import BLOCK
from jaxgan.metrics.references import (
    DRAWN_ONCE,
    KMEANS_ITERATIONS,
    REFERENCES,
    centroids,
    collapsed,
    noise,
    real_images,
)

N = 30
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def training() -> jax.Array:
    """As many images of 5 x 4 as do not fill blocks, no two of them alike."""
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (BLOCK + 50, 5, 4, 1)), jnp.uint8)


def flat(images: jax.Array) -> np.ndarray:
    return np.asarray(images, np.float64).reshape(len(images), -1)


def quantisation_error(images: jax.Array, means: np.ndarray) -> float:
    """The mean square distance to the nearest mean."""
    return float(np.square(flat(images)[:, None] - means[None]).sum(axis=2).min(axis=1).mean())


def test_real_images_are_different_training_images_chosen_by_the_key(training: jax.Array) -> None:
    chosen = [flat(real_images(jax.random.key(seed), training, N)) for seed in (0, 0, 1)]
    rows = [{row.tobytes() for row in each} for each in chosen]
    assert len(rows[0]) == N
    assert rows[0] <= {row.tobytes() for row in flat(training)}
    assert np.array_equal(chosen[0], chosen[1])
    assert rows[0] != rows[2]
    assert np.array_equal(
        np.unique(flat(real_images(KEY, training, len(training))), axis=0), np.unique(flat(training), axis=0)
    )


def test_centroids_are_what_lloyds_algorithm_finds_from_the_real_images_of_their_key(training: jax.Array) -> None:
    points = flat(training) / 255
    means = flat(real_images(KEY, training, N)) / 255
    for _ in range(KMEANS_ITERATIONS):
        owner = np.square(points[:, None] - means[None]).sum(axis=2).argmin(axis=1)
        means = np.array([points[owner == i].mean(axis=0) if (owner == i).any() else means[i] for i in range(N)])
    assert np.abs(flat(centroids(KEY, training, N)) - 255 * means).max() <= 0.5 + 1e-3


def test_centroids_lie_nearer_to_the_training_images_than_their_start(training: jax.Array) -> None:
    start, end = flat(real_images(KEY, training, N)), flat(centroids(KEY, training, N))
    assert quantisation_error(training, end) < 0.9 * quantisation_error(training, start)


def test_a_mean_that_no_image_is_nearest_to_stays() -> None:
    # Both starts are the one image that there is; the second of two equal means owns nothing.
    image = jnp.full((2, 5, 4, 1), 77, jnp.uint8)
    assert np.array_equal(centroids(KEY, image, 2), image)


def test_collapsed_is_the_training_image_nearest_to_the_mean_many_times(training: jax.Array) -> None:
    points = flat(training)
    nearest = np.square(points - points.mean(axis=0)).sum(axis=1).argmin()
    assert np.array_equal(flat(collapsed(KEY, training, N)), np.repeat(points[nearest][None], N, axis=0))


def test_noise_has_every_level_alike_and_pixels_that_do_not_know_of_each_other(training: jax.Array) -> None:
    levels = flat(noise(KEY, training, 5000))
    counts = np.bincount(levels.astype(int).ravel(), minlength=256)
    expected = levels.size / 256
    # Counts of 256 levels have a standard deviation of the root of their mean.
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    correlations = np.corrcoef(levels, rowvar=False) - np.eye(levels.shape[1])
    assert np.abs(correlations).max() < 5 / np.sqrt(5000)


@pytest.mark.parametrize("make", REFERENCES.values(), ids=REFERENCES)
def test_every_reference_is_of_the_shape_and_type_of_the_data(training: jax.Array, make: Callable) -> None:
    made = make(KEY, training, N)
    assert made.shape == (N, 5, 4, 1)
    assert made.dtype == jnp.uint8


def test_collapsed_is_the_same_for_every_key_and_the_sets_drawn_once_are_references(training: jax.Array) -> None:
    assert set(DRAWN_ONCE) == {"k-means", "collapsed"} < set(REFERENCES)
    other = jax.random.key(1)
    assert np.array_equal(collapsed(KEY, training, N), collapsed(other, training, N))
    assert not np.array_equal(noise(KEY, training, N), noise(other, training, N))
