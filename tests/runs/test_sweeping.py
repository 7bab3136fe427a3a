from __future__ import annotations

import functools
import io
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gan.small_runs import TINY_SHAPE, changed, random_dataset, tiny
from rich.console import Console
from running import checkpoint_steps, state_digest

from jaxgan.config import Config, InputError
from jaxgan.devices import host_store, member_mesh
from jaxgan.gan.population import Population
from jaxgan.gan.state import TrainState
from jaxgan.members import swept_fields
from jaxgan.runs import sweeping, terminal
from jaxgan.runs.directory import FORMAT, DatasetRecord
from jaxgan.runs.journal import read_row_file
from jaxgan.runs.member_table import MemberTable
from jaxgan.runs.scores import Scorer
from jaxgan.runs.sweeping import run_sweep
from jaxgan.runs.sweeps import (
    SweepRecord,
    check_network,
    lengthen,
    read_results,
    read_samples,
    wave_folder,
    write_results,
)


def score(config: Config, state: TrainState) -> dict[str, float]:
    """What stands for scores."""
    return {"frechet": float(config.seed), "recall/3": 0.5, "classes/kl": 0.0}


SCORER = Scorer("digits-01234567", score)


def record_of(count: int, **changes: Any) -> SweepRecord:
    """A sweep of so many tiny members that differ in their seeds, 1 and so on, in one wave."""
    fixed = {"num_steps": 4, "every__log": 1, "every__print": 2, "every__grid": 1, "objective__name": "minimax"}
    config = tiny(**fixed | changes, latent__size=4)
    members = tuple(changed(config, {"seed": 1 + i}) for i in range(count))
    data = DatasetRecord("digits", "", TINY_SHAPE, 64)
    return SweepRecord(FORMAT, "vanilla", swept_fields(members), members, (tuple(range(count)),), data, {})


def test_members_that_do_not_share_devices_evenly_are_shown_and_written_down_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, mesh = record_of(3), member_mesh(3)
    assert mesh.size == 2
    table = MemberTable(record)
    assert run_sweep(record, random_dataset(64, TINY_SHAPE), tmp_path, mesh, host_store(), table, SCORER) is None
    assert [(row["member"], row["step"], row["frechet"]) for row in read_results(tmp_path)] == [
        (member, 4, member + 1.0) for member in range(3)
    ]
    losses = [[row["loss/disc"] for row in read_row_file(tmp_path / "metrics" / f"{i}.jsonl")] for i in range(3)]
    assert np.shape(losses) == (3, 4)
    last = np.array(losses)[:, -1]
    shown = f"3 members  D loss {last.mean():.3f} ({last.min():.3f} to {last.max():.3f})"
    assert shown in capsys.readouterr().out
    # Scores of two feature networks cannot be compared.
    before = read_results(tmp_path)
    other = Scorer("digits-89abcdef", score)
    with pytest.raises(InputError, match="feature network digits-01234567, and the data set here has digits-89abcdef"):
        run_sweep(record, random_dataset(64, TINY_SHAPE), tmp_path, mesh, host_store(), table, other)
    assert read_results(tmp_path) == before
    write_results(tmp_path, [{name: value for name, value in row.items() if name != "network"} for row in before])
    check_network(tmp_path, "digits-89abcdef")  # Of earlier versions, which do not say.


def test_a_wave_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before_to_the_same_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    record = record_of(3, every__checkpoint=2)

    def sweep(path: Path) -> None:
        path.mkdir(exist_ok=True)
        table = MemberTable(record)
        assert (
            run_sweep(record, random_dataset(64, TINY_SHAPE), path, member_mesh(3), host_store(), table, SCORER) is None
        )

    sweep(whole)
    shutil.copytree(whole, cut)
    results, metrics = (cut / "results.jsonl").read_bytes(), (cut / "metrics" / "1.jsonl").read_bytes()
    (cut / "results.jsonl").unlink()
    folder = wave_folder(cut, 0)
    end = state_digest(folder, 4)
    for file in (folder / "checkpoints" / "4").rglob("d/*"):
        file.write_bytes(b"")
    sweep(cut)
    assert "jaxgan: warning: the checkpoint of step 4 cannot be read" in capsys.readouterr().err
    assert checkpoint_steps(folder) == [2, 4]
    assert state_digest(folder, 4) == end
    (cut / "results.jsonl").unlink()
    sweep(cut)  # From what was saved in the place of the damaged one.
    assert capsys.readouterr().err == ""
    assert (cut / "results.jsonl").read_bytes() == results
    assert (cut / "metrics" / "1.jsonl").read_bytes() == metrics


# Members on their way: three in two waves, of which the second diverges; a scorer that notes what it is asked.

SCORED: dict[str, Any] = {"num_steps": 5, "every__checkpoint": 2, "eval_every": 2, "data__holdout": 100}


class Asked:
    """Scores that tell seed and step, and what they were asked for."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        self.of: list[tuple[int, int]] = []
        self._stop_at = stop_at

    def __call__(self, config: Config, state: TrainState) -> dict[str, float]:
        self.of.append((config.seed, int(state.step)))
        if self.of[-1] == self._stop_at:
            signal.raise_signal(signal.SIGTERM)
        distance = float("inf") if config.seed == 3 and state.step == 4 else 10.0 * config.seed + float(state.step)
        return {"frechet": distance, "recall/3": 0.5, "classes/kl": 0.0}


def three_members(**changes: Any) -> SweepRecord:
    record = record_of(3, **SCORED | changes)
    one, two, three = record.members
    wild = changed(two, {"disc.optimizer.learning_rate": 1e30})
    return replace(record, members=(one, wild, three), waves=((0, 1), (2,)))


def sweep(record: SweepRecord, path: Path, asked: Asked) -> tuple[int | None, MemberTable]:
    """Trains members as far as it goes."""
    path.mkdir(exist_ok=True)
    table = MemberTable(record)
    images, scorer = random_dataset(64, TINY_SHAPE), Scorer(SCORER.network, asked)
    return run_sweep(record, images, path, member_mesh(2), host_store(), table, scorer), table


def scored_steps(path: Path, member: int) -> dict[int, float]:
    """The distances that the metrics of a member have, by step."""
    rows = read_row_file(path / "metrics" / f"{member}.jsonl")
    found = [(row["step"], row["score/frechet"]) for row in rows if "score/frechet" in row]
    assert len(found) == len(dict(found))
    return dict(found)


def logged_steps(path: Path, member: int) -> list[int]:
    return [row["step"] for row in read_row_file(path / "metrics" / f"{member}.jsonl") if "loss/gen" in row]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Asked]:
    path, asked = tmp_path_factory.mktemp("sweeps") / "whole", Asked()
    assert sweep(three_members(), path, asked)[0] is None
    return path, asked


def test_members_are_scored_where_it_is_due_and_once_and_those_that_diverge_never(whole: tuple[Path, Asked]) -> None:
    path, asked = whole
    assert asked.of == [(1, 2), (1, 4), (1, 5), (3, 2), (3, 4), (3, 5)]
    # A distance that is not finite is no row.
    assert [scored_steps(path, i) for i in range(3)] == [{2: 12, 4: 14, 5: 15}, {}, {2: 32, 5: 35}]
    assert [logged_steps(path, i) for i in (0, 2)] == [[1, 2, 3, 4, 5]] * 2
    rows = read_results(path)
    assert [(row["member"], row["step"], row.get("frechet"), row["diverged"]) for row in rows] == [
        (0, 5, 15.0, False),
        (1, len(logged_steps(path, 1)) + 1, None, True),
        (2, 5, 35.0, False),
    ]
    assert [read_samples(path, wave).shape for wave in (0, 1)] == [(2, 1, *TINY_SHAPE), (1, 1, *TINY_SHAPE)]


def test_an_end_at_which_scores_are_due_is_scored_once_and_ten_images_of_each_are_kept(tmp_path: Path) -> None:
    asked = Asked()
    sweep(record_of(2, **SCORED | {"num_steps": 4, "every__grid": 4}), tmp_path, asked)
    assert asked.of == [(1, 2), (2, 2), (1, 4), (2, 4)]
    assert read_samples(tmp_path, 0).shape == (2, 10, *TINY_SHAPE)


@pytest.mark.parametrize(("stop_at", "known"), [((1, 2), {0: 12.0}), ((1, 5), {0: 15.0}), ((3, 4), {0: 15.0, 2: 32.0})])
def test_a_sweep_that_is_stopped_while_it_scores_goes_on_to_the_same_end(
    whole: tuple[Path, Asked],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: tuple[int, int],
    known: dict[int, float],
) -> None:
    asked = Asked(stop_at)
    assert sweep(three_members(), tmp_path, asked)[0] == signal.SIGTERM
    before = list(asked.of)
    assert before[-1] == stop_at
    assert wave_folder(tmp_path, 1).exists() == (stop_at[0] == 3)  # The wave of seed 3 comes second.
    again, recalled, recall = Asked(), {}, MemberTable.recall
    monkeypatch.setattr(
        MemberTable, "recall", lambda table, frechet: recalled.update(frechet) or recall(table, frechet)
    )
    stopped, table = sweep(three_members(), tmp_path, again)
    assert stopped is None
    # What was scored on the way and written down is not scored again; an infinite distance was not.
    on_the_way = [each for each in before + again.of if each[1] < 5]
    assert on_the_way == [(1, 2), (1, 4), (3, 2), (3, 4), *[(3, 4)] * (stop_at == (3, 4))]
    for name in ("results.jsonl", *(f"metrics/{i}.jsonl" for i in range(3))):
        assert (tmp_path / name).read_bytes() == (whole[0] / name).read_bytes(), name
    # What was known before is shown beside what came.
    assert recalled == known
    assert table._frechet == {0: 15.0, 2: 35.0}


def test_a_sweep_that_is_done_scores_and_writes_nothing(whole: tuple[Path, Asked], tmp_path: Path) -> None:
    path, asked = tmp_path / "copy", Asked()
    shutil.copytree(whole[0], path)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    _, table = sweep(three_members(), path, asked)
    assert asked.of == []
    assert table._frechet == {0: 15.0, 2: 35.0}
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_longer_sweep_has_no_scores_of_its_former_end(tmp_path: Path) -> None:
    sweep(three_members(num_steps=3), tmp_path, Asked())
    assert list(scored_steps(tmp_path, 0)) == [2, 3]
    asked = Asked()
    sweep(lengthen(tmp_path, three_members(num_steps=3), 5), tmp_path, asked)
    assert scored_steps(tmp_path, 0) == {2: 12, 4: 14, 5: 15}
    assert asked.of == [(1, 4), (1, 5), (3, 4), (3, 5)]
    assert read_row_file(tmp_path / "results-3.jsonl", "member")[0]["frechet"] == 13


def test_a_member_with_broken_numbers_that_no_metric_shows_is_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(population: Population) -> jax.Array:
        return jnp.arange(len(population.running)) > 0

    monkeypatch.setattr(sweeping, "finite_members", broken)
    asked = Asked()
    sweep(record_of(3, **SCORED), tmp_path, asked)
    assert {seed for seed, _ in asked.of} == {2, 3}
    assert [row["diverged"] for row in read_results(tmp_path)] == [True, False, False]
    assert logged_steps(tmp_path, 0) == [1, 2]  # It was looked at where members are scored.


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 12 lines gets."""
    written = io.StringIO()
    console = functools.partial(Console, file=written, force_terminal=True, width=100, height=12, color_system=None)
    monkeypatch.setattr(terminal, "Console", console)
    return written


def rows_of(screen: io.StringIO) -> list[list[str]]:
    """The cells of the last table on a screen, row by row, and its caption."""
    last = screen.getvalue().rpartition("wave 1")[2]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in last.splitlines() if "│" in line]
    return [*rows, *([line.strip()] for line in last.splitlines() if "more" in line)]


def test_the_live_table_shows_losses_scores_and_divergence_with_the_best_member_first(screen: io.StringIO) -> None:
    record = record_of(8)
    table = MemberTable(record)
    table.recall({6: 2.0, 7: 1.0})  # Scored before an interruption; one of them diverges.
    table.start_wave(tuple(range(8)), "wave 1 of 1", record.members[0])
    losses = np.arange(8.0, dtype=np.float32)[:, None]
    running = np.array([True] * 7 + [False])
    table.advance_wave(2, 50.0, {"loss/disc": losses, "loss/gen": losses + 1}, running, np.array([2] * 7 + [1]))
    table.scored(1, {"frechet": 30.0, "recall/3": 0.5})
    table.scored(2, {"frechet": float("nan"), "recall/3": 0.5})
    table.stop()
    rows = rows_of(screen)
    assert "step 2/4, 50 member-steps/s" in screen.getvalue()
    # Five rows have room.
    assert rows[0] == ["6 best", "7", "6.000", "7.000", "", "2.00"]
    assert rows[1:3] == [["0", "1", "0.000", "1.000", "", ""], ["1", "2", "1.000", "2.000", "", "30.00"]]
    assert len(rows) == 6
    assert rows[-1] == ["and 3 more"]


def test_a_warning_goes_to_standard_error_and_the_table_comes_back(
    screen: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(2)
    table = MemberTable(record)
    with table:
        table.start_wave((0, 1), "wave 1 of 1", record.members[0])
        table.warn("a checkpoint is damaged")
        table.scored(1, {"frechet": 3.0, "recall/3": 0.5})
    assert capsys.readouterr().err == "jaxgan: warning: a checkpoint is damaged\n"
    assert rows_of(screen)[0] == ["1 best", "2", "", "", "", "3.00"]
