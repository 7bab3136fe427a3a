"""One step of training: the discriminator's update, then the generator's against the new discriminator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int32, Key, PyTree

from jaxgan.config import Config, ObjectiveConfig
from jaxgan.gan.augment import draw_offsets, move
from jaxgan.gan.batches import Batch, over_devices
from jaxgan.gan.compiled import compiled
from jaxgan.gan.gradients import judge_with_gradients
from jaxgan.gan.labels import condition_on
from jaxgan.gan.networks import Condition, judge, synthesize
from jaxgan.gan.objectives import (
    OBJECTIVES,
    Losses,
    judgement,
    metric_names,
    r1,
    r2,
    wasserstein_gradient_penalty,
)
from jaxgan.gan.sampling import sample_latents
from jaxgan.gan.state import STEP, AdamHyper, Hyper, TrainState, adam

Metrics = dict[str, Float[Array, ""]]
Logits = Float[Array, " batch"]
Images = Float[Array, "batch h w c"]
Latents = Float[Array, "batch latent"]
Shares = Float[Array, "batch 1 1 1"]
Offsets = Int32[Array, "batch 2"] | None

# Folded into a step's key: what each of its random numbers is for.
SHARED_LATENTS, DISC_LATENTS, GEN_LATENTS, MIXTURE, MOVE_REAL, MOVE_FAKE, MOVE_GEN = range(7)

FINAL_RATE = 0.03
"""The share of the learning rate that is left after `decay_steps`."""


@compiled
def discriminator_update(
    config: Config, state: TrainState, batch: Batch, key: Key[Array, ""]
) -> tuple[TrainState, Metrics]:
    """Updates D once on a batch (twice with `updates = halves`) and touches nothing of G.

    D's fakes come from G in inference mode: batch norm uses its moving averages and leaves them alone. With
    `objective.penalty_every` k > 1 only the steps s with s mod k = 0 have gradient penalties, of k times the weight;
    the penalties that are told of other steps are 0.

    Args:
        config: What the run is; its numbers are those of `state.hyper`.
        state: The state before the update.
        batch: `config.real_batch_size` real images.
        key: The step's key; `train_step` hands the same one to both players.

    Returns:
        The state after the update, and D's metrics before it.

    Raises:
        ValueError: The batch is not as large as the config says.

    References:
        Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", section 3.1: lazy regularisation.
    """
    _check_batch(config, batch)
    latents = over_devices(sample_latents(config, _latents_key(config, key, DISC_LATENTS), config.real_batch_size))
    real = move(config, batch.images, _offsets(config, state, key, MOVE_REAL, config.real_batch_size))
    offsets = _offsets(config, state, key, MOVE_FAKE, config.real_batch_size)
    if config.objective.updates == "halves":
        fake, _ = synthesize(config, state.params.gen, state.batch_stats.gen, latents, None, training=False)
        return _update_on_halves(config, state, real, move(config, fake, offsets))
    mixture_key = jax.random.fold_in(key, MIXTURE)
    return _update_jointly(config, state, real, condition_on(state, batch.labels), latents, offsets, mixture_key)


def _update_jointly(
    config: Config,
    state: TrainState,
    real: Images,
    condition: Condition,
    latents: Latents,
    offsets: Offsets,
    mixture_key: Key[Array, ""],
) -> tuple[TrainState, Metrics]:
    objective = config.objective
    shares = None
    if objective.gradient_penalty:
        shares = over_devices(jax.random.uniform(mixture_key, (real.shape[0], 1, 1, 1), real.dtype))

    def loss(
        present: ObjectiveConfig,
        params: PyTree,
        real: Images,
        condition: Condition,
        latents: Latents,
        offsets: Offsets,
        shares: Shares | None,
    ) -> tuple[Float[Array, ""], tuple[Metrics, PyTree]]:
        fake, _ = synthesize(config, state.params.gen, state.batch_stats.gen, latents, condition, training=False)
        fake = move(config, fake, offsets)
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
        losses = _losses(config, state.hyper, real_logits, fake_logits)
        penalty = sum(getattr(state.hyper, name) * value for name, value in penalties.items())
        metrics = {
            "loss/disc": losses.disc.mean(),
            **judgement(config, real_logits=real_logits, fake_logits=fake_logits),
        }
        if losses.disc_real is not None and losses.disc_fake is not None:
            metrics |= {"loss/disc_real": losses.disc_real.mean(), "loss/disc_fake": losses.disc_fake.mean()}
        metrics |= {f"penalty/{name}": value for name, value in penalties.items()}
        return losses.disc.mean() + objective.penalty_every * penalty, (metrics, stats)

    # `present` has the penalties that this step has.
    def gradient(present: ObjectiveConfig) -> tuple[PyTree, PyTree, Metrics]:
        batch = (real, condition, latents, offsets, shares)
        _, (metrics, stats), gradients = mean_gradient(config, partial(loss, present), state.params.disc, batch)
        none = jnp.zeros_like(metrics["loss/disc"])
        absent = {name: none for name in metric_names(config) if name.startswith("penalty/")}
        return gradients, stats, absent | metrics

    if objective.penalty_every == 1:
        gradients, stats, metrics = gradient(objective)
    else:
        is_penalised = state.step % objective.penalty_every == 0
        plain = replace(objective, r1=0.0, r2=0.0, gradient_penalty=0.0)
        gradients, stats, metrics = jax.lax.cond(is_penalised, partial(gradient, objective), partial(gradient, plain))
    return _step_disc(state, gradients, stats), metrics


def _update_on_halves(config: Config, state: TrainState, real: Images, fake: Images) -> tuple[TrainState, Metrics]:
    def update(
        state: TrainState, images: Images, side: Callable[[Losses], Logits | None]
    ) -> tuple[TrainState, Float[Array, ""], Logits]:
        def loss(params: PyTree, images: Images) -> tuple[Float[Array, ""], tuple[Logits, PyTree]]:
            logits, stats = judge(config, params, state.batch_stats.disc, images, None, training=True)
            # `side` picks the term that reads these logits and drops the other.
            term = side(_losses(config, state.hyper, real_logits=logits, fake_logits=logits))
            assert term is not None, "Config refuses halves for objectives that have none"
            return term.mean(), (logits, stats)

        value, (logits, stats), gradients = mean_gradient(config, loss, state.params.disc, (images,))
        return _step_disc(state, gradients, stats), value, logits

    state, real_loss, real_logits = update(state, real, lambda losses: losses.disc_real)
    state, fake_loss, fake_logits = update(state, fake, lambda losses: losses.disc_fake)
    losses = {
        "loss/disc": (real_loss + fake_loss) / 2.0,
        "loss/disc_real": real_loss,
        "loss/disc_fake": fake_loss,
    }
    return state, losses | judgement(config, real_logits=real_logits, fake_logits=fake_logits)


@compiled
def generator_update(
    config: Config, state: TrainState, batch: Batch, key: Key[Array, ""]
) -> tuple[TrainState, Metrics]:
    """Updates G once against the D of `state`, with its average, and touches nothing of D.

    Args:
        config: What the run is; its numbers are those of `state.hyper`.
        state: The state before the update.
        batch: Real images, which only the relativistic objective looks at, and their labels, which fakes have, too,
            where the players are conditional.
        key: The step's key; `train_step` hands the same one to both players.

    Returns:
        The state after the update, and G's metrics before it.

    Raises:
        ValueError: The batch is not as large as the config says.
    """
    _check_batch(config, batch)
    latents = over_devices(sample_latents(config, _latents_key(config, key, GEN_LATENTS), config.batch_size))
    offsets = _offsets(config, state, key, MOVE_GEN, config.batch_size)
    # Where D's loss has halves, G's reads no real logits.
    real = None
    if not config.objective.has_halves:
        real = move(config, batch.images, _offsets(config, state, key, MOVE_REAL, config.real_batch_size))

    def discriminate(images: Images, condition: Condition) -> Logits:
        return judge(config, state.params.disc, state.batch_stats.disc, images, condition, training=True)[0]

    def loss(
        params: PyTree, condition: Condition, latents: Latents, offsets: Offsets, real: Images | None
    ) -> tuple[Float[Array, ""], PyTree]:
        fake, stats = synthesize(config, params, state.batch_stats.gen, latents, condition, training=True)
        fake_logits = discriminate(move(config, fake, offsets), condition)
        real_logits = fake_logits if real is None else discriminate(real, condition)
        return _losses(config, state.hyper, real_logits, fake_logits).gen.mean(), stats

    given = (condition_on(state, batch.labels), latents, offsets, real)
    value, stats, gradients = mean_gradient(config, loss, state.params.gen, given)
    hyper = state.hyper
    params, opt_state = _adam_step(
        hyper.optimizer.gen, hyper, state.step, gradients, state.opt_state.gen, state.params.gen
    )
    average = state.average
    if average is not None:
        average = optax.incremental_update(params, average, 1.0 - _average_decay(config, hyper, state.step))
    state = state._replace(
        params=state.params._replace(gen=params),
        opt_state=state.opt_state._replace(gen=opt_state),
        batch_stats=state.batch_stats._replace(gen=stats),
        average=average,
    )
    return state, {"loss/gen": value}


@compiled
def train_step(config: Config, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One step: D's update, then G's against the new D.

    Args:
        config: What the run is; its numbers are those of `state.hyper`.
        state: State s.
        batch: The batch of step s: `draw_batch(config, dataset, state.key, state.step)` in a run.

    Returns:
        State s + 1, and the metrics of the step by name, each player's before its own update.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, STEP), state.step)
    state, disc_metrics = discriminator_update(config, state, batch, key)
    state, gen_metrics = generator_update(config, state, batch, key)
    return state._replace(step=state.step + 1), disc_metrics | gen_metrics


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


def _check_batch(config: Config, batch: Batch) -> None:
    # A batch of one image, or label, would be broadcast.
    for name, array in zip(batch._fields, batch, strict=True):
        if array.shape[0] != config.real_batch_size:
            raise ValueError(f"the batch has {array.shape[0]} {name}; the config wants {config.real_batch_size}")


def _latents_key(config: Config, key: Key[Array, ""], purpose: int) -> Key[Array, ""]:
    return jax.random.fold_in(key, SHARED_LATENTS if config.latent.shared else purpose)


def _offsets(config: Config, state: TrainState, key: Key[Array, ""], purpose: int, n: int) -> Offsets:
    offsets = draw_offsets(config, jax.random.fold_in(key, purpose), n, state.hyper.augment_probability)
    return None if offsets is None else over_devices(offsets)


def _losses(config: Config, hyper: Hyper, real_logits: Logits, fake_logits: Logits) -> Losses:
    objective = OBJECTIVES[config.objective.name]
    return objective(real_logits=real_logits, fake_logits=fake_logits, real_label=hyper.real_label)


def _step_disc(state: TrainState, gradients: PyTree, stats: PyTree) -> TrainState:
    hyper = state.hyper
    params, opt_state = _adam_step(
        hyper.optimizer.disc, hyper, state.step, gradients, state.opt_state.disc, state.params.disc
    )
    return state._replace(
        params=state.params._replace(disc=params),
        opt_state=state.opt_state._replace(disc=opt_state),
        batch_stats=state.batch_stats._replace(disc=stats),
    )


def _adam_step(
    optimizer: AdamHyper, hyper: Hyper, step: Int32[Array, ""], gradients: PyTree, opt_state: PyTree, params: PyTree
) -> tuple[PyTree, PyTree]:
    # optax raises a float to the power of an int32 count, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        directions, opt_state = adam(optimizer).update(gradients, opt_state)
    rate = optimizer.learning_rate * _decay(hyper, step)
    return optax.apply_updates(params, jax.tree.map(lambda direction: -rate * direction, directions)), opt_state


def _average_decay(config: Config, hyper: Hyper, step: Int32[Array, ""]) -> Float[Array, ""]:
    """The decay of G's average at a step: smaller at first, so that the average forgets where G began.

    At step s it is at most (1 + s) / (1 + w + s); with w = 9, `num_updates` of TensorFlow's `ExponentialMovingAverage`.
    Where that bounds it, step t has a weight of about t^(w - 1).

    References:
        Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3.1: "power
        function" averages, with an exponent of w - 1.
    """
    s = step.astype(hyper.average_decay.dtype)
    return jnp.minimum(hyper.average_decay, (1.0 + s) / (1.0 + config.average_warmup + s))


def _decay(hyper: Hyper, step: Int32[Array, ""]) -> Float[Array, ""]:
    """The share of the learning rate at a step: 1, then a cosine to FINAL_RATE over `decay_steps`, if there are any."""
    steps_done = jnp.maximum(step.astype(hyper.decay_start.dtype) - hyper.decay_start, 0.0)
    share_done = jnp.where(hyper.decay_steps > 0, steps_done / jnp.maximum(hyper.decay_steps, 1.0), 0.0)
    return jnp.asarray(optax.cosine_decay_schedule(1.0, decay_steps=1, alpha=FINAL_RATE)(share_done))
