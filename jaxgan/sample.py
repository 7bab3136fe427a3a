"""`python -m jaxgan.sample RUN`: draws images from a trained generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxgan import cli
from jaxgan.config import Config, InputError, with_values

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from jaxgan.gan.state import TrainState
    from jaxgan.runs.loading import Step

Run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
"""What `sample` and `evaluate` are given; no path, which would forget that ./best is none of the published names."""

LatentScale = Annotated[float | None, tyro.conf.arg(name="latent.scale")]
LabelScale = Annotated[float | None, tyro.conf.arg(name="latent.label-scale")]
"""Flags of `sample` and `evaluate`, with the names that they have in `train`."""

_PIECE = 8192  # Images drawn in one program, so that a million of them fit into memory.


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    run: Run
    """Run directory, or the name of a published generator."""
    num: int = 64
    """How many images; with --interpolate or a .gif the pictures of the walk."""
    out: Path = Path("samples.png")
    """Where to: FILE.png a grid, FILE.gif a walk through the latents, FILE.npy float32 [num, height, width] in [0, 1],
    or a folder, which gets a PNG file an image."""
    labels: tuple[int, ...] | None = None
    """What to draw, one after the other and again from the first, such as RUN --labels 0 1 2; a walk comes by one in 16
    pictures. Of conditional generators only, which otherwise draw each class as often as their data set has it."""
    seed: int = 0
    """Seed of the latents, and of the classes."""
    latent_scale: LatentScale = None
    """How many times as large latents are as in training; by default what the run says."""
    label_scale: LabelScale = None
    """How many times as large labels are as in training; by default what the run says."""
    checkpoint: str | None = None
    """Step to sample from, or best (of a run with --keep-best); by default the newest."""
    interpolate: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Walk from latents to latents instead of drawing each image apart: spherically for normal latents, straight for
    uniform ones."""


def main(arguments: Sequence[str]) -> int:
    """Writes images; returns the exit code."""
    wanted = cli.parse(Arguments, arguments, usage="sample", description="Draws images from a trained generator.")
    _check(wanted)

    cli.start_jax()

    from jaxgan.runs.loading import load_generator

    record, state = load_generator(wanted.run, wanted_step(wanted.checkpoint))
    _check_labels(wanted, state)
    images = draw(scaled(record.config, wanted.latent_scale, wanted.label_scale), state, wanted)
    try:
        write(images, wanted.out)
    except OSError as error:
        raise InputError(f"--out {wanted.out} cannot be written: {error.strerror or error}") from error
    print(f"wrote {len(images):,} images from step {int(state.step):,} of {wanted.run} to {wanted.out}")
    return 0


def _check(wanted: Arguments) -> None:
    if not 1 <= wanted.num < 2**31:
        raise InputError(f"--num must be a whole number of 1 or more, not {wanted.num}")
    if not 0 <= wanted.seed < 2**32:
        raise InputError(f"--seed must be a whole number from 0 to {2**32 - 1}, not {wanted.seed}")
    if wanted.out.suffix not in ("", ".png", ".gif", ".npy"):
        raise InputError(f"--out {wanted.out} must end in .png, .gif or .npy, or name a folder")
    if wanted.out.suffix and wanted.out.is_dir():
        raise InputError(f"--out {wanted.out} is a folder")
    if wanted.out.suffix in (".png", ".gif") and wanted.num > 10_000:
        raise InputError(f"--num {wanted.num} is too many for one picture (at most 10000); a folder or .npy takes any")
    if not wanted.out.suffix and wanted.out.exists() and (not wanted.out.is_dir() or any(wanted.out.iterdir())):
        raise InputError(f"--out {wanted.out} is there already: name an empty or a new folder")


def _check_labels(wanted: Arguments, state: TrainState) -> None:
    """Raises InputError where the generator cannot draw the classes that are asked for."""
    if wanted.labels is None:
        return
    if state.label_counts is None:
        raise InputError(
            f"--labels: {wanted.run} was trained without labels (train with --conditional to choose classes)"
        )
    classes = len(state.label_counts)
    if not wanted.labels or not all(0 <= label < classes for label in wanted.labels):
        shown = " ".join(map(str, wanted.labels)) or "nothing"
        raise InputError(f"--labels must name classes of {wanted.run}, 0 to {classes - 1}, not {shown}")


def wanted_step(checkpoint: str | None) -> Step:
    """What `--checkpoint` says: a step, best, or nothing.

    Raises:
        InputError: It says something else.
    """
    if checkpoint is None or checkpoint == "best":
        return checkpoint
    if not (checkpoint.isascii() and checkpoint.isdecimal()):
        raise InputError(f"--checkpoint must be a step or best, not {checkpoint}")
    return int(checkpoint)


def scaled(config: Config, latent_scale: float | None, label_scale: float | None) -> Config:
    """The config with another `latent.scale` and `latent.label_scale`, where there are any.

    Raises:
        InputError: They are no finite numbers above 0, or there are no labels to scale.
    """
    if label_scale is not None and not config.conditional:
        raise InputError("--latent.label-scale: the generator was trained without labels")
    scales = {"latent.scale": latent_scale, "latent.label_scale": label_scale}
    return with_values(config, {name: scale for name, scale in scales.items() if scale is not None})


def draw(config: Config, state: TrainState, wanted: Arguments) -> Float[np.ndarray, "n h w c"]:
    """Images in [0, 1], each of latents of its own or along a walk."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxgan.gan.labels import draw_labels
    from jaxgan.gan.sampling import draw_latents, generate, walk_labels, walk_latents

    key, n = jax.random.key(wanted.seed), wanted.num
    walks = wanted.interpolate or wanted.out.suffix == ".gif"
    latents = (walk_latents if walks else draw_latents)(config, key, n)
    chosen = None if wanted.labels is None else jnp.array(wanted.labels, jnp.int32)
    if walks:
        labels = walk_labels(state, key, n, chosen)
    else:
        labels = draw_labels(state, key, n) if chosen is None else jnp.resize(chosen, (n,))
    found = []
    for i in range(0, n, _PIECE):
        z, y = latents[i : i + _PIECE], None if labels is None else labels[i : i + _PIECE]
        found.append(np.asarray(generate(config, state, key, len(z), latents=z, labels=y)))
    return np.concatenate(found)


def write(images: Float[np.ndarray, "n h w c"], out: Path) -> None:
    """Writes images as what the name asks for: a grid, a film, an array, or a folder of files."""
    import numpy as np

    from jaxgan.runs import figures
    from jaxgan.runs.directory import write_atomically

    (out if not out.suffix else out.parent).mkdir(parents=True, exist_ok=True)
    levels = figures.to_bytes(images)
    match out.suffix:
        case ".png":
            write_atomically(out, figures.encode_grid(levels))
        case ".gif":
            write_atomically(out, figures.encode_gif([figures.grid(level[None], 1, 8) for level in levels], 60))
        case ".npy":
            write_atomically(out, figures.encode_array(images.astype(np.float32)))
        case _:
            digits = len(str(len(levels) - 1))
            for i, level in enumerate(levels):
                figures.to_picture(level).save(out / f"{i:0{digits}d}.png")


if __name__ == "__main__":
    cli.run(main)
