from __future__ import annotations

import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgan import hosts
from jaxgan.config import Config, EveryConfig, GeneratorConfig
from jaxgan.gan.state import init_state
from jaxgan.presets import PRESETS
from jaxgan.runs.checkpoints import digest
from jaxgan.runs.journal import is_due
from jaxgan.runs.training import Diverged, Interruption, _agree, check_finite, next_stop

CADENCES = st.integers(0, 20)


@given(st.integers(0, 100), CADENCES, CADENCES, CADENCES, st.booleans(), st.integers(1, 120))
def test_the_next_stop_is_the_first_step_with_something_to_do(
    step: int, sample: int, checkpoint: int, evaluate: int, after: bool, more: int
) -> None:
    every = EveryConfig(sample=sample, checkpoint=checkpoint, sample_after=after)
    config = Config(num_steps=step + more, eval_every=evaluate, every=every)
    cadences = ((sample, int(after)), (checkpoint, 0), (evaluate, 0))
    due = (
        later
        for later in range(step + 1, step + more + 1)
        if later == config.num_steps or any(is_due(later, *cadence) for cadence in cadences)
    )
    assert next_stop(config, step) == next(due)


def test_cadences_count_from_step_0_and_0_turns_one_off() -> None:
    assert [step for step in range(12) if is_due(step, 5)] == [0, 5, 10]
    assert [step for step in range(12) if is_due(step, 5, after=1)] == [1, 6, 11]
    assert not any(is_due(step, 0) for step in range(12))


SMALL = Config(gen=GeneratorConfig(widths=(4,)))


def test_finite_numbers_pass() -> None:
    state = init_state(SMALL, jax.random.key(0))
    check_finite(state, {"loss/disc": np.ones(3, np.float32)}, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_metric_is_told_by_its_name_and_its_first_step(bad: float) -> None:
    state = init_state(SMALL, jax.random.key(0))
    metrics = {"loss/disc": np.ones(5, np.float32), "loss/gen": np.array([1, 1, bad, 1, bad], np.float32)}
    with pytest.raises(Diverged, match=r"loss/gen is (nan|inf|-inf) at step 1,003$"):
        check_finite(state, metrics, 1000)


def test_a_bad_parameter_is_told_by_its_name_and_the_step_of_its_state() -> None:
    state = init_state(SMALL, jax.random.key(0))
    bias = state.params.gen["hidden_0"]["bias"].at[1].set(jnp.nan)
    layers = {**state.params.gen, "hidden_0": {**state.params.gen["hidden_0"], "bias": bias}}
    state = state._replace(params=state.params._replace(gen=layers))
    with pytest.raises(Diverged, match=r"params\.gen\.hidden_0\.bias is not finite at step 7$"):
        check_finite(state, {"loss/disc": np.ones(2, np.float32)}, 5)


def test_a_bad_moving_variance_is_no_good_checkpoint() -> None:
    state = init_state(replace(SMALL, gen=GeneratorConfig(widths=(4,), batch_norm=True)), jax.random.key(0))
    stats = jax.tree.map(lambda leaf: leaf.at[0].set(jnp.inf), state.batch_stats)
    with pytest.raises(Diverged, match=r"batch_stats\.gen\..*\.mean is not finite at step 1$"):
        check_finite(state._replace(batch_stats=stats), {"loss/disc": np.ones(1, np.float32)}, 0)


def test_a_digest_tells_any_two_states_apart() -> None:
    state = init_state(SMALL, jax.random.key(0))
    assert digest(state) == digest(init_state(SMALL, jax.random.key(0)))
    others = [
        init_state(SMALL, jax.random.key(1)),
        init_state(replace(SMALL, average_decay=0.5), jax.random.key(0)),
        state._replace(step=jnp.int32(1)),
        state._replace(params=jax.tree.map(lambda leaf: -leaf, state.params)),
        init_state(PRESETS["vanilla"], jax.random.key(0)),
    ]
    assert len({digest(each) for each in [state, *others]}) == 6


def test_a_signal_that_any_process_hears_stops_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "gather", lambda value: [value, (99, signal.SIGTERM)])
    assert _agree(8, None) == (8, signal.SIGTERM)


def test_the_second_signal_ends_the_process_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption().listen() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal == signal.SIGINT
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == [signal.SIG_DFL] * 2
    assert signal.getsignal(signal.SIGTERM) == before
