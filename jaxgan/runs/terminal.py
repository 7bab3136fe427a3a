"""What a person sees of a run: a live bar in a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.text import Text

_SHOWN = {
    "loss/disc": "D loss {:.3f}",
    "loss/gen": "G loss {:.3f}",
    "accuracy/disc": "D accuracy {:.2%}",
    "prob/real": "D(real) {:.3f}",
    "prob/fake": "D(fake) {:.3f}",
    "score/frechet": "Fréchet {:.2f}",
    "score/recall": "recall {:.3f}",
}
_ON_THE_BAR = ("loss/disc", "loss/gen", "prob/real", "prob/fake")
_ABOVE_THE_BAR = ("loss/disc", "loss/gen", "accuracy/disc", "score/frechet", "score/recall")


class _Status(ProgressColumn):
    """Two lines, so that all fits into 80 columns beside the bar: how far, how fast, how long; the newest metrics."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        clock = "" if left is None else f"  {int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d} left"
        done = f"step {int(task.completed):,}/{int(task.total or 0):,}"
        return Text(f"{done}  {task.fields['rate']}{clock}\n{task.fields['metrics']}")


class Terminal:
    """Lines on standard output, warnings on standard error, and a progress bar where output is a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Opens the terminal; a quiet one shows nothing, as in all processes of a job but the first."""
        self._quiet = quiet
        self._console = Console(highlight=False, soft_wrap=True, markup=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def say(self, line: str) -> None:
        """Prints a line."""
        if self._quiet:
            return
        if self._console.is_terminal:
            self._console.print(line)
        else:
            print(line, flush=True)

    def warn(self, line: str) -> None:
        """Prints a line to standard error, above the bar where there is one."""
        if self._quiet:
            return
        if self._progress is not None:
            self._progress.stop()
        print(f"jaxgan: warning: {line}", file=sys.stderr, flush=True)
        if self._progress is not None:
            self._progress.start()

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Prints the metrics of a step."""
        names = tuple(_SHOWN) if self._progress is None else _ABOVE_THE_BAR
        self.say("  ".join((f"step {step:>9,}", *shown(metrics, names))))

    def start(self, step: int, num_steps: int) -> None:
        """Shows the bar of a run that stands at `step`."""
        if self._console.is_terminal and not self._quiet:
            columns = (BarColumn(bar_width=20), _Status())
            self._progress = Progress(*columns, console=self._console, refresh_per_second=4, speed_estimate_period=10)
            self._task = self._progress.add_task("", total=num_steps, completed=step, rate="compiling", metrics="")
            self._progress.start()

    def advance(self, step: int, rate: float, metrics: Mapping[str, float]) -> None:
        """Moves the bar: steps done, steps/s, the newest metrics."""
        if self._progress is not None:
            text = "  ".join(shown(metrics, _ON_THE_BAR))
            self._progress.update(self._task, completed=step, rate=f"{rate:,.0f} steps/s", metrics=text)

    def stop(self) -> None:
        """Takes the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.stop()


def shown(metrics: Mapping[str, float], names: tuple[str, ...]) -> list[str]:
    """The metrics of a step as people read them."""
    return [_SHOWN[name].format(metrics[name]) for name in names if name in metrics]
