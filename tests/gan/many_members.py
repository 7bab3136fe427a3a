"""Run as a program with presets: trains members of each in turn, and alone; prints in what they differ, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
from small_runs import LABEL_COUNTS, TINY_SHAPE, changed, differing, random_dataset

from jaxgan.config import Config
from jaxgan.devices import member_mesh
from jaxgan.gan.batches import Dataset
from jaxgan.gan.population import (
    Population,
    init_population,
    member_state,
    pad_population,
    place_dataset,
    place_population,
    train_population,
)
from jaxgan.gan.program import train_steps
from jaxgan.gan.state import TrainState, init_state
from jaxgan.presets import PRESETS

MESH = member_mesh(2)
STEPS = 20


def few_images() -> Dataset:
    """50 images of 4 x 4 random bytes."""
    return place_dataset(random_dataset(50, TINY_SHAPE, classes=len(LABEL_COUNTS)), MESH)


def small(preset: str) -> Config:
    """A preset with at most two hidden layers of few units, and all else as it is."""
    config = PRESETS[preset]
    narrow = {f"{player}.widths": (6, 6)[: len(getattr(config, player).widths)] for player in ("gen", "disc")}
    told = min(config.disc.minibatch_std, 2)
    return changed(config, {**narrow, "disc.minibatch_std": told, "batch_size": 8, "latent.size": 3})


def unlike(config: Config) -> list[Config]:
    """Three members of one structure with other seeds, rates and averages."""
    return [
        changed(config, {"seed": 3, "decay_steps": 0}),
        changed(config, {"seed": 4, "gen.optimizer.learning_rate": 3e-3, "disc.optimizer.b2": 0.9}),
        changed(config, {"seed": 4, "gen.optimizer.b1": 0.3, "decay_steps": 50, **_numbers_of(config)}),
    ]


def _numbers_of(config: Config) -> dict[str, Any]:
    """Other values of the numbers that only some structures have."""
    found: dict[str, Any] = {"average_decay": 0.9} if config.average_decay else {}
    if config.objective.is_cross_entropy:
        found["objective.real_label"] = 0.8
    return found | ({"objective.r1": 3.0} if config.objective.r1 else {})


def place(members: list[Config]) -> Population:
    """Members on two devices, with one that does not run where their number is odd."""
    return place_population(pad_population(init_population(members, TINY_SHAPE, LABEL_COUNTS), MESH.size), MESH)


def program_of(config: Config) -> Config:
    """A config of the same program: one for presets that differ in how they start only."""
    return changed(config, {f"{player}.initializer": "glorot_uniform" for player in ("gen", "disc")})


def alone(config: Config, dataset: Dataset) -> tuple[TrainState, Any]:
    """The single run of a member."""
    state = init_state(config, jax.random.key(config.seed), TINY_SHAPE, LABEL_COUNTS)
    return train_steps(program_of(config), state, dataset, STEPS)


def compare(members: list[Config], start: Population, dataset: Dataset) -> dict[str, Any]:
    """What three members did, and in which leaves and metrics they differ from their single runs."""
    after, rows = train_population(program_of(members[0]), MESH, start, dataset, STEPS, batched=False)
    found: list[str] = []
    for i, config in enumerate(members):
        state, metrics = alone(config, dataset)
        found += differing(member_state(after, i), state)
        found += differing({name: column[i] for name, column in rows.items()}, dict(metrics))
    return {
        "step": int(after.step),
        "devices": len(after.running.sharding.device_set),
        "running": after.running.tolist(),
        "differing": found,
    }


def main() -> None:
    """Prints what the tests look at."""
    few, members = few_images(), {preset: unlike(small(preset)) for preset in sys.argv[1:]}
    # How a state begins is no question here, and these programs are many: they are compiled in haste.
    jax.config.update("jax_disable_most_optimizations", True)
    starts = {preset: place(members[preset]) for preset in members}
    jax.config.update("jax_disable_most_optimizations", False)
    print(json.dumps({preset: compare(members[preset], starts[preset], few) for preset in members}))


if __name__ == "__main__":
    main()
