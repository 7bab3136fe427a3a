from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_images import SHAPE, N, textures

from jaxgan.data.files import read_idx
from jaxgan.metrics.classifier import classify, training_steps
from jaxgan.metrics.network import (
    EPOCHS,
    FeatureNetwork,
    decode,
    encode,
    shipped_network,
    train_network,
)

RECORD = Path(__file__).parents[2] / "experiments" / "feature_network" / "mnist.json"


@pytest.fixture(scope="module")
def small() -> FeatureNetwork:
    return train_network("tiny", "ab" * 32, textures(0), textures(1), {"jax": "1.2"})


@pytest.fixture(scope="module")
def content(small: FeatureNetwork) -> bytes:
    return encode(small)


def arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return dict(file)


def packed(**named: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **named)
    return buffer.getvalue()


def test_a_network_is_read_back_bit_for_bit_with_its_record(small: FeatureNetwork, content: bytes) -> None:
    read = decode(content)
    assert read.record == small.record
    assert jax.tree.structure(read.params) == jax.tree.structure(small.params)
    for one, other in zip(jax.tree.leaves(read.params), jax.tree.leaves(small.params), strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert encode(read) == content


def test_the_record_says_how_the_network_came_about(small: FeatureNetwork) -> None:
    test = textures(1)
    right = np.argmax(np.asarray(classify(small.params, test.images)[1]), axis=1) == np.asarray(test.labels)
    wanted = {
        "dataset": "tiny",
        "fingerprint": "ab" * 32,
        "image_shape": SHAPE,
        "classes": 10,
        "seed": 0,
        "epochs": EPOCHS,
        "shift": 2,
        "training_images": N,
        "test_accuracy": pytest.approx(right.mean(), abs=1e-6),
        "versions": {"jax": "1.2"},
    }
    assert {name: value for name, value in asdict(small.record).items() if name != "sha256"} == wanted


def test_the_version_names_the_data_set_and_the_weights(small: FeatureNetwork) -> None:
    assert small.version == f"tiny-{small.record.sha256[:8]}"
    told: list[int] = []
    other = train_network("tiny", "ab" * 32, textures(2), textures(1), {}, told.append)
    assert other.version != small.version
    assert sum(told) == training_steps(N, EPOCHS)


def test_a_changed_weight_is_found(content: bytes) -> None:
    for name in ("logits.bias", "convolution_0.Dense_0.kernel"):
        named = arrays(content)
        named[name].reshape(-1).view(np.uint8)[1] ^= 1  # The second lowest byte of the first number.
        with pytest.raises(ValueError, match="feature network: damaged weights: their checksum differs"):
            decode(packed(**named))


def test_a_flipped_bit_anywhere_in_the_weights_is_found(content: bytes) -> None:
    for place in np.linspace(200, len(content) - 3000, 25).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 16
        with pytest.raises(ValueError, match="not a feature network"):
            decode(bytes(damaged))


NONSENSE = (
    *(("image_shape", value) for value in ([28], [0, 0, 0], [6, 6, -1], "ab", 3)),
    *(("classes", value) for value in ("ten", -1, 2, None)),
    ("sha256", 1),
    ("colour", "red"),
)


def foreign(content: bytes) -> dict[str, bytes]:
    """Files that are no feature network, or no whole one."""
    named = arrays(content)
    record = json.loads(str(named["record"]))

    def recorded(value: object) -> bytes:
        return packed(**named | {"record": np.array(json.dumps(value))})

    return {
        **{f"{name} {value}": recorded({**record, name: value}) for name, value in NONSENSE},
        "a field less": recorded({name: value for name, value in record.items() if name != "seed"}),
        "a record that is a list": recorded([record]),
        "nothing": b"",
        "half": content[: len(content) // 2],
        "all but a byte": content[:-1],
        "noise": np.random.default_rng(0).bytes(5000),
        "text": b'{"record": 1}',
        "an array": content[:4] + b"\x93NUMPY",
        "another npz": packed(images=np.zeros(3)),
        "no record": packed(**{name: array for name, array in named.items() if name != "record"}),
        "no weights": packed(record=named["record"]),
        "no JSON": packed(**named | {"record": np.array("{")}),
        "weights of another shape": packed(**named | {"logits.bias": named["logits.bias"][:9]}),
        "weights of another type": packed(**named | {"logits.bias": named["logits.bias"].astype(np.float16)}),
    }


def test_a_file_that_is_cut_short_or_something_else_is_refused(content: bytes) -> None:
    for what, data in foreign(content).items():
        with pytest.raises(ValueError, match="not a feature network"):
            print(what, decode(data))


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["record", "logits.bias"])
def test_nothing_is_ever_unpickled(content: bytes, tmp_path: Path, name: str) -> None:
    poisoned = packed(**arrays(content) | {name: np.array([Bomb(tmp_path / "ran")], dtype=object)})
    with pytest.raises(ValueError, match="not a feature network"):
        decode(poisoned)
    assert not (tmp_path / "ran").exists()
    with np.load(io.BytesIO(poisoned), allow_pickle=True) as file:
        file[name]
    assert (tmp_path / "ran").exists(), "the poison must work, or the test above proves nothing"


def test_the_shipped_network_is_small_and_what_its_record_says() -> None:
    data = resources.files("jaxgan.metrics").joinpath("mnist.npz").read_bytes()
    assert len(data) < 500_000
    record = asdict(shipped_network().record)
    assert record | {"image_shape": list(record["image_shape"])} == json.loads(RECORD.read_text())
    assert shipped_network().version == f"mnist-{record['sha256'][:8]}" == "mnist-b82586b3"
    assert record["image_shape"] == (28, 28, 1)
    assert record["training_images"] == 55_000
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert all(info.filename.endswith(".npy") for info in file.infolist())


def test_the_shipped_network_classifies_as_many_test_images_as_it_says(mnist_dir: Path) -> None:
    images = read_idx(mnist_dir / "t10k-images-idx3-ubyte.gz")[..., None]
    labels = read_idx(mnist_dir / "t10k-labels-idx1-ubyte.gz")
    network = shipped_network()
    answers = np.argmax(np.asarray(classify(network.params, jnp.asarray(images))[1]), axis=1)
    assert np.mean(answers == labels) == pytest.approx(network.record.test_accuracy, abs=1.5e-4)
    assert network.record.test_accuracy >= 0.992
