"""TFDS builders that need no TensorFlow, and what they wrote decoded to arrays.

TFDS's own builders of these sets encode and decode with TensorFlow. These read the original files with NumPy, hand
images to TFDS as PIL images (which it encodes without TensorFlow), and write array_record files, which it reads
without TensorFlow too. Copies that TFDS prepared as tfrecord are not read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

from jaxgan.config import DataConfig, InputError
from jaxgan.data import digits
from jaxgan.data.cache import SPLITS, Arrays
from jaxgan.data.files import find_files, parse_idx, read_idx
from jaxgan.data.folders import VERSIONS, data_root, prepared_folder, writable
from jaxgan.data.progress import progress, quiet

__all__ = ["builder_of", "decode", "parse_idx", "prepare"]

Chunks = Iterable[tuple[UInt8[np.ndarray, "k h w"], UInt8[np.ndarray, " k"]]]
_CHUNK = 1000


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes 28x28 grey images with labels 0 to 9, in their own order."""

    def __init__(self, *, data_dir: Path, splits: Mapping[str, Chunks] | None = None) -> None:
        """A builder in `data_dir`; `splits` holds the images and labels to write, in chunks."""
        self._splits = splits or {}
        super().__init__(data_dir=str(data_dir))

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(digits.SIZE, digits.SIZE, 1), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=10)})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # The files were downloaded and verified before, within a time limit.
        return {split: self._generate_examples(chunks) for split, chunks in self._splits.items()}

    def _generate_examples(self, chunks: Chunks) -> Iterator[tuple[int, dict[str, Any]]]:
        index = 0
        for images, labels in chunks:
            for image, label in zip(images, labels, strict=True):
                yield index, {"image": Image.fromarray(image), "label": int(label)}
                index += 1


# TFDS names a builder after its class: jaxgan_mnist and so on, names that none of its own builders has.
class JaxganMnist(_Builder, skip_registration=True):
    """Handwritten digits (LeCun, Cortes and Burges 1998)."""

    VERSION = tfds.core.Version(VERSIONS["mnist"])


class JaxganFashionMnist(_Builder, skip_registration=True):
    """Articles of clothing (Xiao, Rasul and Vollgraf 2017)."""

    VERSION = tfds.core.Version(VERSIONS["fashion_mnist"])


class JaxganKmnist(_Builder, skip_registration=True):
    """Cursive Japanese characters (Clanuwat et al. 2018)."""

    VERSION = tfds.core.Version(VERSIONS["kmnist"])


class JaxganDigits(_Builder, skip_registration=True):
    """Digits of matplotlib's fonts under random affine maps and stroke widths, see `digits`."""

    VERSION = tfds.core.Version(VERSIONS["digits"])


_BUILDERS = {"mnist": JaxganMnist, "fashion_mnist": JaxganFashionMnist, "kmnist": JaxganKmnist, "digits": JaxganDigits}


def builder_of(name: str) -> type[_Builder]:
    """The builder of a data set: "mnist", "fashion_mnist", "kmnist" or "digits"."""
    return _BUILDERS[name]


def prepare(data: DataConfig, limit: float | None = None) -> dict[str, Arrays]:
    """Writes the records of a data set, all or nothing; the caller holds its lock.

    Args:
        data: Its name, other than "auto", and folders.
        limit: Seconds after which a download is given up, or None to wait while it goes on.

    Returns:
        What it wrote, by split: the arrays that `decode` would read.

    Raises:
        InputError: The files cannot be had or are not the originals, or the data folder cannot be written.
        OSError: The disk is full.
    """
    with writable(data_root(data)):
        splits, total = _rendered() if data.name == "digits" else _original(data, limit)
        for leftover in prepared_folder(data).parent.glob("*incomplete*"):
            shutil.rmtree(leftover, ignore_errors=True)
        tfds.disable_progress_bar()  # One bar is enough.
        written: dict[str, list[Arrays]] = {split: [] for split in splits}
        with progress(f"preparing {data.name}", total) as advance, quiet():
            kept = {split: _kept(chunks, advance, written[split]) for split, chunks in splits.items()}
            builder = builder_of(data.name)(data_dir=data_root(data), splits=kept)
            config = tfds.download.DownloadConfig(try_download_gcs=False)
            builder.download_and_prepare(download_config=config, file_format="array_record")
    return {split: Arrays(*map(np.concatenate, zip(*pieces, strict=True))) for split, pieces in written.items()}


def decode(data: DataConfig) -> dict[str, Arrays]:
    """The arrays of a prepared data set, by split, from its records.

    Raises:
        InputError: The records are damaged.
    """
    folder = prepared_folder(data)
    try:
        with quiet():
            builder: Any = builder_of(data.name)(data_dir=data_root(data))
            sources = {split: builder.as_data_source(split=split) for split in SPLITS}
        total = sum(len(source) for source in sources.values())
        with progress(f"reading {data.name}", total) as advance, quiet():
            return {split: _arrays(source, advance) for split, source in sources.items()}
    except MemoryError:
        raise
    except Exception as error:
        # Whatever TFDS, array_record, protobuf and Pillow raise on damaged files.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(f"the prepared data in {folder} is damaged ({reason}); delete that folder") from error


def _rendered() -> tuple[Mapping[str, Chunks], int]:
    splits = {split: digits.render(split, count) for split, count in digits.COUNTS.items()}
    return splits, sum(digits.COUNTS.values())


def _original(data: DataConfig, limit: float | None) -> tuple[Mapping[str, Chunks], int]:
    with quiet():
        files = find_files(data.name, data_root(data), data.manual_dir, limit)
    splits: dict[str, Chunks] = {}
    total = 0
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = (read_idx(files[f"{prefix}-{kind}-ubyte.gz"]) for kind in ("images-idx3", "labels-idx1"))
        if images.shape[1:] != (digits.SIZE, digits.SIZE) or labels.shape != images.shape[:1]:
            raise InputError(f"the {prefix} files of {data.name} hold images {images.shape}, labels {labels.shape}")
        splits[split] = [(images[i : i + _CHUNK], labels[i : i + _CHUNK]) for i in range(0, len(images), _CHUNK)]
        total += len(images)
    return splits, total


def _kept(chunks: Chunks, advance: Callable[[int], None], pieces: list[Arrays]) -> Chunks:
    for images, labels in chunks:
        yield images, labels
        pieces.append(Arrays(images[..., None], labels.astype(np.int32)))
        advance(len(images))


def _arrays(source: Any, advance: Callable[[int], None]) -> Arrays:
    images = np.empty((len(source), digits.SIZE, digits.SIZE, 1), np.uint8)
    labels = np.empty(len(source), np.int32)
    for start in range(0, len(source), _CHUNK):
        records = source.__getitems__(range(start, min(start + _CHUNK, len(source))))
        for index, record in enumerate(records, start):
            images[index], labels[index] = record["image"], record["label"]
        advance(len(records))
    return Arrays(images, labels)
