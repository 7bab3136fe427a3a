"""What the tests of classifiers share: noisy images of four textures that are easy to tell, shifted or not."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxgan.gan.batches import Dataset

SHAPE = (6, 6, 1)
N = 640


def textures(seed: int, n: int = N) -> Dataset:
    """Dark images, rows, columns and checkers, labelled 0 to 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    row, column = np.indices(SHAPE[:2])
    patterns = np.stack([0 * row, row % 2, column % 2, (row + column) % 2])[..., None]
    images = 150 * patterns[labels] + rng.integers(0, 100, (n, *SHAPE))
    return Dataset(jnp.asarray(images, jnp.uint8), jnp.asarray(labels, jnp.int32))
