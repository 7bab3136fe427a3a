from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import tiny

from jaxgan.config import Config
from jaxgan.gan.augment import draw_offsets, move

SHIFT = 2


def augment(config: Config, key: jax.Array, images: jax.Array, probability: float) -> jax.Array:
    return move(config, images, draw_offsets(config, key, images.shape[0], jnp.float32(probability)))


def moves(before: np.ndarray, after: np.ndarray, black: float) -> tuple[int, int]:
    """How far one image was moved; exactly one move explains it."""
    height, width, _ = before.shape
    padded = np.pad(before, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), constant_values=black)
    found = [
        (down, right)
        for down in range(-SHIFT, SHIFT + 1)
        for right in range(-SHIFT, SHIFT + 1)
        if np.array_equal(after, padded[SHIFT - down :, SHIFT - right :][:height, :width])
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(("output", "low"), [("sigmoid", 0.0), ("tanh", -1.0)])
def test_images_are_moved_evenly_with_the_probability_asked_for(output: str, low: float) -> None:
    config = tiny(gen__output=output, augment__shift=SHIFT)
    # Multiples of 1/256, so that taking black off and on again is exact.
    images = np.random.default_rng(0).integers(1, 256, (5000, 5, 6, 2)).astype(np.float32) / 256 * (1 - low) + low
    probability = 0.6
    moved = np.asarray(augment(config, jax.random.key(1), jnp.asarray(images), probability))
    assert moved.dtype == np.float32
    counts = np.zeros((2 * SHIFT + 1, 2 * SHIFT + 1))
    for before, after in zip(images, moved, strict=True):
        down, right = moves(before, after, low)
        counts[down + SHIFT, right + SHIFT] += 1
    expected = np.full_like(counts, probability / counts.size)
    expected[SHIFT, SHIFT] += 1 - probability
    # Five standard deviations of a count.
    assert (np.abs(counts / 5000 - expected) < 5 * np.sqrt(expected * (1 - expected) / 5000)).all()


def test_without_a_shift_the_images_stay_as_they_are() -> None:
    images = jnp.ones((3, 4, 4, 1))
    assert augment(tiny(), jax.random.key(0), images, 1.0) is images


def test_gradients_flow_back_to_the_pixels_that_were_moved() -> None:
    config = tiny(augment__shift=SHIFT, gen__output="sigmoid")
    images, pulls = np.random.default_rng(0).random((2, 8, 5, 5, 1)).astype(np.float32)
    moved, back = jax.vjp(lambda x: augment(config, jax.random.key(2), x, 1.0), jnp.asarray(images))
    (gradient,) = back(jnp.asarray(pulls))
    offsets = [moves(before, after, 0.0) for before, after in zip(images, np.asarray(moved), strict=True)]
    assert len(set(offsets)) > 3
    for (down, right), pull, got in zip(offsets, pulls, np.asarray(gradient), strict=True):
        # What was moved there is pulled back here; what fell over the edge is not pulled at all.
        padded = np.pad(pull, ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
        np.testing.assert_array_equal(got, padded[SHIFT + down :, SHIFT + right :][:5, :5])
