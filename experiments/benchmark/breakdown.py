"""Where does a step's time go?

JAX's profiler says how long each instruction of the compiled program ran, and the program's text what it is for
(`hlo.py`). Time in which none ran is dispatch: of the loop, of threads, of kernels. Recording makes short instructions
longer, so shares are of recorded time (their means over a few recordings), and the seconds beside them are those shares
of steps that are not recorded.
"""

from __future__ import annotations

import gzip
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmark import hlo
from experiments.benchmark.settings import Work, on_device
from experiments.benchmark.stats import spread

TRACED, TRACES = 200, 3
"""Steps that are recorded at once, and how often."""
DISPATCH = "dispatch"


class Event(NamedTuple):
    """One run of an instruction; times in microseconds."""

    name: str
    thread: tuple[int, int]
    start: float
    duration: float


def measure(work: Work) -> dict[str, Any]:
    """Shares and microseconds of a step by category, for every system."""
    return {"systems": {system: _measure(work, system) for system in work.settings.systems}}


def _measure(work: Work, system: str) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    from jaxgan import init_state, train_steps
    from jaxgan.gan.program import train_loop

    config, dataset = work.config(system), on_device(work)
    state = init_state(config, jax.random.key(0))
    text = train_loop.program.lower(config.structure, state, dataset, jnp.int32(1)).compile().as_text()
    microseconds: list[float] = []
    state, _ = train_steps(config, state, dataset, TRACED)
    length = TRACED
    for _ in range(work.settings.repeats + 1):  # The first says how many steps the others shall make.
        began = time.perf_counter()
        state, _ = train_steps(config, state, dataset, length)
        microseconds.append((time.perf_counter() - began) / length * 1e6)
        length = max(10, round(work.settings.seconds / microseconds[-1] * 1e6))
    kinds, recorded = hlo.categories(text), []
    for _ in range(TRACES):
        state, events = _record(lambda state=state: train_steps(config, state, dataset, TRACED)[0])
        recorded.append(attribute(events, kinds))
    shares = {name: statistics.fmean(each[name] for each in recorded) for name in recorded[0]}
    return {"microseconds": spread(microseconds[1:]), "shares": shares}


def _record(run: Callable[[], Any]) -> tuple[Any, list[Event]]:
    """What a function returns, and the instructions that ran meanwhile."""
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory(prefix="jaxgan-trace-") as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            returned = run()
        (path,) = Path(folder).rglob("*.trace.json.gz")
        return returned, list(read_events(json.loads(gzip.decompress(path.read_bytes()))))


def read_events(trace: Mapping[str, Any]) -> Iterable[Event]:
    """The runs of instructions in a trace of JAX's profiler."""
    for event in trace["traceEvents"]:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            yield Event(event["args"]["hlo_op"], (event["pid"], event["tid"]), event["ts"], event["dur"])


def attribute(events: Iterable[Event], categories: Mapping[str, str]) -> dict[str, float]:
    """Shares, which sum to 1, of the time from the first event's start to the last one's end.

    What an event holds of others on its thread (a loop of its body) is theirs. Where several threads run at once, busy
    time is shared out in proportion.
    """
    events = [event for event in events if event.name in categories]
    own: dict[str, float] = dict.fromkeys(hlo.CATEGORIES, 0.0)
    for thread in {event.thread for event in events}:
        stack: list[Event] = []
        for event in sorted((e for e in events if e.thread == thread), key=lambda e: (e.start, -e.duration)):
            while stack and event.start >= stack[-1].start + stack[-1].duration:
                stack.pop()
            own[categories[event.name]] += event.duration
            if stack:
                own[categories[stack[-1].name]] -= event.duration
            stack.append(event)
    busy, total = _covered(events)
    scale = busy / total / sum(own.values())
    return {name: value * scale for name, value in own.items()} | {DISPATCH: 1.0 - busy / total}


def _covered(events: list[Event]) -> tuple[float, float]:
    """Microseconds in which any event runs, and from the first start to the last end."""
    busy, first = 0.0, min(event.start for event in events)
    reached = first
    for event in sorted(events, key=lambda e: e.start):
        end = event.start + event.duration
        busy += max(0.0, end - max(event.start, reached))
        reached = max(reached, end)
    return busy, reached - first
