"""`updates = simultaneous`: both players at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import LABEL_COUNTS, TINY_SHAPE, bits, changed, first_batch, random_dataset, tiny

from jaxgan.config import Config
from jaxgan.gan.augment import draw_offsets, move
from jaxgan.gan.losses import Metrics
from jaxgan.gan.networks import judge, synthesize
from jaxgan.gan.objectives import metric_names
from jaxgan.gan.sampling import sample_latents
from jaxgan.gan.state import TrainState, init_state
from jaxgan.gan.updates import (
    MOVE_FAKE,
    MOVE_REAL,
    SHARED_LATENTS,
    discriminator_update,
    generator_update,
    simultaneous_update,
    train_step,
)

PLAIN = {"objective__r1": 0.0, "objective__r2": 0.0}
CLIPPED = {
    "gen__residual": True,
    "gen__output": "clipped_tanh",
    "disc__activation": "relu",
    "disc__black_at_zero": True,
}

GAMES: dict[str, Config] = {
    "smoothed cross-entropy, R1": tiny(objective__name="non_saturating", objective__real_label=0.9, objective__r2=0.0),
    "Wasserstein and its penalty": tiny(objective__name="wasserstein", objective__gradient_penalty=2.0, **PLAIN),
    "hinge, smooth D, R2": tiny(objective__name="hinge", disc__activation="silu", objective__r1=0.0),
    "conditional, in micro-batches": tiny(conditional=True, accumulate=4, **CLIPPED),
    "conditional, lazy penalties": tiny(conditional=True, objective__penalty_every=3, **CLIPPED),
}


class Learned(NamedTuple):
    """The states after both players' updates at once, after D's own and after G's own, and what they told."""

    both: TrainState
    disc: TrainState
    gen: TrainState
    told: Metrics
    told_apart: Metrics


def learn(game: Config, step: int) -> Learned:
    """Updates of one state, at once and each alone, in float64."""
    together, apart = changed(game, {"objective.updates": "simultaneous"}), changed(game, {"latent.shared": True})
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = init_state(game, jax.random.key(0), TINY_SHAPE, LABEL_COUNTS)._replace(step=jnp.int32(step))
        batch, key = first_batch(game, random_dataset(8, TINY_SHAPE, classes=4)), jax.random.key(7)
        both, told = simultaneous_update(together, state, batch, key)
        disc, disc_told = discriminator_update(apart, state, batch, key)
        gen, gen_told = generator_update(apart, state, batch, key)
    return Learned(both, disc, gen, told, disc_told | gen_told)


def close(one: Any, other: Any) -> None:
    """Asserts that two trees are the same but for the rounding of float64."""
    left, right = bits(one), bits(other)
    assert left.keys() == right.keys()
    for path, leaf in left.items():
        np.testing.assert_allclose(leaf, right[path], rtol=1e-9, atol=1e-12, err_msg=path)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("name", GAMES)
def test_each_player_learns_as_it_does_alone_from_the_state_before(name: str, step: int) -> None:
    learned = learn(GAMES[name], step)
    close(learned.told, learned.told_apart)
    assert learned.told.keys() == set(metric_names(GAMES[name]))
    for part in ("params", "opt_state", "batch_stats"):
        close(getattr(learned.both, part).disc, getattr(learned.disc, part).disc)
        close(getattr(learned.both, part).gen, getattr(learned.gen, part).gen)
    close(learned.both.average, learned.gen.average)


def test_fakes_are_those_of_training_mode_for_both_and_move_the_averages_once() -> None:
    game = tiny(gen__batch_norm=True, objective__updates="simultaneous")
    state, batch = init_state(game, jax.random.key(0), TINY_SHAPE), first_batch(game, random_dataset(8, TINY_SHAPE))
    key = jax.random.key(7)
    after, metrics = simultaneous_update(game, state, batch, key)
    latents = sample_latents(game, jax.random.fold_in(key, SHARED_LATENTS), 8)
    fake, stats = synthesize(game, state.params.gen, state.batch_stats.gen, latents, None, training=True)
    real_logits, fake_logits = (
        judge(game, state.params.disc, {}, images, None, training=True)[0] for images in (batch.images, fake)
    )
    np.testing.assert_allclose(metrics["loss/disc"], np.logaddexp(0, fake_logits - real_logits).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/gen"], np.logaddexp(0, real_logits - fake_logits).mean(), rtol=1e-5)
    for path, leaf in bits(after.batch_stats.gen).items():
        np.testing.assert_allclose(leaf, bits(stats)[path], rtol=1e-5, err_msg=path)


def test_both_players_see_the_same_moved_images() -> None:
    game = tiny(objective__name="hinge", objective__updates="simultaneous", augment__shift=2, augment__probability=1.0)
    state, batch = init_state(game, jax.random.key(0), TINY_SHAPE), first_batch(game, random_dataset(8, TINY_SHAPE))
    key = jax.random.key(7)
    _, metrics = simultaneous_update(game, state, batch, key)
    latents = sample_latents(game, jax.random.fold_in(key, SHARED_LATENTS), 8)
    fake, _ = synthesize(game, state.params.gen, {}, latents, None, training=True)

    def seen(images: jax.Array, purpose: int) -> np.ndarray:
        offsets = draw_offsets(game, jax.random.fold_in(key, purpose), 8, jnp.float32(1.0))
        return np.asarray(judge(game, state.params.disc, {}, move(game, images, offsets), None, training=True)[0])

    real, moved = seen(batch.images, MOVE_REAL), seen(fake, MOVE_FAKE)
    np.testing.assert_allclose(metrics["loss/disc_real"], np.maximum(1 - real, 0).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/disc_fake"], np.maximum(1 + moved, 0).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/gen"], -moved.mean(), rtol=1e-5, atol=1e-6)


def test_a_step_updates_both_at_once_where_the_config_says_so() -> None:
    game = tiny(objective__updates="simultaneous")
    state, batch = init_state(game, jax.random.key(0), TINY_SHAPE), first_batch(game, random_dataset(8, TINY_SHAPE))
    after, metrics = train_step(game, state, batch)
    alone, _ = train_step(changed(game, {"objective.updates": "joint"}), state, batch)
    assert int(after.step) == 1
    assert metrics.keys() == set(metric_names(game))
    # G meets the D before its update here.
    assert not np.allclose(after.params.gen["output"]["kernel"], alone.params.gen["output"]["kernel"], atol=1e-6)


def test_whether_latents_are_shared_makes_no_other_program() -> None:
    game = tiny(objective__updates="simultaneous")
    assert game.structure == changed(game, {"latent.shared": True}).structure


def test_a_batch_of_another_size_is_refused() -> None:
    game = tiny(objective__updates="simultaneous")
    state, batch = init_state(game, jax.random.key(0), TINY_SHAPE), first_batch(game, random_dataset(8, TINY_SHAPE))
    with pytest.raises(ValueError, match="the batch has 1 images; the config wants 8"):
        simultaneous_update(game, state, jax.tree.map(lambda leaf: leaf[:1], batch), jax.random.key(1))
