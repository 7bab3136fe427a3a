"""A sweep's directory: what it says of its members, which of them are done, and where things are."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxgan.config import Config, InputError, leaves
from jaxgan.runs.directory import (
    FORMAT,
    MEMBERS,
    SWEEP,
    DatasetRecord,
    RunRecord,
    check_new,
    encode_record,
    free_directory,
    holds_run,
    read_record_file,
    write_atomically,
)
from jaxgan.runs.journal import encode_row, read_row_file

RESULTS = "results.jsonl"

Result = dict[str, Any]
"""A row of `results.jsonl`: what a member is, how far it came, and its scores."""

DEFAULT_KEEP = 1
"""How many of the best members become run directories where nothing is said."""

COLLAPSED_KL = math.log(2)
"""KL to the data's classes, in nats, of a generator that leaves out half of the classes."""
COLLAPSED_RECALL = 0.01


@dataclass(frozen=True)
class SweepRecord:
    """What `sweep.json` holds."""

    format: int
    preset: str
    fields: tuple[str, ...]
    """Dotted names of the fields in which members differ."""
    members: tuple[Config, ...]
    waves: tuple[tuple[int, ...], ...]
    """Indices of the members that are trained at once, wave after wave; each wave is of one structure and length."""
    dataset: DatasetRecord
    versions: dict[str, str]
    keep: int = DEFAULT_KEEP  # A sweep of before did not say.
    """How many of the best members become run directories."""

    def __post_init__(self) -> None:
        for member in self.members:
            self.dataset.check_labels(member)

    def run_record(self, member: int) -> RunRecord:
        """What the `config.json` of a member says that is exported as a run."""
        return RunRecord(FORMAT, self.preset, self.members[member], self.dataset, self.versions)


def holds_sweep(path: Path) -> bool:
    """Whether a directory holds a sweep."""
    return (path / SWEEP).is_file()


def check_new_sweep(path: Path) -> None:
    """Raises InputError where a new sweep cannot be put into `path`."""
    if holds_sweep(path):
        raise InputError(f"{path} holds a sweep already: add --resume to continue it, or name another --run-dir")
    if holds_run(path):
        raise InputError(f"{path} holds a run, not a sweep: name another --run-dir")
    check_new(path, SWEEP)


def write_sweep(path: Path, record: SweepRecord) -> None:
    """Writes `sweep.json`."""
    write_atomically(path / SWEEP, encode_record(record).encode(), sync=True)


def read_sweep(path: Path) -> SweepRecord:
    """Reads `sweep.json`.

    Raises:
        InputError: There is no sweep, or its record is damaged or of another format.
    """
    if not holds_sweep(path):
        raise InputError(f"{path} holds no sweep: it has no {SWEEP}")
    return read_record_file(path / SWEEP, SweepRecord)


def lengthen(run: Path, record: SweepRecord, num_steps: int) -> SweepRecord:
    """Makes a sweep longer: no member is done any more.

    Exported members and results are put aside, as `members-<steps they made>` and `results-<steps>.jsonl`.
    """
    longer = replace(record, members=tuple(replace(member, num_steps=num_steps) for member in record.members))
    made = record.members[0].num_steps
    # A kill on the way leaves the shorter sweep, whose members are only to be scored again.
    for name, aside in ((MEMBERS, f"{MEMBERS}-{made}"), (RESULTS, f"results-{made}.jsonl")):
        if (run / name).exists():
            (run / name).rename(free_directory(run / aside))
    write_sweep(run, longer)
    return longer


def has_begun(run: Path, record: SweepRecord) -> bool:
    """Whether there is anything of a sweep's waves that another cut into waves would lose."""
    from jaxgan.runs.checkpoints import checkpoint_steps  # With JAX and Orbax, which nothing else here needs.

    folders = (wave_folder(run, wave) for wave in range(len(record.waves)))
    return bool(read_results(run)) or any(map(checkpoint_steps, folders))


def metrics_file(run: Path, member: int) -> Path:
    """The rows of metrics of a member."""
    return run / "metrics" / f"{member}.jsonl"


def wave_folder(run: Path, wave: int) -> Path:
    """Where the checkpoints of a wave are, and afterwards pictures of its members."""
    return run / "waves" / str(wave)


def member_folder(run: Path, member: int) -> Path:
    """The run directory of a member that is exported."""
    return run / MEMBERS / str(member)


def field_values(config: Config, fields: Sequence[str]) -> dict[str, Any]:
    """What a member has in the fields that are swept; tuples as lists."""
    values = dict(leaves(config))
    return {name: list(values[name]) if isinstance(values[name], tuple) else values[name] for name in fields}


def show_value(value: Any) -> str:
    """A value as it is typed behind its flag."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def has_collapsed(scores: Mapping[str, float]) -> bool:
    """Whether a generator draws few kinds of images.

    It does where its histogram of classes is as far from the data's as one that leaves out half of the classes
    (KL >= ln 2), or where fewer than one in a hundred real images have a sample in their neighbourhood (recall).
    """
    return not (scores["classes/kl"] < COLLAPSED_KL and scores["recall/3"] >= COLLAPSED_RECALL)


def make_result(
    record: SweepRecord, member: int, step: int, network: str, scores: Mapping[str, float] | None
) -> Result:
    """The row of a member that has come to `step`; scores, by a feature network, are None where it diverged there."""
    config = record.members[member]
    row: Result = {"member": member, "seed": config.seed, **field_values(config, record.fields), "step": step}
    row |= {
        "network": network,
        "diverged": scores is None,
        "collapsed": None if scores is None else has_collapsed(scores),
    }
    return row | {name: value if math.isfinite(value) else None for name, value in (scores or {}).items()}


def best_members(results: Sequence[Result]) -> list[Result]:
    """Results that have a Fréchet distance, the least first."""
    return sorted((row for row in results if row.get("frechet") is not None), key=lambda row: row["frechet"])


def read_results(run: Path) -> list[Result]:
    """The rows of the members that are done."""
    return read_row_file(run / RESULTS, "member")


def check_network(run: Path, network: str) -> None:
    """Raises InputError where results are of another feature network: their scores could not be compared."""
    for row in read_results(run):
        if (other := row.get("network", network)) != network:
            raise InputError(
                f"{run} has scores of the feature network {other}, and the data set here has {network}: bring back the "
                "folder of the data set, or begin anew in another --run-dir"
            )


def write_results(run: Path, results: Sequence[Result]) -> None:
    """Writes `results.jsonl`, by member."""
    rows = sorted(results, key=lambda row: row["member"])
    write_atomically(run / RESULTS, "".join(map(encode_row, rows)).encode(), sync=True)


def write_samples(run: Path, wave: int, images: UInt8[np.ndarray, "members n h w c"]) -> None:
    """Keeps the pictures of a wave's members."""
    buffer = io.BytesIO()
    np.save(buffer, images, allow_pickle=False)
    write_atomically(wave_folder(run, wave) / "samples.npy", buffer.getvalue())


def read_samples(run: Path, wave: int) -> UInt8[np.ndarray, "members n h w c"]:
    """The pictures of a wave's members.

    Raises:
        InputError: They are damaged or missing.
    """
    path = wave_folder(run, wave) / "samples.npy"
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: remove {run / RESULTS}, and --resume scores all members anew") from error


def describe(record: SweepRecord, member: int) -> str:
    """A member in words: its number, its seed, and its values of the swept fields."""
    values = field_values(record.members[member], [name for name in record.fields if name != "seed"])
    shown = "".join(f"  {name} {show_value(value)}" for name, value in values.items())
    return f"member {member}  seed {record.members[member].seed}{shown}"


def encode_members(record: SweepRecord) -> str:
    """All members as one text, to compare sweeps by."""
    return json.dumps([dict(leaves(member)) for member in record.members], default=str)
