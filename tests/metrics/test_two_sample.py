from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import two_sample
from jaxgan.metrics.two_sample import two_sample_accuracy

N = 120


def strokes(seed: int, n: int = N) -> jax.Array:
    """Images of one bright row each, on dim noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (n, 6, 6, 1)).astype(np.uint8)
    images[np.arange(n), rng.integers(0, 6, n)] = 255
    return jnp.asarray(images)


@pytest.fixture(autouse=True)
def _learns_by_heart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long enough to know every image of so small a set."""
    monkeypatch.setattr(two_sample, "EPOCHS", 100)


def accuracy(real: jax.Array, fake: jax.Array, seed: int = 0) -> float:
    return two_sample_accuracy(jax.random.key(seed), real, fake)


def test_two_halves_of_one_distribution_cannot_be_told_apart() -> None:
    # The mean of five tests of 72 answers each has a standard deviation of 0.026.
    assert np.mean([accuracy(strokes(2 * i), strokes(2 * i + 1), i) for i in range(5)]) == pytest.approx(0.5, abs=0.1)


def test_plainly_different_sets_are_told_apart() -> None:
    columns = strokes(1).transpose(0, 2, 1, 3)
    assert accuracy(strokes(0), columns) > 0.95


def test_a_set_of_copies_is_told_apart_by_images_that_the_test_has_not_seen() -> None:
    # Five in six real images have their stroke in another row: those are told at the least.
    copies = jnp.repeat(strokes(5)[:1], N, axis=0)
    assert accuracy(strokes(0), copies) > 0.8


def test_the_key_decides_all() -> None:
    columns = strokes(1)
    assert accuracy(strokes(0), columns, 3) == accuracy(strokes(0), columns, 3)
    assert len({accuracy(strokes(0), columns, seed) for seed in range(4)}) > 1


def test_sets_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of one size, not 120 and 119"):
        accuracy(strokes(0), strokes(1, N - 1))


def test_the_order_of_the_images_tells_nothing() -> None:
    # Rows and columns in another order: learnt from the first seven tenths, all answers on the rest would be wrong.
    rows, columns = strokes(0), strokes(1).transpose(0, 2, 1, 3)
    one, other = jnp.concatenate([rows[:84], columns[84:]]), jnp.concatenate([columns[:84], rows[84:]])
    assert accuracy(one, other) > 0.5
