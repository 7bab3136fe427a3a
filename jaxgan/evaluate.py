"""`python -m jaxgan.evaluate RUN`: says how good generated images are, beside real ones and worse than real ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxgan import cli, yardsticks
from jaxgan.config import Config, InputError, with_values
from jaxgan.sample import LabelScale, LatentScale, Run, scaled, wanted_step

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Int32, Key, UInt8

    from jaxgan.gan.state import TrainState
    from jaxgan.runs.directory import RunRecord
    from jaxgan.runs.scores import Row, Scores


MOST_IMAGES = 10_000
"""Images of a draw that any data set takes; of a small one the reference rows have fewer."""
_SHOWN = 4  # Checkpoints that the table has room for.


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    run: Run
    """Run directory, or the name of a published generator, whose scores are only printed."""
    checkpoint: str | None = None
    """Step to score, or best; by default the newest."""
    every_checkpoint: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Score every checkpoint of the run, once each, and plot the scores over the steps."""
    against: yardsticks.Split = "test"
    """Real images to score against: the test split, the validation images (the first 5,000 training images), or 10,000
    of the other training images."""
    num: int = MOST_IMAGES
    """Images of a draw. Scores of different numbers cannot be compared."""
    draws: int | None = None
    """Independent draws of images, by default 3, or 1 of every checkpoint; the table shows mean and deviation."""
    two_sample: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also train a network to tell real from generated images, a quarter of a minute a draw."""
    seed: int = 0
    """Seed of the latents and of the reference rows."""
    latent_scale: LatentScale = None
    """How many times as large latents are as in training; by default what the run says."""
    label_scale: LabelScale = None
    """How many times as large labels are as in training; by default what the run says."""
    data_dir: Annotated[Path | None, tyro.conf.arg(name="data.data-dir")] = None
    """Folder of prepared data sets, where it is no longer that of the run."""
    manual_dir: Annotated[Path | None, tyro.conf.arg(name="data.manual-dir")] = None
    """Folder that holds the original gz files, where it is no longer that of the run."""


def main(arguments: Sequence[str]) -> int:
    """Scores a generator; returns the exit code."""
    wanted = cli.parse(Arguments, arguments, usage="evaluate", description="Scores the samples of a trained generator.")
    _check(wanted)

    cli.start_jax()

    from jaxgan.runs import directory, scores
    from jaxgan.runs.loading import is_published

    record, states = _open(wanted)
    record = _moved(record, wanted)
    config = scaled(record.config, wanted.latent_scale, wanted.label_scale)
    yardstick = yardsticks.prepare_yardstick(record, wanted.against)
    if wanted.num > (most := max(MOST_IMAGES, len(yardstick.training))):
        raise InputError(
            f"--num {wanted.num} is more than the {most:,} real images that reference rows are made of: "
            f"take --num {most} or less"
        )
    protocol = scores.Protocol(
        network=yardstick.network.version,
        dataset=record.dataset.name,
        fingerprint=record.dataset.fingerprint,
        against=wanted.against,
        num=wanted.num,
        draws=wanted.draws or (1 if wanted.every_checkpoint else 3),
        latent_scale=config.latent.scale,
        label_scale=config.latent.label_scale,
        seed=wanted.seed,
    )
    references = yardsticks.reference_rows(
        yardstick, protocol, record.config.data, seed=wanted.seed, with_two_sample=wanted.two_sample
    )
    accuracy = yardstick.network.record.test_accuracy
    found = scores.Scores(protocol, accuracy, directory.installed_versions(), references)
    published = is_published(wanted.run)  # Then its D is untrained, and there is no folder to write to.
    rows = (
        (int(state.step), score_generator(wanted, protocol.draws, config, state, yardstick, with_disc=not published))
        for state in states
    )
    if published:
        print(*_report(wanted, replace(found, checkpoints=dict(rows))), sep="\n")
        return 0
    run, whole, aside, unwritten = Path(wanted.run), found, None, None
    for step, row in rows:
        found = replace(found, checkpoints={**found.checkpoints, step: row})
        try:  # At once, so that an interruption loses no checkpoint that was scored.
            whole, moved = scores.add_scores(run, found)
            aside = aside or moved
        except OSError as error:
            unwritten = error
    print(*_report(wanted, found), sep="\n")
    if unwritten is not None:
        raise unwritten
    if aside is not None:
        print(f"moved what {scores.SCORES} held, of another protocol or damaged, to {aside}")
    written = [scores.SCORES]
    if len(whole.checkpoints) > 1:
        scores.write_score_curves(whole, run / scores.SCORES_PLOT)
        written.append(scores.SCORES_PLOT)
    print(f"wrote {' and '.join(str(run / name) for name in written)}")
    return 0


def _moved(record: RunRecord, wanted: Arguments) -> RunRecord:
    """The record, with the data folders that the command line names in place of its own."""
    folders = {"data.data_dir": wanted.data_dir, "data.manual_dir": wanted.manual_dir}
    typed = {name: path for name, path in folders.items() if path is not None}
    return replace(record, config=with_values(record.config, typed))


def _open(wanted: Arguments) -> tuple[RunRecord, Iterable[TrainState]]:
    """The record of the run that is to be scored, and its states; many are read one after the other.

    Raises:
        InputError: There is no such run, generator or checkpoint, or it is damaged.
    """
    from jaxgan.runs.checkpoints import checkpoint_steps
    from jaxgan.runs.directory import read_record
    from jaxgan.runs.loading import is_published, load_generator

    if not wanted.every_checkpoint:
        record, state = load_generator(wanted.run, wanted_step(wanted.checkpoint))
        return record, [state]
    if is_published(wanted.run):
        raise InputError(f"--every-checkpoint: the published generator {wanted.run} has none to choose from")
    run = Path(wanted.run)
    record = read_record(run)
    if not (steps := checkpoint_steps(run)):
        raise InputError(f"{run} has no checkpoint yet")
    return record, _readable_states(run, record, steps)


def _readable_states(run: Path, record: RunRecord, steps: Sequence[int]) -> Iterator[TrainState]:
    """The states of the steps but for those that cannot be read, which are warned of.

    Raises:
        InputError: None can be read.
    """
    from jaxgan.runs.loading import load_state
    from jaxgan.runs.terminal import Terminal

    read = 0
    for step in steps:
        try:
            state = load_state(run, record, step)
        except InputError as error:
            Terminal().warn(f"{error}; going on without it")
            continue
        read += 1
        yield state
    if not read:
        raise InputError(f"no checkpoint of {run} can be read")


def _check(wanted: Arguments) -> None:
    if wanted.num < 10:
        raise InputError(f"--num must be a whole number of 10 or more, not {wanted.num}")
    if wanted.draws is not None and not 1 <= wanted.draws <= 1000:
        raise InputError(f"--draws must be a whole number from 1 to 1000, not {wanted.draws}")
    if not 0 <= wanted.seed < 2**32:
        raise InputError(f"--seed must be a whole number from 0 to {2**32 - 1}, not {wanted.seed}")
    if wanted.every_checkpoint and wanted.checkpoint is not None:
        raise InputError("--checkpoint and --every-checkpoint exclude each other")


def score_generator(
    wanted: Arguments,
    draws: int,
    config: Config,
    state: TrainState,
    yardstick: yardsticks.Yardstick,
    *,
    with_disc: bool,
) -> Row:
    """The scores of a generator over independent draws, and if wished of what its discriminator says."""
    import jax
    import numpy as np

    from jaxgan.gan.sampling import generate
    from jaxgan.metrics.scores import summarise_draws, to_levels

    key = jax.random.fold_in(jax.random.key(wanted.seed), yardsticks.GENERATED)
    shown = _told(wanted, state, yardstick.labels[: wanted.num]) if with_disc else None
    found = []
    for i in range(draws):
        # By way of the host: a state that was read is bound to its device, and would have all scores compiled anew.
        drawn = jax.random.fold_in(key, i)
        images = to_levels(np.asarray(generate(config, state, drawn, wanted.num)))
        scores = yardsticks.image_scores(yardstick, images, yardstick.trained_on)
        if wanted.two_sample:
            scores |= yardsticks.two_sample(yardstick, images, i)
        if with_disc:
            scores |= _judgement(config, state, yardstick.reference.images, images, drawn, shown)
        found.append(scores)
    return summarise_draws(found)


def _judgement(
    config: Config,
    state: TrainState,
    real: UInt8[Array, "r h w c"],
    images: UInt8[Array, "n h w c"],
    drawn: Key[Array, ""],
    shown: Int32[Array, " m"] | None,
) -> dict[str, float]:
    """What D says of real and generated images, as many of both: its accuracy and mean probabilities.

    A relativistic D judges pairs, and a conditional one has learned to compare images of one class: it is given what G
    makes of what the real images show.
    """
    import numpy as np

    from jaxgan.gan.objectives import judgement
    from jaxgan.gan.sampling import discriminate, generate
    from jaxgan.metrics.classifier import scale
    from jaxgan.metrics.scores import to_levels

    n = min(len(real), len(images))
    fakes = images[:n]
    if shown is not None:
        fakes = to_levels(np.asarray(generate(config, state, drawn, n, labels=shown)))
    real_logits, fake_logits = (discriminate(config, state, scale(each), shown) for each in (real[:n], fakes))
    judged = judgement(config, real_logits=real_logits, fake_logits=fake_logits)
    return {name: float(value) for name, value in judged.items()}


def _told(wanted: Arguments, state: TrainState, labels: Int32[Array, " n"]) -> Int32[Array, " n"] | None:
    """What real images show, for a D that is told it; raises InputError where it has never heard of a class."""
    if state.label_counts is None:
        return None
    if (unknown := int(labels.max())) >= len(state.label_counts):
        raise InputError(f"the {wanted.against} images show class {unknown}, which no training image of the run has")
    return labels


def _report(wanted: Arguments, found: Scores) -> list[str]:
    from jaxgan.runs.scores import table

    protocol = found.protocol
    shown = {f"step {step:,}": row for step, row in list(found.checkpoints.items())[-_SHOWN:]}
    spread = f", mean ± standard deviation of {protocol.draws} draws" if protocol.draws > 1 else ""
    scales = {"latents": protocol.latent_scale, "labels": protocol.label_scale}
    scaled = " and ".join(f"{name} scaled by {scale:g}" for name, scale in scales.items() if scale != 1.0)
    images = f"images of {scaled}" if scaled else "images"
    lines = [
        f"{wanted.run}: {protocol.num:,} {images} against the {protocol.against} images of {protocol.dataset}{spread}",
        f"features of {protocol.network}, which classifies {found.network_accuracy:.2%} of the test images",
        "",
        *table({**shown, **found.references}),
        "",
    ]
    if len(shown) < len(found.checkpoints):
        lines.append(f"These are the last {len(shown)} of {len(found.checkpoints)} checkpoints.")
    blurred, real = (found.references[name]["parzen"]["mean"] for name in ("k-means", "real"))
    if blurred is not None and real is not None and blurred > real:
        lines.append("Parzen windows put blurred k-means centroids above real images: a known flaw of that measure.")
    return lines


if __name__ == "__main__":
    cli.run(main)
