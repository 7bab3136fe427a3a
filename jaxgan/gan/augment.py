"""What D sees in training instead of the images themselves, so that it cannot learn them by heart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxgan.config import Config
from jaxgan.gan.batches import from_unit


def augment(
    config: Config, key: Key[Array, ""], images: Float[Array, "batch h w c"], probability: Float[Array, ""]
) -> Float[Array, "batch h w c"]:
    """Moves some of the images by up to `config.augment.shift` pixels each way; black fills the gap.

    Real and fake images are moved alike and most of the time not by much, so G is not asked to move its own: the
    distribution of what D sees determines that of the images, and gradients reach G through the move.

    Args:
        config: What the run is; without `augment.shift` the images stay as they are.
        key: Decides which images are moved, and how far.
        images: In the range of the generator's output.
        probability: The share of images that are moved, in (0, 1].

    References:
        Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 2.
        Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", section 3.2.
    """
    most = config.augment.shift
    if not most:
        return images
    which_key, far_key = jax.random.split(key)
    moved = jax.random.bernoulli(which_key, probability, (images.shape[0], 1))
    offsets = jnp.where(moved, jax.random.randint(far_key, (images.shape[0], 2), -most, most + 1), 0)
    black = from_unit(config, jnp.zeros((), images.dtype))
    images = images - black
    for axis in (1, 2):
        images = _moved(images, offsets[:, axis - 1], most, axis)
    return images + black


def _moved(images: Float[Array, "batch h w c"], offsets: Array, most: int, axis: int) -> Float[Array, "batch h w c"]:
    """Each image moved along an axis by its own offset, zeros behind it.

    Written as a sum of copies of the whole batch, all but one of them times zero: its gradient is such a sum as well,
    where that of a gather would be a scatter.
    """
    size = images.shape[axis]
    padding = [(0, 0)] * 4
    padding[axis] = (most, most)
    padded = jnp.pad(images, padding)
    chosen = (offsets[:, None] == jnp.arange(-most, most + 1)[None]).astype(images.dtype)
    return sum(
        chosen[:, offset + most, None, None, None]
        * jax.lax.slice_in_dim(padded, most - offset, most - offset + size, axis=axis)
        for offset in range(-most, most + 1)
    )  # pyright: ignore[reportReturnType]
