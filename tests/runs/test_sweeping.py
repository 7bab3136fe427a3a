from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gan.small_runs import TINY_SHAPE, changed, random_dataset, tiny

from jaxgan.config import Config
from jaxgan.devices import host_store, member_mesh
from jaxgan.gan.state import TrainState
from jaxgan.members import swept_fields
from jaxgan.runs.directory import FORMAT, DatasetRecord
from jaxgan.runs.journal import read_row_file
from jaxgan.runs.member_table import MemberTable
from jaxgan.runs.sweeping import run_sweep
from jaxgan.runs.sweeps import SweepRecord, read_results


def score(config: Config, state: TrainState) -> dict[str, float]:
    """What stands for scores."""
    return {"frechet": float(config.seed), "recall/3": 0.5, "classes/kl": 0.0}


def test_members_that_do_not_share_devices_evenly_are_shown_and_written_down_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(num_steps=4, every__log=1, every__print=2, every__grid=1, objective__name="minimax", latent__size=4)
    members = tuple(changed(config, {"seed": seed}) for seed in (1, 2, 3))
    data = DatasetRecord("digits", "", TINY_SHAPE, 64)
    record = SweepRecord(FORMAT, "vanilla", swept_fields(members), members, ((0, 1, 2),), data, {})
    mesh = member_mesh(3)
    assert mesh.size == 2
    table = MemberTable(record)
    assert run_sweep(record, random_dataset(64, TINY_SHAPE), tmp_path, mesh, host_store(), table, score) is None
    assert [(row["member"], row["step"], row["frechet"]) for row in read_results(tmp_path)] == [
        (member, 4, member + 1.0) for member in range(3)
    ]
    losses = [[row["loss/disc"] for row in read_row_file(tmp_path / "metrics" / f"{i}.jsonl")] for i in range(3)]
    assert np.shape(losses) == (3, 4)
    last = np.array(losses)[:, -1]
    shown = f"3 members  D loss {last.mean():.3f} ({last.min():.3f} to {last.max():.3f})"
    assert shown in capsys.readouterr().out
