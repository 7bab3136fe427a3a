"""The loop around the compiled program of a population: wave after wave is trained, journaled, saved and scored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, Sharding
from jaxtyping import Float, UInt8

from jaxgan.config import Config
from jaxgan.gan.batches import Dataset
from jaxgan.gan.population import (
    CAPACITY,
    Population,
    finite_members,
    init_population,
    member_state,
    pad_population,
    place_dataset,
    place_population,
    population_template,
    stop_members,
    train_population,
    trim_population,
)
from jaxgan.gan.sampling import generate
from jaxgan.gan.state import SAMPLE, TrainState
from jaxgan.runs.checkpoints import Checkpoints, checkpoint_steps
from jaxgan.runs.directory import write_atomically
from jaxgan.runs.figures import to_bytes
from jaxgan.runs.journal import FRECHET, encode_row, is_due, read_row_file
from jaxgan.runs.member_table import MemberTable
from jaxgan.runs.scores import Scorer
from jaxgan.runs.sweeps import (
    SweepRecord,
    check_network,
    make_result,
    metrics_file,
    read_results,
    wave_folder,
    write_results,
    write_samples,
)
from jaxgan.runs.training import SECONDS_BETWEEN_LOOKS, Interruption, next_stop

PICTURES = 10
"""Images of each member in the picture of all."""
KEPT = 2  # Checkpoints of a wave: the newest, and one to fall back on.
SHORTEST_PIECE = 16
"""Steps of each member between looks, also where they take longer than SECONDS_BETWEEN_LOOKS: on a CPU the device
fetches and returns each member's state once a piece, which takes as long as one or two of its steps."""

MemberScorer = Scorer[Callable[[Config, TrainState], Mapping[str, float]]]
Metrics = Mapping[str, Float[np.ndarray, "member steps"]]


class Wave:
    """One population on its way: members of one structure that are trained at once."""

    def __init__(self, record: SweepRecord, number: int, run: Path, mesh: Mesh, store: Sharding) -> None:
        """Step 0 of a wave.

        Args:
            record: What the sweep is.
            number: Which of its waves.
            run: The sweep's directory.
            mesh: Where members are trained.
            store: Where all members fit at once, to be saved and scored.
        """
        self.members = record.waves[number]
        self.configs = [record.members[i] for i in self.members]
        self.config = self.configs[0]
        self.folder = wave_folder(run, number)
        self._files = [metrics_file(run, i) for i in self.members]
        self._data, self._mesh, self._store = record.dataset, mesh, store
        self._population: Population | None = None

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self._placed.step)

    @property
    def _placed(self) -> Population:
        assert self._population is not None, "begin comes first"
        return self._population

    def newest(self, checkpoints: Checkpoints, warn: Callable[[str], None]) -> Population | None:
        """What the newest good checkpoint holds; None where there is none yet.

        Raises:
            InputError: There are checkpoints, and none of them is good.
        """
        shape, counts = self._data.image_shape, self._data.label_counts
        template = population_template(self.config, len(self.members), shape, counts, self._store)
        return checkpoints.restore_newest(template, warn)

    def begin(self, checkpoints: Checkpoints, warn: Callable[[str], None]) -> None:
        """Takes up the newest checkpoint, or starts anew; rows of metrics that come again are taken back."""
        population = self.newest(checkpoints, warn)
        if population is None:
            population = init_population(self.configs, self._data.image_shape, self._data.label_counts, self._store)
        checkpoints.set_aside_after(int(population.step))
        self._population = place_population(pad_population(population, self._mesh.size), self._mesh)
        for path in self._files:
            path.parent.mkdir(exist_ok=True)
            rows = [row for row in read_row_file(path) if row["step"] <= self.step and self._belongs(row)]
            write_atomically(path, "".join(map(encode_row, rows)).encode())

    def _belongs(self, row: Mapping[str, float]) -> bool:
        """Whether a run of this length has such a row; a shorter one had scores of its end."""
        return (
            FRECHET not in row
            or row["step"] == self.config.num_steps
            or is_due(int(row["step"]), self.config.eval_every)
        )

    def last_distances(self) -> dict[int, float]:
        """The newest Fréchet distance in the metrics of each member that has one."""
        rows = {member: read_row_file(path) for member, path in zip(self.members, self._files, strict=True)}
        return {member: row[FRECHET] for member in rows for row in rows[member] if FRECHET in row}

    def train(self, dataset: Dataset, num_steps: int) -> Metrics:
        """Makes steps, and journals the rows that are due."""
        first, before = self.step, self.steps_of_members()
        self._population, metrics = train_population(self.config, self._mesh, self._placed, dataset, num_steps)
        metrics = {name: column[: len(self.members)] for name, column in metrics.items()}  # The rest fill up devices.
        made = self.steps_of_members() - before
        due = [i for i in range(num_steps) if is_due(first + i, self.config.every.log)]
        for member in range(len(self.members)) if due else ():
            rows = []
            for i in due:
                values = {name: column[member, i] for name, column in metrics.items()}
                if i < made[member] and all(map(np.isfinite, values.values())):
                    # The shortest decimal that reads back as the same float32.
                    rows.append({"step": first + i + 1, **{name: float(str(value)) for name, value in values.items()}})
            self.write_rows(member, rows)
        return metrics

    def write_rows(self, member: int, rows: Sequence[Mapping[str, float]]) -> None:
        """Adds rows to the metrics of a member of this wave, counted from 0."""
        with self._files[member].open("a") as file:
            file.writelines(map(encode_row, rows))

    def stop_broken(self) -> None:
        """Stops the members that have learned numbers that are not finite, which metrics need not show."""
        self._population = stop_members(self._placed, finite_members(self._placed))

    def steps_of_members(self) -> np.ndarray:
        """Steps that each member has made."""
        return np.asarray(self._placed.states.step)[: len(self.members)]

    def running(self) -> np.ndarray:
        """Which members have not diverged."""
        return np.asarray(self._placed.running)[: len(self.members)]

    def is_scored(self, member: int) -> bool:
        """Whether the metrics of a member have scores of this step."""
        return any(row["step"] == self.step and FRECHET in row for row in read_row_file(self._files[member])[-1:])

    def write_scores(self, member: int, scores: Mapping[str, float]) -> None:
        """Adds the row of scores that training with `--eval-every` writes."""
        row = {FRECHET: scores["frechet"], "score/recall": scores["recall/3"]}
        if all(map(math.isfinite, row.values())):
            self.write_rows(member, [{"step": self.step, **row}])

    def stored(self) -> Population:
        """All members, where they fit."""
        return jax.device_put(trim_population(self._placed, len(self.members)), self._store)

    def state_of(self, stored: Population, member: int) -> TrainState:
        """The state of a member of this wave, counted from 0, where a single run has it."""
        return jax.device_put(member_state(stored, member), self._mesh.devices.flat[0])


def check_waves(record: SweepRecord, run: Path, mesh: Mesh, store: Sharding) -> None:
    """Raises InputError where a wave has checkpoints that cannot be read: it could not go on."""
    for number in range(len(record.waves)):
        wave = Wave(record, number, run, mesh, store)
        if checkpoint_steps(wave.folder):
            with Checkpoints(wave.folder) as checkpoints:
                wave.newest(checkpoints, warn=lambda _: None)  # It warns when the wave goes on.


def run_sweep(
    record: SweepRecord,
    dataset: Dataset,
    run: Path,
    mesh: Mesh,
    store: Sharding,
    table: MemberTable,
    scorer: MemberScorer,
) -> int | None:
    """Trains and scores all members that are not done; `results.jsonl` has a row for each that is.

    Args:
        record: What the sweep is.
        dataset: Training images.
        run: The sweep's directory.
        mesh: Where members are trained.
        store: Where all members of a wave fit at once.
        table: What a person sees.
        scorer: Makes scores of a member, `frechet`, `recall/3` and `classes/kl` among them.

    Returns:
        The signal that stopped the sweep early, else None.

    Raises:
        InputError: Members were scored by another feature network.
    """
    check_network(run, scorer.network)
    results = read_results(run)
    done = {row["member"] for row in results}
    table.recall({row["member"]: row["frechet"] for row in results if row.get("frechet") is not None})
    placed = place_dataset(dataset, mesh)
    with Interruption().listen() as interruption, table:
        for number, members in enumerate(record.waves):
            if done.issuperset(members):
                continue
            wave = Wave(record, number, run, mesh, store)
            table.start_wave(members, f"wave {number + 1} of {len(record.waves)}", wave.config)
            _train_wave(wave, placed, interruption, table, scorer)
            _finish_wave(record, number, wave, run, interruption, table, scorer)
            if interruption.signal is not None:
                break
    return interruption.signal


def _train_wave(
    wave: Wave, dataset: Dataset, interruption: Interruption, table: MemberTable, scorer: MemberScorer
) -> None:
    """Trains a wave to its end or an interruption, and leaves a checkpoint of its last step."""
    config, length = wave.config, SHORTEST_PIECE
    wave.folder.mkdir(parents=True, exist_ok=True)
    with Checkpoints(wave.folder, keep=KEPT) as checkpoints:
        wave.begin(checkpoints, table.warn)
        table.recall(wave.last_distances())
        _evaluate_if_due(wave, interruption, table, scorer)  # An interruption may have left it out.
        while wave.step < config.num_steps and interruption.signal is None:
            stop = _next_stop(config, wave.step)
            piece, running = min(length, stop - wave.step), int(wave.running().sum())
            began = time.perf_counter()
            metrics = wave.train(dataset, piece)
            rate = piece / (time.perf_counter() - began)
            if wave.step == stop:
                wave.stop_broken()
            table.advance_wave(wave.step, rate * running, metrics, wave.running(), wave.steps_of_members())
            _evaluate_if_due(wave, interruption, table, scorer)
            if is_due(wave.step, config.every.checkpoint):
                checkpoints.save(wave.stored())
            length = max(SHORTEST_PIECE, min(CAPACITY, round(rate * SECONDS_BETWEEN_LOOKS), 4 * length))
        checkpoints.save(wave.stored())
        checkpoints.wait()


def _next_stop(config: Config, step: int) -> int:
    """The next step at which members are scored or saved, or end; a sweep draws no pictures on its way."""
    return next_stop(replace(config, every=replace(config.every, sample=0)), step)


def _evaluate_if_due(wave: Wave, interruption: Interruption, table: MemberTable, scorer: MemberScorer) -> None:
    """Journals the scores of running members every `eval_every` steps; those of the end come with the results."""
    if not (0 < wave.step < wave.config.num_steps and is_due(wave.step, wave.config.eval_every)):
        return
    stored, running = wave.stored(), wave.running()
    for i, member in enumerate(wave.members):
        if running[i] and not wave.is_scored(i) and interruption.signal is None:
            scores = scorer.scores(wave.configs[i], wave.state_of(stored, i))
            wave.write_scores(i, scores)
            table.scored(member, scores)


def _finish_wave(
    record: SweepRecord,
    number: int,
    wave: Wave,
    run: Path,
    interruption: Interruption,
    table: MemberTable,
    scorer: MemberScorer,
) -> None:
    """Scores the members of a wave that has ended, and writes their results and pictures; nothing if interrupted."""
    stored, running, steps = wave.stored(), wave.running(), wave.steps_of_members()
    results, pictures = [], []
    for i, member in enumerate(wave.members):
        if interruption.signal is not None:
            return
        config = wave.configs[i]
        if not running[i]:
            results.append(make_result(record, member, int(steps[i]), scorer.network, None))
            pictures.append(_grey(config, record.dataset.image_shape))
            continue
        state = wave.state_of(stored, i)
        scores = scorer.scores(config, state)
        table.scored(member, scores)
        if config.eval_every and not wave.is_scored(i):
            wave.write_scores(i, scores)
        results.append(make_result(record, member, int(steps[i]), scorer.network, scores))
        pictures.append(_draw(config, state))
    write_samples(run, number, np.stack(pictures))
    write_results(run, [*read_results(run), *results])


def _draw(config: Config, state: TrainState) -> UInt8[np.ndarray, "n h w c"]:
    """The first images of the picture that training would draw of a state."""
    images = generate(config, state, jax.random.fold_in(state.key, SAMPLE), config.every.grid**2)[:PICTURES]
    return to_bytes(np.asarray(images))


def _grey(config: Config, image_shape: tuple[int, int, int]) -> UInt8[np.ndarray, "n h w c"]:
    """What stands for the images of a member that diverged."""
    return np.full((min(PICTURES, config.every.grid**2), *image_shape), 128, np.uint8)
