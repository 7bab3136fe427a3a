"""Many members in one program: states stacked on a leading `member` axis, each with a key and numbers of its own.

On a CPU the members of a device run one after the other, so that each has the bits of a single run; on an accelerator
they are batched, which agrees with single runs to rounding for some dozens of steps. Members are sharded over devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array, Bool, Float, Int32

from jaxgan.config import Config
from jaxgan.gan.batches import Dataset, check_batch_size, draw_batch
from jaxgan.gan.objectives import metric_names
from jaxgan.gan.state import IMAGE_SHAPE, TrainState, init_state, learned
from jaxgan.gan.updates import train_step

CAPACITY = 1024
"""The most steps that one call of the compiled program makes."""

ACTIVATIONS = 4
"""Values that a step keeps of each unit (and pixel) for every image of a batch, about."""

Row = Float[Array, " names"]

_EACH, _SAME = PartitionSpec("member"), PartitionSpec()


class Population(NamedTuple):
    """Members of one structure that have been trained for equally long, but for those that diverged."""

    step: Int32[Array, ""]
    """Steps done."""
    states: TrainState
    """Every leaf has a leading axis `member`."""
    running: Bool[Array, " member"]
    """False from the step on at which a member diverged: it stays as it was after that step."""


_SPECS: Any = Population(step=_SAME, states=_EACH, running=_EACH)  # pyright: ignore[reportArgumentType]


def init_population(
    configs: Sequence[Config],
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    label_counts: tuple[int, ...] = (),
    store: Sharding | None = None,
) -> Population:
    """Step 0 of a population: member i is state 0 of the run of configs[i], with the key of its seed.

    Args:
        configs: One for each member, one or more, of one structure.
        image_shape: (h, w, c) of the data set's images.
        label_counts: How many training images each class has; only conditional configs read them.
        store: Where all of them are held, such as the host's CPU; by default the device that they are made on.

    Raises:
        ValueError: There are none, or their structures differ.
    """
    if len({config.structure for config in configs}) != 1:
        raise ValueError("the members of a population must be of one structure")
    fresh = (init_state(config, jax.random.key(config.seed), image_shape, label_counts) for config in configs)
    states = [jax.device_put(state, store) for state in fresh]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return jax.device_put(Population(jnp.int32(0), stacked, jnp.ones(len(configs), bool)), store)


def population_template(
    config: Config, members: int, image_shape: tuple[int, int, int], label_counts: tuple[int, ...], store: Sharding
) -> Population:
    """The shapes and types of a population, to restore into `store`."""

    def struct(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=store)

    state = jax.eval_shape(lambda: init_state(config, jax.random.key(0), image_shape, label_counts))
    states = jax.tree.map(lambda leaf: struct((members, *leaf.shape), leaf.dtype), state)
    return Population(struct((), jnp.int32), states, struct((members,), jnp.bool_))


def member_bytes(
    config: Config, image_shape: tuple[int, int, int] = IMAGE_SHAPE, label_counts: tuple[int, ...] = ()
) -> int:
    """An estimate of the device memory that training one member takes where all make a step at once.

    Its state, as much again for the one that is being made, and ACTIVATIONS numbers for each unit and image.
    """
    state = jax.eval_shape(lambda: init_state(config, jax.random.key(0), image_shape, label_counts))
    units = math.prod(image_shape) + sum(config.gen.widths) + sum(config.disc.widths) + config.latent.size
    numbers = 2 * sum(leaf.size for leaf in jax.tree.leaves(state)) + ACTIVATIONS * config.batch_size * units
    return numbers * jnp.dtype(jnp.result_type(float)).itemsize


def pad_population(population: Population, multiple: int) -> Population:
    """Adds copies of the first member that do not run, until the members are a multiple of some number of devices."""
    missing = -population.running.shape[0] % multiple
    if missing == 0:
        return population
    copies = jax.tree.map(lambda leaf: jnp.concatenate([leaf, *[leaf[:1]] * missing]), population.states)
    return Population(population.step, copies, jnp.concatenate([population.running, jnp.zeros(missing, bool)]))


def trim_population(population: Population, members: int) -> Population:
    """The first members only: what `pad_population` added is taken off again."""
    if population.running.shape[0] == members:
        return population
    first = jax.tree.map(lambda leaf: leaf[:members], (population.states, population.running))
    return Population(population.step, *first)


def place_population(population: Population, mesh: Mesh) -> Population:
    """Shards the members over the axis `member` of a mesh, whose devices must divide their number."""
    # What is sharded over one device comes out of a program as replicated, and would have the next call compiled anew.
    specs = _SPECS if mesh.size > 1 else _SAME
    return jax.device_put(population, jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs))


def place_dataset(dataset: Dataset, mesh: Mesh) -> Dataset:
    """Puts a copy of a data set on every device of a mesh."""
    return jax.device_put(dataset, NamedSharding(mesh, _SAME))


@jax.jit
def member_state(population: Population, member: Int32[Array, ""] | int) -> TrainState:
    """The state of one member, counted from 0: that of a run."""
    return jax.tree.map(lambda leaf: leaf[member], population.states)


@jax.jit
def finite_members(population: Population) -> Bool[Array, " member"]:
    """Whether all that a member has learned is finite; metrics need not show an optimiser that has overflown."""
    leaves = jax.tree.leaves(learned(population.states))
    return jnp.stack([jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in leaves]).all(axis=0)


def stop_members(population: Population, running: Bool[Array, " member"]) -> Population:
    """The same population, in which members go on only where `running` is true, too."""
    return population._replace(running=population.running & running)


def _population_loop(
    config: Config, mesh: Mesh, batched: bool, population: Population, dataset: Dataset, num_steps: Int32[Array, ""]
) -> tuple[Population, Float[Array, "member capacity names"]]:
    """The compiled training program of a population: up to CAPACITY steps of each; consumes (donates) `population`.

    Args:
        config: The structure of all members; numbers and keys come from their states.
        mesh: Devices, over whose axis `member` the population is sharded.
        batched: Whether the members of a device make a step all at once, else one makes all its steps before the next.
        population: As `place_population` made it.
        dataset: Training images, as `place_dataset` made it.
        num_steps: Steps to make; traced.

    Returns:
        The population after them, and a row a step for each member, of the metrics named by `metric_names`; rows of
        steps that a member did not make are NaN.
    """

    def train(
        population: Population, dataset: Dataset, num_steps: Int32[Array, ""]
    ) -> tuple[Population, Float[Array, "member capacity names"]]:
        step, states, running = population
        if batched:
            states, running, rows = _train_together(config, dataset, step, num_steps, states, running)
        else:
            each = partial(_train_member, config, dataset, num_steps)
            states, running, rows = jax.lax.map(lambda member: each(*member), (states, running))
        return Population(step + num_steps, states, running), rows

    specs = (_SPECS, _SAME, _SAME)
    # Collectives there are none, and what is the same on all devices is known to be.
    sharded = jax.shard_map(train, mesh=mesh, in_specs=specs, out_specs=(_SPECS, _EACH), check_vma=False)
    return sharded(population, dataset, num_steps)


population_loop: Any = jax.jit(
    _population_loop, static_argnames=("config", "mesh", "batched"), donate_argnames="population"
)


def _train_member(
    config: Config, dataset: Dataset, num_steps: Int32[Array, ""], state: TrainState, running: Bool[Array, ""]
) -> tuple[TrainState, Bool[Array, ""], Float[Array, "capacity names"]]:
    """What `train_loop` does, up to a step whose metrics are not finite."""
    rows = jnp.full((CAPACITY, len(metric_names(config))), jnp.nan)

    def goes_on(carry: tuple[Array, TrainState, Array, Array]) -> Bool[Array, ""]:
        i, _, _, running = carry
        return (i < num_steps) & running

    def body(carry: tuple[Array, TrainState, Array, Array]) -> tuple[Array, TrainState, Array, Array]:
        i, state, rows, running = carry
        state, row = _step(config, dataset, state)
        return i + 1, state, rows.at[i].set(row), running & jnp.isfinite(row).all()

    _, state, rows, running = jax.lax.while_loop(goes_on, body, (jnp.int32(0), state, rows, running))
    return state, running, rows


def _train_together(
    config: Config,
    dataset: Dataset,
    first: Int32[Array, ""],
    num_steps: Int32[Array, ""],
    states: TrainState,
    running: Bool[Array, " member"],
) -> tuple[TrainState, Bool[Array, " member"], Float[Array, "member capacity names"]]:
    members, names = running.shape[0], len(metric_names(config))
    # Members that run are all at one step; where that is known, a branch on it stays a branch.
    axes = jax.tree.map(lambda _: 0, states)._replace(step=None)
    make_step = jax.vmap(partial(_step, config, dataset), in_axes=(axes,))

    def body(i: Int32[Array, ""], carry: tuple[TrainState, Array, Array]) -> tuple[TrainState, Array, Array]:
        states, running, rows = carry
        after, row = make_step(states._replace(step=first + i))

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(running.reshape(members, *[1] * (new.ndim - 1)), new, old)

        rows = rows.at[:, i].set(jnp.where(running[:, None], row, jnp.nan))
        return jax.tree.map(chosen, after, states), running & jnp.isfinite(row).all(axis=1), rows

    rows = jnp.full((members, CAPACITY, names), jnp.nan)
    return jax.lax.fori_loop(jnp.int32(0), num_steps, body, (states, running, rows))


def _step(config: Config, dataset: Dataset, state: TrainState) -> tuple[TrainState, Row]:
    state, metrics = train_step(config, state, draw_batch(config, dataset, state.key, state.step))
    return state, jnp.stack([metrics[name] for name in metric_names(config)])


def train_population(
    config: Config,
    mesh: Mesh,
    population: Population,
    dataset: Dataset,
    num_steps: int,
    *,
    batched: bool | None = None,
) -> tuple[Population, Mapping[str, Float[np.ndarray, "member steps"]]]:
    """Makes `num_steps` steps of every member in one compiled program and waits; consumes (donates) `population`.

    A member whose metrics of a step are not finite stays as it is after that step; the others go on.

    Args:
        config: Of any member: its structure is read.
        mesh: Where the members are.
        population: As `place_population` made it; it cannot be used afterwards.
        dataset: Training images, as `place_dataset` made it.
        num_steps: Steps to make, >= 0.
        batched: Whether members make a step all at once; by default everywhere but on a CPU.

    Returns:
        The population after the steps, and the metrics of every step of each member by name: NaN where a member that
        diverged earlier made no step.

    Raises:
        InputError: The batch is larger than the data set.
        ValueError: `num_steps` is negative.
    """
    if num_steps < 0:
        raise ValueError(f"num_steps must be 0 or more, not {num_steps}")
    check_batch_size(config, dataset.images.shape[0])
    if batched is None:
        batched = mesh.devices.flat[0].platform != "cpu"
    names = metric_names(config)
    pieces = [np.zeros((population.running.shape[0], 0, len(names)), np.float32)]
    for start in range(0, num_steps, CAPACITY):
        length = min(CAPACITY, num_steps - start)
        steps = jax.device_put(jnp.int32(length), NamedSharding(mesh, _SAME))
        population, rows = population_loop(config.structure, mesh, batched, population, dataset, steps)
        pieces.append(np.asarray(rows)[:, :length])
    return population, dict(zip(names, np.moveaxis(np.concatenate(pieces, axis=1), 2, 0), strict=True))
