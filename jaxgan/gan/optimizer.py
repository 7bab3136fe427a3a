"""What a gradient does to a player: Adam at the rate of the step, and the moving average of G."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, PyTree

from jaxgan.config import Config
from jaxgan.gan.state import AdamHyper, Hyper, TrainState, adam

FINAL_RATE = 0.03
"""The share of the learning rate that is left after `decay_steps`."""


def apply_to_discriminator(state: TrainState, gradients: PyTree, stats: PyTree) -> TrainState:
    """The state after a step of D against its gradients, with D's new moving averages of batch norm."""
    hyper = state.hyper
    params, opt_state = _adam_step(
        hyper.optimizer.disc, hyper, state.step, gradients, state.opt_state.disc, state.params.disc
    )
    return state._replace(
        params=state.params._replace(disc=params),
        opt_state=state.opt_state._replace(disc=opt_state),
        batch_stats=state.batch_stats._replace(disc=stats),
    )


def apply_to_generator(config: Config, state: TrainState, gradients: PyTree, stats: PyTree) -> TrainState:
    """The state after a step of G against its gradients, with its average and its new moving averages of batch norm."""
    hyper = state.hyper
    params, opt_state = _adam_step(
        hyper.optimizer.gen, hyper, state.step, gradients, state.opt_state.gen, state.params.gen
    )
    average = state.average
    if average is not None:
        average = optax.incremental_update(params, average, 1.0 - _average_decay(config, hyper, state.step))
    return state._replace(
        params=state.params._replace(gen=params),
        opt_state=state.opt_state._replace(gen=opt_state),
        batch_stats=state.batch_stats._replace(gen=stats),
        average=average,
    )


def _adam_step(
    optimizer: AdamHyper, hyper: Hyper, step: Int32[Array, ""], gradients: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    # optax raises a float to the power of an int32 count, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        directions, opt_state = adam(optimizer).update(gradients, opt_state)
    rate = optimizer.learning_rate * _decay(hyper, step)
    return optax.apply_updates(params, jax.tree.map(lambda direction: -rate * direction, directions)), opt_state


def _average_decay(config: Config, hyper: Hyper, step: Int32[Array, ""]) -> Float[Array, ""]:
    """The decay of G's average at a step: smaller at first, so that the average forgets where G began.

    At step s it is at most (1 + s) / (1 + w + s); with w = 9, `num_updates` of TensorFlow's `ExponentialMovingAverage`.
    Where that bounds it, step t has a weight of about t^(w - 1).

    References:
        Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.1: "power
        function" averages, with an exponent of w - 1.
    """
    s = step.astype(hyper.average_decay.dtype)
    return jnp.minimum(hyper.average_decay, (1.0 + s) / (1.0 + config.average_warmup + s))


def _decay(hyper: Hyper, step: Int32[Array, ""]) -> Float[Array, ""]:
    """The share of the learning rate at a step: 1, then a cosine to FINAL_RATE over `decay_steps`, if there are any."""
    steps_done = jnp.maximum(step.astype(hyper.decay_start.dtype) - hyper.decay_start, 0.0)
    share_done = jnp.where(hyper.decay_steps > 0, steps_done / jnp.maximum(hyper.decay_steps, 1.0), 0.0)
    return jnp.asarray(optax.cosine_decay_schedule(1.0, decay_steps=1, alpha=FINAL_RATE)(share_done))
