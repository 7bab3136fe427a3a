"""One step of training: D's update, then G's against the new D; or both at once."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, Int32, Key, PyTree

from jaxgan.config import Config, ObjectiveConfig
from jaxgan.gan.augment import draw_offsets, move
from jaxgan.gan.batches import Batch, over_devices
from jaxgan.gan.compiled import compiled
from jaxgan.gan.labels import condition_on
from jaxgan.gan.losses import (
    Images,
    Logits,
    Metrics,
    Shares,
    adversarial_losses,
    discriminator_loss,
    generator_loss,
    mean_gradient,
    penalised_gradient,
)
from jaxgan.gan.networks import Condition, judge, synthesize
from jaxgan.gan.objectives import Losses, judgement
from jaxgan.gan.optimizer import apply_to_discriminator, apply_to_generator
from jaxgan.gan.sampling import sample_latents
from jaxgan.gan.state import STEP, Players, TrainState

Latents = Float[Array, "batch latent"]
Offsets = Int32[Array, "batch 2"] | None

# Folded into a step's key: what each of its random numbers is for.
SHARED_LATENTS, DISC_LATENTS, GEN_LATENTS, MIXTURE, MOVE_REAL, MOVE_FAKE, MOVE_GEN = range(7)


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
    shares = _draw_shares(config, key, real)
    return _update_jointly(config, state, real, condition_on(state, batch.labels), latents, offsets, shares)


def _update_jointly(
    config: Config,
    state: TrainState,
    real: Images,
    condition: Condition,
    latents: Latents,
    offsets: Offsets,
    shares: Shares | None,
) -> tuple[TrainState, Metrics]:
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
        return discriminator_loss(config, state, present, params, real, move(config, fake, offsets), condition, shares)

    batch = (real, condition, latents, offsets, shares)
    gradients, stats, metrics = penalised_gradient(config, state, loss, state.params.disc, batch)
    return apply_to_discriminator(state, gradients, stats), metrics


def _update_on_halves(config: Config, state: TrainState, real: Images, fake: Images) -> tuple[TrainState, Metrics]:
    def update(
        state: TrainState, images: Images, side: Callable[[Losses], Logits | None]
    ) -> tuple[TrainState, Float[Array, ""], Logits]:
        def loss(params: PyTree, images: Images) -> tuple[Float[Array, ""], tuple[Logits, PyTree]]:
            logits, stats = judge(config, params, state.batch_stats.disc, images, None, training=True)
            # `side` picks the term that reads these logits and drops the other.
            term = side(adversarial_losses(config, state.hyper, real_logits=logits, fake_logits=logits))
            assert term is not None, "Config refuses halves for objectives that have none"
            return term.mean(), (logits, stats)

        value, (logits, stats), gradients = mean_gradient(config, loss, state.params.disc, (images,))
        return apply_to_discriminator(state, gradients, stats), value, logits

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

    def loss(
        params: PyTree, condition: Condition, latents: Latents, offsets: Offsets, real: Images | None
    ) -> tuple[Float[Array, ""], PyTree]:
        fake, stats = synthesize(config, params, state.batch_stats.gen, latents, condition, training=True)
        return generator_loss(config, state, real, move(config, fake, offsets), condition), stats

    given = (condition_on(state, batch.labels), latents, offsets, real)
    value, stats, gradients = mean_gradient(config, loss, state.params.gen, given)
    return apply_to_generator(config, state, gradients, stats), {"loss/gen": value}


@compiled
def simultaneous_update(
    config: Config, state: TrainState, batch: Batch, key: Key[Array, ""]
) -> tuple[TrainState, Metrics]:
    """Updates D and G at once, each against the other as it was before: `updates = simultaneous`.

    Both learn from one batch of fakes, which G draws in training mode, and D's answers to it. So G draws half as many
    fakes as in two updates and D judges two thirds of the images; what a player learns is one step older.

    Args:
        config: What the run is; its numbers are those of `state.hyper`.
        state: The state before the update.
        batch: `config.real_batch_size` real images.
        key: The step's key.

    Returns:
        The state after the update, and both players' metrics before it.

    Raises:
        ValueError: The batch is not as large as the config says.

    References:
        Nowozin, Cseke and Tomioka 2016, "f-GAN: Training Generative Neural Samplers using Variational Divergence
        Minimization", algorithm 1: the single-step gradient method.
    """
    _check_batch(config, batch)
    n = config.batch_size
    latents = over_devices(sample_latents(config, jax.random.fold_in(key, SHARED_LATENTS), n))
    real = move(config, batch.images, _offsets(config, state, key, MOVE_REAL, n))

    def loss(
        present: ObjectiveConfig,
        params: PyTree,
        real: Images,
        condition: Condition,
        latents: Latents,
        offsets: Offsets,
        shares: Shares | None,
    ) -> tuple[Float[Array, ""], tuple[Metrics, PyTree]]:
        fake, gen_stats = synthesize(config, params.gen, state.batch_stats.gen, latents, condition, training=True)
        fake = move(config, fake, offsets)
        # The sum has the gradients of both: D's loss knows nothing of G's parameters here, G's nothing of D's. XLA
        # computes once what they have in common.
        disc, (metrics, disc_stats) = discriminator_loss(
            config, state, present, params.disc, real, jax.lax.stop_gradient(fake), condition, shares
        )
        against = None if config.objective.has_halves else real
        gen = generator_loss(config, state, against, fake, condition, has_gradients=present.r2 > 0)
        return disc + gen, (metrics | {"loss/gen": gen}, Players(gen_stats, disc_stats))

    condition = condition_on(state, batch.labels)
    offsets = _offsets(config, state, key, MOVE_FAKE, n)
    given = (real, condition, latents, offsets, _draw_shares(config, key, real))
    gradients, stats, metrics = penalised_gradient(config, state, loss, state.params, given)
    state = apply_to_discriminator(state, gradients.disc, stats.disc)
    return apply_to_generator(config, state, gradients.gen, stats.gen), metrics


@compiled
def train_step(config: Config, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One step: D's update, then G's against the new D, or both at once with `updates = simultaneous`.

    Args:
        config: What the run is; its numbers are those of `state.hyper`.
        state: State s.
        batch: The batch of step s: `draw_batch(config, dataset, state.key, state.step)` in a run.

    Returns:
        State s + 1, and the metrics of the step by name, each player's before its own update.
    """
    key = jax.random.fold_in(jax.random.fold_in(state.key, STEP), state.step)
    if config.objective.updates == "simultaneous":
        state, metrics = simultaneous_update(config, state, batch, key)
    else:
        state, metrics = discriminator_update(config, state, batch, key)
        state, gen_metrics = generator_update(config, state, batch, key)
        metrics |= gen_metrics
    return state._replace(step=state.step + 1), metrics


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


def _draw_shares(config: Config, key: Key[Array, ""], real: Images) -> Shares | None:
    """The real images' shares in the mixtures of the Wasserstein penalty, where there is one."""
    if not config.objective.gradient_penalty:
        return None
    shares = jax.random.uniform(jax.random.fold_in(key, MIXTURE), (real.shape[0], 1, 1, 1), real.dtype)
    return over_devices(shares)
