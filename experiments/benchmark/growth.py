"""How does the cost grow with the work?

`vanilla` with other batches, widths, depths, and as a population; each in a process of its own, whose peak memory
stands beside its rate. Populations count the steps of all members.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from experiments.benchmark.flops import step_flops
from experiments.benchmark.peers import OURS, POPULATION
from experiments.benchmark.processes import PeerMissing, peer_process
from experiments.benchmark.settings import Work
from experiments.benchmark.stats import spread
from jaxgan.config import Config

PIECES = 3
FEWEST = 3
"""Steps in a piece, however long they take."""

BATCHES = (32, 128, 512, 2048, 8192)
WIDTHS = (128, 256, 512, 1024, 2048, 4096)
DEPTHS = (1, 2, 4, 8)
POPULATIONS = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Case:
    """One size."""

    along: str
    value: int
    config: Config
    members: int | None = None

    @property
    def flops(self) -> int:
        """Operations in a step of all members."""
        return step_flops(self.config) * (self.members or 1)


def cases(vanilla: Config) -> Iterator[Case]:
    """All sizes that are timed, smallest first."""
    for batch in BATCHES:
        yield Case("batch", batch, replace(vanilla, batch_size=batch))
    for width in WIDTHS:
        yield Case("width", width, _with_widths(vanilla, (width,)))
    for depth in DEPTHS:
        yield Case("depth", depth, _with_widths(vanilla, (128,) * depth))
    for members in POPULATIONS:
        yield Case("population", members, vanilla, members)


def _with_widths(config: Config, widths: tuple[int, ...]) -> Config:
    return replace(config, gen=replace(config.gen, widths=widths), disc=replace(config.disc, widths=widths))


def measure(work: Work) -> dict[str, Any]:
    """Rates and memory over sizes; without populations where the package has none."""
    rows, missing = [], {}
    for case in cases(work.config("vanilla")):
        if case.flops > work.settings.largest or case.along in missing:
            continue
        try:
            rows.append(_measure(work, case))
        except PeerMissing as reason:
            missing[case.along] = str(reason)
    return {"rows": rows, "missing": missing}


def _measure(work: Work, case: Case) -> dict[str, Any]:
    name, options = (OURS, {}) if case.members is None else (POPULATION, {"members": case.members})
    with peer_process(name) as process:
        process.build(case.config, work.images, **options)
        process.train(FEWEST)
        length = max(FEWEST, round(process.rate(FEWEST) * work.settings.seconds))
        rates = [process.rate(length) * (case.members or 1) for _ in range(PIECES)]
        memory = process.memory()
    return {"along": case.along, "value": case.value, "flops": case.flops // (case.members or 1)} | {
        "rate": spread(rates),
        **memory,
    }
