"""The compiled training program: many steps in one call, without a word from the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from jaxgan.config import Config
from jaxgan.gan.batches import Batch, Block, Dataset, check_batch_size, draw_batch, make_batch, whole
from jaxgan.gan.compiled import Compiled
from jaxgan.gan.networks import image_shape_of
from jaxgan.gan.objectives import metric_names
from jaxgan.gan.state import TrainState
from jaxgan.gan.updates import train_step

CAPACITY = 8192
"""The most steps that one call of the compiled training program makes."""


@partial(Compiled, donate_argnums=1)
def train_loop(
    config: Config, state: TrainState, dataset: Dataset, num_steps: Int32[Array, ""]
) -> tuple[TrainState, Float[Array, "capacity names"]]:
    """The compiled training program: up to CAPACITY steps on the device; consumes (donates) `state`.

    The length is traced, so that pieces of any length run one program and a run has the same bits wherever it is cut.

    Returns:
        The state after `num_steps` steps, and a row a step of the metrics named by `metric_names`; rows past
        `num_steps` are zero.
    """
    return _loop(config, state, CAPACITY, num_steps, lambda s: draw_batch(config, dataset, s.key, s.step))


@partial(Compiled, donate_argnums=1)
def block_loop(
    config: Config, state: TrainState, block: Block, num_steps: Int32[Array, ""]
) -> tuple[TrainState, Float[Array, "steps names"]]:
    """`train_loop` on the served images of a block of steps, in which step s has row s % (steps of the block)."""
    steps = block.images.shape[0]

    def served_batch(state: TrainState) -> Batch:
        row = state.step % steps
        return make_batch(config, block.images[row], block.labels[row])

    return _loop(config, state, steps, num_steps, served_batch)


def _loop(
    config: Config,
    state: TrainState,
    capacity: int,
    num_steps: Int32[Array, ""],
    batch_of: Callable[[TrainState], Batch],
) -> tuple[TrainState, Float[Array, "capacity names"]]:
    names = metric_names(config)

    def body(i: Int32[Array, ""], carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        state, rows = carry
        state, metrics = train_step(config, state, batch_of(state))
        return state, rows.at[i].set(jnp.stack([metrics[name] for name in names]))

    rows = jnp.zeros((capacity, len(names)), jnp.result_type(float))
    return whole(jax.lax.fori_loop(jnp.int32(0), num_steps, body, (state, rows)))


def train_steps(
    config: Config, state: TrainState, dataset: Dataset, num_steps: int
) -> tuple[TrainState, Mapping[str, Float[np.ndarray, " steps"]]]:
    """Makes `num_steps` steps in one compiled program and waits for them; consumes (donates) `state`.

    Args:
        config: What the run is; its numbers, such as learning rates, are those that `init_state` put into the state.
        state: State s; it cannot be used afterwards.
        dataset: Training images, resident on the device.
        num_steps: Steps to make, >= 0.

    Returns:
        State s + num_steps, and the metrics of every step by name.

    Raises:
        InputError: The batch is larger than the data set.
        ValueError: `num_steps` is negative, or the state draws images of another shape than the data set's.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be 0 or more, not {num_steps}")
    if (shape := image_shape_of(state.params.gen)) != dataset.images.shape[1:]:
        raise ValueError(
            f"the state is of images {shape}, the data set of {dataset.images.shape[1:]}: "
            "init_state takes that shape as its third argument"
        )
    check_batch_size(config, dataset.images.shape[0])
    pieces = [np.zeros((0, len(metric_names(config))), np.float32)]
    for start in range(0, num_steps, CAPACITY):
        length = min(CAPACITY, num_steps - start)
        state, rows = train_loop(config, state, dataset, jnp.int32(length))
        pieces.append(np.asarray(rows)[:length])
    return state, dict(zip(metric_names(config), np.concatenate(pieces).T, strict=True))


def train_block(
    config: Config, state: TrainState, block: Block, num_steps: int
) -> tuple[TrainState, Mapping[str, Float[np.ndarray, " steps"]]]:
    """`train_steps` on images that are served: up to the end of a block; consumes (donates) `state`.

    Args:
        config: What the run is.
        state: State s; it cannot be used afterwards.
        block: The images of b steps, of which s - s % b is the first.
        num_steps: Steps to make, from 0 to b - s % b.

    Returns:
        State s + num_steps, and the metrics of every step by name.
    """
    state, rows = block_loop(config, state, block, jnp.int32(num_steps))
    return state, dict(zip(metric_names(config), np.asarray(rows)[:num_steps].T, strict=True))
