"""Data sets as arrays: which one is meant, prepared where it is not yet, loaded from its cache where it is."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp

from jaxgan.config import Config, DataConfig, DatasetName, InputError
from jaxgan.data import cache
from jaxgan.data.folders import data_root, is_prepared, prepared_folder, writable, writing
from jaxgan.data.stacked import stack, stacked_fingerprint
from jaxgan.gan.batches import Dataset, check_batch_size

STACKED = "stacked_mnist"
AUTO_SECONDS = 12.0  # How long `auto` tries to download MNIST.
_resolved: dict[tuple[Path, Path | None], DatasetName] = {}


def load_dataset(config: Config, split: str) -> Dataset:
    """One split of the run's data set, prepared first where it is not yet.

    Args:
        config: Its `data` and batch size are read.
        split: "train", "validation" (the first `data.holdout` training images, which "train" leaves out) or "test".

    Returns:
        Images uint8 [n, 28, 28, 1] and labels int32 [n] in 0 to 9, in the order of the data set's files; of
        `stacked_mnist` [n, 28, 28, 3] and 0 to 999.

    Raises:
        InputError: There is no such split, or it is empty or too small for a batch; or the data set's files are
            missing, damaged or cannot be downloaded or written.
        OSError: The disk is full.
    """
    arrays = load_arrays(config, split)
    return Dataset(images=jnp.asarray(arrays.images), labels=jnp.asarray(arrays.labels))


def load_arrays(config: Config, split: str) -> cache.Arrays:
    """What `load_dataset` loads, in the host's memory."""
    if split not in ("train", "validation", "test"):
        raise InputError(f"there is no split {split!r}; choose train, validation or test")
    holdout = config.data.holdout
    if split == "validation" and holdout == 0:
        raise InputError("there is no validation split with --data.holdout 0")
    data = resolve(config.data, _warn)
    part = "test" if split == "test" else "train"
    arrays = stack(_load(replace(data, name="mnist"), part), part) if data.name == STACKED else _load(data, part)
    if split != "test":
        if holdout >= (total := len(arrays.labels)):
            raise InputError(f"--data.holdout {holdout} leaves nothing of {data.name}'s {total} training images")
        chosen = slice(holdout) if split == "validation" else slice(holdout, None)
        arrays = cache.Arrays(arrays.images[chosen], arrays.labels[chosen])
    if split == "train":
        check_batch_size(config, len(arrays.labels))
    return arrays


def resolve(data: DataConfig, warn: Callable[[str], None]) -> DataConfig:
    """The same data config with the name `auto` replaced by what it stands for here.

    It is `mnist` where that is prepared, where `manual_dir` is given, or where it can be downloaded within 12 seconds,
    and then it is prepared; otherwise `digits`. The answer for given folders stays the same within a process.

    Args:
        data: Which data set, and its folders.
        warn: Called with one line where MNIST could not be had.

    Raises:
        InputError: The files in `manual_dir` are not MNIST's, or the data folder cannot be written.
        OSError: The disk is full.
    """
    if data.name != "auto":
        return data
    folders = (data_root(data), data.manual_dir)
    if folders not in _resolved:
        _resolved[folders] = _choose(replace(data, name="mnist"), warn)
    return replace(data, name=_resolved[folders])


def fingerprint(data: DataConfig) -> str:
    """Hex SHA-256 of a data set: of the checksums of its training and test split, which `load_dataset` enforces.

    Raises:
        InputError: As `load_dataset` does, where the data set is not prepared yet.
    """
    data = resolve(data, _warn)
    if data.name == STACKED:
        digits = replace(data, name="mnist")
        return stacked_fingerprint(
            fingerprint(digits), {part: len(_load(digits, part).labels) for part in cache.SPLITS}
        )
    folder = prepared_folder(data) / "arrays"
    checksums = cache.read_checksums(folder)
    if checksums is None:
        checksums = {split: cache.checksum(arrays) for split, arrays in _prepare(data, None).items()}
    lines = "".join(f"{split} {checksums[split]}\n" for split in cache.SPLITS)
    return hashlib.sha256(lines.encode()).hexdigest()


def _choose(mnist: DataConfig, warn: Callable[[str], None]) -> DatasetName:
    if mnist.manual_dir is not None or is_prepared(mnist):
        return "mnist"
    from jaxgan.data.files import UnreachableError

    try:
        _prepare(mnist, AUTO_SECONDS)
    except UnreachableError as error:
        warn(
            f"MNIST could not be downloaded ({error.reason}), so the embedded digits are used; "
            "--data.manual-dir takes MNIST's files from a folder"
        )
        return "digits"
    return "mnist"


def _load(data: DataConfig, split: str) -> cache.Arrays:
    arrays = cache.read(prepared_folder(data) / "arrays", split)
    return _prepare(data, None)[split] if arrays is None else arrays


def _prepare(data: DataConfig, limit: float | None) -> dict[str, cache.Arrays]:
    """The arrays of both splits, after preparing and caching what is missing or damaged."""
    folder = prepared_folder(data) / "arrays"
    with writing(data):
        # Another process may have done it all while this one waited for the lock.
        cached = {split: cache.read(folder, split) for split in cache.SPLITS}
        whole = {split: arrays for split, arrays in cached.items() if arrays is not None}
        if len(whole) == len(cached):
            return whole
        from jaxgan.data import builders  # Imports TFDS, which a second start does without.

        splits = builders.decode(data) if is_prepared(data) else builders.prepare(data, limit)
        with writable(data_root(data)):
            cache.write(folder, splits)
        return splits


def _warn(message: str) -> None:
    print(f"jaxgan: warning: {message}", file=sys.stderr)
