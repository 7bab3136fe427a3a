"""Published generators: what is kept of a run draws the same images, and damaged or foreign files are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import PRESETS, archive, generate, init_state
from jaxgan.config import leaves
from jaxgan.gan.state import TrainState
from jaxgan.runs.directory import FORMAT, DatasetRecord, RunRecord
from jaxgan.runs.published import decode_generator, encode_generator, load_published, published_names

SHAPE = (28, 28, 1)
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def trained(preset: str, **changes: object) -> tuple[RunRecord, TrainState]:
    """A record, and a state whose every number differs from a fresh one's."""
    config = PRESETS[preset]
    data = replace(config.data, name="digits", data_dir=Path("/private/place"), manual_dir=Path("/another"))
    config = replace(config, data=data, **changes)  # pyright: ignore[reportArgumentType]
    counts = (3, 0, 5) if config.conditional else ()
    record = RunRecord(FORMAT, preset, config, DatasetRecord("digits", "ab" * 32, SHAPE, 100, counts), {"jax": "0"})
    state = init_state(config, jax.random.key(5), SHAPE, counts)
    moved = jax.tree.map(lambda leaf: leaf * 1.1 + 0.01, (state.params, state.batch_stats, state.average))
    params, stats, average = moved
    return record, state._replace(step=jnp.int32(7), params=params, batch_stats=stats, average=average)


@pytest.mark.parametrize("preset", ["modern", "best", "deep-batchnorm"])
def test_a_published_generator_draws_the_images_of_its_run(preset: str) -> None:
    record, state = trained(preset)
    read, again = decode_generator(encode_generator(record, state, {"frechet": 1.0}))
    one, other = (
        generate(config, s, jax.random.key(1), 9) for config, s in ((record.config, state), (read.config, again))
    )
    np.testing.assert_array_equal(one, other)
    assert int(again.step) == 7


def test_it_keeps_the_config_but_no_folder_of_the_machine() -> None:
    record, state = trained("modern", seed=3)
    content = encode_generator(record, state, {})
    read, _ = decode_generator(content)
    data = replace(record.config.data, data_dir=None, manual_dir=None)
    assert read == replace(record, config=replace(record.config, data=data))
    assert b"private" not in content


def test_damaged_and_foreign_files_are_refused() -> None:
    content = encode_generator(*trained("vanilla"), {})
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 16
    for data in (bytes(damaged), content[:-100], b"", encode_generator(*trained("modern"), {})[:5000]):
        with pytest.raises(ValueError, match="weights"):
            decode_generator(data)


def test_two_generators_come_with_the_package() -> None:
    assert published_names() == ["best", "modern"]


@pytest.mark.parametrize("name", ["best", "modern"])
def test_what_the_package_publishes_is_whole_and_small_and_the_run_whose_scores_are_shown(name: str) -> None:
    content = resources.files("jaxgan").joinpath("published", f"{name}.npz").read_bytes()
    assert len(content) < 10_000_000
    record, state = load_published(name)
    assert int(state.step) == record.config.num_steps
    images = generate(record.config, state, jax.random.key(0), 4)
    assert float(images.std()) > 0.1
    # The config is the preset's, but for what is kept on the way and where the data came from.
    free = {"seed", "keep", "every.checkpoint", "data.name"}
    trained = {field: value for field, value in leaves(record.config) if field not in free}
    assert trained == {field: value for field, value in leaves(PRESETS[name]) if field not in free}
    told = json.loads((EXPERIMENTS / "reproduce" / f"{name}.json").read_text())["rows"]
    (row,) = (row for row in told if row["seed"] == record.config.seed)
    kept = archive.read_record(content)["scores"]["scores"]
    assert {score: value["mean"] for score, value in kept.items()} == row["scores"]
