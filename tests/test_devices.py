from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gan.small_runs import TINY_SHAPE, bits, changed, differing, random_dataset, tiny
from jax.sharding import Mesh
from running import QUICKLY, complaint, find, make_once, prepare_small_data, run

from jaxgan import devices
from jaxgan.config import Config, InputError
from jaxgan.data.cache import Arrays
from jaxgan.data.stream import Stream
from jaxgan.devices import member_mesh
from jaxgan.gan.batches import Batch
from jaxgan.gan.program import train_steps
from jaxgan.gan.state import init_state
from jaxgan.gan.updates import generator_update
from jaxgan.presets import PRESETS

HALVES = {"objective.name": "non_saturating", "objective.updates": "halves", "objective.r1": 0.0, "objective.r2": 0.0}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `many_devices.py` finds."""
    wide = {"JAX_NUM_CPU_DEVICES": "8", "JAX_ENABLE_X64": "1"}
    program = Path(__file__).with_name("many_devices.py")
    return make_once(tmp_path_factory, "devices", lambda _: find(program, **QUICKLY, **wide))


@pytest.mark.parametrize("preset", PRESETS)
def test_any_number_of_devices_computes_what_one_does(found: dict[str, Any], preset: str) -> None:
    assert found["devices"] == 8
    assert found["presets"][preset].keys() >= {"8"}
    # Float64: sums over the batch are added up in another order, and twenty steps pass that on. `best` measures how
    # images vary over all devices.
    for count, distance in found["presets"][preset].items():
        assert distance < 1e-12, count


def test_several_devices_do_share_the_work_and_exchange_sums_only(found: dict[str, Any]) -> None:
    assert found["collectives"].pop("all-reduce") >= 2
    assert not any(found["collectives"].values())
    assert max(found["presets"]["modern"].values()) > 0


def test_a_mesh_of_one_device_changes_no_bit(found: dict[str, Any]) -> None:
    assert found["mesh of one"] == 0


def test_served_images_compute_the_same_on_several_devices(found: dict[str, Any]) -> None:
    assert found["served"] < 1e-12


@pytest.mark.parametrize("game", ["modern", "penalty", "best", "halves"])
def test_micro_batches_give_the_mean_gradient_of_the_whole_batch(found: dict[str, Any], game: str) -> None:
    # Twenty steps of Adam in float64, on one device whole and on four in four micro-batches each. Adam magnifies their
    # rounding, by how much depends on the random numbers.
    assert 0 < found["accumulated"][game] < 1e-11


@pytest.mark.parametrize(
    ("changes", "count", "multiple"),
    [({"batch_size": 100}, 8, 8), ({"batch_size": 16, "accumulate": 4}, 8, 32), (HALVES | {"batch_size": 24}, 8, 16)],
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(changes: dict[str, Any], count: int, multiple: int) -> None:
    with pytest.raises(InputError) as refused:
        devices.check_divides(changed(Config(), changes), count)
    message = str(refused.value)
    assert f"--batch-size {changes['batch_size']}" in message
    assert f"over {count} devices" in message
    assert f"multiple of {multiple}," in message
    allowed = changed(Config(), changes | {"batch_size": multiple})
    devices.check_divides(allowed, count)


def test_the_command_refuses_a_batch_that_its_devices_do_not_divide(tmp_path: Path) -> None:
    data = prepare_small_data(tmp_path / "data")
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--data.holdout", "0", "--run-dir", tmp_path / "run")
    line = complaint(run("train", "vanilla", "--batch-size", "8", *fixed, JAX_NUM_CPU_DEVICES="3"))
    assert "--batch-size 8" in line
    assert "3 devices" in line
    assert not (tmp_path / "run").exists()


# Images that stay on the host.


def served(config: Config, lengths: list[int], n: int = 50) -> Any:
    """A run in pieces on images from the host."""
    dataset = random_dataset(n, TINY_SHAPE, classes=3)
    arrays = Arrays(np.asarray(dataset.images), np.asarray(dataset.labels))
    state, pieces = init_state(config, jax.random.key(0), TINY_SHAPE, (1, 1, 1)), []
    stream = Stream(config, arrays, jax.random.key(0))
    for length in lengths:
        state, metrics = stream.train(state, length)
        pieces.append(metrics)
    return state, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def test_served_images_give_the_bits_of_resident_ones_wherever_a_run_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny()
    state = init_state(config, jax.random.key(0), TINY_SHAPE)
    resident = train_steps(config, state, random_dataset(50, TINY_SHAPE), 23)
    monkeypatch.setattr("jaxgan.data.stream.BLOCK_BYTES", 5 * 16 * config.real_batch_size)  # Blocks of five steps.
    assert differing(resident, served(config, [23])) == []
    assert differing(resident, served(config, [1, 4, 7, 11])) == []
    monkeypatch.setattr("jaxgan.data.stream.BLOCK_BYTES", 1)  # Less than a step needs.
    assert differing(resident, served(config, [23])) == []


def test_served_images_come_with_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(conditional=True)
    state = init_state(config, jax.random.key(0), TINY_SHAPE, (1, 1, 1))
    resident, _ = train_steps(config, state, random_dataset(50, TINY_SHAPE, classes=3), 23)
    monkeypatch.setattr("jaxgan.data.stream.BLOCK_BYTES", 5 * 16 * config.real_batch_size)
    state, _ = served(config, [23])
    # As these tests compile, labels are added in another order in the two programs. Those of other images would move
    # parameters by a share of 23 steps of Adam.
    for path, leaf in bits(state.params).items():
        np.testing.assert_allclose(leaf, bits(resident.params)[path], rtol=0, atol=1e-6, err_msg=path)
    assert config.gen.optimizer.learning_rate > 1e-4


def test_a_stream_that_starts_in_the_middle_serves_what_one_from_the_start_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny()
    monkeypatch.setattr("jaxgan.data.stream.BLOCK_BYTES", 5 * 16 * config.real_batch_size)
    whole, _ = served(config, [23])
    dataset = random_dataset(50, TINY_SHAPE)
    arrays = Arrays(np.asarray(dataset.images), np.asarray(dataset.labels))
    first = Stream(config, arrays, jax.random.key(0))
    state, _ = first.train(init_state(config, jax.random.key(0), TINY_SHAPE), 12)
    state, _ = Stream(config, arrays, jax.random.key(0)).train(state, 11)
    assert differing(whole, state) == []
    again, _ = first.train(init_state(config, jax.random.key(0), TINY_SHAPE), 23)
    assert differing(whole, again) == []


def test_a_batch_larger_than_the_images_on_the_host_is_refused() -> None:
    with pytest.raises(InputError, match="--batch-size 8 "):
        served(tiny(), [1], n=7)


def test_images_stay_on_devices_up_to_half_of_the_memory_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def device(limit: int | None) -> SimpleNamespace:
        return SimpleNamespace(memory_stats=lambda: None if limit is None else {"bytes_limit": limit})

    for limits, fitting in (((1000, 1000), True), ((1000, 998), False), ((None,), True), ((1000, None), True)):
        monkeypatch.setattr(jax, "local_devices", lambda limits=limits: [device(limit) for limit in limits])
        assert devices.fits(500) is fitting, limits


# Micro-batches.


def test_micro_batches_take_less_memory() -> None:
    def temporary_bytes(accumulate: int) -> int:
        config = tiny(batch_size=4096, gen__widths=(64,), disc__widths=(64,), accumulate=accumulate)
        state = jax.eval_shape(lambda: init_state(config, jax.random.key(0), TINY_SHAPE))
        batch = Batch(jnp.zeros((4096, *TINY_SHAPE)), jnp.zeros(4096, jnp.int32))
        lowered = generator_update.program.lower(config.structure, state, batch, jax.random.key(0))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(16) < temporary_bytes(1) / 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"accumulate": 3}, ["--accumulate 3", "128"]),
        ({"accumulate": 2, "gen.batch_norm": True}, ["--accumulate", "batch norm"]),
        (HALVES | {"accumulate": 2, "disc.batch_norm": True}, ["--accumulate", "batch norm"]),
        ({"accumulate": 2, "disc.minibatch_std": 1}, ["--accumulate", "--disc.minibatch-std"]),
        (HALVES | {"batch_size": 8, "accumulate": 8}, ["--accumulate 8", "4 real images"]),
    ],
)
def test_micro_batches_without_a_meaning_are_refused(changes: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        changed(Config(), changes)
    assert [words for words in named if words not in str(refused.value)] == []


def test_the_memory_of_a_mesh_is_that_of_all_its_devices() -> None:
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 1000})
    assert devices.memory_of(Mock(spec=Mesh, devices=np.array([device, device]), size=2)) == 2000


def test_the_memory_of_a_container_is_what_it_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, limit = member_mesh(1), tmp_path / "memory.max"
    monkeypatch.setattr(devices, "CONTAINER_LIMITS", (tmp_path / "not there", limit))
    limit.write_text("max\n")
    machine = devices.memory_of(mesh)
    assert machine == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit.write_text("123456\n")
    assert devices.memory_of(mesh) == 123456
    limit.write_text(f"{machine * 2}\n")
    assert devices.memory_of(mesh) == machine
