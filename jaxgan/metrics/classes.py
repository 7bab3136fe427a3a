"""Scores from the classes that a classifier sees in samples."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32


@jax.jit
def classifier_score(logits: Float[Array, "n classes"]) -> Float[Array, ""]:
    """Exp of the mean of KL(p(y|x) || p(y)), from 1 (blurred or all of one class) to the number of classes.

    The Inception score of Salimans et al. 2016 (arXiv:1606.03498) with a classifier of the data's own classes; p(y) is
    the mean of p(y|x) over the samples.
    """
    log_given = jax.nn.log_softmax(logits)
    log_marginal = jax.nn.logsumexp(log_given, axis=0) - jnp.log(jnp.asarray(logits.shape[0], logits.dtype))
    return jnp.exp((jnp.exp(log_given) * (log_given - log_marginal[None])).sum(axis=1).mean())


@partial(jax.jit, static_argnums=1)
def class_shares(labels: Int32[Array, " n"], classes: int) -> Float[Array, " classes"]:
    """The share of each class among labels from 0 to classes - 1."""
    return jnp.bincount(labels, length=classes).astype(jnp.float32) / float(labels.shape[0])


@jax.jit
def classes_hit(shares: Float[Array, " classes"]) -> Int32[Array, ""]:
    """How many classes have any sample: modes covered (Srivastava et al. 2017, arXiv:1705.07761)."""
    return (shares > 0.0).sum(dtype=jnp.int32)


@jax.jit
def reverse_kl(shares: Float[Array, " classes"], real_shares: Float[Array, " classes"]) -> Float[Array, ""]:
    """KL(generated || real) of two class histograms in nats, >= 0; infinite where a class is not in the real one.

    The measure of lost modes of Metz et al. 2017 (arXiv:1611.02163) on Stacked MNIST.
    """
    return jax.scipy.special.rel_entr(shares, real_shares).sum()
