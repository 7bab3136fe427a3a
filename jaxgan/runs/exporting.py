"""Members of a sweep as ordinary run directories."""

from __future__ import annotations

import shutil
from pathlib import Path

from jax.sharding import Sharding

from jaxgan.config import InputError
from jaxgan.gan.population import Population, member_state, population_template
from jaxgan.runs.checkpoints import Checkpoints
from jaxgan.runs.directory import write_record
from jaxgan.runs.journal import Journal, read_row_file, summarise
from jaxgan.runs.sweeps import SweepRecord, member_folder, metrics_file, wave_folder
from jaxgan.runs.training import draw_picture


def export_member(record: SweepRecord, run: Path, member: int, store: Sharding) -> Path:
    """Makes `<sweep>/members/<member>/` a run that has come as far as its member, where it is not there yet.

    It has the member's config, last state, metrics and a picture: all that `sample`, `evaluate` and `train --resume`
    take.

    Args:
        record: What the sweep is.
        run: The sweep's directory.
        member: Which member; its wave is done.
        store: Where all members of its wave fit at once.
    """
    target = member_folder(run, member)
    if target.exists():
        return target
    making = target.with_name(f".{member}")
    shutil.rmtree(making, ignore_errors=True)  # An interruption may have left one.
    making.mkdir(parents=True)
    (number,) = (i for i, wave in enumerate(record.waves) if member in wave)
    stored = read_wave(record, run, number, store)
    state = member_state(stored, record.waves[number].index(member))
    exported = record.run_record(member)
    write_record(making, exported)
    step, config = int(state.step), exported.config
    with Journal(making, step) as journal, Checkpoints(making, keep=config.keep) as checkpoints:
        for row in read_row_file(metrics_file(run, member)):
            journal.write(int(row["step"]), {name: value for name, value in row.items() if name != "step"})
        journal.picture(step, *draw_picture(config, state))
        checkpoints.save(state)
    summarise(making, config, record.dataset.image_shape)
    return making.rename(target)


def read_wave(record: SweepRecord, run: Path, number: int, store: Sharding) -> Population:
    """The members of a wave as they ended.

    Raises:
        InputError: Their checkpoint is damaged or missing.
    """
    wave = record.waves[number]
    config = record.members[wave[0]]
    folder = wave_folder(run, number)
    with Checkpoints(folder) as checkpoints:
        if config.num_steps not in checkpoints.steps():
            raise InputError(f"{folder} has no checkpoint of step {config.num_steps}")
        data = record.dataset
        template = population_template(config, len(wave), data.image_shape, data.label_counts, store)
        return checkpoints.restore(template, config.num_steps)
