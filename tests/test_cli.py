from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jax
import pytest
from running import QUICKLY, environment, prepare_small_data, run

from jaxgan import cli
from jaxgan.config import DataConfig, InputError


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
    assert {level.stat().st_mode & 0o777 for level in (folder, folder.parent, folder.parent.parent)} == {0o700}
    assert programs(2) == first
    # What lies where others may write is not read, for it is run.
    folder.parent.chmod(0o770)
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


@dataclass(frozen=True)
class Places:
    """Paths as doors have them."""

    out: Path = Path("samples.png")
    data: DataConfig = field(default_factory=DataConfig)


def test_a_tilde_behind_an_equals_sign_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/somebody")
    words = ["--out=~/digits.png", "--data.data-dir=~/sets"]
    places = cli.parse(Places, words, usage="sample", description="")
    assert (places.out, places.data.data_dir) == (Path("/home/of/somebody/digits.png"), Path("/home/of/somebody/sets"))
    assert cli.parse_some(Places, [*words, "--num", "3"], usage="sample") == places


def test_a_home_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="~nobody-here/x: there is no such home folder"):
        cli.parse(Places, ["--out", "~nobody-here/x"], usage="sample", description="")


def test_without_a_home_compiled_programs_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", none)
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        cli.start_jax()
        assert jax.config.jax_compilation_cache_dir is None  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_commands_that_are_shown_can_be_pasted() -> None:
    assert cli.command_line("sample", Path("my runs/1"), "--num", 64) == "python -m jaxgan.sample 'my runs/1' --num 64"
