"""The roofline of a machine: what it can compute and copy, and where each system stands below that.

References:
    Williams, Waterman and Patterson 2009, "Roofline: An Insightful Visual Performance Model".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmark.peers import OURS


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Writes the plot of one machine's results, which have a section `limit`; with `steps` also the fastest peers."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    limit = found["sections"]["limit"]["found"]
    rates = found["sections"].get("steps", {}).get("found", {}).get("systems", {})
    matmul, copy = limit["matmul"]["median"], limit["copy"]["median"]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    intensities = np.geomspace(1, 1000, 200)
    axes.plot(intensities, np.minimum(matmul, copy * intensities) / 1e9, color="0.3")
    rate = f"4096-wide matmul, {matmul / 1e9:,.0f} GFLOP/s"
    axes.annotate(rate, (intensities[-1], 0.97 * matmul / 1e9), ha="right", va="top", color="0.3")
    axes.annotate(f"copy, {copy / 1e9:,.0f} GB/s", (2.0, 1.5 * copy / 1e9), ha="left", va="center", color="0.3")
    for i, (system, row) in enumerate(limit["systems"].items()):
        intensity, color = row["flops"] / row["bytes"], f"C{i}"
        # Where they have raced, both come from the race.
        ours = rates.get(system, {}).get(OURS, row["rate"])["median"]
        axes.scatter(intensity, ours * row["flops"] / 1e9, color=color, zorder=3, label=system)
        peers = [rate["median"] for name, rate in rates.get(system, {}).items() if name != OURS]
        if peers:
            axes.scatter(intensity, max(peers) * row["flops"] / 1e9, facecolors="none", edgecolors=color, zorder=3)
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s", title=_title(found["machine"]))
    axes.set_xlabel("operations a byte, where the training state is read and written once a step")
    axes.legend(title="filled: jaxgan, hollow: fastest peer", fontsize="small", loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _title(facts: Mapping[str, Any]) -> str:
    return facts["device"] if facts["device"] != "cpu" else f"{facts['processor']}, cores: {facts['cores']}"
