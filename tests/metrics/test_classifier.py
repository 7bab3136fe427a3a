from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_images import SHAPE, N, textures

from jaxgan.metrics import classifier
from jaxgan.metrics.classifier import (
    BATCH,
    FEATURES,
    Convolution,
    classify,
    init_classifier,
    scale,
    train_classifier,
    training_steps,
)

# The settings of `train_network`, so that the tests of both share one program.
SETTINGS = {"classes": 10, "epochs": 20, "shift": 2}


def train(seed: int, advance: Callable[[int], None] = lambda _: None) -> dict:
    images, labels = textures(0)
    return train_classifier(jax.random.key(seed), images, labels, advance=advance, **SETTINGS)


@pytest.fixture(scope="module")
def learnt() -> dict:
    return train(0)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (7, 4), (1, 5)], ids=str)
def test_a_convolution_is_that_of_stride_2_with_zeros_around(kernel: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, *size, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(kernel, kernel, 3, 4)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=4), jnp.float32)
    params = {"Dense_0": {"kernel": weights.reshape(kernel**2 * 3, 4), "bias": bias}}
    found = np.asarray(jax.jit(Convolution(4, kernel).apply)({"params": params}, images))
    dimensions = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(images, weights, (2, 2), "SAME", dimension_numbers=dimensions)
    np.testing.assert_allclose(found, expected + bias[None, None, None], rtol=1e-4, atol=1e-4)


def test_an_easy_set_is_learnt_and_told_apart_on_images_not_seen(learnt: dict) -> None:
    images, labels = textures(1)
    untrained = init_classifier(jax.random.key(0), SHAPE, 10)

    def accuracy(params: dict) -> float:
        return float(np.mean(np.asarray(classify(params, images)[1]).argmax(axis=1) == np.asarray(labels)))

    assert accuracy(untrained) < 0.5
    assert accuracy(learnt) > 0.95


def test_training_gives_the_same_bits_for_the_same_key_and_others_for_another(learnt: dict) -> None:
    again, other = train(0), train(1)
    for one, two, three in zip(*map(jax.tree.leaves, (learnt, again, other)), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
        assert not np.array_equal(one, three)


def test_training_tells_all_its_steps_and_moves_every_parameter() -> None:
    told: list[int] = []
    trained = train(0, told.append)
    assert sum(told) == training_steps(N, 20) == 20 * N // BATCH
    assert min(told) >= 1
    fresh = init_classifier(jax.random.fold_in(jax.random.key(0), classifier._INIT), SHAPE, 10)
    for path, moved in jax.tree.leaves_with_path(jax.tree.map(lambda a, b: bool((a != b).any()), fresh, trained)):
        assert moved, jax.tree_util.keystr(path)


def test_even_a_handful_of_images_makes_a_step() -> None:
    assert training_steps(3, 1) == 1
    assert training_steps(55_000, 20) == 8593


def test_features_are_64_and_not_negative_and_logits_one_a_class(learnt: dict) -> None:
    features, logits = classify(learnt, textures(1)[0])
    assert features.shape == (N, FEATURES) == (N, 64)
    assert logits.shape == (N, 10)
    assert float(features.min()) == 0
    assert float(features.max()) > 0
    # The logits are those of the features alone.
    expected = features @ learnt["logits"]["kernel"] + learnt["logits"]["bias"][None]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_an_image_is_classified_alike_in_any_company(learnt: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = textures(1)
    whole = classify(learnt, images)
    monkeypatch.setattr(classifier, "_BLOCK", 10)
    in_blocks = classify(learnt, images[:43])
    for one, other in zip(whole, in_blocks, strict=True):
        np.testing.assert_allclose(one[:43], other, rtol=1e-4, atol=1e-4)


def test_bytes_are_scaled_to_the_unit_interval() -> None:
    levels = jnp.asarray([[[[0]], [[51]], [[255]]]], jnp.uint8)
    found = scale(levels)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found.ravel(), [0, 0.2, 1], rtol=1e-6)


def test_a_shift_of_0_leaves_images_alone() -> None:
    images = scale(textures(0)[0])
    assert classifier._shifted(jax.random.key(0), images, 0) is images


def test_shifted_images_are_moved_by_all_amounts_up_to_the_most_with_zeros_in_the_gaps() -> None:
    image = np.arange(1, 37, dtype=np.float32).reshape(SHAPE)
    wanted = {}
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        moved = np.zeros_like(image)
        moved[max(down, 0) : 6 + min(down, 0), max(right, 0) : 6 + min(right, 0)] = image[
            max(-down, 0) : 6 + min(-down, 0), max(-right, 0) : 6 + min(-right, 0)
        ]
        wanted[moved.tobytes()] = (down, right)
    images = jnp.asarray(np.repeat(image[None], 200, axis=0))
    found = jax.jit(classifier._shifted, static_argnums=2)(jax.random.key(0), images, 1)
    assert {wanted[each.tobytes()] for each in np.asarray(found)} == set(wanted.values())


def test_training_goes_on_from_piece_to_piece_as_it_would_at_once(learnt: dict) -> None:
    (images, labels), key, total = textures(0), jax.random.key(0), training_steps(N, 20)
    params = init_classifier(jax.random.fold_in(key, classifier._INIT), SHAPE, 10)
    opt_state, step_key = classifier._adam(total).init(params), jax.random.fold_in(key, classifier._STEP)
    at_once, _ = classifier._train(
        total, 2, step_key, images, labels, params, opt_state, jnp.int32(0), jnp.int32(total)
    )
    for one, other in zip(jax.tree.leaves(learnt), jax.tree.leaves(at_once), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_shift_changes_what_is_learnt(learnt: dict) -> None:
    images, labels = textures(0)
    still = train_classifier(jax.random.key(0), images, labels, classes=10, epochs=20, shift=0)
    for one, other in zip(jax.tree.leaves(learnt), jax.tree.leaves(still), strict=True):
        assert not np.array_equal(one, other)
