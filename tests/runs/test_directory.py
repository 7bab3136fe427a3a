from __future__ import annotations

import concurrent.futures
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jaxgan.config import Config, DataConfig, InputError
from jaxgan.data.folders import writing
from jaxgan.presets import PRESETS
from jaxgan.runs.directory import (
    FORMAT,
    DatasetRecord,
    RunRecord,
    check_new,
    claim_directory,
    free_directory,
    latest_directory,
    owned,
    read_record,
    write_atomically,
    write_record,
)
from jaxgan.runs.sweeps import check_new_sweep


def record(config: Config) -> RunRecord:
    counts = (30_000, 25_000) if config.conditional else ()
    data = DatasetRecord("mnist", "ab" * 32, (28, 28, 1), 55_000, counts)
    return RunRecord(FORMAT, "vanilla", config, data, {"jax": "1"})


@pytest.mark.parametrize("name", PRESETS)
def test_a_record_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    config = replace(PRESETS[name], data=DataConfig(name="mnist", manual_dir=Path("/some where/é")))
    write_record(tmp_path, record(config))
    assert read_record(tmp_path) == record(config)


def test_a_conditional_run_without_its_classes_is_damaged(tmp_path: Path) -> None:
    write_record(tmp_path, record(Config(conditional=True)))
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["dataset"]["label_counts"] = []
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"is damaged: .*conditional players need label_counts"):
        read_record(tmp_path)


def test_a_record_from_before_a_field_was_added_is_that_of_its_default(tmp_path: Path) -> None:
    write_record(tmp_path, record(Config()))
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["config"]["disc"]["black_at_zero"]
    del stored["config"]["latent"]["scale"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert read_record(tmp_path) == record(Config())


def test_an_unknown_field_in_a_record_is_refused_by_name(tmp_path: Path) -> None:
    write_record(tmp_path, record(Config()))
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["config"]["gen"]["colour"] = "red"
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match="colour"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("group", "name", "value", "kind"),
    [
        ("", "num_steps", 4.7, "int"),
        ("", "num_steps", 5.0, "int"),
        ("", "seed", True, "int"),
        ("", "batch_size", "128", "int"),
        ("", "conditional", 1, "bool"),
        ("latent", "scale", "1.1", "float"),
        ("objective", "r1", True, "float"),
        ("gen", "widths", [8, 8.5], "int"),
    ],
)
def test_a_number_of_another_kind_in_a_record_is_refused_by_its_place(
    tmp_path: Path, group: str, name: str, value: object, kind: str
) -> None:
    write_record(tmp_path, record(Config()))
    stored = json.loads((tmp_path / "config.json").read_text())
    (stored["config"][group] if group else stored["config"])[name] = value
    (tmp_path / "config.json").write_text(json.dumps(stored))
    place = ".".join(filter(None, ("config", group, name)))
    with pytest.raises(InputError, match=rf"is damaged: .*expected {kind} @ \$\.{re.escape(place)}"):
        read_record(tmp_path)


def test_a_whole_number_in_a_record_stands_for_a_float(tmp_path: Path) -> None:
    write_record(tmp_path, record(Config()))
    stored = json.loads((tmp_path / "config.json").read_text())
    stored["config"]["latent"]["scale"] = 2
    (tmp_path / "config.json").write_text(json.dumps(stored))
    scale = read_record(tmp_path).config.latent.scale
    assert (scale, type(scale)) == (2.0, float)


def test_a_record_of_a_later_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    write_record(tmp_path, replace(record(Config()), format=FORMAT + 1))
    with pytest.raises(InputError, match=f"format {FORMAT + 1}; this jaxgan reads format {FORMAT}"):
        read_record(tmp_path)


def test_names_count_on_from_those_that_are_there(tmp_path: Path) -> None:
    base = tmp_path / "vanilla-0"
    assert free_directory(base) == latest_directory(base) == base
    for expected in ("vanilla-0", "vanilla-0-2", "vanilla-0-3"):
        made = free_directory(base)
        assert made.name == expected
        made.mkdir()
        assert latest_directory(base) == made
    # What was removed leaves a gap that nothing fills: the next run is the latest, too.
    (tmp_path / "vanilla-0-2").rmdir()
    for other in ("vanilla-0-sweep", "vanilla-0-07", "vanilla-01-9", "vanilla-0-1"):
        (tmp_path / other).mkdir()
    assert latest_directory(base).name == "vanilla-0-3"
    assert claim_directory(base).name == "vanilla-0-4"


def test_processes_that_start_together_claim_a_directory_each(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(claim_directory, [tmp_path / "runs" / "vanilla-0"] * 8))
    names = {"vanilla-0", *(f"vanilla-0-{i}" for i in range(2, 9))}
    assert {path.name for path in made} == {path.name for path in (tmp_path / "runs").iterdir()} == names


def test_a_directory_that_cannot_be_made_is_not_claimed(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"--run-dir .* cannot be written: Not a directory"):
        claim_directory(tmp_path / "runs" / "vanilla-0")
    # Links to what is gone, as to a disk that is not mounted.
    (tmp_path / "linked").symlink_to(tmp_path / "gone")
    for base in (tmp_path / "linked", tmp_path / "linked" / "vanilla-0"):
        with pytest.raises(InputError, match=r"--run-dir .*linked.* cannot be written: File exists"):
            claim_directory(base)


def test_only_an_empty_or_a_new_directory_takes_a_new_run(tmp_path: Path) -> None:
    check_new(tmp_path / "new")
    check_new(tmp_path)
    # What a kill may leave.
    for name in (".lock", ".config.json.a1b2c3"):
        (tmp_path / name).write_text("")
    check_new(tmp_path)
    (tmp_path / ".sweep.json.a1b2c3").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        check_new(tmp_path)
    (tmp_path / ".config.json.a1b2c3").unlink()
    check_new_sweep(tmp_path)
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match=str(place)):
            check_new(place)


def test_one_process_owns_a_directory_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from jaxgan.runs.directory import owned\n"
        "with owned(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(InputError, match="in use by another process"), owned(tmp_path):
            pass
        other.kill()
    with owned(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_from_a_directory_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"on a file system that has no locks \(Function not implemented\)"):
        owned(tmp_path).__enter__()
    with pytest.raises(InputError, match=r"no locks .* name another with --data.data-dir"):
        writing(DataConfig(name="digits", data_dir=tmp_path)).__enter__()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.json"
    write_atomically(path, b"old")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError("no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]
