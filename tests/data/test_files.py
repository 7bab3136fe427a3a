from __future__ import annotations

import errno
import functools
import gzip
import http.server
import json
import os
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from preparing import registered, set_proxy

from jaxgan.config import InputError
from jaxgan.data import files
from jaxgan.data.builders import parse_idx

HEADER = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3])


def test_an_idx_file_is_parsed_to_its_shape_and_bytes() -> None:
    assert parse_idx(HEADER + bytes(range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "first bytes"),
        (b"\x00\x00", "first bytes"),
        (b"\x01" + HEADER[1:] + bytes(6), "first bytes"),
        (b"\x00\x00\x0d" + HEADER[3:] + bytes(6), "uint8"),
        (b"\x00\x00\x08\x00" + bytes(1), "first bytes"),
        (b"\x00\x00\x08\xff" + bytes(2000), "first bytes"),
        (b"\x00\x00\x08\x05" + b"\x00\x00\x00\x01" * 5 + bytes(1), "first bytes"),
        (HEADER[:9], "header"),
        (HEADER[:-1], "header"),
        (HEADER + bytes(5), "5 bytes"),
        (HEADER + bytes(7), "7 bytes"),
        (HEADER[:4] + b"\xff" * 8, "0 bytes"),
    ],
)
def test_idx_content_that_is_not_one_whole_array_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_idx(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"plain",
        gzip.compress(HEADER + bytes(6), mtime=0)[:-9],
        gzip.compress(HEADER, mtime=0)[:10] + b"\xff" * 9,
        gzip.compress(HEADER, mtime=0),
    ],
)
def test_a_gz_file_that_is_not_whole_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"images\.gz is damaged") as caught:
        files.read_idx(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_each_set_has_four_registered_checksums(name: str) -> None:
    assert all(len(source.info.checksum) == 64 for source in files.sources(name).values())


def test_the_registered_checksums_of_the_three_sets_differ() -> None:
    names = ("mnist", "fashion_mnist", "kmnist")
    assert len({source.info.checksum for name in names for source in files.sources(name).values()}) == 12


def test_files_of_a_manual_folder_are_found_and_left_alone(small: SimpleNamespace, tmp_path: Path) -> None:
    before = sorted(small.folder.iterdir())
    found = files.find_files("mnist", tmp_path / "root", small.folder, None)
    assert found == {file: small.folder / file for file in files.FILES}
    assert sorted(small.folder.iterdir()) == before
    assert not (tmp_path / "root").exists()


def test_missing_manual_files_are_named_with_their_folder(small: SimpleNamespace, tmp_path: Path) -> None:
    (small.folder / files.FILES[2]).unlink()
    with pytest.raises(InputError, match=f"{small.folder} has no {files.FILES[2]}; mnist needs"):
        files.find_files("mnist", tmp_path, small.folder, None)
    with pytest.raises(InputError, match="/nowhere has no " + ", ".join(files.FILES)):
        files.find_files("mnist", tmp_path, Path("/nowhere"), None)


def test_a_manual_folder_that_cannot_be_read_is_named(
    small: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "is_file", refuse)  # Who runs tests as root may read everything.
    with pytest.raises(InputError, match=r"--data.manual-dir .* cannot be read \(Permission denied\)"):
        files.find_files("mnist", tmp_path, small.folder, None)


def test_a_truncated_manual_file_is_refused_with_both_sizes(small: SimpleNamespace, tmp_path: Path) -> None:
    path = small.folder / files.FILES[0]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"1,000 bytes, not {size:,}; get it again from http"):
        files.find_files("mnist", tmp_path, small.folder, None)


def test_a_manual_file_with_another_checksum_is_refused(small: SimpleNamespace, tmp_path: Path) -> None:
    path = small.folder / files.FILES[3]
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{files.FILES[3]} is not the original mnist file: its SHA-256"):
        files.find_files("mnist", tmp_path, small.folder, None)


def test_offline_the_error_says_how_to_give_the_files_by_hand(tmp_path: Path) -> None:
    others = tmp_path / "downloads" / "mnist" / "of another process.tmp.1"
    others.mkdir(parents=True)
    with pytest.raises(files.UnreachableError) as caught:
        files.find_files("mnist", tmp_path, None, None)
    message = str(caught.value)
    assert "no connection" in message
    assert "--data.manual-dir" in message
    assert all(file in message for file in files.FILES)
    assert "\n" not in message
    assert list(tmp_path.rglob("*.tmp.*")) == [others]


@pytest.mark.parametrize(("pause", "answer"), [("0.4", {"files": {}}), ("3", {"error": "nothing came for 1 seconds"})])
def test_a_download_may_take_as_long_as_it_goes_on(
    pause: str, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What stands in for the process that downloads writes four pieces and pauses in between.
    (tmp_path / "mnist").mkdir()
    child = tmp_path / "child"
    pieces = f'for i in 1 2 3 4; do head -c 5000 /dev/zero >> "$4/mnist/file"; sleep {pause}; done'
    child.write_text(f"#!/bin/sh\n{pieces}\necho '{json.dumps({'files': {}})}'\n")
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    monkeypatch.setattr(files, "STALL_SECONDS", 1.0)
    assert files._run_download("mnist", tmp_path, 20_000, None) == answer


def test_a_server_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        set_proxy(monkeypatch, f"127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(files.UnreachableError, match="more than 2 seconds"):
            files.find_files("mnist", tmp_path, None, 2.0)
        assert time.monotonic() - start < 4
        monkeypatch.setattr(files, "STALL_SECONDS", 1.5)
        with pytest.raises(files.UnreachableError, match="nothing came"):
            files.find_files("mnist", tmp_path, None, None)
    assert not list(tmp_path.rglob("*.tmp.*"))


@pytest.fixture
def served(small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """The small files behind a server of this machine, in this process and in those that it starts."""
    handler = functools.partial(_Quiet, directory=str(small.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever).start()
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(variable, "127.0.0.1")
        monkeypatch.setattr(files, "sources", registered(small.folder, url))
        infos = {source.url: tuple(source.info.__dict__.values()) for source in files.sources("mnist").values()}
        hook = tmp_path / "hook"
        hook.mkdir()
        # Python runs a module of this name at its start.
        (hook / "sitecustomize.py").write_text(
            textwrap.dedent(f"""\
            import tensorflow_datasets as tfds
            from tensorflow_datasets.core.download.checksums import UrlInfo
            mnist = tfds.image_classification.MNIST
            mnist.URL = {url!r}
            mnist.url_infos = {{
                url: UrlInfo(size=tfds.core.units.Size(size), checksum=checksum, filename=file)
                for url, (size, checksum, file) in {infos!r}.items()
            }}
            """)
        )
        monkeypatch.syspath_prepend(hook)
        yield small
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_files_are_downloaded_once_and_a_damaged_download_again(served: SimpleNamespace, tmp_path: Path) -> None:
    root = tmp_path / "a root"
    found = files.find_files("mnist", root, None, None)
    assert all(found[file].read_bytes() == (served.folder / file).read_bytes() for file in files.FILES)
    assert all(path.is_relative_to(root / "downloads") for path in found.values())
    times = {path: path.stat().st_mtime_ns for path in found.values()}
    damaged = found[files.FILES[0]]
    damaged.write_bytes(b"damaged")
    again = files.find_files("mnist", root, None, None)
    assert again == found
    assert [path for path, then in times.items() if path.stat().st_mtime_ns != then] == [damaged]


def test_a_download_that_is_not_the_original_is_refused(served: SimpleNamespace, tmp_path: Path) -> None:
    (served.folder / files.FILES[1]).write_bytes(b"a page of a hotel's network")
    with pytest.raises(files.UnreachableError, match="what the server sent is not the original file"):
        files.find_files("mnist", tmp_path / "root", None, None)
    assert not list((tmp_path / "root").rglob("*.tmp.*"))


def test_the_sources_are_those_of_tfds() -> None:
    for source in files.sources("kmnist").values():
        assert source.url.startswith(tfds.image_classification.KMNIST.URL)
    assert np.all([source.info.filename == file for file, source in files.sources("mnist").items()])
