"""Classifier two-sample test: can a network learn to tell generated images from real ones?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt8

from jaxgan.metrics.classifier import classify, train_classifier

TRAIN_SHARE = 0.7
EPOCHS = 10

_SHUFFLE, _TRAIN = 0, 1


def two_sample_accuracy(key: Key[Array, ""], real: UInt8[Array, "n h w c"], fake: UInt8[Array, "m h w c"]) -> float:
    """Accuracy of a classifier on held-out images, trained to tell two sets apart; 0.5 where it cannot, 1 at worst.

    Lopez-Paz and Oquab 2017 (arXiv:1610.06545). Seven tenths of each set train the classifier, the rest answer: of
    10,000 images 7,000 and 3,000.

    Args:
        key: Decides the split and the training.
        real: Real images on 256 levels, as a picture file holds them.
        fake: As many generated images, likewise.

    Raises:
        ValueError: The sets differ in size.
    """
    n = len(real)
    if len(fake) != n:
        raise ValueError(f"the two sets must be of one size, not {n} and {len(fake)}")
    order = jax.random.permutation(jax.random.fold_in(key, _SHUFFLE), n)
    learn, answer = order[: int(TRAIN_SHARE * n)], order[int(TRAIN_SHARE * n) :]

    def pairs(indices: Array) -> tuple[Array, Array]:
        labels = jnp.repeat(jnp.arange(2, dtype=jnp.int32), len(indices))
        return jnp.concatenate([real[indices], fake[indices]]), labels

    images, labels = pairs(learn)
    params = train_classifier(jax.random.fold_in(key, _TRAIN), images, labels, classes=2, epochs=EPOCHS, shift=0)
    images, labels = pairs(answer)
    _, logits = classify(params, images)
    return float((logits.argmax(axis=1).astype(jnp.int32) == labels).mean(dtype=jnp.float32))
