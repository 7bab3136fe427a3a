from __future__ import annotations

from typing import Any

import pytest

from jaxgan.config import leaves
from jaxgan.presets import DEFAULT_PRESET, DESCRIPTIONS, PRESETS

# The table of the five systems, written out field by field. Where an original leaves a value open, or keeps no
# checkpoints or summaries, the value is our choice.

COMMON: dict[str, Any] = {
    "seed": 0,
    "batch_size": 128,
    "accumulate": 1,
    "conditional": False,
    "decay_steps": 0,
    "decay_start": 0,
    "average_decay": 0.0,
    "average_warmup": 9,
    "keep": 3,
    "gen.widths": (128,),
    "gen.residual": False,
    "gen.batch_norm": False,
    "gen.initializer": "glorot_uniform",
    "disc.widths": (128,),
    "disc.residual": False,
    "disc.batch_norm": False,
    "disc.initializer": "glorot_uniform",
    "disc.minibatch_std": 0,
    "disc.black_at_zero": False,
    "latent.size": 100,
    "latent.shared": False,
    "latent.scale": 1.0,
    "latent.label_scale": 1.0,
    "objective.name": "non_saturating",
    "objective.real_label": 1.0,
    "objective.r1": 0.0,
    "objective.r2": 0.0,
    "objective.gradient_penalty": 0.0,
    "objective.penalty_every": 1,
    "objective.updates": "joint",
    "augment.shift": 0,
    "augment.probability": 0.5,
    "data.name": "auto",
    "data.data_dir": None,
    "data.manual_dir": None,
    "data.holdout": 5000,
    "data.order": "epochs",
    "data.resident": "auto",
    "eval_every": 0,
    "keep_best": False,
    "every.print": 1000,
    "every.sample": 1000,
    "every.sample_after": False,
    "every.grid": 4,
}


def hidden(activation: str, slope: float | None = None) -> dict[str, Any]:
    """The hidden activation of both players."""
    slopes = {} if slope is None else {"gen.negative_slope": slope, "disc.negative_slope": slope}
    return {"gen.activation": activation, "disc.activation": activation} | slopes


def adam(learning_rate: float, b1: float, b2: float, epsilon: float) -> dict[str, Any]:
    """The optimiser of both players."""
    values = {"learning_rate": learning_rate, "b1": b1, "b2": b2, "epsilon": epsilon}
    return {f"{player}.optimizer.{name}": value for player in ("gen", "disc") for name, value in values.items()}


OURS = ("modern", "best", "stacked")

TABLE: dict[str, dict[str, Any]] = {
    "vanilla": COMMON
    | hidden("relu")
    | adam(1e-3, 0.9, 0.999, 1e-8)
    | {
        "num_steps": 1_000_000,
        "gen.output": "sigmoid",
        "latent.prior": "uniform",
        "every.log": 100,
        "every.checkpoint": 10_000,
    },
    "leaky-tanh": COMMON
    | hidden("leaky_relu", 0.01)
    | adam(1e-3, 0.9, 0.999, 1e-8)
    | {
        "num_steps": 55_000,
        "batch_size": 100,
        "keep": 1,
        "gen.output": "tanh",
        "latent.prior": "uniform",
        "latent.shared": True,
        "objective.real_label": 0.9,
        "every.log": 550,
        "every.print": 550,
        "every.sample": 550,
        "every.checkpoint": 550,
    },
    "deep-batchnorm": COMMON
    | hidden("leaky_relu", 0.2)
    | adam(2e-4, 0.5, 0.999, 1e-7)
    | {
        "num_steps": 30_000,
        "batch_size": 32,
        "gen.widths": (256, 512, 1024),
        "gen.batch_norm": True,
        "gen.output": "tanh",
        "disc.widths": (512, 256),
        "latent.prior": "normal",
        "objective.updates": "halves",
        "data.holdout": 0,
        "data.order": "replacement",
        "every.log": 100,
        "every.sample": 200,
        "every.sample_after": True,
        "every.grid": 5,
        "every.checkpoint": 5000,
    },
    "logged": COMMON
    | hidden("relu")
    | adam(1e-3, 0.9, 0.999, 1e-8)
    | {
        "num_steps": 1_000_000,
        "keep": 50,
        "gen.initializer": "he_normal",
        "gen.output": "sigmoid",
        "disc.initializer": "he_normal",
        "latent.prior": "uniform",
        "every.log": 100,
        "every.checkpoint": 1000,
    },
    "gaussian-leaky": COMMON
    | hidden("leaky_relu", 0.2)
    | adam(1e-3, 0.9, 0.999, 1e-8)
    | {
        "num_steps": 30_000,
        "gen.output": "tanh",
        "latent.prior": "normal",
        "latent.shared": True,
        "objective.real_label": 0.9,
        "data.holdout": 0,
        "every.log": 100,
        "every.checkpoint": 5000,
    },
}


@pytest.mark.parametrize("preset", TABLE)
def test_presets_are_the_five_systems_field_by_field(preset: str) -> None:
    fields = dict(leaves(PRESETS[preset]))
    unread = {"gen.negative_slope", "disc.negative_slope"} - TABLE[preset].keys()  # ReLU has no slope.
    assert fields.keys() - unread == TABLE[preset].keys()
    assert {name: fields[name] for name in TABLE[preset]} == TABLE[preset]
    assert not unread or fields["gen.activation"] == "relu"


def test_modern_is_the_default_and_averages_its_generator_and_has_both_penalties() -> None:
    assert DEFAULT_PRESET == "modern"
    fields = dict(leaves(PRESETS["modern"]))
    expected = adam(1.4e-3, 0.0, 0.99, 1e-8) | {
        "num_steps": 16_000,
        "decay_start": 2000,
        "decay_steps": 14_000,
        "batch_size": 128,
        "average_decay": 0.9995,
        "average_warmup": 9,
        "gen.widths": (512, 512, 512),
        "gen.residual": True,
        "disc.widths": (384, 384, 384),
        "disc.residual": True,
        "gen.output": "clipped_tanh",
        "gen.activation": "leaky_relu",
        "disc.activation": "relu",
        "disc.black_at_zero": True,
        "latent.shared": True,
        "latent.scale": 1.1,
        "latent.prior": "normal",
        "objective.name": "hinge",
        "objective.r1": 1.0,
        "objective.r2": 1.0,
        "data.holdout": 5000,
    }
    assert {name: fields[name] for name in expected} == expected


def test_best_and_stacked_are_modern_for_longer_and_on_other_data() -> None:
    modern = dict(leaves(PRESETS["modern"]))
    schedule = {"num_steps", "decay_start", "decay_steps"}
    rates = {"gen.optimizer.learning_rate", "disc.optimizer.learning_rate"}
    cadences = {"every.log", "every.print", "every.sample", "every.checkpoint"}
    loss = {"objective.name", "latent.shared"}
    gammas = {"objective.r1", "objective.r2", "objective.penalty_every"}
    sampling = {"latent.scale", "latent.label_scale"}
    differ = {name: {k for k, v in leaves(PRESETS[name]) if v != modern[k]} for name in ("best", "stacked")}
    assert differ == {
        "best": schedule
        | rates
        | cadences
        | loss
        | gammas
        | sampling
        | {"disc.widths", "disc.minibatch_std", "conditional", "average_decay", "average_warmup", "objective.updates"}
        | {"augment.shift", "augment.probability"},
        "stacked": schedule
        | rates
        | loss
        | {"disc.widths", "disc.activation", "disc.black_at_zero", "latent.scale", "data.name"},
    }
    best, stacked = PRESETS["best"], PRESETS["stacked"]
    assert (best.num_steps, best.decay_start, best.decay_steps) == (85_000, 4000, 93_000)
    assert (best.latent.scale, best.latent.label_scale) == (1.13, 1.06)
    assert (best.gen.optimizer.learning_rate, best.conditional, best.disc.minibatch_std) == (5e-4, True, 3)
    assert (best.average_decay, best.average_warmup) == (0.99994, 4)
    assert (best.augment.shift, best.augment.probability) == (1, 0.25)
    assert best.objective.r1 == best.objective.r2 == 0.1
    assert (best.objective.penalty_every, best.objective.updates) == (4, "simultaneous")
    assert (stacked.num_steps, stacked.decay_start, stacked.decay_steps) == (30_000, 22_500, 7500)
    assert stacked.gen.optimizer.learning_rate == 6e-4
    for config in (best, stacked):
        assert config.gen.optimizer == config.disc.optimizer


def test_real_images_in_a_step_are_those_of_the_originals() -> None:
    sizes = {preset: config.real_batch_size for preset, config in PRESETS.items() if preset not in OURS}
    assert sizes == {"vanilla": 128, "leaky-tanh": 100, "deep-batchnorm": 16, "logged": 128, "gaussian-leaky": 128}


def test_every_preset_has_a_description_of_one_line() -> None:
    assert list(DESCRIPTIONS) == list(PRESETS) == [*OURS, *TABLE]
    assert all(text and "\n" not in text for text in DESCRIPTIONS.values())
