"""Who is timed: `jaxgan`, and others who train the same GAN in the fastest way that their users know.

One module a peer, each with `build(config, images)`; `__main__.py` runs one of them in a process of its own, since
TensorFlow and JAX must not share one. What all have in common:

- the data set lies in memory as bytes, where the framework computes if it can; a batch is gathered and scaled there;
- a step is D's update (where the preset says so, two) and G's against the new D, by the published formulas;
- losses are looked at once a piece, so that nobody waits for the host; only TensorFlow 1 and Keras 3 hand them over at
  every step, as their users have it, which on a GPU is a transfer a step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from jaxgan.config import Config

LOSSES = ("loss/disc", "loss/gen")


class Peer(Protocol):
    """One training, which goes on where it stopped."""

    device: str
    """What it computes on, such as `cpu` or `cuda`."""
    threads: int
    """Threads that it computes with on a CPU."""

    def start(self, seed: int) -> None:
        """Makes fresh networks and optimisers at rest; what was compiled stays."""
        ...

    def train(self, steps: int, window: int) -> dict[str, float]:
        """Makes steps and waits for them; the means of both losses over the last `window` of them."""
        ...


@dataclass(frozen=True)
class Entry:
    """What is known of a peer before it is imported."""

    title: str
    module: str
    libraries: tuple[str, ...]
    """Modules whose versions decide its speed."""
    systems: tuple[str, ...] | None = None
    """Presets that it trains; None is all."""


PEERS: dict[str, Entry] = {
    "jaxgan": Entry("jaxgan", "ours", ("jaxgan", "jax", "jaxlib")),
    "jax-loop": Entry("JAX host loop", "jax_loop", ("jax", "jaxlib", "flax", "optax")),
    "torch-eager": Entry("PyTorch eager", "torch_eager", ("torch",)),
    "torch-compile": Entry("torch.compile", "torch_compile", ("torch",)),
    "torch-graph": Entry("PyTorch, CUDA graph", "torch_graph", ("torch",)),
    "tensorflow1": Entry("TensorFlow 1 graph", "tensorflow1", ("tensorflow",)),
    "keras": Entry("Keras 3", "keras3", ("keras", "tensorflow"), systems=("deep-batchnorm",)),
}
OURS = "jaxgan"
POPULATION = "population"


class NeedsGPU(Exception):  # noqa: N818 (it is a fact, not a mistake)
    """The peer is about a GPU, and there is none."""


def build(name: str, config: Config, images: np.ndarray, **options: Any) -> Peer:
    """A peer, or a population, that trains a config on images uint8 [n, h, w, 1].

    Raises:
        ImportError: Its libraries are not installed.
        NeedsGPU: It needs one.
    """
    module = POPULATION if name == POPULATION else PEERS[name].module
    make: Callable[..., Peer] = import_module(f"{__name__}.{module}").build
    return make(config, images, **options)


class EpochOrder:
    """Which images a step looks at, for peers that shuffle on the host: whole batches of shuffled epochs, or draws.

    As in the loops of their users, what is left of an epoch after its last whole batch is not looked at.
    """

    def __init__(self, config: Config, n: int) -> None:
        self.n, self.batch = n, config.real_batch_size
        self.replacement = config.data.order == "replacement"
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begins anew, in an order of this seed."""
        self.rng = np.random.default_rng(seed)
        self.order, self.offset = np.zeros(0, np.int32), 0

    def next(self) -> np.ndarray:
        """Indices int32 [batch] of the next step."""
        if self.replacement:
            return self.rng.integers(0, self.n, self.batch, np.int32)
        if self.offset + self.batch > len(self.order):
            self.order, self.offset = self.rng.permutation(self.n).astype(np.int32), 0
        self.offset += self.batch
        return self.order[self.offset - self.batch : self.offset]
