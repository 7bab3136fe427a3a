"""Which devices a program runs on: those that share a run's batches, and those that share a population's members.

A run has one mesh over all devices of all processes: batches are split over it, everything else is on every device.
Arrays carry their mesh into the compiled program, which splits each batch where it finds an axis `data`; so one device
and a thousand run the same code.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import PyTree

from jaxgan.config import Config, InputError
from jaxgan.gan.batches import DATA

RESIDENT_SHARE = 0.5
"""The share of a device's memory up to which training images are kept on it."""

CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux tells how much memory a container may have, in version 2 and 1 of control groups."""

T = TypeVar("T")


def data_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`."""
    # Automatic axes: on explicit ones, which are JAX's default, indexing by an array is an error.
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def check_divides(config: Config, devices: int) -> None:
    """Raises InputError where so many devices cannot share the config's batches, or its micro-batches, evenly."""
    parts = devices * config.accumulate
    if config.real_batch_size % parts or config.batch_size % parts:
        split = f" in {config.accumulate} micro-batches" if config.accumulate > 1 else ""
        halves = ", of which D sees half," if config.objective.updates == "halves" else ""
        multiple = parts * (2 if config.objective.updates == "halves" else 1)
        raise InputError(
            f"--batch-size {config.batch_size}{halves} cannot be split evenly over {devices} devices{split}: "
            f"take a multiple of {multiple}, or let fewer devices be seen (as with CUDA_VISIBLE_DEVICES)"
        )


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh, tree: T) -> T:
    """Puts a tree on every device of a mesh; each process hands in the same values."""
    return _put(tree, everywhere(mesh))


def split_steps(mesh: Mesh, tree: T) -> T:
    """Puts arrays [steps, batch, ...] on a mesh, each batch split over the devices; a process sends its own part."""
    return _put(tree, NamedSharding(mesh, PartitionSpec(None, DATA)))


def _put(tree: T, sharding: NamedSharding) -> T:
    def put(leaf: Any) -> jax.Array:
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            # A key itself cannot be put on devices of other processes.
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        is_here = isinstance(leaf, np.ndarray) or leaf.is_fully_addressable
        if jax.process_count() == 1 or not is_here:
            return jax.device_put(leaf, sharding)
        # `device_put` would gather every process's copy first, to see whether they are the same.
        here = np.asarray(leaf)
        return jax.make_array_from_callback(here.shape, sharding, lambda index: here[index])

    return jax.tree.map(put, tree)


def on_one_device(tree: T) -> T:
    """This process's own copy of a tree that is on every device: what it computes of it, it computes alone."""

    def copy(leaf: jax.Array) -> jax.Array:
        return leaf.addressable_data(0) if isinstance(leaf.sharding, NamedSharding) else leaf

    return jax.tree.map(copy, tree)


def fits(num_bytes: int) -> bool:
    """Whether arrays of a size stay within `RESIDENT_SHARE` of the memory of each device here that tells its memory."""
    limits = ((device.memory_stats() or {}).get("bytes_limit") for device in jax.local_devices())
    return all(limit is None or num_bytes <= RESIDENT_SHARE * limit for limit in limits)


def describe(tree: PyTree) -> str:
    """The devices that a tree is on, for people: `cpu (cpu)`, or `4 x gpu (NVIDIA H100) in 2 processes`."""
    devices = jax.tree.leaves(tree)[0].sharding.device_set
    one = next(iter(devices))
    name = f"{one.platform} ({one.device_kind})"
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{len(devices)} x {name}{processes}" if len(devices) > 1 else name


def use_cores(most: int) -> None:
    """Gives JAX a CPU device for each core that this process may use, `most` of them; it has no effect on accelerators.

    Raises:
        RuntimeError: JAX has started its backend already.
    """
    jax.config.update("jax_num_cpu_devices", max(1, min(most, num_cores())))


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def member_mesh(most: int) -> Mesh:
    """A mesh of this process's devices, `most` of them, with the one axis `member`."""
    return Mesh(np.array(jax.local_devices()[:most]), ("member",))


def host_store() -> SingleDeviceSharding:
    """Where arrays lie that no accelerator has room for: the host's memory, where JAX has a CPU device beside them."""
    try:
        return SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out.
        return SingleDeviceSharding(jax.local_devices()[0])


def memory_of(mesh: Mesh) -> int:
    """Bytes of memory that all devices of a mesh have together; on a CPU those of the machine, or of the container."""
    device = mesh.devices.flat[0]
    limit = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    return mesh.size * int(limit) if limit else _host_memory()


def _host_memory() -> int:
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # There is none, or it is called max.
            limits.append(int(path.read_text()))
    return min(limits)
