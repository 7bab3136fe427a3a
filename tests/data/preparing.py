"""What the tests of data share: small files, and data sets loaded in processes of their own."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxgan.data import files

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")

# Loads a data set twice in a process that must not import TensorFlow, and prints what the tests look at.
LOAD = """
import sys, time
from pathlib import Path
import jax
from jaxgan.config import Config, DataConfig
from jaxgan.data.dataset import fingerprint, load_dataset
name, root, manual = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3] else None
config = Config(data=DataConfig(name=name, data_dir=root, manual_dir=manual))
jax.numpy.zeros(1).block_until_ready()
start = time.perf_counter()
train = load_dataset(config, "train")
seconds = time.perf_counter() - start
print("seconds", seconds)
print("shapes", train.images.shape, load_dataset(config, "test").images.shape)
print("fingerprint", fingerprint(config.data))
print("imported", *[module for module in ("tensorflow", "tensorflow_datasets") if module in sys.modules])
"""


def set_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    for variable in PROXIES:
        monkeypatch.setenv(variable, f"http://{address}")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)


def start_load(name: str, root: Path, manual: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOAD, name, str(root), str(manual or "")]
    frameworks = root.parent / "frameworks"  # An empty TensorFlow, which is seen if it is imported.
    frameworks.mkdir(exist_ok=True)
    (frameworks / "tensorflow.py").touch()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(frameworks), *sys.path])}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(child: subprocess.Popen[str]) -> SimpleNamespace:
    out, err = child.communicate(timeout=300)
    said = {word: rest for word, _, rest in (line.partition(" ") for line in out.splitlines())}
    return SimpleNamespace(code=child.returncode, err=err, **said)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0))


def registered(folder: Path, url: str) -> Callable[[str], dict[str, files.Source]]:
    """What stands in for `files.sources`: the files of a folder with their true sizes and checksums."""
    contents = {file: (folder / file).read_bytes() for file in files.FILES}
    infos = {
        file: SimpleNamespace(size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=file)
        for file, content in contents.items()
    }
    return lambda name: {file: files.Source(url + file, info) for file, info in infos.items()}
