"""Log-likelihood under a Parzen window: the measure of the paper of 2014, kept because it published with it."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgan.metrics.neighbours import BLOCK, squared_distances

SIGMAS = tuple(float(sigma) for sigma in np.logspace(-1.0, 0.0, 10))
"""The widths among which the protocol chooses."""


class ParzenScore(NamedTuple):
    """Mean log-likelihood of the test images in nats, its standard error over them, and the chosen width."""

    mean: float
    error: float
    sigma: float


@jax.jit
def parzen_log_likelihoods(
    samples: Float[Array, "n d"], points: Float[Array, "m d"], sigmas: Float[Array, " s"]
) -> Float[Array, "m s"]:
    """Log 1/n sum_i N(point; sample_i, sigma^2 I) of every point and width, in nats.

    Breuleux et al. 2011; Goodfellow et al. 2014 (arXiv:1406.2661), section 5. A high value does not mean good samples,
    nor the other way round (Theis et al. 2016, arXiv:1511.01844).
    """
    n, size = samples.shape
    scale = math.log(n) + 0.5 * size * jnp.log(2.0 * math.pi * jnp.square(sigmas))

    def one(point: Float[Array, " d"]) -> Float[Array, " s"]:
        exponents = -squared_distances(point[None], samples) / (2.0 * jnp.square(sigmas)[:, None])
        return jax.nn.logsumexp(exponents, axis=1) - scale

    return jax.lax.map(one, points, batch_size=BLOCK)


def parzen_score(
    samples: Float[Array, "n d"], validation: Float[Array, "v d"], test: Float[Array, "m d"]
) -> ParzenScore:
    """The protocol of 2014: the width of SIGMAS that is best on held-out training images, scored on the test images.

    Args:
        samples: Generated images, in [0, 1] and flat; the protocol has 10,000.
        validation: Images that choose the width; here 1,000.
        test: Images that are scored.
    """
    widths = jnp.asarray(SIGMAS, samples.dtype)
    best = int(parzen_log_likelihoods(samples, validation, widths).mean(axis=0).argmax())
    values = np.asarray(parzen_log_likelihoods(samples, test, widths[best : best + 1])[:, 0], np.float64)
    return ParzenScore(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), SIGMAS[best])
