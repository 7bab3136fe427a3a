"""D's logits together with their gradients by the images: what gradient penalties are made of."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxgan.config import Activation, Config
from jaxgan.gan.networks import Condition, activate, has_skip, judge

PIECEWISE_LINEAR: tuple[Activation, ...] = ("relu", "leaky_relu")


def judge_with_gradients(
    config: Config, params: PyTree, stats: PyTree, images: Float[Array, "batch h w c"], condition: Condition
) -> tuple[Float[Array, " batch"], Float[Array, "batch h w c"]]:
    """D's logits of images, as `judge` gives them, and the gradient of each logit by its image.

    With `disc.minibatch_std`, where an image moves the logits of the others, too, that of their sum.
    """
    is_alone = not config.disc.batch_norm and not config.disc.minibatch_std
    if is_alone and config.disc.activation in PIECEWISE_LINEAR:
        return _judge_piecewise_linear(config, params, images, condition)

    def total(images: Float[Array, "batch h w c"]) -> tuple[Float[Array, ""], Float[Array, " batch"]]:
        logits, _ = judge(config, params, stats, images, condition, training=True)
        return logits.sum(), logits

    gradients, logits = jax.grad(total, has_aux=True)(images)
    return logits, gradients


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _judge_piecewise_linear(
    config: Config, params: PyTree, images: Float[Array, "batch h w c"], condition: Condition
) -> tuple[Float[Array, " batch"], Float[Array, "batch h w c"]]:
    """`judge_with_gradients` of a D that is affine around every image, with a backward pass of two thirds the cost.

    Around an image x such a D is A x + B, so its gradient is A. A loss that pulls on the logit with c and on the
    gradient with v changes by c (A x + B) + v A = A (c x + v) + c B: by what D, its units kept in the linear pieces
    that x put them in, answers to the one input c x + v with its constants, the biases, `zero_pixel` and
    the condition, scaled by c.
    """

    def total(inputs: Float[Array, "batch h w c"]) -> Float[Array, ""]:
        ones = jnp.ones(images.shape[0], images.dtype)
        return _judge_in_pieces(config, params, images, condition, inputs, ones).sum()

    logits, _ = judge(config, params, {}, images, condition, training=True)
    return logits, jax.grad(total)(images)


def _judge_forward(
    config: Config, params: PyTree, images: Array, condition: Condition
) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
    logits, gradients = _judge_piecewise_linear(config, params, images, condition)  # pyright: ignore[reportGeneralTypeIssues]
    return (logits, gradients), (params, images, condition, gradients)


def _judge_backward(config: Config, kept: tuple[Any, ...], pulls: tuple[Array, Array]) -> tuple[PyTree, Array, None]:
    params, images, condition, gradients = kept
    on_logits, on_gradients = pulls
    inputs = on_logits[:, None, None, None] * images + on_gradients

    def total(params: PyTree) -> Float[Array, ""]:
        return _judge_in_pieces(config, params, images, condition, inputs, on_logits).sum()

    # Nothing is learned of a condition, so its own gradient is left out.
    return jax.grad(total)(params), on_logits[:, None, None, None] * gradients, None


_judge_piecewise_linear.defvjp(_judge_forward, _judge_backward)


def _judge_in_pieces(
    config: Config,
    params: PyTree,
    images: Float[Array, "batch h w c"],
    condition: Condition,
    inputs: Float[Array, "batch h w c"],
    constant_scales: Float[Array, " batch"],
) -> Float[Array, " batch"]:
    """What D answers to inputs with its units in the linear pieces that images put them in, and scaled constants."""
    scales = constant_scales[:, None]
    x, y = (array.reshape(array.shape[0], -1) for array in (images, inputs))
    if config.zero_pixel:
        x, y = x - config.zero_pixel, y - scales * config.zero_pixel
    act = partial(activate, config.disc.activation, negative_slope=config.disc.negative_slope)
    for i in range(len(config.disc.widths)):
        layer = params[f"hidden_{i}"]
        x_units = x @ layer["kernel"] + layer["bias"][None]
        y_units = y @ layer["kernel"] + scales * layer["bias"][None]
        if i == 0 and condition is not None:
            shown = condition @ params["condition"]["kernel"]
            x_units, y_units = x_units + shown, y_units + scales * shown
        x_after, y_after = jax.jvp(act, (x_units,), (y_units,))  # The tangent is y_units times the slopes at x_units.
        x, y = (x + x_after, y + y_after) if has_skip(config.disc, i) else (x_after, y_after)
    answers = y @ params["output"]["kernel"]
    if "bias" in params["output"]:
        answers = answers + scales * params["output"]["bias"][None]
    return answers.squeeze(-1)
