from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from small_runs import LABEL_COUNTS, TINY_SHAPE, differing, tiny

from jaxgan.config import Config, OptimizerConfig
from jaxgan.gan.batches import Batch, Dataset
from jaxgan.gan.labels import condition_on, draw_labels
from jaxgan.gan.program import train_steps
from jaxgan.gan.sampling import WALK_PICTURES, discriminate, generate, walk_labels
from jaxgan.gan.state import TrainState, init_state
from jaxgan.gan.updates import train_step

CONFIG = tiny(conditional=True)
PLAIN = tiny()


def start(config: Config) -> TrainState:
    return init_state(config, jax.random.key(0), TINY_SHAPE, LABEL_COUNTS)


@pytest.fixture(scope="module")
def state() -> TrainState:
    return start(CONFIG)


def test_classes_are_drawn_as_often_as_the_training_images_have_them(state: TrainState) -> None:
    drawn = np.asarray(draw_labels(state, jax.random.key(1), 8000))
    assert drawn.dtype == np.int32
    shares = np.array(LABEL_COUNTS) / sum(LABEL_COUNTS)
    # Five standard errors of a share; a class that the data lacks is never drawn.
    errors = 5 * np.sqrt(shares * (1 - shares) / 8000)
    assert (np.abs(np.bincount(drawn, minlength=4) / 8000 - shares) <= errors).all()
    assert (draw_labels(state, jax.random.key(2), 8000) != drawn).any()


def test_players_that_are_not_conditional_have_no_classes_and_no_parameters_for_them() -> None:
    plain = start(PLAIN)
    assert plain.label_counts is None
    assert draw_labels(plain, jax.random.key(0), 3) is None
    assert condition_on(plain, jnp.zeros(3, jnp.int32)) is None
    assert walk_labels(plain, jax.random.key(0), 3) is None
    # The rest of both players starts as it does without labels.
    conditional = start(CONFIG).params
    assert conditional.gen.pop("condition")["kernel"].shape == (4, 6)
    assert conditional.disc.pop("condition")["kernel"].shape == (4, 7)
    assert differing(conditional, plain.params) == []


def test_a_conditional_state_needs_the_classes_of_its_data() -> None:
    for counts in ((), (0, 0)):
        with pytest.raises(ValueError, match="label_counts: a conditional config needs"):
            init_state(CONFIG, jax.random.key(0), TINY_SHAPE, counts)


def test_images_are_of_the_labels_that_are_given_or_of_drawn_ones(state: TrainState) -> None:
    key = jax.random.key(3)
    drawn = draw_labels(state, key, 6)
    assert drawn is not None
    images = generate(CONFIG, state, key, 6)
    np.testing.assert_array_equal(images, generate(CONFIG, state, key, 6, labels=drawn))
    weights = generate(CONFIG, state, key, 6, labels=jnp.eye(4)[drawn])
    np.testing.assert_allclose(images, weights, atol=1e-6)
    np.testing.assert_array_equal(images, generate(CONFIG, state, key, 6, labels=drawn.tolist()))
    halves = np.full((6, 4), [0.5, 0.5, 0.0, 0.0], np.float32)
    between = generate(CONFIG, state, key, 6, labels=halves.tolist())
    np.testing.assert_array_equal(between, generate(CONFIG, state, key, 6, labels=jnp.asarray(halves)))
    others = generate(CONFIG, state, key, 6, labels=(drawn + 1) % 4)
    assert (images != others).any(axis=(1, 2, 3)).all()
    logits = discriminate(CONFIG, state, images, drawn)
    assert (logits != discriminate(CONFIG, state, images, (drawn + 1) % 4)).all()


def test_labels_that_do_not_fit_are_refused(state: TrainState) -> None:
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="labels: there are 2, not n = 3"):
        generate(CONFIG, state, key, 3, labels=jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="labels: there are weights of 3 classes, not of 4"):
        generate(CONFIG, state, key, 3, labels=jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="labels: conditional players need a label for each image"):
        discriminate(CONFIG, state, jnp.zeros((2, *TINY_SHAPE)))
    with pytest.raises(ValueError, match="labels: there are 1, not n = 2"):
        discriminate(CONFIG, state, jnp.zeros((2, *TINY_SHAPE)), jnp.zeros(1, jnp.int32))
    for label in (-1, 4):
        with pytest.raises(ValueError, match="labels: the classes are 0 to 3"):
            generate(CONFIG, state, key, 2, labels=jnp.array([0, label]))
    batch = Batch(jnp.zeros((CONFIG.batch_size, *TINY_SHAPE)), jnp.zeros(1, jnp.int32))
    with pytest.raises(ValueError, match="the batch has 1 labels; the config wants 8"):
        train_step(CONFIG, state, batch)
    with pytest.raises(ValueError, match="labels: this generator is not conditional"):
        generate(PLAIN, start(PLAIN), key, 3, labels=jnp.zeros(3, jnp.int32))


def test_weights_without_their_classes_are_refused_where_nothing_checks_types(
    state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="labels: a class is a whole number, and weights of all classes are of shape"):
        generate(CONFIG, state, jax.random.key(0), 2, labels=[0.5, 1.0])  # pyright: ignore[reportArgumentType]


def test_a_scale_makes_labels_larger_in_sampling_whether_they_are_drawn_or_given(state: TrainState) -> None:
    key, large = jax.random.key(1), replace(CONFIG, latent=replace(CONFIG.latent, label_scale=1.5))
    drawn = draw_labels(state, key, 6)
    assert drawn is not None
    by_hand = generate(CONFIG, state, key, 6, labels=1.5 * jax.nn.one_hot(drawn, 4))
    for labels in (None, drawn, jax.nn.one_hot(drawn, 4)):
        np.testing.assert_array_equal(generate(large, state, key, 6, labels=labels), by_hand)
    assert (np.asarray(by_hand) != np.asarray(generate(CONFIG, state, key, 6))).any(axis=(1, 2, 3)).all()


def test_a_walk_goes_from_class_to_class(state: TrainState) -> None:
    n = 3 * WALK_PICTURES
    weights = walk_labels(state, jax.random.key(0), n, jnp.array([2, 0, 3]))
    assert weights is not None
    np.testing.assert_array_equal(weights[::WALK_PICTURES], np.eye(4)[[2, 0, 3]])
    np.testing.assert_allclose(weights[WALK_PICTURES // 2], [0.5, 0, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(weights[-1], [0, 0, 1 - 1 / WALK_PICTURES, 1 / WALK_PICTURES], atol=1e-5)
    stays = walk_labels(state, jax.random.key(0), n, jnp.array([1]))
    assert stays is not None
    np.testing.assert_allclose(stays, np.eye(4)[[1] * n], atol=1e-6)
    drawn = walk_labels(state, jax.random.key(0), n)
    assert drawn is not None
    np.testing.assert_array_equal(drawn[::WALK_PICTURES], np.eye(4)[draw_labels(state, jax.random.key(0), 3)])


def test_training_teaches_the_generator_what_each_label_shows() -> None:
    # Class 0 is dark, class 1 bright, with some noise.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = (labels[:, None, None, None] * 200 + rng.integers(0, 56, (256, *TINY_SHAPE))).astype(np.uint8)
    data = Dataset(jnp.asarray(images), jnp.asarray(labels, jnp.int32))
    fast = OptimizerConfig(learning_rate=5e-3)
    config = replace(CONFIG, gen=replace(CONFIG.gen, optimizer=fast), disc=replace(CONFIG.disc, optimizer=fast))
    state = init_state(config, jax.random.key(0), TINY_SHAPE, (128, 128))
    state, _ = train_steps(config, state, data, 600)
    dark, bright = (generate(config, state, jax.random.key(1), 64, labels=jnp.full(64, i)) for i in (0, 1))
    assert dark.mean() < 0.25
    assert bright.mean() > 0.75
