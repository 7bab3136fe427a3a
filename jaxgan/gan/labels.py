"""What images show: labels for conditional players, which are told them, and may be asked for them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Int32, Key

from jaxgan.gan.networks import Condition
from jaxgan.gan.state import TrainState

Labels = Int32[Array, " labels"] | Float[Array, "labels classes"]
"""A class for each image, or weights of all classes."""

_LABELS = 2**31  # Folded into a key that draws latents, too: far from the few counters that they take of it.


def count_labels(labels: Int[Array, " n"] | Int[np.ndarray, " n"]) -> tuple[int, ...]:
    """How many images each class has, from label 0 on: what `init_state` takes for a conditional config."""
    return tuple(np.bincount(np.asarray(labels)).tolist())


def draw_labels(state: TrainState, key: Key[Array, ""], n: int) -> Int32[Array, " n"] | None:
    """Draws n classes, each as often as the training images have it; None where the players are not conditional."""
    if state.label_counts is None:
        return None
    counts, key = state.label_counts, jax.random.fold_in(key, _LABELS)
    return jax.random.choice(key, counts.shape[-1], (n,), p=counts / counts.sum()).astype(jnp.int32)


def condition_on(state: TrainState, labels: Labels | None) -> Condition:
    """Labels as the input of conditional players: one-hot vectors, or the weights as they are.

    Args:
        state: Of players that are conditional, or not.
        labels: Of n images; players that are not conditional are told nothing.

    Raises:
        ValueError: The players are conditional and there are no labels, or weights of another number of classes.
    """
    if state.label_counts is None:
        return None
    if labels is None:
        raise ValueError("labels: conditional players need a label for each image")
    classes = state.label_counts.shape[-1]
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, classes, dtype=state.label_counts.dtype)
    if labels.shape[1] != classes:
        raise ValueError(f"labels: there are weights of {labels.shape[1]} classes, not of {classes}")
    return labels


def check_labels(state: TrainState, labels: Labels) -> None:
    """Raises ValueError where a label is of none of the classes; labels that are traced cannot be looked at."""
    if labels.ndim == 2 or isinstance(labels, Tracer):
        return
    assert state.label_counts is not None, "players that are not conditional have no classes"
    classes = state.label_counts.shape[-1]
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise ValueError(f"labels: the classes are 0 to {classes - 1}")
