"""The four original gz files of MNIST and of the sets that took its place: found, downloaded, verified, parsed."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from jaxgan.config import InputError, expanded
from jaxgan.data.progress import progress

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
STALL_SECONDS = 40.0  # A download that brings nothing for so long has failed.
_POLL_SECONDS = 0.1


class UnreachableError(InputError):
    """The files of a data set cannot be downloaded, for a `reason` of a few words."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Source(NamedTuple):
    """Where a file comes from, and the size and checksum that TFDS registers for it."""

    url: str
    info: Any


def sources(name: str) -> dict[str, Source]:
    """The four files of a data set ("mnist", "fashion_mnist" or "kmnist"), by name, as TFDS registers them."""
    classes = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}
    builder = getattr(tfds.image_classification, classes[name])
    return {file: Source(builder.URL + file, builder.url_infos[builder.URL + file]) for file in FILES}


def find_files(name: str, root: Path, manual_dir: Path | None, limit: float | None) -> dict[str, Path]:
    """The four verified files of a data set, by name: the user's own, or else downloaded below `root`.

    Args:
        name: "mnist", "fashion_mnist" or "kmnist".
        root: Folder of prepared data sets; downloads are kept in its folder `downloads`.
        manual_dir: Folder that holds the files; it is only read. None to download.
        limit: Seconds after which a download is given up, or None to wait while it goes on.

    Raises:
        UnreachableError: The files could not be downloaded.
        InputError: A file is missing in `manual_dir`, or is not the original.
    """
    wanted = sources(name)
    if manual_dir is None:
        files = download(name, wanted, root / "downloads", limit)
    else:
        folder = expanded(manual_dir).absolute()
        files = {file: folder / file for file in FILES}
        try:
            missing = [file for file, path in files.items() if not path.is_file()]
        except OSError as error:
            raise InputError(f"--data.manual-dir {folder} cannot be read ({error.strerror})") from error
        if missing:
            raise InputError(
                f"--data.manual-dir {folder} has no {', '.join(missing)}; "
                f"{name} needs its {len(FILES)} original files there, as downloaded"
            )
    for file, path in files.items():
        verify(name, path, wanted[file])
    return files


def verify(name: str, path: Path, source: Source) -> None:
    """Raises InputError unless the file at `path` is, byte for byte, the one that TFDS registers."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    if len(content) != source.info.size:
        raise InputError(
            f"{path} is not the original {name} file: it has {len(content):,} bytes, "
            f"not {int(source.info.size):,}; get it again from {source.url}"
        )
    if hashlib.sha256(content).hexdigest() != source.info.checksum:
        raise InputError(
            f"{path} is not the original {name} file: its SHA-256 is not {source.info.checksum}; "
            f"get it again from {source.url}"
        )


def download(name: str, wanted: Mapping[str, Source], folder: Path, limit: float | None) -> dict[str, Path]:
    """Downloads the files of a data set into `folder` in a process that is ended when it takes too long.

    Raises:
        UnreachableError: There is no network, the server does not answer in time, or it sends something else.
        OSError: The disk is full.
    """
    store = folder / name  # Shared with TFDS, so that what it downloaded before is taken.
    store.mkdir(parents=True, exist_ok=True)
    before = set(store.glob("*.tmp.*"))
    try:
        answer = _run_download(name, folder, sum(source.info.size for source in wanted.values()), limit)
    finally:
        for leftover in set(store.glob("*.tmp.*")) - before:
            shutil.rmtree(leftover, ignore_errors=True)
    if answer.get("errno") in (errno.ENOSPC, errno.EDQUOT):
        raise OSError(answer["errno"], os.strerror(answer["errno"]), str(store))
    if "files" not in answer:
        raise UnreachableError(
            f"{name} is not prepared in {folder.parent}, and could not be downloaded from "
            f"{wanted[FILES[0]].url.removesuffix(FILES[0])} ({answer['error']}); "
            f"put {', '.join(FILES)} into a folder and name it with --data.manual-dir",
            answer["error"],
        )
    return {file: Path(path) for file, path in answer["files"].items()}


def _run_download(name: str, folder: Path, size: int, limit: float | None) -> dict[str, Any]:
    # The child finds the modules that this process finds, wherever they come from.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "jaxgan.data.download", name, str(folder)]
    kilobytes = size // 1000
    start = _bytes_below(folder / name)
    with (
        progress(f"downloading {name}, kilobytes", kilobytes, every=kilobytes // 3 + 1) as advance,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child,
    ):
        try:
            began = moved = time.monotonic()
            shown = 0
            while True:
                try:
                    output, _ = child.communicate(timeout=_POLL_SECONDS)
                    return json.loads(output or '{"error": "the download ended without an answer"}')
                except subprocess.TimeoutExpired:
                    now, done = time.monotonic(), (_bytes_below(folder / name) - start) // 1000
                if done > shown:
                    advance(done - shown)
                    shown, moved = done, now
                if now - began > (limit or math.inf):
                    return {"error": f"it took more than {limit:.0f} seconds"}
                if now - moved > STALL_SECONDS:
                    return {"error": f"nothing came for {STALL_SECONDS:.0f} seconds"}
        finally:
            child.kill()


def _bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder in which another process writes and renames."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def read_idx(path: Path) -> UInt8[np.ndarray, "*shape"]:
    """The array in a gz file of the IDX format.

    Raises:
        InputError: The file is not gzip, is cut short, or does not hold one whole array of bytes.
    """
    try:
        return parse_idx(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def parse_idx(content: bytes) -> UInt8[np.ndarray, "*shape"]:
    """The array in the bytes of an IDX file: two zeros, the type (8: uint8), the rank, big-endian sizes, the data.

    Raises:
        ValueError: The content is anything but one whole array of uint8 with 1 to 4 axes.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not 1 <= content[3] <= 4:
        raise ValueError(
            f"its first bytes are {content[:4].hex(' ') or 'missing'}, not those of IDX data of type uint8"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError("it ends within its header")
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4)]
    if len(content) - start != math.prod(shape):
        raise ValueError(f"it holds {len(content) - start:,} bytes of data where its header says {math.prod(shape):,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
