"""`python -m jaxgan.sweep PRESET --seeds N [--field v1 v2 ...]`: trains many GANs at once, and says how they differ."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxgan import cli, members
from jaxgan.config import Config, InputError, flag, with_values
from jaxgan.presets import DEFAULT_PRESET, PRESETS, preset_table
from jaxgan.train import DIVERGED, RUNS, absolute, dataset_record, split_preset

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from jaxgan.runs.directory import DatasetRecord
    from jaxgan.runs.member_table import MemberTable
    from jaxgan.runs.sweeps import SweepRecord

MEMORY_SHARE = 0.5
"""How much of the devices' memory the members of a wave may take, by estimate; the rest is for data and scores."""


@dataclass(frozen=True)
class Arguments:
    """What the command line says besides fields of the config."""

    seeds: int | None = None
    """Train every combination of values with so many seeds, from --seed on."""
    samples: int | None = None
    """Draw so many times from the ranges; the numbers depend on --seed."""
    keep: int | None = None
    """Export so many of the best members (1), by Fréchet distance to the validation images, as run directories."""
    wave: int | None = None
    """Most members to train at once; by default as many as fit into half of the memory."""
    run_dir: Path | None = None
    """Where the sweep goes; by default runs/PRESET-sweep, or the next free name after it."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue the sweep in --run-dir (by default the last runs/PRESET-sweep)."""


_OWN = ("--seeds", "--samples", "--keep", "--wave", "--run-dir", "--resume", "--help", "-h")


def main(arguments: Sequence[str]) -> int:
    """Trains a population, or continues; returns the exit code."""
    preset, rest = split_preset(arguments)
    flags = members.split_flags(rest)
    own = [word for name in flags if name in _OWN for word in (name, *flags[name])]
    wanted = cli.parse(Arguments, own, usage="sweep [PRESET] [--field VALUE ...]", description=_description())
    if wanted.keep is not None and wanted.keep < 0:
        raise InputError(f"--keep must be a whole number of 0 or more, not {wanted.keep}")
    if wanted.wave is not None and wanted.wave < 1:
        raise InputError(f"--wave must be a whole number of 1 or more, not {wanted.wave}")
    grid = members.read_grid({name: words for name, words in flags.items() if name not in _OWN})
    if wanted.resume:
        return _resume(preset, wanted, grid)
    return _sweep_anew(preset or DEFAULT_PRESET, wanted, grid)


def _description() -> str:
    return (
        "Trains every combination of values in one program, and scores all members against validation images. An "
        "optional PRESET comes first (default: modern). Every field of `python -m jaxgan.train --help` is a flag here, "
        "too, with one value or several:\n\n"
        "  --gen.optimizer.learning-rate 1e-4 1e-3     each value\n"
        "  --gen.optimizer.learning-rate 1e-5..1e-2:log --samples 16     draws from a range, or from its logarithm\n"
        "  --gen.widths 128 256,256     a tuple's numbers are joined by commas\n\n"
        f"presets:\n{preset_table()}"
    )


def _sweep_anew(preset: str, wanted: Arguments, grid: members.Grid) -> int:
    configs = members.all_members(PRESETS[preset], grid, wanted.seeds, wanted.samples)

    from jaxgan.data.dataset import load_arrays, resolve
    from jaxgan.devices import member_mesh, use_cores
    from jaxgan.runs import directory, sweeps
    from jaxgan.runs.terminal import Terminal

    if wanted.run_dir is not None:
        sweeps.check_new_sweep(wanted.run_dir)
    use_cores(len(configs))
    cli.start_jax()
    data = absolute(resolve(configs[0].data, Terminal().warn))
    configs = [replace(config, data=replace(data, order=config.data.order)) for config in configs]
    # Where the largest batch has enough images, all have.
    arrays = load_arrays(max(configs, key=lambda config: config.real_batch_size), "train")
    conditional = any(config.conditional for config in configs)
    dataset = dataset_record(data, arrays, conditional=conditional)
    record = sweeps.SweepRecord(
        format=directory.FORMAT,
        preset=preset,
        fields=members.swept_fields(configs),
        members=tuple(configs),
        keep=sweeps.DEFAULT_KEEP if wanted.keep is None else wanted.keep,
        waves=_waves(configs, dataset, member_mesh(len(configs)), wanted.wave),
        dataset=dataset,
        versions=directory.installed_versions(),
    )
    run = wanted.run_dir or directory.claim_directory(RUNS / f"{preset}-sweep")
    with directory.owned(run):
        sweeps.check_new_sweep(run)
        sweeps.write_sweep(run, record)
        return _sweep(record, run)


def _waves(
    configs: Sequence[Config], dataset: DatasetRecord, mesh: Mesh, most: int | None
) -> tuple[tuple[int, ...], ...]:
    from jaxgan.devices import memory_of
    from jaxgan.gan.population import member_bytes

    memory = MEMORY_SHARE * memory_of(mesh)

    def fitting(member: int) -> int:
        return most or int(memory // member_bytes(configs[member], dataset.image_shape, dataset.label_counts))

    return tuple(map(tuple, members.cut_into_waves(members.group_members(configs), fitting)))


def _resume(preset: str | None, wanted: Arguments, grid: members.Grid) -> int:
    from jaxgan.data.dataset import fingerprint
    from jaxgan.devices import member_mesh, use_cores
    from jaxgan.runs import directory, sweeps

    run = wanted.run_dir or directory.latest_directory(RUNS / f"{preset or DEFAULT_PRESET}-sweep")
    record = sweeps.read_sweep(run)
    if preset not in (None, record.preset):
        raise InputError(f"{run} is a sweep of the preset {record.preset}, not of {preset}")
    folders = {name: grid.fixed[name] for name in ("data.data_dir", "data.manual_dir") if name in grid.fixed}
    grid = replace(grid, fixed={name: value for name, value in grid.fixed.items() if name not in folders})
    num_steps = _wanted_steps(run, record, wanted, grid)
    moved = [with_values(member, folders) for member in record.members]
    record = replace(record, members=tuple(replace(member, data=absolute(member.data)) for member in moved))
    use_cores(len(record.members))
    cli.start_jax()
    with directory.owned(run):
        if fingerprint(record.members[0].data) != record.dataset.fingerprint:
            name = record.dataset.name
            raise InputError(f"the data set {name} has changed since {run} began: its fingerprint differs")
        waves = record.waves
        if wanted.wave is not None:
            waves = _waves(record.members, record.dataset, member_mesh(len(record.members)), wanted.wave)
        if waves != record.waves and sweeps.has_begun(run, record):
            raise InputError(f"--wave {wanted.wave} comes too late: waves of {run} have been trained")
        keep = record.keep if wanted.keep is None else wanted.keep
        if folders or (waves, keep) != (record.waves, record.keep):
            record = replace(record, waves=waves, keep=keep)
            sweeps.write_sweep(run, record)
        if num_steps is not None:
            _check_waves(run, record)
            record = sweeps.lengthen(run, record, num_steps)
        return _sweep(record, run)


def _check_waves(run: Path, record: SweepRecord) -> None:
    """Raises InputError where a wave could not go on: before anything is changed."""
    from jaxgan.devices import host_store, member_mesh
    from jaxgan.runs.sweeping import check_waves

    check_waves(record, run, member_mesh(max(map(len, record.waves))), host_store())


def _wanted_steps(run: Path, record: SweepRecord, wanted: Arguments, grid: members.Grid) -> int | None:
    """How long the sweep shall be, where that is longer than it was to be.

    Raises:
        InputError: Members are given that are not those of the stored sweep, or fewer steps.
    """
    if not (grid.fixed or grid.values or grid.ranges or wanted.seeds or wanted.samples):
        return None
    from jaxgan.runs.sweeps import encode_members

    now, typed = record.members[0].num_steps, grid.fixed.get("num_steps")
    if typed is not None and "num_steps" in record.fields:
        raise InputError(f"{run} sweeps over --num-steps: it cannot be lengthened")
    if typed is not None and typed < now:
        raise InputError(f"--num-steps {typed} is less than the {now} steps of {run}: it can only be lengthened")
    # The length apart, which values of a sweep over it override.
    grid = replace(grid, fixed=grid.fixed | {"num_steps": now})
    if grid.values or grid.ranges or wanted.seeds or wanted.samples:
        data = record.members[0].data
        found = {"data_dir": data.data_dir, "manual_dir": data.manual_dir}
        same = members.all_members(PRESETS[record.preset], grid, wanted.seeds, wanted.samples)
        names = [data.name if each.data.name == "auto" else each.data.name for each in same]
        same = [
            replace(each, data=replace(each.data, name=name, **found)) for each, name in zip(same, names, strict=True)
        ]
        if encode_members(replace(record, members=tuple(same))) != encode_members(record):
            raise InputError(
                f"{run} is a sweep of other members, or of a preset that has changed since: "
                "give --resume alone, or another --run-dir"
            )
    elif len(grid.fixed) > 1:
        name = next(name for name in grid.fixed if name != "num_steps")
        raise InputError(
            f"{flag(name)} cannot change: --resume takes --num-steps and data folders, or the whole command"
        )
    return None if typed == now else typed


def _sweep(record: SweepRecord, run: Path) -> int:
    from jaxgan.data.dataset import load_dataset
    from jaxgan.devices import host_store, member_mesh
    from jaxgan.runs.member_table import MemberTable
    from jaxgan.runs.sweeping import run_sweep
    from jaxgan.runs.sweeps import best_members, read_results
    from jaxgan.yardsticks import member_scorer

    table = MemberTable(record)
    mesh, store = member_mesh(max(map(len, record.waves))), host_store()
    for line in _introduction(record, run, mesh):
        table.say(line)
    dataset = load_dataset(record.members[0], "train")
    again = cli.command_line("sweep", "--run-dir", run, "--resume")
    try:
        stopped_by = run_sweep(record, dataset, run, mesh, store, table, member_scorer(record.members[0].data))
        if stopped_by is None:
            _report(record, run, table)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"{run} cannot be written ({error.strerror}); mend that, then continue with {again}"
        ) from error
    if stopped_by is not None:
        table.say(f"stopped by {signal.Signals(stopped_by).name}; resume with: {again}")
        return 128 + stopped_by
    if not best_members(read_results(run)):
        print(f"jaxgan: training diverged: all {len(record.members)} members did", file=sys.stderr)
        return DIVERGED
    return 0


def _introduction(record: SweepRecord, run: Path, mesh: Mesh) -> list[str]:
    device, data = mesh.devices.flat[0], record.dataset
    fields = ", ".join(record.fields) or "nothing"
    size = "x".join(map(str, data.image_shape[:2]))
    return [
        f"devices   {mesh.size} {device.platform} ({device.device_kind}), jax {record.versions['jax']}",
        f"data      {data.name}, {data.num_images:,} training images of {size}",
        f"preset    {record.preset}, {len(record.members):,} members that differ in {fields}",
        f"waves     {len(record.waves)}, of {', '.join(str(len(wave)) for wave in record.waves[:8])} members"
        + (" and so on" if len(record.waves) > 8 else ""),
        f"sweep     {run}",
    ]


def _report(record: SweepRecord, run: Path, table: MemberTable) -> None:
    """Writes and says what came out, and exports the best members."""
    from jaxgan.devices import host_store
    from jaxgan.runs import sweep_report
    from jaxgan.runs.exporting import export_member
    from jaxgan.runs.sweeps import RESULTS, best_members, describe, read_results, write_results

    results = read_results(run)
    sweep_report.write_score_plots(record, results, run / sweep_report.SCORES_PLOT)
    sweep_report.write_samples_picture(record, run)
    exported = [
        (row, export_member(record, run, row["member"], host_store())) for row in best_members(results)[: record.keep]
    ]
    for row, path in exported:
        row["run"] = str(path.relative_to(run))
    write_results(run, results)
    table.say("")
    for line in sweep_report.sweep_table(record, results):
        table.say(line)
    table.say("")
    for row, path in exported:
        table.say(f"exported  {path}: {describe(record, row['member'])}  Fréchet {row['frechet']:.2f}")
    names = (RESULTS, sweep_report.SCORES_PLOT, sweep_report.SAMPLES_PICTURE)
    table.say(f"wrote     {run}: {', '.join(names)}")
    if "num_steps" not in record.fields:
        table.say(f"extend    {cli.command_line('sweep', '--run-dir', run, '--resume', '--num-steps', 'M')}")


if __name__ == "__main__":
    cli.run(main)
