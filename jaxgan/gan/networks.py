"""The two players as Flax modules: multi-layer perceptrons whose image shape comes from the data set."""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxgan.config import Activation, Config, DiscriminatorConfig, GeneratorConfig, Initializer

BATCH_NORM_MOMENTUM = 0.8
BATCH_NORM_EPSILON = 1e-3

_VARIANCE_FLOOR = 1e-4
"""So that the root of a variance has a gradient where a unit never varies, as a ReLU that is off."""

# `jax.nn.initializers.he_normal` truncates its normal; the systems that this reproduces do not.
INITIALIZERS: dict[Initializer, Callable[..., Array]] = {
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "lecun_normal": nn.initializers.variance_scaling(1.0, "fan_in", "normal"),
}


Condition = Float[Array, "batch classes"] | None
"""What images show, as weights of the classes (one-hot for a label); None where players are not conditional."""


class Generator(nn.Module):
    """Latents -> images in the range of its output activation: sigmoid [0, 1], the others [-1, 1]."""

    config: GeneratorConfig
    image_shape: tuple[int, int, int]

    @nn.compact
    def __call__(
        self, latents: Float[Array, "batch latent"], condition: Condition, *, training: bool
    ) -> Float[Array, "batch h w c"]:
        """Draws one image a latent; batch norm uses the batch's statistics in training, else the moving averages."""
        hidden = _hidden_layers(self.config, latents, condition, training=training)
        images = _Pixels(self.image_shape, INITIALIZERS[self.config.initializer], name="output")(hidden)
        match self.config.output:
            case "sigmoid":
                return jax.nn.sigmoid(images)
            case "tanh":
                return jnp.tanh(images)
            case "clipped_tanh":
                return clipped_tanh(images)


@jax.custom_jvp
def clipped_tanh(x: Float[Array, "batch h w c"]) -> Float[Array, "batch h w c"]:
    """1.1 tanh, clipped to [-1, 1], with the slope of 1.1 tanh where it is clipped, too.

    Black and white are reached at units of about +-1.5, where tanh alone comes near them only. A clip's own slope is
    zero: whatever D said of a pixel that is black or white, and most are, G could not learn it.

    References:
        Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
        Computation", section 4: the straight-through estimator.
    """
    return jnp.clip(1.1 * jnp.tanh(x), -1.0, 1.0)


@clipped_tanh.defjvp
def _clipped_tanh_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return clipped_tanh(*primals), jax.jvp(lambda x: 1.1 * jnp.tanh(x), primals, tangents)[1]


class _Pixels(nn.Module):
    """A dense layer that makes images; its bias has their shape, so that parameters alone tell it."""

    image_shape: tuple[int, int, int]
    kernel_init: Callable[..., Array]

    @nn.compact
    def __call__(self, hidden: Float[Array, "batch units"]) -> Float[Array, "batch h w c"]:
        # A kernel of [units, pixels] rather than [units, h, w, c]: XLA lays the latter out anew at every step.
        kernel = self.param("kernel", self.kernel_init, (hidden.shape[-1], math.prod(self.image_shape)))
        bias = self.param("bias", nn.initializers.zeros_init(), self.image_shape)
        return (hidden @ kernel).reshape(-1, *self.image_shape) + bias[None]


class Discriminator(nn.Module):
    """Images in the generator's range -> logits: positive where it takes an image for real."""

    config: DiscriminatorConfig
    output_bias: bool
    zero_pixel: float

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch h w c"], condition: Condition, *, training: bool
    ) -> Float[Array, " batch"]:
        """Judges each image; batch norm uses the batch's statistics in training, else the moving averages.

        With `minibatch_std` an answer depends on the images that are judged with it, in and out of training.
        """
        pixels = images.reshape(images.shape[0], -1) - self.zero_pixel
        hidden = _hidden_layers(self.config, pixels, condition, training=training)
        init = INITIALIZERS[self.config.initializer]
        return nn.Dense(1, use_bias=self.output_bias, kernel_init=init, name="output")(hidden).squeeze(-1)


def _hidden_layers(
    config: GeneratorConfig | DiscriminatorConfig,
    x: Float[Array, "batch inputs"],
    condition: Condition,
    *,
    training: bool,
) -> Float[Array, "batch units"]:
    """The hidden layers of either player; called inside a compact module, which owns their parameters.

    The condition is an input of the first layer beside the others, with a kernel of its own.

    References:
        Mirza and Osindero 2014, "Conditional Generative Adversarial Nets", section 3.2.
    """
    init = INITIALIZERS[config.initializer]
    for i, width in enumerate(config.widths):
        y = nn.Dense(width, kernel_init=init, name=f"hidden_{i}")(x)
        if i == 0 and condition is not None:
            y = y + nn.Dense(width, use_bias=False, kernel_init=init, name="condition")(condition)
        if isinstance(config, DiscriminatorConfig) and config.minibatch_std == i + 1:
            spread = minibatch_std(x, condition)
            y = y + nn.Dense(width, use_bias=False, kernel_init=init, name="minibatch_std")(spread)
        y = activate(config.activation, y, config.negative_slope)
        if config.batch_norm:
            y = nn.BatchNorm(
                use_running_average=not training,
                momentum=BATCH_NORM_MOMENTUM,
                epsilon=BATCH_NORM_EPSILON,
                name=f"batch_norm_{i}",
            )(y)
        x = x + y if has_skip(config, i) else y
    return x


def minibatch_std(x: Float[Array, "batch units"], condition: Condition) -> Float[Array, "1 units"]:
    """How much each unit varies in a batch: its standard deviation, within the classes where there are some.

    Fakes that vary too little are told by it, one of which alone could not be.

    Args:
        x: The units of each image.
        condition: What the images show; with weights of several classes an image belongs to each by its weight.

    Returns:
        The root of the mean square distance from the mean of the batch, or of the image's class in it, over the degrees
        of freedom that are left: unbiased in its square, to which 1e-4 is added.

    References:
        Karras et al. 2018, "Progressive Growing of GANs for Improved Quality, Stability, and Variation", section 3.
        There the mean over all units is one more feature map; here each unit has its own.
    """
    classes = jnp.ones((x.shape[0], 1), x.dtype) if condition is None else condition
    counts = classes.sum(axis=0)
    means = (classes.T @ x) / jnp.where(counts > 0, counts, 1.0)[:, None]
    squares = ((x - classes @ means) ** 2).sum(axis=0, keepdims=True)
    freedom = jnp.maximum(x.shape[0] - (counts > 0).sum(), 1)
    return jnp.sqrt(squares / freedom.astype(x.dtype) + _VARIANCE_FLOOR)


def has_skip(config: GeneratorConfig | DiscriminatorConfig, i: int) -> bool:
    """Whether hidden layer i adds its input to its output: where both are hidden units, as many of one as of the other.

    References:
        He et al. 2016, "Deep Residual Learning for Image Recognition", equation 1.
    """
    return config.residual and i > 0 and config.widths[i - 1] == config.widths[i]


def activate(name: Activation, x: Float[Array, "batch units"], negative_slope: float) -> Float[Array, "batch units"]:
    """A hidden activation; only leaky_relu has a slope below zero."""
    match name:
        case "relu":
            return jax.nn.relu(x)
        case "leaky_relu":
            return jax.nn.leaky_relu(x, negative_slope)
        case "silu":
            return jax.nn.silu(x)
        case "tanh":
            return jnp.tanh(x)


def generator(config: Config, image_shape: tuple[int, int, int]) -> Generator:
    """The generator of a config, for images of shape (h, w, c)."""
    return Generator(config.gen, image_shape)


def discriminator(config: Config) -> Discriminator:
    """The discriminator of a config, without an output bias where the objective cannot see one."""
    return Discriminator(config.disc, not config.objective.sees_differences_only, config.zero_pixel)


def image_shape_of(gen_params: PyTree) -> tuple[int, int, int]:
    """The (h, w, c) of the images that a generator's parameters make."""
    return gen_params["output"]["bias"].shape


def count_parameters(params: PyTree) -> int:
    """How many numbers a tree of parameters (or of moving statistics) holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def synthesize(
    config: Config,
    params: PyTree,
    stats: PyTree,
    latents: Float[Array, "batch latent"],
    condition: Condition,
    *,
    training: bool,
) -> tuple[Float[Array, "batch h w c"], PyTree]:
    """G's images of latents, in the range of its output activation, and its moving averages after them."""
    return _apply(generator(config, image_shape_of(params)), params, stats, latents, condition, training=training)


def judge(
    config: Config,
    params: PyTree,
    stats: PyTree,
    images: Float[Array, "batch h w c"],
    condition: Condition,
    *,
    training: bool,
) -> tuple[Float[Array, " batch"], PyTree]:
    """D's logits of images in the range of G's output activation, and its moving averages after them."""
    return _apply(discriminator(config), params, stats, images, condition, training=training)


def _apply(
    module: nn.Module, params: PyTree, stats: PyTree, inputs: Array, condition: Condition, *, training: bool
) -> tuple[Array, PyTree]:
    variables = {"params": params, "batch_stats": stats}
    mutable = ["batch_stats"] if training else []
    outputs, updated = module.apply(variables, inputs, condition, training=training, mutable=mutable)
    return outputs, updated.get("batch_stats", stats)  # pyright: ignore[reportReturnType]
