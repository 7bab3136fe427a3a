"""A process that makes one step and says when it had done what: `start.py` runs it. Times are seconds since 1970."""

from __future__ import annotations

import time

ENTERED = time.time()

import json  # noqa: E402
import sys  # noqa: E402

import cattrs  # noqa: E402


def main() -> None:
    """Imports, loads, compiles and steps."""
    import jax

    from jaxgan import Config, init_state, load_dataset, train_steps
    from jaxgan.data.cache import checksum  # noqa: F401 (what loading imports counts as importing)

    config = cattrs.structure(json.loads(sys.argv[1]), Config)
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
