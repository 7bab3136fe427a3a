"""Makes a published generator of a run: `jaxgan/published/NAME.npz`, which `python -m jaxgan.sample NAME` draws from.

    python experiments/publish.py RUN NAME

The run's newest checkpoint is taken, with its row of the run's `scores.json`.
`python -m jaxgan.evaluate NAME` scores it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxgan import cli
from jaxgan.runs.directory import read_record, write_atomically
from jaxgan.runs.loading import load_state
from jaxgan.runs.published import encode_generator
from jaxgan.runs.scores import SCORES, read_scores

PUBLISHED = Path(__file__).parents[1] / "jaxgan" / "published"


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, scored by `python -m jaxgan.evaluate`."""
    name: Annotated[str, tyro.conf.Positional]
    """What the generator is called."""


def main(words: Sequence[str]) -> int:
    """Writes the published generator; returns the exit code."""
    wanted = tyro.cli(Arguments, description=__doc__, args=words)
    record = read_record(wanted.run)
    state = load_state(wanted.run, record, None)
    scores = read_scores(wanted.run / SCORES)
    about = {"network": scores.protocol.network, "against": scores.protocol.against, "num": scores.protocol.num}
    content = encode_generator(record, state, {**about, "scores": scores.checkpoints[int(state.step)]})
    PUBLISHED.mkdir(exist_ok=True)
    write_atomically(PUBLISHED / f"{wanted.name}.npz", content)
    print(f"{wanted.name}: step {int(state.step):,} of {wanted.run}, {len(content):,} bytes")
    return 0


if __name__ == "__main__":
    cli.run(main)
