from __future__ import annotations

import json
import math
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from running import (
    LIGHTLY,
    checkpoint_steps,
    complaint,
    finish,
    prepare_small_data,
    refusal,
    resume,
    run,
    spawn,
    state_digest,
    succeed,
    train,
    wait_until,
)

from jaxgan import devices, sample, sweep
from jaxgan import train as training
from jaxgan.config import InputError, with_values
from jaxgan.presets import PRESETS
from jaxgan.runs.directory import FORMAT, DatasetRecord
from jaxgan.runs.journal import read_row_file
from jaxgan.runs.sweeps import SweepRecord, has_collapsed, lengthen, read_sweep, write_sweep

RATE = "disc.optimizer.learning_rate"
LENGTH = ("--num-steps", "60")
CADENCES = ("--every.checkpoint", "20", "--every.log", "7", "--data.holdout", "100", "--conditional")
# Two structures, so two populations, of which the one is cut into two waves; one rate that diverges.
SWEEP = (*CADENCES, "--eval-every", "30", "--disc.widths", "16", "12", "--seeds", "2")
SWEEP += ("--disc.optimizer.learning-rate", "1e-3", "1e30", "--wave", "3", "--keep", "2", "--every.print", "20")


class Swept(NamedTuple):
    """A finished sweep, its data, and what it printed."""

    path: Path
    data: Path
    output: str


def begin(data: Path, path: Path, *arguments: object) -> subprocess.Popen[str]:
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", path)
    small = ("--gen.widths", "16", "--batch-size", "8", "--every.grid", "2")  # A flag cannot be given twice here.
    return spawn("sweep", "vanilla", *small, *fixed, *arguments, compiled=LIGHTLY)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in this process finds JAX started with the devices of `conftest.py`, whatever the machine has."""
    monkeypatch.setattr(devices, "num_cores", lambda: 2)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    root = tmp_path_factory.mktemp("swept")
    data = prepare_small_data(root / "data")
    output, _ = finish(begin(data, root / "sweep", *LENGTH, *SWEEP))
    return Swept(root / "sweep", data, output)


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "results.jsonl").read_text().splitlines()]


# What a sweep leaves.


def test_there_is_a_row_for_every_member_with_its_values_and_scores(swept: Swept) -> None:
    rows = results(swept.path)
    assert [row["member"] for row in rows] == list(range(8))
    found = [(row["disc.widths"], row[RATE], row["seed"]) for row in rows]
    assert found == [([width], rate, seed) for width in (16, 12) for rate in (1e-3, 1e30) for seed in (0, 1)]
    for row in rows:
        assert row["diverged"] == (row[RATE] == 1e30)
        if row["diverged"]:
            assert row["step"] < 60
            assert row["collapsed"] is None
            assert "frechet" not in row
        else:
            assert row["step"] == 60
            assert row["frechet"] > 0
            assert {"recall/3", "precision/3", "classes/hit", "classes/kl", "share/0"} <= row.keys()
            assert row["collapsed"] == ((row["classes/kl"] or math.inf) >= math.log(2) or row["recall/3"] < 0.01)


def test_waves_are_of_one_structure_and_no_larger_than_allowed(swept: Swept) -> None:
    record = read_sweep(swept.path)
    assert record.waves == ((0, 1), (2, 3), (4, 5), (6, 7))
    assert record.keep == len(list((swept.path / "members").iterdir())) == 2
    assert record.fields == ("seed", "disc.widths", RATE)


def test_a_record_of_before_that_does_not_say_how_many_to_export_is_of_one(swept: Swept, tmp_path: Path) -> None:
    written = json.loads((swept.path / "sweep.json").read_text())
    del written["keep"]
    (tmp_path / "sweep.json").write_text(json.dumps(written))
    assert read_sweep(tmp_path).keep == 1


def test_the_table_has_means_spreads_and_shares(swept: Swept) -> None:
    rows = results(swept.path)
    distances = [row["frechet"] for row in rows if row["disc.widths"] == [12] and not row["diverged"]]
    (line,) = (line for line in swept.output.splitlines() if line.split()[:2] == ["12", "0.001"])
    assert line.split()[2:5] == ["2", f"{np.mean(distances):.2f}", f"±{np.std(distances, ddof=1):.2f}"]
    (lost,) = (line for line in swept.output.splitlines() if line.split()[:2] == ["12", "1e+30"])
    assert lost.split()[2:] == ["2", "-", "-", "-", "0%", "100%"]
    (whole,) = (line for line in swept.output.splitlines() if line.split()[:1] == ["all"])
    assert whole.split()[1] == "8"
    assert whole.split()[-1] == "50%"


def test_there_are_plots_and_a_picture_with_a_row_a_member(swept: Swept) -> None:
    with Image.open(swept.path / "scores.png") as plot:
        assert plot.width > 400
    with Image.open(swept.path / "samples.png") as picture:
        # Pictures of 2 x 2 images, a line between the rows.
        assert picture.height == 8 * 29 - 1
        levels = np.asarray(picture)
    for row in results(swept.path):
        images = levels[row["member"] * 29 : row["member"] * 29 + 28, -28:]
        assert (images == 128).all() == row["diverged"]


def test_scores_on_the_way_are_journaled_beside_metrics(swept: Swept) -> None:
    for row in results(swept.path):
        rows = read_row_file(swept.path / "metrics" / f"{row['member']}.jsonl")
        scored = {found["step"]: found["score/frechet"] for found in rows if "score/frechet" in found}
        logged = [found["step"] for found in rows if "loss/gen" in found]
        if row["diverged"]:
            assert scored == {}
            assert logged == []  # The first step already.
        else:
            assert list(scored) == [30, 60]
            assert scored[60] == row["frechet"]
            assert logged == list(range(1, 61, 7))


def test_the_members_with_the_least_distance_are_exported(swept: Swept) -> None:
    rows = sorted((row for row in results(swept.path) if not row["diverged"]), key=lambda row: row["frechet"])
    for row in rows[:2]:
        assert row["run"] == f"members/{row['member']}"
        assert f"exported  {swept.path / row['run']}: member {row['member']} " in swept.output
    assert {path.name for path in (swept.path / "members").iterdir()} == {str(row["member"]) for row in rows[:2]}
    assert not any("run" in row for row in rows[2:])


# An exported member is a run.


def test_an_exported_member_has_the_bits_of_the_run_and_can_be_sampled_and_trained_on(
    swept: Swept, tmp_path: Path
) -> None:
    row = min((row for row in results(swept.path) if not row["diverged"]), key=lambda row: row["frechet"])
    given = ("--seed", row["seed"], "--disc.widths", row["disc.widths"][0], "--disc.optimizer.learning-rate", "1e-3")
    train(swept.data, tmp_path / "run", *LENGTH, *CADENCES, *given, compiled=LIGHTLY)
    exported = swept.path / row["run"]
    assert state_digest(exported, 60) == state_digest(tmp_path / "run", 60)
    own = [found for found in read_row_file(exported / "metrics.jsonl") if "loss/gen" in found]
    assert own == read_row_file(tmp_path / "run" / "metrics.jsonl")
    assert (exported / "samples" / "00000060.png").read_bytes() == (
        tmp_path / "run" / "samples" / "00000060.png"
    ).read_bytes()
    assert sample.main([str(exported), "--num", "3", "--out", str(tmp_path / "a.npy")]) == 0
    assert np.load(tmp_path / "a.npy").shape == (3, 28, 28)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(exported), str(copy)], check=True)
    resume(copy, "--num-steps", "70", "--eval-every", "0", compiled=LIGHTLY)
    resume(tmp_path / "run", "--num-steps", "70", compiled=LIGHTLY)
    assert state_digest(copy, 70) == state_digest(tmp_path / "run", 70)


# Interruptions.


def same_sweep(one: Path, other: Path) -> None:
    """Asserts that two sweeps have the same bits: rows, metrics, states and pictures."""
    names = ["results.jsonl", "samples.png", *(f"metrics/{i}.jsonl" for i in range(8))]
    for name in [*names, *(f"waves/{i}/samples.npy" for i in range(4))]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for i in range(4):
        assert state_digest(one / "waves" / str(i), 60) == state_digest(other / "waves" / str(i), 60)


def test_a_sweep_that_is_killed_stopped_and_lengthened_ends_with_the_bits_of_one_that_was_not(
    swept: Swept, tmp_path: Path
) -> None:
    path = tmp_path / "sweep"
    # Its end is none of the steps at which members are scored on their way.
    process = begin(swept.data, path, "--num-steps", "25", *SWEEP)
    wait_until((path / "waves" / "0" / "checkpoints" / "20").exists, process, seconds=120)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    again = spawn("sweep", "--run-dir", path, "--resume", compiled=LIGHTLY)
    wait_until((path / "waves" / "2" / "checkpoints" / "20").exists, again, seconds=120)
    again.send_signal(signal.SIGTERM)
    output, errors = again.communicate(timeout=240)
    assert again.returncode == 128 + signal.SIGTERM, errors
    assert f"stopped by SIGTERM; resume with: python -m jaxgan.sweep --run-dir {path} --resume" in output
    assert checkpoint_steps(path / "waves" / "2")
    assert [row["member"] for row in results(path)] == [0, 1, 2, 3]
    succeed(run("sweep", "--run-dir", path, "--resume", *LENGTH, compiled=LIGHTLY))
    same_sweep(swept.path, path)


def test_a_sweep_that_becomes_longer_has_no_results_yet_and_keeps_what_was_exported(
    swept: Swept, tmp_path: Path
) -> None:
    path = tmp_path / "sweep"
    subprocess.run(["cp", "-r", str(swept.path), str(path)], check=True)
    exported = sorted(each.name for each in (path / "members").iterdir())
    measured = (path / "results.jsonl").read_bytes()
    for steps, folder in ((70, "members-60"), (80, "members-70")):
        longer = lengthen(path, read_sweep(path), steps)
        assert {member.num_steps for member in longer.members} == {steps}
        assert read_sweep(path) == longer
        assert not (path / "results.jsonl").exists()
        assert sorted(each.name for each in (path / folder).iterdir()) == exported
        (path / folder).rename(path / "members")
        aside = path / folder.replace("members", "results")
        assert aside.with_suffix(".jsonl").read_bytes() == measured
        aside.with_suffix(".jsonl").rename(path / "results.jsonl")


def test_a_sweep_that_cannot_go_on_is_not_lengthened_and_loses_nothing(swept: Swept, tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    subprocess.run(["cp", "-r", str(swept.path), str(path)], check=True)
    for file in (path / "waves" / "1" / "checkpoints").rglob("d/*"):
        file.write_bytes(b"")

    def content() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}

    before = content()
    said = refusal(sweep.main, "--run-dir", path, "--resume", "--num-steps", "70")
    assert re.fullmatch(
        rf"{re.escape(str(path / 'waves/1/checkpoints'))}: none of its \d checkpoints can be read", said
    )
    assert content() == before


def test_a_finished_sweep_exports_more_members_when_asked_and_changes_nothing_else(
    swept: Swept, tmp_path: Path
) -> None:
    path = tmp_path / "sweep"
    subprocess.run(["cp", "-r", str(swept.path), str(path)], check=True)
    succeed(run("sweep", "--run-dir", path, "--resume", "--keep", "3", compiled=LIGHTLY))
    assert len(list((path / "members").iterdir())) == read_sweep(path).keep == 3
    assert [{**row, "run": 0} for row in results(path)] == [{**row, "run": 0} for row in results(swept.path)]


# Bad input.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "sweep over nothing"),
        (("vanila", "--seeds", "2"), "did you mean vanilla"),
        (("--seeds", "x"), "--seeds"),
        (("--seeds", "2", "--keep", "-1"), "--keep must be a whole number of 0 or more, not -1"),
        (("--seeds", "2", "--wave", "0"), "--wave must be a whole number of 1 or more, not 0"),
        (("--run-dir", "/nowhere", "--resume"), "/nowhere holds no sweep: it has no sweep.json"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        sweep.main(arguments)
    assert message in str(caught.value)


def test_a_directory_that_holds_something_else_is_refused(swept: Swept, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for path, message in (
        (swept.path, "holds a sweep already: add --resume"),
        (next((swept.path / "members").iterdir()), "holds a run, not a sweep"),
        (tmp_path, "is not empty and holds no run"),
        (tmp_path / "notes.txt", "is a file"),
    ):
        with pytest.raises(InputError, match=message):
            sweep.main(["vanilla", "--seeds", "2", "--run-dir", str(path)])
    with pytest.raises(InputError, match="holds a sweep: the members that it exported are runs, in"):
        training.main(["--run-dir", str(swept.path), "--resume"])
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_other_members_than_those_of_the_stored_sweep_are_refused_on_resume_and_the_same_are_not(swept: Swept) -> None:
    resumed = ["vanilla", "--run-dir", str(swept.path), "--resume"]
    with pytest.raises(InputError, match="is a sweep of other members"):
        sweep.main([*resumed, "--seeds", "3"])
    with pytest.raises(InputError, match="is a sweep of the preset vanilla, not of modern"):
        sweep.main(["modern", *resumed[1:]])
    with pytest.raises(InputError, match=r"--num-steps 59 is less than the 60 steps of .*: it can only be lengthened"):
        sweep.main([*resumed, "--num-steps", "59"])
    with pytest.raises(InputError, match="is a sweep of other members"):
        sweep.main([*resumed, "--num-steps", "61", "--batch-size", "9", "--seeds", "2"])
    with pytest.raises(InputError, match="is a sweep of other members"):
        sweep.main([*resumed, "--data.name", "mnist", *SWEEP[:-6]])
    with pytest.raises(InputError, match="--eval-every cannot change: --resume takes --num-steps and data folders"):
        sweep.main([*resumed, "--eval-every", "20"])
    with pytest.raises(InputError, match=r"--wave 1 comes too late: waves of .* have been trained"):
        sweep.main([*resumed, "--wave", "1"])


def test_a_sweep_whose_data_were_moved_goes_on_where_they_are(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a sweep"
    subprocess.run(["cp", "-r", str(swept.path), str(path)], check=True)
    record = read_sweep(path)
    lost = [with_values(member, {"data.data_dir": tmp_path / "nowhere"}) for member in record.members]
    write_sweep(path, replace(record, members=tuple(lost)))
    other = prepare_small_data(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="has changed since"):
        sweep.main(["--run-dir", str(path), "--resume", "--data.data-dir", str(other)])
    assert sweep.main(["--run-dir", str(path), "--resume", "--data.data-dir", str(swept.data)]) == 0
    assert f"extend    python -m jaxgan.sweep --run-dir '{path}' --resume --num-steps M" in capsys.readouterr().out
    assert read_sweep(path) == record


def test_a_sweep_that_did_not_fit_is_begun_in_smaller_waves(
    swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = read_sweep(swept.path)
    assert max(map(len, record.waves)) == 2
    write_sweep(tmp_path, record)
    begun: list[SweepRecord] = []
    monkeypatch.setattr(sweep, "_sweep", lambda record, *_: begun.append(record) or 0)
    assert sweep.main(["--run-dir", str(tmp_path), "--resume", "--wave", "1"]) == 0
    assert begun == [read_sweep(tmp_path)]
    assert begun[0].waves == tuple((i,) for wave in record.waves for i in wave)
    assert begun[0].members == record.members
    # As long as none was trained, they can be larger again; the whole command, given again, is what it was.
    assert sweep.main(["--run-dir", str(tmp_path), "--resume", "--wave", "3"]) == 0
    assert read_sweep(tmp_path) == record


def test_a_sweep_of_which_all_members_diverge_ends_with_exit_3_and_all_its_files(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--gen.widths", "16", "--disc.widths", "16", "--batch-size", "8", "--every.grid", "2", "--num-steps", "20"]
    data = ["--data.name", "digits", "--data.data-dir", str(swept.data), "--data.holdout", "100"]
    path = tmp_path / "sweep"
    wild = ["--seeds", "2", "--disc.optimizer.learning-rate", "1e30", "--run-dir", str(path)]
    assert sweep.main(["vanilla", *small, *data, *wild]) == 3
    assert capsys.readouterr().err.endswith("jaxgan: training diverged: all 2 members did\n")
    assert [(row["diverged"], row["collapsed"]) for row in results(path)] == [(True, None)] * 2
    assert not (path / "members").exists()
    for name in ("scores.png", "samples.png"):
        with Image.open(path / name) as picture:
            assert picture.width > 10


def test_a_sweep_over_lengths_cannot_be_lengthened(tmp_path: Path) -> None:
    data = DatasetRecord("digits", "", (28, 28, 1), 100)
    members = tuple(replace(PRESETS["vanilla"], num_steps=steps) for steps in (10, 20))
    write_sweep(tmp_path, SweepRecord(FORMAT, "vanilla", ("num_steps",), members, ((0,), (1,)), data, {}))
    with pytest.raises(InputError, match="sweeps over --num-steps: it cannot be lengthened"):
        sweep.main(["--run-dir", str(tmp_path), "--resume", "--num-steps", "30"])


def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    said = complaint(run("sweep", "vanilla", "--gen.optimizer.learning-rat", "1e-3", "1e-4", cwd=tmp_path))
    assert "did you mean --gen.optimizer.learning-rate" in said
    assert list(tmp_path.iterdir()) == []


def test_help_says_how_values_and_ranges_are_written(tmp_path: Path) -> None:
    text = succeed(run("sweep", "--help", cwd=tmp_path))
    for part in ("--seeds", "--samples", "--keep", "1e-5..1e-2:log", "256,256"):
        assert part in text


# Words that are defined.


@pytest.mark.parametrize(
    ("kl", "recall", "collapsed"),
    [(0.0, 0.5, False), (math.log(2), 0.5, True), (0.69, 0.01, False), (0.0, 0.009, True), (math.inf, 0.5, True)],
)
def test_a_generator_has_collapsed_that_leaves_out_half_of_the_classes_or_reaches_nothing(
    kl: float, recall: float, collapsed: bool
) -> None:
    assert has_collapsed({"classes/kl": kl, "recall/3": recall}) == collapsed
