"""Everything that a training is, as one pytree."""

from __future__ import annotations

from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key, PyTree

from jaxgan.config import Config, OptimizerConfig
from jaxgan.gan.networks import discriminator, generator

# Folded into the run's key first: one constant per purpose (ORDER = 1 is in `batches.py`), then a counter.
INIT, STEP, SAMPLE, EVALUATE = 0, 2, 3, 4

IMAGE_SHAPE = (28, 28, 1)

T = TypeVar("T")


class Players(NamedTuple, Generic[T]):
    """One thing for each player."""

    gen: T
    disc: T


class AdamHyper(NamedTuple):
    """`OptimizerConfig` as traced numbers."""

    learning_rate: Float[Array, ""]
    b1: Float[Array, ""]
    b2: Float[Array, ""]
    epsilon: Float[Array, ""]


class Hyper(NamedTuple):
    """The numbers of a config that training reads: traced, so that sweeping them compiles nothing."""

    optimizer: Players[AdamHyper]
    decay_steps: Float[Array, ""]
    decay_start: Float[Array, ""]
    average_decay: Float[Array, ""]
    real_label: Float[Array, ""]
    r1: Float[Array, ""]
    r2: Float[Array, ""]
    gradient_penalty: Float[Array, ""]
    augment_probability: Float[Array, ""]


class TrainState(NamedTuple):
    """State s is the state after s steps."""

    step: Int32[Array, ""]
    """Steps done."""
    key: Key[Array, ""]
    """The run's key; it never changes, and every random number folds a purpose and a counter into it."""
    params: Players[PyTree]
    opt_state: Players[PyTree]
    batch_stats: Players[PyTree]
    """Moving averages of batch norm; empty where a player has none."""
    average: PyTree | None
    """Exponential moving average of `params.gen`, where the config keeps one."""
    hyper: Hyper
    label_counts: Float[Array, " classes"] | None = None
    """How many training images each class has, where the players are conditional: G's classes are drawn from them."""


def learned(state: TrainState) -> dict[str, PyTree]:
    """All numbers that training makes, by field: where one is not finite, the run has diverged."""
    return {name: getattr(state, name) for name in ("params", "opt_state", "batch_stats", "average")}


def adam(hyper: AdamHyper) -> optax.GradientTransformation:
    """Adam's direction, to be scaled by minus the learning rate.

    References:
        Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
    """
    return optax.scale_by_adam(b1=hyper.b1, b2=hyper.b2, eps=hyper.epsilon)  # pyright: ignore[reportArgumentType]


def init_state(
    config: Config,
    key: Key[Array, ""],
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    label_counts: tuple[int, ...] = (),
) -> TrainState:
    """State 0 of a run: fresh networks, optimisers at rest.

    Floats are float32, or float64 where JAX's 64-bit mode is on.

    Args:
        config: What the run is.
        key: The key of all its random numbers, such as `jax.random.key(config.seed)`; the state keeps a copy.
        image_shape: (h, w, c) of the data set's images.
        label_counts: How many training images each class has, as `count_labels` gives them; only a conditional config
            reads them.

    Raises:
        ValueError: The config is conditional, and there are no classes.
    """
    if config.conditional and not any(label_counts):
        raise ValueError("label_counts: a conditional config needs count_labels(dataset.labels)")
    counts = tuple(map(int, label_counts)) if config.conditional else ()
    return _init_state(config.structure, key, _hyper(config), image_shape, counts)


@partial(jax.jit, static_argnames=("config", "image_shape", "label_counts"))
def _init_state(
    config: Config,
    key: Key[Array, ""],
    hyper: Hyper,
    image_shape: tuple[int, int, int],
    label_counts: tuple[int, ...],
) -> TrainState:
    # Being jitted makes a copy of every leaf, so that donating the state later deletes nothing of the caller's.
    gen_key, disc_key = jax.random.split(jax.random.fold_in(key, INIT))
    condition = jnp.zeros((1, len(label_counts))) if config.conditional else None
    gen = generator(config, image_shape).init(gen_key, jnp.zeros((1, config.latent.size)), condition, training=True)
    disc = discriminator(config).init(disc_key, jnp.zeros((1, *image_shape)), condition, training=True)
    gen, disc = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)), (gen, disc))
    params = Players(gen["params"], disc["params"])
    return TrainState(
        step=jnp.int32(0),
        key=key,
        params=params,
        opt_state=Players(adam(hyper.optimizer.gen).init(params.gen), adam(hyper.optimizer.disc).init(params.disc)),
        batch_stats=Players(gen.get("batch_stats", {}), disc.get("batch_stats", {})),
        average=params.gen if config.average_decay > 0 else None,
        hyper=hyper,
        label_counts=jnp.asarray(label_counts, jnp.result_type(float)) if config.conditional else None,
    )


def _hyper(config: Config) -> Hyper:
    def number(value: float) -> Any:
        return jnp.asarray(value, dtype=jnp.result_type(float))

    def optimizer(adam: OptimizerConfig) -> AdamHyper:
        return AdamHyper(*map(number, (adam.learning_rate, adam.b1, adam.b2, adam.epsilon)))

    return Hyper(
        optimizer=Players(optimizer(config.gen.optimizer), optimizer(config.disc.optimizer)),
        decay_steps=number(config.decay_steps),
        decay_start=number(config.decay_start),
        average_decay=number(config.average_decay),
        real_label=number(config.objective.real_label),
        r1=number(config.objective.r1),
        r2=number(config.objective.r2),
        gradient_penalty=number(config.objective.gradient_penalty),
        augment_probability=number(config.augment.probability),
    )
