"""What a machine is and how fast it can be: no host name, so that a result tells of hardware and versions alone."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

MATMUL = 4096
"""Width of the float32 product whose rate is the limit."""
COPIED = 256 * 2**20
"""Bytes of the array whose copy gives the bandwidth: larger than any cache."""


def describe() -> dict[str, Any]:
    """Model, cores, memory, device and versions; starts JAX."""
    import jax

    device = jax.devices()[0]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "device": device.device_kind if device.platform != "cpu" else "cpu",
        "thread_variables": {k: v for k, v in os.environ.items() if k.endswith("_NUM_THREADS") or k == "XLA_FLAGS"},
        "versions": {name: metadata.version(name) for name in ("jaxgan", "jax", "jaxlib", "flax", "optax", "numpy")},
    }


def name(facts: Mapping[str, Any]) -> str:
    """A file name for a machine: `amd-epyc-2-cores`, or the name of its accelerator."""
    text = facts["device"] if facts["device"] != "cpu" else f"{facts['processor']} {facts['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def matmul_rate(repeats: int = 3) -> float:
    """Operations per second of float32 products of MATMUL-wide square matrices, one after the other: the best of a few.

    On a GPU it is at JAX's default precision, which is that of the training program too.
    """
    import jax

    # So scaled, a product is about as large as its factors.
    a = jax.random.normal(jax.random.key(0), (MATMUL, MATMUL)) * MATMUL**-0.5
    products = 4 if jax.devices()[0].platform == "cpu" else 40
    return 2 * MATMUL**3 / _best_seconds(lambda _, x: x @ a, a, products, repeats)


def copy_bandwidth(repeats: int = 5) -> float:
    """Bytes read and written per second where a large array is read and written in its place: the best of a few."""
    import jax.numpy as jnp

    return 2 * COPIED / _best_seconds(lambda _, x: x + 1.0, jnp.ones(COPIED // 4), 40, repeats)


def launch_floor(kernels: int, steps: int = 200, repeats: int = 5) -> float:
    """Steps per second of a loop whose step is a chain of `kernels` kernels that do next to nothing."""
    import jax
    import jax.numpy as jnp

    def step(_: Any, x: Any) -> Any:
        for _ in range(kernels):
            # The barrier keeps XLA from making one kernel of all.
            x = jax.lax.optimization_barrier(x + 1.0)
        return x

    return 1.0 / _best_seconds(step, jnp.zeros(()), steps, repeats)


def _best_seconds(step: Any, start: Any, steps: int, repeats: int) -> float:
    """Seconds of a step of a loop of a traced length, as a training is, in the best of a few.

    In a loop neither the start of a program counts nor memory that the system has to find.
    """
    import jax

    loop = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, step, x))
    loop(start, steps).block_until_ready()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        loop(start, steps).block_until_ready()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / steps
