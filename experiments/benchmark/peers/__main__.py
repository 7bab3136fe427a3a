"""One peer in a process of its own: `python -m experiments.benchmark.peers PEER`, told what to do line by line.

Reads requests as JSON lines from standard input and answers each with one on standard output; `processes.py` is at the
other end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import cattrs
import numpy as np

from experiments.benchmark.peers import OURS, PEERS, POPULATION, NeedsGPU, Peer, build
from experiments.benchmark.processes import peak_memory
from jaxgan.config import Config


class Server:
    """Answers requests about one peer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peer: Peer | None = None

    def build(self, config: dict[str, Any], images: str, **options: Any) -> dict[str, Any]:
        """Builds the peer for a config and the images in a file."""
        self.peer = None  # Lets go of the last one's memory.
        try:
            self.peer = build(
                self.name, cattrs.structure(config, Config), np.load(images, allow_pickle=False), **options
            )
        except (ImportError, NeedsGPU) as error:
            reason = "needs a CUDA GPU" if isinstance(error, NeedsGPU) else f"not installed: {error}"
            return {"missing": reason}
        versions = {library: sys.modules[library].__version__ for library in _libraries(self.name)}
        return {"device": self.peer.device, "threads": self.peer.threads, "versions": versions}

    def start(self, seed: int) -> dict[str, Any]:
        """Fresh networks."""
        assert self.peer
        self.peer.start(seed)
        return {}

    def train(self, steps: int, window: int) -> dict[str, Any]:
        """Steps, the seconds that they took, and mean losses."""
        assert self.peer
        began = time.perf_counter()
        losses = self.peer.train(steps, window)
        return {"seconds": time.perf_counter() - began, "losses": losses}

    def memory(self) -> dict[str, Any]:
        """Peak resident memory of this process and, where JAX knows it, peak memory of its device, in bytes."""
        found = {"memory": peak_memory("self")}
        if "jax" in sys.modules:
            statistics = sys.modules["jax"].local_devices()[0].memory_stats() or {}
            if "peak_bytes_in_use" in statistics:
                found["device_memory"] = statistics["peak_bytes_in_use"]
        return found


def _libraries(name: str) -> tuple[str, ...]:
    return PEERS[OURS if name == POPULATION else name].libraries


def main(name: str) -> None:
    """Answers until standard input ends."""
    # Libraries print; what they say goes to standard error, so that answers stay alone.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        server = Server(name)
        for line in sys.stdin:
            request = json.loads(line)
            handle: Callable[..., dict[str, Any]] = getattr(server, request.pop("do"))
            print(json.dumps(handle(**request)), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
