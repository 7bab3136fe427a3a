from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import Adam, Arrays, Network, step_jointly, step_on_halves
from small_runs import draw, random_dataset

from jaxgan.gan.sampling import sample_latents
from jaxgan.gan.state import STEP, TrainState, init_state
from jaxgan.gan.updates import DISC_LATENTS, GEN_LATENTS, train_step
from jaxgan.presets import PRESETS


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Float64 needs standard promotion, since Flax's batch norm fails strict promotion there."""
    if bits == 32:
        yield
    else:
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
            yield


def network(params: Any, stats: Any, slope: float) -> Network:
    """A player's parameters as the reference holds them: matrices in the order of the layers."""

    def collect(tree: Any, kind: str, part: str) -> Arrays:
        names = sorted(name for name in tree if name.startswith(kind)) + ["output"] * (kind == "hidden")
        leaves = [np.array(tree[name][part], np.float64) for name in names]
        if part == "kernel" and "condition" in tree:
            leaves[0] = np.vstack([leaves[0], tree["condition"]["kernel"]])
        return [x.reshape(len(x), -1) if part == "kernel" else x.ravel() for x in leaves]

    return Network(
        kernels=collect(params, "hidden", "kernel"),
        biases=collect(params, "hidden", "bias"),
        slope=slope,
        scales=collect(params, "batch_norm", "scale"),
        shifts=collect(params, "batch_norm", "bias"),
        means=collect(stats, "batch_norm", "mean"),
        variances=collect(stats, "batch_norm", "var"),
    )


def networks(state: TrainState, slope: float) -> tuple[Network, Network]:
    gen, disc = (network(*pair, slope) for pair in zip(state.params, state.batch_stats, strict=True))
    return gen, disc


def latents_of_step(preset: str, state: TrainState) -> tuple[np.ndarray, np.ndarray]:
    """D's and G's latents of the next step, drawn as documented: the run's key, STEP, the step, the player."""
    config = PRESETS[preset]
    key = jax.random.fold_in(jax.random.fold_in(state.key, STEP), state.step)
    sizes = {DISC_LATENTS: config.real_batch_size, GEN_LATENTS: config.batch_size}
    disc, gen = (np.asarray(sample_latents(config, jax.random.fold_in(key, k), n)) for k, n in sizes.items())
    return disc.astype(np.float64), gen.astype(np.float64)


def ten_vanilla_steps(bits: int, *, conditional: bool = False) -> dict[str, Any]:
    """Ten steps both ways: losses [10] by name, and parameters, of the code and of the reference."""
    config = replace(PRESETS["vanilla"], conditional=conditional)
    dataset = random_dataset(512, classes=3)
    with precision(bits):
        state = init_state(config, jax.random.key(0), label_counts=(1, 1, 1))
        assert state.params.gen["output"]["kernel"].dtype == f"float{bits}"
        gen, disc = networks(state, slope=0.0)
        start = [p.copy() for p in gen.parameters + disc.parameters]
        adams = Adam(1e-3, 0.9, 0.999, 1e-8), Adam(1e-3, 0.9, 0.999, 1e-8)
        rows, expected = [], []
        for _ in range(10):
            batch, latents = draw(config, dataset, state.key, state.step), latents_of_step("vanilla", state)
            real = np.asarray(batch.images, np.float64).reshape(128, 784)
            shown = np.eye(3)[batch.labels] if conditional else None
            expected.append(step_jointly(gen, disc, adams, "sigmoid", real, latents, shown))
            state, metrics = train_step(config, state, batch)
            rows.append({name: float(metrics[name]) for name in expected[-1]})
        after = [p for net in networks(state, slope=0.0) for p in net.parameters]
    losses = {name: ([row[name] for row in rows], [row[name] for row in expected]) for name in rows[0]}
    return {"losses": losses, "start": start, "got": after, "expected": gen.parameters + disc.parameters}


@pytest.mark.parametrize("conditional", [False, True])
def test_ten_vanilla_steps_in_float64_equal_the_reference(conditional: bool) -> None:
    run = ten_vanilla_steps(64, conditional=conditional)
    for name, (got, expected) in run["losses"].items():
        np.testing.assert_allclose(got, expected, rtol=1e-10, err_msg=name)
    for start, got, expected in zip(run["start"], run["got"], run["expected"], strict=True):
        # Adam divides by roots as small as its epsilon, 1e-8, which magnifies the rounding of a gradient, 1e-17.
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)
        assert np.abs(expected - start).max() > 1e-4


def test_ten_vanilla_steps_in_float32_equal_the_reference_to_rounding() -> None:
    run = ten_vanilla_steps(32)
    # A float32 sum of up to 784 products is off by some 1e-6 of its size, and ten steps add such errors up.
    for name, (got, expected) in run["losses"].items():
        np.testing.assert_allclose(got, expected, rtol=2e-5, err_msg=name)
    for start, got, expected in zip(run["start"], run["got"], run["expected"], strict=True):
        # Where a gradient is as small as its rounding, Adam's step has the wrong size, so elements are not compared.
        assert np.linalg.norm(got - expected) < 2e-5 * np.linalg.norm(expected - start)


def random_state(state: TrainState) -> TrainState:
    """The state with all its parameters and moving averages moved, so that no term of the step is zero or one."""
    rng = np.random.default_rng(0)

    def move(path: Any, leaf: jax.Array) -> jax.Array:
        low, high = (0.5, 1.5) if "var" in jax.tree_util.keystr(path) else (-0.1, 0.1)
        return jnp.asarray(rng.uniform(low, high, leaf.shape) + (0.0 if low > 0 else np.asarray(leaf)), leaf.dtype)

    params, stats = jax.tree_util.tree_map_with_path(move, (state.params, state.batch_stats))
    return state._replace(params=params, batch_stats=stats)


def test_one_deep_batchnorm_step_in_float64_equals_the_reference() -> None:
    config = PRESETS["deep-batchnorm"]
    dataset = random_dataset(512)
    with precision(64):
        state = random_state(init_state(config, jax.random.key(1)))
        before = networks(state, slope=0.2)
        gen, disc = networks(state, slope=0.2)
        adams = Adam(2e-4, 0.5, 0.999, 1e-7), Adam(2e-4, 0.5, 0.999, 1e-7)
        batch = draw(config, dataset, state.key, state.step)
        latents = latents_of_step("deep-batchnorm", state)
        assert batch.images.shape == (16, 28, 28, 1)
        assert [len(x) for x in latents] == [16, 32]
        real = np.asarray(batch.images).reshape(16, 784)
        expected = step_on_halves(gen, disc, adams, "tanh", real, latents)
        state, metrics = train_step(config, state, batch)
        after = networks(state, slope=0.2)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-10, err_msg=name)
    counts = [int(opt_state.count) for opt_state in state.opt_state]
    assert counts == [adam.count for adam in adams] == [1, 2]
    for start, got, reference in zip(before, after, (gen, disc), strict=True):
        for a, b, c in zip(start.parameters, got.parameters, reference.parameters, strict=True):
            np.testing.assert_allclose(b, c, rtol=0, atol=1e-10)
            assert np.abs(c - a).max() > 5e-5
        moving = [net.means + net.variances for net in (start, got, reference)]
        for a, b, c in zip(*moving, strict=True):
            np.testing.assert_allclose(b, c, rtol=1e-10, atol=1e-12)
            assert np.abs(c - a).max() > 1e-2
