from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from small_runs import tiny

from jaxgan.config import Config, ObjectiveName
from jaxgan.gan.gradients import judge_with_gradients
from jaxgan.gan.objectives import (
    OBJECTIVES,
    equilibrium,
    judgement,
    metric_names,
    probabilities,
    r1,
    r2,
    wasserstein_gradient_penalty,
)
from jaxgan.gan.state import init_state
from jaxgan.presets import PRESETS

Reference = Callable[[np.ndarray, np.ndarray, float], dict[str, np.ndarray]]

NAMES: tuple[ObjectiveName, ...] = (
    "minimax",
    "non_saturating",
    "least_squares",
    "wasserstein",
    "hinge",
    "relativistic",
)

# Float32 rounds each of the few operations of a loss by 6e-8 of its result, and sums only numbers of one sign.
ROUNDING = 1e-6


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def cross_entropy(logits: np.ndarray, label: float) -> np.ndarray:
    return label * softplus(-logits) + (1 - label) * softplus(logits)


def halves(real: np.ndarray, fake: np.ndarray, gen: np.ndarray) -> dict[str, np.ndarray]:
    return {"disc": real + fake, "gen": gen, "disc_real": real, "disc_fake": fake}


CLOSED_FORMS: dict[str, Reference] = {
    "minimax": lambda r, f, s: halves(cross_entropy(r, s), softplus(f), -softplus(f)),
    "non_saturating": lambda r, f, s: halves(cross_entropy(r, s), softplus(f), softplus(-f)),
    "least_squares": lambda r, f, s: halves((r - 1) ** 2 / 2, f**2 / 2, (f - 1) ** 2 / 2),
    "wasserstein": lambda r, f, s: halves(-r, f, -f),
    "hinge": lambda r, f, s: halves(np.maximum(0, 1 - r), np.maximum(0, 1 + f), -f),
    "relativistic": lambda r, f, s: {"disc": softplus(f - r), "gen": softplus(r - f)},
}


def grid() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of logits from -30 to 30 that float32 holds exactly, none of them on the hinge's corner."""
    real, fake = np.meshgrid(np.arange(-30, 30, 1.5) + 0.125, np.arange(-30, 30, 1.5) + 0.375)
    return real.ravel(), fake.ravel()


def parts_of(name: ObjectiveName, real: Any, fake: Any, label: Any = 1.0) -> dict[str, Any]:
    result = OBJECTIVES[name](real_logits=real, fake_logits=fake, real_label=label)
    return {part: value for part, value in result._asdict().items() if value is not None}


@partial(jax.jit, static_argnums=0)
def compiled_losses(name: ObjectiveName, real: Any, fake: Any, label: Any) -> dict[str, Any]:
    return parts_of(name, real, fake, label)


@partial(jax.jit, static_argnums=0)
def compiled_gradients(name: ObjectiveName, real: Any, fake: Any, label: Any) -> dict[str, tuple[Any, Any]]:
    def total(real: Any, fake: Any, part: str) -> Any:
        return parts_of(name, real, fake, label)[part].sum()

    return {part: jax.grad(total, argnums=(0, 1))(real, fake, part) for part in parts_of(name, real, fake)}


def losses(name: ObjectiveName, real: Any, fake: Any, label: float = 1.0) -> dict[str, Any]:
    """The losses of every pair of logits, by name, in float32."""
    return compiled_losses(name, *(jnp.asarray(x, jnp.float32) for x in (real, fake, label)))


def gradients(name: ObjectiveName, real: Any, fake: Any, label: float = 1.0) -> dict[str, tuple[Any, Any]]:
    """The gradients of every loss by the real and by the fake logits."""
    return compiled_gradients(name, *(jnp.asarray(x, jnp.float32) for x in (real, fake, label)))


@pytest.mark.parametrize(("name", "label"), [(name, label) for name in NAMES for label in (1.0, 0.9, 0.25)])
def test_losses_equal_their_closed_forms(name: ObjectiveName, label: float) -> None:
    real, fake = grid()
    got, expected = losses(name, real, fake, label), CLOSED_FORMS[name](real, fake, label)
    assert got.keys() == expected.keys()
    for part, values in expected.items():
        np.testing.assert_allclose(got[part], values, rtol=ROUNDING, atol=0, err_msg=part)


@pytest.mark.parametrize(("name", "label"), [(name, label) for name in NAMES for label in (1.0, 0.9)])
def test_gradients_equal_finite_differences_of_the_closed_forms(name: ObjectiveName, label: float) -> None:
    real, fake = grid()
    step = 1e-5  # Central differences in float64 are then exact to about 1e-10.
    for part, by_player in gradients(name, real, fake, label).items():
        for got, d_real, d_fake in zip(by_player, (step, 0.0), (0.0, step), strict=True):
            ahead = CLOSED_FORMS[name](real + d_real, fake + d_fake, label)[part]
            behind = CLOSED_FORMS[name](real - d_real, fake - d_fake, label)[part]
            np.testing.assert_allclose(got, (ahead - behind) / (2 * step), rtol=ROUNDING, atol=1e-9 + ROUNDING)


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives_agree_with_finite_differences(name: ObjectiveName) -> None:
    def total(real: Any, fake: Any) -> jax.Array:
        result = parts_of(name, jnp.asarray(real), jnp.asarray(fake))
        return (result["disc"] + 2 * result["gen"]).sum()

    with jax.enable_x64(True):
        logits = jnp.array([-2.2, 0.3, 1.7]), jnp.array([0.4, -1.6, 2.1])
        check_grads(jax.jit(total), logits, order=2, modes=["rev"])


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_finite_at_extreme_logits(name: ObjectiveName) -> None:
    extreme = [-1e9, -100.0, 0.0, 100.0, 1e9]
    real, fake = np.resize(list(itertools.product(extreme, extreme)), (1600, 2)).T
    for label in (1.0, 0.9):
        assert all(np.isfinite(values).all() for values in losses(name, real, fake, label).values())
        assert all(np.isfinite(pair).all() for pair in gradients(name, real, fake, label).values())


def test_cross_entropy_gives_sure_and_wrong_answers_the_size_of_their_logits() -> None:
    for name in ("minimax", "non_saturating"):
        wrong = losses(name, [-1e9], [1e9])
        right = losses(name, [1e9], [-1e9])
        np.testing.assert_allclose(wrong["disc_real"], 1e9)
        np.testing.assert_allclose(wrong["disc_fake"], 1e9)
        assert right["disc"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_losses_agree_under_jit_and_vmap(name: ObjectiveName) -> None:
    real, fake = jnp.linspace(-5, 5, 12).reshape(3, 4), jnp.linspace(4, -6, 12).reshape(3, 4)
    # Compiled together, operations may be contracted, which saves a rounding.
    rows = [parts_of(name, r, f) for r, f in zip(real, fake, strict=True)]
    mapped = jax.jit(jax.vmap(partial(parts_of, name)))(real, fake)
    for part, values in mapped.items():
        np.testing.assert_allclose(values, np.stack([row[part] for row in rows]), rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_the_discriminator_is_the_sum_of_its_halves_where_it_has_them(name: ObjectiveName) -> None:
    got = losses(name, *grid(), 0.9)
    assert ("disc_real" in got) == ("disc_fake" in got) == tiny(objective__name=name).objective.has_halves
    if "disc_real" in got:
        np.testing.assert_array_equal(got["disc"], got["disc_real"] + got["disc_fake"])


@pytest.mark.parametrize("name", NAMES)
def test_a_common_constant_changes_the_loss_only_where_the_discriminator_has_an_output_bias(
    name: ObjectiveName,
) -> None:
    real, fake = grid()
    before, after = losses(name, real, fake)["disc"], losses(name, real + 8, fake + 8)["disc"]
    assert tiny(objective__name=name).objective.sees_differences_only == np.array_equal(before, after)


@pytest.mark.parametrize("name", ["least_squares", "wasserstein", "hinge", "relativistic"])
def test_the_label_is_read_by_cross_entropies_only(name: ObjectiveName) -> None:
    smooth, hard = losses(name, *grid(), 0.5), losses(name, *grid(), 1.0)
    for part, values in hard.items():
        np.testing.assert_array_equal(smooth[part], values)


# Penalties: images of 2 x 3 x 1, so that every axis has a size of its own.


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(5, 2, 3, 1))


def float32(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("penalty", [r1, r2])
def test_r1_and_r2_are_half_the_squared_norm_of_the_gradient(penalty: Callable[..., jax.Array]) -> None:
    x = images(0)
    np.testing.assert_allclose(penalty(float32(x)), (x**2).sum(axis=(1, 2, 3)) / 2, rtol=ROUNDING)


def test_the_wasserstein_penalty_is_the_squared_distance_of_the_norm_from_one() -> None:
    x = images(0)
    expected = (np.sqrt((x**2).sum(axis=(1, 2, 3))) - 1) ** 2
    # Subtracting 1 from a norm near it cancels digits.
    np.testing.assert_allclose(wasserstein_gradient_penalty(float32(x)), expected, rtol=1e-5)


def test_penalties_and_their_gradients_are_finite_where_the_gradient_of_the_discriminator_is_zero() -> None:
    config = tiny(objective__name="wasserstein", objective__r1=0.0, objective__r2=0.0, objective__gradient_penalty=1.0)
    shapes = jax.eval_shape(lambda: init_state(config, jax.random.key(0), (2, 3, 1)).params.disc)
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    x = float32(images(0))

    @partial(jax.jit, static_argnums=1)
    def total(params: Any, penalty: str) -> jax.Array:
        _, gradients = judge_with_gradients(config, params, {}, x, None)
        penalties = {"r1": r1, "r2": r2, "gradient_penalty": wasserstein_gradient_penalty}
        return penalties[penalty](gradients).mean()

    for penalty, value in (("r1", 0.0), ("r2", 0.0), ("gradient_penalty", 1.0)):
        got, gradients = jax.value_and_grad(total)(params, penalty)
        assert got == value
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients)), penalty


# What D's answers mean.


def test_probabilities_are_what_each_objective_takes_them_for() -> None:
    real, fake = np.array([-2.0, 0.25, 3.0]), np.array([0.5, -1.0, 2.0])

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    expected = {
        "minimax": (sigmoid(real), sigmoid(fake)),
        "non_saturating": (sigmoid(real), sigmoid(fake)),
        "hinge": (sigmoid(real), sigmoid(fake)),
        "relativistic": (sigmoid(real - fake), sigmoid(fake - real)),
        "least_squares": (np.array([0.0, 0.25, 1.0]), np.array([0.5, 0.0, 1.0])),
    }
    for name in NAMES:
        got = probabilities(tiny(objective__name=name), real_logits=float32(real), fake_logits=float32(fake))
        if name == "wasserstein":
            assert got is None
        else:
            assert got is not None
            np.testing.assert_allclose(np.stack(got), np.stack(expected[name]), rtol=ROUNDING)


# Equilibrium. Cases are the presets and every objective by itself.

CASES: dict[str, Config] = {
    **PRESETS,
    **{name: tiny(objective__name=name) for name in NAMES},
    "smooth minimax": tiny(objective__name="minimax", objective__real_label=0.9),
    "halves of hinge": tiny(objective__name="hinge", objective__updates="halves", objective__r1=0.0, objective__r2=0.0),
    "halves of least squares": tiny(
        objective__name="least_squares", objective__updates="halves", objective__r1=0.0, objective__r2=0.0
    ),
    "halves of wasserstein": tiny(
        objective__name="wasserstein", objective__updates="halves", objective__r1=0.0, objective__r2=0.0
    ),
}
LN2 = math.log(2)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("vanilla", {"loss/disc": 2 * LN2, "loss/disc_real": LN2, "loss/disc_fake": LN2, "loss/gen": LN2, "p": 0.5}),
        ("logged", {"loss/disc": 1.38629, "loss/disc_real": LN2, "loss/disc_fake": LN2, "loss/gen": 0.69315, "p": 0.5}),
        ("deep-batchnorm", {"loss/disc": LN2, "loss/disc_real": LN2, "loss/disc_fake": LN2, "loss/gen": LN2, "p": 0.5}),
        (
            "leaky-tanh",
            {
                "loss/disc": 1.37628,
                "loss/disc_real": 0.77844,
                "loss/disc_fake": 0.59784,
                "loss/gen": 0.79851,
                "p": 0.45,
            },
        ),
        (
            "gaussian-leaky",
            {
                "loss/disc": 1.37628,
                "loss/disc_real": 0.77844,
                "loss/disc_fake": 0.59784,
                "loss/gen": 0.79851,
                "p": 0.45,
            },
        ),
        ("stacked", {"loss/disc": LN2, "loss/gen": LN2, "p": 0.5}),
    ],
)
def test_equilibria_of_the_presets_are_the_published_numbers(preset: str, expected: dict[str, float]) -> None:
    losses = {name: value for name, value in expected.items() if name != "p"}
    both = {"prob/real": expected["p"], "prob/fake": expected["p"]}
    assert equilibrium(PRESETS[preset]) == pytest.approx(losses | both, abs=5e-6)  # Half of the last published digit.


def answer(config: Config) -> float:
    """The logit that a D at its best gives to every image."""
    label = config.objective.real_label
    if config.objective.is_cross_entropy:
        return math.log(label / 2 / (1 - label / 2))
    return 0.5 if config.objective.name == "least_squares" else 0.0


@pytest.mark.parametrize("case", CASES)
def test_equilibria_are_the_values_of_the_objectives_themselves(case: str) -> None:
    config = CASES[case]
    objective, logits = config.objective, jnp.full(1, answer(config), jnp.float32)
    parts = losses(objective.name, logits, logits, objective.real_label)
    values = {f"loss/{part}": float(value[0]) for part, value in parts.items()}
    if objective.updates == "halves":
        values["loss/disc"] /= 2
    judged = probabilities(config, real_logits=logits, fake_logits=logits)
    if judged is not None:
        values |= {"prob/real": float(judged[0][0]), "prob/fake": float(judged[1][0])}
    expected = equilibrium(config)
    assert expected.keys() <= values.keys()
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=ROUNDING, abs=0)


@pytest.mark.parametrize("case", CASES)
def test_no_discriminator_does_better_than_the_equilibrium_where_fakes_equal_the_data(case: str) -> None:
    config = CASES[case]
    objective, best = config.objective, answer(config)
    # The data are two images, D answers any pair of logits, and real and fake are drawn apart: four pairs.
    a, b = (axis.ravel() for axis in np.meshgrid(*2 * [best + np.linspace(-3, 3, 61)]))
    zero = np.zeros_like(a)
    parts = [losses(objective.name, r, f, objective.real_label)["disc"] for r in (a, b) for f in (a, b)]
    means = np.mean([np.asarray(part, np.float64) for part in parts], axis=0)
    if objective.updates == "halves":
        means /= 2
    expected = equilibrium(config)["loss/disc"]
    slack = 3e-6  # A few roundings of losses of up to 10 in float32.
    assert means.min() == pytest.approx(expected, abs=slack)
    at_best = means[(a - best == zero) & (b - best == zero)]
    assert at_best == pytest.approx(expected, abs=slack)


@pytest.mark.parametrize("case", CASES)
def test_equilibria_speak_of_metrics_that_the_run_has(case: str) -> None:
    assert set(equilibrium(CASES[case])) <= set(metric_names(CASES[case]))


def test_a_judgement_tells_real_from_fake_and_counts_right_answers() -> None:
    real, fake = jnp.array([2.0, 1.0, 3.0, -1.0]), jnp.array([-2.0, -0.5, -1.0, -3.0])
    judged = judgement(tiny(objective__name="hinge"), real_logits=real, fake_logits=fake)
    sigmoids = [float((1 / (1 + np.exp(-np.asarray(logits)))).mean()) for logits in (real, fake)]
    expected = {"prob/real": sigmoids[0], "prob/fake": sigmoids[1], "accuracy/disc": (3 / 4 + 1) / 2}
    assert {name: float(value) for name, value in judged.items()} == pytest.approx(expected, rel=1e-6)
