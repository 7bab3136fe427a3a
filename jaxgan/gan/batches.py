"""Which images make up the batch of step t: a pure function of (key, t)."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Int32, Key, Shaped, UInt8, UInt32

from jaxgan.config import Config, InputError

ORDER = 1  # Folded into the run's key before the epoch or step: one constant per purpose, see `state.py`.
FEISTEL_ROUNDS = 8
DATA = "data"
"""The mesh axis over which batches are split."""


Tree = TypeVar("Tree")


class Dataset(NamedTuple):
    """One split of a data set, in the order of its files."""

    images: UInt8[Array, "n h w c"]
    labels: Int32[Array, " n"]


class Block(NamedTuple):
    """The bytes of the real images of some steps in a row, as they are served where a data set is not resident."""

    images: UInt8[Array, "steps batch h w c"]
    labels: Int32[Array, "steps batch"]


class Batch(NamedTuple):
    """The real images of one step, in the generator's output range."""

    images: Float[Array, "batch h w c"]
    labels: Int32[Array, " batch"]


def scale(config: Config, images: UInt8[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Maps bytes to the range of the generator's output: sigmoid [0, 1], else [-1, 1]."""
    return from_unit(config, images.astype(jnp.result_type(float)) / 255.0)


def from_unit(config: Config, images: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Maps images from [0, 1] to the range of the generator's output."""
    return images if config.gen.output == "sigmoid" else images * 2.0 - 1.0


def to_unit(config: Config, images: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Maps images from the range of the generator's output to [0, 1]."""
    return images if config.gen.output == "sigmoid" else (images + 1.0) / 2.0


def draw_batch(config: Config, dataset: Dataset, key: Key[Array, ""], step: Int[Array, ""]) -> Batch:
    """The batch of step `step` (from 0) of the run whose key is `key`."""
    indices = batch_indices(config, key, step, dataset.images.shape[0])
    images, labels = (leaf.at[indices].get(mode="promise_in_bounds", wrap_negative_indices=False) for leaf in dataset)
    return make_batch(config, images, labels)


def make_batch(config: Config, images: UInt8[Array, "batch h w c"], labels: Int32[Array, " batch"]) -> Batch:
    """Bytes as a batch, split over the devices."""
    # XLA would fold the scaling into what follows, in one program and not in another: then a member of a population and
    # its single run tell of other last bits.
    scaled = jax.lax.optimization_barrier(scale(config, over_devices(images)))
    return Batch(images=scaled, labels=over_devices(labels))


def over_devices(array: Shaped[Array, " batch *rest"]) -> Shaped[Array, " batch *rest"]:
    """Splits the first axis over the axis `data` of the mesh that the array is on, if there is one."""
    mesh = jax.typeof(array).sharding.mesh
    if DATA not in mesh.axis_names:
        return array
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec(DATA)))


def whole(tree: Tree) -> Tree:
    """Puts every leaf that is on a mesh with an axis `data` on each of its devices whole."""

    def gather(leaf: Array) -> Array:
        mesh = jax.typeof(leaf).sharding.mesh
        if DATA not in mesh.axis_names:
            return leaf
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, PartitionSpec()))

    return jax.tree.map(gather, tree)


def check_batch_size(config: Config, n: int) -> None:
    """Raises InputError where a training set of n images cannot serve the config's batches."""
    if config.real_batch_size > n:
        raise InputError(
            f"--batch-size {config.batch_size} takes {config.real_batch_size:,} real images a step; "
            f"the training set has {n:,}"
        )
    if config.real_batch_size * n >= 2**32:
        raise InputError(f"--batch-size {config.batch_size} times {n:,} training images must be below {2**32:,}")


def batch_indices(config: Config, key: Key[Array, ""], step: Int[Array, ""], n: int) -> Int32[Array, " batch"]:
    """Which of `n` images step `step` (from 0) looks at.

    In order `epochs` the run reads one endless stream of images, in which every epoch is a permutation of its own, and
    batches may straddle two of them. In order `replacement` each index is drawn apart.

    Args:
        config: Its batch size, update rule and `data.order` are read.
        key: The run's key.
        step: Steps done so far, int32 >= 0.
        n: Images in the data set; n * batch size must be below 2**32.
    """
    batch = config.real_batch_size
    key = jax.random.fold_in(key, ORDER)
    if config.data.order == "replacement":
        return jax.random.randint(jax.random.fold_in(key, step), (batch,), 0, n, dtype=jnp.int32)
    epoch, offset = position(step, batch, n)
    positions = offset + jnp.arange(batch, dtype=jnp.uint32)
    straddles = positions >= n
    this, following = epoch_keys(key, epoch), epoch_keys(key, epoch + jnp.uint32(1))
    keys = jnp.where(straddles[:, None], following[None, :], this[None, :])
    return permute(jnp.where(straddles, positions - jnp.uint32(n), positions), keys, n).astype(jnp.int32)


def position(step: Int[Array, ""], batch: int, n: int) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """(epoch, offset) of the first image of a step: divmod(step * batch, n), without the product, which overflows."""
    step = step.astype(jnp.uint32)
    whole, rest = step // jnp.uint32(n), step % jnp.uint32(n)
    start = rest * jnp.uint32(batch)
    return whole * jnp.uint32(batch) + start // jnp.uint32(n), start % jnp.uint32(n)


def epoch_keys(key: Key[Array, ""], epoch: UInt32[Array, ""]) -> UInt32[Array, " rounds"]:
    """The round keys of one epoch's permutation."""
    return jax.random.bits(jax.random.fold_in(key, epoch), (FEISTEL_ROUNDS,), jnp.uint32)


def permute(positions: UInt32[Array, " k"], keys: UInt32[Array, "k rounds"], n: int) -> UInt32[Array, " k"]:
    """A keyed bijection of [0, n), applied to each position under its own keys.

    A Feistel network permutes the next larger domain of 4**i numbers; values that fall outside [0, n) walk on along
    their cycle until they are inside (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"). It costs
    microseconds for a batch, where sorting random numbers costs milliseconds for an epoch.
    """
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)

    def walk(values: UInt32[Array, " k"]) -> UInt32[Array, " k"]:
        return jnp.where(values < n, values, _feistel(values, keys, half_bits))

    return jax.lax.while_loop(lambda values: jnp.any(values >= n), walk, _feistel(positions, keys, half_bits))


def _feistel(values: UInt32[Array, " k"], keys: UInt32[Array, "k rounds"], half_bits: int) -> UInt32[Array, " k"]:
    mask = jnp.uint32((1 << half_bits) - 1)
    left, right = values >> half_bits, values & mask
    for i in range(FEISTEL_ROUNDS):
        left, right = right, left ^ (_mix(right ^ keys[:, i]) & mask)
    return (left << half_bits) | right


def _mix(x: UInt32[Array, " k"]) -> UInt32[Array, " k"]:
    """The 32-bit finaliser of MurmurHash3 (Appleby 2011): every input bit flips every output bit half of the time."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
