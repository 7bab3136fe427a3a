"""The decoded arrays beside a prepared data set, under checksums, so that a second start decodes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

SPLITS = ("train", "test")
_CHECKSUMS = "checksums.json"


class Arrays(NamedTuple):
    """One split of a data set on the host, in the order of its files."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]


def checksum(arrays: Arrays) -> str:
    """Hex SHA-256 over the bytes, shapes and types of a split's images and labels."""
    digest = hashlib.sha256()
    for name, array in arrays._asdict().items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write(folder: Path, splits: Mapping[str, Arrays]) -> None:
    """Writes the splits into `folder`, all or nothing; the caller holds the data set's lock."""
    incomplete = folder.with_name(folder.name + ".incomplete")
    shutil.rmtree(incomplete, ignore_errors=True)
    incomplete.mkdir()
    try:
        for split, arrays in splits.items():
            for name, array in arrays._asdict().items():
                np.save(incomplete / f"{split}_{name}.npy", array, allow_pickle=False)
        checksums = {split: checksum(arrays) for split, arrays in splits.items()}
        (incomplete / _CHECKSUMS).write_text(json.dumps(checksums, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        incomplete.rename(folder)
    finally:
        shutil.rmtree(incomplete, ignore_errors=True)


def read_checksums(folder: Path) -> dict[str, str] | None:
    """The recorded checksum of each split, or None where they are missing or damaged."""
    try:
        recorded = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(recorded, dict) and all(isinstance(recorded.get(split), str) for split in SPLITS)
    return recorded if whole else None


def read(folder: Path, split: str) -> Arrays | None:
    """The arrays of a split, or None where any byte is missing or differs from what was written."""
    recorded = read_checksums(folder)
    try:
        arrays = Arrays(*(_load(folder / f"{split}_{name}.npy") for name in Arrays._fields))
    except (OSError, ValueError, EOFError):
        return None
    return arrays if recorded and checksum(arrays) == recorded[split] else None


def _load(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.load(file, allow_pickle=False)
