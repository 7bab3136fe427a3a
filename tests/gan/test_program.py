from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import GAME, SYSTEMS, TINY_SHAPE, bits, changed, differing, draw, random_dataset

from jaxgan.config import Config, InputError
from jaxgan.gan import program
from jaxgan.gan.batches import Dataset
from jaxgan.gan.objectives import metric_names
from jaxgan.gan.program import train_loop, train_steps
from jaxgan.gan.state import TrainState, init_state
from jaxgan.gan.updates import train_step
from jaxgan.presets import PRESETS

Metrics = Mapping[str, np.ndarray]


def fresh_tiny(config: Config = GAME, seed: int = 0) -> TrainState:
    return init_state(config, jax.random.key(seed), TINY_SHAPE)


@pytest.fixture(scope="module")
def few() -> Dataset:
    """50 images of 4 x 4 random bytes."""
    return random_dataset(50, TINY_SHAPE)


def train_in_pieces(
    config: Config, state: TrainState, dataset: Dataset, lengths: list[int]
) -> tuple[TrainState, dict[str, np.ndarray]]:
    pieces: list[Metrics] = []
    for length in lengths:
        state, metrics = train_steps(config, state, dataset, length)
        pieces.append(metrics)
    return state, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


# One program. These tests come first, so that no other has compiled the program of GAME.


def test_runs_of_any_length_compile_one_program(few: Dataset) -> None:
    train_loop.program.clear_cache()
    state, _ = train_steps(GAME, fresh_tiny(), few, 3)
    for length in (1, 17, 0, 5):
        state, _ = train_steps(GAME, state, few, length)
    train_steps(GAME, fresh_tiny(seed=3), few, 2)
    assert train_loop.program._cache_size() == 1


def test_configs_that_differ_in_numbers_only_share_one_program_and_compute_different_things(few: Dataset) -> None:
    state, _ = train_steps(GAME, fresh_tiny(), few, 3)
    size = train_loop.program._cache_size()
    for name, value in {
        "gen.optimizer.learning_rate": 1e-2,
        "disc.optimizer.b1": 0.5,
        "disc.optimizer.b2": 0.5,
        "gen.optimizer.epsilon": 1e-3,
        "objective.r1": 5.0,
        "objective.real_label": 0.9,
        "average_decay": 0.05,
        "decay_steps": 3,
    }.items():
        other = changed(GAME, {name: value})
        after, _ = train_steps(other, fresh_tiny(other), few, 3)
        assert differing((state.params, state.average), (after.params, after.average)) != [], name
    same = changed(GAME, {"seed": 4, "num_steps": 5, "keep": 1, "every.log": 7, "data.holdout": 3})
    assert differing(state, train_steps(same, fresh_tiny(same), few, 3)[0]) == []
    assert train_loop.program._cache_size() == size


# The same bits.


@pytest.mark.parametrize("preset", SYSTEMS)
def test_a_run_has_the_same_bits_wherever_it_is_cut(
    preset: str, dataset: Dataset, fresh: Callable[[str], TrainState]
) -> None:
    config = PRESETS[preset]
    whole, rows = train_in_pieces(config, fresh(preset), dataset, [12])
    assert int(whole.step) == 12
    assert [len(column) for column in rows.values()] == [12] * len(metric_names(config))
    for lengths in ([1, 11], [7, 0, 5], [1] * 12):
        state, cut = train_in_pieces(config, fresh(preset), dataset, lengths)
        assert differing(whole, state) == [], lengths
        assert differing(rows, cut) == [], lengths
    assert all(np.isfinite(leaf).all() for leaf in bits(whole).values())


@pytest.mark.parametrize("config", [GAME, PRESETS["vanilla"]], ids=["tiny", "vanilla"])
def test_the_compiled_program_computes_what_a_loop_over_train_step_does(config: Config, dataset: Dataset) -> None:
    shape, length = TINY_SHAPE if config is GAME else (28, 28, 1), 8
    images = random_dataset(50, TINY_SHAPE) if config is GAME else dataset
    start = init_state(config, jax.random.key(0), shape)
    before = bits(start.params)
    whole, rows = train_steps(config, start, images, length)
    state, steps = init_state(config, jax.random.key(0), shape), []
    for _ in range(length):
        state, metrics = train_step(config, state, draw(config, images, state.key, state.step))
        steps.append(metrics)
    # Both gave the same bits on a CPU with JAX 0.10.2, but XLA promises that within one program only: what it
    # promises is float32 rounding, which eight steps leave below 1e-5.
    assert rows.keys() == steps[0].keys()
    for name, column in rows.items():
        np.testing.assert_allclose(column, [step[name] for step in steps], rtol=1e-5, err_msg=name)
    for path, leaf in bits(whole.params).items():
        moved = np.linalg.norm(leaf - before[path])
        assert np.linalg.norm(leaf - bits(state.params)[path]) < 1e-5 * moved, path


def test_runs_of_one_seed_have_the_same_bits_and_runs_of_two_seeds_differ_everywhere(few: Dataset) -> None:
    first, again, other = (train_steps(GAME, fresh_tiny(seed=seed), few, 5) for seed in (0, 0, 1))
    assert differing(first, again) == []
    own = bits((first[0].params, first[0].opt_state, first[0].average, first[1]))
    theirs = bits((other[0].params, other[0].opt_state, other[0].average, other[1]))
    assert [path for path in own if (own[path] == theirs[path]).all()] == [
        path for path in own if path.endswith(".count")
    ]


def test_runs_longer_than_the_capacity_go_on_in_further_calls(few: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    # The capacity is part of the program, so no other test may have this structure.
    config = changed(GAME, {"objective.name": "hinge"})
    monkeypatch.setattr(program, "CAPACITY", 4)
    whole, rows = train_steps(config, fresh_tiny(), few, 10)
    state, cut = train_in_pieces(config, fresh_tiny(), few, [3, 3, 4])
    assert int(whole.step) == 10
    assert differing(whole, state) == []
    assert differing(rows, cut) == []
    assert [len(np.unique(column)) for column in (rows["loss/disc"], rows["loss/gen"])] == [10, 10]


# What a call takes and leaves.


def test_training_consumes_its_state_and_nothing_else(few: Dataset) -> None:
    key = jax.random.key(0)
    state = init_state(GAME, key, TINY_SHAPE)
    train_steps(GAME, state, few, 2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in (key, *few))
    assert differing(init_state(GAME, key, TINY_SHAPE), fresh_tiny()) == []


def test_a_call_of_the_program_moves_nothing_between_host_and_device(few: Dataset) -> None:
    state, length = fresh_tiny(), jnp.int32(3)
    with jax.transfer_guard("disallow"):
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            train_loop(GAME, state, few, np.int32(3))  # pyright: ignore[reportArgumentType]
        state, rows = train_loop(GAME, state, few, length)
        state, rows = train_loop(GAME, state, few, length)
    assert int(state.step) == 6
    assert rows.shape == (program.CAPACITY, len(metric_names(GAME)))
    assert (np.asarray(rows)[3:] == 0).all()


def test_no_steps_leave_the_state_as_it_is(few: Dataset) -> None:
    state, metrics = train_steps(GAME, fresh_tiny(), few, 0)
    assert differing(state, fresh_tiny()) == []
    assert tuple(metrics) == metric_names(GAME)
    assert all(column.shape == (0,) and column.dtype == np.float32 for column in metrics.values())


def test_a_batch_larger_than_the_data_set_is_refused_before_the_state_is_consumed(few: Dataset) -> None:
    state = fresh_tiny()
    with pytest.raises(InputError, match=r"--batch-size 51 .* has 50"):
        train_steps(changed(GAME, {"batch_size": 51}), state, few, 1)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_the_average_at_the_start_is_a_copy_of_the_generator() -> None:
    state = fresh_tiny()
    assert differing(state.average, state.params.gen) == []
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((state.average, state.params.gen))]
    assert len(set(pointers)) == len(pointers)


def test_a_negative_number_of_steps_is_refused() -> None:
    config = PRESETS["vanilla"]
    dataset = Dataset(jnp.zeros((200, 28, 28, 1), jnp.uint8), jnp.zeros(200, jnp.int32))
    with pytest.raises(ValueError, match="num_steps must be 0 or more, not -1"):
        train_steps(config, init_state(config, jax.random.key(0)), dataset, -1)


def test_a_state_of_images_of_another_shape_is_refused() -> None:
    config = PRESETS["vanilla"]
    dataset = Dataset(jnp.zeros((200, 28, 28, 3), jnp.uint8), jnp.zeros(200, jnp.int32))
    with pytest.raises(ValueError, match=r"the state is of images \(28, 28, 1\), the data set of \(28, 28, 3\)"):
        train_steps(config, init_state(config, jax.random.key(0)), dataset, 1)
