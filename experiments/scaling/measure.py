"""Steps per second of one run on one and on two CPU devices, in turn, in one process.

    python experiments/scaling/measure.py [--repeats 7]

Both meshes have the same cores: XLA splits the matrix products of one CPU device over all of them. So two devices win
nothing but the work that one device leaves on one core, and pay for the exchange; how much, is what this shows.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import tyro
from jax.sharding import AxisType

from jaxgan import PRESETS, Config, Dataset, init_state, train_steps
from jaxgan.devices import replicate
from jaxgan.gan.batches import DATA


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    repeats: int = 7
    """Timed pieces of each."""
    seconds: float = 1.0
    """About how long a piece takes."""


class Run:
    """A run on the first devices."""

    def __init__(self, config: Config, count: int) -> None:
        mesh = jax.make_mesh((count,), (DATA,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
        images = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28, 1), np.uint8)
        dataset: Any = Dataset(images, np.zeros(10_000, np.int32))  # pyright: ignore[reportArgumentType]
        self._config, self._dataset = config, replicate(mesh, dataset)
        self._state = replicate(mesh, init_state(config, jax.random.key(0)))
        self.rate(2)

    def rate(self, steps: int) -> float:
        """Steps per second over so many."""
        began = time.perf_counter()
        self._state, _ = train_steps(self._config, self._state, self._dataset, steps)
        return steps / (time.perf_counter() - began)


def main(arguments: Arguments) -> None:
    """Prints the medians and the ratios of pairs."""
    jax.config.update("jax_num_cpu_devices", 2)
    for preset, batch in (("vanilla", 32), ("vanilla", 128), ("vanilla", 1024), ("modern", 128), ("modern", 1024)):
        config = replace(PRESETS[preset], batch_size=batch)
        one, two = Run(config, 1), Run(config, 2)
        steps = max(1, round(arguments.seconds * one.rate(4)))
        pairs = [(one.rate(steps), two.rate(steps)) for _ in range(arguments.repeats)]
        ratios = sorted(second / first for first, second in pairs)
        medians = " and ".join(f"{statistics.median(column):8,.1f}" for column in zip(*pairs, strict=True))
        print(
            f"{preset:<8} batch {batch:>5}: {medians} steps/s on 1 and 2 devices, "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
