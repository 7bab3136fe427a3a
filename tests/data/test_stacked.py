"""Stacked MNIST: which digits stand in which channel, and what its fingerprint depends on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxgan.config import Config, DataConfig
from jaxgan.data import cache, stacked
from jaxgan.data.dataset import fingerprint, load_dataset
from jaxgan.data.folders import prepared_folder
from jaxgan.data.stacked import COUNTS, stack


def digits(seed: int, count: int) -> cache.Arrays:
    """Images whose pixels all tell their place among the digits."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 28, 28, 1)).copy()
    return cache.Arrays(images, np.random.default_rng(seed).integers(0, 10, count).astype(np.int32))


def prepare(root: Path, seed: int) -> DataConfig:
    folder = prepared_folder(DataConfig(name="mnist", data_dir=root))
    folder.mkdir(parents=True)
    cache.write(folder / "arrays", {"train": digits(seed, 200), "test": digits(seed + 1, 100)})
    return DataConfig(name="stacked_mnist", data_dir=root, holdout=50)


def test_the_label_of_a_stack_names_the_digit_of_each_channel() -> None:
    single = digits(0, 200)
    stacked = stack(single, "test")
    assert stacked.images.shape == (COUNTS["test"], 28, 28, 3)
    places = stacked.images[:, 0, 0]
    assert (stacked.images == places[:, None, None]).all()
    hundreds, tens, ones = single.labels[places].T
    np.testing.assert_array_equal(stacked.labels, 100 * hundreds + 10 * tens + ones)


def test_channels_are_drawn_apart_and_every_class_is_there() -> None:
    stacked = stack(digits(0, 200), "train")
    assert len(np.unique(stacked.labels)) == 1000
    places = stacked.images[:, 0, 0].astype(float)
    correlations = np.corrcoef(places.T)
    # Sixty thousand independent pairs: a correlation of 0.02 is five standard deviations.
    assert np.abs(correlations - np.eye(3)).max() < 0.02


def test_the_splits_come_from_the_splits_of_mnist(tmp_path: Path) -> None:
    data = prepare(tmp_path, 0)
    config = Config(data=data)
    train, held_out, test = (load_dataset(config, split) for split in ("train", "validation", "test"))
    assert train.images.shape == (COUNTS["train"] - 50, 28, 28, 3)
    assert held_out.images.shape == (50, 28, 28, 3)
    assert int(test.images.max()) == 99
    assert int(train.images.max()) == 199


def test_the_fingerprint_follows_the_digits(tmp_path: Path) -> None:
    one, same, other = (prepare(tmp_path / name, seed) for name, seed in (("one", 0), ("same", 0), ("other", 7)))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert fingerprint(one) != fingerprint(DataConfig(name="mnist", data_dir=tmp_path / "one"))


@pytest.mark.parametrize(
    ("split", "first", "labels"),
    [("train", [[85, 63, 51], [26, 30, 4]], [865, 230]), ("test", [[47, 51, 75], [95, 3, 14]], [457, 901])],
)
def test_the_stacks_are_those_of_always(split: str, first: list[list[int]], labels: list[int]) -> None:
    # NumPy may change what its generators draw; runs on stacked digits could not be resumed then.
    stacked = stack(cache.Arrays(digits(0, 100).images, np.arange(100, dtype=np.int32) // 10), split)
    assert stacked.images[:2, 0, 0].tolist() == first
    assert stacked.labels[:2].tolist() == labels


def test_the_fingerprint_follows_which_digits_are_stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stacked.stacked_fingerprint("ab", {"train": 200, "test": 100})
    monkeypatch.setitem(stacked._SEEDS, "test", 2)
    assert stacked.stacked_fingerprint("ab", {"train": 200, "test": 100}) != before
