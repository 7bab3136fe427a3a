"""What do the journal, the pictures and the checkpoints cost, and how much memory does a run take?

`python -m jaxgan.train vanilla` with its default cadences as a whole process, from start to exit, over the time of as
many bare `train_steps` in a process that has compiled them: half of those before it and half after, so that a machine
that grows slower or faster favours neither. All of that a few times.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from experiments.benchmark.peers import OURS
from experiments.benchmark.processes import ROOT, peak_memory, peer_process
from experiments.benchmark.settings import Work
from experiments.benchmark.start import SYSTEM, train_command
from experiments.benchmark.stats import spread

REPEATS = 3
LOOK = 0.05
"""Seconds between looks at the process, which has no memory of its peak when it has ended."""


def measure(work: Work) -> dict[str, Any]:
    """Seconds of both, their ratios, and the peak resident memory of the processes."""
    steps = work.settings.whole_steps
    whole, bare, peaks = [], [], []
    with peer_process(OURS) as process:
        process.build(work.config(SYSTEM), work.images)
        process.train(10)
        for _ in range(min(REPEATS, work.settings.repeats)):
            before = process.train(steps // 2)["seconds"]
            seconds, peak = _run(work, steps)
            after = process.train(steps - steps // 2)["seconds"]
            whole.append(seconds)
            bare.append(before + after)
            peaks.append(peak)
    return {
        "system": SYSTEM,
        "steps": steps,
        "seconds": spread(whole),
        "bare_seconds": spread(bare),
        "overhead": spread([a / b - 1.0 for a, b in zip(whole, bare, strict=True)]),
        "peak_memory": max(peaks),
    }


def _run(work: Work, steps: int) -> tuple[float, int]:
    """Seconds and peak memory of one `jaxgan.train`."""
    with tempfile.TemporaryDirectory() as folder:
        line = [*train_command(work), "--num-steps", str(steps), "--run-dir", str(Path(folder) / "run")]
        began = time.perf_counter()
        peak = 0
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                peak = max(peak, peak_memory(process.pid))
                time.sleep(LOOK)
        if process.returncode != 0:
            raise RuntimeError(f"exit code {process.returncode}: {' '.join(line)}")
        return time.perf_counter() - began, peak
