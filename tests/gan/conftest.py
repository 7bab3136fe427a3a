"""One small data set, and one fresh state of each preset."""

from __future__ import annotations

from collections.abc import Callable

import jax
import pytest
from small_runs import LABEL_COUNTS, random_dataset

from jaxgan.gan.batches import Dataset
from jaxgan.gan.state import TrainState, init_state
from jaxgan.presets import PRESETS


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """512 images of 28 x 28 random bytes."""
    return random_dataset(512, classes=len(LABEL_COUNTS))


@pytest.fixture(scope="session")
def fresh() -> Callable[[str], TrainState]:
    """State 0 of a preset with seed 0: an own copy at each call, since training consumes it."""
    return lambda preset: init_state(PRESETS[preset], jax.random.key(0), label_counts=LABEL_COUNTS)
