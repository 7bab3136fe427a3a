from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from running import QUICKLY

from experiments.benchmark.peers import LOSSES, OURS, PEERS, EpochOrder
from experiments.benchmark.processes import PeerFailed, PeerMissing, Process, peer_process
from experiments.benchmark.stats import compare, disagreements
from jaxgan.config import Config
from jaxgan.presets import PRESETS

SEEDS, STEPS = 8, 60
KINDS = ("leaky-tanh", "deep-batchnorm", "modern")


def small(preset: str) -> Config:
    """A preset with small layers that learns fast, and whose learning rate falls, if at all, within its few steps."""
    config = PRESETS[preset]
    if config.decay_steps:
        config = replace(config, decay_start=STEPS // 6, decay_steps=STEPS // 3)
    gen, disc = (replace(player, widths=(24,) * (1 + player.residual)) for player in (config.gen, config.disc))
    return replace(config, batch_size=32, gen=gen, disc=disc)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 512 images, each of one bright block."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("images") / "images.npy"
    pixels = np.zeros((512, 28, 28, 1), np.uint8)
    for image, corner in zip(pixels, rng.integers(0, 14, (512, 2)), strict=True):
        image[corner[0] : corner[0] + 14, corner[1] : corner[1] + 14] = rng.integers(128, 256)
    np.save(path, pixels, allow_pickle=False)
    return path


def losses(process: Process) -> dict[str, list[float]]:
    means = []
    for seed in range(SEEDS):
        process.start(seed)
        means.append(process.train(STEPS, window=STEPS // 2)["losses"])
    return {name: [each[name] for each in means] for name in LOSSES}


@pytest.fixture(scope="module")
def ours(images: Path) -> dict[str, dict[str, list[float]]]:
    """Our losses of each kind of game, in the process that peers run in."""
    with peer_process(OURS, **QUICKLY) as process:
        found = {}
        for kind in KINDS:
            process.build(small(kind), images)
            found[kind] = losses(process)
        # Rates are traced, so that another one compiles nothing.
        process.build(twice_as_fast(small(KINDS[0])), images)
        return found | {"twice as fast": losses(process)}


def twice_as_fast(config: Config) -> Config:
    adam = replace(config.gen.optimizer, learning_rate=2 * config.gen.optimizer.learning_rate)
    return replace(config, gen=replace(config.gen, optimizer=adam), disc=replace(config.disc, optimizer=adam))


@pytest.mark.parametrize("name", [name for name in PEERS if name not in (OURS, "torch-graph")])
def test_a_peer_has_our_losses(name: str, images: Path, ours: dict[str, dict[str, list[float]]]) -> None:
    with peer_process(name, **QUICKLY) as process:
        comparisons = {}
        for kind in KINDS:
            if kind in (PEERS[name].systems or KINDS):
                try:
                    process.build(small(kind), images)
                except PeerMissing as reason:
                    pytest.skip(str(reason))
                comparisons[kind] = compare(ours[kind], losses(process))
        assert disagreements(comparisons) == []
        assert process.facts["threads"] >= 1
        assert all(process.facts["versions"].values())


def test_twice_the_learning_rate_is_told_apart(ours: dict[str, dict[str, list[float]]]) -> None:
    assert len(disagreements({"fast": compare(ours[KINDS[0]], ours["twice as fast"])})) == len(LOSSES)


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_the_step_that_a_cuda_graph_captures_has_our_losses(
    kind: str, images: Path, ours: dict[str, dict[str, list[float]]]
) -> None:
    from experiments.benchmark.peers.torch_graph import GraphGame

    game = GraphGame(small(kind), np.load(images, allow_pickle=False), "cpu")
    means = []
    for seed in range(SEEDS):
        game.start(seed)
        means.append(game.train(STEPS, window=STEPS // 2))
    theirs = {name: [each[name] for each in means] for name in LOSSES}
    assert disagreements({kind: compare(ours[kind], theirs)}) == []


def test_a_peer_that_cannot_run_here_says_why(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with peer_process("torch-graph") as process, pytest.raises(PeerMissing, match=r"not installed|needs a CUDA GPU"):
        process.build(small("leaky-tanh"), images)


def test_the_last_words_of_a_peer_that_fails_are_kept(tmp_path: Path) -> None:
    with peer_process(OURS) as process, pytest.raises(PeerFailed, match=r"(?s)jaxgan: .*nowhere\.npy"):
        process.build(small("leaky-tanh"), tmp_path / "nowhere.npy")


def test_peers_that_shuffle_on_the_host_see_every_image_of_an_epoch_but_the_rest_once() -> None:
    order = EpochOrder(replace(small("leaky-tanh"), batch_size=8), 50)
    epochs = [np.concatenate([order.next() for _ in range(6)]) for _ in range(2)]
    assert all(len(set(epoch.tolist())) == 48 for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    order.reset(0)
    assert (np.concatenate([order.next() for _ in range(6)]) == epochs[0]).all()
