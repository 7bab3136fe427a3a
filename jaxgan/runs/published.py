"""Generators that come with the package: made of a run once, sampled like a run ever after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any

import jax
from jaxtyping import PyTree

from jaxgan import archive
from jaxgan.config import InputError
from jaxgan.gan.state import TrainState
from jaxgan.runs.checkpoints import fresh_state
from jaxgan.runs.directory import RunRecord, decode_record, encode_record

_FOLDER = resources.files("jaxgan").joinpath("published")


def published_names() -> list[str]:
    """The names of the generators that come with the package."""
    if not _FOLDER.is_dir():
        return []
    return sorted(file.name.removesuffix(".npz") for file in _FOLDER.iterdir() if file.name.endswith(".npz"))


def encode_generator(record: RunRecord, state: TrainState, scores: Mapping[str, Any]) -> bytes:
    """The generator of a state (its average, where the run keeps one) with the run's record, step and scores."""
    record = replace(
        record, config=replace(record.config, data=replace(record.config.data, data_dir=None, manual_dir=None))
    )
    about = {"run": json.loads(encode_record(record)), "step": int(state.step), "scores": dict(scores)}
    return archive.pack(_generator(state), about)


def decode_generator(data: bytes) -> tuple[RunRecord, TrainState]:
    """The record of the run that a generator was made of, and a state with that generator and an untrained D.

    Raises:
        ValueError: It is something else, or damaged.
    """
    about = archive.read_record(data)
    record = decode_record(json.dumps(about["run"]))
    state = fresh_state(record)
    weights = archive.read_tree(data, _generator(state))
    gen = state.params._replace(gen=weights["params"])
    stats = state.batch_stats._replace(gen=weights["batch_stats"])
    average = None if state.average is None else weights["params"]
    step = jax.numpy.int32(about["step"])
    return record, state._replace(step=step, params=gen, batch_stats=stats, average=average)


def load_published(name: str) -> tuple[RunRecord, TrainState]:
    """The published generator of a name.

    Raises:
        InputError: The package's file is damaged.
    """
    try:
        return decode_generator(_FOLDER.joinpath(f"{name}.npz").read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the published generator {name} is damaged: install jaxgan again ({error})") from error


def _generator(state: TrainState) -> PyTree:
    params = state.params.gen if state.average is None else state.average
    return {"params": params, "batch_stats": state.batch_stats.gen}
