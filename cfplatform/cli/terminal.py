"""Bars and tables, drawn by rich. Imported only on a terminal: importing rich takes time."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from .progress import BYTES, DOWNLOAD, FIRST_LINE, WAIT, Reporter, Work
from .text import Column, amount, clean, clock, rate

#: Seconds between two updates of a bar.
BAR_INTERVAL = 0.05
#: The longest bar; beside it there must be space for the figures.
BAR_WIDTH = 30
#: Blanks between the columns of a table.
GAP = 2
#: Seconds up to which an estimate of the time left is shown.
LONGEST = 100 * 3600.0
#: Rows that are laid out together, so that a long listing appears while it is read.
ROWS_AT_ONCE = 100
#: Characters that a flexible column keeps before an optional one is left out for it.
READABLE = 12
#: The styles of the status of a check, and of the severity of a finding.
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "error": "bold red"}
_STYLES |= {"confirmed": "green", "different": "bold yellow", "not seen": "dim"}


def screen(stream: TextIO) -> Console:
    """Return a console that shows a text as it is."""
    return Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)


# --- Progress ---------------------------------------------------------------------------------------------------------


class _Bar(Progress):
    """A bar above a line that shows a wait, if there is one."""

    wait = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield both."""
        for task in self.tasks:
            task.fields["is_waiting"] = bool(self.wait)
        yield from super().get_renderables()
        if self.wait:
            yield Text(self.wait, "yellow")


class _Times(ProgressColumn):
    """The time so far, and an estimate of the time left."""

    def render(self, task: Task) -> Text:
        """Show both; the first one ticks while nothing is finished."""
        elapsed = clock((task.finished_time if task.finished else task.elapsed) or 0.0)
        # Nobody knows when an outage ends.
        left = None if task.finished or task.fields.get("is_waiting") else task.time_remaining
        return Text(elapsed if left is None or left > LONGEST else f"{elapsed}, {clock(left)} left")


class BarReporter(Reporter):
    """Shows a bar: count, speed, bytes and the time left."""

    interval = BAR_INTERVAL

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        super().__init__(stream, work)
        # Waits are shown by another thread.
        self._lock = threading.Lock()
        # rich would replace both streams of the process while it is shown.
        self._bar = _Bar(*_columns(work), console=screen(stream), redirect_stdout=False, redirect_stderr=False)

    def start(self, total: int | None) -> None:
        """Show the bar."""
        super().start(total)
        with self._lock:
            self._bar.wait = ""
            # Only a spinner shows the description.
            self._bar.add_task("Checking the export", total=total, failed="", speed="")
            self._bar.live.start(refresh=True)

    def advance(self, outcome: str, size: int) -> None:
        """Move the bar; a success ends a wait before the next check does."""
        if outcome != "failed":
            self.end_wait()
        super().advance(outcome, size)

    def finish(self) -> None:
        """Leave the bar with its last figures."""
        super().finish()
        self.close()

    def close(self) -> None:
        """Leave the bar if there is one, and no line of a wait."""
        with self._lock:
            self._bar.wait = ""
            self._bar.live.transient = self._work is WAIT or not self._bar.tasks
            self._bar.live.stop()
            for task in self._bar.task_ids:
                self._bar.remove_task(task)

    def show_wait(self, reason: str, action: str) -> None:
        """Show a wait below the bar."""
        with self._lock:
            self._bar.wait = clean(f"{reason}: {action}")
            self._bar.live.start(refresh=True)

    def end_wait(self) -> None:
        """Remove that line."""
        self._bar.wait = ""

    def tick(self, *, is_calling: bool = True) -> None:
        """Show how long the command has waited, in place of a bar that is yet to come; rich updates a bar itself."""
        if self._began is None and time.monotonic() - self._created >= FIRST_LINE:
            with self._lock:
                self._bar.wait = self._preparing
                self._bar.live.start(refresh=True)

    def _show(self) -> None:
        for task in self._bar.tasks:
            # Before there is a speed, that of all work so far.
            speed = rate(task.speed) if task.speed else rate(self._done, time.monotonic() - (self._began or 0.0))
            self._bar.update(
                task.id,
                completed=self._done,
                failed=f"{self._failed:,} failed" if self._failed else "",
                speed=f"{speed} {self._work.unit}/s  {amount(self._bytes)}",
            )


class SpinnerReporter(BarReporter):
    """Shows the state of an export and the time so far in a line that disappears at the end."""

    def advance(self, outcome: str, size: int) -> None:
        """Show the state; whatever it is, the platform has responded."""
        self.end_wait()
        for task in self._bar.task_ids:
            self._bar.update(task, description=f"The export is {clean(outcome)}", refresh=True)


def _columns(work: Work) -> tuple[ProgressColumn, ...]:
    """Return the columns of a bar, of which only the bar itself shrinks."""
    fixed = RichColumn(no_wrap=True)
    bar = BarColumn(bar_width=None, table_column=RichColumn(max_width=BAR_WIDTH))
    left = _Times(table_column=fixed.copy())
    if work is WAIT:
        return SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    if work.unit == BYTES:
        return bar, DownloadColumn(table_column=fixed.copy()), TransferSpeedColumn(table_column=fixed.copy()), left
    return (
        bar,
        MofNCompleteColumn(table_column=fixed.copy()),
        TextColumn("{task.fields[failed]}", style="red", markup=False, table_column=fixed.copy()),
        TextColumn("{task.fields[speed]}", markup=False, table_column=fixed.copy()),
        left,
    )


# --- Tables -----------------------------------------------------------------------------------------------------------


def print_table(columns: Sequence[Column], rows: Iterator[list[str]]) -> bool:
    """Print rows page by page, with the widths that the pages so far needed; return whether there were any."""
    console = screen(sys.stdout)
    widths = [len(column.title) for column in columns]
    shown: list[int] = []
    while page := list(itertools.islice(rows, ROWS_AT_ONCE)):
        widths = [max(width, *(cell_len(row[i]) for row in page)) for i, width in enumerate(widths)]
        table = _table(show_header=not shown)
        # Chosen once, so that the pages have the same columns.
        shown = shown or _chosen(columns, widths, console.width)
        # With a fixed width, a table gives a flexible column the remaining space.
        table.width = min(sum(widths[i] for i in shown) + GAP * (len(shown) - 1), console.width)
        for i in shown:
            title, right, flexible, _ = columns[i]
            table.add_column(
                title,
                justify="right" if right else "left",
                no_wrap=flexible,
                # IDs and numbers are never cut off.
                overflow="ellipsis" if flexible else "fold",
                width=None if flexible else widths[i],
                ratio=1 if flexible else None,
            )
        for cells in page:
            table.add_row(*(Text(cells[i]) for i in shown))
        console.print(table)
    return bool(shown)


def _table(*, show_header: bool = True) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=show_header, header_style="bold")


def _chosen(columns: Sequence[Column], widths: list[int], available: int) -> list[int]:
    """Return the columns to show: optional ones only while the flexible one stays readable."""
    chosen = list(range(len(columns)))
    least = [min(width, READABLE) if columns[i].flexible else width for i, width in enumerate(widths)]
    for i in sorted(chosen, key=lambda i: -columns[i].optional):
        if columns[i].optional and sum(least[j] for j in chosen) + GAP * (len(chosen) - 1) > available:
            chosen.remove(i)
    return chosen


def print_checks(checks: Iterable[tuple[str, str, str, str | None]], widths: tuple[int, int]) -> None:
    """Print status, name, finding and advice of checks as they come; long texts are wrapped.

    ``widths`` are those of the longest status and the longest name. The same advice is given once.
    """
    console = screen(sys.stdout)
    given: set[str | None] = {None}
    for number, (status, check, found, advice) in enumerate(checks):
        table = _table(show_header=number == 0)
        for title, width in zip(("Status", "Check"), widths, strict=True):
            table.add_column(title, no_wrap=True, width=width)
        table.add_column("Found", overflow="fold")
        cell = Text(clean(found))
        if advice not in given:
            cell.append(f"\n{clean(str(advice))}", "bold")
            given.add(advice)
        table.add_row(Text(status, _STYLES[status]), Text(check), cell)
        console.print(table)


def print_findings(severity: str, code: str, findings: Sequence[tuple[str, str]]) -> None:
    """Print location and message of findings below their code; lines are never cut."""
    console = screen(sys.stdout)
    console.print(Text.assemble((severity, _STYLES[severity]), " ", (code, "bold")), soft_wrap=True)
    for location, message in findings:
        console.print(Text(f"  {clean(location)}\n    {clean(message)}"), soft_wrap=True)
