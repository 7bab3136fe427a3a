"""Peers in processes of their own, told what to do line by line, so that one computes while the others wait."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import cattrs

from jaxgan.config import Config

ROOT = Path(__file__).parents[2]


def peak_memory(process: int | Literal["self"]) -> int:
    """Peak resident memory of a running process in bytes, as Linux knows it; 0 elsewhere.

    What the system counts for processes that have ended (`ru_maxrss`) is at least what the process had that started
    them.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


class PeerFailed(Exception):  # noqa: N818 (a name that says what happened)
    """A peer's process ended; the message is what it said last."""


class PeerMissing(Exception):  # noqa: N818
    """A peer cannot run here; the message says why."""


@dataclass
class Process:
    """One peer's process."""

    name: str
    process: subprocess.Popen[str]
    errors: IO[bytes]
    facts: dict[str, Any] = field(default_factory=dict)
    """Device, threads and versions, as the peer tells them."""

    def build(self, config: Config, images: Path, **options: Any) -> None:
        """Has the peer built for a config and the images of a file.

        Raises:
            PeerMissing: Its libraries are not installed, or it needs a GPU.
        """
        answer = self.ask("build", config=cattrs.unstructure(config), images=str(images), **options)
        if "missing" in answer:
            raise PeerMissing(answer["missing"])
        self.facts = answer

    def start(self, seed: int) -> None:
        """Fresh networks."""
        self.ask("start", seed=seed)

    def train(self, steps: int, window: int = 1) -> dict[str, Any]:
        """Makes steps: `seconds`, and `losses` over the last `window`."""
        return self.ask("train", steps=steps, window=window)

    def rate(self, steps: int) -> float:
        """Steps per second of one piece."""
        return steps / self.train(steps)["seconds"]

    def memory(self) -> dict[str, int]:
        """`memory`, the peak resident memory so far, and on an accelerator `device_memory`, in bytes."""
        return self.ask("memory")

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps({"do": request, **arguments}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise PeerFailed(f"{self.name}: {self.errors.read().decode(errors='replace').strip()[-2000:]}")
        return json.loads(line)


@contextlib.contextmanager
def peer_process(name: str, **variables: str) -> Iterator[Process]:
    """A peer's process, ended at the end of the with block; `variables` go into its environment."""
    # Peers share a GPU, so JAX must not take all of its memory.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **variables}
    line = [sys.executable, "-m", "experiments.benchmark.peers", name]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # Leaving the with block closes its standard input, which ends the process, and waits for it.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(line, stderr=errors, cwd=ROOT, env=environment, **pipes) as process,
    ):
        yield Process(name, process, errors)
