from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from gan.small_runs import changed

from jaxgan.config import RANGES, Config, InputError, flag, leaves
from jaxgan.presets import PRESETS

PLAIN = {"objective.r1": 0.0, "objective.r2": 0.0}
"""No penalties."""

HALVES = PLAIN | {"objective.name": "non_saturating", "objective.updates": "halves"}

INFINITE = (math.nan, math.inf, -math.inf)

# One row a field that has a range: values just outside it, or outside of it in float32, then values just inside.
ROWS: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    ("seed", (-1, 2**32, True), (0, 2**32 - 1)),
    ("num_steps", (0, -1, 2**31 - 1), (1, 2**31 - 2)),
    ("batch_size", (0, -1, 2**31, True), (1, 1000)),
    ("accumulate", (0, -1, 2**31, True), (1, 64)),
    ("decay_steps", (-1, 2**31 - 1), (0, 2**31 - 2)),
    ("decay_start", (-1, 2**31 - 1), (0, 2**31 - 2)),
    ("average_decay", (-1e-9, 1 - 1e-9, 1.0, 1.5, *INFINITE), (0.0, 0.5, 1 - 1e-7)),
    ("average_warmup", (-1, True, 2**31 - 1), (0, 9, 2**31 - 2)),
    ("keep", (0, -1), (1, 50)),
    ("eval_every", (-1, 2**31 - 1), (0, 1, 2**31 - 2)),
    *(
        row
        for player in ("gen", "disc")
        for row in [
            (f"{player}.widths", ((), (0,), (128, 0), (128, -1), (2**16 + 1,)), ((1,), (1, 2, 3))),
            (f"{player}.negative_slope", (-0.01, 1.0, *INFINITE), (0.0, 0.99)),
            (f"{player}.optimizer.learning_rate", (0.0, -1e-3, 1e-50, 1e39, *INFINITE), (1e-30, 1.0, 10)),
            (f"{player}.optimizer.b1", (-0.1, 1 - 1e-9, 1.0, 1.1, *INFINITE), (0.0, 0.999)),
            (f"{player}.optimizer.b2", (-0.1, 1.0, 1.1, *INFINITE), (0.0, 0.999)),
            (f"{player}.optimizer.epsilon", (0.0, -1e-8, *INFINITE), (1e-30, 1.0)),
        ]
    ),
    ("disc.minibatch_std", (-1, True, 2**31 - 1), (0, 1, 2)),
    ("latent.size", (0, -1, 2**16 + 1), (1, 1000)),
    ("latent.label_scale", (0.0, -1.0, 1000.1, *INFINITE), (0.5, 1, 2.0)),
    ("latent.scale", (0.0, -1.0, 1000.1, *INFINITE), (0.5, 1, 2.0)),
    ("augment.shift", (-1, 17, True), (0, 16)),
    ("augment.probability", (0.0, -0.1, 1.1, *INFINITE), (1e-3, 1.0)),
    ("objective.r1", (-1e-9, 1e39, *INFINITE), (0.0, 100.0)),
    ("objective.r2", (-1e-9, *INFINITE), (0.0, 100.0)),
    ("objective.gradient_penalty", (-1e-9, *INFINITE), (0.0, 10)),
    ("objective.penalty_every", (0, -1, True, 2**31 - 1), (1, 16, 2**31 - 2)),
    ("data.holdout", (-1,), (0, 5000)),
    ("every.log", (-1,), (0, 1)),
    ("every.print", (-1,), (0, 1)),
    ("every.sample", (-1,), (0, 1)),
    ("every.checkpoint", (-1,), (0, 1)),
    ("every.grid", (0, -1, 101), (1, 10)),
]


WORDS = {
    "gen.activation": "relu, leaky_relu, silu, tanh",
    "gen.initializer": "glorot_uniform, he_normal, lecun_normal",
    "gen.output": "sigmoid, tanh, clipped_tanh",
    "disc.activation": "relu, leaky_relu, silu, tanh",
    "disc.initializer": "glorot_uniform, he_normal, lecun_normal",
    "latent.prior": "normal, uniform",
    "objective.name": "minimax, non_saturating, least_squares, wasserstein, hinge, relativistic",
    "objective.updates": "joint, halves, simultaneous",
    "data.name": "auto, mnist, fashion_mnist, kmnist, digits, stacked_mnist",
    "data.order": "epochs, replacement",
    "data.resident": "auto, device, host",
}


def test_fields_of_words_take_those_words_only() -> None:
    for name, words in WORDS.items():
        wanted, test = RANGES[name]
        assert wanted == f"must be one of {words}"
        assert all(map(test, words.split(", ")))
        assert not any(map(test, ("gelu", "", None)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("activation='gelu'", "--gen.activation must be one of relu, leaky_relu, silu, tanh, not gelu"),
        ("widths=[16]", "--gen.widths must name one or more hidden layers of 1 to 65536 units, not [16]"),
    ],
)
def test_values_of_other_types_are_refused_where_nothing_checks_types(change: str, told: str) -> None:
    # As these tests do.
    program = f"from jaxgan.config import Config, GeneratorConfig; Config(gen=GeneratorConfig({change}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.endswith(f"jaxgan.config.InputError: {told}\n")


def test_the_slope_of_an_activation_that_has_none_compiles_nothing_anew() -> None:
    for activation, same in (("relu", True), ("leaky_relu", False)):
        one, other = (
            changed(Config(), {"disc.activation": activation, "disc.negative_slope": slope}) for slope in (0.1, 0.2)
        )
        assert (one.structure == other.structure) is same


def test_every_range_has_a_row() -> None:
    # Smoothed labels need another objective than the default's, and have a test of their own.
    assert {name for name, _, _ in ROWS} | {"objective.real_label"} == RANGES.keys() - WORDS.keys()


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(InputError) as refused:
        changed(Config(), changes)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, outside, _ in ROWS for value in outside], ids=str)
def test_values_out_of_range_are_refused_by_the_name_of_their_flag(name: str, value: Any) -> None:
    message = refusal({name: value})
    assert message.startswith(f"--{name.replace('_', '-')} must ")
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert message.endswith(f", not {shown or 'nothing'}")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, _, inside in ROWS for value in inside], ids=str)
def test_values_at_the_ends_of_their_range_are_taken(name: str, value: Any) -> None:
    assert dict(leaves(changed(Config(), {name: value})))[name] == value


@pytest.mark.parametrize("value", [0.0, -0.1, 1.2, 1 + 1e-9, *INFINITE])
def test_labels_outside_the_unit_interval_are_refused(value: float) -> None:
    message = refusal({"objective.name": "non_saturating", "objective.real_label": value})
    assert message == f"--objective.real-label must be in (0, 1], not {value}"


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_labels_are_smoothed_for_cross_entropies(name: str) -> None:
    assert changed(Config(), {"objective.name": name, "objective.real_label": 0.9}).objective.real_label == 0.9


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        *(
            ({"objective.name": name, "objective.real_label": 0.9}, ["--objective.real-label 0.9", name])
            for name in ("hinge", "least_squares", "wasserstein", "relativistic")
        ),
        (PLAIN | {"objective.updates": "halves"}, ["--objective.updates halves", "--objective.name relativistic"]),
        ({"eval_every": 10, "data.holdout": 99}, ["--eval-every", "--data.holdout 100", "99"]),
        ({"keep_best": True}, ["--keep-best", "--eval-every"]),
        ({"disc.minibatch_std": 3}, ["--disc.minibatch-std 3", "which has 2", "--disc.widths"]),
        (HALVES | {"batch_size": 33}, ["--batch-size", "even", "33"]),
        (HALVES | {"latent.shared": True}, ["--latent.shared", "--objective.updates halves"]),
        (HALVES | {"conditional": True}, ["--conditional", "--objective.updates halves"]),
        (HALVES | {"objective.r1": 1.0}, ["--objective.updates halves", "r1"]),
        (HALVES | {"objective.r2": 1.0}, ["--objective.updates halves", "r2"]),
        (HALVES | {"objective.gradient_penalty": 1.0}, ["--objective.updates halves", "gradient-penalty"]),
        *(
            (PLAIN | {"disc.batch_norm": True, f"objective.{penalty}": 0.1}, ["--disc.batch-norm", "penalties"])
            for penalty in ("r1", "r2", "gradient_penalty")
        ),
    ],
)
def test_combinations_without_a_meaning_are_refused_by_the_names_of_their_flags(
    changes: dict[str, Any], flags: list[str]
) -> None:
    message = refusal(changes)
    assert [wanted for wanted in flags if wanted not in message] == []


@pytest.mark.parametrize(
    "changes",
    [
        HALVES | {"batch_size": 32},
        *(HALVES | {"objective.name": name} for name in ("minimax", "least_squares", "wasserstein", "hinge")),
        PLAIN | {"disc.batch_norm": True},
        HALVES | {"disc.batch_norm": True, "objective.real_label": 0.9},
        {"gen.batch_norm": True},
        {"latent.shared": True, "batch_size": 33},
        {"eval_every": 10, "keep_best": True, "data.holdout": 100},
        {"data.holdout": 0},
    ],
)
def test_combinations_with_a_meaning_are_taken(changes: dict[str, Any]) -> None:
    config = changed(Config(), changes)
    fields = dict(leaves(config))
    assert {name: fields[name] for name in changes} == changes


def test_a_step_of_halves_looks_at_half_a_batch_of_real_images() -> None:
    assert changed(Config(), HALVES | {"batch_size": 32}).real_batch_size == 16
    assert changed(Config(), {"batch_size": 32}).real_batch_size == 32


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().seed = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FrozenInstanceError):
        Config().gen.optimizer.b1 = 0.5  # pyright: ignore[reportAttributeAccessIssue]


def test_flags_are_the_names_of_fields_with_dashes() -> None:
    assert flag("gen.optimizer.learning_rate") == "--gen.optimizer.learning-rate"
    assert flag("seed") == "--seed"


# Structure. Fields that shape the program, each with another value; all others must not.

SHAPES: dict[str, Any] = {
    "batch_size": 64,
    "accumulate": 2,
    "conditional": True,
    "average_decay": 0.0,
    "average_warmup": 5,
    "gen.widths": (512,),
    "gen.activation": "relu",
    "gen.negative_slope": 0.1,
    "gen.residual": True,
    "gen.batch_norm": True,
    "gen.initializer": "he_normal",
    "gen.output": "sigmoid",
    "disc.widths": (512,),
    "disc.activation": "relu",
    "disc.negative_slope": 0.1,
    "disc.residual": True,
    "disc.batch_norm": True,
    "disc.initializer": "he_normal",
    "disc.minibatch_std": 1,
    "disc.black_at_zero": True,
    "latent.size": 64,
    "latent.prior": "uniform",
    "latent.shared": True,
    "objective.name": "hinge",
    "objective.r1": 1.0,
    "objective.r2": 1.0,
    "objective.gradient_penalty": 1.0,
    "objective.updates": "halves",
    "augment.shift": 2,
    "data.order": "replacement",
}

NUMBERS: dict[str, Any] = {
    "seed": 1,
    "num_steps": 5,
    "decay_steps": 5,
    "decay_start": 5,
    "average_decay": 0.5,
    "keep": 9,
    "eval_every": 7,
    "keep_best": True,
    **{
        f"{player}.optimizer.{name}": 0.25
        for player in ("gen", "disc")
        for name in ("learning_rate", "b1", "b2", "epsilon")
    },
    "latent.scale": 1.5,
    "latent.label_scale": 1.5,
    "objective.real_label": 0.9,
    "objective.penalty_every": 4,  # Where there is no penalty, as here.
    "augment.probability": 0.25,
    "data.name": "digits",
    "data.data_dir": Path("there"),
    "data.manual_dir": Path("here"),
    "data.holdout": 300,
    "data.resident": "host",
    "every.log": 3,
    "every.print": 3,
    "every.sample": 3,
    "every.sample_after": True,
    "every.grid": 3,
    "every.checkpoint": 3,
}

BASE = changed(
    Config(), PLAIN | {"objective.name": "non_saturating", "eval_every": 10, "decay_steps": 7, "data.holdout": 500}
)


def test_every_field_is_known_to_shape_the_program_or_not() -> None:
    assert {name for name, _ in leaves(Config())} == SHAPES.keys() | NUMBERS.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_fields_that_shape_the_program_change_the_structure(name: str) -> None:
    other = changed(BASE, {name: SHAPES[name]})
    assert other != BASE
    assert other.structure != BASE.structure
    assert dict(leaves(other.structure))[name] == SHAPES[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_fields_that_do_not_shape_the_program_leave_the_structure_alone(name: str) -> None:
    other = changed(BASE, {name: NUMBERS[name]})
    assert other != BASE
    assert other.structure == BASE.structure
    assert hash(other.structure) == hash(BASE.structure)


@pytest.mark.parametrize("name", ["r1", "r2", "gradient_penalty"])
def test_weights_of_penalties_that_are_present_leave_the_structure_alone(name: str) -> None:
    one, other = (changed(BASE, {f"objective.{name}": weight}) for weight in (0.1, 10))
    assert one.structure == other.structure
    assert hash(one.structure) == hash(other.structure)


@pytest.mark.parametrize("name", ["r1", "r2", "gradient_penalty"])
def test_steps_between_penalties_shape_the_program_where_there_is_one(name: str) -> None:
    lazy = changed(BASE, {f"objective.{name}": 0.1, "objective.penalty_every": 4})
    assert lazy.structure != changed(BASE, {f"objective.{name}": 0.1}).structure
    assert lazy.structure.objective.penalty_every == 4


def test_the_warmup_of_an_average_that_is_not_kept_leaves_the_structure_alone() -> None:
    one, other = (changed(BASE, {"average_decay": 0.0, "average_warmup": warmup}) for warmup in (9, 4))
    assert one.structure == other.structure


@pytest.mark.parametrize("config", [*PRESETS.values(), Config()], ids=[*PRESETS, "default"])
def test_the_structure_of_a_structure_is_itself(config: Config) -> None:
    assert config.structure.structure == config.structure
    assert {config.structure: 1}[config.structure.structure] == 1
    assert config.structure.real_batch_size == config.real_batch_size
