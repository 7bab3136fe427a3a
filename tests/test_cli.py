from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def test_an_interruption_ends_a_process_wherever_it_is() -> None:
    # An exception out of a destructor is lost, and the process would go on.
    program = """if True:
        import signal
        import time
        from jaxgan import cli

        class Slow:
            def __del__(self):
                print("here", flush=True)
                time.sleep(60)

        # A shell has what it starts in the background ignore it, tests among them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.run(lambda _: Slow() is None)
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (130, b"", b"")


def test_what_a_shell_or_a_notebook_sets_changes_nothing(tmp_path: Path) -> None:
    data = prepare_small_data(tmp_path / "data")
    tiny = ("vanilla", "--num-steps", 12, "--gen.widths", 8, "--disc.widths", 8, "--batch-size", 4, "--every.log", 1)
    where = ("--data.name", "digits", "--data.data-dir", data, "--data.holdout", 0)
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    others: dict[str, Any] = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_THREEFRY_PARTITIONABLE": "0",
    }
    for name, changes in (("plain", {}), ("other", others)):
        done = run("train", *tiny, *where, "--run-dir", tmp_path / name, compiled=QUICKLY, **changes)
        assert done.returncode == 0, done.stderr
    for file in ("metrics.jsonl", "samples/00000012.png", "losses.png"):
        assert (tmp_path / "other" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_process_without_a_stream_works(closed: str) -> None:
    program = "from jaxgan import cli; import sys; cli.run(lambda _: print('a') or print('b', file=sys.stderr) or 7)"
    done = subprocess.run(["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, program], check=False)
    assert done.returncode == 7


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"the name 'by.*te' is not UTF-8: choose another"):
        cli.parse(Places, ["--out", os.fsdecode(b"by\xffte")], usage="sample", description="")


def test_a_shown_path_that_begins_with_a_dash_is_no_flag() -> None:
    assert cli.command_line("sample", Path("-x"), "--num", 64) == "python -m jaxgan.sample ./-x --num 64"


def test_the_doors_are_listed() -> None:
    done = subprocess.run([sys.executable, "-m", "jaxgan"], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0
    doors = re.findall(rb"^  python -m jaxgan\.(\w+)  ", done.stdout, re.MULTILINE)
    folder = Path(cli.__file__).parent
    assert {name.decode() for name in doors} == {
        path.stem for path in folder.glob("*.py") if "cli.run(main)" in path.read_text()
    }


def test_a_command_after_a_space_is_refused_with_how_it_is_written() -> None:
    command = [sys.executable, "-m", "jaxgan", "trian"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "jaxgan: error: commands follow a dot, as in python -m jaxgan.train, not trian\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--whole", "1e3"], "--whole must be a whole number, not 1e3"),
        (["--perhaps", "four"], "--perhaps must be a whole number, not four"),
        (["--number", "fast"], "--number must be a number, not fast"),
        (["--several", "2,0"], "--several takes whole numbers with spaces between them, not 2,0"),
        (["--several", "2", "x"], "--several takes whole numbers with spaces between them, not 2 x"),
    ],
)
def test_a_value_of_the_wrong_type_is_told_by_its_flag_and_in_words(words: list[str], told: str) -> None:
    with pytest.raises(InputError) as refused:
        cli.parse(Types, words, usage="sample", description="")
    assert str(refused.value) == f"{told} (see python -m jaxgan.sample --help)"


@dataclass(frozen=True)
class Types:
    """Fields of the types that doors have."""

    whole: int = 1
    perhaps: int | None = None
    number: float = 1.0
    several: tuple[int, ...] | None = None


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


def test_garbage_is_collected_from_the_start_of_jax_on(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting: list[bool] = []

    def main(_: object) -> int:
        collecting.append(gc.isenabled())
        cli.start_jax()
        collecting.append(gc.isenabled())
        return 0

    monkeypatch.setattr(cli, "_settle", lambda: None)
    with pytest.raises(SystemExit):
        cli.run(main)
    assert collecting == [False, True]


def test_commands_that_are_shown_can_be_pasted() -> None:
    assert cli.command_line("sample", Path("my runs/1"), "--num", 64) == "python -m jaxgan.sample 'my runs/1' --num 64"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (MemoryError(), 2, "out of memory"),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), 2, "out of memory"),
        (NotADirectoryError(20, "Not a directory", "a/b"), 2, "a/b: Not a directory"),
        (OSError(28, "No space left on device", "run"), 2, "run: No space left on device"),
        (PermissionError(1, "Operation not permitted", "run"), 2, "run: Operation not permitted"),
        (OSError(2, "No such file or directory"), None, ""),
        (RuntimeError("a mistake of ours"), None, ""),
    ],
    ids=repr,
)
def test_errors_that_a_user_can_mend_are_told_in_a_line_and_others_are_not(
    error: Exception, code: int | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._answer(error) == code
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == (1 if told else 0)


def test_programs_are_not_read_from_a_folder_of_another_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli._programs_folder() is not None
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert cli._programs_folder() is None


def test_programs_that_were_split_for_other_cores_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folders = set()
    for cores in ({0}, {0, 1}, {2}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        folders.add(cli._programs_folder())
    assert len(folders) == 2
    assert None not in folders
