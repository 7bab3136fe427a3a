"""What measures the machine runs, and measures what it says: at sizes that take no time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import machine
from experiments.benchmark.__main__ import QUESTIONS
from experiments.benchmark.limit import Program
from experiments.benchmark.settings import QUICK, Work
from jaxgan.config import DataConfig
from jaxgan.gan.batches import Dataset


def test_every_question_has_a_module_that_measures() -> None:
    for question in QUESTIONS:
        assert callable(import_module(f"experiments.benchmark.{question}").measure)


def test_rates_are_those_of_the_work_that_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[Any, int]] = []

    def seconds(step: Any, start: Any, steps: int, repeats: int) -> float:
        done.append((jax.eval_shape(lambda x: jax.lax.fori_loop(0, steps, step, x), start), repeats))
        return 0.5

    monkeypatch.setattr(machine, "_best_seconds", seconds)
    monkeypatch.setattr(machine, "MATMUL", 16)
    monkeypatch.setattr(machine, "COPIED", 4096)
    assert machine.matmul_rate() == 2 * 16**3 / 0.5
    assert machine.copy_bandwidth() == 2 * 4096 / 0.5
    assert machine.launch_floor(7) == 2.0
    assert [shape.shape for shape, _ in done] == [(16, 16), (1024,), ()]


def test_seconds_are_those_of_one_step_of_a_loop() -> None:
    start = jnp.ones((64, 64))
    few, many = (machine._best_seconds(lambda _, x: x @ start / 64.0, start, steps, 3) for steps in (200, 2000))
    # The program's start is shared by all steps, whose number is traced.
    assert 0 < many < 3 * few


def test_shares_are_steps_times_operations_over_the_limit_of_the_same_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(jnp.zeros((128, 28, 28, 1), jnp.uint8), jnp.zeros(128, jnp.int32))
    monkeypatch.setattr("experiments.benchmark.limit.on_device", lambda _: dataset)
    program = Program(Work(QUICK, DataConfig("digits"), None), "vanilla")  # pyright: ignore[reportArgumentType]
    program.rates = [100.0, 200.0]
    found = program.found({"matmul": [1e11, 4e11], "copy": [1e9, 2e9]}, on_gpu=False)
    assert found["share"]["values"] == [100.0 * found["flops"] / 1e11, 200.0 * found["flops"] / 4e11]
    assert found["flops"] <= found["xla_flops"] <= 1.1 * found["flops"]
    monkeypatch.setattr(machine, "launch_floor", float)
    on_gpu = program.found({"matmul": [1e11, 4e11], "copy": [1e9, 2e9]}, on_gpu=True)
    assert on_gpu["copy_share"]["values"] == [100.0 * found["bytes"] / 1e9, 200.0 * found["bytes"] / 2e9]
    assert on_gpu["launch_floor"] == on_gpu["kernels"] > 50
