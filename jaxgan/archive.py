"""Weights and their record in one .npz file that can be read from a stranger: checked, and without pickle."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

_RECORD = "record"
_SHA256 = "sha256"


def digest(tree: PyTree) -> str:
    """Hex SHA-256 over the names, types, shapes and bytes of a tree's arrays."""
    total = hashlib.sha256()
    for name, array in sorted(_by_name(tree).items()):
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def pack(tree: PyTree, record: Mapping[str, Any]) -> bytes:
    """An .npz file of a tree's arrays by name, and of a record (values of JSON) with the digest of the arrays."""
    buffer = io.BytesIO()
    text = np.array(json.dumps({**record, _SHA256: digest(tree)}, sort_keys=True))
    np.savez(buffer, allow_pickle=False, **{_RECORD: text}, **_by_name(tree))
    return buffer.getvalue()


def read_record(data: bytes) -> dict[str, Any]:
    """The record of what `pack` wrote, with `sha256`.

    Raises:
        ValueError: It is something else.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            record = json.loads(str(file[_RECORD]))
        return {**record, _SHA256: str(record[_SHA256])}
    except Exception as error:  # NumPy and zipfile raise whatever the bytes lead them to.
        raise ValueError(f"not an archive of weights ({type(error).__name__})") from error


def read_tree(data: bytes, template: PyTree) -> PyTree:
    """The arrays of what `pack` wrote, in the form of a template (of arrays, or of `ShapeDtypeStruct`s).

    Raises:
        ValueError: It is something else, damaged, or of another form.
    """
    expected = read_record(data)[_SHA256]
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            tree = jax.tree_util.tree_map_with_path(lambda path, leaf: _take(file, path, leaf), template)
    except Exception as error:
        raise ValueError(f"not these weights ({type(error).__name__})") from error
    if digest(tree) != expected:
        raise ValueError("damaged weights: their checksum differs")
    return tree


def _take(file: Any, path: tuple, leaf: Any) -> jax.Array:
    array = file[_name(path)]
    if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
        raise ValueError(f"{_name(path)} is {array.dtype}{array.shape}")
    return jnp.asarray(array)


def _by_name(tree: PyTree) -> dict[str, np.ndarray]:
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
