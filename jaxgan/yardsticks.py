"""What images are scored with: feature network, real images, reference rows. Shared by the doors, it imports all rooms.

The feature network of a data set other than MNIST and the scores of the reference rows are made once and kept beside
the prepared data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxgan.config import Config, DataConfig, InputError

if TYPE_CHECKING:
    from jaxtyping import Array, Int32, UInt8

    from jaxgan.gan.state import TrainState
    from jaxgan.metrics.network import FeatureNetwork
    from jaxgan.metrics.scores import Reference
    from jaxgan.runs.directory import RunRecord
    from jaxgan.runs.scores import Protocol, Row, Scorer

Split = Literal["test", "validation", "train"]

HELD_OUT = 5000
"""First training images that are the validation images of every evaluation, whatever the run held out."""

REFERENCE_DRAWS = 3
"""Draws of each reference row that is drawn at random."""

# Folded into a seed's key: one constant per purpose, then the draw.
GENERATED, REFERENCE, TWO_SAMPLE = 0, 1, 2


class Yardstick(NamedTuple):
    """What images are scored with."""

    network: FeatureNetwork
    reference: Reference
    labels: Int32[Array, " r"]
    """What the images of the reference show."""
    validation: UInt8[Array, "v h w c"]
    training: UInt8[Array, "t h w c"]
    """Real images to draw reference rows from: neither those that it is scored against nor the validation images."""
    trained_on: UInt8[Array, "s h w c"]
    """All images that the run was trained on, and may have memorised."""


def prepare_yardstick(record: RunRecord, against: Split) -> Yardstick:
    """The feature network of a run's data set, and the real images measured with it.

    Raises:
        InputError: The data set cannot be loaded, is not the one that the run was trained on, or is too small.
    """
    from jaxgan.data.dataset import fingerprint, load_dataset
    from jaxgan.metrics.scores import measure_reference
    from jaxgan.runs.terminal import Terminal

    data = record.config.data
    if fingerprint(data) != record.dataset.fingerprint:
        raise InputError(
            f"the data set {data.name} is not the one that the run was trained on: its fingerprint differs"
        )
    whole, labels = load_dataset(Config(data=replace(data, holdout=0), batch_size=1), "train")
    held_out = _held_out(len(whole))
    network = feature_network(data)
    validation, training, trained_on = whole[:held_out], whole[held_out:], whole[data.holdout :]
    if against == "validation" and data.holdout < held_out:
        Terminal().warn(f"the run was trained on {held_out - data.holdout:,} of the {held_out:,} validation images")
    if against == "test":
        real, labels = load_dataset(Config(data=data), "test")
    elif against == "validation":
        real, labels = validation, labels[:held_out]
    else:
        taken = min(10_000, len(training) // 2)
        real, training = training[:taken], training[taken:]
        labels = labels[held_out : held_out + taken]
    try:
        return Yardstick(network, measure_reference(network, real), labels, validation, training, trained_on)
    except ValueError as error:
        raise InputError(f"the data set {data.name}: {error}") from error


def _held_out(training_images: int) -> int:
    return min(HELD_OUT, training_images // 4)


def feature_network(data: DataConfig) -> FeatureNetwork:
    """The feature network of a data set: the shipped one of MNIST, else one that is trained once and kept beside it."""
    import jax

    from jaxgan.data.dataset import STACKED, fingerprint, load_dataset
    from jaxgan.data.folders import prepared_folder
    from jaxgan.data.progress import progress
    from jaxgan.metrics import network as networks
    from jaxgan.metrics.classifier import training_steps
    from jaxgan.runs.directory import installed_versions

    if data.name == STACKED:
        return feature_network(replace(data, name="mnist"))
    name = fingerprint(data)
    if networks.shipped_network().record.fingerprint == name:
        return networks.shipped_network()
    path = prepared_folder(data) / f"features-{name[:16]}.npz"
    try:
        found = networks.decode(path.read_bytes())
        if found.record.fingerprint == name:
            return found
    except (OSError, ValueError):
        pass  # There is none yet, or a damaged one.
    config = Config(data=replace(data, holdout=0), batch_size=1)
    whole, test = load_dataset(config, "train"), load_dataset(config, "test")
    train = jax.tree.map(lambda array: array[_held_out(len(whole.images)) :], whole)
    steps = training_steps(len(train.images), networks.EPOCHS)
    with progress(f"training the feature network of {data.name}", steps, every=2000) as advance:
        made = networks.train_network(data.name, name, train, test, installed_versions(), advance)
    _keep(path, networks.encode(made))
    return made


def _keep(path: Path, content: bytes) -> None:
    """Writes what was measured beside the data; where that cannot be, it is measured again another time."""
    from jaxgan.runs.directory import write_atomically
    from jaxgan.runs.terminal import Terminal

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        Terminal().warn(f"{path} cannot be kept for the next time ({error.strerror})")


def validation_scorer(config: Config) -> Scorer[Callable[[TrainState], dict[str, float]]]:
    """What scores states of a run against its validation images, always of the same latents."""
    import jax
    import numpy as np

    from jaxgan.data.dataset import load_dataset
    from jaxgan.gan.sampling import generate
    from jaxgan.gan.state import EVALUATE
    from jaxgan.metrics.scores import frechet_and_recall, measure_reference, to_levels
    from jaxgan.runs.scores import Scorer

    network = feature_network(config.data)
    reference = measure_reference(network, load_dataset(config, "validation").images)

    def scores(state: TrainState) -> dict[str, float]:
        images = generate(config, state, jax.random.fold_in(state.key, EVALUATE), len(reference.images))
        # By way of the host, since images of a state that was read are bound to its device: all would compile anew.
        return frechet_and_recall(network, to_levels(np.asarray(images)), reference)

    return Scorer(network.version, scores)


def member_scorer(data: DataConfig) -> Scorer[Callable[[Config, TrainState], dict[str, float]]]:
    """What scores members of a population against the validation images of every evaluation.

    Each has latents of its own, those of `train --eval-every`; where the validation images are those that a run held
    out, its scores are the same.
    """
    import jax
    import numpy as np

    from jaxgan.data.dataset import load_dataset
    from jaxgan.gan.sampling import generate
    from jaxgan.gan.state import EVALUATE
    from jaxgan.metrics.scores import feature_scores, measure_reference, to_levels
    from jaxgan.runs.scores import Scorer

    network = feature_network(data)
    whole = load_dataset(Config(data=replace(data, holdout=0), batch_size=1), "train").images
    try:
        reference = measure_reference(network, whole[: _held_out(len(whole))])
    except ValueError as error:
        raise InputError(f"the data set {data.name}: {error}") from error

    def scores(config: Config, state: TrainState) -> dict[str, float]:
        images = generate(config, state, jax.random.fold_in(state.key, EVALUATE), len(reference.images))
        # By way of the host, as in `validation_scorer`.
        return feature_scores(network, to_levels(np.asarray(images)), reference)

    return Scorer(network.version, scores)


def image_scores(
    yardstick: Yardstick, images: UInt8[Array, "n h w c"], seen: UInt8[Array, "s h w c"]
) -> dict[str, float]:
    """All scores of a set of images, made of those `seen`, but the two-sample test, which takes longer."""
    from jaxgan.metrics.scores import feature_scores, pixel_scores

    scores = feature_scores(yardstick.network, images, yardstick.reference)
    return scores | pixel_scores(images, yardstick.reference, yardstick.validation, seen)


def two_sample(yardstick: Yardstick, images: UInt8[Array, "n h w c"], draw: int) -> dict[str, float]:
    """`two_sample`: how well a network learns to tell a draw of images from the real ones."""
    import jax

    from jaxgan.metrics.scores import two_sample_scores

    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), TWO_SAMPLE), draw)
    return two_sample_scores(key, images, yardstick.reference)


def reference_rows(
    yardstick: Yardstick, protocol: Protocol, data: DataConfig, *, seed: int, with_two_sample: bool
) -> dict[str, Row]:
    """The scores of real images, centroids, one image repeated, and noise; measured once and kept beside the data."""
    from jaxgan.data.folders import prepared_folder

    protocol = replace(protocol, draws=REFERENCE_DRAWS, latent_scale=1.0, label_scale=1.0)
    of = f"{protocol.network}-{protocol.against}-{protocol.num}-{seed}"

    def measure(kind: str, score: Callable[[Any, int], dict[str, float]]) -> dict[str, Row]:
        path = prepared_folder(data) / f"{kind}-{of}.json"
        return _kept(path, protocol, lambda: _score_references(yardstick, protocol.num, seed, score), yardstick)

    rows = measure("references", lambda images, _: image_scores(yardstick, images, yardstick.training))
    if with_two_sample:
        told = measure("two-sample", lambda images, draw: two_sample(yardstick, images, draw))
        rows = {name: {**row, **told[name]} for name, row in rows.items()}
    return rows


def _kept(
    path: Path, protocol: Protocol, measure: Callable[[], dict[str, Row]], yardstick: Yardstick
) -> dict[str, Row]:
    """What an earlier evaluation measured by the same protocol, else what `measure` finds now."""
    from jaxgan.runs.directory import installed_versions
    from jaxgan.runs.scores import Scores, encode_scores, read_scores

    try:
        found = read_scores(path)
        if found.protocol == protocol:
            return found.references
    except InputError:
        pass  # There are none yet, or damaged ones.
    rows = measure()
    kept = Scores(protocol, yardstick.network.record.test_accuracy, installed_versions(), rows)
    _keep(path, encode_scores(kept))
    return rows


def _score_references(
    yardstick: Yardstick, num: int, seed: int, score: Callable[[Any, int], dict[str, float]]
) -> dict[str, Row]:
    import jax

    from jaxgan.data.progress import progress
    from jaxgan.metrics.references import DRAWN_ONCE, REFERENCES
    from jaxgan.metrics.scores import summarise_draws

    n = min(num, len(yardstick.training))
    key = jax.random.fold_in(jax.random.key(seed), REFERENCE)
    rows: dict[str, Row] = {}
    with progress("scoring the reference rows, once", len(REFERENCES), every=1) as advance:
        for i, (name, make) in enumerate(REFERENCES.items()):
            keys = [jax.random.fold_in(jax.random.fold_in(key, i), draw) for draw in range(REFERENCE_DRAWS)]
            if name in DRAWN_ONCE:
                keys = keys[:1]
            sets = (make(each, yardstick.training, n) for each in keys)
            rows[name] = summarise_draws([score(images, draw) for draw, images in enumerate(sets)])
            advance(1)
    return rows
