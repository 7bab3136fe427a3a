"""TensorFlow 1 graph code through `tf.compat.v1`: a static graph, one call of the session a step.

The images lie in the graph, latents are drawn there, and G's loss reads D's variables after D's update by a control
dependency, so that a step crosses from Python once, with the indices of its batch. `make_callable` spares what
`Session.run` does anew at each call.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from experiments.benchmark.peers import LOSSES, EpochOrder
from jaxgan.config import Config, DiscriminatorConfig, GeneratorConfig

tf1: Any = tf.compat.v1


def _clipped_tanh(x: Any) -> Any:
    y = 1.1 * tf1.tanh(x)
    return y + tf1.stop_gradient(tf1.clip_by_value(y, -1.0, 1.0) - y)


OUTPUTS = {
    "sigmoid": tf1.sigmoid,
    "tanh": tf1.tanh,
    "clipped_tanh": _clipped_tanh,
}
FINAL_RATE = 0.03


class Layers:
    """A perceptron: its variables, made once, and its forward pass."""

    def __init__(
        self,
        config: GeneratorConfig | DiscriminatorConfig,
        name: str,
        inputs: int,
        outputs: int,
    ) -> None:
        self.config, self.kernels, self.biases = config, [], []
        scaling = tf1.initializers.variance_scaling
        init = scaling(2.0, "fan_in", "untruncated_normal") if config.initializer == "he_normal" else None
        init = init or scaling(1.0, "fan_avg", "uniform")
        self.norms: list[tuple[Any, ...]] = []
        self.parameters: list[Any] = []
        with tf1.variable_scope(name, use_resource=True):
            sizes = [inputs, *config.widths, outputs]
            for i, (m, n) in enumerate(itertools.pairwise(sizes)):
                last = i == len(config.widths)
                self.kernels.append(tf1.get_variable(f"kernel{i}", (m, n), initializer=init))
                self.biases.append(tf1.get_variable(f"bias{i}", n, initializer=tf1.zeros_initializer()))
                self.parameters += [self.kernels[-1], self.biases[-1]]
                if config.batch_norm and not last:
                    self.norms.append(tuple(self._norm(i, n)))

    def _norm(self, i: int, n: int) -> Iterator[Any]:
        for part, start, trainable in (
            ("scale", 1, True),
            ("shift", 0, True),
            ("mean", 0, False),
            ("variance", 1, False),
        ):
            init = tf1.constant_initializer(start)
            variable = tf1.get_variable(f"{part}{i}", n, initializer=init, trainable=trainable)
            if trainable:
                self.parameters.append(variable)
            yield variable

    def __call__(self, x: Any, *, training: bool = False, updates: list[Any] | None = None) -> Any:
        """[batch, inputs] -> [batch, outputs]; what moves the averages of batch norm goes into `updates`."""
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            y = tf1.nn.bias_add(tf1.matmul(x, kernel), bias)
            if i == len(self.kernels) - 1:
                return y
            y = tf1.nn.relu(y) if self.config.activation == "relu" else tf1.nn.leaky_relu(y, self.config.negative_slope)
            if self.norms:
                scale, shift, moving_mean, moving_variance = self.norms[i]
                mean, variance = tf1.nn.moments(y, [0]) if training else (moving_mean, moving_variance)
                if training and updates is not None:
                    updates.append(moving_mean.assign_sub(0.2 * (moving_mean - mean)))
                    updates.append(moving_variance.assign_sub(0.2 * (moving_variance - variance)))
                y = tf1.nn.batch_normalization(y, mean, variance, shift, scale, 1e-3)
            x = x + y if self.config.residual and i > 0 and x.shape[1] == y.shape[1] else y
        return x


class Graph:
    """The graph of a step, and its session."""

    def __init__(self, config: Config, images: np.ndarray) -> None:
        self.config, self.order = config, EpochOrder(config, len(images))
        pixels = int(np.prod(images.shape[1:]))
        self.graph = tf1.Graph()
        with self.graph.as_default():
            tf1.set_random_seed(0)
            feed = tf1.placeholder(tf1.uint8, (len(images), pixels))
            data = tf1.get_variable("images", initializer=feed, trainable=False, use_resource=True, validate_shape=True)
            self.gen = Layers(config.gen, "gen", config.latent.size, pixels)
            self.disc = Layers(config.disc, "disc", pixels, 1)
            self.steps = tf1.train.get_or_create_global_step()
            self.indices = tf1.placeholder(tf1.int32, (config.real_batch_size,))
            fetches = self._step(tf1.gather(data, self.indices))
            own = [variable for variable in tf1.global_variables() if variable is not data]
            copies = [a.assign(p) for a, p in zip(self.average, self.gen.parameters, strict=False)]
            self.resets = tf1.group(*[variable.initializer for variable in own]), tf1.group(*copies)
            gpus = tf.config.list_physical_devices("GPU")
            self.device = "cuda" if gpus else "cpu"
            options = tf1.ConfigProto(gpu_options=tf1.GPUOptions(allow_growth=True))
            self.session = tf1.Session(config=options)
            self.session.run(data.initializer, {feed: images.reshape(len(images), pixels)})
            self.run: Callable[[np.ndarray], list[float]] = self.session.make_callable(fetches, [self.indices])
        # 0 lets TensorFlow take every core.
        self.threads = tf.config.threading.get_intra_op_parallelism_threads() or len(os.sched_getaffinity(0))
        self.start(0)

    def start(self, seed: int) -> None:
        """Runs the initialisers, whose random numbers go on from those of the last start."""
        for reset in self.resets:
            self.session.run(reset)
        self.order.reset(seed)

    def train(self, steps: int, window: int) -> dict[str, float]:
        """The loop."""
        losses = [self.run(self.order.next()) for _ in range(steps)]
        return dict(zip(LOSSES, map(float, np.mean([loss[:2] for loss in losses[-window:]], axis=0)), strict=True))

    def _step(self, images: Any) -> list[Any]:
        """D's loss, G's loss and, last, what has to run besides."""
        config = self.config
        real = tf1.cast(images, tf1.float32) / 255.0
        real = real * 2.0 - 1.0 if config.gen.output != "sigmoid" else real
        latents = self._latents(config.batch_size)
        own = latents if config.latent.shared else self._latents(config.real_batch_size)
        fake = self._draw(own)
        disc_loss, disc_step = self._update_disc(real, tf1.stop_gradient(fake))
        moves: list[Any] = []
        with tf1.control_dependencies([disc_step]):
            # With shared latents and no batch norm, D's fakes are G's own.
            if own is not latents or config.gen.batch_norm:
                fake = self._draw(latents, training=True, updates=moves)
            logits = self._judge(fake)
            gen_loss = tf1.reduce_mean(-logits if config.objective.name == "hinge" else tf1.nn.softplus(-logits))
            # The optimiser that counts steps runs last, as its learning rate is that of the step.
            adam = _adam(config, config.gen, self.steps)
            gen_step = adam.minimize(gen_loss, var_list=self.gen.parameters, global_step=self.steps)
        self.average = []
        if config.average_decay:
            with tf1.control_dependencies([gen_step]):
                average = tf1.train.ExponentialMovingAverage(config.average_decay, self.steps.read_value() - 1)
                moves.append(average.apply(self.gen.parameters))
            self.average = [average.average(p) for p in self.gen.parameters]
        return [disc_loss, gen_loss, tf1.group(gen_step, *moves)]

    def _update_disc(self, real: Any, fake: Any) -> tuple[Any, Any]:
        config, adam = self.config, _adam(self.config, self.config.disc, self.steps)

        def on_real(logits: Any) -> Any:
            if config.objective.name == "hinge":
                return tf1.reduce_mean(tf1.nn.relu(1.0 - logits))
            labels = tf1.fill(tf1.shape(logits), config.objective.real_label)
            return tf1.reduce_mean(tf1.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))

        def on_fake(logits: Any) -> Any:
            hinges = config.objective.name == "hinge"
            return tf1.reduce_mean(tf1.nn.relu(1.0 + logits) if hinges else tf1.nn.softplus(logits))

        if config.objective.updates == "halves":
            one = on_real(self._judge(real))
            first = adam.minimize(one, var_list=self.disc.parameters)
            with tf1.control_dependencies([first]):
                other = on_fake(self._judge(fake))
                return (one + other) / 2.0, adam.minimize(other, var_list=self.disc.parameters)
        images = tf1.concat([real, fake], 0)
        logits = self._judge(images)
        real_logits, fake_logits = tf1.split(logits, 2)
        total = loss = on_real(real_logits) + on_fake(fake_logits)
        if config.objective.has_penalty:
            squares = tf1.reduce_sum(tf1.square(tf1.gradients(logits, images)[0]), 1)
            r1, r2 = (tf1.reduce_mean(half) / 2.0 for half in tf1.split(squares, 2))
            total += config.objective.r1 * r1 + config.objective.r2 * r2
        return loss, adam.minimize(total, var_list=self.disc.parameters)

    def _judge(self, images: Any) -> Any:
        return self.disc(images - self.config.zero_pixel if self.config.zero_pixel else images)

    def _draw(self, latents: Any, *, training: bool = False, updates: list[Any] | None = None) -> Any:
        return OUTPUTS[self.config.gen.output](self.gen(latents, training=training, updates=updates))

    def _latents(self, n: int) -> Any:
        shape = (n, self.config.latent.size)
        return (
            tf1.random.normal(shape) if self.config.latent.prior == "normal" else tf1.random.uniform(shape, -1.0, 1.0)
        )


def _adam(config: Config, player: GeneratorConfig | DiscriminatorConfig, steps: Any) -> Any:
    adam = player.optimizer
    rate: Any = adam.learning_rate
    if config.decay_steps:
        done = tf1.maximum(steps - config.decay_start, 0)
        rate = tf1.train.cosine_decay(rate, done, config.decay_steps, alpha=FINAL_RATE)
    return tf1.train.AdamOptimizer(rate, adam.b1, adam.b2, adam.epsilon)


def build(config: Config, images: np.ndarray) -> Graph:
    """A graph and its session."""
    return Graph(config, images)
