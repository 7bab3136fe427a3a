"""Training images that stay on the host: the batches of a run's steps, gathered ahead of need by Grain.

Which images a step looks at is a function of the run's key and the step, here as on the device. So nothing about the
position in the data is stored: a run that is resumed at step s asks for the block of step s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Key

from jaxgan.config import Config
from jaxgan.data.cache import Arrays
from jaxgan.gan.batches import Block, batch_indices, check_batch_size
from jaxgan.gan.program import train_block
from jaxgan.gan.state import TrainState

BLOCK_BYTES = 2**24
"""About how much is sent to the device at a time."""
_BLOCK_STEPS = 1024  # The most steps in a block.
_AHEAD = 4  # Blocks gathered before they are needed.
_THREADS = 2


class Stream:
    """Trains from images in the host's memory, to the bits of `train_steps` with the same images on the device."""

    def __init__(
        self, config: Config, arrays: Arrays, key: Key[Array, ""], place: Callable[[Block], Block] = jax.device_put
    ) -> None:
        """Takes the training images of a run, on the host.

        Args:
            config: What the run is.
            arrays: Its training images and labels.
            key: Its key, on a device of this process.
            place: Puts a block of NumPy arrays on the devices.

        Raises:
            InputError: The batch is larger than the data set.
        """
        check_batch_size(config, len(arrays.images))
        self._config = config
        self._source = _Blocks(config, arrays, key)
        self._place = place
        self._blocks: Iterator[Arrays] = iter(())
        self._number, self._block = -1, None

    def train(self, state: TrainState, num_steps: int) -> tuple[TrainState, Mapping[str, Float[np.ndarray, " steps"]]]:
        """Makes `num_steps` >= 1 steps and waits for them, as `train_steps` does; consumes (donates) `state`."""
        step, end = int(state.step), int(state.step) + num_steps
        pieces: list[Mapping[str, np.ndarray]] = []
        while step < end:
            number, row = divmod(step, self._source.steps)
            length = min(end - step, self._source.steps - row)
            state, metrics = train_block(self._config, state, self._take(number), length)
            pieces.append(metrics)
            step += length
        return state, {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def _take(self, number: int) -> Block:
        if number != self._number or self._block is None:
            if number != self._number + 1 or self._block is None:
                self._blocks = self._from(number)
            block = Block(*next(self._blocks))  # pyright: ignore[reportArgumentType] (arrays of the host)
            self._number, self._block = number, self._place(block)
        return self._block

    def _from(self, number: int) -> Iterator[Arrays]:
        ahead = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
        return iter(grain.MapDataset.source(self._source)[number:].to_iter_dataset(ahead))


class _Blocks:
    """The blocks of a run as a source of Grain: block b holds the batches of steps b * steps to b * steps + steps."""

    def __init__(self, config: Config, arrays: Arrays, key: Key[Array, ""]) -> None:
        image_bytes = arrays.images[:1].nbytes
        self.steps = max(1, min(_BLOCK_STEPS, BLOCK_BYTES // (config.real_batch_size * image_bytes)))
        self._config, self._arrays = config, arrays
        # Beside the device, which is busy with the steps before; the host's is there unless JAX was told otherwise.
        self._device = _host_device()
        self._key = jax.device_put(key, self._device)

    def __len__(self) -> int:
        return 2**31 // self.steps

    def __getitem__(self, index: int) -> Arrays:
        with jax.default_device(self._device):
            first = jnp.int32(index * self.steps)
            steps = first + jnp.arange(self.steps, dtype=jnp.int32)
            indices = np.asarray(_indices(self._config.structure, self._key, steps, len(self._arrays.images)))
        return Arrays(self._arrays.images[indices], self._arrays.labels[indices])


@partial(jax.jit, static_argnums=(0, 3))
def _indices(config: Config, key: Key[Array, ""], steps: Int32[Array, " steps"], n: int) -> Int32[Array, "steps batch"]:
    return jax.vmap(lambda step: batch_indices(config, key, step, n))(steps)


def _host_device() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]
