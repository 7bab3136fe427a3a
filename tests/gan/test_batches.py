from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import draw, random_dataset, tiny

from jaxgan.config import Config, InputError
from jaxgan.gan.batches import batch_indices, check_batch_size, from_unit, position, scale, to_unit

# The chi-square statistic that a fair order exceeds with a chance of one in a million, by degrees of freedom
# (scipy.stats.chi2.isf(1e-6, df)). Seeds are fixed, so a test that passes once passes always.
ONE_IN_A_MILLION = {5: 35.89, 9: 44.81, 81: 156.45, 89: 167.35, 99: 180.79}


def halves(batch_size: int) -> Config:
    return tiny(
        batch_size=batch_size,
        objective__name="hinge",
        objective__updates="halves",
        objective__r1=0.0,
        objective__r2=0.0,
    )


@partial(jax.jit, static_argnums=(0, 3))
def rows(config: Config, key: jax.Array, steps: jax.Array, n: int) -> jax.Array:
    return jax.vmap(lambda step: batch_indices(config, key, step, n))(steps)


def indices(config: Config, n: int, steps: Any, seed: int = 0) -> np.ndarray:
    """Which of n images each of some steps looks at: one row a step."""
    return np.asarray(rows(config, jax.random.key(seed), jnp.asarray(steps, jnp.int32), n))


def epochs_of(n: int, batch: int, epochs: int, seed: int = 0) -> np.ndarray:
    """The orders of the first epochs: one row an epoch."""
    steps = -(-n * epochs // batch)
    stream = indices(tiny(batch_size=batch), n, np.arange(steps), seed)
    return stream.ravel()[: n * epochs].reshape(epochs, n)


@pytest.mark.parametrize(
    ("n", "batch"),
    [(1, 1), (2, 1), (3, 2), (4, 3), (5, 5), (6, 4), (7, 2), (8, 3), (9, 7), (17, 16), (1000, 128)],
)
def test_every_epoch_is_a_permutation_wherever_batches_straddle(n: int, batch: int) -> None:
    orders = epochs_of(n, batch, epochs=20)
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(n), (20, n)))


def feistel(value: int, keys: list[int], bits: int) -> int:
    """Eight rounds with MurmurHash3's finaliser, in Python's whole numbers."""
    left, right = divmod(value, 2**bits)
    for key in keys:
        x = right ^ key
        x = (x ^ x >> 16) * 0x85EBCA6B % 2**32
        x = (x ^ x >> 13) * 0xC2B2AE35 % 2**32
        left, right = right, left ^ (x ^ x >> 16) % 2**bits
    return left * 2**bits + right


@pytest.mark.parametrize(("n", "bits"), [(4, 1), (5, 2), (16, 2), (17, 3), (100, 4)])
def test_orders_are_those_of_the_feistel_network(n: int, bits: int) -> None:
    for epoch, order in enumerate(epochs_of(n, 3, epochs=3, seed=7)):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 1), epoch)
        keys = [int(each) for each in jax.random.bits(key, (8,), jnp.uint32)]
        expected = []
        for place in range(n):
            value = feistel(place, keys, bits)
            while value >= n:
                value = feistel(value, keys, bits)
            expected.append(value)
        assert order.tolist() == expected


def test_the_orders_of_a_seed_are_those_of_always() -> None:
    # What JAX draws for a key is the same in all of its versions, too.
    assert epochs_of(17, 3, epochs=2, seed=7).tolist() == [
        [0, 5, 10, 4, 16, 12, 9, 7, 3, 2, 14, 6, 15, 1, 11, 8, 13],
        [10, 2, 3, 4, 11, 12, 0, 13, 15, 8, 5, 16, 9, 7, 1, 6, 14],
    ]


@pytest.mark.parametrize("n", [64, 100])
def test_no_two_epochs_and_no_two_runs_have_the_same_order(n: int) -> None:
    orders = [tuple(order) for seed in (0, 1) for order in epochs_of(n, 50, epochs=40, seed=seed)]
    assert len(set(orders)) == 80
    assert tuple(range(n)) not in orders


def test_the_430th_batch_of_55_000_images_is_88_of_one_order_and_40_of_the_next() -> None:
    n, batch = 55_000, 128
    stream = indices(tiny(batch_size=batch), n, np.arange(860)).ravel()  # Both orders are over within 860 batches.
    straddling = stream[429 * batch : 430 * batch]
    first = np.concatenate([stream[: 429 * batch], straddling[:88]])
    second = np.concatenate([straddling[88:], stream[430 * batch : 430 * batch + n - 40]])
    np.testing.assert_array_equal(np.sort(first), np.arange(n))
    np.testing.assert_array_equal(np.sort(second), np.arange(n))


def test_the_indices_of_a_step_depend_on_the_key_and_the_step_only() -> None:
    for order in ("epochs", "replacement"):
        config = tiny(batch_size=40, data__order=order)
        together = indices(config, 300, [0, 1, 7, 1000])
        backwards = indices(config, 300, [1000, 7, 1, 0])[::-1]
        np.testing.assert_array_equal(together, backwards)
        for row, step in zip(together, [0, 1, 7, 1000], strict=True):
            np.testing.assert_array_equal(indices(config, 300, [step] * 4)[2], row)
        assert (indices(config, 300, [0, 1, 7, 1000], seed=1) != together).any(axis=1).all()
        assert len({tuple(row) for row in together}) == 4


def test_a_batch_holds_the_images_and_labels_of_its_indices_in_the_range_of_the_generator() -> None:
    dataset = random_dataset(30, (2, 3, 1))
    for config, size in (
        (tiny(gen__output="tanh"), 8),
        (tiny(gen__output="sigmoid", data__order="replacement"), 8),
        (halves(8), 4),
    ):
        batch = draw(config, dataset, jax.random.key(0), jnp.int32(2))
        chosen = np.asarray(batch.labels)  # The label of an image is its index.
        assert chosen.shape == (size,)
        if config.gen.output == "tanh" and size == 8:
            np.testing.assert_array_equal(chosen, indices(config, 30, [2])[0])
        pixels = np.asarray(dataset.images)[chosen] / 255.0
        expected = 2 * pixels - 1 if config.gen.output == "tanh" else pixels
        np.testing.assert_allclose(batch.images, expected, rtol=0, atol=2e-7)  # Two roundings of numbers up to 2.


# Positions.


@given(
    step=st.one_of(st.integers(0, 2**31 - 1), st.integers(2**31 - 1000, 2**31 - 1)),
    n=st.integers(1, 70_000),
    share=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_positions_are_exact_to_the_last_step_that_an_int32_holds(step: int, n: int, share: float) -> None:
    batch = max(1, min(int(share * n), (2**32 - 1) // n))
    check_batch_size(tiny(batch_size=batch), n)
    assert tuple(map(int, position(jnp.int32(step), batch, n))) == divmod(step * batch, n)


def test_the_last_steps_that_an_int32_holds_continue_the_stream() -> None:
    n, batch = 70, 64
    steps = np.arange(2**31 - 40, 2**31 - 1)
    stream = indices(tiny(batch_size=batch), n, steps).ravel()
    start = -(int(steps[0]) * batch) % n  # Images left of the epoch in which the first of these steps begins.
    orders = stream[start:][: (len(stream) - start) // n * n].reshape(-1, n)
    assert len(orders) > 30
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.broadcast_to(np.arange(n), orders.shape))


# Uniformity.


def chi_square(counts: np.ndarray) -> float:
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def test_every_image_is_equally_likely_at_every_position() -> None:
    n = 10
    orders = epochs_of(n, 10, epochs=2000)
    counts = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    # Rows and columns of the table both have fixed sums, which leaves (n - 1)^2 degrees of freedom; the statistic of
    # permutation matrices is n / (n - 1) times a chi-square.
    assert chi_square(counts) * (n - 1) / n < ONE_IN_A_MILLION[81]


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 8)])
def test_every_pair_of_images_is_equally_likely_at_two_positions(first: int, second: int) -> None:
    orders = epochs_of(10, 10, epochs=2000, seed=1)
    pairs = np.bincount(orders[:, first] * 10 + orders[:, second], minlength=100).reshape(10, 10)
    assert (np.diag(pairs) == 0).all()
    assert chi_square(pairs[~np.eye(10, dtype=bool)]) < ONE_IN_A_MILLION[89]


def test_the_orders_of_two_epochs_in_a_row_are_independent() -> None:
    orders = epochs_of(10, 10, epochs=2000, seed=2)[:, 0].reshape(1000, 2)
    assert chi_square(np.bincount(orders[:, 0] * 10 + orders[:, 1], minlength=100)) < ONE_IN_A_MILLION[99]


def test_all_six_orders_of_three_images_are_equally_likely() -> None:
    orders = epochs_of(3, 3, epochs=1200)
    counts = [int((orders == order).all(axis=1).sum()) for order in itertools.permutations(range(3))]
    assert sum(counts) == 1200
    assert chi_square(np.array(counts)) < ONE_IN_A_MILLION[5]


def test_replacement_draws_every_image_equally_often_and_repeats_some() -> None:
    drawn = indices(tiny(batch_size=40, data__order="replacement"), 10, np.arange(200))
    assert drawn.shape == (200, 40)
    assert chi_square(np.bincount(drawn.ravel(), minlength=10)) < ONE_IN_A_MILLION[9]
    assert drawn.min() == 0
    assert drawn.max() == 9
    # An epoch of 512 draws from 512 images misses a share of 1 / e of them.
    many = indices(tiny(batch_size=64, data__order="replacement"), 512, np.arange(8)).ravel()
    assert abs(len(np.unique(many)) / 512 - (1 - np.exp(-1))) < 0.1


# Ranges.


@pytest.mark.parametrize(
    ("output", "low", "high"), [("sigmoid", 0.0, 1.0), ("tanh", -1.0, 1.0), ("clipped_tanh", -1.0, 1.0)]
)
def test_bytes_map_to_the_range_of_the_output_and_back(output: str, low: float, high: float) -> None:
    config = tiny(gen__output=output, disc__black_at_zero=True)
    assert config.zero_pixel == low
    levels = jnp.arange(256, dtype=jnp.uint8)
    scaled = scale(config, levels)
    assert scaled.dtype == jnp.float32
    assert scaled[0] == low
    assert scaled[255] == high
    assert (jnp.diff(scaled) > 0).all()
    unit = to_unit(config, scaled)
    assert unit[0] == 0
    assert unit[255] == 1
    np.testing.assert_allclose(unit, np.arange(256) / 255, rtol=0, atol=1e-7)  # Half a unit of the last place at 1.
    np.testing.assert_array_equal(np.rint(np.asarray(unit) * 255), np.arange(256))
    np.testing.assert_allclose(from_unit(config, unit), scaled, rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("config", "n", "what"),
    [
        (lambda: tiny(batch_size=101), 100, "--batch-size 101 takes 101 real images a step; the training set has 100"),
        (lambda: halves(202), 100, "--batch-size 202 takes 101 real images a step; the training set has 100"),
        (lambda: tiny(batch_size=65_536), 65_536, "--batch-size 65536 times 65,536 training images must be below"),
        (lambda: tiny(batch_size=1), 0, "the training set has 0"),
    ],
)
def test_batches_that_a_data_set_cannot_serve_are_refused(config: Callable[[], Config], n: int, what: str) -> None:
    with pytest.raises(InputError) as refused:
        check_batch_size(config(), n)
    assert what in str(refused.value)
    assert "\n" not in str(refused.value)


def test_batches_as_large_as_the_data_set_are_served() -> None:
    check_batch_size(tiny(batch_size=100), 100)
    check_batch_size(halves(200), 100)
    check_batch_size(tiny(batch_size=65_535), 65_536)
    np.testing.assert_array_equal(np.sort(epochs_of(100, 100, epochs=3), axis=1), np.tile(np.arange(100), (3, 1)))
