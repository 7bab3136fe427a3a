"""A process of its own that downloads the files of one data set through TFDS's download manager.

TFDS knows no time limit, and its threads outlive an exception; a process can be ended at any moment.
Run as `python -m jaxgan.data.download NAME FOLDER`; prints one line of JSON: `files` by name, or `error`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from jaxgan.data.files import Source, sources


def main() -> None:
    """Downloads, and says in JSON what came of it."""
    name, folder = sys.argv[1:]
    try:
        answer: dict[str, Any] = {"files": download(name, Path(folder))}
    except Exception as error:
        answer = {"error": _reason(error), "errno": error.errno if isinstance(error, OSError) else None}
    print(json.dumps(answer), flush=True)
    # A plain exit would wait for downloads that go on after one of them has failed.
    os._exit(0)


def download(name: str, folder: Path) -> dict[str, str]:
    """Downloads what `folder` does not hold yet; gives the path of each file by its original name."""
    tfds.disable_progress_bar()
    # With ten retries, TFDS's choice, being offline takes minutes to tell.
    downloader.MAX_RETRIES = 2
    wanted = sources(name)
    files = _fetch(name, folder, wanted)
    # TFDS takes a file that it downloaded before as it is; a damaged one must go, then be fetched again.
    damaged = [path for file, path in files.items() if not _is_whole(path, wanted[file])]
    for path in damaged:
        path.unlink()
    if damaged:
        files = _fetch(name, folder, wanted)
    return {file: str(path) for file, path in files.items()}


def _fetch(name: str, folder: Path, wanted: dict[str, Source]) -> dict[str, Path]:
    infos = {source.url: source.info for source in wanted.values()}
    manager = tfds.download.DownloadManager(download_dir=folder, url_infos=infos, dataset_name=name)
    paths: Any = manager.download({file: source.url for file, source in wanted.items()})
    return {file: Path(path) for file, path in paths.items()}


def _is_whole(path: Path, source: Source) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == source.info.checksum


def _reason(error: Exception) -> str:
    """An exception in a few words."""
    if isinstance(error, requests.exceptions.RequestException):
        return "no connection"
    if isinstance(error, NonMatchingChecksumError):
        return "what the server sent is not the original file"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


if __name__ == "__main__":
    main()
