"""Steps per second of `vanilla`: `train_steps` and an eager PyTorch loop in turn, beside the machine's matmul rate.

    pip install '.[benchmark]'
    python experiments/benchmark/steps.py [--steps 2000] [--repeats 5]

Both train on the same random bytes, which cost what digits cost. Prints every repeat's median, the ratio pair by pair,
and the share of the rate of a large float32 matrix product that the multiplications of a step reach.
"""

from __future__ import annotations

import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import tyro

from jaxgan import PRESETS, Config, Dataset, init_state, train_steps

IMAGES = 55_000
PIXELS = 28 * 28


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    steps: int = 2000
    """Steps in one timed piece."""
    repeats: int = 5
    """Timed pieces of each."""


def flops_per_step(config: Config) -> int:
    """Multiplications and additions of the matrix products in one step, from the networks' shapes.

    For joint updates without penalties. A product of [b, m] and [m, n] takes 2 b m n.
    """
    gen = [config.latent.size, *config.gen.widths, PIXELS]
    disc = [PIXELS, *config.disc.widths, 1]
    forward_gen, forward_disc = _products(gen), _products(disc)
    # Going back, each layer has one product for its kernel's gradient and one for its input's; a player's first layer
    # needs its input's only where the gradient goes on to the other player.
    back_to_kernels_gen = forward_gen + _products(gen[1:])
    back_to_kernels_disc = forward_disc + _products(disc[1:])
    disc_update = forward_gen + 2 * (forward_disc + back_to_kernels_disc)
    gen_update = forward_gen + forward_disc + forward_disc + back_to_kernels_gen
    return 2 * config.batch_size * (disc_update + gen_update)


def _products(widths: list[int]) -> int:
    return sum(m * n for m, n in itertools.pairwise(widths))


def matmul_rate(size: int = 4096, repeats: int = 5) -> float:
    """The best rate of a float32 product of two square matrices, in floating-point operations per second."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda x: x @ x)
    multiply(a).block_until_ready()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        multiply(a).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def jaxgan_steps(config: Config, images: np.ndarray) -> Callable[[int], dict[str, float]]:
    """A function that makes n steps of this project's training program."""
    dataset = Dataset(jnp.asarray(images[..., None]), jnp.zeros(len(images), jnp.int32))
    state = init_state(config, jax.random.key(0))

    def run(steps: int) -> dict[str, float]:
        nonlocal state
        state, metrics = train_steps(config, state, dataset, steps)
        return {"loss/disc": float(metrics["loss/disc"][-1]), "loss/gen": float(metrics["loss/gen"][-1])}

    return run


def torch_steps(config: Config, images: np.ndarray) -> Callable[[int], dict[str, float]]:
    """A function that makes n steps of the loop that PyTorch users write, with the data in memory as one tensor."""
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn.functional import (  # pyright: ignore[reportMissingImports]
        binary_cross_entropy_with_logits as cross_entropy,
    )

    torch.manual_seed(0)
    gen = nn.Sequential(nn.Linear(config.latent.size, 128), nn.ReLU(), nn.Linear(128, PIXELS), nn.Sigmoid())
    disc = nn.Sequential(nn.Linear(PIXELS, 128), nn.ReLU(), nn.Linear(128, 1))
    rates = {"lr": config.gen.optimizer.learning_rate, "betas": (config.gen.optimizer.b1, config.gen.optimizer.b2)}
    gen_adam, disc_adam = (torch.optim.Adam(player.parameters(), **rates) for player in (gen, disc))
    data = torch.from_numpy(images.reshape(len(images), PIXELS))
    batch = config.batch_size
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)

    def latents() -> torch.Tensor:
        return torch.rand(batch, config.latent.size) * 2 - 1

    def batches() -> Iterator[torch.Tensor]:
        while True:
            for indices in torch.randperm(len(data)).split(batch):
                if len(indices) == batch:
                    yield data[indices].float() / 255

    stream = batches()

    def run(steps: int) -> dict[str, float]:
        disc_loss = gen_loss = torch.zeros(())
        for _ in range(steps):
            with torch.no_grad():
                fake = gen(latents())
            disc_loss = cross_entropy(disc(next(stream)), ones) + cross_entropy(disc(fake), zeros)
            disc_adam.zero_grad()
            disc_loss.backward()
            disc_adam.step()
            # D's own gradients are not needed here, so PyTorch is spared computing them.
            disc.requires_grad_(False)
            gen_loss = cross_entropy(disc(gen(latents())), ones)
            gen_adam.zero_grad()
            gen_loss.backward()
            gen_adam.step()
            disc.requires_grad_(True)
        return {"loss/disc": disc_loss.item(), "loss/gen": gen_loss.item()}

    return run


def rate(run: Callable[[int], dict[str, float]], steps: int) -> float:
    """Steps per second of one piece."""
    began = time.perf_counter()
    run(steps)
    return steps / (time.perf_counter() - began)


def main() -> None:
    """Prints the table."""
    wanted = tyro.cli(Arguments, description=__doc__)
    config = PRESETS["vanilla"]
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28), np.uint8)
    peers = {"jaxgan": jaxgan_steps(config, images), "PyTorch eager": torch_steps(config, images)}
    for run in peers.values():
        run(100)  # Compiles, and warms up.
    rates: dict[str, list[float]] = {name: [] for name in peers}
    limits = []
    for _ in range(wanted.repeats):
        limits.append(matmul_rate())
        for name, run in peers.items():
            rates[name].append(rate(run, wanted.steps))
    limit, flops = statistics.median(limits), flops_per_step(config)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jaxgan", "jax", "torch"))
    print(f"{jax.devices()[0].device_kind}, {platform.machine()}, {torch.get_num_threads()} threads; {versions}")
    print(f"vanilla, {wanted.steps:,} steps a piece, median of {wanted.repeats} (least to most)")
    print(
        f"matmul of 4096: {limit / 1e9:,.0f} GFLOP/s; a step is {flops / 1e6:,.0f} MFLOP: {limit / flops:,.0f} steps/s"
    )
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"({min(values):,.0f} to {max(values):,.0f})"
        share = f"{median * flops / 1e9:,.0f} GFLOP/s, {median * flops / limit:.0%} of the matmul rate"
        print(f"{name:<14} {median:>7,.0f} steps/s {spread:<18} {share}")
    ratios = [ours / theirs for ours, theirs in zip(rates["jaxgan"], rates["PyTorch eager"], strict=True)]
    print(f"ratio          {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
