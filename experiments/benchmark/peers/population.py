"""Many members of this project's `vanilla` or another preset in one program, for `growth`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.peers import LOSSES
from jaxgan.config import Config
from jaxgan.gan.batches import Dataset


class PopulationRun:
    """A population on all devices; on a CPU, one of them a core."""

    def __init__(self, config: Config, images: np.ndarray, members: int) -> None:
        # Not every version of the package has these rooms.
        self.rooms: Any = import_module("jaxgan.gan.population")
        devices: Any = import_module("jaxgan.devices")
        devices.use_cores(members)
        self.device, self.threads = jax.devices()[0].platform, devices.num_cores()
        self.config, self.members, self.mesh = config, members, devices.member_mesh(members)
        dataset = Dataset(jnp.asarray(images), jnp.zeros(len(images), jnp.int32))
        self.dataset = self.rooms.place_dataset(dataset, self.mesh)
        self.start(0)

    def start(self, seed: int) -> None:
        """Fresh members, with seeds from this one on."""
        configs = [replace(self.config, seed=seed + i) for i in range(self.members)]
        population = self.rooms.pad_population(self.rooms.init_population(configs), self.mesh.size)
        self.population = self.rooms.place_population(population, self.mesh)

    def train(self, steps: int, window: int) -> dict[str, float]:
        """Steps of every member; means over members, too."""
        trained = self.rooms.train_population(self.config, self.mesh, self.population, self.dataset, steps)
        self.population, metrics = trained
        return {name: float(np.nanmean(metrics[name][:, -window:])) for name in LOSSES}


def build(config: Config, images: np.ndarray, *, members: int) -> PopulationRun:
    """A population of runs of `config`, which differ in their seeds.

    Raises:
        ImportError: This version of the package trains no populations.
    """
    return PopulationRun(config, images, members)
