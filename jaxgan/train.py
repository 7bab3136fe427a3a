"""`python -m jaxgan.train [PRESET] [--field value ...]`: trains one GAN into a run directory."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxgan import cli, hosts
from jaxgan.config import Config, DataConfig, DatasetName, InputError, as_typed, expanded, flag, leaves
from jaxgan.hosts import Hosts
from jaxgan.presets import DEFAULT_PRESET, PRESETS, preset_table

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from jaxgan.data.cache import Arrays
    from jaxgan.gan.state import TrainState
    from jaxgan.runs.directory import DatasetRecord, RunRecord
    from jaxgan.runs.terminal import Terminal
    from jaxgan.runs.training import Metrics

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
    hosts: Annotated[Hosts, tyro.conf.arg(name="")]
    config: Annotated[Config, tyro.conf.arg(name="")]


def main(arguments: Sequence[str]) -> int:
    """Trains, or continues a run; returns the exit code."""
    preset, rest = split_preset(arguments)
    if cli.parse_some(Clues, rest, usage="train").resume and not {"-h", "--help"} & set(rest):
        return _resume(preset, rest)
    return _train_anew(preset or DEFAULT_PRESET, rest)


def split_preset(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Takes the optional leading preset off the arguments.

    Raises:
        InputError: The first argument is neither a flag nor a preset, or a preset is elsewhere.
    """
    for before, word in itertools.pairwise(arguments):
        if word in PRESETS and not before.startswith("-"):
            raise InputError(f"{word}: a preset is named once, and before all flags")
    if not arguments or arguments[0].startswith("-"):
        return None, list(arguments)
    name = arguments[0]
    if name not in PRESETS:
        close = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"there is no preset {name!r}: choose from {', '.join(PRESETS)}{hint}")
    return name, list(arguments[1:])


def _parse(config: Config, arguments: Sequence[str]) -> Arguments:
    description = (
        "Trains a GAN. An optional PRESET comes first (default: modern); every field of it has a flag.\n\n"
        f"presets:\n{preset_table()}"
    )
    default = Arguments(Where(), Hosts(), config)
    return cli.parse(Arguments, arguments, usage="train [PRESET]", description=description, default=default)


def _train_anew(preset: str, arguments: Sequence[str]) -> int:
    wanted = _parse(PRESETS[preset], arguments)
    terminal = _join(wanted)

    from jaxgan.runs import directory
    from jaxgan.runs.checkpoints import fresh_state

    data_name = hosts.from_first(lambda: _choose_data(wanted, terminal))
    config = replace(wanted.config, data=absolute(replace(wanted.config.data, name=data_name)))
    arrays = _load(config)
    data = dataset_record(config.data, arrays, conditional=config.conditional)
    hosts.check_same("data set", data)
    record = directory.RunRecord(directory.FORMAT, preset, config, data, directory.installed_versions())
    with contextlib.ExitStack() as ownership:

        def own() -> str:
            run = wanted.where.run_dir or directory.claim_directory(RUNS / f"{preset}-{config.seed}")
            ownership.enter_context(directory.owned(run))
            directory.check_new(run)
            directory.write_record(run, record)
            return str(run)

        run = Path(hosts.from_first(own))
        return _train(record, fresh_state(record), arrays, run, terminal)


def _join(wanted: Arguments) -> Terminal:
    """Joins the other processes of the job, if there are any; only the first of them speaks."""
    hosts.join(wanted.hosts)
    cli.start_jax()
    hosts.watch()

    from jaxgan.runs.terminal import Terminal

    hosts.check_same("command line", (wanted.where, wanted.config))
    return Terminal(quiet=not hosts.is_first())


def _choose_data(wanted: Arguments, terminal: Terminal) -> DatasetName:
    """Which data set a new run trains on; before it is looked for, whether the run has a place."""
    from jaxgan.data.dataset import resolve
    from jaxgan.runs import directory

    if wanted.where.run_dir is not None:
        directory.check_new(wanted.where.run_dir)
    return resolve(wanted.config.data, terminal.warn).name


def _load(config: Config) -> Arrays:
    """The training images of a run, with batches that the devices can share."""
    from jaxgan import devices
    from jaxgan.data.dataset import load_arrays

    with hosts.agreed():
        devices.check_divides(config, devices.data_mesh().size)
        return load_arrays(config, "train")


def dataset_record(data: DataConfig, arrays: Arrays, *, conditional: bool) -> DatasetRecord:
    """What a run says of its training images, and of their labels where its players are told them."""
    from jaxgan.data.dataset import fingerprint
    from jaxgan.gan.labels import count_labels
    from jaxgan.runs.directory import DatasetRecord

    counts = count_labels(arrays.labels) if conditional else ()
    return DatasetRecord(data.name, fingerprint(data), arrays.images.shape[1:], len(arrays.images), counts)


def _resume(preset: str | None, arguments: Sequence[str]) -> int:
    from jaxgan.runs import directory

    clues = cli.parse_some(Clues, arguments, usage="train")
    run = clues.run_dir or directory.latest_directory(RUNS / f"{preset or DEFAULT_PRESET}-{clues.seed}")
    stored = directory.read_record(run)
    if preset not in (None, stored.preset):
        raise InputError(f"{run} is a run of the preset {stored.preset}, not of {preset}")
    # Parsed over the stored config, so that what differs is what the user typed.
    wanted = _parse(stored.config, arguments)
    record = replace(stored, config=replace(wanted.config, data=absolute(wanted.config.data)))
    check_resumable(stored.config, record.config)
    terminal = _join(wanted)

    from jaxgan.runs.journal import forget_end

    with contextlib.ExitStack() as ownership:

        def own() -> None:
            ownership.enter_context(directory.owned(run))

        hosts.from_first(own)
        arrays = _load(record.config)
        with hosts.agreed():
            _check_whole(run, record)
        state = _restore(run, record, terminal)
        complete = int(state.step) == record.config.num_steps
        with hosts.agreed():
            if complete and (stored.config.eval_every, stored.config.keep_best) != (
                record.config.eval_every,
                record.config.keep_best,
            ):
                scored = cli.command_line("evaluate", run, "--every-checkpoint")
                raise InputError(
                    f"{run} is complete, and --eval-every and --keep-best score a run while it trains: "
                    f"extend it with --num-steps M, or score it with {scored}"
                )
        if record != stored:
            hosts.from_first(lambda: directory.write_record(run, record))
        if complete:
            _finish(run, record, terminal)
            return 0
        # After the record, and at every resumption: whatever is killed on the way, the next one does it.
        hosts.from_first(lambda: forget_end(run, stored.config, int(state.step)))
        terminal.say(f"resuming at step {int(state.step):,}")
        return _train(record, state, arrays, run, terminal)


def _check_whole(run: Path, record: RunRecord) -> None:
    """Raises InputError where the data of a run, or all of its checkpoints, are no longer there."""
    from jaxgan.data.dataset import fingerprint
    from jaxgan.runs.checkpoints import CHECKPOINTS
    from jaxgan.runs.journal import SUMMARIES, last_step

    data = record.dataset
    if fingerprint(record.config.data) != data.fingerprint:
        raise InputError(f"the data set {data.name} has changed since {run} began: its fingerprint differs")
    folder = run / CHECKPOINTS
    if folder.is_dir() and any(folder.iterdir()):
        return
    told, due = last_step(run), record.config.every.checkpoint
    # A kill may have left the folder empty before the first checkpoint was whole, but not after the second was due.
    was_saved = not folder.is_dir() or (0 < 2 * due < told) or any((run / name).exists() for name in SUMMARIES)
    if told and was_saved:
        raise InputError(
            f"{run} has rows or pictures of step {told:,} and nothing in {CHECKPOINTS}/ to continue from: "
            "bring it back, or begin anew in another --run-dir"
        )


def _restore(run: Path, record: RunRecord, terminal: Terminal) -> TrainState:
    """The newest good state of a run, from which it can go on as `record` says; later checkpoints are put aside."""
    from jaxgan.devices import data_mesh, everywhere
    from jaxgan.runs.checkpoints import Checkpoints, fresh_state, state_template

    with Checkpoints(run) as checkpoints:
        template = state_template(record, everywhere(data_mesh()))
        state = checkpoints.restore_newest(template, terminal.warn) or fresh_state(record)
        step, length = int(state.step), record.config.num_steps
        with hosts.agreed():
            if length < step:
                raise InputError(f"--num-steps {length} is less than the {step} steps that {run} has made")
        checkpoints.set_aside_after(step)
    return state


def _finish(run: Path, record: RunRecord, terminal: Terminal) -> None:
    """Says that a run is complete, and draws what is missing where its end was cut short."""
    from jaxgan.runs.journal import SUMMARIES, summarise

    terminal.say(f"{run} is complete at step {record.config.num_steps:,}; extend it with --resume --num-steps M")
    if all((run / name).exists() for name in SUMMARIES) or not hosts.is_first():
        return
    if written := summarise(run, record.config, record.dataset.image_shape):  # Without rows and pictures, nothing.
        terminal.say(f"wrote     {run}: {', '.join(written)}")


def absolute(data: DataConfig) -> DataConfig:
    """The same folders under names that hold wherever the run is resumed."""
    folders = {"data_dir": data.data_dir, "manual_dir": data.manual_dir}
    return replace(data, **{name: path and expanded(path).absolute() for name, path in folders.items()})


def check_resumable(stored: Config, typed: Config) -> None:
    """Raises InputError, by field, where a config would change what a stored run computes."""
    free = {"num_steps", "keep", "eval_every", "keep_best"}
    free |= {"data.data_dir", "data.manual_dir", "data.resident"}
    free |= {f"every.{name}" for name in ("log", "print", "sample", "checkpoint")}
    before = dict(leaves(stored))
    for name, value in leaves(typed):
        if name not in free and value != before[name]:
            new, old = as_typed(value), as_typed(before[name])
            raise InputError(f"{flag(name)} {new} contradicts the run, which has {old}; it cannot change")


def _trainer(
    record: RunRecord, state: TrainState, arrays: Arrays, mesh: Mesh
) -> Callable[[TrainState, int], tuple[TrainState, Metrics]]:
    """What makes steps: on images that stay on the devices, or on images served from the host."""
    from jaxgan import devices
    from jaxgan.gan.batches import Dataset
    from jaxgan.gan.program import train_steps

    config = record.config
    resident = config.data.resident
    if resident == "host" or (resident == "auto" and not devices.fits(arrays.images.nbytes)):
        from jaxgan.data.stream import Stream

        key = devices.on_one_device(state.key)
        return Stream(config, arrays, key, lambda block: devices.split_steps(mesh, block)).train
    dataset = devices.replicate(mesh, Dataset(images=arrays.images, labels=arrays.labels))  # pyright: ignore[reportArgumentType]
    return lambda state, num_steps: train_steps(config, state, dataset, num_steps)


def _train(record: RunRecord, state: TrainState, arrays: Arrays, run: Path, terminal: Terminal) -> int:
    from jaxgan.devices import data_mesh, replicate
    from jaxgan.runs.checkpoints import checkpoint_steps
    from jaxgan.runs.journal import summarise
    from jaxgan.runs.training import Diverged, run_training
    from jaxgan.yardsticks import validation_scorer

    scorer = validation_scorer(record.config) if record.config.eval_every and hosts.is_first() else None
    mesh = data_mesh()
    state = replicate(mesh, state)
    train = _trainer(record, state, arrays, mesh)
    again = cli.command_line("train", "--run-dir", run, "--resume")
    for line in _introduction(record, state, run):
        terminal.say(line)
    try:
        stopped_by = run_training(record.config, state, train, run, terminal, scorer)
        whole = stopped_by is None and hosts.is_first()
        written = summarise(run, record.config, record.dataset.image_shape) if whole else []
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"{run} cannot be written ({error.strerror}); mend that, then continue with {again}"
        ) from error
    except Diverged as end:
        if not hosts.is_first():
            return DIVERGED
        good = max(checkpoint_steps(run), default=None)
        left = "no checkpoint was made before" if good is None else f"the last good checkpoint is that of step {good:,}"
        print(f"jaxgan: training diverged: {end}; {left}", file=sys.stderr)
        _summarise_what_there_is(record, run, terminal)
        return DIVERGED
    if stopped_by is not None:
        terminal.say(f"stopped by {signal.Signals(stopped_by).name}; resume with: {again}")
        _summarise_what_there_is(record, run, terminal)
        return 128 + stopped_by
    for line in _farewell(run, written):
        terminal.say(line)
    return 0


def _summarise_what_there_is(record: RunRecord, run: Path, terminal: Terminal) -> None:
    """Draws a run that ended early; what stands in the way of that is not what the run ends with."""
    from jaxgan.runs.journal import summarise

    if not hosts.is_first():
        return
    try:
        summarise(run, record.config, record.dataset.image_shape)
    except (InputError, OSError) as error:
        terminal.warn(f"its figures could not be drawn: {error}")


def _introduction(record: RunRecord, state: TrainState, run: Path) -> list[str]:
    from jaxgan.devices import describe
    from jaxgan.gan.networks import count_parameters

    data, config = record.dataset, record.config
    gen, disc = (count_parameters(params) for params in state.params)
    statistics = count_parameters(state.batch_stats.gen) + count_parameters(state.batch_stats.disc)
    moving = f" (and {statistics:,} moving statistics)" if statistics else ""
    size = "x".join(map(str, data.image_shape[:2]))
    return [
        f"device    {describe(state)}, jax {record.versions['jax']}",
        f"data      {data.name}, {data.num_images:,} training images of {size}",
        f"preset    {record.preset}, seed {config.seed}: {config.num_steps:,} steps of {config.batch_size} images",
        f"networks  generator {gen:,} parameters{moving}, discriminator {disc:,}",
        f"run       {run}",
    ]


def _farewell(run: Path, written: list[str]) -> list[str]:
    files = ["checkpoints/", "metrics.jsonl", "samples/", *written]
    pictures = " and ".join(str(run / name) for name in ("samples.gif", "losses.png") if name in written)
    return [
        f"wrote     {run}: {', '.join(files)}",
        *([f"look at   {pictures}"] if pictures else []),
        f"sample    {cli.command_line('sample', run, '--num', 64, '--out', 'digits.png')}",
        f"extend    {cli.command_line('train', '--run-dir', run, '--resume', '--num-steps', 'M')}",
    ]


if __name__ == "__main__":
    cli.run(main)
