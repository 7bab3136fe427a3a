"""Sets of images whose scores give those of a generator a meaning: from real images down to noise."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from jaxgan.metrics.classifier import scale
from jaxgan.metrics.neighbours import BLOCK, squared_distances

KMEANS_ITERATIONS = 5

Training = UInt8[Array, "t h w c"]
Images = UInt8[Array, "n h w c"]


def real_images(key: Key[Array, ""], training: Training, n: int) -> Images:
    """N different training images: what a generator can hope for, at most."""
    return training[jax.random.permutation(key, len(training))[:n]]


def centroids(key: Key[Array, ""], training: Training, n: int) -> Images:
    """N centroids of training images by KMEANS_ITERATIONS of Lloyd's algorithm: blurred, yet dear to Parzen windows.

    Theis et al. 2016 (arXiv:1511.01844), section 3.2: their likelihood lies above that of real images.
    """
    points = scale(training).reshape(len(training), -1)
    means = points[jax.random.permutation(key, len(training))[:n]]
    for _ in range(KMEANS_ITERATIONS):
        means = _lloyd(points, means)
    return jnp.rint(means * 255.0).astype(jnp.uint8).reshape(n, *training.shape[1:])


@jax.jit
def _lloyd(points: Float[Array, "n d"], means: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Each mean moved to the middle of the points that are nearest to it; one that has none stays."""

    def nearest(point: Float[Array, " d"]) -> Array:
        return squared_distances(point[None], means)[0].argmin().astype(jnp.int32)

    owner = jax.lax.map(nearest, points, batch_size=BLOCK)
    sums = jax.ops.segment_sum(points, owner, len(means))
    counts = jax.ops.segment_sum(jnp.ones(len(points), points.dtype), owner, len(means))
    return jnp.where(counts[:, None] > 0.0, sums / jnp.maximum(counts, 1.0)[:, None], means)


def noise(key: Key[Array, ""], training: Training, n: int) -> Images:
    """N images of independent uniform pixels."""
    return jax.random.randint(key, (n, *training.shape[1:]), 0, 256, jnp.int32).astype(jnp.uint8)


def collapsed(_: Key[Array, ""], training: Training, n: int) -> Images:
    """One image n times: the end of a generator that found a single answer, here the image nearest to the mean."""
    points = scale(training).reshape(len(training), -1)
    typical = squared_distances(points.mean(axis=0)[None], points)[0].argmin()
    return jnp.repeat(training[typical][None], n, axis=0)


REFERENCES: dict[str, Callable[[Key[Array, ""], Training, int], Images]] = {
    "real": real_images,
    "k-means": centroids,
    "collapsed": collapsed,
    "noise": noise,
}
"""By name: key, training images, n -> n images."""

DRAWN_ONCE = ("k-means", "collapsed")
"""Sets that another key hardly changes, or not at all."""
