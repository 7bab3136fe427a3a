"""Medians of repeats, and whether two trainers train alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import ttest_ind

LEVEL = 0.01
"""Of runs of the benchmark in which all peers are right, the share that fails nevertheless, at most."""


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least, most, and the values themselves, in the order of their repeats."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "values": list(values)}


def welch(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The p-value of Welch's two-sided test that two samples have one mean; 0 where a loss is not finite.

    References:
        Welch 1947, "The generalization of Student's problem when several different population variances are involved".
    """
    if not all(map(math.isfinite, (*ours, *theirs))):
        return 0.0
    if len({*ours, *theirs}) == 1:
        return 1.0
    found: Any = ttest_ind(ours, theirs, equal_var=False)
    return float(found.pvalue)


def compare(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Means over seeds of each loss, ours and theirs, and the p-value of their difference."""
    return {
        name: {
            "ours": statistics.fmean(ours[name]),
            "theirs": statistics.fmean(theirs[name]),
            "p": welch(ours[name], theirs[name]),
        }
        for name in ours
    }


def disagreements(comparisons: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The comparisons that fail, each as a line; LEVEL is divided by their number (Bonferroni).

    Args:
        comparisons: What `compare` found, by the name of the pair that was compared.
    """
    count = sum(len(found) for found in comparisons.values())
    return [
        f"{pair}: {name} is {row['theirs']:.4f}, ours {row['ours']:.4f} (p = {row['p']:.1e} < {LEVEL / count:.1e})"
        for pair, found in comparisons.items()
        for name, row in found.items()
        if row["p"] < LEVEL / count
    ]
