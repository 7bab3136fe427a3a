"""What players minimise on a batch, as functions of their parameters, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxgan.config import Config, ObjectiveConfig
from jaxgan.gan.batches import over_devices
from jaxgan.gan.gradients import judge_with_gradients
from jaxgan.gan.networks import Condition, judge
from jaxgan.gan.objectives import OBJECTIVES, Losses, judgement, metric_names, r1, r2, wasserstein_gradient_penalty
from jaxgan.gan.state import Hyper, TrainState

Metrics = dict[str, Float[Array, ""]]
Logits = Float[Array, " batch"]
Images = Float[Array, "batch h w c"]
Shares = Float[Array, "batch 1 1 1"]


def adversarial_losses(config: Config, hyper: Hyper, real_logits: Logits, fake_logits: Logits) -> Losses:
    """Both players' losses by the objective of a config, one number an image or pair."""
    objective = OBJECTIVES[config.objective.name]
    return objective(real_logits=real_logits, fake_logits=fake_logits, real_label=hyper.real_label)


def discriminator_loss(
    config: Config,
    state: TrainState,
    present: ObjectiveConfig,
    params: PyTree,
    real: Images,
    fake: Images,
    condition: Condition,
    shares: Shares | None,
) -> tuple[Float[Array, ""], tuple[Metrics, PyTree]]:
    """D's loss on real and fake images, and the penalties that this step has.

    Args:
        config: What the run is.
        state: D's moving averages and the run's numbers are read of it, and no parameters.
        present: The objective with the penalties of this step.
        params: D's parameters.
        real: Real images, as D sees them.
        fake: As many fakes.
        condition: What both show.
        shares: Of the real images in the mixtures of the Wasserstein penalty, where it is present.

    Returns:
        The loss with its weighted penalties, and (D's metrics, its moving averages after it).
    """
    stats, penalties = state.batch_stats.disc, {}
    if present.r1:
        real_logits, gradients = judge_with_gradients(config, params, stats, real, condition)
        penalties["r1"] = r1(gradients).mean()
    else:
        real_logits, stats = judge(config, params, stats, real, condition, training=True)
    if present.r2:
        fake_logits, gradients = judge_with_gradients(config, params, stats, fake, condition)
        penalties["r2"] = r2(gradients).mean()
    else:
        fake_logits, stats = judge(config, params, stats, fake, condition, training=True)
    if present.gradient_penalty:
        assert shares is not None
        mixture = shares * real + (1.0 - shares) * fake
        _, gradients = judge_with_gradients(config, params, stats, mixture, condition)
        penalties["gradient_penalty"] = wasserstein_gradient_penalty(gradients).mean()
    losses = adversarial_losses(config, state.hyper, real_logits, fake_logits)
    penalty = sum(getattr(state.hyper, name) * value for name, value in penalties.items())
    metrics = {
        "loss/disc": losses.disc.mean(),
        **judgement(config, real_logits=real_logits, fake_logits=fake_logits),
    }
    if losses.disc_real is not None and losses.disc_fake is not None:
        metrics |= {"loss/disc_real": losses.disc_real.mean(), "loss/disc_fake": losses.disc_fake.mean()}
    metrics |= {f"penalty/{name}": value for name, value in penalties.items()}
    return losses.disc.mean() + config.objective.penalty_every * penalty, (metrics, stats)


def generator_loss(
    config: Config,
    state: TrainState,
    real: Images | None,
    fake: Images,
    condition: Condition,
    *,
    has_gradients: bool = False,
) -> Float[Array, ""]:
    """G's loss of its fakes, by the D of a state.

    Args:
        config: What the run is.
        state: Its D judges.
        real: Real images that the fakes are compared with, where the objective does so.
        fake: G's images, as D sees them.
        condition: What both show.
        has_gradients: Whether D's gradients by these fakes are computed anyway, for R2: then G learns by them.
    """

    def discriminate(images: Images) -> Logits:
        return judge(config, state.params.disc, state.batch_stats.disc, images, condition, training=True)[0]

    if has_gradients:
        fake_logits, _ = judge_with_gradients(config, state.params.disc, state.batch_stats.disc, fake, condition)
    else:
        fake_logits = discriminate(fake)
    real_logits = fake_logits if real is None else discriminate(real)
    return adversarial_losses(config, state.hyper, real_logits, fake_logits).gen.mean()


def penalised_gradient(
    config: Config,
    state: TrainState,
    loss: Callable[..., tuple[Float[Array, ""], tuple[Metrics, PyTree]]],
    params: PyTree,
    batch: tuple[PyTree, ...],
) -> tuple[PyTree, PyTree, Metrics]:
    """The gradient of loss(present, params, *batch), where `present` has the penalties that this step has."""
    objective = config.objective

    def gradient(present: ObjectiveConfig) -> tuple[PyTree, PyTree, Metrics]:
        _, (metrics, stats), gradients = mean_gradient(config, partial(loss, present), params, batch)
        none = jnp.zeros_like(metrics["loss/disc"])
        absent = {name: none for name in metric_names(config) if name.startswith("penalty/")}
        return gradients, stats, absent | metrics

    if objective.penalty_every == 1:
        return gradient(objective)
    is_penalised = state.step % objective.penalty_every == 0
    plain = replace(objective, r1=0.0, r2=0.0, gradient_penalty=0.0)
    return jax.lax.cond(is_penalised, partial(gradient, objective), partial(gradient, plain))


def mean_gradient(
    config: Config, loss: Callable[..., tuple[Float[Array, ""], PyTree]], params: PyTree, batch: tuple[PyTree, ...]
) -> tuple[Float[Array, ""], PyTree, PyTree]:
    """A loss that is a mean over a batch, what it tells beside its value, and its gradient.

    With `config.accumulate` > 1 they are the means over as many micro-batches, which follow each other, so that only
    one of them is in memory with all of its activations. A mean of equal parts' means is the mean of all; it rounds
    differently.

    Args:
        config: What the run is.
        loss: Called as loss(params, *batch); gives the value and a tree of means [] and values of images [batch].
        params: What to differentiate by.
        batch: Trees of arrays [batch, ...].

    Returns:
        The value, the tree, and the gradient.
    """
    value_and_gradient = jax.value_and_grad(loss, has_aux=True)
    if config.accumulate == 1:
        (value, told), gradient = value_and_gradient(params, *batch)
        return value, told, gradient

    def add(total: PyTree, piece: tuple[PyTree, ...]) -> tuple[PyTree, PyTree]:
        (value, told), gradient = value_and_gradient(params, *jax.tree.map(over_devices, piece))
        return jax.tree.map(jnp.add, total, gradient), (value, told)

    # A micro-batch takes every n-th image, so that each device's images stay on it.
    n = config.accumulate
    pieces = jax.tree.map(lambda leaf: leaf.reshape(-1, n, *leaf.shape[1:]).swapaxes(0, 1), batch)
    total, (values, told) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), pieces)
    told = jax.tree.map(lambda leaf: leaf.mean() if leaf.ndim == 1 else leaf.swapaxes(0, 1).reshape(-1), told)
    return values.mean(), told, jax.tree.map(lambda leaf: leaf / n, total)
