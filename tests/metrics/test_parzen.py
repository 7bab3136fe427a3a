from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from jaxgan.metrics.parzen import SIGMAS, parzen_log_likelihoods, parzen_score


def array(values: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(values, jnp.float32)


def direct(samples: np.ndarray, points: np.ndarray, sigma: float) -> np.ndarray:
    """The log of the mean of the samples' normal densities at each point, in float64."""
    squares = np.square(points[:, None] - samples[None]).sum(axis=2)
    densities = -squares / (2 * sigma**2) - samples.shape[1] / 2 * math.log(2 * math.pi * sigma**2)
    return np.asarray(logsumexp(densities, axis=1)) - math.log(len(samples))


def test_likelihoods_are_those_of_a_mixture_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    samples, points = rng.random((37, 9)), rng.random((23, 9))
    sigmas = np.array([0.1, 0.35, 1.0])
    found = np.asarray(parzen_log_likelihoods(array(samples), array(points), array(sigmas)))
    assert found.shape == (23, 3)
    for i, sigma in enumerate(sigmas):
        np.testing.assert_allclose(found[:, i], direct(samples, points, sigma), rtol=1e-4, atol=1e-3)


def test_of_one_sample_it_is_the_log_of_a_normal_density_even_where_that_is_0_in_float64() -> None:
    # exp(-35,000) is 0 in any float; its log is not lost.
    size = 700
    samples, points = np.zeros((1, size)), np.ones((3, size))
    (found,) = np.unique(np.asarray(parzen_log_likelihoods(array(samples), array(points), array(np.array([0.1])))))
    expected = -size / (2 * 0.01) - size / 2 * math.log(2 * math.pi * 0.01)
    assert np.exp(expected) == 0
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_widths_to_choose_from_are_ten_from_a_tenth_to_one() -> None:
    assert len(SIGMAS) == 10
    np.testing.assert_allclose(np.diff(np.log10(SIGMAS)), 1 / 9)
    assert SIGMAS[0] == pytest.approx(0.1)
    assert SIGMAS[-1] == pytest.approx(1.0)


def test_the_score_is_the_test_mean_and_its_error_at_the_width_that_is_best_in_validation() -> None:
    chosen = []
    for spread in (0.05, 0.3, 0.6):
        rng = np.random.default_rng(1)
        samples, validation, test = (0.5 + spread * rng.normal(size=(n, 5)) for n in (60, 40, 50))
        chosen.append(max(SIGMAS, key=lambda sigma: direct(samples, validation, sigma).mean()))
        values = direct(samples, test, chosen[-1])
        score = parzen_score(array(samples), array(validation), array(test))
        assert score.sigma == chosen[-1]
        assert score.mean == pytest.approx(values.mean(), rel=1e-4, abs=1e-3)
        assert score.error == pytest.approx(stats.sem(values), rel=1e-3)
    assert chosen == sorted(set(chosen))  # Wider sets take wider windows.


def test_the_test_images_do_not_choose_the_width() -> None:
    rng = np.random.default_rng(2)
    samples, validation = rng.random((60, 5)), rng.random((40, 5))
    near, far = (parzen_score(array(samples), array(validation), array(test)) for test in (samples, samples + 5))
    assert near.sigma == far.sigma
    assert far.mean < near.mean
