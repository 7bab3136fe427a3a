from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import (
    GAME,
    LABEL_COUNTS,
    SYSTEMS,
    TINY_SHAPE,
    bits,
    changed,
    differing,
    first_batch,
    random_dataset,
    tiny,
)

from jaxgan.config import Config
from jaxgan.gan.augment import draw_offsets, move
from jaxgan.gan.batches import ORDER, Batch, Dataset
from jaxgan.gan.networks import judge, synthesize
from jaxgan.gan.objectives import metric_names
from jaxgan.gan.sampling import sample_latents
from jaxgan.gan.state import EVALUATE, INIT, SAMPLE, STEP, TrainState, init_state
from jaxgan.gan.updates import (
    DISC_LATENTS,
    GEN_LATENTS,
    MIXTURE,
    MOVE_FAKE,
    MOVE_GEN,
    MOVE_REAL,
    discriminator_update,
    generator_update,
    train_step,
)
from jaxgan.presets import PRESETS

NO_PENALTIES = {"objective__r1": 0.0, "objective__r2": 0.0}


class Updates(NamedTuple):
    """A fresh state, then after D's update, then after G's."""

    before: TrainState
    between: TrainState
    after: TrainState


@pytest.fixture(scope="module")
def updates(dataset: Dataset, fresh: Callable[[str], TrainState]) -> Callable[[str], Updates]:
    @cache
    def run(preset: str) -> Updates:
        config, before, key = PRESETS[preset], fresh(preset), jax.random.key(7)
        batch = first_batch(config, dataset)
        between, _ = discriminator_update(config, before, batch, key)
        return Updates(before, between, generator_update(config, between, batch, key)[0])

    return run


def of_player(state: TrainState, player: str) -> dict[str, Any]:
    """Everything of a state that belongs to one player."""
    mine = {name: getattr(getattr(state, name), player) for name in ("params", "opt_state", "batch_stats")}
    return mine | ({"average": state.average} if player == "gen" else {})


# Isolation.


@pytest.mark.parametrize("preset", SYSTEMS)
def test_the_discriminators_update_changes_every_leaf_of_its_own_and_none_of_the_generator(
    preset: str, updates: Callable[[str], Updates]
) -> None:
    before, between, _ = updates(preset)
    mine = of_player(before, "disc")
    assert sorted(differing(mine, of_player(between, "disc"))) == sorted(bits(mine))
    assert differing(of_player(before, "gen"), of_player(between, "gen")) == []
    assert differing((before.step, before.key, before.hyper), (between.step, between.key, between.hyper)) == []


@pytest.mark.parametrize("preset", SYSTEMS)
def test_the_generators_update_changes_every_leaf_of_its_own_through_its_fakes_and_none_of_the_discriminator(
    preset: str, updates: Callable[[str], Updates]
) -> None:
    _, between, after = updates(preset)
    mine = of_player(between, "gen")
    assert sorted(differing(mine, of_player(after, "gen"))) == sorted(bits(mine))
    assert differing(of_player(between, "disc"), of_player(after, "disc")) == []
    assert differing((between.step, between.key, between.hyper), (after.step, after.key, after.hyper)) == []


@pytest.mark.parametrize("preset", SYSTEMS)
def test_adam_counts_its_own_updates_twice_for_a_discriminator_on_halves(
    preset: str, updates: Callable[[str], Updates]
) -> None:
    states = updates(preset)
    twice = 2 if preset == "deep-batchnorm" else 1
    assert [int(state.opt_state.disc.count) for state in states] == [0, twice, twice]
    assert [int(state.opt_state.gen.count) for state in states] == [0, 0, 1]


def test_moving_averages_move_in_the_generators_update_only(updates: Callable[[str], Updates]) -> None:
    before, between, after = (bits(state.batch_stats.gen) for state in updates("deep-batchnorm"))
    assert len(before) == 6
    for path, start in before.items():
        np.testing.assert_array_equal(between[path], start)
        # A fifth of the way from 0 or 1 to the statistics of the batch.
        assert (after[path] != start).all(), path
        if "mean" not in path:
            assert (after[path] >= 0.8).all(), path


def test_moving_averages_of_a_discriminator_move_in_its_own_update_only() -> None:
    config = tiny(objective__name="hinge", disc__batch_norm=True, **NO_PENALTIES)
    before = init_state(config, jax.random.key(0), TINY_SHAPE)
    batch, key = first_batch(config, random_dataset(8, TINY_SHAPE)), jax.random.key(1)
    between, _ = discriminator_update(config, before, batch, key)
    after, _ = generator_update(config, between, batch, key)
    assert len(differing(before.batch_stats.disc, between.batch_stats.disc)) == 4
    for path, leaf in bits(between.batch_stats.disc).items():
        if "var" in path:
            assert (leaf >= 0.8**2).all()  # They move twice: a fifth on the real and a fifth on the fake images.
            assert (leaf < 0.8).any()
    assert differing(between.batch_stats, after.batch_stats) == []


@pytest.mark.parametrize(
    ("warmup", "step", "decay"),
    [(9, 0, 0.1), (9, 5, 6 / 15), (4, 5, 6 / 10), (4, 11, 0.75), (9, 10_000, 0.75), (0, 0, 0.75)],
)
def test_the_average_moves_by_its_decay_towards_the_new_generator(warmup: int, step: int, decay: float) -> None:
    config = tiny(average_decay=0.75, average_warmup=warmup, gen__optimizer__learning_rate=0.1)
    before = init_state(config, jax.random.key(0), TINY_SHAPE)._replace(step=jnp.int32(step))
    batch = first_batch(config, random_dataset(8, TINY_SHAPE))
    after, _ = generator_update(config, before, batch, jax.random.key(1))
    old, new, average = (bits(tree) for tree in (before.average, after.params.gen, after.average))
    assert np.abs(new["['hidden_0']['bias']"]).max() == pytest.approx(0.1, rel=1e-5)
    for path, value in average.items():
        expected = decay * old[path].astype(np.float64) + (1 - decay) * new[path].astype(np.float64)
        # Float32 rounding of numbers of size one.
        np.testing.assert_allclose(value, expected, rtol=0, atol=2e-7, err_msg=path)


def test_no_average_is_kept_with_a_decay_of_zero(updates: Callable[[str], Updates]) -> None:
    assert [state.average for state in updates("vanilla")] == [None, None, None]


def test_a_step_is_both_updates_with_one_key(dataset: Dataset, fresh: Callable[[str], TrainState]) -> None:
    config, state = PRESETS["vanilla"], fresh("vanilla")._replace(step=jnp.int32(5))
    batch = first_batch(config, dataset)
    key = jax.random.fold_in(jax.random.fold_in(state.key, STEP), 5)
    between, disc_metrics = discriminator_update(config, state, batch, key)
    after, gen_metrics = generator_update(config, between, batch, key)
    stepped, metrics = train_step(config, state, batch)
    assert int(stepped.step) == 6
    assert metrics.keys() == {**disc_metrics, **gen_metrics}.keys()
    # Compiled together, sums may be taken in another order: float32 rounding, which Adam does not magnify here.
    for path, leaf in bits(after.params).items():
        np.testing.assert_allclose(bits(stepped.params)[path], leaf, rtol=0, atol=1e-5, err_msg=path)
    for name, value in (disc_metrics | gen_metrics).items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


# Metrics.

VARIANTS: dict[str, Config] = {
    **PRESETS,
    **{name: tiny(objective__name=name) for name in ("minimax", "non_saturating", "least_squares", "hinge")},
    "relativistic without penalties": tiny(**NO_PENALTIES),
    "relativistic with r1": tiny(objective__r2=0.0),
    "relativistic with r2": tiny(objective__r1=0.0),
    "wasserstein with its penalty": tiny(
        objective__name="wasserstein", objective__gradient_penalty=10.0, **NO_PENALTIES
    ),
    "all penalties": tiny(objective__gradient_penalty=10.0),
    "all penalties at every other step": tiny(objective__gradient_penalty=10.0, objective__penalty_every=2),
    "moved images": tiny(augment__shift=1),
    "conditional, in micro-batches, all penalties": tiny(
        conditional=True, accumulate=2, objective__gradient_penalty=10.0
    ),
    **{
        f"halves of {name}": tiny(objective__name=name, objective__updates="halves", **NO_PENALTIES)
        for name in ("minimax", "least_squares", "wasserstein", "hinge")
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_step_returns_the_metrics_that_metric_names_declares(variant: str) -> None:
    config = VARIANTS[variant]
    state = jax.eval_shape(lambda: init_state(config, jax.random.key(0), TINY_SHAPE, LABEL_COUNTS))
    batch = first_batch(config, random_dataset(128, TINY_SHAPE))
    metrics = jax.eval_shape(partial(train_step, config), state, batch)[1]
    names = metric_names(config)
    assert len(set(names)) == len(names)
    assert metrics.keys() == set(names)
    assert metric_names(config.structure) == names
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


# Latents.


@pytest.mark.parametrize("shared", [True, False])
def test_latents_are_shared_between_the_players_where_the_config_says_so(shared: bool) -> None:
    # With the minimax game and a D that hardly moves, the loss of G is minus that of D on the same fakes.
    still = changed(GAME, {"disc.optimizer.learning_rate": 1e-30})
    config = changed(still, {"latent.shared": shared})
    state = init_state(still, jax.random.key(0), TINY_SHAPE)
    _, metrics = train_step(config, state, first_batch(config, random_dataset(8, TINY_SHAPE)))
    # Float32 rounding of a mean of eight, against the spread of a mean of eight other fakes.
    difference = abs(float(metrics["loss/gen"] + metrics["loss/disc_fake"]))
    assert difference < 1e-6 if shared else difference > 1e-4


# Gradients of the modern recipe, against finite differences of a loss in NumPy.


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def answers(disc: dict[str, np.ndarray], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A two-layer D's logits, and the squared norm of its gradient by each image, from the chain rule."""
    first = images @ disc["['hidden_0']['kernel']"] + disc["['hidden_0']['bias']"]
    second = leaky(first) @ disc["['hidden_1']['kernel']"] + disc["['hidden_1']['bias']"]
    output = disc["['output']['kernel']"][:, 0]
    back = np.where(second > 0, 1.0, 0.2) * output
    back = np.where(first > 0, 1.0, 0.2) * (back @ disc["['hidden_1']['kernel']"].T)
    bias = disc.get("['output']['bias']", 0.0)
    return leaky(second) @ output + bias, ((back @ disc["['hidden_0']['kernel']"].T) ** 2).sum(axis=1)


def fakes(gen: dict[str, np.ndarray], latents: np.ndarray) -> np.ndarray:
    x = leaky(latents @ gen["['hidden_0']['kernel']"] + gen["['hidden_0']['bias']"])
    x = leaky(x @ gen["['hidden_1']['kernel']"] + gen["['hidden_1']['bias']"])
    kernel, bias = gen["['output']['kernel']"], gen["['output']['bias']"]
    return np.tanh(x @ kernel.reshape(len(kernel), -1) + bias.ravel())


def finite_differences(
    loss: Callable[[dict[str, np.ndarray]], float], params: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    step, gradients = 1e-6, {path: np.zeros_like(leaf) for path, leaf in params.items()}
    for path, leaf in params.items():
        for index in np.ndindex(leaf.shape):
            values = []
            for sign in (1, -1):
                moved = leaf.copy()
                moved[index] += sign * step
                values.append(loss(params | {path: moved}))
            gradients[path][index] = (values[0] - values[1]) / (2 * step)
    return gradients


@pytest.mark.parametrize("objective", ["hinge", "relativistic"])
def test_gradients_of_a_game_with_all_penalties_are_those_of_finite_differences(objective: str) -> None:
    # Adam with b1 = 0 keeps the gradient itself as its first moment.
    config = tiny(
        objective__name=objective, objective__r1=0.7, objective__r2=1.3, objective__gradient_penalty=2.0,
        gen__optimizer__b1=0.0, disc__optimizer__b1=0.0,
    )  # fmt: skip
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = init_state(config, jax.random.key(0), TINY_SHAPE)
        # Some answers of D are beyond a hinge's margin, and some are not.
        state.params.disc["output"]["kernel"] *= -9.0
        batch = first_batch(config, random_dataset(8, TINY_SHAPE))
        key = jax.random.fold_in(jax.random.fold_in(state.key, STEP), 0)
        latents, gen_latents = (
            np.asarray(sample_latents(config, jax.random.fold_in(key, player), 8))
            for player in (DISC_LATENTS, GEN_LATENTS)
        )
        mix = np.asarray(jax.random.uniform(jax.random.fold_in(key, MIXTURE), (8,), jnp.float64))[:, None]
        after, metrics = train_step(config, state, batch)
    gen, disc, new_disc = bits(state.params.gen), bits(state.params.disc), bits(after.params.disc)
    real = np.asarray(batch.images).reshape(8, 16)
    fake = fakes(gen, latents)

    def disc_loss(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
        if objective == "hinge":
            return np.maximum(1 - real, 0) + np.maximum(1 + fake, 0)
        return np.logaddexp(0, fake - real)

    def parts(disc: dict[str, np.ndarray]) -> dict[str, float]:
        (real_logits, real_squares), (fake_logits, fake_squares) = answers(disc, real), answers(disc, fake)
        _, squares = answers(disc, mix * real + (1 - mix) * fake)
        return {
            "loss/disc": disc_loss(real_logits, fake_logits).mean(),
            "penalty/r1": real_squares.mean() / 2,
            "penalty/r2": fake_squares.mean() / 2,
            "penalty/gradient_penalty": ((np.sqrt(squares) - 1) ** 2).mean(),
        }

    def gen_loss(gen: dict[str, np.ndarray]) -> float:
        logits = answers(new_disc, fakes(gen, gen_latents))[0]
        losses = -logits if objective == "hinge" else np.logaddexp(0, answers(new_disc, real)[0] - logits)
        return losses.mean()

    def total(disc: dict[str, np.ndarray]) -> float:
        return float(np.dot([1.0, 0.7, 1.3, 2.0], list(parts(disc).values())))

    real_logits, fake_logits = answers(disc, real)[0], answers(disc, fake)[0]
    assert 0 < (real_logits > 1).sum() + (fake_logits < -1).sum() < 16
    for name, value in (parts(disc) | {"loss/gen": gen_loss(gen)}).items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-12, err_msg=name)
    # Central differences of float64 losses of size 1 at distance 1e-6 are exact to about 1e-9.
    for expected, moments in (
        (finite_differences(total, disc), bits(after.opt_state.disc.mu)),
        (finite_differences(gen_loss, gen), bits(after.opt_state.gen.mu)),
    ):
        assert expected.keys() == moments.keys()
        for path, gradient in expected.items():
            assert np.abs(gradient).max() > 1e-4
            np.testing.assert_allclose(moments[path], gradient, rtol=1e-6, atol=2e-9, err_msg=path)


# Lazy penalties.

LAZY = {
    "relativistic, all penalties": tiny(objective__gradient_penalty=2.0, objective__penalty_every=3),
    "hinge, R1, in micro-batches": tiny(
        objective__name="hinge", objective__r2=0.0, objective__penalty_every=3, accumulate=2
    ),
}


@pytest.mark.parametrize("step", range(7))
@pytest.mark.parametrize("name", LAZY)
def test_lazy_penalties_have_their_steps_and_the_weight_of_the_steps_without(name: str, step: int) -> None:
    config, penalised = LAZY[name], step % 3 == 0
    weights = {f"objective.{name}": getattr(config.objective, name) for name in ("r1", "r2", "gradient_penalty")}
    share = 3.0 if penalised else 0.0
    same = changed(config, {name: share * weight for name, weight in weights.items()} | {"objective.penalty_every": 1})
    batch, results = first_batch(config, random_dataset(8, TINY_SHAPE)), []
    for one in (config, same):
        state = init_state(one, jax.random.key(0), TINY_SHAPE)._replace(step=jnp.int32(step))
        results.append(train_step(one, state, batch))
    (lazy, told), (plain, expected) = results
    # A branch is compiled like a step of its own but for the order of sums, and of a weight's two factors.
    for path, leaf in bits((plain.params, plain.opt_state)).items():
        np.testing.assert_allclose(bits((lazy.params, lazy.opt_state))[path], leaf, rtol=1e-5, atol=1e-6, err_msg=path)
    assert told.keys() == set(metric_names(config))
    for metric, value in told.items():
        np.testing.assert_allclose(value, expected.get(metric, 0.0), rtol=1e-5, err_msg=metric)
        assert not metric.startswith("penalty/") or (value > 0) == penalised


# Learning rates.


def test_learning_rates_follow_a_cosine_to_three_percent_over_decay_steps() -> None:
    def first_moves(decay_steps: int, step: int, decay_start: int = 0) -> tuple[float, float]:
        """How far the biases of G and D move in an update at some step: Adam's first move is its rate."""
        rates = {"gen.optimizer.learning_rate": 1e-3, "disc.optimizer.learning_rate": 2e-3}
        config = changed(GAME, rates | {"decay_steps": decay_steps, "decay_start": decay_start})
        state = init_state(config, jax.random.key(0), TINY_SHAPE)._replace(step=jnp.int32(step))
        after, _ = train_step(config, state, first_batch(config, random_dataset(8, TINY_SHAPE)))
        gen, disc = (float(np.abs(params["hidden_0"]["bias"]).max()) for params in after.params)
        return gen, disc

    # The largest gradients are far above Adam's epsilon of 1e-8.
    quarter = 0.03 + 0.97 * (1 + np.cos(np.pi / 4)) / 2
    for step, share in [(0, 1.0), (250, quarter), (500, 0.515), (1000, 0.03), (1001, 0.03), (2**31 - 2, 0.03)]:
        assert first_moves(1000, step) == pytest.approx((1e-3 * share, 2e-3 * share), rel=1e-5), step
        assert first_moves(0, step) == pytest.approx((1e-3, 2e-3), rel=1e-5), step
    for step, share in [(0, 1.0), (70, 1.0), (320, quarter), (1070, 0.03), (5000, 0.03)]:
        assert first_moves(1000, step, 70) == pytest.approx((1e-3 * share, 2e-3 * share), rel=1e-5), step


def test_the_length_of_a_run_changes_nothing_that_training_reads() -> None:
    short, long = (changed(GAME, {"num_steps": num_steps, "decay_steps": 10}) for num_steps in (10, 1000))
    assert short.structure == long.structure
    states = (init_state(config, jax.random.key(0), TINY_SHAPE) for config in (short, long))
    assert differing(*states) == []


def test_hyper_parameters_are_copied_into_the_state() -> None:
    config = changed(
        GAME,
        {
            "decay_steps": 17,
            "decay_start": 19,
            "average_decay": 0.75,
            "objective.real_label": 0.5,
            "objective.r1": 0.125,
            "augment.probability": 0.375,
            "gen.optimizer.learning_rate": 0.5,
            "gen.optimizer.b1": 0.0625,
            "disc.optimizer.b2": 0.03125,
            "disc.optimizer.epsilon": 0.25,
        },
    )
    hyper = init_state(config, jax.random.key(0), TINY_SHAPE).hyper
    gen, disc = config.gen.optimizer, config.disc.optimizer
    assert [float(x) for x in hyper.optimizer.gen] == pytest.approx([0.5, 0.0625, gen.b2, gen.epsilon], rel=1e-7)
    assert [float(x) for x in hyper.optimizer.disc] == pytest.approx([disc.learning_rate, disc.b1, 0.03125, 0.25])
    assert [float(x) for x in hyper[1:]] == [17, 19, 0.75, 0.5, 0.125, 0.0, 0.0, 0.375]
    assert all(leaf.dtype == jnp.float32 and leaf.shape == () for leaf in jax.tree.leaves(hyper))


def test_a_batch_of_another_size_than_the_configs_is_refused() -> None:
    config = PRESETS["vanilla"]
    batch = Batch(jnp.zeros((64, 28, 28, 1)), jnp.zeros(64, jnp.int32))
    with pytest.raises(ValueError, match="the batch has 64 images; the config wants 128"):
        train_step(config, init_state(config, jax.random.key(0)), batch)


@pytest.mark.parametrize(("objective", "updates"), [("hinge", "joint"), ("hinge", "halves"), ("relativistic", "joint")])
def test_both_players_see_all_images_moved_each_by_offsets_of_its_own(objective: str, updates: str) -> None:
    # A D that hardly moves is the same in both updates.
    config = tiny(
        objective__name=objective,
        objective__r1=0.0,
        objective__r2=0.0,
        objective__updates=updates,
        disc__optimizer__learning_rate=1e-30,
        augment__shift=2,
        augment__probability=1.0,
    )
    state, batch = init_state(config, jax.random.key(0), TINY_SHAPE), first_batch(config, random_dataset(8, TINY_SHAPE))
    key = jax.random.fold_in(jax.random.fold_in(state.key, STEP), 0)

    def seen(images: jax.Array, purpose: int) -> np.ndarray:
        offsets = draw_offsets(config, jax.random.fold_in(key, purpose), len(images), jnp.float32(1.0))
        return np.asarray(judge(config, state.params.disc, {}, move(config, images, offsets), None, training=True)[0])

    def made(purpose: int, n: int) -> jax.Array:
        latents = sample_latents(config, jax.random.fold_in(key, purpose), n)
        return synthesize(config, state.params.gen, {}, latents, None, training=False)[0]

    real = seen(batch.images, MOVE_REAL)
    fake = seen(made(DISC_LATENTS, config.real_batch_size), MOVE_FAKE)
    made_by_gen = seen(made(GEN_LATENTS, config.batch_size), MOVE_GEN)
    if objective == "hinge":
        expected = {
            "loss/disc_real": np.maximum(1 - real, 0).mean(),
            "loss/disc_fake": np.maximum(1 + fake, 0).mean(),
            "loss/gen": -made_by_gen.mean(),
        }
    else:
        expected = {
            "loss/disc": np.logaddexp(0, fake - real).mean(),
            "loss/gen": np.logaddexp(0, real - made_by_gen).mean(),
        }
    _, metrics = train_step(config, state, batch)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_purpose_of_the_runs_key_has_a_number_of_its_own() -> None:
    assert len({INIT, ORDER, STEP, SAMPLE, EVALUATE}) == 5


@pytest.mark.parametrize("update", [discriminator_update, generator_update])
def test_a_batch_of_another_size_which_would_be_broadcast_is_refused(update: Callable[..., Any]) -> None:
    config = tiny(objective__name="relativistic")
    state, batch = init_state(config, jax.random.key(0), TINY_SHAPE), first_batch(config, random_dataset(8, TINY_SHAPE))
    with pytest.raises(ValueError, match="the batch has 1 images; the config wants"):
        update(config, state, jax.tree.map(lambda leaf: leaf[:1], batch), jax.random.key(1))
