from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.metrics import neighbours
from jaxgan.metrics.neighbours import (
    BLOCK,
    nearest_distances,
    neighbour_scores,
    squared_distances,
    squared_radii,
)

KS = (3, 5)
WHOLE = [pytest.approx(1, rel=1e-6)] * 3  # A mean of ones rounds.


def array(values: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(values, jnp.float32)


def cloud(seed: int, n: int, d: int = 6) -> np.ndarray:
    """n points, as exact in float32 as in float64."""
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32).astype(np.float64)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a - b).sum()))


def radius(points: np.ndarray, i: int, k: int) -> float:
    """The distance of point i to its k-th nearest neighbour among the others."""
    return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]


def brute_force(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Equations 1 to 3 of Kynkäänniemi et al. 2019 and 2 to 4 of Naeem et al. 2020, one pair of points at a time."""
    real_radii = [radius(real, i, k) for i in range(len(real))]
    fake_radii = [radius(fake, j, k) for j in range(len(fake))]
    in_real = np.array([[distance(x, y) <= real_radii[i] for i, x in enumerate(real)] for y in fake])
    in_fake = np.array([[distance(x, y) <= fake_radii[j] for j, y in enumerate(fake)] for x in real])
    return {
        "precision": sum(map(any, in_real)) / len(fake),
        "recall": sum(map(any, in_fake)) / len(real),
        "density": sum(map(sum, in_real)) / (k * len(fake)),
        "coverage": sum(map(any, in_real.T)) / len(real),
    }


def scores(real: np.ndarray, fake: np.ndarray) -> dict[int, dict[str, float]]:
    found = neighbour_scores(array(real), array(fake), KS)
    return {k: {name: float(value) for name, value in of_k._asdict().items()} for k, of_k in found.items()}


def equals_brute_force(real: np.ndarray, fake: np.ndarray) -> None:
    found = scores(real, fake)
    assert tuple(found) == KS
    for k in KS:
        assert found[k] == pytest.approx(brute_force(real, fake, k), rel=1e-6), k


@pytest.mark.parametrize("spread", [0.5, 1.0, 1.7])
def test_the_four_scores_are_those_of_their_definitions(spread: float) -> None:
    real, fake = cloud(0, 141), spread * cloud(1, 97) + 0.3
    assert len(real) % BLOCK
    assert len(fake) % BLOCK
    equals_brute_force(real, fake)


def test_points_in_several_blocks_score_as_their_definitions_say() -> None:
    rng = np.random.default_rng(3)
    real = rng.normal(size=(BLOCK + 44, 4)).astype(np.float32).astype(np.float64)
    fake = 0.8 * rng.normal(size=(BLOCK + 3, 4)).astype(np.float32).astype(np.float64)
    # The loops above would take a minute here; this is the same with matrices.
    among_real, among_fake = (np.linalg.norm(a[:, None] - a[None], axis=2) for a in (real, fake))
    across = np.linalg.norm(fake[:, None] - real[None], axis=2)
    found = scores(real, fake)
    for k in KS:
        in_real = across <= np.sort(among_real, axis=1)[:, k][None]
        in_fake = across <= np.sort(among_fake, axis=1)[:, k][:, None]
        expected = {
            "precision": in_real.any(axis=1).mean(),
            "recall": in_fake.any(axis=0).mean(),
            "density": in_real.sum() / (k * len(fake)),
            "coverage": in_real.any(axis=0).mean(),
        }
        assert found[k] == pytest.approx(expected, rel=1e-6), k


def test_copies_of_points_are_neighbours_of_each_other() -> None:
    # Four copies of a point: the third neighbour is nowhere, the fifth is another point.
    real, fake = cloud(0, 135), cloud(1, 84)
    real = np.concatenate([real, np.repeat(real[:2], 3, axis=0)])
    fake = np.concatenate([fake, np.repeat(fake[:3], 3, axis=0), real[5:9]])
    equals_brute_force(real, fake)


def test_identical_sets_have_full_precision_recall_and_coverage() -> None:
    points = cloud(0, 141)
    for of_k in scores(points, points).values():
        assert [of_k[name] for name in ("precision", "recall", "coverage")] == WHOLE
        assert of_k["density"] >= 1


def test_identical_sets_of_nothing_but_copies_have_full_precision_recall_and_coverage() -> None:
    # Every radius is 0: a point that rounds away from its copy would fall out of its ball.
    points = np.repeat(10 * cloud(0, 24), 6, axis=0)[:141]
    for of_k in scores(points, points).values():
        assert [of_k[name] for name in ("precision", "recall", "coverage")] == WHOLE


def test_a_collapsed_set_is_precise_and_recalls_nothing() -> None:
    real = cloud(0, 141)
    collapsed = np.repeat(real[np.square(real - real.mean(axis=0)).sum(axis=1).argmin()][None], 97, axis=0)
    for of_k in scores(real, collapsed).values():
        assert of_k["precision"] == WHOLE[0]
        assert of_k["recall"] < 1.5 / 141  # The real point itself is in the ball of no radius.
        assert of_k["coverage"] < 0.3


def test_sets_far_apart_share_nothing() -> None:
    for of_k in scores(cloud(0, 141), cloud(1, 97) + 100).values():
        assert list(of_k.values()) == [0, 0, 0, 0]


def test_a_generator_that_misses_a_part_of_the_data_is_precise_and_recalls_the_rest() -> None:
    left, right = cloud(0, 97), cloud(1, 44) + 50
    for of_k in scores(np.concatenate([left, right]), left).values():
        assert of_k["precision"] == WHOLE[0]
        assert of_k["recall"] == of_k["coverage"] == pytest.approx(97 / 141)


def test_no_score_depends_on_where_the_origin_is() -> None:
    real, fake = cloud(0, 141), cloud(1, 97)
    # Of so many bits that the points move and do not round.
    real, fake = np.round(512 * real) / 512, np.round(512 * fake) / 512
    assert scores(real + 2000, fake + 2000) == scores(real, fake)


def test_known_radii_of_the_real_points_save_their_search() -> None:
    real, fake = array(cloud(0, 141)), array(cloud(1, 97))
    radii = squared_radii(real - real.mean(axis=0)[None], KS)
    assert neighbour_scores(real, fake, KS, radii) == neighbour_scores(real, fake, KS)
    nowhere = neighbour_scores(real, fake, KS, jnp.zeros_like(radii))
    assert float(nowhere[3].precision) == 0.0


@pytest.mark.parametrize("n", [6, 128, BLOCK + 44])
def test_radii_are_those_of_a_sort(n: int) -> None:
    points = cloud(n, n)
    sorted_distances = np.sort(np.square(points[:, None] - points[None]).sum(axis=2), axis=1)
    found = squared_radii(array(points), (1, 3, 5))
    np.testing.assert_allclose(found, sorted_distances[:, [1, 3, 5]].T, rtol=1e-4, atol=1e-5)


def test_the_smallest_values_come_in_order_with_their_copies() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 5, 128, 1000):
        values = rng.integers(0, 50, n).astype(np.float32)
        count = min(n, 7)
        assert neighbours._smallest(jnp.asarray(values), count).tolist() == np.sort(values)[:count].tolist()


@pytest.mark.parametrize(("n", "m", "ks"), [(5, 50, (3, 5)), (50, 5, (3, 5)), (50, 50, (0, 3)), (4, 4, (4,))])
def test_too_few_points_for_a_neighbourhood_are_refused(n: int, m: int, ks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{n} real and {m} generated points are too few"):
        neighbour_scores(array(cloud(0, n)), array(cloud(1, m)), ks)


def test_one_point_more_than_neighbours_is_enough() -> None:
    equals_brute_force(cloud(0, 6), cloud(1, 6))


def test_squared_distances_are_those_of_float64_and_never_negative() -> None:
    one, other = cloud(0, 50, 64), cloud(1, 70, 64)
    expected = np.square(one[:, None] - other[None]).sum(axis=2)
    np.testing.assert_allclose(squared_distances(array(one), array(other)), expected, rtol=1e-5)
    assert float(squared_distances(array(one * 1000), array(one * 1000)).min()) >= 0


@pytest.mark.parametrize("n", [1, BLOCK + 9])
def test_nearest_distances_are_those_of_all_pairs_and_0_for_a_memorised_point(n: int) -> None:
    others = cloud(0, 150)
    points = cloud(1, n)
    points[0] = others[77]
    found = np.asarray(nearest_distances(array(points), array(others)))
    expected = np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)
    assert found[0] <= 2e-3
    assert n == 1 or found[1:].min() > 0.05


def test_ten_thousand_against_ten_thousand_are_compared_block_by_block() -> None:
    n = 10_000
    features, radii = jax.ShapeDtypeStruct((n, 64), np.float32), jax.ShapeDtypeStruct((len(KS), n), np.float32)
    programs = (neighbours._compare.lower(features, radii, features, radii), squared_radii.lower(features, KS))
    for program in programs:
        memory = program.compile().memory_analysis()
        assert memory is not None
        assert memory.temp_size_in_bytes < n * n * 4 / 4  # A quarter of one matrix of distances.
