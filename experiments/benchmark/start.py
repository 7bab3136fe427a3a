"""How long from the start of a process to the first step, without and with a warm compilation cache?

Once as a program of a few lines, split into interpreter, imports, data and compiling (with the initial state and the
step itself), and once as `python -m jaxgan.train`, until the first row of its journal is there. The data set is
prepared. The cache is JAX's own for the one, and for the other as `jaxgan` keeps it, both in folders made for this.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.benchmark.processes import ROOT
from experiments.benchmark.settings import Work
from experiments.benchmark.stats import spread

STAGES = ("python", "import", "data", "compile and step", "whole", "jaxgan.train")
SYSTEM = "vanilla"
REPEATS = 3
PATIENCE = 120.0
"""Seconds after which a process that makes no step has failed."""


def measure(work: Work) -> dict[str, Any]:
    """Seconds by stage, cold and warm."""
    seconds: dict[str, dict[str, list[float]]] = {
        temperature: {stage: [] for stage in STAGES} for temperature in ("cold", "warm")
    }
    for _ in range(min(REPEATS, work.settings.repeats)):
        # Both kinds of process have a folder of their own, or the first would warm it for the second.
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for stages in seconds.values():
                for stage, taken in {**_program(work, one), "jaxgan.train": _door(work, other)}.items():
                    stages[stage].append(taken)
    return {t: {stage: spread(values) for stage, values in stages.items()} for t, stages in seconds.items()}


def _environment(cache: str) -> dict[str, str]:
    # JAX keeps nothing by default that compiles in less than a second.
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def _program(work: Work, cache: str) -> dict[str, float]:
    data = json.dumps(asdict(work.data), default=str)
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "experiments.benchmark.first_step", SYSTEM, data],
        cwd=ROOT,
        env=_environment(cache),
        check=True,
        capture_output=True,
        text=True,
    )
    at = json.loads(done.stdout)
    times = (began, at["entered"], at["imported"], at["loaded"], at["stepped"])
    stages = dict(zip(STAGES, (b - a for a, b in itertools.pairwise(times)), strict=False))
    return stages | {"whole": times[-1] - began}


def _door(work: Work, cache: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "run" / "metrics.jsonl"
        line = [*train_command(work), "--run-dir", str(journal.parent), "--every.log", "1"]
        began = time.time()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMPILATION_", "JAX_PERSISTENT_"))}
        environment["XDG_CACHE_HOME"] = cache
        process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            while not (journal.exists() and journal.stat().st_size):
                if process.poll() is not None or time.time() - began > PATIENCE:
                    raise RuntimeError(f"no first step within {PATIENCE:.0f} seconds: {' '.join(line)}")
                time.sleep(0.002)
            return time.time() - began
        finally:
            process.kill()
            process.wait()


def train_command(work: Work) -> list[str]:
    """`python -m jaxgan.train vanilla` on the data of this measurement."""
    line = [sys.executable, "-m", "jaxgan.train", SYSTEM, "--data.name", work.data.name]
    for flag, folder in (("data-dir", work.data.data_dir), ("manual-dir", work.data.manual_dir)):
        line += [f"--data.{flag}", str(folder)] if folder else []
    return line
