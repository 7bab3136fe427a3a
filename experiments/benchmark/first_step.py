"""A process that makes one step and says when it had done what: `start.py` runs it. Times are seconds since 1970."""

from __future__ import annotations

import time

ENTERED = time.time()

import json  # noqa: E402
import sys  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402


def main() -> None:
    """Imports, loads, compiles and steps."""
    import jax

    from jaxgan import PRESETS, init_state, load_dataset, train_steps

    preset, folders = sys.argv[1], json.loads(sys.argv[2])
    name, *paths = (folders[key] for key in ("name", "data_dir", "manual_dir"))
    data_dir, manual_dir = (Path(path) if path else None for path in paths)
    config = PRESETS[preset]
    config = replace(config, data=replace(config.data, name=name, data_dir=data_dir, manual_dir=manual_dir))
    jax.devices()
    imported = time.time()
    dataset = load_dataset(config, "train")
    jax.block_until_ready(dataset)
    loaded = time.time()
    state = init_state(config, jax.random.key(config.seed))
    train_steps(config, state, dataset, 1)
    print(json.dumps({"entered": ENTERED, "imported": imported, "loaded": loaded, "stepped": time.time()}))


if __name__ == "__main__":
    main()
