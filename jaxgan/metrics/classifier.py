"""A small convolutional classifier: feature network of the scores, and judge of the two-sample test."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int32, Key, PyTree, UInt8

FEATURES = 64
_WIDTHS = (32, 64, 48)
_KERNELS = (5, 3, 3)

BATCH = 128
PEAK_RATE = 3e-3

# Folded into the training's key.
_INIT, _STEP = 0, 1
_BLOCK = 1000


class Convolution(nn.Module):
    """A convolution of stride 2 that halves height and width (rounded up), written as one matrix product.

    On two CPU cores the gradient of such products took a thirtieth of the time of XLA's own convolutions.
    """

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 width"]:
        """Convolves with zeros around the border."""
        n, height, width, channels = x.shape
        rows, columns = -(-height // 2), -(-width // 2)
        spare = [(2 * (to - 1) + self.kernel - size) for to, size in ((rows, height), (columns, width))]
        x = jnp.pad(x, ((0, 0), *((max(s, 0) // 2, max(s, 0) - max(s, 0) // 2) for s in spare), (0, 0)))
        patches = [
            x[:, i : i + 2 * rows - 1 : 2, j : j + 2 * columns - 1 : 2]
            for i in range(self.kernel)
            for j in range(self.kernel)
        ]
        inputs = jnp.concatenate(patches, axis=-1).reshape(n * rows * columns, self.kernel**2 * channels)
        outputs = nn.Dense(self.width, kernel_init=nn.initializers.he_normal())(inputs)
        return outputs.reshape(n, rows, columns, self.width)


class Classifier(nn.Module):
    """Images -> features -> logits: three strided convolutions, a hidden layer of FEATURES units, the logits."""

    classes: int

    @nn.compact
    def __call__(self, images: Float[Array, "n h w c"]) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
        """Features (>= 0, the last hidden layer) and logits of images in [0, 1]."""
        x = images
        for i, (width, kernel) in enumerate(zip(_WIDTHS, _KERNELS, strict=True)):
            x = nn.relu(Convolution(width, kernel, name=f"convolution_{i}")(x))
        features = nn.relu(nn.Dense(FEATURES, name="features")(x.reshape(x.shape[0], -1)))
        return features, nn.Dense(self.classes, name="logits")(features)


@jax.jit(static_argnums=(1, 2))
def init_classifier(key: Key[Array, ""], image_shape: tuple[int, ...], classes: int) -> PyTree:
    """Parameters before any training."""
    return Classifier(classes).init(key, jnp.zeros((1, *image_shape), jnp.float32))["params"]


@jax.jit
def classify(
    params: PyTree, images: UInt8[Array, "n h w c"]
) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
    """Features and logits of images on 256 levels, block by block."""

    def one(image: UInt8[Array, "h w c"]) -> tuple[Array, Array]:
        features, logits = _apply(params, scale(image[None]))
        return features[0], logits[0]

    return jax.lax.map(one, images, batch_size=_BLOCK)


def classify_stacked(
    params: PyTree, images: UInt8[Array, "n h w c"], channels: int
) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
    """Features and logits of images that are made of several ones of `channels` channels each.

    Features stand side by side. The classes are all tuples of classes, the last one running fastest, and their logits
    the logarithms of the products of probabilities.
    """
    parts = [classify(params, images[..., i : i + channels]) for i in range(0, images.shape[-1], channels)]
    features, logits = parts[0]
    for more_features, more_logits in parts[1:]:
        features = jnp.concatenate([features, more_features], axis=1)
        pairs = jax.nn.log_softmax(logits)[:, :, None] + jax.nn.log_softmax(more_logits)[:, None, :]
        logits = pairs.reshape(pairs.shape[0], -1)
    return features, logits


def _apply(
    params: PyTree, images: Float[Array, "n h w c"]
) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
    classifier = Classifier(params["logits"]["bias"].shape[0])
    return classifier.apply({"params": params}, images)  # pyright: ignore[reportReturnType]


def scale(images: UInt8[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Images on 256 levels as float32 in [0, 1]."""
    return images.astype(jnp.float32) / 255.0


def train_classifier(
    key: Key[Array, ""],
    images: UInt8[Array, "n h w c"],
    labels: Int32[Array, " n"],
    *,
    classes: int,
    epochs: int,
    shift: int,
    advance: Callable[[int], None] = lambda _: None,
) -> PyTree:
    """Trains a classifier by Adam on the cross-entropy, with a one-cycle learning rate (Smith and Topin 2019).

    Args:
        key: Decides the initial parameters, the batches (drawn with replacement) and the shifts.
        images: Training images.
        labels: Their classes, from 0.
        classes: How many classes there are.
        epochs: How often as many images as there are training images are drawn.
        shift: Images are moved by up to so many pixels each way, at random; 0 leaves them where they are.
        advance: Called now and then with the number of steps made since the last call.

    Returns:
        The parameters.
    """
    total = training_steps(images.shape[0], epochs)
    params = init_classifier(jax.random.fold_in(key, _INIT), images.shape[1:], classes)
    opt_state = _adam(total).init(params)
    piece = max(1, -(-total // 50))
    for start in range(0, total, piece):
        steps = min(piece, total - start)
        step_key, here, more = jax.random.fold_in(key, _STEP), jnp.int32(start), jnp.int32(steps)
        params, opt_state = _train(total, shift, step_key, images, labels, params, opt_state, here, more)
        jax.block_until_ready(params)
        advance(steps)
    return params


def training_steps(images: int, epochs: int) -> int:
    """How many steps `train_classifier` makes."""
    return max(1, epochs * images // BATCH)


def _adam(total: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_onecycle_schedule(total, PEAK_RATE))


@jax.jit(static_argnums=(0, 1))
def _train(
    total: int,
    shift: int,
    key: Key[Array, ""],
    images: UInt8[Array, "n h w c"],
    labels: Int32[Array, " n"],
    params: PyTree,
    opt_state: PyTree,
    start: Int32[Array, ""],
    steps: Int32[Array, ""],
) -> tuple[PyTree, PyTree]:
    def loss(params: PyTree, images: Array, labels: Array) -> Float[Array, ""]:
        _, logits = _apply(params, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def body(i: Int32[Array, ""], carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        params, opt_state = carry
        draw_key, shift_key = jax.random.split(jax.random.fold_in(key, start + i))
        indices = jax.random.randint(draw_key, (BATCH,), 0, images.shape[0])
        batch = _shifted(shift_key, scale(images[indices]), shift)
        gradients = jax.grad(loss)(params, batch, labels[indices])
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of an int32 count.
            updates, opt_state = _adam(total).update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return jax.lax.fori_loop(0, steps, body, (params, opt_state))


def _shifted(key: Key[Array, ""], images: Float[Array, "n h w c"], most: int) -> Float[Array, "n h w c"]:
    """Each image moved by up to `most` pixels each way, with zeros where it leaves a gap."""
    if not most:
        return images
    n, *shape = images.shape
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * most + 1)
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), shape))(padded, corners)
