"""GAN training in NumPy float64, written from the papers: forward, backward and Adam by hand.

Nothing here knows the code under test. A network is a list of dense layers (kernel, bias), with batch norm
(scale, shift, moving mean, moving variance) after the activation of each hidden layer where there is any.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Arrays = list[np.ndarray]


@dataclass
class Network:
    """A perceptron with leaky ReLU (slope 0 is ReLU); `parameters` are what trains, in a fixed order."""

    kernels: Arrays
    biases: Arrays
    slope: float
    scales: Arrays = field(default_factory=list)
    shifts: Arrays = field(default_factory=list)
    means: Arrays = field(default_factory=list)
    variances: Arrays = field(default_factory=list)

    @property
    def parameters(self) -> Arrays:
        return [*self.kernels, *self.biases, *self.scales, *self.shifts]


@dataclass
class Pass:
    """A forward pass: its output, and what the backward pass needs of each layer."""

    output: np.ndarray
    inputs: Arrays = field(default_factory=list)
    sums: Arrays = field(default_factory=list)
    normalised: Arrays = field(default_factory=list)
    roots: Arrays = field(default_factory=list)


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1): epsilon beside the corrected root."""

    learning_rate: float
    b1: float
    b2: float
    epsilon: float
    count: int = 0
    first: Arrays = field(default_factory=list)
    second: Arrays = field(default_factory=list)

    def step(self, parameters: Arrays, gradients: Arrays) -> None:
        """Moves the parameters where they are."""
        self.first = self.first or [np.zeros_like(p) for p in parameters]
        self.second = self.second or [np.zeros_like(p) for p in parameters]
        self.count += 1
        for i, g in enumerate(gradients):
            self.first[i] = self.b1 * self.first[i] + (1 - self.b1) * g
            self.second[i] = self.b2 * self.second[i] + (1 - self.b2) * g**2
            mean = self.first[i] / (1 - self.b1**self.count)
            root = np.sqrt(self.second[i] / (1 - self.b2**self.count))
            parameters[i] -= self.learning_rate * mean / (root + self.epsilon)  # In place: the network holds it too.


def forward(net: Network, x: np.ndarray, *, training: bool = False) -> Pass:
    """Runs a network without its output activation; batch norm in training uses the batch and moves its averages."""
    seen = Pass(x)
    for i, (kernel, bias) in enumerate(zip(net.kernels, net.biases, strict=True)):
        seen.inputs.append(x)
        x = x @ kernel + bias
        seen.sums.append(x)
        if i == len(net.kernels) - 1:
            break
        x = np.where(x > 0, x, net.slope * x)
        if net.scales:
            mean, variance = (x.mean(0), x.var(0)) if training else (net.means[i], net.variances[i])
            seen.roots.append(np.sqrt(variance + 1e-3))
            seen.normalised.append((x - mean) / seen.roots[i])
            x = seen.normalised[i] * net.scales[i] + net.shifts[i]
            if training:
                net.means[i] = 0.8 * net.means[i] + 0.2 * mean
                net.variances[i] = 0.8 * net.variances[i] + 0.2 * variance
    seen.output = x
    return seen


def backward(net: Network, seen: Pass, d: np.ndarray) -> tuple[Arrays, np.ndarray]:
    """Gradients by parameter and by input of a loss, from its gradient by the output; batch norm was in training."""
    last = len(net.kernels) - 1
    d_kernels, d_biases, d_scales, d_shifts = Arrays(), Arrays(), Arrays(), Arrays()
    for i in range(last, -1, -1):
        if i < last:
            if net.scales:
                d_scales.insert(0, (d * seen.normalised[i]).sum(0))
                d_shifts.insert(0, d.sum(0))
                d = d * net.scales[i]
                # The batch's mean and variance depend on every image of it.
                d = (d - d.mean(0) - seen.normalised[i] * (d * seen.normalised[i]).mean(0)) / seen.roots[i]
            d = d * np.where(seen.sums[i] > 0, 1.0, net.slope)
        d_kernels.insert(0, seen.inputs[i].T @ d)
        d_biases.insert(0, d.sum(0))
        d = d @ net.kernels[i].T
    return [*d_kernels, *d_biases, *d_scales, *d_shifts], d


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def cross_entropy(net: Network, x: np.ndarray, label: float) -> tuple[float, Arrays, np.ndarray]:
    """Mean cross-entropy of D's answers with a label, its gradients by parameter, and by image."""
    seen = forward(net, x)
    logits = seen.output
    value = (label * np.logaddexp(0, -logits) + (1 - label) * np.logaddexp(0, logits)).mean()
    gradients, d_images = backward(net, seen, (sigmoid(logits) - label) / len(x))
    return float(value), gradients, d_images


def draw(gen: Network, latents: np.ndarray, output: str, *, training: bool) -> tuple[np.ndarray, Pass, np.ndarray]:
    """G's images, its pass, and the derivative of its output activation."""
    seen = forward(gen, latents, training=training)
    if output == "tanh":
        images = np.tanh(seen.output)
        return images, seen, 1 - images**2
    images = sigmoid(seen.output)
    return images, seen, images * (1 - images)


def tell(inputs: np.ndarray, shown: np.ndarray | None) -> np.ndarray:
    """Inputs of either player with what is shown behind them, one-hot (Mirza and Osindero 2014)."""
    return inputs if shown is None else np.hstack([inputs, shown])


def step_jointly(
    gen: Network,
    disc: Network,
    adams: tuple[Adam, Adam],
    output: str,
    real: np.ndarray,
    latents: tuple[np.ndarray, ...],
    shown: np.ndarray | None = None,
) -> dict[str, float]:
    """D's update on real and fake images, then G's against the new D; `latents` are D's and G's."""
    fake, _, _ = draw(gen, tell(latents[0], shown), output, training=False)
    fake, real = tell(fake, shown), tell(real, shown)
    real_loss, real_gradients, _ = cross_entropy(disc, real, 1.0)
    fake_loss, fake_gradients, _ = cross_entropy(disc, fake, 0.0)
    adams[1].step(disc.parameters, [r + f for r, f in zip(real_gradients, fake_gradients, strict=True)])
    gen_loss = step_generator(gen, disc, adams[0], output, latents[1], shown)
    losses = {"loss/disc_real": real_loss, "loss/disc_fake": fake_loss, "loss/gen": gen_loss}
    return losses | {"loss/disc": real_loss + fake_loss}


def step_on_halves(
    gen: Network,
    disc: Network,
    adams: tuple[Adam, Adam],
    output: str,
    real: np.ndarray,
    latents: tuple[np.ndarray, ...],
) -> dict[str, float]:
    """D's update on real images, D's update on fake images, then G's against the new D."""
    fake, _, _ = draw(gen, latents[0], output, training=False)
    real_loss, gradients, _ = cross_entropy(disc, real, 1.0)
    adams[1].step(disc.parameters, gradients)
    fake_loss, gradients, _ = cross_entropy(disc, fake, 0.0)
    adams[1].step(disc.parameters, gradients)
    gen_loss = step_generator(gen, disc, adams[0], output, latents[1])
    losses = {"loss/disc_real": real_loss, "loss/disc_fake": fake_loss, "loss/gen": gen_loss}
    return losses | {"loss/disc": (real_loss + fake_loss) / 2}


def step_generator(
    gen: Network, disc: Network, adam: Adam, output: str, latents: np.ndarray, shown: np.ndarray | None = None
) -> float:
    """The non-saturating update of G: D should answer 1."""
    fake, seen, slope = draw(gen, tell(latents, shown), output, training=True)
    value, _, d_inputs = cross_entropy(disc, tell(fake, shown), 1.0)
    gradients, _ = backward(gen, seen, d_inputs[:, : fake.shape[1]] * slope)
    adam.step(gen.parameters, gradients)
    return value
