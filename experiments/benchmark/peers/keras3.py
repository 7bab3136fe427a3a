"""Keras 3 on TensorFlow: `train_on_batch`, as `deep-batchnorm` was published, with Keras' own optimisers and losses.

D is compiled and traced alone; then it is frozen and compiled behind G. Each half of D's batch is an update of its own.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from experiments.benchmark.peers import LOSSES, EpochOrder
from jaxgan.config import Config, DiscriminatorConfig, GeneratorConfig


class KerasGame:
    """Three models: G, D, and D behind G."""

    def __init__(self, config: Config, images: np.ndarray) -> None:
        self.config, self.images = config, images.reshape(len(images), -1)
        self.order = EpochOrder(config, len(images))
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        self.device = "cuda" if gpus else "cpu"
        self.threads = tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))
        self.gen = _model(config.gen, config.latent.size, self.images.shape[1], config.gen.output)
        self.disc = _model(config.disc, self.images.shape[1], 1, "sigmoid")
        self.disc.compile(optimizer=_adam(config.disc), loss="binary_crossentropy")
        half, whole = config.real_batch_size, config.batch_size
        self.ones, self.zeros, self.all_ones = np.ones((half, 1)), np.zeros((half, 1)), np.ones((whole, 1))
        # Keras 3 looks at `trainable` when it traces a model's step: at its first batch, not when it is compiled.
        self.disc.train_on_batch(np.zeros((half, self.images.shape[1]), np.float32), self.ones)
        self.disc.trainable = False
        self.both = keras.Sequential([self.gen, self.disc])
        self.both.compile(optimizer=_adam(config.gen), loss="binary_crossentropy")
        self.start(0)

    def start(self, seed: int) -> None:
        """New values in the same variables."""
        keras.utils.set_random_seed(seed)
        self.order.reset(seed)
        self.rng = np.random.default_rng(seed)
        for layer in [*self.gen.layers, *self.disc.layers]:
            if isinstance(layer, layers.Dense):
                layer.kernel.assign(keras.initializers.GlorotUniform()(layer.kernel.shape))
                layer.bias.assign(np.zeros(layer.bias.shape))
            elif isinstance(layer, layers.BatchNormalization):
                for variable, value in (
                    (layer.gamma, 1),
                    (layer.beta, 0),
                    (layer.moving_mean, 0),
                    (layer.moving_variance, 1),
                ):
                    variable.assign(np.full(variable.shape, value))
        for model in (self.disc, self.both):
            for variable in model.optimizer.variables:
                if variable is not model.optimizer.learning_rate:
                    variable.assign(np.zeros(variable.shape))

    def train(self, steps: int, window: int) -> dict[str, float]:
        """The loop."""
        half, whole, size = self.config.real_batch_size, self.config.batch_size, self.config.latent.size
        losses = []
        for _ in range(steps):
            real = self.images[self.order.next()].astype(np.float32) / 127.5 - 1.0
            fake = self.gen.predict_on_batch(self.rng.standard_normal((half, size), np.float32))
            on_real = self.disc.train_on_batch(real, self.ones)
            on_fake = self.disc.train_on_batch(fake, self.zeros)
            gen = self.both.train_on_batch(self.rng.standard_normal((whole, size), np.float32), self.all_ones)
            losses.append(((on_real + on_fake) / 2.0, gen))
        return dict(zip(LOSSES, map(float, np.mean(losses[-window:], axis=0)), strict=True))


def _model(
    config: GeneratorConfig | DiscriminatorConfig, inputs: int, outputs: int, activation: str
) -> keras.Sequential:
    model = keras.Sequential([keras.Input((inputs,))])
    for width in config.widths:
        model.add(layers.Dense(width))
        model.add(layers.LeakyReLU(negative_slope=config.negative_slope))
        if config.batch_norm:
            model.add(layers.BatchNormalization(momentum=0.8, epsilon=1e-3))
    model.add(layers.Dense(outputs, activation=activation))
    return model


def _adam(player: GeneratorConfig | DiscriminatorConfig) -> keras.optimizers.Adam:
    adam = player.optimizer
    return keras.optimizers.Adam(adam.learning_rate, adam.b1, adam.b2, adam.epsilon)


def build(config: Config, images: np.ndarray) -> KerasGame:
    """Three compiled models; only for `deep-batchnorm` and configs of its kind."""
    return KerasGame(config, images)
