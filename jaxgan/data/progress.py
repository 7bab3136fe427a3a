"""How far a long preparation is, on stderr: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress(task: str, total: int, every: int = 20_000) -> Iterator[Callable[[int], None]]:
    """Shows a task of `total` units; gives a function that takes how many units more are done.

    Args:
        task: What is done, such as "preparing digits".
        total: Units in all.
        every: Units between two plain lines.
    """
    console = Console(stderr=True)
    if not (sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal):
        yield _plain(task, total, every)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        shown = bar.add_task(task, total=total)
        yield lambda units: bar.advance(shown, units)


def _plain(task: str, total: int, every: int) -> Callable[[int], None]:
    done = 0
    print(f"{task}: 0 of {total:,}", file=sys.stderr, flush=True)

    def advance(units: int) -> None:
        nonlocal done
        before, done = done, done + units
        if done // every > before // every or before < total <= done:
            print(f"{task}: {done:,} of {total:,}", file=sys.stderr, flush=True)

    return advance


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps what TFDS prints, logs and warns about itself from the user."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
