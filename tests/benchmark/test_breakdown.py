from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark.breakdown import Event, attribute, read_events
from experiments.benchmark.hlo import CATEGORIES, categories, instructions, kernels
from jaxgan.config import Config, DiscriminatorConfig, GeneratorConfig
from jaxgan.gan.batches import Dataset
from jaxgan.gan.program import train_loop
from jaxgan.gan.state import init_state

ONE, OTHER = (1, 1), (1, 2)
KINDS = dict(zip("abcd", CATEGORIES, strict=True))


@pytest.fixture(scope="module")
def program() -> str:
    """The text of a small compiled training program."""
    config = Config(batch_size=8, gen=GeneratorConfig(widths=(32,)), disc=DiscriminatorConfig(widths=(32,)))
    dataset = Dataset(jnp.zeros((64, 28, 28, 1), jnp.uint8), jnp.zeros(64, jnp.int32))
    state = init_state(config, jax.random.key(0))
    lowered = train_loop.program.lower(config.structure, state, dataset, jnp.int32(1))
    return lowered.compile(compiler_options={"xla_backend_optimization_level": "0"}).as_text()  # LLVM alone is spared.


def test_time_that_an_event_holds_of_others_is_theirs_and_gaps_are_dispatch() -> None:
    # A loop a of 40 holds b of 30; then a gap of 10; then c of 50.
    events = [Event("a", ONE, 0, 40), Event("b", ONE, 5, 30), Event("c", ONE, 50, 50), Event("unknown", ONE, 40, 10)]
    shares = attribute(events, KINDS)
    assert list(shares.values()) == pytest.approx([0.1, 0.3, 0.5, 0.0, 0.1])
    assert list(shares) == [*CATEGORIES, "dispatch"]


def test_threads_that_run_at_once_share_the_time() -> None:
    events = [Event("a", ONE, 0, 60), Event("d", OTHER, 40, 60)]
    shares = attribute(events, KINDS)
    assert list(shares.values()) == pytest.approx([0.5, 0.0, 0.0, 0.5, 0.0])


def test_events_are_those_of_instructions() -> None:
    run = {"ph": "X", "pid": 1, "tid": 2, "ts": 3.0, "dur": 4.0, "name": "?", "args": {"hlo_op": "dot.1"}}
    trace = {"traceEvents": [run, {"ph": "M", "name": "process_name"}, {**run, "args": {}}]}
    assert list(read_events(trace)) == [Event("dot.1", (1, 2), 3.0, 4.0)]


def test_every_category_has_instructions_of_the_training_program(program: str) -> None:
    assert set(categories(program).values()) == set(CATEGORIES)


def test_products_are_matmuls_and_the_gather_of_images_is_not_a_part_of_the_updates(program: str) -> None:
    found = categories(program)
    dots = [each for each in instructions(program) if each.opcode == "dot"]
    images = [each for each in instructions(program) if each.opcode == "gather" and "u8[8," in each.text]
    assert len(dots) >= 15  # D: 6 forward and back on each side and in each penalty; G.
    assert {found[each.name] for each in dots} == {"matmuls"}
    assert images
    assert {found[each.name] for each in images} == {"gather and scaling"}


PROGRAM = """
%fused (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  ROOT %sine = f32[4]{0} sine(%param_0)
}

%body (state: (s32[], f32[4,4])) -> (s32[], f32[4,4]) {
  %state = (s32[], f32[4,4]) parameter(0)
  %x = f32[4,4]{1,0} get-tuple-element(%state), index=1
  %dot.1 = f32[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %loop_fusion.2 = f32[4,4]{1,0} fusion(%dot.1), kind=kLoop, calls=%fused
  ROOT %tuple = (s32[], f32[4,4]) tuple(%x, %loop_fusion.2)
}

ENTRY %main (argument: f32[4,4]) -> (s32[], f32[4,4]) {
  %argument = f32[4,4]{1,0} parameter(0)
  %copy.3 = f32[4,4]{1,0} copy(%argument)
  ROOT %while.4 = (s32[], f32[4,4]) while(%copy.3), condition=%cond, body=%body
}
"""


def test_a_fusion_is_one_kernel_and_a_loop_counts_its_body_once() -> None:
    assert [each.name for each in instructions(PROGRAM) if each.computation == "body"][2:4] == [
        "dot.1",
        "loop_fusion.2",
    ]
    assert kernels(PROGRAM) == 3
