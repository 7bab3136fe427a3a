"""Markdown tables and a roofline plot of what was measured; nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark import goals, results
from experiments.benchmark.hlo import CATEGORIES
from experiments.benchmark.peers import OURS, PEERS
from experiments.benchmark.stats import spread

README = Path(__file__).parent / "README.md"
SUMMARY = Path(__file__).parents[2] / "README.md"
MARKS = ("<!-- tables -->", "<!-- end of tables -->")


def write(folder: Path, readme: Path, summary: Path) -> None:
    """Plots all results beside them, and makes tables anew between the marks of two Markdown files.

    Args:
        folder: Of the results.
        readme: Has everything about every machine.
        summary: Has steps per second beside peers.
    """
    from experiments.benchmark.roofline import plot

    all_found = {path: results.read(path) for path in sorted(folder.glob("*.json"))}
    for path, found in all_found.items():
        if "limit" in found["sections"]:
            plot(found, path.with_suffix(".png"))
    _fill(readme, (line for path, found in all_found.items() for line in machine_lines(path.stem, found)))
    _fill(summary, (line for found in all_found.values() for line in summary_lines(found)))


def _fill(file: Path, lines: Iterable[str]) -> None:
    before, _, rest = file.read_text().partition(MARKS[0])
    file.write_text("\n".join([before + MARKS[0], "", *lines, MARKS[1] + rest.partition(MARKS[1])[2]]))


def summary_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Steps per second of one machine, if they have been measured."""
    if "steps" in found["sections"]:
        yield f"Steps per second, median (least to most), on {_machine(found['machine'])}"
        yield ""
        yield from _rates(found["sections"]["steps"]["found"])
        yield ""
        yield from _changed(found["sections"]["steps"])


def machine_lines(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Everything about one machine."""
    sections = found["sections"]
    yield f"## {name}"
    yield ""
    yield _machine(found["machine"])
    yield from ("", "### Goals", "", *goals.lines(found["machine"], sections))
    for key, make in TABLES.items():
        if key in sections:
            section = sections[key]
            versions = ", ".join(f"{k} {v}" for k, v in section["versions"].items())
            yield from ("", f"### {TITLES[key]}", "", *make(section["found"]), "", *_changed(section))
            yield f"`{section['command']}`; Python {section['python']}, {versions}."
    if "limit" in sections:
        yield from ("", f"![roofline](results/{name}.png)")
    yield ""


def _changed(section: Mapping[str, Any]) -> Iterator[str]:
    for system in results.outdated(section):
        yield f"`{system}` is another preset now than when this was measured."
        yield ""


def _machine(facts: Mapping[str, Any]) -> str:
    cores = f"{facts['processor']}, cores: {facts['cores']}, {facts['memory_gb']} GB, {facts['system']}"
    device = "" if facts["device"] == "cpu" else f"{facts['device']}; "
    return f"{device}{cores}."


def steps_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Steps per second of all peers; the ratio is to the fastest of them, repeat by repeat."""
    yield from _rates(found)
    yield ""
    kinds = [
        f"{PEERS[name].title}: {', '.join(f'{k} {v}' for k, v in facts['versions'].items())} on {facts['device']}, "
        f"threads: {facts['threads']}"
        for name, facts in found["peers"].items()
    ]
    kinds += [f"{PEERS[name].title}: {reason}" for name, reason in found["missing"].items()]
    yield f"Steps/s, median (least to most). {'; '.join(kinds)}."
    check, failures = found["check"], found["failures"]
    count = sum(map(len, check["comparisons"].values()))
    yield ""
    least = min((loss["p"] for pair in check["comparisons"].values() for loss in pair.values()), default=1.0)
    yield (
        f"Losses after {check['steps']} steps, {check['seeds']} seeds each: of {count} comparisons with ours "
        f"{f'{len(failures)} differ' if failures else 'none differs'} "
        f"(Welch's test, level {check['level']} for all together; the least p-value is {least:.2g})."
    )


def _rates(found: Mapping[str, Any]) -> Iterator[str]:
    names = [name for name in PEERS if name in found["peers"]]
    yield from _head("system", *(PEERS[name].title for name in names), "jaxgan / fastest peer")
    for system, rates in found["systems"].items():
        cells = [_range(rates[name]) if name in rates else "" for name in names]
        yield _row(f"`{system}`", *cells, _ratio(rates))


def _ratio(rates: Mapping[str, Any]) -> str:
    peers = {name: rate["median"] for name, rate in rates.items() if name != OURS}
    if not peers:
        return ""
    fastest = max(peers, key=lambda name: peers[name])
    return _quotient(rates[OURS], rates[fastest])


def _quotient(rate: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    ratios = [a / b for a, b in zip(rate["values"], other["values"], strict=True)]
    return _range(spread(ratios), "{:.2f}")


def limit_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Operations, rates and shares of the limits."""
    on_gpu = any("kernels" in row for row in found["systems"].values())
    more = ("share of copy bandwidth", "kernels a step", "launch floor, steps/s") if on_gpu else ()
    yield from _head("system", "MFLOP a step", "XLA counts", "steps/s", "share of the matmul rate", *more)
    for system, row in found["systems"].items():
        flops = f"{row['flops'] / 1e6:,.1f}", f"{row['xla_flops'] / row['flops'] - 1:+.1%}"
        cells = [f"`{system}`", *flops, _range(row["rate"]), _range(row["share"], "{:.0%}")]
        if on_gpu:
            cells += [_range(row["copy_share"], "{:.0%}"), f"{row['kernels']}", f"{row['launch_floor']:,.0f}"]
        yield _row(*cells)
    yield ""
    yield (
        f"A float32 product of 4096-wide matrices makes {_range(found['matmul'], '{:,.0f}', 1e9)} GFLOP/s, "
        f"a copy {_range(found['copy'], '{:,.1f}', 1e9)} GB/s."
    )


def breakdown_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Microseconds of a step by category."""
    names = (*CATEGORIES, "dispatch")
    yield from _head("system", "microseconds a step", *names)
    for system, row in found["systems"].items():
        median = row["microseconds"]["median"]
        cells = [f"{share * median:,.0f} ({share:.0%})" for share in map(row["shares"].get, names)]
        yield _row(f"`{system}`", _range(row["microseconds"]), *cells)


def growth_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Rates and memory over sizes."""
    yield from _head("`vanilla` with", "steps/s of all members", "GFLOP/s", "peak memory, MB")
    for row in found["rows"]:
        speed = row["rate"]["median"] * row["flops"] / 1e9
        memory = row.get("device_memory", row["memory"]) / 1e6
        known = f"{memory:,.0f}" if memory else ""
        yield _row(f"{row['along']} {row['value']:,}", _range(row["rate"]), f"{speed:,.0f}", known)
    for along, reason in found["missing"].items():
        yield from ("", f"{along}: {reason}.")


def population_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Member-steps per second over sizes; ratios are to runs one after the other, repeat by repeat."""
    sizes = list(next(iter(found["systems"].values()), ()))
    yield from _head("member-steps/s", "one after the other", *(f"{size} members" for size in sizes[1:]))
    for system, rates in found["systems"].items():
        alone, *together = rates.values()
        cells = [f"{rate['median']:,.0f}: {_quotient(rate, alone)}" for rate in together]
        yield _row(f"`{system}`", _range(alone), *cells)
    for system, reason in found["missing"].items():
        yield from ("", f"{system}: {reason}.")


def start_table(found: Mapping[str, Any]) -> Iterator[str]:
    """Seconds by stage."""
    yield from _head("seconds", "cold", "warm cache")
    for stage in found["cold"]:
        yield _row(stage, *(_range(found[temperature][stage], "{:.2f}") for temperature in ("cold", "warm")))


def whole_table(found: Mapping[str, Any]) -> Iterator[str]:
    """One sentence."""
    peak = f"{found['peak_memory'] / 1e6:,.0f} MB" if found["peak_memory"] else "not known on this system"
    yield (
        f"`python -m jaxgan.train {found['system']}`, {found['steps']:,} steps: "
        f"{_range(found['seconds'], '{:,.1f}')} s from start to exit, {_range(found['overhead'], '{:+.1%}')} over "
        f"{_range(found['bare_seconds'], '{:,.1f}')} s of bare `train_steps`, half of them before and half after it; "
        f"peak memory {peak}."
    )


def quality_table(found: Mapping[str, Any]) -> Iterator[str]:
    """The distance over seconds, at a few places."""
    curve = found["curve"]
    shown = [*curve[:: max(1, len(curve) // 6)][:6], curve[-1]]
    yield from _head("seconds of training", "steps", "Fréchet distance")
    for i, point in enumerate(shown):
        if point not in shown[:i]:
            yield _row(f"{point['seconds']:.1f}", f"{point['step']:,}", f"{point['frechet']:.2f}")
    reached = f"reached after {found['seconds']:.1f} s" if found["seconds"] else "not reached"
    yield from ("", f"`{found['system']}`: a distance of {found['goal']:g} was {reached}.")


TABLES = {
    "steps": steps_table,
    "limit": limit_table,
    "breakdown": breakdown_table,
    "growth": growth_table,
    "population": population_table,
    "start": start_table,
    "whole": whole_table,
    "quality": quality_table,
}
TITLES = {
    "steps": "Steps per second, beside peers",
    "limit": "Share of the machine's limit",
    "breakdown": "Where a step's time goes",
    "growth": "Cost as the work grows",
    "population": "Populations, beside runs one after the other",
    "start": "Time to the first step",
    "whole": "A whole process",
    "quality": "Time to quality",
}


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield "|---" * len(names) + "|"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _range(values: Mapping[str, Any], form: str = "{:,.0f}", unit: float = 1.0) -> str:
    median, least, most = (form.format(values[name] / unit) for name in ("median", "least", "most"))
    return f"{median} ({least} to {most})"


def text(sections: Mapping[str, Any]) -> Iterable[str]:
    """The tables of sections as they are printed after a measurement."""
    for name, section in sections.items():
        yield from (f"{TITLES[name]}:", *TABLES[name](section["found"]), "")
