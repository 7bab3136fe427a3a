"""Where prepared data sets lie, and who may write there. Imports nothing heavy, so that a second start is quick."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxgan.config import DataConfig, InputError, expanded

# The version of a set changes whenever its pixels or their order do.
VERSIONS = {"mnist": "1.0.0", "fashion_mnist": "1.0.0", "kmnist": "1.0.0", "digits": "1.0.0", "stacked_mnist": "1.0.0"}

_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "Not enough free space", "Not enough disk space")


def data_root(data: DataConfig) -> Path:
    """The folder of all prepared data sets: `data.data_dir`, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    chosen = data.data_dir or os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")
    return expanded(Path(chosen)).absolute()


def prepared_folder(data: DataConfig) -> Path:
    """The folder of one data set at its present version, whether or not it is prepared."""
    return data_root(data) / f"jaxgan_{data.name}" / VERSIONS[data.name]


def is_prepared(data: DataConfig) -> bool:
    """Whether the data set's records are complete: TFDS renames their folder when all is written."""
    return (prepared_folder(data) / "dataset_info.json").is_file()


@contextmanager
def writing(data: DataConfig) -> Iterator[None]:
    """Holds the lock of one data set, so that one process at a time prepares it.

    Raises:
        InputError: The folder cannot be written.
        OSError: The disk is full.
    """
    root = data_root(data)
    with writable(root):
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / f".jaxgan_{data.name}.lock").open("w")
    # The kernel lets go of the lock when its holder dies, however it dies.
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that prepares {data.name} in {root}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise InputError(
                f"the data folder {root} is on a file system that has no locks ({error.strerror}); "
                "name another with --data.data-dir"
            ) from error
        yield


@contextmanager
def writable(root: Path) -> Iterator[None]:
    """Turns errors of writing below `root` into InputError, and those of a full disk into OSError with ENOSPC."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # TFDS, array_record and NumPy tell a full disk in words only.
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.ENOSPC or any(words in str(error) for words in _FULL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root)) from error
        if code in _REFUSALS:
            reason = os.strerror(code)
            raise InputError(
                f"the data folder {root} cannot be written ({reason}); name another with --data.data-dir"
            ) from error
        raise
