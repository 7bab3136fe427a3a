"""What the players minimise: adversarial losses on logits, and penalties on the discriminator's gradient.

An objective is a function of D's logits on real and on fake images that returns every loss element by element; the
caller takes means. D answers the logit of "this image is real": D(x) = sigmoid(logit) where a loss speaks of
probabilities. All are written so that values and gradients stay finite at logits of +-1e9.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgan.config import Config, ObjectiveName

Logits = Float[Array, " batch"]
Label = Float[Array, ""] | float
ImageGradients = Float[Array, "batch h w c"]
"""The gradient of each of D's logits by its own image."""


class Losses(NamedTuple):
    """Losses of both players, one number an image (or a pair of images)."""

    disc: Logits
    gen: Logits
    disc_real: Logits | None = None
    """D's term on real images, where `disc` is the sum of one on real and one on fake images."""
    disc_fake: Logits | None = None


class ObjectiveFunction(Protocol):
    """D's logits on real and on fake images -> the losses of both players."""

    def __call__(self, *, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
        """Losses of every image or pair."""
        ...


def minimax(*, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
    """The saturating game: both players have the value V(D, G) = E[log D(x)] + E[log(1 - D(G(z)))].

    D: -[s log D(x) + (1 - s) log(1 - D(x))] - log(1 - D(G(z))), s = `real_label`;  G: log(1 - D(G(z))).
    G's gradient vanishes where D is sure of its fakes.

    References:
        Goodfellow et al. 2014, "Generative Adversarial Nets", equation 1.
    """
    fake = -jax.nn.log_sigmoid(-fake_logits)
    return _halves(real=_cross_entropy(real_logits, real_label), fake=fake, gen=-fake)


def non_saturating(*, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
    """D as in `minimax`; G raises D's answer instead of lowering its doubt, so that early gradients are large.

    D: -[s log D(x) + (1 - s) log(1 - D(x))] - log(1 - D(G(z))), s = `real_label`;  G: -log D(G(z)).
    A label s < 1 is one-sided smoothing: the best D answers s / 2 where it cannot tell.

    References:
        Goodfellow et al. 2014, "Generative Adversarial Nets", section 3.
        Salimans et al. 2016, "Improved Techniques for Training GANs", section 3.4 (one-sided label smoothing).
    """
    fake = -jax.nn.log_sigmoid(-fake_logits)
    return _halves(real=_cross_entropy(real_logits, real_label), fake=fake, gen=-jax.nn.log_sigmoid(fake_logits))


def least_squares(*, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
    """D's raw answers are drawn to 1 on real and 0 on fake images; `real_label` is not used.

    D: (D(x) - 1)^2 / 2 + D(G(z))^2 / 2;  G: (D(G(z)) - 1)^2 / 2.

    References:
        Mao et al. 2017, "Least Squares Generative Adversarial Networks", equation 9.
    """
    del real_label
    return _halves(
        real=jnp.square(real_logits - 1.0) / 2.0,
        fake=jnp.square(fake_logits) / 2.0,
        gen=jnp.square(fake_logits - 1.0) / 2.0,
    )


def wasserstein(*, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
    """The critic's difference of means, to be used with a penalty that keeps it 1-Lipschitz; `real_label` is not used.

    D: -D(x) + D(G(z));  G: -D(G(z)).  -D's loss estimates the Wasserstein-1 distance.

    References:
        Arjovsky, Chintala and Bottou 2017, "Wasserstein GAN", equation 3.
    """
    del real_label
    return _halves(real=-real_logits, fake=fake_logits, gen=-fake_logits)


def hinge(*, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
    """A margin of 1 on each side of zero; `real_label` is not used.

    D: max(0, 1 - D(x)) + max(0, 1 + D(G(z)));  G: -D(G(z)).

    References:
        Lim and Ye 2017, "Geometric GAN", section 3; Miyato et al. 2018, "Spectral Normalization for GANs", equation 16.
    """
    del real_label
    return _halves(real=jax.nn.relu(1.0 - real_logits), fake=jax.nn.relu(1.0 + fake_logits), gen=-fake_logits)


def relativistic(*, real_logits: Logits, fake_logits: Logits, real_label: Label = 1.0) -> Losses:
    """Pairs of one real and one fake image: D says which of the two is real; `real_label` is not used.

    D: softplus(-(D(x) - D(G(z))));  G: softplus(-(D(G(z)) - D(x))).

    References:
        Jolicoeur-Martineau 2018, "The Relativistic Discriminator", equations 3 and 4 (RpGAN).
        Huang et al. 2024, "The GAN is Dead; Long Live the GAN!", section 2 (with R1 and R2).
    """
    del real_label
    difference = real_logits - fake_logits
    return Losses(disc=-jax.nn.log_sigmoid(difference), gen=-jax.nn.log_sigmoid(-difference))


def _halves(*, real: Logits, fake: Logits, gen: Logits) -> Losses:
    return Losses(disc=real + fake, gen=gen, disc_real=real, disc_fake=fake)


def _cross_entropy(logits: Logits, label: Label) -> Logits:
    """-[s log D + (1 - s) log(1 - D)] of the label s."""
    return -label * jax.nn.log_sigmoid(logits) - (1.0 - label) * jax.nn.log_sigmoid(-logits)


OBJECTIVES: dict[ObjectiveName, ObjectiveFunction] = {
    "minimax": minimax,
    "non_saturating": non_saturating,
    "least_squares": least_squares,
    "wasserstein": wasserstein,
    "hinge": hinge,
    "relativistic": relativistic,
}


def r1(gradients: ImageGradients) -> Float[Array, " batch"]:
    """Half the squared norm of D's gradient at real images: |grad_x D(x)|^2 / 2, to be weighted by gamma.

    It keeps D flat on the data, which makes training converge near the equilibrium.

    References:
        Mescheder, Geiger and Nowozin 2018, "Which Training Methods for GANs do actually Converge?", equation 9.
    """
    return _squared_norms(gradients) / 2.0


def r2(gradients: ImageGradients) -> Float[Array, " batch"]:
    """Half the squared norm of D's gradient at fake images: |grad_x D(G(z))|^2 / 2, to be weighted by gamma.

    References:
        Mescheder, Geiger and Nowozin 2018, "Which Training Methods for GANs do actually Converge?", equation 10.
    """
    return _squared_norms(gradients) / 2.0


def wasserstein_gradient_penalty(gradients: ImageGradients) -> Float[Array, " batch"]:
    """How far D's gradient is from norm 1 between real and fake: (|grad D(m x + (1 - m) G(z))| - 1)^2.

    Args:
        gradients: D's gradients at mixtures of a real and a fake image each, whose shares m are uniform on [0, 1].

    References:
        Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", equation 3.
    """
    squares = _squared_norms(gradients)
    # A root's gradient is infinite at 0; below the smallest normal float32 the norm counts as 0, with gradient 0.
    tiny = jnp.finfo(jnp.float32).tiny
    norms = jnp.where(squares > tiny, jnp.sqrt(jnp.maximum(squares, tiny)), 0.0)
    return jnp.square(norms - 1.0)


def _squared_norms(gradients: ImageGradients) -> Float[Array, " batch"]:
    return jnp.square(gradients).sum(axis=(1, 2, 3))


def probabilities(config: Config, *, real_logits: Logits, fake_logits: Logits) -> tuple[Logits, Logits] | None:
    """D's probability that each real and each fake image is real; None where its answer is not a probability.

    For `relativistic` they are the probabilities that the real image of a pair is the real one, and that the fake is;
    for `least_squares` D's raw answers, cut to [0, 1]; for `hinge` sigmoids, which show which way D leans and no more,
    since its loss asks for logits beyond 1 and -1 and not for log-odds.
    """
    match config.objective.name:
        case "wasserstein":
            return None
        case "relativistic":
            return jax.nn.sigmoid(real_logits - fake_logits), jax.nn.sigmoid(fake_logits - real_logits)
        case "least_squares":
            return jnp.clip(real_logits, 0.0, 1.0), jnp.clip(fake_logits, 0.0, 1.0)
        case _:
            return jax.nn.sigmoid(real_logits), jax.nn.sigmoid(fake_logits)


def judgement(config: Config, *, real_logits: Logits, fake_logits: Logits) -> dict[str, Float[Array, ""]]:
    """`prob/real` and `prob/fake`, D's mean probabilities, and `accuracy/disc`; empty where D gives no probability."""
    judged = probabilities(config, real_logits=real_logits, fake_logits=fake_logits)
    if judged is None:
        return {}
    real, fake = judged
    correct = (real > 0.5).mean(dtype=real.dtype) + (fake < 0.5).mean(dtype=fake.dtype)
    return {"prob/real": real.mean(), "prob/fake": fake.mean(), "accuracy/disc": correct / 2.0}


def metric_names(config: Config) -> tuple[str, ...]:
    """The metrics of a step of this config, in the order in which `train_steps` keeps them.

    `loss/disc` is the sum of D's losses on real and fake without penalties (their mean where each half has an update
    of its own), `penalty/*` are unweighted means.
    """
    objective = config.objective
    halves = ("loss/disc_real", "loss/disc_fake") if objective.has_halves else ()
    weights = {"r1": objective.r1, "r2": objective.r2, "gradient_penalty": objective.gradient_penalty}
    penalties = tuple(f"penalty/{name}" for name, weight in weights.items() if weight > 0)
    judged = () if objective.name == "wasserstein" else ("prob/real", "prob/fake", "accuracy/disc")
    return ("loss/disc", *halves, *penalties, *judged, "loss/gen")


def equilibrium(config: Config) -> dict[str, float]:
    """The values of metrics where G matches the data and D, at its best, cannot tell: the lines that plots draw.

    Metrics whose value there is not determined are left out.
    """
    label = config.objective.real_label
    best = label / 2
    real = -label * math.log(best) - (1 - label) * math.log(1 - best)
    fake = -math.log(1 - best)
    match config.objective.name:
        case "non_saturating":
            losses = {
                "loss/disc": real + fake,
                "loss/disc_real": real,
                "loss/disc_fake": fake,
                "loss/gen": -math.log(best),
            }
        case "minimax":
            losses = {"loss/disc": real + fake, "loss/disc_real": real, "loss/disc_fake": fake, "loss/gen": -fake}
        case "relativistic":
            losses = {"loss/disc": math.log(2), "loss/gen": math.log(2)}
        case "least_squares":
            losses = {"loss/disc": 0.25, "loss/disc_real": 0.125, "loss/disc_fake": 0.125, "loss/gen": 0.125}
        case "wasserstein":
            return {"loss/disc": 0.0}
        case "hinge":
            return {"loss/disc": 1.0 if config.objective.updates == "halves" else 2.0}
    if config.objective.updates == "halves":
        losses["loss/disc"] /= 2
    return losses | {"prob/real": best, "prob/fake": best}
