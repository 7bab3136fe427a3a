from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.benchmark.stats import LEVEL, compare, disagreements, spread, welch


def test_the_spread_keeps_the_order_of_its_repeats() -> None:
    assert spread([3.0, 1.0, 2.0, 8.0]) == {"median": 2.5, "least": 1.0, "most": 8.0, "values": [3.0, 1.0, 2.0, 8.0]}


def test_welch_is_the_closed_form_where_variances_are_equal_and_samples_of_two() -> None:
    # Means 1 apart, both variances 1/2, so t = sqrt(2) with 2 degrees of freedom; p = 1 - t / sqrt(2 + t^2).
    assert welch([0.0, 1.0], [1.0, 2.0]) == pytest.approx(1 - math.sqrt(2) / 2)


def test_equal_losses_agree_and_losses_that_are_not_finite_never_do() -> None:
    assert welch([0.5, 0.5], [0.5, 0.5]) == 1.0
    assert welch([0.5, math.nan], [0.5, 0.6]) == 0.0
    assert welch([0.5, 0.6], [math.inf, 0.6]) == 0.0


def family(rng: np.random.Generator, shift: float) -> list[str]:
    """What fails of 20 comparisons of eight seeds each, of which the first is shifted by some standard deviations."""
    comparisons = {}
    for i in range(20):
        ours, theirs = rng.normal(1.0, 0.1, 8), rng.normal(1.0 + 0.1 * shift * (i == 0), 0.1, 8)
        comparisons[f"pair {i}"] = compare({"loss/gen": ours.tolist()}, {"loss/gen": theirs.tolist()})
    return disagreements(comparisons)


def test_right_peers_fail_as_seldom_as_the_level_says() -> None:
    rng = np.random.default_rng(0)
    failed = sum(bool(family(rng, shift=0.0)) for _ in range(60))
    # With a chance of LEVEL each, more than 4 of 60 come about once in 2,500 times.
    assert LEVEL == 0.01
    assert failed <= 4


def test_a_peer_five_standard_deviations_off_fails_by_name() -> None:
    rng = np.random.default_rng(1)
    found = [family(rng, shift=5.0) for _ in range(10)]
    assert all(lines and lines[0].startswith("pair 0: loss/gen is 1.") for lines in found)


def test_a_comparison_keeps_both_means() -> None:
    found = compare({"loss/disc": [1.0, 2.0]}, {"loss/disc": [2.0, 4.0]})
    assert found["loss/disc"]["ours"] == 1.5
    assert found["loss/disc"]["theirs"] == 3.0
