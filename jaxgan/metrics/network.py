"""The feature network of a data set: trained on its labels, named by its weights, kept in one checked file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxgan import archive
from jaxgan.gan.batches import Dataset
from jaxgan.metrics.classifier import classify, init_classifier, train_classifier

SEED = 0
EPOCHS = 20
SHIFT = 2
CLASSES = 10


@dataclass(frozen=True)
class NetworkRecord:
    """How a feature network came about."""

    dataset: str
    fingerprint: str
    """That of the data set it was trained on."""
    image_shape: tuple[int, int, int]
    classes: int
    seed: int
    epochs: int
    shift: int
    training_images: int
    test_accuracy: float
    """The share of the test images that it classifies right."""
    versions: dict[str, str]
    sha256: str
    """SHA-256 over its weights."""


class FeatureNetwork(NamedTuple):
    """A trained classifier whose last hidden layer makes the features of the scores."""

    params: PyTree
    record: NetworkRecord

    @property
    def version(self) -> str:
        """Names the weights; scores of different versions cannot be compared."""
        return f"{self.record.dataset}-{self.record.sha256[:8]}"


def train_network(
    dataset: str,
    fingerprint: str,
    train: Dataset,
    test: Dataset,
    versions: Mapping[str, str],
    advance: Callable[[int], None] = lambda _: None,
) -> FeatureNetwork:
    """Trains the feature network of a data set: always with the same seed, length and shifts.

    Args:
        dataset: Its name.
        fingerprint: Its fingerprint.
        train: What it learns from.
        test: What its accuracy is measured on; nothing is chosen by it.
        versions: Versions of the libraries, for the record.
        advance: Called now and then with the number of steps made since.
    """
    params = train_classifier(
        jax.random.key(SEED),
        train.images,
        train.labels,
        classes=CLASSES,
        epochs=EPOCHS,
        shift=SHIFT,
        advance=advance,
    )
    right = classify(params, test.images)[1].argmax(axis=1).astype(jnp.int32) == test.labels
    height, width, channels = train.images.shape[1:]
    record = NetworkRecord(
        dataset=dataset,
        fingerprint=fingerprint,
        image_shape=(height, width, channels),
        classes=CLASSES,
        seed=SEED,
        epochs=EPOCHS,
        shift=SHIFT,
        training_images=len(train.images),
        test_accuracy=round(float(right.mean(dtype=jnp.float32)), 6),
        versions=dict(versions),
        sha256=archive.digest(params),
    )
    return FeatureNetwork(params, record)


def encode(network: FeatureNetwork) -> bytes:
    """An .npz file of the weights by name, and of the record as JSON."""
    return archive.pack(network.params, asdict(network.record))


def decode(data: bytes) -> FeatureNetwork:
    """Reads what `encode` wrote.

    Raises:
        ValueError: It is something else, or damaged.
    """
    try:
        fields = archive.read_record(data)
        fields["image_shape"] = tuple(fields["image_shape"])
        record = NetworkRecord(**fields)
        template = jax.eval_shape(lambda: init_classifier(jax.random.key(0), record.image_shape, record.classes))
        return FeatureNetwork(archive.read_tree(data, template), record)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"not a feature network: {error}") from error


@cache
def shipped_network() -> FeatureNetwork:
    """The feature network of MNIST, which comes with the package."""
    return decode(resources.files("jaxgan.metrics").joinpath("mnist.npz").read_bytes())
