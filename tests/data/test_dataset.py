from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from preparing import MNIST, finish, start_load

from jaxgan.config import Config, DataConfig, InputError, ObjectiveConfig
from jaxgan.data import builders, cache, dataset, digits, files
from jaxgan.data.dataset import fingerprint, load_dataset, resolve

needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason="the files of MNIST are not at hand")


@pytest.fixture
def config(small: SimpleNamespace, tmp_path: Path) -> Config:
    """A run on the small files."""
    data = DataConfig(name="mnist", data_dir=tmp_path / "data sets", manual_dir=small.folder, holdout=10)
    return Config(batch_size=8, data=data)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the costly steps, in the order in which they are taken."""
    taken: list[str] = []
    for step in ("prepare", "decode"):
        monkeypatch.setattr(builders, step, _recorded(getattr(builders, step), step, taken))
    return taken


def _recorded(function: Callable[..., Any], step: str, taken: list[str]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        taken.append(step)
        return function(*args)

    return call


def only_folder(config: Config) -> Path:
    assert config.data.data_dir is not None
    return config.data.data_dir / f"jaxgan_{config.data.name}" / "1.0.0"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def complaint(call: Callable[..., Any], *args: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_files_become_arrays_in_their_own_order(name: Any, config: Config, small: SimpleNamespace) -> None:
    config = replace(config, data=replace(config.data, name=name))
    train, validation, test = (load_dataset(config, split) for split in ("train", "validation", "test"))
    images, labels = small.arrays[files.FILES[0]], small.arrays[files.FILES[1]]
    assert isinstance(train.images, jax.Array)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(np.concatenate([validation.images, train.images])[..., 0], images)
    np.testing.assert_array_equal(np.concatenate([validation.labels, train.labels]), labels)
    assert len(validation.labels) == 10
    np.testing.assert_array_equal(np.asarray(test.images)[..., 0], small.arrays[files.FILES[2]])
    np.testing.assert_array_equal(test.labels, small.arrays[files.FILES[3]])


def test_only_the_first_load_prepares_and_none_decodes_what_was_just_written(config: Config, calls: list[str]) -> None:
    first = load_dataset(config, "train")
    assert calls == ["prepare"]
    second = load_dataset(config, "train")
    fingerprint(config.data)
    assert calls == ["prepare"]
    np.testing.assert_array_equal(first.images, second.images)


@pytest.mark.parametrize("file", ["train_images.npy", "train_labels.npy", "checksums.json"])
@pytest.mark.parametrize("harm", [damage, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_cache_is_repaired_from_the_records(
    file: str,
    harm: Callable[[Path], Any],
    config: Config,
    calls: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(builders, "_CHUNK", 10)  # Written and read in pieces, as larger sets are.
    first, mark = load_dataset(config, "train"), fingerprint(config.data)
    harm(only_folder(config) / "arrays" / file)
    capsys.readouterr()
    second = load_dataset(config, "train")
    assert calls == ["prepare", "decode"]
    assert {line.split(":")[0] for line in capsys.readouterr().err.splitlines()} == {"reading mnist"}
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert fingerprint(config.data) == mark
    load_dataset(config, "train")
    assert calls == ["prepare", "decode"]


@pytest.mark.parametrize("text", ["[]", "[1]", "3", '{"train": "ab"}', '{"train": 5, "test": "ab"}'])
def test_checksums_of_another_shape_are_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "checksums.json").write_text(text)
    assert cache.read_checksums(tmp_path) is None


def test_what_was_being_written_when_a_process_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "arrays.incomplete").mkdir()
    (tmp_path / "arrays.incomplete" / "train_images.npy").write_bytes(b"half")
    arrays = cache.Arrays(np.zeros((3, 2, 2, 1), np.uint8), np.arange(3, dtype=np.int32))
    cache.write(tmp_path / "arrays", {"train": arrays, "test": arrays})
    assert [path.name for path in tmp_path.iterdir()] == ["arrays"]
    found = cache.read(tmp_path / "arrays", "test")
    assert found is not None
    np.testing.assert_array_equal(found.labels, arrays.labels)


def test_a_cache_is_never_unpickled(config: Config) -> None:
    load_dataset(config, "train")
    path = only_folder(config) / "arrays" / "train_labels.npy"
    np.save(path, np.array([{"a": "pickle"}], dtype=object), allow_pickle=True)
    assert cache.read(path.parent, "train") is None
    assert cache.read(path.parent, "test") is not None


@pytest.mark.parametrize("pattern", ["*train.array_record*", "*test.array_record*"])
def test_damaged_records_name_the_folder_to_delete(pattern: str, config: Config) -> None:
    load_dataset(config, "train")
    folder = only_folder(config)
    shutil.rmtree(folder / "arrays")
    (records,) = folder.glob(pattern)
    records.write_bytes(records.read_bytes()[:100])
    assert f"the prepared data in {folder} is damaged" in (message := complaint(load_dataset, config, "train"))
    assert message.endswith("delete that folder")
    shutil.rmtree(folder)
    load_dataset(config, "train")


def test_what_a_killed_preparation_left_behind_is_removed(config: Config) -> None:
    leftover = only_folder(config).parent / "incomplete.ABCDEF_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "records").write_bytes(b"half")
    load_dataset(config, "train")
    assert not leftover.exists()


@pytest.mark.parametrize("words", ["write() failed: No space left on device", "Not enough free space to write 7 bytes"])
def test_a_full_disk_is_an_os_error_and_leaves_nothing_in_the_way(
    words: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(words)

    with monkeypatch.context() as patch:
        patch.setattr(builders._Builder, "_generate_examples", fill)
        with pytest.raises(OSError, match="No space left") as caught:
            load_dataset(config, "train")
    assert caught.value.errno == errno.ENOSPC
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fill)
        with pytest.raises(OSError, match="No space left"):
            load_dataset(config, "train")
    assert not list(only_folder(config).parent.rglob("*incomplete*"))
    load_dataset(config, "train")


def test_a_data_folder_that_cannot_be_written_is_named(config: Config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = replace(config, data=replace(config.data, data_dir=tmp_path / "file"))
    message = complaint(load_dataset, config, "train")
    assert f"the data folder {tmp_path / 'file'} cannot be written" in message
    assert "--data.data-dir" in message


def test_a_tilde_in_folders_is_the_home_folder(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small: SimpleNamespace
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    tilde = replace(config.data, data_dir=Path("~/data sets"), manual_dir=Path("~") / small.folder.name)
    load_dataset(replace(config, data=tilde), "test")
    assert only_folder(config).is_dir()


def test_without_a_data_folder_tfds_has_the_say(config: Config, tmp_path: Path) -> None:
    load_dataset(replace(config, data=replace(config.data, data_dir=None)), "test")
    assert (tmp_path / "default" / "jaxgan_mnist").is_dir()


def test_impossible_splits_and_batches_are_refused(config: Config) -> None:
    def with_holdout(holdout: int) -> Config:
        return replace(config, data=replace(config.data, holdout=holdout))

    assert "choose train, validation or test" in complaint(load_dataset, config, "training")
    assert "--data.holdout 0" in complaint(load_dataset, with_holdout(0), "validation")
    assert "50 training images" in complaint(load_dataset, with_holdout(50), "train")
    assert "50 training images" in complaint(load_dataset, with_holdout(50), "validation")
    assert len(load_dataset(with_holdout(0), "train").labels) == 50
    assert len(load_dataset(replace(config, batch_size=40), "train").labels) == 40
    assert "41 real images a step; the training set has 40" in complaint(
        load_dataset, replace(config, batch_size=41), "train"
    )
    assert len(load_dataset(replace(config, batch_size=41), "test").labels) == 20
    halves = ObjectiveConfig(name="non_saturating", updates="halves", r1=0.0, r2=0.0)
    assert len(load_dataset(replace(config, batch_size=80, objective=halves), "train").labels) == 40


def test_the_fingerprint_tells_data_sets_apart(config: Config, small: SimpleNamespace) -> None:
    mark = fingerprint(config.data)
    assert len(mark) == 64
    assert int(mark, 16) > 0
    arrays = cache.read(only_folder(config) / "arrays", "train")
    assert arrays is not None
    assert cache.checksum(arrays) != cache.checksum(arrays._replace(labels=arrays.labels[::-1].copy()))
    assert cache.checksum(arrays) != cache.checksum(arrays._replace(images=arrays.images.reshape(50, 14, 56, 1)))


def test_a_name_other_than_auto_stands_for_itself(config: Config) -> None:
    assert resolve(config.data, pytest.fail) == config.data


def test_auto_with_a_manual_folder_is_mnist_or_an_error(config: Config, small: SimpleNamespace) -> None:
    auto = replace(config, data=replace(config.data, name="auto"))
    assert resolve(auto.data, pytest.fail) == config.data
    (small.folder / files.FILES[0]).unlink()
    assert files.FILES[0] in complaint(load_dataset, auto, "train")


def test_auto_is_mnist_where_it_is_prepared(config: Config) -> None:
    load_dataset(config, "train")
    auto = replace(config.data, name="auto", manual_dir=None)
    assert resolve(auto, pytest.fail).name == "mnist"


def test_auto_without_a_network_warns_once_and_takes_the_digits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(digits, "COUNTS", {"train": 60, "test": 20})
    data = DataConfig(data_dir=tmp_path, holdout=10)
    warnings: list[str] = []
    assert resolve(data, warnings.append).name == "digits"
    (warning,) = warnings
    assert "MNIST could not be downloaded (no connection), so the embedded digits are used" in warning
    assert "\n" not in warning
    capsys.readouterr()
    assert resolve(data, warnings.append).name == "digits"
    config = Config(batch_size=8, data=data)
    assert [len(load_dataset(config, split).labels) for split in ("train", "validation", "test")] == [50, 10, 20]
    assert len(warnings) == 1
    assert "warning" not in capsys.readouterr().err


def test_without_resolving_first_auto_warns_on_stderr(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(digits, "COUNTS", {"train": 60, "test": 20})
    load_dataset(Config(batch_size=8, data=DataConfig(data_dir=tmp_path, holdout=10)), "train")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "downloading mnist, kilobytes",
        "jaxgan",
        *["preparing digits"] * 2,
    ]


def test_the_bounded_attempt_leaves_room_below_the_fifteen_seconds_that_the_readme_promises() -> None:
    assert dataset.AUTO_SECONDS <= 13


def test_threads_that_prepare_at_once_get_the_same_arrays(config: Config, calls: list[str]) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(dataset._load(config.data, "train").images)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["prepare"]
    assert all(np.array_equal(images, results[0]) for images in results)
    assert len(results) == 3


@needs_mnist
def test_processes_that_prepare_at_once_do_not_harm_each_other(prepared: SimpleNamespace) -> None:
    assert [process.code for process in prepared.mnist] == [0, 0]
    assert len({process.fingerprint for process in prepared.mnist}) == 1
    assert sum("preparing mnist" in process.err for process in prepared.mnist) == 1
    assert sum("waiting for another process" in process.err for process in prepared.mnist) == 1
    assert [path.name for path in (prepared.root / "jaxgan_mnist").iterdir()] == ["1.0.0"]


def test_the_whole_digits_are_prepared_without_tensorflow(prepared: SimpleNamespace) -> None:
    assert prepared.digits.code == 0, prepared.digits.err
    assert prepared.digits.shapes == "(55000, 28, 28, 1) (10000, 28, 28, 1)"
    assert prepared.digits.imported == "tensorflow_datasets"


def test_progress_and_nothing_else_is_said_where_stderr_is_no_terminal(prepared: SimpleNamespace) -> None:
    counts = ("0", "20,000", "40,000", "60,000", "70,000")
    assert prepared.digits.err.splitlines() == [f"preparing digits: {count} of 70,000" for count in counts]


def test_the_prepared_digits_are_the_rendered_ones(prepared: SimpleNamespace) -> None:
    data = DataConfig(name="digits", data_dir=prepared.root)
    arrays = dataset._load(data, "test")
    began = time.perf_counter()
    images, labels = zip(*digits.render("test", 10_000), strict=True)
    # On a free machine 70,000 are prepared, beside two other data sets, in twice the time of rendering as many; ten is
    # room for one that gets busier or freer in between.
    assert float(prepared.digits.seconds) < 10 * 7 * (time.perf_counter() - began)
    np.testing.assert_array_equal(arrays.images[..., 0], np.concatenate(images))
    np.testing.assert_array_equal(arrays.labels, np.concatenate(labels))
    assert fingerprint(data) == prepared.digits.fingerprint


def test_a_second_start_is_quick_quiet_and_without_tfds(prepared: SimpleNamespace) -> None:
    again = finish(start_load("digits", prepared.root))
    assert again.err == ""
    assert again.imported == ""
    assert again.fingerprint == prepared.digits.fingerprint
    # 0.1 s beside some 20 s on a free machine; a loaded one is given room.
    assert float(again.seconds) < float(prepared.digits.seconds) / 20.0


@needs_mnist
def test_mnist_is_whole(prepared: SimpleNamespace) -> None:
    assert {process.imported for process in prepared.mnist} == {"", "tensorflow_datasets"}
    data = DataConfig(name="mnist", data_dir=prepared.root)
    train, test = dataset._load(data, "train"), dataset._load(data, "test")
    assert train.images.shape == (60_000, 28, 28, 1)
    assert test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert abs(train.images.mean() - 33.318421) < 1e-5
    assert fingerprint(data) == "996a1004e18ffd09e755996d5237dd977ffaf6b300dd9ee93fa66919a0132f66"
    assert json.loads((prepared.root / "jaxgan_mnist" / "1.0.0" / "dataset_info.json").read_text())["name"] == (
        "jaxgan_mnist"
    )


def test_auto_that_stands_for_the_digits_is_mnist_where_a_manual_folder_is_given(config: Config) -> None:
    alone = replace(config.data, name="auto", manual_dir=None)
    assert resolve(alone, lambda _: None).name == "digits"
    assert resolve(replace(config.data, name="auto"), pytest.fail).name == "mnist"
