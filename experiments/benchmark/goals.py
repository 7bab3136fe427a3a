"""What was wished for, beside what was measured."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, NamedTuple

from experiments.benchmark.peers import OURS, PEERS

STEPS_CPU = 2.5
"""Times the fastest peer, in steps/s of `vanilla`."""


class Goal(NamedTuple):
    """A row of the table."""

    what: str
    wished: str
    measured: str
    met: bool | None
    """None where it was not measured."""


def lines(machine: Mapping[str, Any], sections: Mapping[str, Any]) -> Iterator[str]:
    """A Markdown table of the goals for a machine of this kind."""
    found = {name: section["found"] for name, section in sections.items()}
    yield "| goal | wished for | measured | |"
    yield "|---|---|---|---|"
    for goal in (_of_cpu if machine["device"] == "cpu" else _of_gpu)(found):
        verdict = {True: "met", False: "missed", None: "open"}[goal.met]
        yield f"| {goal.what} | {goal.wished} | {goal.measured} | {verdict} |"
    if machine["device"] == "cpu":
        yield ""
        yield "The goals for GPUs are open as long as no results of one stand here."
        yield from _out_of_reach(found)


def _of_cpu(found: Mapping[str, Any]) -> Iterator[Goal]:
    fastest = [_times_the_fastest(rates) for rates in [_systems(found, "steps").get("vanilla", {})] if len(rates) > 1]
    yield _goal("`vanilla`, steps/s over the fastest peer's", operator.ge, STEPS_CPU, fastest, "{:.2f}")
    for system in ("vanilla", "modern"):
        shares = [row["share"]["median"] for row in [_systems(found, "limit").get(system)] if row]
        yield _goal(f"`{system}`, share of the matmul rate", operator.ge, 0.8, shares, "{:.0%}")
    whole = [found["whole"]] if "whole" in found else []
    overhead = [each["overhead"]["median"] for each in whole]
    yield _goal("`jaxgan.train vanilla`, whole process over bare steps", operator.le, 0.05, overhead, "{:+.1%}")
    memory = [each["peak_memory"] / 1e9 for each in whole if each["peak_memory"]]
    yield _goal("its peak memory, GB", operator.le, 1.0, memory, "{:.2f}")
    warm = found["start"]["warm"] if "start" in found else {}
    for stage, what in (("whole", "a program"), ("jaxgan.train", "`jaxgan.train vanilla`")):
        start = [warm[stage]["median"]] if stage in warm else []
        yield _goal(f"first step of {what}, warm cache, s", operator.le, 2.5, start, "{:.2f}")
    quality = [found["quality"]["seconds"]] if found.get("quality", {}).get("seconds") else []
    yield _goal("`modern`, Fréchet distance of 10 after, s", operator.le, 45.0, quality, "{:.1f}")


def _of_gpu(found: Mapping[str, Any]) -> Iterator[Goal]:
    rates = _systems(found, "steps").get("vanilla", {})
    ours = [rate["median"] for name, rate in rates.items() if name == OURS]
    yield _goal("`vanilla`, steps/s", operator.ge, 33_000.0, ours, "{:,.0f}")
    graph = [_ratio(rates[OURS], rates[name]) for name in rates if name == "torch-graph"]
    yield _goal("`vanilla` over PyTorch in a CUDA graph", operator.ge, 1.5, graph, "{:.2f}")
    members = _systems(found, "population").get("vanilla", {})
    alone, many = members.get("1"), members.get("256")
    gain = [_ratio(many, alone)] if many and alone else []
    yield _goal("256 members of `vanilla` over a single run", operator.ge, 50.0, gain, "{:.1f}")
    limit = found.get("limit")
    shares = []
    if many and limit and "vanilla" in limit["systems"]:
        shares = [many["median"] * limit["systems"]["vanilla"]["flops"] / limit["matmul"]["median"]]
    yield _goal("their share of the matmul rate", operator.ge, 0.4, shares, "{:.0%}")


def _out_of_reach(found: Mapping[str, Any]) -> Iterator[str]:
    """Says so where a wish is for more than the machine can do."""
    rates, limit = _systems(found, "steps").get("vanilla", {}), found.get("limit")
    peers = {name: rate["median"] for name, rate in rates.items() if name != OURS}
    if not peers or limit is None or "vanilla" not in limit["systems"]:
        return
    fastest = max(peers, key=peers.__getitem__)
    wished = STEPS_CPU * peers[fastest]
    most = limit["matmul"]["median"] / limit["systems"]["vanilla"]["flops"]
    if wished > most:
        yield ""
        yield (
            f"{STEPS_CPU} times the {PEERS[fastest].title} would be {wished:,.0f} steps/s, where the rate of the large "
            f"product allows {most:,.0f}."
        )


def _goal(what: str, meets: Any, wished: float, measured: list[float], form: str) -> Goal:
    sign = ">=" if meets is operator.ge else "<="
    shown = form.replace("+", "").format(wished)
    if not measured:
        return Goal(what, f"{sign} {shown}", "", None)
    return Goal(what, f"{sign} {shown}", form.format(measured[0]), bool(meets(measured[0], wished)))


def _systems(found: Mapping[str, Any], question: str) -> Mapping[str, Any]:
    return found.get(question, {}).get("systems", {})


def _times_the_fastest(rates: Mapping[str, Any]) -> float:
    peers = {name: rate["median"] for name, rate in rates.items() if name != OURS}
    return _ratio(rates[OURS], rates[max(peers, key=peers.__getitem__)])


def _ratio(rate: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The median of the ratios, repeat by repeat."""
    return median(a / b for a, b in zip(rate["values"], other["values"], strict=True))
