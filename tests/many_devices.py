"""Run as a program: trains every preset in float64 on one CPU device and on more; prints how they differ, as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gan.small_runs import LABEL_COUNTS, TINY_SHAPE, bits, changed, random_dataset
from jax.sharding import AxisType, Mesh

from jaxgan.config import Config
from jaxgan.data.cache import Arrays
from jaxgan.data.stream import Stream
from jaxgan.devices import on_one_device, replicate, split_steps
from jaxgan.gan.batches import DATA
from jaxgan.gan.program import train_loop, train_steps
from jaxgan.gan.state import init_state
from jaxgan.presets import PRESETS

STEPS = 20


def narrow(config: Config) -> Config:
    """A preset with at most two hidden layers of few units."""
    gen = replace(config.gen, widths=(8, 8)[: len(config.gen.widths)])
    told = min(config.disc.minibatch_std, 2)
    disc = replace(config.disc, widths=(8, 8)[: len(config.disc.widths)], minibatch_std=told)
    return replace(config, batch_size=16, gen=gen, disc=disc)


def mesh_of(count: int) -> Mesh:
    """The first devices as a mesh."""
    return jax.make_mesh((count,), (DATA,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])


def train(config: Config, count: int, *, served: bool = False) -> dict[str, np.ndarray]:
    """What 20 steps on a mesh of so many devices lead to; without a mesh where there are none."""
    dataset = random_dataset(64, TINY_SHAPE, classes=len(LABEL_COUNTS))
    # One program for presets that differ in how they start only.
    program = replace(config, gen=replace(config.gen, initializer="glorot_uniform"))
    program = replace(program, disc=replace(config.disc, initializer="glorot_uniform"))
    state = init_state(config, jax.random.key(0), TINY_SHAPE, LABEL_COUNTS)
    if count:
        mesh = mesh_of(count)
        state, dataset = replicate(mesh, (state, dataset))
    if served:
        arrays = Arrays(np.asarray(dataset.images), np.asarray(dataset.labels))
        key = on_one_device(state.key)
        state, metrics = Stream(program, arrays, key, lambda block: split_steps(mesh_of(count), block)).train(
            state, STEPS
        )
    else:
        state, metrics = train_steps(program, state, dataset, STEPS)
    return bits((state, dict(metrics)))


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference of two numbers in the same place."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[path].astype(float) - other[path].astype(float)).max()) for path in one)


def collectives(config: Config, count: int) -> dict[str, int]:
    """How often the compiled program moves data between devices, by kind."""
    mesh = jax.make_mesh((count,), (DATA,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    state, dataset = replicate(
        mesh, (init_state(config, jax.random.key(0), TINY_SHAPE), random_dataset(64, TINY_SHAPE))
    )
    text = train_loop.program.lower(config.structure, state, dataset, jnp.int32(STEPS)).compile().as_text()
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    return {kind: text.count(f" {kind}(") + text.count(f" {kind}-start(") for kind in kinds}


def main() -> None:
    """Prints what the tests look at."""
    found: dict[str, Any] = {"devices": jax.device_count(), "presets": {}}
    for name in PRESETS:
        preset = PRESETS[name]
        one = train(narrow(preset), 1)
        assert all(np.isfinite(leaf).all() for leaf in one.values())
        counts = (2, 8) if name in ("deep-batchnorm", "modern") else (8,)
        found["presets"][name] = {count: distance(one, train(narrow(preset), count)) for count in counts}
    vanilla, modern = narrow(PRESETS["vanilla"]), narrow(PRESETS["modern"])
    found["mesh of one"] = distance(train(vanilla, 0), train(vanilla, 1))
    deep = narrow(PRESETS["deep-batchnorm"])
    found["served"] = distance(train(deep, 2), train(deep, 2, served=True))
    games = {
        "modern": modern,
        "penalty": changed(
            modern, {"objective.name": "wasserstein", "objective.gradient_penalty": 2.0, "latent.shared": True}
        ),
        "best": changed(narrow(PRESETS["best"]), {"disc.minibatch_std": 0}),
        "halves": changed(vanilla, {"objective.updates": "halves", "batch_size": 32}),
    }
    found["accumulated"] = {
        name: distance(train(game, 1), train(replace(game, accumulate=4), 4)) for name, game in games.items()
    }
    found["collectives"] = collectives(vanilla, 8)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
