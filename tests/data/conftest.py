"""No network, a data folder of its own for each test, and data sets prepared once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from preparing import MNIST, finish, registered, set_proxy, start_load, write_idx
from running import make_once

from jaxgan.data import dataset, files


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_proxy(monkeypatch, "127.0.0.1:9")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))
    monkeypatch.setattr(dataset, "_resolved", {})


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The whole digits, and MNIST (by two processes at once) where its files are at hand, prepared at the same time."""

    def make(root: Path) -> dict[str, Any]:
        mnist = [start_load("mnist", root, MNIST) for _ in range(2)] if MNIST.is_dir() else []
        digits = start_load("digits", root)
        return {"root": str(root), "digits": vars(finish(digits)), "mnist": [vars(finish(child)) for child in mnist]}

    made = make_once(tmp_path_factory, "data sets", make)
    mnist = [SimpleNamespace(**said) for said in made["mnist"]]
    return SimpleNamespace(root=Path(made["root"]), digits=SimpleNamespace(**made["digits"]), mnist=mnist)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Four small files in a folder with a space in its name, registered in place of the originals."""
    folder = tmp_path / "my files"
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, count in (("train", 50), ("t10k", 20)):
        arrays[f"{prefix}-images-idx3-ubyte.gz"] = rng.integers(0, 256, (count, 28, 28))
        arrays[f"{prefix}-labels-idx1-ubyte.gz"] = rng.integers(0, 10, count)
    for file, array in arrays.items():
        write_idx(folder / file, array)
    monkeypatch.setattr(files, "sources", registered(folder, "http://images.invalid/"))
    return SimpleNamespace(folder=folder, arrays=arrays)
