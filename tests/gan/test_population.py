from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from many_members import MESH, STEPS, alone, few_images, place, small, unlike
from running import AS_EVER, LIGHTLY, find, make_once
from small_runs import LABEL_COUNTS, TINY_SHAPE, bits, changed, differing, tiny

from jaxgan.config import InputError
from jaxgan.devices import member_mesh
from jaxgan.gan import population as populations
from jaxgan.gan.batches import Dataset
from jaxgan.gan.objectives import metric_names
from jaxgan.gan.population import (
    Population,
    finite_members,
    init_population,
    member_bytes,
    member_state,
    pad_population,
    place_dataset,
    place_population,
    population_loop,
    stop_members,
    train_population,
    trim_population,
)
from jaxgan.gan.state import init_state
from jaxgan.presets import PRESETS

# A game of this file's own, so that no other test compiles its programs.
GAME = tiny(objective__name="minimax", latent__size=4)


@pytest.fixture(scope="module")
def few() -> Dataset:
    return few_images()


# The one with labels and penalties at some steps, and the one with batch norm: members of these are compiled as a
# command's are, which takes twice as long.
COMPILED_AS_EVER = ("best", "deep-batchnorm")


@pytest.fixture(scope="module")
def optimised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `many_members.py` finds in processes of its own, since the programs of this one are not optimised."""
    program = Path(__file__).with_name("many_members.py")
    others = [preset for preset in PRESETS if preset not in COMPILED_AS_EVER]

    def both(_: Path) -> dict[str, Any]:
        one = find(program, *COMPILED_AS_EVER, **AS_EVER, JAX_NUM_CPU_DEVICES="2")
        return one | find(program, *others, **LIGHTLY, JAX_NUM_CPU_DEVICES="2")

    return make_once(tmp_path_factory, "members", both)


# A member is a run.


@pytest.mark.parametrize("preset", PRESETS)
def test_members_that_run_one_after_the_other_have_the_bits_of_their_single_runs(
    preset: str, optimised: dict[str, Any]
) -> None:
    running = [True, True, True, False]
    assert optimised[preset] == {"step": STEPS, "devices": 2, "running": running, "differing": []}


@pytest.mark.parametrize("preset", PRESETS)
def test_members_that_run_all_at_once_are_their_single_runs_to_rounding(preset: str, few: Dataset) -> None:
    members = unlike(small(preset))
    # XLA orders sums otherwise, and Adam makes of the rounding of a gradient near 0 a step like any other: in float64.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        together, rows = train_population(members[0], MESH, place(members), few, STEPS, batched=True)
        starts = [init_state(config, jax.random.key(config.seed), TINY_SHAPE, LABEL_COUNTS) for config in members]
        runs = [alone(config, few) for config in members]
    assert int(together.step) == STEPS
    assert MESH.size == len(together.running.sharding.device_set) == 2
    assert together.running.tolist() == [True] * 3 + [False]
    for i, (start, (state, metrics)) in enumerate(zip(map(bits, starts), runs, strict=True)):
        for path, leaf in bits(member_state(together, i)).items():
            own = bits(state)[path]
            moved = np.linalg.norm((own - start[path]).astype(float)) + 1e-6
            assert np.linalg.norm((leaf - own).astype(float)) <= 1e-9 * moved, path
        for name, column in metrics.items():
            np.testing.assert_allclose(rows[name][i], column, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("batched", [False, True])
def test_steps_without_penalties_compute_none_however_members_run(batched: bool, few: Dataset) -> None:
    lazy = changed(GAME, {"objective.penalty_every": 4})
    branches = []
    for config in (GAME, lazy):
        population = place([changed(config, {"seed": seed}) for seed in range(2)])
        program = population_loop.lower(config.structure, MESH, batched, population, few, 1).as_text()
        branches.append(program.count("stablehlo.case") + program.count("stablehlo.if"))
    assert branches == [0, 1]


@pytest.mark.parametrize("batched", [False, True])
def test_a_population_has_the_same_bits_wherever_it_is_cut_and_compiles_one_program(
    batched: bool, few: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    population_loop.clear_cache()  # An earlier test may have compiled it.
    members = unlike(GAME)
    with jax.log_compiles():
        whole, rows = train_population(GAME, MESH, place(members), few, 12, batched=batched)
        cut, pieces = place(members), []
        for length in (1, 0, 7, 4):
            cut, piece = train_population(GAME, MESH, cut, few, length, batched=batched)
            pieces.append(piece)
        train_population(GAME, MESH, place(unlike(changed(GAME, {"objective.r1": 7.0}))), few, 2, batched=batched)
    assert caplog.text.count("Finished XLA compilation of jit(_population_loop)") == 1
    assert differing(whole, cut) == []
    together = {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in metric_names(GAME)}
    assert differing(rows, together) == []


# What a call takes and leaves.


def test_training_consumes_its_population_and_moves_nothing_between_host_and_device(few: Dataset) -> None:
    population, length = place(unlike(GAME)), jax.device_put(jnp.int32(3), few.images.sharding)
    with jax.transfer_guard("disallow"):
        after, rows = population_loop(GAME.structure, MESH, False, population, few, length)
        after, rows = population_loop(GAME.structure, MESH, False, after, few, length)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(population.states))
    assert not any(leaf.is_deleted() for leaf in few)
    assert int(after.step) == 6
    assert rows.shape == (4, populations.CAPACITY, len(metric_names(GAME)))


def test_populations_longer_than_the_capacity_go_on_in_further_calls(
    few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def loop(*arguments: Any) -> tuple[Population, Any]:
        lengths.append(int(arguments[-1]))
        rows = np.full((4, 4, len(metric_names(GAME))), float(len(lengths)), np.float32)
        return arguments[3], rows

    monkeypatch.setattr(populations, "CAPACITY", 4)
    monkeypatch.setattr(populations, "population_loop", loop)
    _, rows = train_population(GAME, MESH, place(unlike(GAME)), few, 10)
    assert lengths == [4, 4, 2]
    assert rows["loss/gen"][2].tolist() == [1.0] * 4 + [2.0] * 4 + [3.0] * 2


def test_on_a_cpu_members_run_one_after_the_other_if_nothing_else_is_said(
    few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def loop(*arguments: Any) -> tuple[Population, Any]:
        taken.append(arguments[2])
        return arguments[3], np.zeros((4, 1, len(metric_names(GAME))), np.float32)

    monkeypatch.setattr(populations, "population_loop", loop)
    population = place(unlike(GAME))
    for given in (None, False, True):
        train_population(GAME, MESH, population, few, 1, batched=given)
    assert taken == [False, False, True]


def test_what_one_device_has_trained_goes_on_in_the_same_program(
    few: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = member_mesh(1)
    members = init_population(unlike(GAME), TINY_SHAPE, LABEL_COUNTS)
    population, dataset = place_population(members, mesh), place_dataset(few, mesh)
    population_loop.clear_cache()
    with jax.log_compiles():
        for _ in range(2):
            population, _ = train_population(GAME, mesh, population, dataset, 1)
    assert caplog.text.count("Finished XLA compilation of jit(_population_loop)") == 1


# Members that diverge.


@pytest.mark.parametrize("batched", [False, True])
def test_a_member_that_diverges_stays_as_it_is_and_the_others_go_on(batched: bool, few: Dataset) -> None:
    wild = changed(GAME, {"seed": 9, "disc.optimizer.learning_rate": 1e30})
    calm = changed(GAME, {"seed": 5})
    both, rows = train_population(GAME, MESH, place([wild, calm, calm]), few, 10, batched=batched)
    assert both.running.tolist() == [False, True, True, False]
    steps = int(member_state(both, 0).step)
    assert 1 <= steps < 10
    loss = rows["loss/disc"]
    made = np.stack([column[0] for column in rows.values()])
    assert not np.isfinite(made[:, steps - 1]).all()
    assert np.isfinite(made[:, : steps - 1]).all()
    assert np.isnan(made[:, steps:]).all()
    assert np.isfinite(loss[1]).all()
    stopped = bits(member_state(both, 0))
    calm_alone = train_population(GAME, MESH, place([calm, calm, calm]), few, 10, batched=batched)[0]
    assert differing(member_state(both, 1), member_state(calm_alone, 1)) == []
    later, _ = train_population(GAME, MESH, both, few, 3, batched=batched)
    for path, leaf in bits(member_state(later, 0)).items():
        assert leaf.tobytes() == stopped[path].tobytes(), path
    assert later.states.step.tolist() == [steps, 13, 13, 0]


def test_numbers_that_no_metric_shows_are_found_in_the_states() -> None:
    population = place(unlike(GAME))
    assert finite_members(population).tolist() == [True] * 4
    adam = population.states.opt_state.disc
    broken = adam._replace(nu=jax.tree.map(lambda leaf: leaf.at[1].set(jnp.inf), adam.nu))
    states = population.states
    states = states._replace(opt_state=states.opt_state._replace(disc=broken))
    found = finite_members(population._replace(states=states))
    assert found.tolist() == [True, False, True, True]
    assert stop_members(population, found).running.tolist() == [True, False, True, False]


def test_a_moving_variance_that_no_metric_shows_is_found_too() -> None:
    population = place([changed(GAME, {"gen.batch_norm": True})] * 2)
    stats = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.inf), population.states.batch_stats)
    assert jax.tree.leaves(stats)
    states = population.states._replace(batch_stats=stats)
    assert finite_members(population._replace(states=states)).tolist() == [False, True]


# Bad input, and how much fits.


def test_members_of_two_structures_or_none_are_refused() -> None:
    with pytest.raises(ValueError, match="of one structure"):
        init_population([GAME, changed(GAME, {"batch_size": 4})], TINY_SHAPE)
    with pytest.raises(ValueError, match="of one structure"):
        init_population([], TINY_SHAPE)


def test_a_batch_larger_than_the_data_set_or_a_negative_length_is_refused_before_anything_is_consumed(
    few: Dataset,
) -> None:
    large = changed(GAME, {"batch_size": 51})
    population = place([GAME, GAME])
    with pytest.raises(InputError, match=r"--batch-size 51 .* has 50"):
        train_population(large, MESH, population, few, 1)
    with pytest.raises(ValueError, match="num_steps must be 0 or more, not -1"):
        train_population(GAME, MESH, population, few, -1)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(population))


def test_padding_and_trimming_leave_the_members_alone() -> None:
    three = init_population(unlike(GAME), TINY_SHAPE)
    four = pad_population(three, 4)
    assert four.running.tolist() == [True, True, True, False]
    assert pad_population(three, 3) is three
    assert differing(trim_population(four, 3), three) == []


def test_a_member_is_taken_for_at_least_its_state_and_the_new_one() -> None:
    config = PRESETS["vanilla"]
    state = sum(leaf.nbytes for path, leaf in bits(init_state(config, jax.random.key(0))).items())
    assert 2 * state <= member_bytes(config) <= 8 * state
