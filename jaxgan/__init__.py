"""Trains small GANs as pure functions in JAX: one compiled program, exact to the bit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxgan.config import Config, InputError
    from jaxgan.data.dataset import load_dataset
    from jaxgan.gan.batches import Batch, Dataset, draw_batch
    from jaxgan.gan.labels import count_labels
    from jaxgan.gan.program import train_steps
    from jaxgan.gan.sampling import discriminate, generate
    from jaxgan.gan.state import TrainState, init_state
    from jaxgan.gan.updates import discriminator_update, generator_update, simultaneous_update, train_step
    from jaxgan.metrics.scores import score
    from jaxgan.presets import PRESETS
    from jaxgan.runs.loading import load_run

__version__ = "0.1.0"

_HOMES = {
    "PRESETS": "presets",
    "Batch": "gan.batches",
    "Config": "config",
    "Dataset": "gan.batches",
    "InputError": "config",
    "TrainState": "gan.state",
    "count_labels": "gan.labels",
    "discriminate": "gan.sampling",
    "discriminator_update": "gan.updates",
    "draw_batch": "gan.batches",
    "generate": "gan.sampling",
    "generator_update": "gan.updates",
    "init_state": "gan.state",
    "load_dataset": "data.dataset",
    "load_run": "runs.loading",
    "score": "metrics.scores",
    "simultaneous_update": "gan.updates",
    "train_step": "gan.updates",
    "train_steps": "gan.program",
}

__all__ = [
    "PRESETS",
    "Batch",
    "Config",
    "Dataset",
    "InputError",
    "TrainState",
    "count_labels",
    "discriminate",
    "discriminator_update",
    "draw_batch",
    "generate",
    "generator_update",
    "init_state",
    "load_dataset",
    "load_run",
    "score",
    "simultaneous_update",
    "train_step",
    "train_steps",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for, so that `import jaxgan` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxgan' has no attribute {name!r}")
    value = getattr(import_module(f"jaxgan.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
