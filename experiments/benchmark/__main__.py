"""How fast is `jaxgan`, beside its peers and beside what the machine can do?

    pip install -c constraints.txt '.[benchmark]'
    python -m experiments.benchmark                    # everything
    python -m experiments.benchmark steps limit        # some questions
    python -m experiments.benchmark --quick            # whether all works; writes nothing
    python -m experiments.benchmark tables             # both README.md and the plots anew from the results

Questions: steps, limit, breakdown, growth, population, start, whole, quality; each is a module here. Results go into
one JSON file a machine, and from there into the tables. Exit code 1: a check failed (a peer's losses are not ours, or
XLA counts other operations than we do), and the section that it belongs to is not written.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.benchmark import results, tables
from experiments.benchmark.peers import PEERS
from experiments.benchmark.settings import QUICK, SYSTEMS, Settings, prepared
from jaxgan import cli
from jaxgan.config import DataConfig, InputError

Question = Literal["steps", "limit", "breakdown", "growth", "population", "start", "whole", "quality", "tables"]
QUESTIONS: tuple[Question, ...] = ("steps", "limit", "breakdown", "growth", "population", "start", "whole", "quality")
COMMAND = "python -m experiments.benchmark"
FAILED = 1


@dataclass(frozen=True)
class Data:
    """Where the images come from, less 5,000 held-out ones; presets keep their own order."""

    name: Literal["auto", "mnist", "fashion_mnist", "kmnist", "digits"] = "auto"
    """Data set; auto is mnist where it can be had, else the embedded digits."""
    data_dir: Path | None = None
    """Folder of prepared data sets."""
    manual_dir: Path | None = None
    """Folder that holds the original gz files of the data set."""


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    questions: Annotated[tuple[Question, ...], tyro.conf.Positional] = QUESTIONS
    """What to measure, or tables."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Small sizes and few repeats: says whether all works, and its figures mean nothing."""
    systems: tuple[str, ...] = ()
    """Presets to time; by default all six, with --quick two."""
    peers: tuple[str, ...] = ()
    """Peers beside jaxgan; by default all that are installed."""
    results: Path | None = None
    """Folder of the results; by default this module's, with --quick none."""
    data: Data = field(default_factory=Data)


def main(arguments: Sequence[str]) -> int:
    """Answers the questions in turn; returns the exit code."""
    program, _, door = COMMAND.rpartition(".")
    wanted = cli.parse(Arguments, arguments, usage=door, description=__doc__ or "", program=program)
    settings = _settings(wanted)
    folder = wanted.results or (None if wanted.quick else results.FOLDER)
    if "tables" in wanted.questions:
        if len(wanted.questions) > 1:
            raise InputError("tables measures nothing: name it alone")
        tables.write(folder or results.FOLDER, tables.README, tables.SUMMARY)
        return 0
    # Peers share a GPU, so JAX must not take all of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    cli.start_jax()
    from experiments.benchmark import machine

    facts, command = machine.describe(), _command(wanted)
    failures: list[str] = []
    with prepared(settings, DataConfig(**asdict(wanted.data))) as work:
        for question in wanted.questions:
            found: dict[str, Any] = import_module(f"experiments.benchmark.{question}").measure(work)
            sections = {question: results.section(command, settings, facts, found)}
            print("\n".join(tables.text(sections)), flush=True)
            failures += found.get("failures", [])
            if folder and not found.get("failures"):
                print(f"wrote {results.add(folder, facts, sections)}", flush=True)
    for line in failures:
        print(f"benchmark: failed: {line}", file=sys.stderr)
    return FAILED if failures else 0


def _settings(wanted: Arguments) -> Settings:
    for flag, names, known in (("--systems", wanted.systems, SYSTEMS), ("--peers", wanted.peers, tuple(PEERS))):
        for name in names:
            if name not in known:
                raise InputError(f"{flag} {name} is none of {', '.join(known)}")
    settings = QUICK if wanted.quick else Settings()
    return replace(settings, systems=wanted.systems or settings.systems, peers=wanted.peers)


def _command(wanted: Arguments) -> str:
    """The command that repeats this, without the folders of this machine."""
    words = COMMAND.split()
    words += wanted.questions if wanted.questions != QUESTIONS else ()
    words += ["--quick"] if wanted.quick else []
    for flag, names in (("--systems", wanted.systems), ("--peers", wanted.peers)):
        words += [flag, *names] if names else []
    words += ["--data.name", wanted.data.name] if wanted.data.name != "auto" else []
    return shlex.join(words)


if __name__ == "__main__":
    cli.run(main)
