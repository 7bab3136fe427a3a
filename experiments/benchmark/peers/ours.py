"""This project: `train_steps`, many steps in one compiled program."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.peers import LOSSES
from jaxgan import Config, Dataset, init_state, train_steps


class Ours:
    """The way of the README."""

    def __init__(self, config: Config, images: np.ndarray) -> None:
        self.config = config
        self.dataset = Dataset(jnp.asarray(images), jnp.zeros(len(images), jnp.int32))
        self.device = jax.devices()[0].platform
        self.threads = len(os.sched_getaffinity(0))
        self.start(0)

    def start(self, seed: int) -> None:
        """A fresh state."""
        self.state = init_state(self.config, jax.random.key(seed), self.dataset.images.shape[1:])  # pyright: ignore[reportArgumentType]

    def train(self, steps: int, window: int) -> dict[str, float]:
        """A piece of a run."""
        self.state, metrics = train_steps(self.config, self.state, self.dataset, steps)
        return {name: float(metrics[name][-window:].mean()) for name in LOSSES}


def build(config: Config, images: np.ndarray) -> Ours:
    """A run of `config`."""
    return Ours(config, images)
