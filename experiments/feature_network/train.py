"""Trains the feature network that `jaxgan` ships for MNIST.

    python experiments/feature_network/train.py [--manual-dir folder/with/the/four/gz/files]

Writes `jaxgan/metrics/mnist.npz` in this checkout and its record, for people, beside this script. It learns from
`train[5000:]`; its length was chosen on the first 5,000 training images, and the test images are looked at once.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from jaxgan import Config, load_dataset
from jaxgan.config import DataConfig
from jaxgan.data.dataset import fingerprint
from jaxgan.data.progress import progress
from jaxgan.metrics.classifier import training_steps
from jaxgan.metrics.network import EPOCHS, encode, train_network
from jaxgan.runs.directory import installed_versions, write_atomically

HERE = Path(__file__).parent
WEIGHTS = HERE.parents[1] / "jaxgan" / "metrics" / "mnist.npz"


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    data_dir: Path | None = None
    """Folder of prepared data sets."""
    manual_dir: Path | None = None
    """Folder with the four original files of MNIST."""


def main(wanted: Arguments) -> None:
    """Trains and writes the network."""
    config = Config(data=DataConfig(name="mnist", data_dir=wanted.data_dir, manual_dir=wanted.manual_dir))
    train, test = load_dataset(config, "train"), load_dataset(config, "test")
    steps = training_steps(len(train.images), EPOCHS)
    with progress("training the feature network", steps, every=1000) as advance:
        network = train_network("mnist", fingerprint(config.data), train, test, installed_versions(), advance)
    write_atomically(WEIGHTS, encode(network))
    (HERE / "mnist.json").write_text(json.dumps(asdict(network.record), indent=1) + "\n")
    print(f"{network.version}: {network.record.test_accuracy:.2%} of the test images, {WEIGHTS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
