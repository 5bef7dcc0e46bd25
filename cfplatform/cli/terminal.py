"""Bars and tables, drawn by rich. Imported only where there is a terminal: rich takes its time."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Literal, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text

from .progress import BYTES, CHECK_INTERVAL, DOWNLOAD, Reporter, StateReporter, Work
from .text import Column, amount, clean, rate, write_line

#: Seconds between two updates of a bar.
BAR_INTERVAL = 0.05
#: The longest bar; beside it there must be space for the figures.
BAR_WIDTH = 30
#: Blanks between the columns of a table.
GAP = 2
#: Rows that are laid out together, so that a long listing appears while it is read.
ROWS_AT_ONCE = 100
#: Characters that a flexible column keeps before an optional one is left out for it.
READABLE = 12
#: The styles of the status of a check, and of the severity of a finding.
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "error": "bold red"}


def screen(stream: TextIO) -> Console:
    """Return a console that shows a text as it is."""
    return Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)


# --- Progress ---------------------------------------------------------------------------------------------------------


class WaitNote:
    """The line that shows a wait below a bar; it disappears unless the next check confirms it."""

    def __init__(self) -> None:
        self._text = ""
        self._until = 0.0

    def show(self, reason: str, action: str) -> None:
        """Show it until the next check."""
        self._text, self._until = f"{reason}: {action}", time.monotonic() + 1.5 * CHECK_INTERVAL

    def end(self) -> None:
        """Show nothing."""
        self._until = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        if time.monotonic() < self._until:
            yield Text(clean(self._text), "yellow")


class BarReporter(Reporter):
    """Shows a bar: count, speed, bytes and the time left."""

    interval = BAR_INTERVAL

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        super().__init__(stream, work)
        self._wait = WaitNote()
        # Waits are shown by another thread.
        self._lock = threading.Lock()
        self._bar = Progress(*_columns(work))
        self._live = _live(stream, self._bar, self._wait)

    def start(self, total: int | None) -> None:
        """Show the bar."""
        super().start(total)
        with self._lock:
            self._bar.add_task("", total=total, failed="", speed="")
            self._live.start(refresh=True)

    def finish(self) -> None:
        """Leave the bar with its last figures."""
        super().finish()
        self.close()

    def close(self) -> None:
        """Leave the bar if there is one, and no line of a wait."""
        self._wait.end()
        with self._lock:
            self._live.transient = not self._bar.tasks
            self._live.stop()
            for task in self._bar.task_ids:
                self._bar.remove_task(task)

    def show_wait(self, reason: str, action: str) -> None:
        """Show a wait below the bar."""
        with self._lock:
            self._wait.show(reason, action)
            self._live.start(refresh=True)

    def end_wait(self) -> None:
        """Remove that line."""
        self._wait.end()

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


class SpinnerReporter(StateReporter):
    """Waits for an export: shows its state and the time so far in a line that disappears at the end."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._wait = WaitNote()
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._spinner = Progress(*columns)
        self._live = _live(stream, self._spinner, self._wait, transient=True)

    def start(self, total: int | None) -> None:
        """Show the line."""
        super().start(total)
        self._spinner.add_task("Checking the export", total=None)
        self._live.start(refresh=True)

    def finish(self) -> None:
        """Remove the line."""
        self._live.stop()

    def show_wait(self, reason: str, action: str) -> None:
        """Show a wait below the state."""
        self._wait.show(reason, action)

    def end_wait(self) -> None:
        """Remove that line."""
        self._wait.end()

    def _changed(self) -> None:
        for task in self._spinner.task_ids:
            self._spinner.update(task, description=f"The export is {clean(self._state)}")
        self._live.refresh()


def _columns(work: Work) -> tuple[ProgressColumn, ...]:
    """Return the columns of a bar, of which only the bar itself shrinks."""
    fixed = RichColumn(no_wrap=True)
    bar = BarColumn(bar_width=None, table_column=RichColumn(max_width=BAR_WIDTH))
    left = TimeRemainingColumn(elapsed_when_finished=True, table_column=fixed.copy())
    if work.unit == BYTES:
        return bar, DownloadColumn(table_column=fixed.copy()), TransferSpeedColumn(table_column=fixed.copy()), left
    return (
        bar,
        MofNCompleteColumn(table_column=fixed.copy()),
        TextColumn("{task.fields[failed]}", style="red", markup=False, table_column=fixed.copy()),
        TextColumn("{task.fields[speed]}", markup=False, table_column=fixed.copy()),
        left,
    )


def _live(stream: TextIO, progress: Progress, wait: WaitNote, *, transient: bool = False) -> Live:
    # rich would replace both streams of the process while it is shown.
    return Live(
        Group(progress, wait),
        console=screen(stream),
        refresh_per_second=10,
        transient=transient,
        redirect_stdout=False,
        redirect_stderr=False,
    )


# --- Tables -----------------------------------------------------------------------------------------------------------


def print_table(columns: Sequence[Column], rows: Iterator[list[str]]) -> bool:
    """Print rows page by page, with the widths that the pages so far needed; tell whether there were any."""
    console = screen(sys.stdout)
    widths = [len(column.title) for column in columns]
    shown: list[int] = []
    while page := list(itertools.islice(rows, ROWS_AT_ONCE)):
        widths = [max(width, *(cell_len(row[i]) for row in page)) for i, width in enumerate(widths)]
        has_header = not shown
        # Chosen once, so that the pages have the same columns.
        shown = shown or _chosen(columns, widths, console.width)
        table = _table(show_header=has_header)
        present = [columns[i] for i in shown]
        fitted = _fitted(present, [widths[i] for i in shown], console.width)
        for column, width in zip(present, fitted, strict=True):
            justify: Literal["left", "right"] = "right" if column.right else "left"
            table.add_column(column.title, width=width, justify=justify, no_wrap=True, overflow="ellipsis")
        for cells in page:
            table.add_row(*(Text(cells[i]) for i in shown))
        console.print(table)
    return bool(shown)


def _table(*, show_header: bool = True) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=show_header, header_style="bold")


def _chosen(columns: Sequence[Column], widths: list[int], available: int) -> list[int]:
    """Return the columns to show: optional ones only while the flexible ones stay readable; the last goes first."""
    chosen = list(range(len(columns)))
    least = [min(width, READABLE) if columns[i].flexible else width for i, width in enumerate(widths)]
    for i in reversed(range(len(columns))):
        if columns[i].optional and sum(least[j] for j in chosen) + GAP * (len(chosen) - 1) > available:
            chosen.remove(i)
    return chosen


def _fitted(columns: Sequence[Column], widths: list[int], available: int) -> list[int]:
    """Shrink the flexible columns to what the terminal has space for."""
    excess = sum(widths) + GAP * (len(widths) - 1) - available
    fitted = []
    for column, width in zip(columns, widths, strict=True):
        cut = max(0, min(excess, width - len(column.title))) if column.flexible else 0
        excess -= cut
        fitted.append(width - cut)
    return fitted


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print the names of fields with their values, one per line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        write_line(sys.stdout, f"{name:<{width}}{' ' * GAP}{clean(value)}")


def print_checks(checks: Sequence[tuple[str, str, str, str | None]]) -> None:
    """Print status, name, finding and advice of checks; long texts are wrapped."""
    table = _table()
    for title in ("Status", "Check"):
        table.add_column(title, no_wrap=True)
    table.add_column("Found", overflow="fold")
    for status, check, found, advice in checks:
        cell = Text(clean(found))
        if advice:
            cell.append(f"\n{clean(advice)}", "bold")
        table.add_row(Text(status, _STYLES[status]), Text(check), cell)
    screen(sys.stdout).print(table)


def print_findings(severity: str, code: str, findings: Sequence[tuple[str, str]]) -> None:
    """Print location and message of findings below their code; lines are never cut."""
    console = screen(sys.stdout)
    console.print(Text.assemble((severity, _STYLES[severity]), " ", (code, "bold")), soft_wrap=True)
    for location, message in findings:
        console.print(Text(f"  {clean(location)}\n    {clean(message)}"), soft_wrap=True)
