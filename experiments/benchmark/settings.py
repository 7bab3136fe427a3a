"""What an invocation measures, on which data, and how long it looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from jaxgan.config import Config, DataConfig
from jaxgan.presets import PRESETS

if TYPE_CHECKING:
    from jaxgan.gan.batches import Dataset

SYSTEMS = ("vanilla", "leaky-tanh", "deep-batchnorm", "logged", "gaussian-leaky", "modern")


@dataclass(frozen=True)
class Settings:
    """How thoroughly."""

    systems: tuple[str, ...] = SYSTEMS
    """Presets that are timed."""
    peers: tuple[str, ...] = ()
    """Peers beside jaxgan; by default all that are installed."""
    repeats: int = 5
    """Timed pieces of each peer and system."""
    seconds: float = 0.6
    """Length of a piece."""
    seeds: int = 8
    """Trainings of each peer whose losses are compared."""
    check_steps: int = 100
    """Steps of each of them; the mean of the second half is compared."""
    whole_steps: int = 100_000
    """Steps of the run that is timed as a whole process."""
    quality_steps: int = 16_000
    """The most steps that `modern` makes on its way to a Fréchet distance of 10."""
    largest: float = 1e12
    """The most operations in a step, of all members, of what `growth` times."""


QUICK = Settings(
    systems=("vanilla", "deep-batchnorm"),
    repeats=2,
    seconds=0.1,
    seeds=3,
    check_steps=20,
    whole_steps=300,
    quality_steps=200,
    largest=1e9,
)
"""Whether all works, in a minute or two: its figures mean nothing."""


@dataclass(frozen=True)
class Work:
    """Settings, and the images that all train on."""

    settings: Settings
    data: DataConfig
    images: Path
    """A file of uint8 [n, 28, 28, 1]."""

    def config(self, preset: str) -> Config:
        """A preset on this data."""
        config = PRESETS[preset]
        return replace(config, data=replace(self.data, holdout=config.data.holdout, order=config.data.order))


@contextmanager
def prepared(settings: Settings, data: DataConfig) -> Iterator[Work]:
    """The images of the training split in a file that lasts as long as the with block."""
    from jaxgan.data.dataset import load_dataset, resolve

    data = resolve(data, print)
    images = np.asarray(load_dataset(Config(data=data), "train").images)
    with TemporaryDirectory(prefix="jaxgan-benchmark-") as folder:
        path = Path(folder) / "images.npy"
        np.save(path, images, allow_pickle=False)
        yield Work(settings, data, path)


def on_device(work: Work) -> Dataset:
    """The images on the device of this process."""
    import jax.numpy as jnp

    from jaxgan.gan.batches import Dataset

    images = np.load(work.images, allow_pickle=False)
    return Dataset(jnp.asarray(images), jnp.zeros(len(images), jnp.int32))
