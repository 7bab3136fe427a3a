"""Runs the real commands, on a data set of a few hundred small images that is laid out as a prepared one."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxgan.config import DataConfig, InputError
from jaxgan.data import cache
from jaxgan.data.folders import prepared_folder

SMALL = ("--gen.widths", "16", "--disc.widths", "16", "--batch-size", "8", "--data.holdout", "0", "--every.grid", "2")
SMALL += ("--every.log", "0")  # A run without rows draws no curves, which takes as long as to train.

# Environments of commands that compile what no other test does. XLA's older emitters, little of LLVM's optimisation and
# programs in one piece, since both cores have a test to run, take half of the time; without any optimisation it is a
# fifth, but then networks that learn are slow.
LIGHTLY = {
    "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
    " --xla_cpu_parallel_codegen_split_count=1"
}
QUICKLY = {**LIGHTLY, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
AS_EVER: dict[str, str] = {}

# A run with scores; its distances fall and rise at such a rate, so that the best is as a rule not the last.
SCORED = (
    "--num-steps",
    "300",
    "--every.log",
    "100",
    "--every.checkpoint",
    "50",
    "--every.sample",
    "100",
    "--keep",
    "10",
)
SCORED += ("--eval-every", "25", "--keep-best", "--data.holdout", "100", "--conditional")
SCORED += ("--gen.optimizer.learning-rate", "0.02", "--disc.optimizer.learning-rate", "0.02")


class ScoredRun(NamedTuple):
    """A finished run with scores, the data it was trained on, and what it printed."""

    path: Path
    data: Path
    output: str
    errors: str


def prepare_small_data(root: Path, seed: int = 0) -> Path:
    """Puts 256 + 64 images of one stroke each where a prepared `digits` would lie."""
    rng = np.random.default_rng(seed)
    splits = {}
    for split, count in (("train", 256), ("test", 64)):
        labels = rng.integers(0, 10, count).astype(np.int32)
        images = np.zeros((count, 28, 28, 1), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4:24, 4 + 2 * label : 6 + 2 * label] = rng.integers(128, 256)
        splits[split] = cache.Arrays(images, labels)
    folder = prepared_folder(DataConfig(name="digits", data_dir=root))
    folder.mkdir(parents=True)
    cache.write(folder / "arrays", splits)
    return root


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Any:
    """What `make(folder)` returns, as JSON has it, made by the first of pytest's processes that asks for the name.

    The folder is of all processes, so no test may change what lies there.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made.json").exists():
            folder.mkdir(exist_ok=True)
            made = json.dumps(make(folder))
            (folder / "made.json").write_text(made)
    return json.loads((folder / "made.json").read_text())


def environment(**changes: str) -> dict[str, str]:
    """This process's environment with changes, and no way to the network."""
    offline = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return {**os.environ, **offline, "COLUMNS": "100", **changes}


def command(door: str, *arguments: object) -> list[str]:
    """The command line of a door."""
    return [sys.executable, "-m", f"jaxgan.{door}", *map(str, arguments)]


def run(
    door: str,
    *arguments: object,
    cwd: Path | None = None,
    compiled: Mapping[str, str] = AS_EVER,
    **changes: str,
) -> subprocess.CompletedProcess[str]:
    """Runs a door to its end."""
    return subprocess.run(
        command(door, *arguments),
        cwd=cwd,
        env=environment(**compiled, **changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def here(door: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a door to its end as `run` does, in this process: that takes no time to start, and programs are kept.

    It has the devices and the compiler of the tests, so not the bits of a process that has its own.
    """
    output, errors = io.StringIO(), io.StringIO()
    main = importlib.import_module(f"jaxgan.{door}").main
    words = list(map(str, arguments))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(words)
    return subprocess.CompletedProcess(words, code, output.getvalue(), errors.getvalue())


def find(program: Path, *arguments: str, **changes: str) -> Any:
    """The JSON that a program beside the tests prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(program), *arguments],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return json.loads(succeed(done))


def train(
    data: Path,
    run_dir: Path,
    *arguments: object,
    preset: str = "vanilla",
    compiled: Mapping[str, str] = AS_EVER,
) -> str:
    """Trains a small system on the small data into `run_dir`; its standard output, if it succeeds."""
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", run_dir)
    return succeed(run("train", preset, *SMALL, *fixed, *arguments, compiled=compiled))


def train_here(data: Path, run_dir: Path, *arguments: object, preset: str = "vanilla") -> str:
    """Does what `train` does in this process."""
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", run_dir)
    return succeed(here("train", preset, *SMALL, *fixed, *arguments))


def start(
    data: Path, run_dir: Path, *arguments: object, compiled: Mapping[str, str] = AS_EVER
) -> subprocess.Popen[str]:
    """Starts what `train` runs, and does not wait for it."""
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", run_dir)
    return spawn("train", "vanilla", *SMALL, *fixed, *arguments, compiled=compiled)


def restart(run_dir: Path) -> subprocess.Popen[str]:
    """Starts what `resume` runs, and does not wait for it."""
    return spawn("train", "--run-dir", run_dir, "--resume")


def spawn(
    door: str, *arguments: object, compiled: Mapping[str, str] = AS_EVER, **changes: str
) -> subprocess.Popen[str]:
    """Starts what `run` runs, and does not wait for it."""
    return subprocess.Popen(
        command(door, *arguments),
        env=environment(**compiled, **changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Standard output and error of a process that succeeds."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output, errors


def wait_until(arrived: Callable[[], bool], *processes: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Returns when something is so that processes bring about; if it is not in time, or one ends, all are killed."""
    deadline = time.monotonic() + seconds
    while not arrived():
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            for process in processes:
                process.kill()
            raise AssertionError([process.communicate() for process in processes])
        time.sleep(0.002)


def resume(run_dir: Path, *arguments: object, compiled: Mapping[str, str] = AS_EVER) -> str:
    """Continues a run to its end; its standard output."""
    return succeed(run("train", "--run-dir", run_dir, "--resume", *arguments, compiled=compiled))


def resume_here(run_dir: Path, *arguments: object) -> str:
    """Does what `resume` does in this process."""
    return succeed(here("train", "--run-dir", run_dir, "--resume", *arguments))


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    """The standard output of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(main: Callable[[Sequence[str]], int], *arguments: object) -> str:
    """The line with which a door refuses its arguments, without a process of its own (which `complaint` looks at)."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(InputError) as refused:
        main(list(map(str, arguments)))
    assert "\n" not in str(refused.value)
    assert not errors.getvalue()  # The command says this line and no other.
    return str(refused.value)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on standard error of a command that refused its input."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("jaxgan: error: ")
    return lines[0].removeprefix("jaxgan: error: ")


def checkpoint_steps(run_dir: Path, folder: str = "checkpoints") -> list[int]:
    """The steps that have a checkpoint."""
    return sorted(int(path.name) for path in (run_dir / folder).iterdir() if path.name.isdecimal())


def state_digest(run_dir: Path, step: int, folder: str = "checkpoints") -> str:
    """The SHA-256 that a checkpoint records of every bit of its state."""
    return json.loads((run_dir / folder / str(step) / "meta" / "metadata").read_text())["sha256"]


def same_run(one: Path, other: Path, step: int) -> None:
    """Asserts that two runs have the same bits at a step: state, journal rows and pictures."""
    assert state_digest(one, step) == state_digest(other, step)
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    pictures = sorted(path.name for path in (one / "samples").iterdir())
    assert pictures
    assert pictures == sorted(path.name for path in (other / "samples").iterdir())
    for name in pictures:
        assert (one / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes(), name
