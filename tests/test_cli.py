from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from running import QUICKLY, environment, prepare_small_data, run

from jaxgan import cli


def test_compiled_programs_are_kept_for_the_next_process_in_a_private_folder(tmp_path: Path) -> None:
    data = prepare_small_data(tmp_path / "data")
    tiny = ("vanilla", "--num-steps", 1, "--gen.widths", 8, "--disc.widths", 8, "--every.sample", 0, "--every.log", 0)
    where = ("--data.name", "digits", "--data.data-dir", data, "--data.holdout", 0)
    home = tmp_path / "home"

    def programs(number: int) -> dict[Path, int]:
        """The programs that are kept after a run, and when each was written."""
        finished = run(
            "train",
            *tiny,
            *where,
            "--run-dir",
            tmp_path / str(number),
            JAX_COMPILATION_CACHE_DIR="",
            XDG_CACHE_HOME=str(home),
            compiled=QUICKLY,
        )
        assert finished.returncode == 0, finished.stderr
        return {path: path.stat().st_mtime_ns for path in home.rglob("*-cache")}

    first = programs(1)
    assert first
    folder = next(iter(first)).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert programs(2) == first
    # A folder that others may write to is not read from, for what is in it is run.
    folder.chmod(0o770)
    for path in first:
        path.write_bytes(b"made by somebody else")
    assert programs(3).keys() == first.keys()
    assert all(path.read_bytes() == b"made by somebody else" for path in first)


def test_a_terminal_without_accents_changes_letters_and_ends_nothing() -> None:
    accents = "from jaxgan import cli; cli.run(lambda _: print('Fréchet ±') or 0)"
    done = subprocess.run(
        [sys.executable, "-c", accents], env=environment(PYTHONIOENCODING="ascii"), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"Fr?chet ?\n", b"")


def test_commands_that_are_shown_can_be_pasted() -> None:
    assert cli.command_line("sample", Path("my runs/1"), "--num", 64) == "python -m jaxgan.sample 'my runs/1' --num 64"
