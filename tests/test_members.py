from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan.config import Config, InputError, leaves
from jaxgan.members import Range, all_members, cut_into_waves, group_members, read_grid, split_flags, swept_fields
from jaxgan.presets import PRESETS


def sweep(line: str, preset: str = "vanilla", seeds: int | None = None, samples: int | None = None) -> list[Config]:
    return all_members(PRESETS[preset], read_grid(split_flags(line.split())), seeds, samples)


def values(members: list[Config], *names: str) -> list[tuple[object, ...]]:
    return [tuple(dict(leaves(member))[name] for name in names) for member in members]


RATE = "gen.optimizer.learning_rate"


def test_members_are_every_combination_of_values_times_the_seeds() -> None:
    members = sweep("--gen.optimizer.learning-rate 1e-4 2e-4 --batch-size 16 32 --seed 5", seeds=2)
    assert values(members, RATE, "batch_size", "seed") == [
        (rate, batch, seed) for rate in (1e-4, 2e-4) for batch in (16, 32) for seed in (5, 6)
    ]
    assert swept_fields(members) == ("seed", "batch_size", RATE)
    fixed = dict(leaves(PRESETS["vanilla"]))
    for member in members:
        changed = {name for name, value in leaves(member) if value != fixed[name]}
        assert changed <= {RATE, "batch_size", "seed"}


def test_tuples_are_joined_by_commas_switches_take_words_and_seeds_can_be_listed() -> None:
    line = "--gen.widths 128 256,64 --gen.batch-norm True False --seed 3 9 --disc.widths=32,16 --latent.shared"
    members = sweep(line)
    assert len(members) == 8
    assert set(values(members, "gen.widths", "gen.batch_norm", "seed")) == {
        (widths, norm, seed) for widths in ((128,), (256, 64)) for norm in (True, False) for seed in (3, 9)
    }
    assert set(values(members, "disc.widths", "latent.shared")) == {((32, 16), True)}
    assert values(sweep("--latent.no-shared", "leaky-tanh", seeds=1), "latent.shared") == [(False,)]


def test_draws_are_inside_their_range_the_same_every_time_and_of_the_same_numbers_beside_another_field() -> None:
    line = "--gen.optimizer.learning-rate 1e-5..1e-2:log --disc.optimizer.b1 0.2..0.8"
    members = sweep(line, samples=40)
    drawn = values(members, RATE, "disc.optimizer.b1")
    assert len(set(drawn)) == 40
    assert all(1e-5 <= rate <= 1e-2 and 0.2 <= b1 <= 0.8 for rate, b1 in drawn)  # pyright: ignore[reportOperatorIssue]
    assert values(sweep(line, samples=40), RATE, "disc.optimizer.b1") == drawn
    assert values(sweep(line + " --seed 1", samples=40), RATE) != values(members, RATE)
    crossed = sweep(line + " --objective.real-label 0.8 0.9", samples=40)
    assert values(crossed, RATE, "disc.optimizer.b1") == drawn * 2


def test_seeds_can_be_drawn() -> None:
    seeds = [member.seed for member in sweep("--seed 1..1000000", samples=5)]
    assert len(set(seeds)) == 5
    assert all(1 <= seed <= 1_000_000 for seed in seeds)


@given(st.floats(0, 1, exclude_max=True))
def test_a_draw_has_a_uniform_value_or_a_uniform_logarithm(share: float) -> None:
    assert Range(2.0, 6.0, log=False, whole=False).draw(share) == pytest.approx(2 + 4 * share, rel=1e-3)
    log = Range(1e-4, 1.0, log=True, whole=False).draw(share)
    assert math.log10(log) == pytest.approx(-4 + 4 * share, abs=1e-3)
    whole = Range(2.0, 6.0, log=False, whole=True).draw(share)
    assert whole == 2 + math.floor(5 * share)
    assert Range(2.0, 64.0, log=True, whole=True).draw(share) in range(2, 65)


def test_a_value_may_need_another_that_is_swept_or_fixed_beside_it() -> None:
    line = "--objective.name non_saturating minimax --objective.real-label 0.8 0.9 --objective.r1 0 --objective.r2 0"
    assert len(sweep(line, "modern")) == 4


def test_members_of_one_structure_and_length_are_one_group_and_groups_are_cut_evenly() -> None:
    members = sweep("--objective.r1 0 1 2 --num-steps 10 20", "modern", seeds=2)
    groups = group_members(members)
    assert sorted(index for group in groups for index in group) == list(range(12))
    for group in groups:
        assert len({(members[i].structure, members[i].num_steps) for i in group}) == 1
    assert sorted(map(len, groups)) == [2, 2, 4, 4]
    waves = cut_into_waves([list(range(7)), [7, 8]], lambda member: 3 if member < 7 else 100)
    assert waves == [[0, 1, 2], [3, 4], [5, 6], [7, 8]]
    assert cut_into_waves([[0, 1]], lambda _: 0) == [[0], [1]]


@pytest.mark.parametrize(
    ("line", "seeds", "samples", "message"),
    [
        ("", None, None, "sweep over nothing"),
        ("--num-steps 5", None, None, "sweep over nothing"),
        ("--gen.optimizer.learning-rate", 2, None, "--gen.optimizer.learning-rate is a sweep over nothing"),
        ("--gen.optimizer.learning-rate=", 2, None, "is a sweep over nothing"),
        ("--gen.optimizer.learning-rat 1 2", None, None, "did you mean --gen.optimizer.learning-rate"),
        ("--foo 1 2", None, None, "--foo"),
        ("3 --seed 4", None, None, "'3' follows no flag"),
        ("--seed 1 --seed 2", None, None, "--seed is given twice"),
        ("--gen.optimizer.learning-rate 1e-3 x", None, None, "--gen.optimizer.learning-rate must be a number, not x"),
        ("--gen.optimizer.learning-rate 1e-3 -1", None, None, "must be a finite number above 0, not -1.0"),
        ("--gen.widths 128 128", None, None, "twice; join a tuple's numbers by commas: 128,128"),
        ("--gen.widths 8..16", None, 2, "--gen.widths"),
        ("--objective.name hinge wgan", None, None, "invalid choice 'wgan'"),
        ("--objective.name hinge relativistic --objective.real-label 0.9", None, None, "--objective.real-label"),
        ("--gen.optimizer.learning-rate 1e-2..1e-3", None, 2, "must be less than the second"),
        ("--gen.optimizer.learning-rate 1e-3..1e-3", None, 2, "must be less than the second"),
        ("--gen.optimizer.learning-rate nan..1", None, 2, "must be less than the second"),
        ("--gen.optimizer.learning-rate 0..1:log", None, 2, "begins above 0"),
        ("--gen.optimizer.learning-rate 0.1..1:lin", None, 2, "LOW..HIGH or LOW..HIGH:log"),
        ("--gen.optimizer.learning-rate 0.1..", None, 2, "of two numbers"),
        ("--batch-size 1.5..3", None, 2, "of two whole numbers"),
        ("--gen.optimizer.learning-rate 1e-3..1e-2 1", None, 2, "give values, or one range"),
        ("--gen.optimizer.b1 0.5..2", None, 2, "--gen.optimizer.b1 must be in [0, 1), not 2.0"),
        ("--gen.optimizer.learning-rate 1e-3..1e-2", None, None, "--samples N says how many"),
        ("--gen.optimizer.learning-rate 1e-3 1e-2", None, 2, "--samples draws from ranges"),
        ("--gen.optimizer.learning-rate 1e-3..1e-2", None, 0, "--samples must be a whole number from 1"),
        ("", 0, None, "--seeds must be a whole number from 1"),
        ("--seed 1 2", 3, None, "--seeds counts from one --seed"),
        ("--seed 4294967295", 2, None, "--seed must be a whole number"),
        ("--seed -1 --objective.r1 0.1..1", None, 3, "--seed must be a whole number"),
        ("--every.log 1 2", None, None, "--every.log is the same for all members"),
        ("--data.name mnist digits", None, None, "--data.name is the same for all members"),
        ("--keep-best", 2, None, "--keep-best belongs to train"),
        ("--data.resident host", 2, None, "--data.resident belongs to train; a sweep keeps its images on the devices"),
        ("--batch-size 8..9", None, 6, "draws the same numbers more than once, and so 2 different members of 6"),
        (f"--num-steps 1..{'9' * 400}", None, 2, "of two whole numbers"),
        ("--num-steps 1 2 3 --decay-steps 1..9000", 2000, 5, "30,000 members; at most 10,000"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(
    line: str, seeds: int | None, samples: int | None, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        sweep(line, seeds=seeds, samples=samples)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_draw_that_is_rounded_to_four_digits_stays_inside_its_range() -> None:
    narrow = Range(0.333333, 0.333337, log=False, whole=False)
    assert narrow.low <= narrow.draw(0.0) <= narrow.draw(0.999) <= narrow.high


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.68, 1), (0.69, 2), (0.999, 2)])
def test_a_whole_number_is_drawn_by_the_logarithm_from_half_below_to_half_above(share: float, value: int) -> None:
    # ln(1.5 / 0.5) / ln(2.5 / 0.5) = 0.683.
    assert Range(1.0, 2.0, log=True, whole=True).draw(share) == value
