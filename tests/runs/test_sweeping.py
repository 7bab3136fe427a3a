from __future__ import annotations

import functools
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gan.small_runs import TINY_SHAPE, changed, random_dataset, tiny
from rich.console import Console
from running import checkpoint_steps, state_digest

from jaxgan.config import Config, InputError
from jaxgan.devices import host_store, member_mesh
from jaxgan.gan.state import TrainState
from jaxgan.members import swept_fields
from jaxgan.runs import terminal
from jaxgan.runs.directory import FORMAT, DatasetRecord
from jaxgan.runs.journal import read_row_file
from jaxgan.runs.member_table import MemberTable
from jaxgan.runs.scores import Scorer
from jaxgan.runs.sweeping import run_sweep
from jaxgan.runs.sweeps import SweepRecord, check_network, read_results, wave_folder, write_results


def score(config: Config, state: TrainState) -> dict[str, float]:
    """What stands for scores."""
    return {"frechet": float(config.seed), "recall/3": 0.5, "classes/kl": 0.0}


SCORER = Scorer("digits-01234567", score)


def record_of(count: int, **changes: Any) -> SweepRecord:
    """A sweep of so many tiny members that differ in their seeds, 1 and so on, in one wave."""
    fixed = {"num_steps": 4, "every__log": 1, "every__print": 2, "every__grid": 1, "objective__name": "minimax"}
    config = tiny(**fixed, **changes, latent__size=4)
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
    table.recall({6: 2.0})  # Scored before an interruption.
    table.start_wave(tuple(range(8)), "wave 1 of 1", record.members[0])
    losses = np.arange(8.0, dtype=np.float32)[:, None]
    running = np.array([True] * 7 + [False])
    table.advance_wave(2, 50.0, {"loss/disc": losses, "loss/gen": losses + 1}, running, np.array([2] * 7 + [1]))
    table.scored(1, {"frechet": 30.0, "recall/3": 0.5})
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
