"""Member-steps per second of populations of `vanilla`, beside runs one after the other, in turn.

    python -m experiments.benchmark.population [--members 2 8 16] [--steps 2000] [--repeats 5]

Runs one after the other and populations take turns, each in a process of its own that waits while another works: the
number of JAX's CPU devices is fixed when it starts. All train on the same random bytes, which cost what digits cost.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
import tyro

IMAGES = 55_000
ONE_BY_ONE = 0


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    members: tuple[int, ...] = (2, 8, 16)
    """Sizes of populations."""
    steps: int = 2000
    """Member-steps in one timed piece."""
    repeats: int = 5
    """Timed pieces of each."""


class Worker:
    """A process that makes member-steps when it is told to: of a population, or of one run after the other."""

    def __init__(self, members: int) -> None:
        line = [sys.executable, "-m", "experiments.benchmark.population", "--worker", str(members)]
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rate(self, steps: int) -> float:
        """Member-steps per second of one piece."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        """Lets the process end."""
        self._process.communicate()


def measure(members: tuple[int, ...], steps: int, repeats: int) -> dict[int, list[float]]:
    """Rates of every piece, by members; those of runs one after the other by ONE_BY_ONE."""
    workers = {size: Worker(size) for size in (ONE_BY_ONE, *members)}
    for size, worker in workers.items():
        worker.rate(max(20, 20 * size))  # Compiles, and warms up.
    rates: dict[int, list[float]] = {size: [] for size in workers}
    for _ in range(repeats):
        for size, worker in workers.items():
            rates[size].append(worker.rate(steps))
    for worker in workers.values():
        worker.end()
    return rates


def main(wanted: Arguments) -> None:
    """Prints the table."""
    rates = measure(wanted.members, wanted.steps, wanted.repeats)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jaxgan", "jax"))
    from jaxgan.devices import num_cores

    print(f"{platform.machine()}, {num_cores()} cores; {versions}")
    print(f"vanilla, {wanted.steps:,} member-steps a piece, median of {wanted.repeats} (least to most)")
    for size, values in rates.items():
        name = "one after the other" if size == ONE_BY_ONE else f"{size} members"
        pairs = [value / alone for value, alone in zip(values, rates[ONE_BY_ONE], strict=True)]
        ratio = f"ratio {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        print(f"{name:<20} {statistics.median(values):>7,.0f} member-steps/s {spread:<18} {ratio}")


def work(members: int) -> None:
    """What a worker does: a line in, how many member-steps to make; a line out, how many a second it made."""
    if members != ONE_BY_ONE:
        from jaxgan.devices import use_cores

        use_cores(members)
    run = _runs() if members == ONE_BY_ONE else _population(members)
    for line in sys.stdin:
        began = time.perf_counter()
        made = run(int(line))
        print(json.dumps(made / (time.perf_counter() - began)), flush=True)


def _runs() -> Callable[[int], int]:
    import jax

    from jaxgan import PRESETS, init_state, train_steps

    config, dataset = PRESETS["vanilla"], _dataset()
    state = init_state(config, jax.random.key(0))

    def run(steps: int) -> int:
        nonlocal state
        state, _ = train_steps(config, state, dataset, steps)
        return steps

    return run


def _population(members: int) -> Callable[[int], int]:
    from jaxgan import PRESETS
    from jaxgan.devices import member_mesh
    from jaxgan.gan.population import (
        init_population,
        pad_population,
        place_dataset,
        place_population,
        train_population,
    )

    config, mesh = PRESETS["vanilla"], member_mesh(members)
    dataset = place_dataset(_dataset(), mesh)
    seeds = [replace(config, seed=seed) for seed in range(members)]
    population = place_population(pad_population(init_population(seeds), mesh.size), mesh)

    def run(steps: int) -> int:
        nonlocal population
        each = max(1, steps // members)
        population, _ = train_population(config, mesh, population, dataset, each)
        return each * members

    return run


def _dataset() -> Any:
    import jax.numpy as jnp

    from jaxgan import Dataset

    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28, 1), np.uint8)
    return Dataset(jnp.asarray(images), jnp.zeros(IMAGES, jnp.int32))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(int(sys.argv[2]))
    else:
        main(tyro.cli(Arguments, description=__doc__))
