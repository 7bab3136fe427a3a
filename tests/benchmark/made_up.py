"""Made-up findings of every question."""

from __future__ import annotations

from typing import Any

from experiments.benchmark.breakdown import DISPATCH
from experiments.benchmark.hlo import CATEGORIES
from experiments.benchmark.stats import spread

FACTS = {
    "processor": "Some CPU (R) 9000",
    "cores": 2,
    "memory_gb": 25,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "device": "cpu",
    "thread_variables": {},
    "versions": {"jaxgan": "0.1.0"},
}


def found() -> dict[str, Any]:
    """Made-up findings of every question."""
    peer = {"device": "cpu", "threads": 2, "versions": {"torch": "2.13.0"}}
    rates = {"jaxgan": spread([100.0, 110.0, 90.0]), "torch-eager": spread([50.0, 44.0, 60.0])}
    rates["jax-loop"] = spread([20.0, 20.0, 20.0])
    same = {"vanilla, PyTorch eager": {"loss/gen": {"ours": 1.0, "theirs": 1.1, "p": 0.5}}}
    row = {"flops": 2_000_000_000, "xla_flops": 2_100_000_000, "bytes": 10**7}
    row |= {"rate": spread([100.0]), "share": spread([0.5])}
    return {
        "steps": {
            "systems": {"vanilla": rates},
            "peers": dict.fromkeys(rates, peer),
            "missing": {"keras": "not installed: no keras"},
            "check": {"level": 0.01, "seeds": 8, "steps": 100, "comparisons": same},
            "failures": [],
        },
        "limit": {"matmul": spread([4e11]), "copy": spread([2e10]), "systems": {"vanilla": row}, "failures": []},
        "breakdown": {
            "systems": {
                "vanilla": {"microseconds": spread([1000.0]), "shares": dict.fromkeys([*CATEGORIES, DISPATCH], 0.2)}
            }
        },
        "growth": {
            "rows": [{"along": "batch", "value": 8192, "flops": 10**9, "rate": spread([3.0]), "memory": 5 * 10**8}],
            "missing": {"population": "not installed: none"},
        },
        "population": {"systems": {"vanilla": {"1": spread([100.0]), "2": spread([130.0])}}, "missing": {}},
        "start": {name: {"whole": spread([value])} for name, value in (("cold", 3.0), ("warm", 1.5))},
        "whole": {
            "system": "vanilla",
            "steps": 1000,
            "seconds": spread([10.5]),
            "bare_seconds": spread([10.0]),
            "overhead": spread([0.05]),
            "peak_memory": 7 * 10**8,
        },
        "quality": {
            "system": "modern",
            "goal": 10.0,
            "seconds": None,
            "curve": [{"step": 500 * i, "seconds": 5.0 * i, "frechet": 100.0 / i} for i in range(1, 9)],
        },
    }
