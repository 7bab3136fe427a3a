"""When several devices pay for one GAN: step time on paper, from a step's FLOPs and the bytes of its gradients.

    python experiments/scaling/model.py

A step on n devices takes

    floor + FLOPs(batch / n) / rate + all-reduces(n),

where the floor is what a step costs however small its batch (starting kernels, Adam, random numbers), and a step has
two all-reduces in a row, of D's gradient and of G's, each of `latency` + 2 (n - 1) / n * bytes / bandwidth (a ring).
FLOPs are counted in the program as XLA compiles it. A member of a population exchanges nothing: n devices make n times
the steps.

Rates, bandwidths and latencies are assumptions, of the order that vendors' tables and libraries' tests give; put in
what you measure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp

from jaxgan import PRESETS, Batch, Config, init_state, train_step

WIDTHS = (128, 512, 2048, 8192)
BATCHES = tuple(2**i for i in range(7, 18))
DEVICES = 8


@dataclass(frozen=True)
class Machine:
    """Devices that train together."""

    name: str
    rate: float
    """FLOP/s of a device in matrix products of these shapes: about a third of the peak."""
    floor: float
    """Seconds of a step with next to no work."""
    bandwidth: float
    """Bytes/s between a device and its neighbour in the ring, one way."""
    latency: float
    """Seconds of an all-reduce of next to no bytes."""


MACHINES = (
    Machine("8 H100, NVLink", rate=150e12, floor=200e-6, bandwidth=350e9, latency=25e-6),
    Machine("8 hosts of one H100, 100 Gb/s", rate=150e12, floor=200e-6, bandwidth=10e9, latency=150e-6),
    Machine("8 TPU v5e", rate=60e12, floor=50e-6, bandwidth=45e9, latency=15e-6),
)


def preset_of_width(width: int) -> Config:
    """`modern` with two hidden layers of a width in both players."""
    config = PRESETS["modern"]
    widths = (width, width)
    return replace(config, gen=replace(config.gen, widths=widths), disc=replace(config.disc, widths=widths))


@cache
def flops_per_image(config: Config) -> float:
    """FLOPs of a step that grow with the batch, for one image of it."""
    few, many = (_flops(replace(config, batch_size=batch)) for batch in (128, 256))
    return (many - few) / 128


def _flops(config: Config) -> float:
    state = jax.eval_shape(lambda: init_state(config, jax.random.key(0)))
    batch = Batch(jnp.zeros((config.batch_size, 28, 28, 1)), jnp.zeros(config.batch_size, jnp.int32))
    return train_step.program.lower(config.structure, state, batch).compile().cost_analysis()["flops"]


def gradient_bytes(config: Config) -> tuple[int, int]:
    """Bytes of the gradients of D and of G, which are float32."""
    params = jax.eval_shape(lambda: init_state(config, jax.random.key(0))).params
    disc, gen = (4 * sum(leaf.size for leaf in jax.tree.leaves(player)) for player in (params.disc, params.gen))
    return disc, gen


def step_seconds(machine: Machine, config: Config, batch: int, devices: int) -> float:
    """Seconds of a step on so many devices."""
    seconds = machine.floor + flops_per_image(config) * batch / devices / machine.rate
    if devices > 1:
        ring = 2 * (devices - 1) / devices / machine.bandwidth
        seconds += sum(machine.latency + ring * size for size in gradient_bytes(config))
    return seconds


def table(machine: Machine) -> Iterator[str]:
    """Lines: how many times faster 8 devices make a step, by width and batch, and where half of their number is won."""
    yield f"{machine.name}: one run on {DEVICES} devices, times the steps/s of one device"
    yield f"{'width':>7}{'MB':>8}" + "".join(f"{batch:>8}" for batch in BATCHES[::2]) + "   4 times from batch"
    for width in WIDTHS:
        config = preset_of_width(width)
        gain = {b: step_seconds(machine, config, b, 1) / step_seconds(machine, config, b, DEVICES) for b in BATCHES}
        enough = next((f"{batch:,}" for batch in BATCHES if gain[batch] >= DEVICES / 2), f"over {BATCHES[-1]:,}")
        megabytes = sum(gradient_bytes(config)) / 1e6
        yield f"{width:>7}{megabytes:>8.1f}" + "".join(f"{gain[b]:>8.2f}" for b in BATCHES[::2]) + f"{enough:>21}"


def main() -> None:
    """Prints a table for each machine."""
    for machine in MACHINES:
        print("\n".join(table(machine)), end="\n\n")
    print(f"a population on the same devices: {DEVICES}.00 times the member-steps/s, at any width and batch")


if __name__ == "__main__":
    main()
