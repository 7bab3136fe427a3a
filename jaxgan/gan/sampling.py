"""Latents in, images out; and what D says of images."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key

from jaxgan.config import Config
from jaxgan.gan.batches import from_unit, to_unit
from jaxgan.gan.compiled import compiled
from jaxgan.gan.labels import Labels, check_labels, condition_on, draw_labels
from jaxgan.gan.networks import Condition, judge, synthesize
from jaxgan.gan.state import TrainState


def sample_latents(config: Config, key: Key[Array, ""], n: int) -> Float[Array, "n latent"]:
    """Draws n latents from the config's prior: standard normal, or uniform on [-1, 1]."""
    shape = (n, config.latent.size)
    # The wider Threefry from here on: on a CPU the other passes through memory five times and takes twice as long.
    key = jax.random.wrap_key_data(jax.random.bits(key, (4,), jnp.uint32), impl="threefry4x32")
    if config.latent.prior == "normal":
        return jax.random.normal(key, shape, jnp.result_type(float))
    return jax.random.uniform(key, shape, jnp.result_type(float), minval=-1.0, maxval=1.0)


def draw_latents(config: Config, key: Key[Array, ""], n: int) -> Float[Array, "n latent"]:
    """Draws n latents to make images of: `latent.scale` times those that G was trained with.

    A generator whose samples are less varied than the data (recall below that of real images, precision at theirs) gets
    nearer to it by latents from a little further out; below 1 it is the truncation trick.

    References:
        Brock, Donahue and Simonyan 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", section
        3.1 (truncation).
    """
    latents = sample_latents(config, key, n)
    return latents if config.latent.scale == 1.0 else config.latent.scale * latents


WALK_PICTURES = 16


def walk_latents(config: Config, key: Key[Array, ""], n: int) -> Float[Array, "n latent"]:
    """A closed walk of n latents through random ones, two or more, that stays where the prior is likely.

    From one to the next it is WALK_PICTURES steps, or fewer where those do not divide n.

    Normal latents are interpolated spherically, uniform ones along straight lines.

    References:
        White 2016, "Sampling Generative Networks", section 2.1 (spherical interpolation).
    """
    stops, start, share = _stages(n)
    corners = draw_latents(config, key, stops)
    here, there = corners[start], corners[(start + 1) % stops]
    if config.latent.prior == "uniform":
        return (1.0 - share) * here + share * there
    norms = jnp.linalg.norm(here, axis=1, keepdims=True) * jnp.linalg.norm(there, axis=1, keepdims=True)
    angle = jnp.arccos(jnp.clip((here * there).sum(axis=1, keepdims=True) / norms, -1.0, 1.0))
    # Where both ends are one point, any share of it is the point itself.
    still = jnp.sin(angle) < 1e-4
    sine = jnp.where(still, 1.0, jnp.sin(angle))
    turn = (jnp.sin((1.0 - share) * angle) * here + jnp.sin(share * angle) * there) / sine
    return jnp.where(still, here, turn)


def walk_labels(
    state: TrainState, key: Key[Array, ""], n: int, labels: Int32[Array, " stops"] | None = None
) -> Float[Array, "n classes"] | None:
    """Weights of the classes on the way of `walk_latents`, from one class to the next; None where G is not conditional.

    Args:
        state: Whose G makes the images.
        key: Draws the classes where they are not given.
        n: Steps of the walk.
        labels: The classes that it comes by, which are taken again from the first on after the last.
    """
    stops, start, share = _stages(n)
    labels = draw_labels(state, key, stops) if labels is None else jnp.resize(labels, (stops,))
    corners = condition_on(state, labels)
    return None if corners is None else (1.0 - share) * corners[start] + share * corners[(start + 1) % stops]


def _stages(n: int) -> tuple[int, Int32[Array, " n"], Float[Array, "n 1"]]:
    """How many stops a walk of n steps has; and after which of them each step is, by what share of the way on."""
    stops = max(2, -(-n // WALK_PICTURES))
    shares = jnp.linspace(0.0, stops, n, endpoint=False)
    start = shares.astype(jnp.int32)
    return stops, start, (shares - start.astype(shares.dtype))[:, None]


def generate(
    config: Config,
    state: TrainState,
    key: Key[Array, ""],
    n: int,
    latents: Float[Array, "n latent"] | None = None,
    labels: Labels | Sequence[int] | Sequence[Sequence[float]] | None = None,
) -> Float[Array, "n h w c"]:
    """Draws n images in [0, 1] from the average of G where the config keeps one, else from G itself.

    Batch norm uses its moving averages, so that an image depends on its own latents only. They are those of G itself,
    for the average of G as well. Labels, drawn or given, are made `latent.label_scale` times as large as in training:
    latents from further out (`draw_latents`) blur what is what, and larger labels make up for it.

    Args:
        config: What the run is.
        state: Any state of the run.
        key: Draws the latents, and the classes; not used where they are given.
        n: How many images.
        latents: What to make images of, instead of random latents.
        labels: What a conditional G shows: a class for each image, or weights of the classes [n, classes]; drawn as
            often as the training images have them where they are not given.

    Raises:
        ValueError: There are not n latents or labels, labels of no class, or any for a G that is not conditional.
    """
    if latents is None:
        latents = draw_latents(config, key, n)
    if isinstance(labels, Sequence):
        labels = jnp.asarray(labels)
    if labels is None:
        labels = draw_labels(state, key, n)
    elif state.label_counts is None:
        raise ValueError("labels: this generator is not conditional")
    elif labels.ndim == 1 and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError("labels: a class is a whole number, and weights of all classes are of shape [n, classes]")
    else:
        check_labels(state, labels)
    for name, given in (("latents", latents), ("labels", labels)):
        if given is not None and given.shape[0] != n:
            raise ValueError(f"{name}: there are {given.shape[0]}, not n = {n}")
    condition = condition_on(state, labels)
    if condition is not None and config.latent.label_scale != 1.0:
        condition = config.latent.label_scale * condition
    return _generate(config, state, latents, condition)


@compiled
def _generate(
    config: Config, state: TrainState, latents: Float[Array, "n latent"], condition: Condition
) -> Float[Array, "n h w c"]:
    params = state.params.gen if state.average is None else state.average
    return to_unit(config, synthesize(config, params, state.batch_stats.gen, latents, condition, training=False)[0])


@compiled
def discriminate(
    config: Config, state: TrainState, images: Float[Array, "n h w c"], labels: Labels | None = None
) -> Float[Array, " n"]:
    """D's logits of n images in [0, 1]; batch norm uses its moving averages.

    With `disc.minibatch_std` each is judged in the company of the others.

    Args:
        config: What the run is.
        state: Any state of the run.
        images: What to judge.
        labels: What they show; a D that is not conditional does not look at them.

    Raises:
        ValueError: D is conditional, and there are not n labels.
    """
    if state.label_counts is not None and labels is not None and labels.shape[0] != images.shape[0]:
        raise ValueError(f"labels: there are {labels.shape[0]}, not n = {images.shape[0]}")
    scaled, condition = from_unit(config, images), condition_on(state, labels)
    return judge(config, state.params.disc, state.batch_stats.disc, scaled, condition, training=False)[0]
