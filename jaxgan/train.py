"""`python -m jaxgan.train [PRESET] [--field value ...]`: trains one GAN into a run directory."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxgan import cli
from jaxgan.config import Config, DataConfig, InputError, flag, leaves
from jaxgan.presets import DEFAULT_PRESET, DESCRIPTIONS, PRESETS

if TYPE_CHECKING:
    from jaxgan.gan.batches import Dataset
    from jaxgan.gan.state import TrainState
    from jaxgan.runs.directory import RunRecord
    from jaxgan.runs.terminal import Terminal

DIVERGED = 3
RUNS = Path("runs")


@dataclass(frozen=True)
class Where:
    """Which run."""

    run_dir: Path | None = None
    """Where the run goes; by default runs/PRESET-<seed>, or the next free name after it."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue the run in --run-dir (by default the last runs/PRESET-<seed>) from its newest good checkpoint."""


@dataclass(frozen=True)
class Clues(Where):
    """What finds a run before anything is known of its config."""

    seed: int = 0


@dataclass(frozen=True)
class Arguments:
    """What the command line says."""

    where: Annotated[Where, tyro.conf.arg(name="")]
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(arguments: Sequence[str]) -> int:
    """Trains, or continues a run; returns the exit code."""
    preset, rest = split_preset(arguments)
    if cli.parse_some(Clues, rest, usage="train").resume:
        return _resume(preset, rest)
    return _train_anew(preset or DEFAULT_PRESET, rest)


def split_preset(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Takes the optional leading preset off the arguments.

    Raises:
        InputError: The first argument is neither a flag nor a preset.
    """
    if not arguments or arguments[0].startswith("-"):
        return None, list(arguments)
    name = arguments[0]
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}{hint}")
    return name, list(arguments[1:])


def _parse(config: Config, arguments: Sequence[str]) -> Arguments:
    table = "\n".join(f"  {name:<16}{DESCRIPTIONS[name]}" for name in PRESETS)
    description = (
        "Trains a GAN. An optional PRESET comes first (default: modern); every field of it has a flag.\n\n"
        f"presets:\n{table}"
    )
    default = Arguments(Where(), config)
    return cli.parse(Arguments, arguments, usage="train [PRESET]", description=description, default=default)


def _train_anew(preset: str, arguments: Sequence[str]) -> int:
    wanted = _parse(PRESETS[preset], arguments)

    from jaxgan.data.dataset import fingerprint, load_dataset, resolve
    from jaxgan.runs import directory
    from jaxgan.runs.checkpoints import fresh_state
    from jaxgan.runs.terminal import Terminal

    terminal = Terminal()
    run = wanted.where.run_dir or directory.free_directory(RUNS / f"{preset}-{wanted.config.seed}")
    directory.check_new(run)
    cli.start_jax()
    config = replace(wanted.config, data=absolute(resolve(wanted.config.data, terminal.warn)))
    dataset = load_dataset(config, "train")
    _, height, width, channels = dataset.images.shape
    data = directory.DatasetRecord(
        config.data.name, fingerprint(config.data), (height, width, channels), len(dataset.images)
    )
    record = directory.RunRecord(directory.FORMAT, preset, config, data, directory.installed_versions())
    with directory.owned(run):
        directory.check_new(run)
        directory.write_record(run, record)
        return _train(record, fresh_state(record), dataset, run, terminal)


def _resume(preset: str | None, arguments: Sequence[str]) -> int:
    from jaxgan.data.dataset import fingerprint, load_dataset
    from jaxgan.runs import directory
    from jaxgan.runs.checkpoints import Checkpoints, fresh_state, state_template
    from jaxgan.runs.terminal import Terminal

    terminal = Terminal()
    clues = cli.parse_some(Clues, arguments, usage="train")
    run = clues.run_dir or directory.latest_directory(RUNS / f"{preset or DEFAULT_PRESET}-{clues.seed}")
    stored = directory.read_record(run)
    if preset not in (None, stored.preset):
        raise InputError(f"{run} is a run of the preset {stored.preset}, not of {preset}")
    # Parsed over the stored config, so that what differs is what the user typed.
    typed = _parse(stored.config, arguments).config
    record = replace(stored, config=replace(typed, data=absolute(typed.data)))
    check_resumable(stored.config, record.config)
    cli.start_jax()
    with directory.owned(run):
        dataset = load_dataset(record.config, "train")
        if fingerprint(record.config.data) != stored.dataset.fingerprint:
            raise InputError(
                f"the data set {stored.dataset.name} has changed since {run} began: its fingerprint differs"
            )
        with Checkpoints(run) as checkpoints:
            state = checkpoints.restore_newest(state_template(record), terminal.warn) or fresh_state(record)
            step = int(state.step)
            checkpoints.set_aside_after(step)
        if record.config.num_steps < step:
            raise InputError(f"--num-steps {record.config.num_steps} is less than the {step} steps that {run} has made")
        if record.config.num_steps == step:
            terminal.say(f"{run} is complete at step {step:,}; extend it with --resume --num-steps M")
            return 0
        directory.write_record(run, record)
        terminal.say(f"resuming at step {step:,}")
        return _train(record, state, dataset, run, terminal)


def absolute(data: DataConfig) -> DataConfig:
    """The same folders under names that hold wherever the run is resumed."""
    folders = {"data_dir": data.data_dir, "manual_dir": data.manual_dir}
    return replace(data, **{name: path and path.expanduser().absolute() for name, path in folders.items()})


def check_resumable(stored: Config, typed: Config) -> None:
    """Raises InputError, by field, where a config would change what a stored run computes."""
    free = {"num_steps", "keep", "eval_every", "keep_best", "data.data_dir", "data.manual_dir"} | {
        f"every.{name}" for name in ("log", "print", "sample", "checkpoint")
    }
    before = dict(leaves(stored))
    for name, value in leaves(typed):
        if name not in free and value != before[name]:
            raise InputError(f"{flag(name)} {value} contradicts the run, which has {before[name]}; it cannot change")


def _train(record: RunRecord, state: TrainState, dataset: Dataset, run: Path, terminal: Terminal) -> int:
    from jaxgan.runs.checkpoints import checkpoint_steps
    from jaxgan.runs.journal import summarise
    from jaxgan.runs.training import Diverged, run_training
    from jaxgan.yardsticks import validation_scorer

    evaluate = validation_scorer(record.config) if record.config.eval_every else None
    for line in _introduction(record, state, run):
        terminal.say(line)
    try:
        stopped_by = run_training(record.config, state, dataset, run, terminal, evaluate)
        written = summarise(run, record.config, record.dataset.image_shape)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"{run} cannot be written ({error.strerror}); mend that, then continue with "
            f"python -m jaxgan.train --run-dir {run} --resume"
        ) from error
    except Diverged as end:
        summarise(run, record.config, record.dataset.image_shape)
        good = max(checkpoint_steps(run), default=None)
        left = "no checkpoint was made before" if good is None else f"the last good checkpoint is that of step {good:,}"
        print(f"jaxgan: training diverged: {end}; {left}", file=sys.stderr)
        return DIVERGED
    if stopped_by is not None:
        name = signal.Signals(stopped_by).name
        terminal.say(f"stopped by {name}; resume with: python -m jaxgan.train --run-dir {run} --resume")
        return 128 + stopped_by
    for line in _farewell(run, written):
        terminal.say(line)
    return 0


def _introduction(record: RunRecord, state: TrainState, run: Path) -> list[str]:
    import jax

    from jaxgan.gan.networks import count_parameters

    device, data, config = jax.devices()[0], record.dataset, record.config
    gen, disc = (count_parameters(params) for params in state.params)
    statistics = count_parameters(state.batch_stats.gen) + count_parameters(state.batch_stats.disc)
    moving = f" (and {statistics:,} moving statistics)" if statistics else ""
    size = "x".join(map(str, data.image_shape[:2]))
    return [
        f"device    {device.platform} ({device.device_kind}), jax {record.versions['jax']}",
        f"data      {data.name}, {data.num_images:,} training images of {size}",
        f"preset    {record.preset}, seed {config.seed}: {config.num_steps:,} steps of {config.batch_size} images",
        f"networks  generator {gen:,} parameters{moving}, discriminator {disc:,}",
        f"run       {run}",
    ]


def _farewell(run: Path, written: list[str]) -> list[str]:
    files = ["checkpoints/", "metrics.jsonl", "samples/", *written]
    return [
        f"wrote     {run}: {', '.join(files)}",
        f"look at   {run / 'samples.gif'} and {run / 'losses.png'}",
        f"sample    python -m jaxgan.sample {run} --num 64 --out digits.png",
        f"extend    python -m jaxgan.train --run-dir {run} --resume --num-steps M",
    ]


if __name__ == "__main__":
    cli.run(main)
