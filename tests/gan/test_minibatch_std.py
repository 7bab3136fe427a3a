"""D's view of how images vary in a batch: `disc.minibatch_std`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import TINY_SHAPE, bits, changed, first_batch, random_dataset, tiny

from jaxgan.config import Config
from jaxgan.gan.gradients import judge_with_gradients
from jaxgan.gan.networks import judge, minibatch_std
from jaxgan.gan.state import init_state
from jaxgan.gan.updates import train_step

CLASSES = (3, 0, 3, 2, 0, 3, 0, 3)  # A class with one image, one with none.
SHOWN = np.eye(4)[list(CLASSES)]


def spread(x: np.ndarray, condition: np.ndarray | None) -> np.ndarray:
    """The pooled standard deviation within the classes, each looked at by itself."""
    labels = np.zeros(len(x), int) if condition is None else condition.argmax(axis=1)
    groups = [x[labels == label] for label in np.unique(labels)]
    squares = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups)
    return np.sqrt(squares / max(len(x) - len(groups), 1) + 1e-4)


def answers(params: dict[str, Any], images: np.ndarray, condition: np.ndarray | None) -> np.ndarray:
    """D's logits in NumPy: two leaky ReLU layers, of which the second sees how the first one's units vary."""
    layer = {name: {part: np.asarray(leaf) for part, leaf in leaves.items()} for name, leaves in params.items()}
    x = images.reshape(len(images), -1) @ layer["hidden_0"]["kernel"] + layer["hidden_0"]["bias"]
    if condition is not None:
        x = x + condition @ layer["condition"]["kernel"]
    x = np.where(x > 0, x, 0.2 * x)
    y = x @ layer["hidden_1"]["kernel"] + layer["hidden_1"]["bias"]
    y = y + spread(x, condition) @ layer["minibatch_std"]["kernel"]
    y = np.where(y > 0, y, 0.2 * y)
    return (y @ layer["output"]["kernel"])[:, 0] + layer["output"].get("bias", 0.0)


def game(conditional: bool, **changes: Any) -> Config:
    return tiny(objective__name="relativistic", conditional=conditional, disc__minibatch_std=2, **changes)


def disc_params(config: Config, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: init_state(config, jax.random.key(0), TINY_SHAPE, (1, 1, 1, 1)).params.disc)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


@pytest.mark.parametrize("condition", [None, SHOWN], ids=["of the batch", "within classes"])
def test_units_vary_by_their_pooled_standard_deviation(condition: np.ndarray | None) -> None:
    x = np.random.default_rng(0).normal(size=(8, 5)) * np.arange(5) + np.arange(8)[:, None]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        got = minibatch_std(jnp.asarray(x), None if condition is None else jnp.asarray(condition))
    np.testing.assert_allclose(got, spread(x, condition)[None], rtol=1e-12)
    if condition is None:
        np.testing.assert_allclose(got[0] ** 2, x.var(axis=0, ddof=1) + 1e-4, rtol=1e-12)


def test_what_never_varies_has_a_floor_and_a_gradient() -> None:
    for n in (1, 4):
        still = jnp.ones((n, 3))
        np.testing.assert_allclose(minibatch_std(still, None), 0.01, rtol=1e-6)
        assert jnp.isfinite(jax.grad(lambda x: minibatch_std(x, None).sum())(still)).all()


@pytest.mark.parametrize("conditional", [False, True])
def test_logits_are_those_of_a_reference_and_gradients_those_of_its_finite_differences(conditional: bool) -> None:
    config, shown = game(conditional), SHOWN if conditional else None
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        params = disc_params(config)
        images = np.random.default_rng(2).normal(size=(8, *TINY_SHAPE))
        condition = None if shown is None else jnp.asarray(shown)
        for training in (False, True):
            logits, _ = judge(config, params, {}, jnp.asarray(images), condition, training=training)
            np.testing.assert_allclose(logits, answers(params, images, shown), rtol=1e-12)
        logits, gradients = judge_with_gradients(config, params, {}, jnp.asarray(images), condition)
        np.testing.assert_allclose(logits, answers(params, images, shown), rtol=1e-12)
    step, expected = 1e-6, np.zeros_like(images)
    for index in np.ndindex(images.shape):
        moved = np.zeros_like(images)
        moved[index] = step
        above, below = (answers(params, images + sign * moved, shown).sum() for sign in (1, -1))
        expected[index] = (above - below) / (2 * step)
    np.testing.assert_allclose(gradients, expected, rtol=1e-6, atol=1e-7)


def test_an_answer_depends_on_its_company_where_that_is_looked_at_and_not_otherwise() -> None:
    images = jnp.asarray(np.random.default_rng(2).normal(size=(8, *TINY_SHAPE)), jnp.float32)
    alike = jnp.repeat(images[:1], 8, axis=0)
    for layer in (0, 1, 2):
        config = changed(game(conditional=False), {"disc.minibatch_std": layer})
        params = init_state(config, jax.random.key(0), TINY_SHAPE).params.disc
        among_others, among_copies = (
            judge(config, params, {}, batch, None, training=True)[0][0] for batch in (images, alike)
        )
        assert (abs(among_others - among_copies) > 1e-2) == (layer > 0)


@pytest.mark.parametrize("updates", ["joint", "simultaneous"])
def test_both_players_learn_by_it(updates: str) -> None:
    told = game(conditional=True, objective__updates=updates)
    batch = first_batch(told, random_dataset(8, TINY_SHAPE, classes=4))
    state = init_state(told, jax.random.key(0), TINY_SHAPE, (2, 2, 2, 2))
    before = bits(state.params.disc)
    after, _ = train_step(told, state, batch)
    kernel = "['minibatch_std']['kernel']"
    assert (bits(after.params.disc)[kernel] != before[kernel]).any()
    # Deaf to it, G has other gradients.
    deaf = state._replace(params=state.params._replace(disc=dict(state.params.disc)))
    deaf.params.disc["minibatch_std"] = jax.tree.map(jnp.zeros_like, deaf.params.disc["minibatch_std"])
    other, _ = train_step(told, deaf, batch)
    moments = [bits(ended.opt_state.gen.mu) for ended in (after, other)]
    assert all((leaf != moments[1][path]).any() for path, leaf in moments[0].items())
