from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgan.metrics.classes import class_shares, classes_hit, classifier_score, reverse_kl


def array(values: np.ndarray | list) -> jnp.ndarray:
    return jnp.asarray(values, jnp.float32)


def test_images_of_one_answer_score_1_however_sure_it_is() -> None:
    for scale in (0.0, 1.0, 50.0):
        logits = np.repeat(scale * np.arange(10.0)[None], 30, axis=0)
        assert float(classifier_score(array(logits))) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 10])
def test_sure_and_balanced_answers_score_the_number_of_classes(classes: int) -> None:
    logits = 100.0 * np.eye(classes)[np.arange(20 * classes) % classes]
    assert float(classifier_score(array(logits))) == pytest.approx(classes, rel=1e-5)


def test_sure_answers_score_the_exponential_of_the_entropy_of_their_shares() -> None:
    labels = np.repeat(np.arange(4), [50, 30, 15, 5])
    expected = np.exp(stats.entropy([0.5, 0.3, 0.15, 0.05]))
    assert float(classifier_score(array(1e4 * np.eye(6)[labels]))) == pytest.approx(expected, rel=1e-5)


def test_any_answers_score_as_the_definition_says_in_float64() -> None:
    logits = 3 * np.random.default_rng(0).normal(size=(77, 10))
    given = special.softmax(logits, axis=1)
    expected = np.exp(np.mean([stats.entropy(row, given.mean(axis=0)) for row in given]))
    assert float(classifier_score(array(logits))) == pytest.approx(expected, rel=1e-5)


def test_shares_count_each_class() -> None:
    labels = jnp.asarray([3, 0, 3, 3, 1], jnp.int32)
    np.testing.assert_allclose(class_shares(labels, 5), [0.2, 0.2, 0.0, 0.6, 0.0], rtol=1e-6)


def test_classes_are_hit_by_a_single_sample() -> None:
    for labels, hit in (([0] * 999 + [4], 2), ([2, 2, 2], 1), (list(range(10)), 10)):
        assert int(classes_hit(class_shares(jnp.asarray(labels, jnp.int32), 10))) == hit


def test_reverse_kl_is_the_relative_entropy_of_the_generated_shares() -> None:
    rng = np.random.default_rng(0)
    generated, real = rng.dirichlet(np.ones(10), 2)
    generated[3] = 0
    generated /= generated.sum()
    assert float(reverse_kl(array(generated), array(real))) == pytest.approx(stats.entropy(generated, real), rel=1e-5)


def test_reverse_kl_is_0_for_equal_shares_and_infinite_for_a_class_that_is_not_real() -> None:
    shares = array([0.5, 0.25, 0.25, 0.0])
    assert float(reverse_kl(shares, shares)) == 0
    assert float(reverse_kl(array([0.25, 0.25, 0.25, 0.25]), shares)) == math.inf
    # A missing class is not infinite: all of a third of the classes is ln 3.
    third = array([1 / 3] * 3)
    assert float(reverse_kl(array([1.0, 0.0, 0.0]), third)) == pytest.approx(math.log(3), rel=1e-5)
