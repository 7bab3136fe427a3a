"""How many member-steps per second does a population make, beside runs one after the other?

Each size has a process of its own, since the number of JAX's CPU devices is fixed when it starts; in every repeat each
makes one piece in turn. A run that follows another costs what more steps of one run cost, so one run stands for them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from experiments.benchmark.flops import step_flops
from experiments.benchmark.peers import OURS, POPULATION
from experiments.benchmark.processes import PeerMissing, Process, peer_process
from experiments.benchmark.settings import Work
from experiments.benchmark.stats import spread
from jaxgan.runs.sweeping import SHORTEST_PIECE

SYSTEMS = ("vanilla", "modern")
MEMBERS = (2, 4, 8, 16, 32, 64)
MORE_MEMBERS = (256, 1024)
"""On an accelerator, which takes many to be filled."""
ONE_BY_ONE = 1
FEWEST = SHORTEST_PIECE
"""Steps of each member in a piece, however long they take: what a sweep makes."""


def measure(work: Work) -> dict[str, Any]:
    """Member-steps per second by system and size; those of runs one after the other under 1."""
    found: dict[str, Any] = {"systems": {}, "missing": {}}
    for system in SYSTEMS:
        if system not in work.settings.systems:
            continue
        try:
            found["systems"][system] = _measure(work, system)
        except PeerMissing as reason:
            found["missing"][system] = str(reason)
    return found


def _measure(work: Work, system: str) -> dict[str, Any]:
    import jax

    config = work.config(system)
    with ExitStack() as stack:
        processes: dict[int, Process] = {}
        sizes = MEMBERS if jax.devices()[0].platform == "cpu" else MEMBERS + MORE_MEMBERS
        sizes = [members for members in sizes if members * step_flops(config) <= work.settings.largest]
        for members in (ONE_BY_ONE, *sizes):
            alone = members == ONE_BY_ONE
            processes[members] = stack.enter_context(peer_process(OURS if alone else POPULATION))
            processes[members].build(config, work.images, **({} if alone else {"members": members}))
            processes[members].train(1)
        lengths = {n: max(FEWEST, round(p.rate(FEWEST) * work.settings.seconds)) for n, p in processes.items()}
        rates: dict[int, list[float]] = {members: [] for members in processes}
        for _ in range(work.settings.repeats):
            for members, process in processes.items():
                rates[members].append(process.rate(lengths[members]) * members)
    return {str(members): spread(values) for members, values in rates.items()}
