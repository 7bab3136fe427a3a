"""Which members a sweep has: flags split into values, each read by the config's own parser, and all put together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, make_dataclass, replace
from typing import Annotated, Any, get_type_hints

import tyro

from jaxgan import cli
from jaxgan.config import Config, InputError, flag, leaves, with_values

MOST_MEMBERS = 10_000

# Fields that do not change what a member learns, or that would leave scores without a common measure.
_OF_ALL = ("data.name", "data.data_dir", "data.manual_dir", "data.holdout", "eval_every")
_OF_TRAIN = {
    "keep_best": "--keep K exports the best members",
    "data.resident": "a sweep keeps its images on the devices",
}


@dataclass(frozen=True)
class Range:
    """Numbers to be drawn from, uniformly or with a uniform logarithm."""

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, uniform: float) -> float | int:
        """The number at a share in [0, 1) of the range; whole, or of four digits."""
        if self.whole:
            low, high = self.low - 0.5 * self.log, self.high + 1 - 0.5 * self.log
        else:
            low, high = self.low, self.high
        value = math.exp(_between(math.log(low), math.log(high), uniform)) if self.log else _between(low, high, uniform)
        if self.whole:
            return min(max(round(value) if self.log else math.floor(value), int(self.low)), int(self.high))
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    @property
    def ends(self) -> tuple[float | int, float | int]:
        """Both ends, as values of the field."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Grid:
    """What the command line says of the members' configs."""

    fixed: dict[str, Any] = field(default_factory=dict)
    """Values that all members share, by dotted name."""
    values: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)


def split_flags(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Flags and what follows them: `--a 1 2 --b=3` -> {"--a": ["1", "2"], "--b": ["3"]}.

    Raises:
        InputError: Something comes before the first flag, or a flag twice.
    """
    found: dict[str, list[str]] = {}
    values: list[str] | None = None
    for word in arguments:
        if word.startswith("--") or word == "-h":
            name, equals, value = word.partition("=")
            name = name.replace("_", "-")
            if name in found:
                raise InputError(f"{name} is given twice: put all of its values behind one")
            values = found[name] = [value] if equals else []
        elif values is None:
            raise InputError(f"{word!r} follows no flag")
        else:
            values.append(word)
    return found


def read_grid(flags: Mapping[str, Sequence[str]]) -> Grid:
    """Reads flags of the config with one or more values each.

    Raises:
        InputError: There is no such field, it has no values, the same value twice, one that its type does not have, or
            a range that makes no sense.
    """
    kinds, grid = _kinds(Config), Grid()
    spelled = {flag(name): name for name in kinds}
    switched_off = {_negated(name): name for name in kinds if kinds[name] is bool}
    for given, words in flags.items():
        if given in switched_off and not words:
            spelled[given] = switched_off[given]
        if given not in spelled:
            cli.parse(Config, [given, *words], usage="sweep", description="")  # Says what it may have meant.
            raise InputError(f"there is no field {given}")
        name = spelled[given]
        kind = kinds[name]
        if kind is bool and not words:
            grid.fixed[name] = given != _negated(name)
        elif kind in (int, float) and any(".." in word for word in words):
            grid.ranges[name] = _read_range(given, words, whole=kind is int)
        elif len(values := _read_values(given, kind, words)) == 1:
            grid.fixed[name] = values[0]
        else:
            grid.values[name] = values
    _check_fields(grid)
    return grid


def all_members(preset: Config, grid: Grid, seeds: int | None, samples: int | None) -> list[Config]:
    """The configs of all members: every combination of values, times the draws from ranges, times the seeds.

    Args:
        preset: Gives every value that the grid does not.
        grid: What is fixed and what is swept.
        seeds: Seeds of each combination, from `seed` on.
        samples: Draws from the ranges; the same ones for every combination of values.

    Raises:
        InputError: There is nothing to sweep over, or a value or a combination that a config refuses.
    """
    _check_counts(grid, seeds, samples)
    count = (samples or 1) * (seeds or 1) * math.prod(map(len, grid.values.values()))
    if count > MOST_MEMBERS:
        raise InputError(f"the sweep has {count:,} members; at most {MOST_MEMBERS:,} are taken")
    first_seed = int(grid.fixed.get("seed", preset.seed))
    replace(preset, seed=first_seed)  # Draws need a good one.
    draws = [dict(zip(grid.ranges, drawn, strict=True)) for drawn in _draws(grid.ranges, samples or 1, first_seed)]
    lows, highs = ({name: ends.ends[i] for name, ends in grid.ranges.items()} for i in (0, 1))
    found = []
    for point in itertools.product(*grid.values.values()):
        shared = grid.fixed | dict(zip(grid.values, point, strict=True))
        for ends in (lows, highs) if grid.ranges else ():
            with_values(preset, shared | ends)
        for drawn in draws:
            config = with_values(preset, shared | drawn)
            found += [config] if seeds is None else [replace(config, seed=first_seed + i) for i in range(seeds)]
    if (different := len(set(found))) < len(found):
        raise InputError(
            f"--samples {samples} draws the same numbers more than once, and so {different} different members of "
            f"{len(found)}: take fewer, or wider ranges"
        )
    return found


def swept_fields(members: Sequence[Config]) -> tuple[str, ...]:
    """The dotted names of the fields in which members differ, `seed` among them, in the config's order."""
    columns = zip(*(leaves(member) for member in members), strict=True)
    return tuple(column[0][0] for column in columns if len(set(column)) > 1)


def group_members(members: Sequence[Config]) -> list[list[int]]:
    """Indices of the members that can be one population: of one structure and length."""
    groups: dict[tuple[Config, int], list[int]] = {}
    for i, member in enumerate(members):
        groups.setdefault((member.structure, member.num_steps), []).append(i)
    return list(groups.values())


def cut_into_waves(groups: Sequence[Sequence[int]], fitting: Callable[[int], int]) -> list[list[int]]:
    """Cuts groups of members into the fewest waves, as even as can be.

    Args:
        groups: Indices of members.
        fitting: How many members fit into a wave, of the structure of a given member.
    """
    waves = []
    for group in groups:
        number = -(-len(group) // max(1, fitting(group[0])))
        size, larger = divmod(len(group), number)
        rest = iter(group)
        waves += [list(itertools.islice(rest, size + (i < larger))) for i in range(number)]
    return waves


def _kinds(group: type, prefix: str = "") -> dict[str, Any]:
    """The type of every field of a config that is not a group of fields, by dotted name."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(group).items():
        found |= _kinds(kind, f"{prefix}{name}.") if is_dataclass(kind) else {f"{prefix}{name}": kind}  # pyright: ignore[reportArgumentType]
    return found


def _negated(name: str) -> str:
    group, dot, last = name.rpartition(".")
    return flag(f"{group}{dot}no-{last}")


def _read_values(given: str, kind: Any, words: Sequence[str]) -> tuple[Any, ...]:
    if not words or not all(words):
        raise InputError(f"{given} is a sweep over nothing: give one value or more")
    is_tuple = str(kind).startswith("tuple")
    column = Annotated[kind, tyro.conf.arg(name=given.removeprefix("--")), tyro.conf.FlagConversionOff]
    reader = make_dataclass("Field", [("value", column)])
    values = []
    for word in words:
        parts = word.split(",") if is_tuple else [word]
        value = cli.parse(reader, [given, *parts], usage="sweep", description="").value
        if value in values:
            hint = f"; join a tuple's numbers by commas: {','.join(words)}" if is_tuple else ""
            raise InputError(f"{given} has the value {word} twice{hint}")
        values.append(value)
    return tuple(values)


def _read_range(given: str, words: Sequence[str], *, whole: bool) -> Range:
    if len(words) > 1:
        raise InputError(f"{given} {' '.join(words)}: give values, or one range, not both")
    ends, colon, scale = words[0].partition(":")
    low, _, high = ends.partition("..")
    if colon and scale != "log":
        raise InputError(f"{given} {words[0]}: a range is LOW..HIGH or LOW..HIGH:log")
    try:
        numbers = [float(int(end) if whole else end) for end in (low, high)]
    except (ValueError, OverflowError) as error:
        kind = "whole numbers" if whole else "numbers"
        raise InputError(f"{given} {words[0]}: a range is LOW..HIGH or LOW..HIGH:log, of two {kind}") from error
    if not all(map(math.isfinite, numbers)) or numbers[0] >= numbers[1]:
        raise InputError(f"{given} {words[0]}: the first number of a range must be less than the second")
    if scale and numbers[0] <= 0:
        raise InputError(f"{given} {words[0]}: a logarithmic range begins above 0")
    return Range(numbers[0], numbers[1], bool(scale), whole)


def _check_fields(grid: Grid) -> None:
    for name in (*grid.values, *grid.ranges):
        if name in _OF_ALL or name.startswith("every."):
            raise InputError(f"{flag(name)} is the same for all members of a sweep: give one value")
    for name, instead in _OF_TRAIN.items():
        if name in {*grid.fixed, *grid.values, *grid.ranges}:
            raise InputError(f"{flag(name)} belongs to train; {instead}")


def _check_counts(grid: Grid, seeds: int | None, samples: int | None) -> None:
    if not (grid.values or grid.ranges or seeds is not None):
        raise InputError("a sweep over nothing: give --seeds N, or several values to a field")
    for name, count in (("--seeds", seeds), ("--samples", samples)):
        if count is not None and not 1 <= count <= MOST_MEMBERS:
            raise InputError(f"{name} must be a whole number from 1 to {MOST_MEMBERS}, not {count}")
    if seeds is not None and ("seed" in grid.values or "seed" in grid.ranges):
        raise InputError("--seeds counts from one --seed: give several seeds to --seed, or --seeds N, not both")
    if grid.ranges and samples is None:
        raise InputError(f"{flag(next(iter(grid.ranges)))} is a range: --samples N says how many numbers to draw")
    if samples is not None and not grid.ranges:
        raise InputError("--samples draws from ranges, such as 1e-5..1e-2:log, and there is none")


def _draws(ranges: Mapping[str, Range], samples: int, seed: int) -> Iterator[tuple[float | int, ...]]:
    import numpy as np

    # A stream for each field, so that another field in the sweep changes none of the numbers.
    columns = [np.random.default_rng([seed, *name.encode()]).random(samples) for name in ranges]
    for i in range(samples):
        yield tuple(each.draw(float(column[i])) for each, column in zip(ranges.values(), columns, strict=True))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
