from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import tiny

from jaxgan.config import Activation, ObjectiveName
from jaxgan.gan.gradients import judge_with_gradients
from jaxgan.gan.networks import judge
from jaxgan.gan.state import init_state


@pytest.mark.parametrize(
    ("activation", "name", "black_at_zero", "conditional"),
    [
        ("leaky_relu", "hinge", False, False),
        ("relu", "relativistic", True, False),
        ("relu", "hinge", True, True),
        ("silu", "hinge", True, True),
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_logits_with_gradients_differentiate_as_automatic_differentiation_of_the_network_does(
    activation: Activation, name: ObjectiveName, black_at_zero: bool, conditional: bool, residual: bool
) -> None:
    disc = {"widths": (6, 4, 4), "activation": activation, "residual": residual, "black_at_zero": black_at_zero}
    players = {f"disc__{key}": value for key, value in disc.items()}
    config = tiny(objective__name=name, conditional=conditional, **players)
    rng = np.random.default_rng(3)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        shapes = jax.eval_shape(lambda: init_state(config, jax.random.key(0), (2, 3, 1), (1, 1, 1)).params.disc)
        params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)
        images, directions = jnp.asarray(rng.normal(size=(2, 7, 2, 3, 1)))
        shown = jnp.eye(3)[jnp.arange(7) % 3] if conditional else None

        def by_the_network(params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, back = jax.vjp(lambda x: judge(config, params, {}, x, shown, training=True)[0], images)
            return logits, back(jnp.ones_like(logits))[0]

        def by_us(params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
            return judge_with_gradients(config, params, {}, images, shown)

        def loss(params: Any, images: jax.Array, judged: Callable[..., tuple[jax.Array, jax.Array]]) -> jax.Array:
            logits, gradients = judged(params, images)
            return (jnp.sin(logits) + jnp.square(gradients * directions).sum(axis=(1, 2, 3)) * logits).sum()

        fast = jax.value_and_grad(loss, argnums=(0, 1))(params, images, by_us)
        reference = jax.value_and_grad(loss, argnums=(0, 1))(params, images, by_the_network)
    for got, expected in zip(jax.tree.leaves(fast), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
