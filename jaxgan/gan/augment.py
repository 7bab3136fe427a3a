"""What D sees in training instead of the images themselves, so that it cannot learn them by heart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from jaxgan.config import Config
from jaxgan.gan.batches import from_unit


def draw_offsets(
    config: Config, key: Key[Array, ""], n: int, probability: Float[Array, ""]
) -> Int32[Array, "n 2"] | None:
    """How far each of n images is moved down and right, in whole pixels; None without `augment.shift`.

    Args:
        config: What the run is; a move is drawn uniformly, of at most `augment.shift` each way, none among them.
        key: Decides all of it.
        n: How many images.
        probability: The share of images whose move is drawn, in (0, 1]; the others stay.
    """
    most = config.augment.shift
    if not most:
        return None
    which_key, far_key = jax.random.split(key)
    moved = jax.random.bernoulli(which_key, probability, (n, 1))
    return jnp.where(moved, jax.random.randint(far_key, (n, 2), -most, most + 1, jnp.int32), 0)


def move(
    config: Config, images: Float[Array, "batch h w c"], offsets: Int32[Array, "batch 2"] | None
) -> Float[Array, "batch h w c"]:
    """Images moved by `draw_offsets`, with black in the gaps; None moves nothing.

    Real and fake images are moved alike, and many are not moved, so G is not asked to move its own: what D sees
    determines the distribution of the images. Gradients reach G through the move.

    References:
        Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 2.
        Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", section 3.2.
    """
    if offsets is None:
        return images
    black = from_unit(config, jnp.zeros((), images.dtype))
    images = images - black
    for axis in (1, 2):
        images = _moved(images, offsets[:, axis - 1], config.augment.shift, axis)
    return images + black


def _moved(
    images: Float[Array, "batch h w c"], offsets: Int32[Array, " batch"], most: int, axis: int
) -> Float[Array, "batch h w c"]:
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
