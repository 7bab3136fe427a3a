"""Operations that a step has to do and bytes that it has to move, counted from the networks' shapes.

Only matrix products count: [b, m] times [m, n] takes 2 b m n operations. What is computed twice from the same numbers
is counted once, as XLA does it once: G's fakes where both players share latents, D's pass that a loss and a penalty
have in common. Element-wise work (activations, Adam, random numbers) is left out, so a share of the limit that is
stated with these counts is a lower bound; XLA's own analysis, which counts it, is above by no more than TOLERANCE in
every preset (`tests/benchmark/test_flops.py`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from jaxgan.config import Config

IMAGE_SHAPE = (28, 28, 1)
TOLERANCE = 0.10
"""The share by which XLA's count of a preset's step may exceed ours."""

_SMOOTH = ("silu", "tanh")


def step_flops(config: Config, image_shape: Sequence[int] = IMAGE_SHAPE) -> int:
    """Multiplications and additions of the matrix products in one step: the mean of steps with and without penalties.

    Raises:
        ValueError: There is a penalty, and D's activation is smooth, so that its second derivative makes further
            products; or one of D's layers is told how its inputs vary. Those are not counted here.
    """
    if config.disc.minibatch_std:
        raise ValueError("a step is counted where D judges each image by itself, without disc.minibatch_std")
    gen, disc = widths(config, image_shape)
    objective = config.objective
    if objective.has_penalty and objective.penalty_every > 1:
        penalised, plain = (
            step_flops(replace(config, objective=replace(objective, penalty_every=1, **weights)), image_shape)
            for weights in ({}, {"r1": 0.0, "r2": 0.0, "gradient_penalty": 0.0})
        )
        return plain + (penalised - plain) // objective.penalty_every
    if objective.has_penalty and config.disc.activation in _SMOOTH:
        raise ValueError(f"penalties are counted for piecewise linear activations, not {config.disc.activation}")
    forward_gen, forward_disc = products(gen), products(disc)
    # Going back, each layer has a product for its kernel's gradient and one for its input's; a player's first layer
    # needs its input's only where the gradient goes on, to the other player or into a penalty.
    back_gen = forward_gen + products(gen[1:])
    back_disc = forward_disc + products(disc[1:])
    # Under a penalty D goes back to the images and forward once more, and loss and penalty share the products of the
    # kernels' gradients (`jaxgan/gan/gradients.py`); the one output unit needs few of these. The mixtures of the
    # Wasserstein penalty are a batch of their own.
    hidden = products(disc[:-1])
    sides = [
        2 * forward_disc + 2 * hidden if weight else forward_disc + back_disc for weight in (objective.r1, objective.r2)
    ]
    disc_update = sum(sides) + 4 * hidden * (objective.gradient_penalty > 0)
    if objective.updates == "simultaneous":
        # Fakes and D's answers are those of its own update; a way back to the images is left, where R2 has not been it.
        gen_update = forward_gen + back_gen + (0 if objective.r2 else forward_disc)
        return 2 * config.batch_size * (disc_update + gen_update)
    gen_update = forward_gen + forward_disc + forward_disc + back_gen
    if not objective.has_halves:
        gen_update += forward_disc  # G's loss compares with real images, judged by the new D.
    fakes = 0 if config.latent.shared else forward_gen
    return 2 * (config.real_batch_size * (disc_update + fakes) + config.batch_size * gen_update)


def step_bytes(config: Config, image_shape: Sequence[int] = IMAGE_SHAPE) -> int:
    """The least bytes that a step of players that are told no labels moves if nothing stays on the chip between steps.

    Parameters, both moments of Adam and averages are read and written once, in float32; the batch is read as bytes.
    """
    gen, disc = (parameters(sizes) for sizes in widths(config, image_shape))
    disc -= config.objective.sees_differences_only
    if told := config.disc.minibatch_std:
        disc += products(widths(config, image_shape)[1][told - 1 : told + 1])  # One more kernel of that layer.
    norms = 2 * sum(config.gen.widths) if config.gen.batch_norm else 0
    state = 3 * (gen + disc + norms) + norms + (gen + norms if config.average_decay else 0)
    return 2 * 4 * state + config.real_batch_size * math.prod(image_shape)


def widths(config: Config, image_shape: Sequence[int] = IMAGE_SHAPE) -> tuple[list[int], list[int]]:
    """Units of every layer of both players, inputs and outputs among them."""
    pixels = math.prod(image_shape)
    return [config.latent.size, *config.gen.widths, pixels], [pixels, *config.disc.widths, 1]


def products(sizes: Sequence[int]) -> int:
    """Multiplications of one pass of one example through dense layers."""
    return sum(m * n for m, n in itertools.pairwise(sizes))


def parameters(sizes: Sequence[int]) -> int:
    """Numbers in the kernels and biases of dense layers."""
    return products(sizes) + sum(sizes[1:])
