"""PyTorch as its users run it by default: eager modules, fused Adam, the data set as one tensor on the device.

D judges real and fake images in one pass, and its parameters ask for no gradient while G learns. Where both players
share latents, G draws once for both.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import relu, softplus

from experiments.benchmark.peers import LOSSES
from jaxgan.config import Config, DiscriminatorConfig, GeneratorConfig

FINAL_RATE = 0.03


class Residual(nn.Sequential):
    """Layers that add to their output their input."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (its name in PyTorch)
        """[batch, units] -> [batch, units]."""
        return input + super().forward(input)


class ClippedTanh(nn.Module):
    """A tanh that reaches -1 and 1, with slopes there, too."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        y = 1.1 * torch.tanh(x)
        return y + (y.clamp(-1.0, 1.0) - y).detach()


class Less(nn.Module):
    """Takes a constant from its input."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x - self.constant


OUTPUTS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "clipped_tanh": ClippedTanh}


class TorchGame:
    """Two players, their optimisers, and a step; what `torch_compile` and `torch_graph` build on."""

    def __init__(self, config: Config, images: np.ndarray, device: str, *, capturable: bool = False) -> None:
        self.config, self.device, self.threads = config, device, torch.get_num_threads()
        if device == "cuda":
            # TensorFloat-32, as JAX and TensorFlow do it by default.
            torch.set_float32_matmul_precision("high")
        self.images = torch.from_numpy(images.reshape(len(images), -1)).to(device)
        pixels = self.images.shape[1]
        output = OUTPUTS[config.gen.output]()
        self.gen = nn.Sequential(*_layers(config.gen, config.latent.size, pixels), output).to(device)
        # Nothing is added to the networks of systems that have no use for it.
        less = [Less(config.zero_pixel)] if config.zero_pixel else []
        self.disc = nn.Sequential(*less, *_layers(config.disc, pixels, 1)).to(device)
        # D's fakes come from G in inference mode, which is another G where there is batch norm.
        self.draws_once = config.latent.shared and not config.gen.batch_norm
        self.average = [p.detach().clone() for p in self.gen.parameters()] if config.average_decay else []
        self.gen_adam = _adam(self.gen, config.gen, device, capturable=capturable)
        self.disc_adam = _adam(self.disc, config.disc, device, capturable=capturable)
        self.labels = torch.full((config.real_batch_size, 1), config.objective.real_label, device=device)
        self.disc_loss: Callable[..., tuple[Tensor, Tensor]] = self._disc_loss
        self.real_loss: Callable[..., Tensor] = lambda real: cross_entropy(self.disc(real), self.labels)
        self.fake_loss: Callable[..., Tensor] = lambda fake: softplus(self.disc(fake)).mean()
        self.gen_loss: Callable[..., Tensor] = self._gen_loss
        self.fooling_loss: Callable[..., Tensor] = self._fooling_loss
        self.draw: Callable[[Tensor], Tensor] = self.gen
        self.fakes: Callable[[Tensor], Tensor] = self._fakes
        self.start(0)

    def start(self, seed: int) -> None:
        """Fresh parameters in the same tensors, so that what was compiled or captured stays."""
        torch.manual_seed(seed)
        for player, config in ((self.gen, self.config.gen), (self.disc, self.config.disc)):
            _initialize(player, config)
        with torch.no_grad():
            for adam in (self.gen_adam, self.disc_adam):
                for state in adam.state.values():
                    for tensor in state.values():
                        tensor.zero_()
            for average, parameter in zip(self.average, self.gen.parameters(), strict=False):
                average.copy_(parameter)
        rates = [torch.optim.lr_scheduler.LambdaLR(adam, self._decay) for adam in (self.gen_adam, self.disc_adam)]
        self.rates = rates if self.config.decay_steps else []
        self.batches, self.made = self._batches(), 0

    def train(self, steps: int, window: int) -> dict[str, float]:
        """The loop."""
        losses = []
        for i in range(steps):
            loss = self.step(next(self.batches))
            if i >= steps - window:
                losses.append(torch.stack(loss))
        means = torch.stack(losses).mean(0).tolist()  # Waits for the device.
        return dict(zip(LOSSES, means, strict=True))

    def step(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """One step on images uint8 [batch, pixels]; D's and G's loss."""
        real, latents = self.scale(images), self.latents(self.config.batch_size)
        if self.draws_once:
            fake = self.draw(latents)
            disc_loss = self._update_disc(real, fake.detach())
            gen_loss = self._update_gen(lambda: self.fooling_loss(fake))
        else:
            own = latents if self.config.latent.shared else self.latents(self.config.real_batch_size)
            disc_loss = self._update_disc(real, self.fakes(own))
            gen_loss = self._update_gen(lambda: self.gen_loss(latents))
        self.end_step()
        return disc_loss, gen_loss

    @torch.no_grad()
    def end_step(self) -> None:
        """Moves the average, and sets the learning rates of the next step."""
        if self.average:
            decay = min(self.config.average_decay, (1.0 + self.made) / (1.0 + self.config.average_warmup + self.made))
            torch._foreach_lerp_(self.average, list(self.gen.parameters()), 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
        self.made += 1
        for rate in self.rates:
            rate.step()

    def _update_disc(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.config.objective.updates == "halves":
            losses = [self._descend(self.real_loss(real)), self._descend(self.fake_loss(fake))]
            return (losses[0] + losses[1]) / 2.0
        total, shown = self.disc_loss(real, fake)
        self._descend(total)
        return shown.detach()

    def _update_gen(self, loss_now: Callable[[], Tensor]) -> Tensor:
        self.disc.requires_grad_(False)
        loss = loss_now()
        self.gen_adam.zero_grad()
        loss.backward()
        self.gen_adam.step()
        self.disc.requires_grad_(True)
        return loss.detach()

    def _descend(self, loss: Tensor) -> Tensor:
        self.disc_adam.zero_grad()
        loss.backward()
        self.disc_adam.step()
        return loss.detach()

    def _disc_loss(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What D descends, and its loss without penalties."""
        images = torch.cat([real, fake])
        if self.config.objective.has_penalty:
            images.requires_grad_(True)
        logits = self.disc(images)
        loss = self.judgement(logits)
        if not self.config.objective.has_penalty:
            return loss, loss
        (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return loss + self.penalty(gradients), loss

    def judgement(self, logits: Tensor) -> Tensor:
        """D's loss from its logits on real and, after them, on fake images."""
        real, fake = logits.chunk(2)
        if self.config.objective.name == "hinge":
            return relu(1.0 - real).mean() + relu(1.0 + fake).mean()
        return cross_entropy(real, self.labels) + softplus(fake).mean()

    def penalty(self, gradients: Tensor) -> Tensor:
        """R1 and R2, weighted, from D's gradients at real and at fake images."""
        r1, r2 = (half.square().sum(1).mean() / 2.0 for half in gradients.chunk(2))
        return self.config.objective.r1 * r1 + self.config.objective.r2 * r2

    def _gen_loss(self, latents: Tensor) -> Tensor:
        return self._fooling_loss(self.gen(latents))

    def _fooling_loss(self, fake: Tensor) -> Tensor:
        logits = self.disc(fake)
        return -logits.mean() if self.config.objective.name == "hinge" else softplus(-logits).mean()

    @torch.no_grad()
    def _fakes(self, latents: Tensor) -> Tensor:
        if not self.config.gen.batch_norm:
            return self.gen(latents)
        self.gen.eval()
        fake = self.gen(latents)
        self.gen.train()
        return fake

    def scale(self, images: Tensor) -> Tensor:
        """Bytes to the range of G's output."""
        return images.float() / 127.5 - 1.0 if self.config.gen.output != "sigmoid" else images.float() / 255.0

    def latents(self, n: int) -> Tensor:
        """N latents from the prior."""
        shape = (n, self.config.latent.size)
        if self.config.latent.prior == "normal":
            return torch.randn(shape, device=self.device)
        return torch.rand(shape, device=self.device) * 2.0 - 1.0

    def _batches(self) -> Iterator[Tensor]:
        n, batch = len(self.images), self.config.real_batch_size
        while True:
            if self.config.data.order == "replacement":
                yield self.images[torch.randint(n, (batch,), device=self.device)]
                continue
            order = torch.randperm(n, device=self.device)
            for indices in order[: n - n % batch].split(batch):
                yield self.images[indices]

    def _decay(self, step: int) -> float:
        if not self.config.decay_steps:
            return 1.0
        done = min(max(step - self.config.decay_start, 0) / self.config.decay_steps, 1.0)
        return FINAL_RATE + (1.0 - FINAL_RATE) * (1.0 + math.cos(math.pi * done)) / 2.0


def _layers(config: GeneratorConfig | DiscriminatorConfig, inputs: int, outputs: int) -> Iterator[nn.Module]:
    for i, width in enumerate(config.widths):
        activation = nn.ReLU() if config.activation == "relu" else nn.LeakyReLU(config.negative_slope)
        layer = [nn.Linear(inputs, width), activation]
        if config.batch_norm:
            layer.append(nn.BatchNorm1d(width, eps=1e-3, momentum=0.2))
        if config.residual and i > 0 and inputs == width:
            layer = [Residual(*layer)]
        yield from layer
        inputs = width
    yield nn.Linear(inputs, outputs)


def _initialize(player: nn.Module, config: GeneratorConfig | DiscriminatorConfig) -> None:
    for layer in player.modules():
        if isinstance(layer, nn.Linear):
            if config.initializer == "he_normal":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d):
            layer.reset_parameters()


def _adam(
    player: nn.Module, config: GeneratorConfig | DiscriminatorConfig, device: str, *, capturable: bool
) -> torch.optim.Adam:
    adam = config.optimizer
    # A captured graph reads its learning rate from the device.
    rate = torch.tensor(adam.learning_rate, device=device) if capturable else adam.learning_rate
    betas = (adam.b1, adam.b2)
    return torch.optim.Adam(player.parameters(), rate, betas, adam.epsilon, fused=True, capturable=capturable)


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def build(config: Config, images: np.ndarray) -> TorchGame:
    """An eager game."""
    return TorchGame(config, images, default_device())
