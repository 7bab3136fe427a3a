"""Fréchet distance between two sets of features, each taken for a Gaussian."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Gaussian(NamedTuple):
    """Mean and covariance of features; the covariance is kept as a factor, whose rounding is harmless in float32."""

    mean: Float[Array, " features"]
    factor: Float[Array, "rank features"]
    """The covariance is factor^T factor."""


@jax.jit
def fit_gaussian(features: Float[Array, "n features"]) -> Gaussian:
    """Mean and unbiased covariance of n >= 2 features, the covariance as the triangle of a QR decomposition."""
    mean = features.mean(axis=0)
    centred = (features - mean[None]) / jnp.sqrt(jnp.asarray(features.shape[0] - 1, features.dtype))
    return Gaussian(mean, jnp.linalg.qr(centred, mode="r"))


@jax.jit
def frechet_distance(one: Gaussian, other: Gaussian) -> Float[Array, ""]:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), the squared 2-Wasserstein distance of two Gaussians, >= 0.

    Dowson and Landau 1982; on features of a classifier, Heusel et al. 2017 (arXiv:1706.08500). With C = F^T F the trace
    of the root is the sum of the singular values of F1 F2^T, which keeps float32's precision where a matrix root loses
    half of it.
    """
    product = jnp.matmul(one.factor, other.factor.T, precision=jax.lax.Precision.HIGHEST)
    shared = jnp.linalg.svd(product, compute_uv=False).sum()
    shift = jnp.square(one.mean - other.mean).sum()
    spread = jnp.square(one.factor).sum() + jnp.square(other.factor).sum() - 2.0 * shared
    return jnp.maximum(shift + spread, 0.0)
