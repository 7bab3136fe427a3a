from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import TINY_SHAPE, bits, tiny

from jaxgan.config import Activation, ObjectiveName
from jaxgan.gan.networks import INITIALIZERS, clipped_tanh, count_parameters, image_shape_of, judge, synthesize
from jaxgan.gan.state import TrainState, init_state
from jaxgan.presets import PRESETS


def shapes(config: Any, image_shape: tuple[int, int, int] = (28, 28, 1)) -> TrainState:
    """The shapes of a fresh state, without compiling or computing it."""
    return jax.eval_shape(lambda: init_state(config, jax.random.key(0), image_shape, (1,) * 10))


def random_like(tree: Any, seed: int) -> Any:
    """Numbers from 0.5 to 1.5 with random signs, or above 0 where they are variances."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> jax.Array:
        sign = 1.0 if "var" in jax.tree_util.keystr(path) else rng.choice([-1.0, 1.0], leaf.shape)
        return jnp.asarray(sign * rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


@pytest.mark.parametrize(
    ("preset", "gen", "disc", "moving"),
    [
        ("vanilla", 114_064, 100_609, 0),
        ("leaky-tanh", 114_064, 100_609, 0),
        ("deep-batchnorm", 1_489_936, 533_505, 3_584),
        ("logged", 114_064, 100_609, 0),
        ("gaussian-leaky", 114_064, 100_609, 0),
        # 100 x 512 + 512, twice 512 x 512 + 512, 512 x 784 + 784; and 784 x 384 + 384, twice 384 x 384 + 384, 384 + 1.
        ("modern", 979_216, 597_505, 0),
        # The same with 10 x 512 for the classes in G; and twice that in D, 784 x 512 + 512, twice 512 x 512 + 512, 512.
        ("best", 984_336, 1_195_008, 0),
    ],
)
def test_presets_have_the_published_numbers_of_parameters(preset: str, gen: int, disc: int, moving: int) -> None:
    state = shapes(PRESETS[preset])
    assert count_parameters(state.params.gen) == gen
    assert count_parameters(state.params.disc) == disc
    assert count_parameters(state.batch_stats.gen) == moving
    assert count_parameters(state.batch_stats.disc) == 0


@pytest.mark.parametrize(
    ("name", "has_bias"),
    [
        ("minimax", True),
        ("non_saturating", True),
        ("least_squares", True),
        ("hinge", True),
        ("relativistic", False),
        ("wasserstein", False),
    ],
)
def test_the_discriminator_has_an_output_bias_where_its_objective_can_see_one(
    name: ObjectiveName, has_bias: bool
) -> None:
    disc = shapes(tiny(objective__name=name)).params.disc
    assert ("bias" in disc["output"]) == has_bias
    assert "bias" in disc["hidden_0"]


@pytest.mark.parametrize(("output", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("clipped_tanh", -1, 1)])
def test_images_of_any_shape_fill_the_range_of_the_output(output: str, low: float, high: float) -> None:
    config = tiny(gen__output=output)
    params = random_like(shapes(config, (8, 8, 3)).params, seed=0)
    assert image_shape_of(params.gen) == (8, 8, 3)
    # Latents so large that outputs saturate on both sides.
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3), scale=1e3), jnp.float32)
    images, _ = synthesize(config, params.gen, {}, latents, None, training=False)
    assert images.shape == (5, 8, 8, 3)
    assert images.min() == low
    assert images.max() == high
    logits, _ = judge(config, params.disc, {}, images, None, training=False)
    assert logits.shape == (5,)


def test_black_is_zero_to_a_discriminator_that_is_told_so() -> None:
    as_it_is = tiny(gen__output="tanh")
    told = tiny(gen__output="tanh", disc__black_at_zero=True)
    params = random_like(shapes(told, (2, 2, 1)).params.disc, seed=0)
    images = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (9, 2, 2, 1)), jnp.float32)
    logits, _ = judge(told, params, {}, images, None, training=True)
    np.testing.assert_array_equal(logits, judge(as_it_is, params, {}, images + 1, None, training=True)[0])
    # Next to a sigmoid black is zero already.
    bright = [tiny(gen__output="sigmoid", disc__black_at_zero=value) for value in (False, True)]
    one, other = (judge(config, params, {}, images, None, training=True)[0] for config in bright)
    np.testing.assert_array_equal(one, other)


def test_a_clipped_tanh_has_the_slope_of_the_whole_one_where_it_is_clipped_too() -> None:
    units = np.array([-3.0, -1.6, -1.0, 0.0, 1.4, 1.6, 2.5]).reshape(1, 1, -1, 1)
    pixels, pull = jax.vjp(clipped_tanh, jnp.asarray(units, jnp.float32))
    np.testing.assert_allclose(pixels, np.clip(1.1 * np.tanh(units), -1.0, 1.0), rtol=1e-6)
    assert pixels.ravel().tolist()[:2] + pixels.ravel().tolist()[-2:] == [-1.0, -1.0, 1.0, 1.0]
    (slopes,) = pull(jnp.ones_like(pixels))
    np.testing.assert_allclose(slopes, 1.1 / np.cosh(units) ** 2, atol=1e-6)  # Rounding of 1 - tanh^2 in float32.


# Initial parameters.


def kernels(state: TrainState) -> dict[str, np.ndarray]:
    """Initial kernels by their path, as matrices of inputs x units."""
    found = {path: leaf for path, leaf in bits(state.params).items() if path.endswith("['kernel']")}
    return {path: leaf.reshape(leaf.shape[0], -1) for path, leaf in found.items()}


@pytest.mark.parametrize(("preset", "layers"), [("vanilla", 4), ("logged", 4), ("deep-batchnorm", 7), ("modern", 8)])
def test_initial_kernels_have_the_moments_of_their_distribution(
    preset: str, layers: int, fresh: Callable[[str], TrainState]
) -> None:
    found = kernels(fresh(preset))
    assert len(found) == layers
    for path, kernel in found.items():
        fan_in, fan_out = kernel.shape
        glorot = math.sqrt(2 / (fan_in + fan_out))
        std = math.sqrt(2 / fan_in) if preset == "logged" else glorot
        # Five standard errors: of a mean, and of a standard deviation (the normal's, which is above the uniform's).
        assert abs(kernel.mean()) < 5 * std / math.sqrt(kernel.size), path
        assert abs(kernel.std() / std - 1) < 5 / math.sqrt(2 * kernel.size), path
        if std == glorot:
            bound = math.sqrt(6 / (fan_in + fan_out))
            assert np.abs(kernel).max() <= bound * (1 + 1e-6), path
            # All of n uniform numbers stay below this with a chance of e^-20.
            assert np.abs(kernel).max() > bound * (1 - 20 / kernel.size), path


def test_he_normal_kernels_are_not_truncated(fresh: Callable[[str], TrainState]) -> None:
    kernel = kernels(fresh("logged"))[".disc['hidden_0']['kernel']"]
    outside = np.abs(kernel) / math.sqrt(2 / 784)
    share = math.erfc(math.sqrt(2))  # 4.55 % of a normal lies beyond two standard deviations.
    assert abs((outside > 2).mean() - share) < 5 * math.sqrt(share / kernel.size)
    assert outside.max() > 3.5


def test_lecun_normal_kernels_have_a_variance_of_one_over_their_inputs() -> None:
    kernel = np.asarray(INITIALIZERS["lecun_normal"](jax.random.key(0), (400, 100)))
    assert abs(kernel.std() * 20 - 1) < 5 / math.sqrt(2 * kernel.size)
    assert abs(kernel.mean() * 20) < 5 / math.sqrt(kernel.size)


def test_biases_start_at_zero_and_batch_norm_at_the_identity(fresh: Callable[[str], TrainState]) -> None:
    state = fresh("deep-batchnorm")
    starts = {"bias": 0.0, "scale": 1.0, "mean": 0.0, "var": 1.0}
    seen = set()
    for path, leaf in bits((state.params, state.batch_stats)).items():
        name = path.split("'")[-2]
        if name != "kernel":
            assert (leaf == starts[name]).all(), path
            seen.add(name)
    assert seen == starts.keys()


def test_the_players_and_the_layers_start_apart(fresh: Callable[[str], TrainState]) -> None:
    firsts = {round(float(kernel.flat[0] / kernel.std()), 4) for kernel in kernels(fresh("modern")).values()}
    assert len(firsts) == 8


# Forward passes, against NumPy.


def dense(params: Any, x: np.ndarray) -> np.ndarray:
    kernel, bias = (np.asarray(params[name], np.float64) for name in ("kernel", "bias"))
    return x @ kernel.reshape(len(kernel), -1) + bias.ravel()


@pytest.mark.parametrize(
    ("activation", "slope", "function"),
    [
        ("relu", 0.2, lambda x: np.maximum(x, 0)),
        ("leaky_relu", 0.2, lambda x: np.where(x > 0, x, 0.2 * x)),
        ("leaky_relu", 0.01, lambda x: np.where(x > 0, x, 0.01 * x)),
        ("silu", 0.2, lambda x: x / (1 + np.exp(-x))),
        ("tanh", 0.2, np.tanh),
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_both_players_are_perceptrons_with_their_activation(
    activation: Activation, slope: float, function: Callable[[np.ndarray], np.ndarray], residual: bool
) -> None:
    options = {"activation": activation, "negative_slope": slope, "residual": residual, "widths": (6, 5, 5)}
    config = tiny(
        **{f"{player}__{name}": value for player in ("gen", "disc") for name, value in options.items()},
        objective__name="hinge",
        gen__output="sigmoid",
    )
    params = random_like(shapes(config, (2, 2, 1)).params, seed=0)

    def through_hidden_layers(layers: Any, x: np.ndarray) -> np.ndarray:
        for i in range(2):
            x = function(dense(layers[f"hidden_{i}"], x))
        return function(dense(layers["hidden_2"], x)) + (x if residual else 0.0)

    latents = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    images, _ = synthesize(config, params.gen, {}, jnp.asarray(latents), None, training=True)
    hidden = latents.astype(np.float64)
    hidden = through_hidden_layers(params.gen, hidden)
    # Sums of at most seven float32 products of size ten.
    expected = 1 / (1 + np.exp(-dense(params.gen["output"], hidden)))
    np.testing.assert_allclose(images.reshape(9, 4), expected, rtol=1e-4, atol=1e-5)
    logits, _ = judge(config, params.disc, {}, images, None, training=True)
    hidden = np.asarray(images, np.float64).reshape(9, 4)
    hidden = through_hidden_layers(params.disc, hidden)
    np.testing.assert_allclose(logits, dense(params.disc["output"], hidden)[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("player", ["gen", "disc"])
def test_batch_norm_follows_momentum_and_epsilon(player: str) -> None:
    config = tiny(
        objective__r1=0.0,
        objective__r2=0.0,
        objective__name="hinge",
        **{f"{player}__widths": (5,), f"{player}__batch_norm": True},
    )
    state = shapes(config, (2, 2, 1))
    params, stats = (getattr(random_like(tree, seed=2), player) for tree in (state.params, state.batch_stats))
    x = np.random.default_rng(3).normal(size=(16, *((3,) if player == "gen" else (2, 2, 1)))).astype(np.float32)

    def run(training: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        apply = synthesize if player == "gen" else judge
        outputs, moved = apply(config, params, stats, jnp.asarray(x), None, training=training)
        return np.asarray(outputs).reshape(16, -1), bits(moved["batch_norm_0"])

    hidden = dense(params["hidden_0"], x.reshape(16, -1).astype(np.float64))
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    old = {name: np.asarray(stats["batch_norm_0"][name], np.float64) for name in ("mean", "var")}
    batch = {"mean": hidden.mean(axis=0), "var": hidden.var(axis=0)}  # The variance of the batch, over n.

    def expected(mean: np.ndarray, var: np.ndarray) -> np.ndarray:
        norm = params["batch_norm_0"]
        scaled = (hidden - mean) / np.sqrt(var + 1e-3) * np.asarray(norm["scale"]) + np.asarray(norm["bias"])
        outputs = dense(params["output"], scaled)
        return np.tanh(outputs) if player == "gen" else outputs

    # Sums of at most five float32 products of size ten.
    outputs, moved = run(training=True)
    np.testing.assert_allclose(outputs, expected(**batch), rtol=1e-4, atol=1e-5)
    for name, value in batch.items():
        np.testing.assert_allclose(moved[f"['{name}']"], 0.8 * old[name] + 0.2 * value, rtol=1e-5)
    outputs, moved = run(training=False)
    np.testing.assert_allclose(outputs, expected(**old), rtol=1e-4, atol=1e-5)
    assert all((moved[f"['{name}']"] == np.asarray(stats["batch_norm_0"][name])).all() for name in old)


def test_the_players_start_from_numbers_of_their_own() -> None:
    params = init_state(tiny(gen__widths=(6, 5), disc__widths=(6, 5)), jax.random.key(0), TINY_SHAPE).params
    assert (params.gen["hidden_1"]["kernel"] != params.disc["hidden_1"]["kernel"]).all()
