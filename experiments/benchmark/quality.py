"""How many seconds of training until `modern` reaches a Fréchet distance of 10?

Scores are those that `--eval-every` journals: as many samples as there are validation images, against those. Compiling
counts, loading and scoring do not.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from experiments.benchmark.settings import Work, on_device

SYSTEM = "modern"
GOAL = 10.0
PIECE = 500
"""Steps between scores."""


def measure(work: Work) -> dict[str, Any]:
    """The curve of distances over seconds, and when it first reached the goal: None where it did not."""
    import jax

    from jaxgan import init_state, train_steps
    from jaxgan.yardsticks import validation_scorer

    config = work.config(SYSTEM)
    config = replace(config, data=replace(config.data, holdout=max(config.data.holdout, 5000)))
    score, dataset = validation_scorer(config).scores, on_device(work)
    state, seconds, curve = init_state(config, jax.random.key(config.seed)), 0.0, []
    piece = min(PIECE, work.settings.quality_steps)
    for step in range(piece, work.settings.quality_steps + 1, piece):
        began = time.perf_counter()
        state, _ = train_steps(config, state, dataset, piece)
        seconds += time.perf_counter() - began
        curve.append({"step": step, "seconds": seconds, "frechet": score(state)["score/frechet"]})
        if curve[-1]["frechet"] <= GOAL:
            break
    reached = curve[-1]["seconds"] if curve[-1]["frechet"] <= GOAL else None
    return {"system": SYSTEM, "goal": GOAL, "seconds": reached, "curve": curve}
