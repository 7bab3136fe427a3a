"""PyTorch with a whole step captured into one CUDA graph, which the host replays.

Following https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs: static tensors, a warm-up on a side stream,
capturable Adam. The order of an epoch, the place in it, the learning rates and the sums of the losses live on the GPU;
random numbers come from the default generator, which a graph advances at every replay.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.benchmark.peers import LOSSES, NeedsGPU
from experiments.benchmark.peers.torch_eager import FINAL_RATE, TorchGame
from jaxgan.config import Config

WARM_UP = 3


class GraphGame(TorchGame):
    """The eager game whose step is recorded once; on a CPU, for tests, the same static step runs as it is."""

    def __init__(self, config: Config, images: np.ndarray, device: str) -> None:
        n, batch = len(images), config.real_batch_size
        self.order = torch.zeros(n - n % batch, dtype=torch.int64, device=device)
        self.place = torch.zeros((), dtype=torch.int64, device=device)
        self.done = torch.zeros((), device=device)
        self.sums = torch.zeros(2, device=device)
        self.offsets = torch.arange(batch, device=device)
        self.graph: Any = None
        super().__init__(config, images, device, capturable=device == "cuda")
        if device == "cuda":
            self._capture()

    def start(self, seed: int) -> None:
        """As in the eager game; counters go back to zero, and the captured tensors stay."""
        super().start(seed)
        self.rates, self.left = [], 0
        for counter in (self.place, self.done, self.sums):
            counter.zero_()

    def train(self, steps: int, window: int) -> dict[str, float]:
        """The loop of replays."""
        for i in range(steps):
            if i == steps - window:
                self.sums.zero_()
            if self.left == 0 and self.config.data.order == "epochs":
                self.order.copy_(torch.randperm(len(self.images), device=self.device)[: len(self.order)])
                self.place.zero_()
                self.left = len(self.order) // self.config.real_batch_size
            self.left -= 1
            if self.graph is None:
                self._static_step()
            else:
                self.graph.replay()
        means = (self.sums / window).tolist()  # Waits for the device.
        return dict(zip(LOSSES, means, strict=True))

    def _static_step(self) -> None:
        """One step that reads and writes the same tensors every time, and asks the host nothing."""
        batch = self.config.real_batch_size
        if self.config.data.order == "replacement":
            indices = torch.randint(len(self.images), (batch,), device=self.device)
        else:
            indices = self.order[self.place + self.offsets]
        self._set_rates()
        self.sums.add_(torch.stack(self.step(self.images[indices])))
        self.place.add_(batch)

    @torch.no_grad()
    def end_step(self) -> None:
        """As in the eager game, by the steps that the device has counted."""
        if self.average:
            decay = ((1.0 + self.done) / (1.0 + self.config.average_warmup + self.done)).clamp(
                max=self.config.average_decay
            )
            # `_foreach_lerp_` takes no weight from the device.
            moves = torch._foreach_sub(list(self.gen.parameters()), self.average)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_mul_(moves, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
            torch._foreach_add_(self.average, moves)  # pyright: ignore[reportPrivateImportUsage]
        self.done.add_(1.0)

    def _set_rates(self) -> None:
        if not self.config.decay_steps:
            return
        angle = ((self.done - self.config.decay_start) / self.config.decay_steps).clamp(0.0, 1.0) * math.pi
        share = FINAL_RATE + (1.0 - FINAL_RATE) * (1.0 + torch.cos(angle)) / 2.0
        for adam, player in ((self.gen_adam, self.config.gen), (self.disc_adam, self.config.disc)):
            for group in adam.param_groups:
                rate = share * player.optimizer.learning_rate
                if isinstance(group["lr"], Tensor):
                    group["lr"].copy_(rate)
                else:
                    group["lr"] = float(rate)

    def _capture(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._static_step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._static_step()
        self.graph = graph
        self.start(0)


def build(config: Config, images: np.ndarray) -> GraphGame:
    """A captured game.

    Raises:
        NeedsGPU: There is no CUDA device.
    """
    if not torch.cuda.is_available():
        raise NeedsGPU
    return GraphGame(config, images, "cuda")
