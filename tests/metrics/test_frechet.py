from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from jaxgan.metrics.frechet import fit_gaussian, frechet_distance


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    fitted = (fit_gaussian(jnp.asarray(features, jnp.float32)) for features in (one, other))
    return float(frechet_distance(*fitted))


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(axis=0), np.cov(features, rowvar=False)


def of_roots(one: np.ndarray, other: np.ndarray) -> float:
    """The formula as it is written, in float64: for covariances of full rank."""
    (m1, c1), (m2, c2) = moments(one), moments(other)
    return float(np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * np.real(linalg.sqrtm(c1 @ c2))))


def of_eigenvalues(one: np.ndarray, other: np.ndarray) -> float:
    """tr (C1 C2)^(1/2) = tr (R C2 R)^(1/2) with R^2 = C1, in float64: also where covariances are singular."""
    (m1, c1), (m2, c2) = moments(one), moments(other)
    values, vectors = np.linalg.eigh(c1)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    return float(np.square(m1 - m2).sum() + np.trace(c1 + c2) - 2 * shared)


def correlated(seed: int, n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def exact_sample(seed: int, mean: np.ndarray, root: np.ndarray, n: int = 200) -> np.ndarray:
    """n points whose mean and unbiased covariance are exactly `mean` and root root^T."""
    raw = np.random.default_rng(seed).normal(size=(n, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ root.T + mean


def test_of_gaussians_on_one_set_of_axes_it_is_the_closed_form() -> None:
    # With C1 = Q diag(s1^2) Q^T and C2 likewise the distance is |m1 - m2|^2 + |s1 - s2|^2.
    axes = stats.ortho_group.rvs(4, random_state=0)
    s1, s2 = np.array([1.0, 2.0, 0.5, 3.0]), np.array([4.0, 2.0, 1.0, 0.25])
    m1, m2 = np.array([1.0, 0.0, -2.0, 5.0]), np.array([0.0, 1.0, -2.0, 3.0])
    one, other = exact_sample(1, m1, axes * s1), exact_sample(2, m2, axes * s2)
    assert frechet(one, other) == pytest.approx(6.0 + 9.0 + 0.25 + 2.75**2, rel=1e-5)


def test_of_gaussians_of_any_axes_it_is_the_closed_form_of_two_dimensions() -> None:
    # Of 2x2 matrices tr (C1 C2)^(1/2) = (tr C1 C2 + 2 sqrt(det C1 det C2))^(1/2).
    r1, r2 = np.array([[2.0, 0.0], [1.0, 0.5]]), np.array([[0.3, -1.0], [1.5, 2.0]])
    c1, c2 = r1 @ r1.T, r2 @ r2.T
    shared = np.sqrt(np.trace(c1 @ c2) + 2 * np.sqrt(np.linalg.det(c1) * np.linalg.det(c2)))
    expected = np.trace(c1) + np.trace(c2) - 2 * shared
    one, other = exact_sample(3, np.zeros(2), r1), exact_sample(4, np.zeros(2), r2)
    assert frechet(one, other) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 7), (500, 501, 64)])
def test_on_correlated_features_it_is_that_of_a_matrix_root_in_float64(n: int, m: int, d: int) -> None:
    one, other = correlated(0, n, d), correlated(1, m, d)
    expected = of_roots(one, other)
    assert expected == pytest.approx(of_eigenvalues(one, other), rel=1e-8)
    assert frechet(one, other) == pytest.approx(expected, rel=1e-5)


def test_small_distances_keep_their_digits() -> None:
    # A shift of a hundredth of the spread: a root of float32 covariances loses it altogether.
    one = correlated(0, 400, 16)
    other = one * 1.01 + 0.01
    assert frechet(one, other) == pytest.approx(of_roots(one, other), rel=5e-3)


def test_a_set_is_nowhere_from_itself_and_the_order_of_two_does_not_matter() -> None:
    one, other = correlated(0, 300, 12), correlated(1, 200, 12)
    spread = np.trace(moments(one)[1])
    assert frechet(one, one) <= 1e-6 * spread
    assert frechet(one, one[::-1]) <= 1e-6 * spread
    assert frechet(one, other) == pytest.approx(frechet(other, one), rel=1e-6)


def test_features_that_never_fire_change_nothing() -> None:
    one, other = correlated(0, 300, 12), correlated(1, 200, 12)
    dead = [np.hstack([features, np.zeros((len(features), 3))]) for features in (one, other)]
    assert frechet(*dead) == pytest.approx(frechet(one, other), rel=1e-5)


def test_a_feature_that_is_constant_in_one_set_counts_with_its_whole_variance_in_the_other() -> None:
    one, other = correlated(0, 300, 12), correlated(1, 200, 12)
    other[:, 4] = 2.0
    assert frechet(one, other) == pytest.approx(of_eigenvalues(one, other), rel=1e-5)


def test_fewer_points_than_features_are_enough() -> None:
    one, other, many = correlated(0, 9, 32), correlated(1, 17, 32), correlated(2, 300, 32)
    for a, b in ((one, other), (one, many), (many, one)):
        assert frechet(a, b) == pytest.approx(of_eigenvalues(a, b), rel=1e-5)


def test_one_point_repeated_lies_as_far_as_its_square_distance_to_the_mean_and_the_spread() -> None:
    real = correlated(0, 300, 12)
    point = real[17]
    mean, covariance = moments(real)
    expected = np.square(point - mean).sum() + np.trace(covariance)
    assert frechet(real, np.repeat(point[None], 50, axis=0)) == pytest.approx(expected, rel=1e-5)


def test_the_factor_of_a_covariance_gives_it_back() -> None:
    features = correlated(0, 100, 6)
    mean, factor = fit_gaussian(jnp.asarray(features, jnp.float32))
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(factor.T @ factor, moments(features)[1], rtol=1e-4, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(0.1, 10))
def test_it_is_never_negative_and_moves_with_no_common_shift_or_rotation(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    one, other = correlated(seed, 40, 5), correlated(seed + 1, 30, 5) * rng.uniform(0, 2)
    before = frechet(one, other)
    assert before >= 0
    assert 0 <= frechet(one, one[::-1]) <= 1e-5 * np.trace(moments(one)[1])
    turn = stats.ortho_group.rvs(5, random_state=rng)
    # The mean moves with the points, so the rounding of a shift grows with it.
    moved = frechet(one @ turn + shift, other @ turn + shift)
    assert moved == pytest.approx(before, rel=1e-4, abs=1e-5)
    assert frechet(one * scale, other * scale) == pytest.approx(before * scale**2, rel=1e-4)
