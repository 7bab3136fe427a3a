"""The compiled training program: many steps in one call, without a word from the host."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from jaxgan.config import Config
from jaxgan.gan.batches import Dataset, check_batch_size, draw_batch
from jaxgan.gan.compiled import Compiled
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
    names = metric_names(config)

    def body(i: Int32[Array, ""], carry: tuple[TrainState, Array]) -> tuple[TrainState, Array]:
        state, rows = carry
        state, metrics = train_step(config, state, draw_batch(config, dataset, state.key, state.step))
        return state, rows.at[i].set(jnp.stack([metrics[name] for name in names]))

    rows = jnp.zeros((CAPACITY, len(names)), jnp.result_type(float))
    return jax.lax.fori_loop(jnp.int32(0), num_steps, body, (state, rows))


def train_steps(
    config: Config, state: TrainState, dataset: Dataset, num_steps: int
) -> tuple[TrainState, Mapping[str, Float[np.ndarray, " steps"]]]:
    """Makes `num_steps` steps in one compiled program and waits for them; consumes (donates) `state`.

    Args:
        config: What the run is.
        state: State s; it cannot be used afterwards.
        dataset: Training images, resident on the device.
        num_steps: Steps to make, >= 0.

    Returns:
        State s + num_steps, and the metrics of every step by name.

    Raises:
        InputError: The batch is larger than the data set.
        ValueError: `num_steps` is negative.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be 0 or more, not {num_steps}")
    check_batch_size(config, dataset.images.shape[0])
    pieces = [np.zeros((0, len(metric_names(config))), np.float32)]
    for start in range(0, num_steps, CAPACITY):
        length = min(CAPACITY, num_steps - start)
        state, rows = train_loop(config, state, dataset, jnp.int32(length))
        pieces.append(np.asarray(rows)[:length])
    return state, dict(zip(metric_names(config), np.concatenate(pieces).T, strict=True))
