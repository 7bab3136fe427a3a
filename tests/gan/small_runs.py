"""What the tests of gan share: configs with some fields changed, tiny runs, and comparison to the bit."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan.config import Config, with_values
from jaxgan.gan.batches import Batch, Dataset, draw_batch
from jaxgan.presets import PRESETS

T = TypeVar("T")

TINY_SHAPE = (4, 4, 1)

LABEL_COUNTS = (4, 0, 3, 1)
"""Images of each class that conditional players are said to have."""

SYSTEMS = tuple(name for name in PRESETS if name not in ("best", "stacked"))
"""Presets of which the others are variants where neither members nor devices are looked at."""

draw = jax.jit(draw_batch, static_argnums=0)


changed = with_values


def tiny(**changes: Any) -> Config:
    """A config of a few hundred parameters; `__` stands for the dots in names of fields."""
    small = {"batch_size": 8, "gen.widths": (6, 5), "disc.widths": (7, 5), "latent.size": 3}
    return changed(Config(), small | {name.replace("__", "."): value for name, value in changes.items()})


GAME = tiny(objective__name="minimax", objective__r2=0.0)
"""One tiny game with every kind of number in it, of which the tests share the compiled programs."""


def random_dataset(
    n: int, shape: tuple[int, int, int] = (28, 28, 1), seed: int = 0, classes: int | None = None
) -> Dataset:
    """n images of random bytes; the label of an image is its index, modulo `classes` where there are any."""
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    return Dataset(jnp.asarray(images), jnp.arange(n, dtype=jnp.int32) % (classes or n))


def first_batch(config: Config, dataset: Dataset) -> Batch:
    """The first images of a data set as a batch, in the order of the files."""
    n = config.real_batch_size
    images = np.asarray(dataset.images[:n]) / 255.0
    images = images * 2.0 - 1.0 if config.gen.output != "sigmoid" else images
    return Batch(jnp.asarray(images, jnp.result_type(float)), dataset.labels[:n])


def bits(tree: Any) -> dict[str, np.ndarray]:
    """Every leaf of a tree by its path, as NumPy arrays; keys as the numbers that they hold."""

    def numbers(leaf: Any) -> np.ndarray:
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return {jax.tree_util.keystr(path): numbers(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def differing(a: Any, b: Any) -> list[str]:
    """The paths of the leaves that are not the same bits in two trees of one structure."""
    left, right = bits(a), bits(b)
    assert left.keys() == right.keys()
    return [path for path, leaf in left.items() if leaf.dtype != right[path].dtype or not _same(leaf, right[path])]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()
