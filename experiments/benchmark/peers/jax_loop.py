"""What JAX users write: one jitted, donating step in Flax and optax, and a host loop that feeds it from NumPy.

The batch crosses to the device as bytes and is scaled there; steps are dispatched ahead, and nothing waits for a loss.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmark.peers import LOSSES, EpochOrder
from jaxgan.config import Config, DiscriminatorConfig, GeneratorConfig

INITIALIZERS = {
    "glorot_uniform": nn.initializers.glorot_uniform(),
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
}


def _clipped_tanh(x: jax.Array) -> jax.Array:
    y = 1.1 * jnp.tanh(x)
    return y + jax.lax.stop_gradient(jnp.clip(y, -1.0, 1.0) - y)


OUTPUTS = {
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "clipped_tanh": _clipped_tanh,
}
FINAL_RATE = 0.03


class Layers(nn.Module):
    """A perceptron."""

    config: GeneratorConfig | DiscriminatorConfig
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array, *, training: bool = False) -> jax.Array:
        """[batch, inputs] -> [batch, outputs], before any output activation."""
        slope = 0.0 if self.config.activation == "relu" else self.config.negative_slope
        init = INITIALIZERS[self.config.initializer]
        for i, width in enumerate(self.config.widths):
            y = nn.leaky_relu(nn.Dense(width, kernel_init=init)(x), slope)
            if self.config.batch_norm:
                y = nn.BatchNorm(use_running_average=not training, momentum=0.8, epsilon=1e-3)(y)
            x = x + y if self.config.residual and i > 0 and x.shape == y.shape else y
        return nn.Dense(self.outputs, kernel_init=init)(x)


class State(NamedTuple):
    """A training."""

    step: jax.Array
    key: jax.Array
    gen: Any
    stats: Any
    disc: Any
    gen_adam: Any
    disc_adam: Any
    average: Any


class JaxLoop:
    """A host loop over one jitted step."""

    def __init__(self, config: Config, images: np.ndarray) -> None:
        self.config, self.images = config, images.reshape(len(images), -1)
        self.order = EpochOrder(config, len(images))
        self.device = jax.devices()[0].platform
        self.threads = len(os.sched_getaffinity(0))
        self.gen = Layers(config.gen, self.images.shape[1])
        self.disc = Layers(config.disc, 1)
        self.gen_adam, self.disc_adam = _adam(config, config.gen), _adam(config, config.disc)
        self.step = partial(jax.jit, donate_argnums=0)(self._step)
        self.start(0)

    def start(self, seed: int) -> None:
        """Fresh networks."""
        key, gen_key, disc_key = jax.random.split(jax.random.key(seed), 3)
        gen = self.gen.init(gen_key, jnp.zeros((1, self.config.latent.size)))
        disc = self.disc.init(disc_key, jnp.zeros((1, self.images.shape[1])))
        average = jax.tree.map(jnp.copy, gen["params"]) if self.config.average_decay else None
        self.state = State(
            step=jnp.int32(0),
            key=key,
            gen=gen["params"],
            stats=gen.get("batch_stats", {}),
            disc=disc["params"],
            gen_adam=self.gen_adam.init(gen["params"]),
            disc_adam=self.disc_adam.init(disc["params"]),
            average=average,
        )
        self.order.reset(seed)

    def train(self, steps: int, window: int) -> dict[str, float]:
        """The loop."""
        losses = []
        for i in range(steps):
            self.state, loss = self.step(self.state, self.images[self.order.next()])
            if i >= steps - window:
                losses.append(loss)
        jax.block_until_ready(self.state)
        means = np.mean(jax.device_get(losses), axis=0)
        return dict(zip(LOSSES, map(float, means), strict=True))

    def _step(self, state: State, images: jax.Array) -> tuple[State, tuple[jax.Array, jax.Array]]:
        key, disc_key, gen_key = jax.random.split(state.key, 3)
        real = images.astype(jnp.float32) / 255.0
        if self.config.gen.output != "sigmoid":
            real = real * 2.0 - 1.0
        latents = self._latents(gen_key, self.config.batch_size)
        # Shared latents make the same fakes twice in one program, where XLA draws them once.
        own = latents if self.config.latent.shared else self._latents(disc_key, self.config.real_batch_size)
        fake = self._draw(state.gen, state.stats, own, training=False)[0]
        disc, disc_adam, disc_loss = self._update_disc(state.disc, state.disc_adam, real, fake)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            fake, stats = self._draw(params, state.stats, latents, training=True)
            logits = self._judge(disc, fake)
            value = -logits if self.config.objective.name == "hinge" else nn.softplus(-logits)
            return value.mean(), stats

        (gen_loss, stats), gradients = jax.value_and_grad(loss, has_aux=True)(state.gen)
        updates, gen_adam = self.gen_adam.update(gradients, state.gen_adam)
        gen = optax.apply_updates(state.gen, updates)
        average = state.average
        if average is not None:
            decay = jnp.minimum(
                self.config.average_decay, (1.0 + state.step) / (1.0 + self.config.average_warmup + state.step)
            )
            average = optax.incremental_update(gen, average, 1.0 - decay)
        return State(state.step + 1, key, gen, stats, disc, gen_adam, disc_adam, average), (disc_loss, gen_loss)

    def _update_disc(self, params: Any, adam: Any, real: jax.Array, fake: jax.Array) -> tuple[Any, Any, jax.Array]:
        def descend(loss: Any, params: Any, adam: Any) -> tuple[Any, Any, jax.Array]:
            (_, value), gradients = jax.value_and_grad(loss, has_aux=True)(params)
            updates, adam = self.disc_adam.update(gradients, adam)
            return optax.apply_updates(params, updates), adam, value

        def on_real(params: Any) -> tuple[jax.Array, jax.Array]:
            label, logits = self.config.objective.real_label, self._judge(params, real)
            if self.config.objective.name == "hinge":
                value = nn.relu(1.0 - logits).mean()
            else:
                value = optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, label)).mean()
            return value, value

        def on_fake(params: Any) -> tuple[jax.Array, jax.Array]:
            logits = self._judge(params, fake)
            value = (nn.relu(1.0 + logits) if self.config.objective.name == "hinge" else nn.softplus(logits)).mean()
            return value, value

        def on_both(params: Any) -> tuple[jax.Array, jax.Array]:
            value = on_real(params)[0] + on_fake(params)[0]
            weights = (self.config.objective.r1, real), (self.config.objective.r2, fake)
            return value + sum(weight * self._penalty(params, images) for weight, images in weights if weight), value

        if self.config.objective.updates == "halves":
            params, adam, one = descend(on_real, params, adam)
            params, adam, other = descend(on_fake, params, adam)
            return params, adam, (one + other) / 2.0
        return descend(on_both, params, adam)

    def _penalty(self, params: Any, images: jax.Array) -> jax.Array:
        gradients = jax.grad(lambda x: self._judge(params, x).sum())(images)
        return jnp.square(gradients).sum(axis=1).mean() / 2.0

    def _judge(self, params: Any, images: jax.Array) -> jax.Array:
        return self.disc.apply({"params": params}, images - self.config.zero_pixel)[:, 0]  # pyright: ignore[reportIndexIssue, reportReturnType, reportCallIssue, reportArgumentType]

    def _draw(self, params: Any, stats: Any, latents: jax.Array, *, training: bool) -> tuple[jax.Array, Any]:
        variables, mutable = {"params": params, "batch_stats": stats}, ["batch_stats"] if training else []
        images, after = self.gen.apply(variables, latents, training=training, mutable=mutable)
        return OUTPUTS[self.config.gen.output](images), after.get("batch_stats", stats)  # pyright: ignore[reportArgumentType]

    def _latents(self, key: jax.Array, n: int) -> jax.Array:
        shape = (n, self.config.latent.size)
        if self.config.latent.prior == "normal":
            return jax.random.normal(key, shape)
        return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _adam(config: Config, player: GeneratorConfig | DiscriminatorConfig) -> optax.GradientTransformation:
    adam = player.optimizer
    rate: Any = adam.learning_rate
    if config.decay_steps:
        cosine = optax.cosine_decay_schedule(rate, config.decay_steps, alpha=FINAL_RATE)
        rate = optax.join_schedules([optax.constant_schedule(rate), cosine], [config.decay_start])
    return optax.adam(rate, b1=adam.b1, b2=adam.b2, eps=adam.epsilon)


def build(config: Config, images: np.ndarray) -> JaxLoop:
    """A loop over images."""
    return JaxLoop(config, images)
