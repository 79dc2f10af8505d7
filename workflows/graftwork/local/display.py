"""Showing a run: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import IO, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graftwork.local.watch import State, Status
from graftwork.units import format_number, format_seconds

MARKS: dict[State, tuple[str, str, str]] = {
    "waiting": ("·", "dim", "waiting"),
    "running": ("▶", "cyan", "running"),
    "held": ("⧗", "yellow", "another run is making it"),
    "done": ("✓", "green", "done"),
    "reused": ("✓", "dim green", "done earlier"),
    "left_out": ("–", "dim", "left out"),
    "interrupted": ("✗", "yellow", "interrupted"),
    "failed": ("✗", "bold red", "failed"),
    "blocked": ("–", "dim", "not reached"),
}
# Seconds between two plain lines on the same step.
QUIET = 10.0


class Display(Protocol):
    """Shows the steps of a run while it goes on."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *failure: object) -> None:
        """End."""

    def update(self, steps: Sequence[Status], touched: Sequence[Status]) -> None:
        """Show how the steps are; `touched` have changed."""


def display_for(stream: IO[str]) -> Display:
    """A live table where a person looks on, else lines."""
    console = Console(file=stream, highlight=False)
    return LiveTable(console) if console.is_terminal else Lines(stream)


class Lines:
    """One line for whatever happens, and now and then one on progress."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self._shown: dict[str, tuple[State, float]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stream.flush()

    def update(self, steps: Sequence[Status], touched: Sequence[Status]) -> None:
        """Write lines for steps whose state has changed, or that were quiet for long enough."""
        for status in touched:
            state, last = self._shown.get(status.name, ("waiting", 0.0))
            if status.state == state and (status.state != "running" or time.time() - last < QUIET):
                continue
            self._shown[status.name] = (status.state, time.time())
            details = ", ".join(details_of(status))
            line = f"{status.name}: {MARKS[status.state][2]}" + (f", {details}" if details else "")
            self.stream.write(line + "\n")
            self.stream.flush()


def details_of(status: Status) -> list[str]:
    """What there is to say of a step at the moment, in short phrases."""
    found = []
    if status.state == "running" and status.total:
        found.append(
            f"{format_number(status.done)} of {format_number(status.total)} {status.unit}".strip()
        )
    if status.loss is not None and status.state in ("running", "done", "reused"):
        found.append(f"loss {status.loss:.3f}")
    if status.state == "running":
        if status.tokens_per_second:
            found.append(f"{format_number(status.tokens_per_second)} tokens/s")
        if status.remaining is not None:
            found.append(f"{format_seconds(status.remaining)} left")
    if status.state == "done":
        found.append(format_seconds(status.seconds))
    if status.state in ("held", "left_out", "failed", "blocked") and status.message:
        # What follows the first line is told in full at the end.
        found.append(status.message.partition("\n")[0])
    return found


class LiveTable:
    """A table that is redrawn in place, and makes room for the table of results at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._steps: Sequence[Status] = ()
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._live.stop()

    def update(self, steps: Sequence[Status], touched: Sequence[Status]) -> None:
        """Show the steps as they are from now on."""
        self._steps = steps

    def _render(self) -> RenderableType:
        shown = visible(self._steps, max(3, self.console.size.height - 4))
        table = Table.grid(padding=(0, 2))
        for status in shown:
            table.add_row(*_row(status))
        hidden = len(self._steps) - len(shown)
        if not hidden:
            return table
        ended = sum(status.ended > 0 for status in self._steps)
        return Group(table, Text(f"{hidden} more; {ended} of {len(self._steps)} are over", "dim"))


def visible(steps: Sequence[Status], room: int) -> Sequence[Status]:
    """As many steps as there is room for, around the one that runs."""
    if len(steps) <= room:
        return steps
    current = next(
        (i for i, status in enumerate(steps) if status.state in ("running", "held", "failed")),
        sum(status.ended > 0 for status in steps),
    )
    first = min(max(0, current - room // 2), len(steps) - room)
    return steps[first : first + room]


def _row(status: Status) -> tuple[RenderableType, ...]:
    mark, style, words = MARKS[status.state]
    bar: RenderableType = Text(words, style=style)
    if status.state == "running" and status.total:
        bar = ProgressBar(total=status.total, completed=status.done, width=24)
    seconds = format_seconds(status.seconds) if status.state in ("running", "held") else ""
    return (
        Text(f"{mark} {status.name}", style=style),
        Text(status.kind, style="dim"),
        bar,
        Text(seconds, style="dim"),
        Text(", ".join(details_of(status)), style=style if status.state == "failed" else ""),
    )
