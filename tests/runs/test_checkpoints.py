from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxgan.config import Config, GeneratorConfig, InputError
from jaxgan.gan.state import TrainState, init_state
from jaxgan.runs import checkpoints
from jaxgan.runs.checkpoints import Best, Checkpoints, digest

CONFIG = Config(gen=GeneratorConfig(widths=(4,)))


@pytest.fixture(scope="module")
def state() -> TrainState:
    return init_state(CONFIG, jax.random.key(0))


def at(state: TrainState, step: int) -> TrainState:
    return state._replace(step=jnp.int32(step))


def kept(run: Path) -> list[int]:
    return sorted(int(path.name) for path in (run / "best").iterdir() if path.name.isdecimal())


def test_only_the_state_of_the_least_distance_is_kept(tmp_path: Path, state: TrainState) -> None:
    with Best(tmp_path, "a") as best:
        for step, frechet in ((10, 9.0), (20, 7.5), (30, 8.0), (40, 7.5), (50, 20.0)):
            best.offer(at(state, step), frechet)
        best.wait()
        assert best.meta()["frechet"] == 7.5
        assert digest(best.restore(jax.eval_shape(lambda: at(state, 0)), 20)) == digest(at(state, 20))
    assert kept(tmp_path) == [20]


@pytest.mark.parametrize("conditional", [False, True])
def test_counts_of_labels_are_kept_where_there_are_any_and_leave_no_trace_where_not(
    conditional: bool, tmp_path: Path
) -> None:
    # So that checkpoints from before there were such counts can be read.
    state = init_state(replace(CONFIG, conditional=conditional), jax.random.key(0), label_counts=(3, 5))
    with Checkpoints(tmp_path, keep=1) as open_checkpoints:
        open_checkpoints.save(state)
        open_checkpoints.wait()
        restored = open_checkpoints.restore(jax.eval_shape(lambda: state), 0)
    assert digest(restored) == digest(state)
    written = (tmp_path / "checkpoints" / "0" / "state" / "_METADATA").read_text()
    assert "average" in written
    assert ("label_counts" in written) == conditional


def test_a_run_that_is_continued_knows_the_least_distance_of_before(tmp_path: Path, state: TrainState) -> None:
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 30), 7.75)
    assert kept(tmp_path) == [20]
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 40), 7.25)
    assert kept(tmp_path) == [40]


def test_a_run_that_comes_by_its_best_step_again_keeps_it(tmp_path: Path, state: TrainState) -> None:
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
    with Best(tmp_path, "a") as best:
        for step, frechet in ((10, 9.0), (20, 7.5), (30, 8.0)):
            best.offer(at(state, step), frechet)
    assert kept(tmp_path) == [20]


def test_a_better_state_of_an_earlier_step_takes_the_place_of_a_later_one(tmp_path: Path, state: TrainState) -> None:
    # A run that is resumed before its best step, and scored at other steps than the first time.
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 15), 7.25)
    assert kept(tmp_path) == [15]


def test_a_best_checkpoint_whose_score_cannot_be_read_gives_way(tmp_path: Path, state: TrainState) -> None:
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
    (tmp_path / "best" / "20" / "meta" / "metadata").write_text("{")
    with Best(tmp_path, "a") as best:
        assert best.meta() == {}
        best.offer(at(state, 30), 9.0)
    assert kept(tmp_path) == [30]


def test_a_distance_of_another_feature_network_is_none_to_compare_with(tmp_path: Path, state: TrainState) -> None:
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
        assert best.meta() == {"step": 20, "sha256": digest(at(state, 20)), "frechet": 7.5, "network": "a"}
    with pytest.raises(InputError, match="chosen by scores of the feature network a, and the data set here has b"):
        Best(tmp_path, "b")
    assert kept(tmp_path) == [20]


def test_a_best_checkpoint_that_does_not_say_its_network_is_of_the_one_at_hand(
    tmp_path: Path, state: TrainState
) -> None:
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
    about = tmp_path / "best" / "20" / "meta" / "metadata"
    about.write_text(
        json.dumps({name: value for name, value in json.loads(about.read_text()).items() if name != "network"})
    )
    with Best(tmp_path, "b") as best:
        best.offer(at(state, 30), 9.0)
    assert kept(tmp_path) == [20]


def test_a_checkpoint_that_stands_under_another_step_is_damaged(tmp_path: Path, state: TrainState) -> None:
    with Best(tmp_path, "a") as best:
        best.offer(at(state, 20), 7.5)
    (tmp_path / "best" / "20").rename(tmp_path / "best" / "30")
    with Best(tmp_path, "a") as best, pytest.raises(InputError, match="the checkpoint of step 30 is damaged"):
        best.restore(jax.eval_shape(lambda: at(state, 0)), 30)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_what_orbax_tells_in_words_of_a_disk_is_an_error_of_the_system(tmp_path: Path, code: int) -> None:
    with pytest.raises(OSError, match=os.strerror(code)) as raised, checkpoints._storage_errors(tmp_path):
        raise ValueError(f"OUT_OF_RANGE: Error writing {tmp_path}/x: {os.strerror(code)} [os_error_code='{code}']")
    assert (raised.value.errno, raised.value.filename) == (code, str(tmp_path))
    with pytest.raises(ValueError, match="a mistake of ours"), checkpoints._storage_errors(tmp_path):
        raise ValueError("a mistake of ours")
