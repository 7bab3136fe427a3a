"""A run's directory: whose it is, what it says of itself, and how it is found again."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.preconf.json import make_converter
from cattrs.v import format_exception

from jaxgan.config import Config, InputError

FORMAT = 1
CONFIG = "config.json"
SWEEP = "sweep.json"
MEMBERS = "members"
"""Of a sweep, where the runs are that it exported."""
_LOCK = ".lock"
_LIBRARIES = ("jaxgan", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


@dataclass(frozen=True)
class DatasetRecord:
    """Which data a run trains on; it never changes on resume."""

    name: str
    fingerprint: str
    """SHA-256 over all images and labels."""
    image_shape: tuple[int, int, int]
    num_images: int
    """Images in the training split, less those held out."""
    label_counts: tuple[int, ...] = ()
    """How many of them each class has, where players are conditional."""

    def check_labels(self, config: Config) -> None:
        """Raises InputError where a config needs to know the classes and they are not recorded."""
        if config.conditional and not any(self.label_counts):
            raise InputError("conditional players need label_counts of the data set")


@dataclass(frozen=True)
class RunRecord:
    """What `config.json` holds."""

    format: int
    preset: str
    config: Config
    dataset: DatasetRecord
    versions: dict[str, str]

    def __post_init__(self) -> None:
        self.dataset.check_labels(self.config)


Record = TypeVar("Record")


def installed_versions() -> dict[str, str]:
    """The versions of the libraries that a run's numbers depend on."""
    return {name: metadata.version(name) for name in _LIBRARIES}


def holds_run(path: Path) -> bool:
    """Whether a directory holds a run."""
    return (path / CONFIG).is_file()


def free_directory(base: Path) -> Path:
    """`base`, or the first of base-2, base-3, ... that is not there yet."""
    path, i = base, 1
    while path.exists():
        i += 1
        path = base.with_name(f"{base.name}-{i}")
    return path


def claim_directory(base: Path) -> Path:
    """Makes `base`, or the one of base-2, base-3, ... after the last that is there, for this process alone.

    Raises:
        InputError: It cannot be written.
    """
    while True:
        numbers = _numbers(base)
        path = _numbered(base, max(numbers) + 1) if numbers else base
        try:
            path.mkdir(parents=True)
        except OSError as error:
            if isinstance(error, FileExistsError) and path.exists():  # Another process was quicker.
                continue
            raise InputError(f"--run-dir {path} cannot be written: {error.strerror}") from error
        return path


def latest_directory(base: Path) -> Path:
    """The last of base, base-2, base-3, ... that is there, wherever one is missing; `base` itself where none is."""
    return _numbered(base, max(_numbers(base), default=1))


def _numbers(base: Path) -> set[int]:
    """Which of base, base-2, base-3, ... are there."""
    endings = (path.name.removeprefix(f"{base.name}-") for path in base.parent.glob(f"{glob.escape(base.name)}-*"))
    found = {int(ending) for ending in endings if re.fullmatch("[2-9]|[1-9][0-9]{1,8}", ending)}
    return found | ({1} if base.exists() else set())


def _numbered(base: Path, number: int) -> Path:
    return base if number == 1 else base.with_name(f"{base.name}-{number}")


def check_new(path: Path, record: str = CONFIG) -> None:
    """Raises InputError where a new run, or what else has a record of that name, cannot be put into `path`."""
    if holds_run(path):
        raise InputError(f"{path} holds a run already: add --resume to continue it, or name another --run-dir")
    if path.is_symlink() and not path.exists():
        raise InputError(f"--run-dir {path} is a link to {path.readlink()}, which is not there")
    if path.exists() and not path.is_dir():
        raise InputError(f"--run-dir {path} is a file, not a directory")
    # A kill may have left its lock, or a record that was not yet renamed.
    left = (_LOCK, f".{record}.")
    if path.is_dir() and not all(entry.name.startswith(left) for entry in path.iterdir()):
        raise InputError(f"--run-dir {path} is not empty and holds no run: name an empty or a new directory")


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process is here with the same directory: for writing what several may add to."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # Not every file system has locks; then the last to write wins.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def owned(path: Path) -> Iterator[None]:
    """Makes the directory where it is missing and holds it for this process; the system lets go of it at any end.

    Raises:
        InputError: It cannot be written, or another process owns it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = (path / _LOCK).open("a+")
    except OSError as error:
        raise InputError(f"--run-dir {path} cannot be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"--run-dir {path} is in use by another process") from error
        except OSError as error:
            raise InputError(
                f"--run-dir {path} is on a file system that has no locks ({error.strerror}): name another"
            ) from error
        yield


def write_atomically(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Writes a whole file or nothing: a process that is killed leaves the old one; with `sync` so does a power cut."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            if sync:  # Some milliseconds.
                handle.flush()
                os.fsync(handle.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(path: Path, record: RunRecord) -> None:
    """Writes `config.json`."""
    write_atomically(path / CONFIG, encode_record(record).encode(), sync=True)


def encode_record(record: Any) -> str:
    """A record as JSON text."""
    return json.dumps(_converter().unstructure(record), indent=2) + "\n"


def decode_record(text: str) -> RunRecord:
    """Reads what `encode_record` wrote.

    Raises:
        InputError: It is of another format, or damaged.
    """
    return _decode(text, RunRecord)


def _decode(text: str, kind: type[Record]) -> Record:
    """Reads a dataclass that has a `format`.

    Raises:
        InputError: It is of another format, or damaged.
    """
    try:
        stored = json.loads(text)
        if stored["format"] != FORMAT:
            raise InputError(f"has format {stored['format']}; this jaxgan reads format {FORMAT}")
        return _converter().structure(stored, kind)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise InputError(f"is damaged: {_first_reason(error)}") from error


def read_record(path: Path) -> RunRecord:
    """Reads `config.json`.

    Raises:
        InputError: There is no run, or its record is damaged or of another format.
    """
    if (path / SWEEP).is_file():
        raise InputError(f"{path} holds a sweep: the members that it exported are runs, in {path / MEMBERS}")
    if not holds_run(path):
        raise InputError(f"{path} holds no run: it has no {CONFIG}")
    return read_record_file(path / CONFIG, RunRecord)


def read_record_file(path: Path, kind: type[Record]) -> Record:
    """Reads a file that holds what `encode_record` wrote.

    Raises:
        InputError: It cannot be read, is damaged or of another format.
    """
    try:
        return _decode(path.read_text(), kind)
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: {error.reason}") from error


def _converter() -> Any:
    converter = make_converter(forbid_extra_keys=True)
    converter.register_unstructure_hook(Path, str)
    converter.register_structure_hook(Path, lambda value, _: Path(value))
    for kind in (bool, int, float, str):
        converter.register_structure_hook(kind, _as_written)
    return converter


def _as_written(value: Any, kind: type) -> Any:
    """The value, where it is one of the kind: neither 4.7 nor true is a whole number."""
    if type(value) is not kind and (type(value), kind) != (int, float):
        raise TypeError(f"{json.dumps(value)} is no {kind.__name__}")
    return kind(value)


def _first_reason(error: BaseException) -> str:
    if not isinstance(error, cattrs.BaseValidationError):
        return f"{type(error).__name__}: {error}"
    return "; ".join(cattrs.transform_error(error, format_exception=_format_exception))


def _format_exception(error: BaseException, kind: Any) -> str:
    return str(error) if isinstance(error, InputError) else format_exception(error, kind)
