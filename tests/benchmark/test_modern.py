"""What losses of a few steps tell too faintly, each peer's `modern` in numbers: its players and its learning rates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.benchmark.settings import SYSTEMS
from jaxgan.presets import PRESETS

MODERN = PRESETS["modern"]
CONFIG = replace(
    MODERN,
    batch_size=4,
    average_decay=0.15,  # From step 1 on less than 2 / 11.
    decay_start=2,
    decay_steps=3,
    gen=replace(MODERN.gen, widths=(6, 6, 5)),
    disc=replace(MODERN.disc, widths=(6, 6, 5)),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), np.uint8)
# Large, so that pixels reach black and white.
LATENTS = np.random.default_rng(1).normal(size=(4, CONFIG.latent.size)).astype(np.float32) * 9
REAL = IMAGES[:4].reshape(4, -1) / np.float32(127.5) - 1
# Whole at steps 0 to 2, then along a cosine to 3 % at step 5.
SHARES = (1, 1, *(0.03 + 0.97 * (1 + math.cos(math.pi * done / 3)) / 2 for done in (0, 1, 2, 3, 3)))
RATES = [MODERN.gen.optimizer.learning_rate * share for share in SHARES]


def by_hand(kernels: list[np.ndarray], x: np.ndarray, slope: float) -> np.ndarray:
    """Layers without biases, as before the first step, ReLU for a slope of 0; the second of three adds its input."""
    for i, kernel in enumerate(kernels[:-1]):
        y = x @ kernel
        y = np.where(y > 0, y, slope * y)
        x = x + y if i == 1 else y
    return x @ kernels[-1]


def check_players(gen: list[np.ndarray], disc: list[np.ndarray], fake: Any, logits: Any) -> None:
    expected = np.clip(1.1 * np.tanh(by_hand(gen, LATENTS, 0.2)), -1, 1)
    assert {-1.0, 1.0} <= set(expected.ravel().tolist())
    np.testing.assert_allclose(fake, expected, atol=1e-5)
    np.testing.assert_allclose(np.ravel(logits), by_hand(disc, REAL + 1, 0.0)[:, 0], atol=1e-4)


def test_the_host_loop_has_our_players_and_rates() -> None:
    from experiments.benchmark.peers.jax_loop import JaxLoop, _adam

    peer = JaxLoop(CONFIG, IMAGES)
    gen, disc = ([np.asarray(layer["kernel"]) for layer in p.values()] for p in (peer.state.gen, peer.state.disc))
    fake, _ = peer._draw(peer.state.gen, {}, LATENTS, training=False)  # pyright: ignore[reportArgumentType]
    check_players(gen, disc, fake, peer._judge(peer.state.disc, REAL))  # pyright: ignore[reportArgumentType]
    # Under a gradient that never changes, Adam's step is the learning rate.
    import jax

    with jax.numpy_dtype_promotion("standard"):
        adam, one = _adam(CONFIG, CONFIG.gen), jax.numpy.ones(())
        state, steps = adam.init(one), []
        for _ in RATES:
            update, state = adam.update(one, state)
            steps.append(-float(update))  # pyright: ignore[reportArgumentType]
    assert steps == pytest.approx(RATES, rel=1e-4)


@pytest.mark.parametrize("kind", ["TorchGame", "GraphGame"])
def test_pytorch_has_our_players_and_rates_and_an_average_without_a_history(kind: str) -> None:
    torch = pytest.importorskip("torch")
    from experiments.benchmark.peers import torch_graph

    game = getattr(torch_graph, kind)(CONFIG, IMAGES, "cpu")
    gen, disc = (
        [layer.weight.detach().numpy().T for layer in player.modules() if isinstance(layer, torch.nn.Linear)]
        for player in (game.gen, game.disc)
    )
    check_players(gen, disc, game.gen(torch.tensor(LATENTS)).detach(), game.disc(torch.tensor(REAL)).detach())
    kernel, average = next(iter(game.gen.parameters())), game.average[0]
    expected, rates = kernel.detach().clone(), []
    for step in range(len(RATES)):
        rates.append(game.gen_adam.param_groups[0]["lr"])
        game.train(1, window=1)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * kernel.detach()
        assert not average.requires_grad
        np.testing.assert_allclose(average, expected, rtol=0, atol=1e-7)
    # The graph sets a step's rate as it begins, the scheduler as the step before ends.
    rates = [*rates[1:], game.gen_adam.param_groups[0]["lr"]] if kind == "GraphGame" else rates
    assert rates == pytest.approx(RATES, rel=1e-4)


def test_the_average_is_tensorflows() -> None:
    # Its peer has no other warm-up.
    assert {PRESETS[name].average_warmup for name in SYSTEMS} == {9}


def test_tensorflow_has_our_players_rates_and_average() -> None:
    pytest.importorskip("tensorflow")
    from experiments.benchmark.peers import tensorflow1

    peer = tensorflow1.Graph(CONFIG, IMAGES)
    read = peer.session.run
    with peer.graph.as_default():
        rate = tensorflow1._adam(CONFIG, CONFIG.gen, peer.steps)._lr
        fake, logits = peer._draw(LATENTS), peer._judge(REAL)
    check_players(read(peer.gen.kernels), read(peer.disc.kernels), read(fake), read(logits))
    expected, rates = read(peer.gen.kernels[0]), []
    for step in range(len(RATES)):
        rates.append(read(rate))
        peer.train(1, window=1)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * read(peer.gen.kernels[0])
        np.testing.assert_allclose(read(peer.average[0]), expected, rtol=0, atol=1e-7)
    assert rates == pytest.approx(RATES, rel=1e-4)
