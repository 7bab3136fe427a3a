"""Which devices a program runs on, and how they are arranged."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.sharding import Mesh, SingleDeviceSharding


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
    # `jax.make_mesh` makes explicit axes, on which images[indices] raises.
    return Mesh(np.array(jax.local_devices()[:most]), ("member",))


def host_store() -> SingleDeviceSharding:
    """Where arrays lie that no accelerator has room for: the host's memory, where JAX has a CPU device beside them."""
    try:
        return SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out.
        return SingleDeviceSharding(jax.local_devices()[0])


def memory_of(mesh: Mesh) -> int:
    """Bytes of memory that all devices of a mesh have together; on a CPU that of the machine."""
    device = mesh.devices.flat[0]
    limit = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    return mesh.size * int(limit) if limit else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
