"""PyTorch with `torch.compile`: both losses, with their networks and penalties, are compiled; fused Adam stays."""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad  # pyright: ignore[reportPrivateImportUsage]

from experiments.benchmark.peers.torch_eager import TorchGame, default_device
from jaxgan.config import Config


class CompiledGame(TorchGame):
    """The eager game with compiled losses."""

    def __init__(self, config: Config, images: np.ndarray, device: str) -> None:
        super().__init__(config, images, device)
        for name in ("disc_loss", "real_loss", "fake_loss", "gen_loss", "fooling_loss", "draw", "fakes"):
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False))

    def _disc_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        if not self.config.objective.has_penalty:
            return super()._disc_loss(real, fake)
        # What is compiled cannot be differentiated twice; a gradient that is taken inside of it can be once.
        parameters: dict[str, Tensor] = dict(self.disc.named_parameters())

        def judge(images: Tensor) -> tuple[Tensor, Tensor]:
            logits = functional_call(self.disc, parameters, (images,))
            return logits.sum(), logits

        gradients, logits = grad(judge, has_aux=True)(torch.cat([real, fake]))
        loss = self.judgement(logits)
        return loss + self.penalty(gradients), loss


def build(config: Config, images: np.ndarray) -> CompiledGame:
    """A compiled game."""
    return CompiledGame(config, images, default_device())
