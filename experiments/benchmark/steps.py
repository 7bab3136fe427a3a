"""How many steps per second does one run make, and how many do others who train the same GAN?

All peers live in processes of their own; in every repeat each makes one piece in turn, so that a slow moment of the
machine hits all. Then each trains several seeds, and the benchmark fails where its losses are not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from experiments.benchmark.peers import LOSSES, OURS, PEERS
from experiments.benchmark.processes import PeerMissing, Process, peer_process
from experiments.benchmark.settings import Work
from experiments.benchmark.stats import LEVEL, compare, disagreements, spread

WARM_UP = 20
"""Steps in which a peer compiles, traces and captures."""


def measure(work: Work) -> dict[str, Any]:
    """Rates of all peers on all systems, who was missing, and whether losses are the same."""
    settings = work.settings
    names = [OURS, *(name for name in PEERS if name != OURS and name in (settings.peers or PEERS))]
    found: dict[str, Any] = {"systems": {}, "peers": {}, "missing": {}}
    comparisons: dict[str, dict[str, dict[str, float]]] = {}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(peer_process(name)) for name in names}
        for system in settings.systems:
            ready = _build(processes, work, system, found)
            found["systems"][system] = {name: spread(rates) for name, rates in _race(ready, work).items()}
            losses = {name: _losses(process, work) for name, process in ready.items()}
            comparisons |= {
                f"{system}, {PEERS[name].title}": compare(losses[OURS], theirs)
                for name, theirs in losses.items()
                if name != OURS
            }
    return found | {
        "check": {"level": LEVEL, "seeds": settings.seeds, "steps": settings.check_steps, "comparisons": comparisons},
        "failures": disagreements(comparisons),
    }


def _build(processes: Mapping[str, Process], work: Work, system: str, found: dict[str, Any]) -> dict[str, Process]:
    """Those of the peers that train a system, compiled and warm; notes in `found` what they are or lack."""
    ready = {}
    for name, process in processes.items():
        if name in found["missing"] or system not in (PEERS[name].systems or (system,)):
            continue
        try:
            process.build(work.config(system), work.images)
        except PeerMissing as reason:
            found["missing"][name] = str(reason)
            continue
        if process.facts["device"] == "cpu" != processes[OURS].facts["device"]:
            found["missing"][name] = "sees no accelerator here"
            continue
        process.train(WARM_UP)
        found["peers"][name] = process.facts
        ready[name] = process
    return ready


def _race(ready: Mapping[str, Process], work: Work) -> dict[str, list[float]]:
    """Steps per second of each repeat; each repeat begins with another peer."""
    lengths = {name: max(WARM_UP, round(p.rate(WARM_UP) * work.settings.seconds)) for name, p in ready.items()}
    rates: dict[str, list[float]] = {name: [] for name in ready}
    names = list(ready)
    for repeat in range(work.settings.repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            rates[name].append(ready[name].rate(lengths[name]))
    return rates


def _losses(process: Process, work: Work) -> dict[str, list[float]]:
    """Each seed's mean losses over the second half of its steps."""
    steps, means = work.settings.check_steps, []
    for seed in range(work.settings.seeds):
        process.start(seed)
        means.append(process.train(steps, window=steps // 2)["losses"])
    return {name: [each[name] for each in means] for name in LOSSES}
