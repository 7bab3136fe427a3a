"""Stacked MNIST: three digits as colour channels, a thousand classes whose modes can be counted.

Metz et al. 2017, "Unrolled Generative Adversarial Networks" (arXiv:1611.02163), section 3.3.1.
"""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int

from jaxgan.data.cache import Arrays

COUNTS = {"train": 60_000, "test": 26_000}
_SEEDS = {"train": 0, "test": 1}
_PLACES = np.array([100, 10, 1], np.int32)


def stack(digits: Arrays, split: str) -> Arrays:
    """The stacked images of a split of MNIST: uint8 [n, 28, 28, 3], labels from 0 to 999, first channel first."""
    chosen = _choose(len(digits.labels), split)
    images = np.stack([digits.images[column, :, :, 0] for column in chosen.T], axis=-1)
    return Arrays(images, (digits.labels[chosen] * _PLACES[None]).sum(axis=1, dtype=np.int32))


def stacked_fingerprint(digits: str, counts: dict[str, int]) -> str:
    """The fingerprint of the stacked set: of the one of MNIST, and of which digits are stacked.

    Args:
        digits: Fingerprint of MNIST.
        counts: Digits in each split.
    """
    digest = hashlib.sha256(digits.encode())
    for split, count in counts.items():
        digest.update(np.ascontiguousarray(_choose(count, split)).data)
    return digest.hexdigest()


def _choose(count: int, split: str) -> Int[np.ndarray, "n 3"]:
    generator = np.random.Generator(np.random.PCG64(_SEEDS[split]))
    return generator.integers(0, count, (COUNTS[split], 3))
