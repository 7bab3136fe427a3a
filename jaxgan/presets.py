"""Named configs: `modern`, `best` and `stacked`, and five published MNIST GANs as their authors ran them.

Where an original leaves a value open, the comment says that the choice is ours.
"""

from __future__ import annotations

from dataclasses import replace

from jaxgan.config import (
    AugmentConfig,
    Config,
    DataConfig,
    DiscriminatorConfig,
    EveryConfig,
    GeneratorConfig,
    LatentConfig,
    ObjectiveConfig,
    OptimizerConfig,
)

_ADAM = OptimizerConfig(learning_rate=1e-3, b1=0.9, b2=0.999, epsilon=1e-8)
_CROSS_ENTROPY = ObjectiveConfig(name="non_saturating", r1=0.0, r2=0.0)
_HINGE = ObjectiveConfig(name="hinge", r1=1.0, r2=1.0)
_RELATIVISTIC = ObjectiveConfig(name="relativistic", r1=1.0, r2=1.0)

_MODERN_ADAM = OptimizerConfig(learning_rate=1.4e-3, b1=0.0, b2=0.99)

# Chosen on validation images: experiments/objectives.
_MODERN = Config(
    num_steps=16_000,
    decay_start=2000,
    decay_steps=14_000,
    average_decay=0.9995,
    gen=GeneratorConfig(widths=(512,) * 3, residual=True, output="clipped_tanh", optimizer=_MODERN_ADAM),
    disc=DiscriminatorConfig(
        widths=(384,) * 3, residual=True, activation="relu", black_at_zero=True, optimizer=_MODERN_ADAM
    ),
    latent=LatentConfig(shared=True, scale=1.1),
    objective=_HINGE,
)

_BEST_ADAM = replace(_MODERN_ADAM, learning_rate=5e-4)

_BEST = replace(
    _MODERN,
    num_steps=85_000,
    decay_start=4000,
    decay_steps=93_000,  # Cut off before it ends: the rest gained nothing.
    conditional=True,
    average_decay=0.99994,
    average_warmup=4,
    gen=replace(_MODERN.gen, optimizer=_BEST_ADAM),
    disc=replace(_MODERN.disc, widths=(512,) * 3, minibatch_std=3, optimizer=_BEST_ADAM),
    latent=LatentConfig(scale=1.13, label_scale=1.06),
    objective=replace(_RELATIVISTIC, r1=0.1, r2=0.1, penalty_every=4, updates="simultaneous"),
    augment=AugmentConfig(shift=1, probability=0.25),
    every=EveryConfig(log=100, print=5000, sample=5000, checkpoint=10_000),
)

# Its D is the one that it was scored with.
_STACKED = replace(
    _MODERN,
    num_steps=30_000,
    decay_start=22_500,
    decay_steps=7500,
    gen=replace(_MODERN.gen, optimizer=replace(_MODERN_ADAM, learning_rate=6e-4)),
    disc=replace(
        _MODERN.disc,
        widths=(512,) * 3,
        activation="leaky_relu",
        black_at_zero=False,
        optimizer=replace(_MODERN_ADAM, learning_rate=6e-4),
    ),
    latent=LatentConfig(),
    objective=_RELATIVISTIC,
    data=DataConfig(name="stacked_mnist"),
)

_VANILLA = Config(
    num_steps=1_000_000,
    average_decay=0.0,
    gen=GeneratorConfig(widths=(128,), activation="relu", output="sigmoid", optimizer=_ADAM),
    disc=DiscriminatorConfig(widths=(128,), activation="relu", optimizer=_ADAM),
    latent=LatentConfig(prior="uniform"),
    objective=_CROSS_ENTROPY,
    # The original keeps no checkpoints and no summaries; those cadences are ours.
    every=EveryConfig(log=100, print=1000, sample=1000, grid=4, checkpoint=10_000),
)

_EPOCH = 550  # Steps of 100 images in an epoch of 55,000.

_LEAKY_TANH = Config(
    num_steps=100 * _EPOCH,
    batch_size=100,
    average_decay=0.0,
    keep=1,
    # The original declares a learning rate of 0.002 and never uses it: Adam runs at its default, 1e-3.
    gen=GeneratorConfig(widths=(128,), negative_slope=0.01, output="tanh", optimizer=_ADAM),
    disc=DiscriminatorConfig(widths=(128,), negative_slope=0.01, optimizer=_ADAM),
    latent=LatentConfig(prior="uniform", shared=True),
    objective=replace(_CROSS_ENTROPY, real_label=0.9),
    every=EveryConfig(log=_EPOCH, print=_EPOCH, sample=_EPOCH, grid=4, checkpoint=_EPOCH),
)

_KERAS_ADAM = OptimizerConfig(learning_rate=2e-4, b1=0.5, b2=0.999, epsilon=1e-7)

_DEEP_BATCHNORM = Config(
    num_steps=30_000,
    batch_size=32,
    average_decay=0.0,
    gen=GeneratorConfig(widths=(256, 512, 1024), batch_norm=True, output="tanh", optimizer=_KERAS_ADAM),
    disc=DiscriminatorConfig(widths=(512, 256), optimizer=_KERAS_ADAM),
    objective=replace(_CROSS_ENTROPY, updates="halves"),
    data=DataConfig(holdout=0, order="replacement"),
    # The original keeps no checkpoints and no summaries; those cadences are ours.
    every=EveryConfig(log=100, print=1000, sample=200, sample_after=True, grid=5, checkpoint=5000),
)

_LOGGED = replace(
    _VANILLA,
    keep=50,
    gen=replace(_VANILLA.gen, initializer="he_normal"),
    disc=replace(_VANILLA.disc, initializer="he_normal"),
    every=replace(_VANILLA.every, checkpoint=1000),
)

_GAUSSIAN_LEAKY = Config(
    # The original shows players and losses but not its loop: length, batch size, shared latents, order, images and
    # cadences are ours.
    num_steps=30_000,
    average_decay=0.0,
    gen=GeneratorConfig(widths=(128,), negative_slope=0.2, output="tanh", optimizer=_ADAM),
    disc=DiscriminatorConfig(widths=(128,), negative_slope=0.2, optimizer=_ADAM),
    latent=LatentConfig(prior="normal", shared=True),
    objective=replace(_CROSS_ENTROPY, real_label=0.9),
    data=DataConfig(holdout=0),
    every=EveryConfig(log=100, print=1000, sample=1000, grid=4, checkpoint=5000),
)

DEFAULT_PRESET = "modern"

PRESETS: dict[str, Config] = {
    "modern": _MODERN,
    "best": _BEST,
    "stacked": _STACKED,
    "vanilla": _VANILLA,
    "leaky-tanh": _LEAKY_TANH,
    "deep-batchnorm": _DEEP_BATCHNORM,
    "logged": _LOGGED,
    "gaussian-leaky": _GAUSSIAN_LEAKY,
}

DESCRIPTIONS: dict[str, str] = {
    "modern": "three residual layers (G 512, D 384), hinge loss with R1 and R2, averaged generator: two minutes",
    "best": "modern told the labels, relativistic, 85,000 steps on moved images: the best digits, in 13 minutes",
    "stacked": "modern on Stacked MNIST, relativistic: three digits as colour channels, 1,000 modes",
    "vanilla": "ReLU 128, sigmoid output, uniform latents: the textbook GAN, 1,000,000 steps",
    "leaky-tanh": "leaky ReLU 128, tanh output, labels smoothed to 0.9, shared latents, 100 epochs",
    "deep-batchnorm": "three batch-normed layers, D updated on real and fake halves apart, 30,000 steps",
    "logged": "vanilla with He-normal kernels, the newest 50 of its frequent checkpoints kept, 1,000,000 steps",
    "gaussian-leaky": "leaky ReLU 128, tanh output, normal latents, labels smoothed to 0.9, 30,000 steps",
}


def preset_table() -> str:
    """A line a preset, for `--help`."""
    return "\n".join(f"  {name:<16}{DESCRIPTIONS[name]}" for name in PRESETS)
