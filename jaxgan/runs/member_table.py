"""What a person sees of a sweep: a live table of its members in a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from rich.live import Live
from rich.table import Table

from jaxgan.config import Config
from jaxgan.runs.sweeps import SweepRecord, describe, field_values, show_value
from jaxgan.runs.terminal import Terminal

_SHOWN = (("loss/disc", "D loss"), ("loss/gen", "G loss"), ("prob/real", "D(real)"))
_OTHER_LINES = 7  # What a screen shows besides rows of members.


class MemberTable(Terminal):
    """Losses, D(real) and the newest score of each member; which have diverged, and which is the best so far."""

    def __init__(self, record: SweepRecord) -> None:
        super().__init__()
        self._record = record
        self._fields = [name for name in record.fields if name != "seed"]
        self._live: Live | None = None
        self._cells: dict[int, dict[str, str]] = {}
        self._frechet: dict[int, float] = {}
        self._members: Sequence[int] = ()
        self._title, self._config, self._step = "", record.members[0], 0

    def start_wave(self, members: Sequence[int], title: str, config: Config) -> None:
        """Shows the members of a wave."""
        # Cells first: the table may be drawn at any moment.
        self._cells |= {member: {} for member in members if member not in self._cells}
        self._members, self._title, self._config, self._step = members, title, config, 0
        self.say(f"{title}: {len(members)} members, {config.num_steps:,} steps")
        if self._console.is_terminal and self._live is None:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=2, transient=True)
            self._live.start()

    def advance_wave(
        self,
        step: int,
        rate: float,
        metrics: Mapping[str, Float[np.ndarray, "member steps"]],
        running: Bool[np.ndarray, " member"],
        steps: Int[np.ndarray, " member"],
    ) -> None:
        """Shows the newest metrics.

        Args:
            step: Steps done.
            rate: Steps a second, of all members together.
            metrics: Those of the newest steps.
            running: Which members have not diverged.
            steps: Steps that each member has made.
        """
        for i, member in enumerate(self._members):
            if running[i]:
                self._cells[member] = {
                    label: f"{metrics[name][i, -1]:.3f}" for name, label in _SHOWN if name in metrics
                }
            else:
                self._cells[member] = {"D loss": f"diverged at step {steps[i]:,}"}
                self._know(member, math.nan)
        due = self._config.every.print
        printed = (due > 0 and step // due > self._step // due) or step == self._config.num_steps
        self._step = step
        self._title = (
            f"{self._title.partition(',')[0]}, step {step:,}/{self._config.num_steps:,}, {rate:,.0f} member-steps/s"
        )
        if printed and self._live is None:
            self.say(f"step {step:>9,}  {_summary(metrics, running)}  {rate:,.0f} member-steps/s")

    def recall(self, frechet: Mapping[int, float]) -> None:
        """Takes up distances of members from before an interruption, by which one of them is the best so far."""
        self._cells |= {member: {} for member in frechet if member not in self._cells}
        self._frechet = {**self._frechet, **frechet}

    def scored(self, member: int, scores: Mapping[str, float]) -> None:
        """Shows the scores of a member."""
        self._know(member, scores["frechet"])
        line = f"{describe(self._record, member)}  Fréchet {scores['frechet']:.2f}  recall {scores['recall/3']:.3f}"
        if self._live is None:
            self.say(f"step {self._step:>9,}  {line}")

    def _know(self, member: int, frechet: float) -> None:
        """Keeps the newest distance of a member, if it is one; in a new dict, for the table may be drawn meanwhile."""
        others = {other: known for other, known in self._frechet.items() if other != member}
        self._frechet = {**others, member: frechet} if math.isfinite(frechet) else others

    def warn(self, line: str) -> None:
        """Prints a line to standard error, above the table where there is one."""
        if self._live is not None:
            self._live.stop()
        super().warn(line)
        if self._live is not None:
            self._live.start()

    def stop(self) -> None:
        """Takes the table away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Table:
        table = Table(title=self._title, title_justify="left")
        for name in ("member", "seed", *self._fields, *(label for _, label in _SHOWN), "Fréchet"):
            table.add_column(name, justify="right")
        frechet = self._frechet
        best = min(frechet, key=frechet.__getitem__, default=None)
        room = max(3, self._console.height - _OTHER_LINES)
        rows = self._rows(best)
        for member in rows[:room]:
            config, cells = self._record.members[member], self._cells[member]
            values = [show_value(value) for value in field_values(config, self._fields).values()]
            score = f"{frechet[member]:.2f}" if member in frechet else ""
            shown = [cells.get(label, "") for _, label in _SHOWN]
            mark = " best" if member == best else ""
            table.add_row(f"{member}{mark}", str(config.seed), *values, *shown, score)
        if len(rows) > room:
            table.caption = f"and {len(rows) - room} more"
        return table

    def _rows(self, best: int | None) -> list[int]:
        """The best member, then those of the wave."""
        first = [] if best is None else [best]
        return [*first, *(member for member in self._members if member != best)]


def _summary(metrics: Mapping[str, Float[np.ndarray, "member steps"]], running: Bool[np.ndarray, " member"]) -> str:
    """Means over running members, with the least and the most."""
    parts = [f"{running.sum()} members" + (f", {(~running).sum()} diverged" if not running.all() else "")]
    for name, label in _SHOWN if running.any() else ():
        if name in metrics:
            last = metrics[name][running, -1]
            parts.append(f"{label} {last.mean():.3f} ({last.min():.3f} to {last.max():.3f})")
    return "  ".join(parts)
