"""The loop around the compiled program: between its pieces the host writes, draws, saves and listens."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxgan import hosts
from jaxgan.config import Config
from jaxgan.devices import on_one_device
from jaxgan.gan.labels import draw_labels
from jaxgan.gan.program import CAPACITY
from jaxgan.gan.sampling import discriminate, generate
from jaxgan.gan.state import SAMPLE, TrainState, learned
from jaxgan.runs.checkpoints import Best, Checkpoints
from jaxgan.runs.journal import FRECHET, Journal, Unwritten, is_due
from jaxgan.runs.scores import Scorer
from jaxgan.runs.terminal import Terminal

SECONDS_BETWEEN_LOOKS = 0.5

Metrics = Mapping[str, Float[np.ndarray, " steps"]]
Made = TypeVar("Made")

_FIRST_PIECE = 8  # Steps before the speed is known.


class Diverged(Exception):  # noqa: N818 (it is an outcome of a run, not a mistake)
    """A loss or a parameter is not finite; the message names it, and the step."""


class Interruption:
    """Whether SIGINT or SIGTERM came; the second one ends the process at once."""

    signal: int | None = None

    @contextmanager
    def listen(self) -> Iterator[Interruption]:
        """Catches both signals inside the with block."""
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)


def run_training(
    config: Config,
    state: TrainState,
    train: Callable[[TrainState, int], tuple[TrainState, Metrics]],
    run: Path,
    terminal: Terminal,
    scorer: Scorer[Callable[[TrainState], Mapping[str, float]]] | None = None,
) -> int | None:
    """Trains from a state to the end of a run, and leaves a checkpoint of its last state.

    Several processes may do so together, each on its own devices: they make the same pieces, and the first writes.

    Args:
        config: What the run is.
        state: Where it stands.
        train: Makes a number of steps from a state, which it consumes; gives the state after them and their metrics.
        run: Its directory.
        terminal: What a person sees.
        scorer: Makes scores of a state, `score/frechet` among them, every `config.eval_every` steps; the first process
            has it.

    Returns:
        The signal that stopped the run early, else None.

    Raises:
        Diverged: A loss or a parameter is not finite; the checkpoints of before stay as they are.
    """
    step = int(state.step)
    with (
        Interruption().listen() as interruption,
        Journal(run, step) if hosts.is_first() else Unwritten() as journal,
        Checkpoints(run, keep=config.keep) as checkpoints,
        Best(run, hosts.from_first(lambda: _of(scorer).network)) if config.keep_best else nullcontext() as best,
        terminal,
    ):
        terminal.start(step, config.num_steps)
        _draw_if_due(config, state, journal, step)
        length, drawn, stopped_by = _FIRST_PIECE, step, None
        while step < config.num_steps:
            length, stopped_by = _agree(length, interruption.signal)
            if stopped_by is not None:
                break
            piece = min(length, next_stop(config, step) - step)
            began = time.perf_counter()
            state, metrics = train(state, piece)
            rate = piece / (time.perf_counter() - began)
            _record(config, journal, terminal, step, metrics)
            check_finite(state, metrics, step)
            step += piece
            drawn = step if _draw_if_due(config, state, journal, step) else drawn
            if config.eval_every and (is_due(step, config.eval_every) or step == config.num_steps):
                scores = hosts.from_first(lambda state=state: dict(_of(scorer).scores(on_one_device(state))))
                journal.write(step, scores)
                terminal.step(step, scores)
                if best is not None:
                    best.offer(state, scores[FRECHET])
            journal.flush()
            if is_due(step, config.every.checkpoint):
                checkpoints.save(state)
            terminal.advance(step, rate, _last(metrics))
            length = max(1, min(CAPACITY, round(rate * SECONDS_BETWEEN_LOOKS), 4 * length))
        if step == config.num_steps and drawn != step:
            _draw(config, state, journal, step)
        journal.flush()
        checkpoints.save(state)
        checkpoints.wait()
    return stopped_by


def _agree(length: int, heard: int | None) -> tuple[int, int | None]:
    """The length of the next piece, which the first process chooses, and the signal that any process heard."""
    told = hosts.gather((length, heard))
    return told[0][0], next((signal for _, signal in told if signal is not None), None)


def _of(scorer: Scorer[Made] | None) -> Scorer[Made]:
    assert scorer is not None, "a config with eval_every needs a scorer in the first process"
    return scorer


def next_stop(config: Config, step: int) -> int:
    """The next step, after `step`, at which the host has something to do with the state."""
    every = config.every
    stops = [config.num_steps]
    if config.eval_every:
        stops.append(_next_due(step, config.eval_every, 0))
    if every.checkpoint:
        stops.append(_next_due(step, every.checkpoint, 0))
    if every.sample:
        stops.append(_next_due(step, every.sample, int(every.sample_after)))
    return min(stops)


def _next_due(step: int, every: int, after: int) -> int:
    return after + ((step - after) // every + 1) * every


def _record(config: Config, journal: Journal, terminal: Terminal, step: int, metrics: Metrics) -> None:
    """Journals and prints the rows that are due of the steps that follow `step`; row s belongs to step s - 1 from 0."""
    finite = _finite_rows(metrics)
    for i in range(len(finite)):
        row, log, show = step + i + 1, is_due(step + i, config.every.log), is_due(step + i, config.every.print)
        if (log or show) and finite[i]:
            # The shortest decimal that reads back as the same float32.
            values = {name: float(str(column[i])) for name, column in metrics.items()}
            if log:
                journal.write(row, values)
            if show:
                terminal.step(row, values)


def check_finite(state: TrainState, metrics: Metrics, step: int) -> None:
    """Raises Diverged where a metric of the steps after `step`, or a number of the state they led to, is not finite."""
    finite = _finite_rows(metrics)
    if not finite.all():
        i = int(np.argmin(finite))
        name = next(name for name, column in metrics.items() if not np.isfinite(column[i]))
        raise Diverged(f"{name} is {metrics[name][i]} at step {step + i + 1:,}")
    if not bool(_all_finite(learned(state))):
        leaves = jax.tree_util.tree_leaves_with_path(learned(state))
        path = next(path for path, leaf in leaves if not np.isfinite(np.asarray(leaf)).all())
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        raise Diverged(f"{name} is not finite at step {step + len(finite):,}")


def _finite_rows(metrics: Metrics) -> Bool[np.ndarray, " steps"]:
    return np.logical_and.reduce([np.isfinite(column) for column in metrics.values()])


@jax.jit
def _all_finite(tree: object) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _draw_if_due(config: Config, state: TrainState, journal: Journal, step: int) -> bool:
    due = is_due(step, config.every.sample, int(config.every.sample_after))
    if due:
        _draw(config, state, journal, step)
    return due


def _draw(config: Config, state: TrainState, journal: Journal, step: int) -> None:
    """Writes the picture of a state."""
    if not hosts.is_first():
        return
    journal.picture(step, *draw_picture(config, on_one_device(state)))


def draw_picture(config: Config, state: TrainState) -> tuple[Float[np.ndarray, "n h w c"], Float[np.ndarray, " n"]]:
    """Images of a state, and D's logits of them: always of the same latents, so that one sees the same digits grow."""
    key, n = jax.random.fold_in(state.key, SAMPLE), config.every.grid**2
    labels = draw_labels(state, key, n)
    images = generate(config, state, key, n, labels=labels)
    return np.asarray(images), np.asarray(discriminate(config, state, images, labels))


def _last(metrics: Metrics) -> dict[str, float]:
    return {name: float(column[-1]) for name, column in metrics.items()}
