"""Progress on stderr: a bar on a terminal, lines in a log, nothing where it is not wanted."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TextIO

from .text import GAP, amount, clean, counted, rate, screen, write_line
from .waiting import WaitLines, WaitNote

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, ProgressColumn, Task
    from rich.table import Column
    from rich.text import Text

#: Seconds between two updates of the bar, and between two lines where there is no terminal.
BAR_INTERVAL = 0.05
LINE_INTERVAL = 10.0
#: Characters that the bar is long at the most; beside it there must be room for the figures.
BAR_WIDTH = 30
#: The longest time left that a bar shows, in seconds. A total may be absurd, and a timedelta overflows.
LONGEST = 99 * 86_400
#: The unit of work that comes in pieces of any size.
BYTES = "bytes"


class Work(NamedTuple):
    """What is reported on.

    Attributes:
        action: What is being done.
        unit: What is counted.
        kept: What is said to somebody who stops it.
    """

    action: str
    unit: str
    kept: str


_RESUMED = "What is finished is kept; run the same command again to go on."
DOWNLOAD = Work("Downloading", "items", _RESUMED)
ARCHIVE = Work("Downloading", BYTES, _RESUMED)
UPLOAD = Work("Uploading", "files", "What was uploaded stays; the same command again would upload it a second time.")
READ = Work("Reading", "documents", "Nothing was changed.")
REPORT = Work("Reporting", "documents and pictures", "No page was written.")
WAIT = Work("Waiting", "looks", "The platform goes on with the export; wait for it again.")


class Reporter:
    """Counts what is finished, and shows nothing; the reporters that show something extend it."""

    #: Seconds between two looks at the figures.
    interval = math.inf

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        self._stream = stream
        self._work = work
        self._total: int | None = None
        self._done = self._failed = self._bytes = 0
        self._began: float | None = None
        self._shown = 0.0
        # Whether anything succeeded since a wait was shown last.
        self._has_resumed = False

    def start(self, total: int | None) -> None:
        """Begin to count, and remember the total."""
        self._total = total
        self._done = self._failed = self._bytes = 0
        self._began = self._shown = time.monotonic()

    def advance(self, outcome: str, size: int) -> None:
        """Count an item or a piece; show the figures if the last look is old enough."""
        self._done += size if self._work.unit == BYTES else 1
        self._failed += outcome == "failed"
        self._has_resumed = self._has_resumed or outcome != "failed"
        self._bytes += size if outcome not in ("skipped", "failed") else 0
        now = time.monotonic()
        if now - self._shown >= self.interval:
            self._shown = now
            self._show()

    def finish(self) -> None:
        """Show the last figures, if the work ever began."""
        if self._began is not None:
            self._show()

    def close(self) -> None:
        """Leave nothing open, whether or not the work ever began."""

    def show_wait(self, reason: str, action: str) -> None:
        """Show the reason of a wait and the current action; called again and again while the wait lasts."""

    def end_wait(self) -> None:
        """Show that the wait is over."""

    def _show(self) -> None:
        """Show the figures as they are now."""

    def _named(self, number: int) -> str:
        return amount(number) if self._work.unit == BYTES else counted(number, self._work.unit)

    @property
    def counted(self) -> str:
        """How much is done, such as "37 of 200 items"."""
        if self._total is None:
            return self._named(self._done)
        done = amount(self._done) if self._work.unit == BYTES else f"{self._done:,}"
        return f"{done} of {self._named(self._total)}"

    @property
    def stopped(self) -> str:
        """What to tell somebody who has stopped the work."""
        return f"{self._work.kept} Finished so far: {self.counted}."


class LineReporter(Reporter):
    """Writes a plain line now and then, for logs."""

    interval = LINE_INTERVAL

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        super().__init__(stream, work)
        self._waits = WaitLines(stream)

    def start(self, total: int | None) -> None:
        """Say how much there is to do."""
        # Without figures: there are none yet.
        self._waits.end_wait()
        super().start(total)
        write_line(self._stream, self._work.action + ("" if total is None else f" {self._named(total)}"))

    def finish(self) -> None:
        """Write the last figures."""
        # The work may end before the next check. If it ends with an error, this is called while that is raised.
        if self._has_resumed and sys.exc_info()[1] is None:
            self.end_wait()
        super().finish()

    def show_wait(self, reason: str, action: str) -> None:
        """Write a line if the reason is new."""
        self._has_resumed = False
        self._waits.show_wait(reason, action, self._so_far)

    def end_wait(self) -> None:
        """Write a line if something was waited for."""
        self._waits.end_wait(self._so_far)

    @property
    def _so_far(self) -> str:
        return "" if self._began is None else f", {self.counted} done"

    def _show(self) -> None:
        seconds = time.monotonic() - (self._began or 0.0)
        failed = f" ({self._failed:,} failed)" if self._failed else ""
        if self._work.unit == BYTES:
            speed = f"{amount(self._done / seconds if seconds > 0 else 0)}/s"
        else:
            speed = f"{amount(self._bytes)}, {rate(self._done, seconds)} {self._work.unit}/s"
        write_line(self._stream, f"{self.counted}{failed}, {speed}, {timedelta(seconds=round(seconds))}")


class BarReporter(Reporter):
    """Shows a bar on a terminal: count, rate, bytes and the time left."""

    interval = BAR_INTERVAL
    _bar: Progress | None = None

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        super().__init__(stream, work)
        # Shown below the bar, or alone before there is one.
        self._wait = WaitNote()
        # Waits are shown by another thread.
        self._lock = threading.Lock()

    def start(self, total: int | None) -> None:
        """Open the bar."""
        super().start(total)
        with self._lock:
            self._opened().add_task("", total=total)

    def finish(self) -> None:
        """Leave the bar as it stands."""
        self._wait.end()
        super().finish()
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands, and nothing where there was none yet."""
        self._wait.end()
        with self._lock:
            bar, self._bar = self._bar, None
        if bar is not None:
            bar.live.transient = not bar.tasks
            bar.stop()

    def show_wait(self, reason: str, action: str) -> None:
        """Show a wait below the bar."""
        with self._lock:
            self._wait.show(reason, action)
            self._opened()

    def end_wait(self) -> None:
        """Take that line away."""
        self._wait.end()

    def _opened(self) -> Progress:
        if self._bar is None:
            self._bar = _bar(self._stream, self._figures, self._wait)
            self._bar.start()
        return self._bar

    def _show(self) -> None:
        if self._bar is not None and self._bar.tasks:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def _figures(self, task: Task) -> Text:
        """Return what stands beside the bar."""
        from rich.text import Text

        waits = bool(self._wait.text)
        # The time left is unknown while nothing succeeds.
        ended = task.finished or self._total is None or waits
        clock = task.elapsed if ended else task.time_remaining
        in_bytes = self._work.unit == BYTES
        number = amount if in_bytes else "{:,}".format
        speed = task.speed or 0.0
        parts = (
            Text(number(self._done) if self._total is None else f"{number(self._done)}/{number(self._total)}"),
            Text(f"{self._failed:,} failed" if self._failed else "", style="red"),
            Text(
                ""
                if task.finished or waits
                else f"{amount(speed) if in_bytes else f'{rate(speed)} {self._work.unit}'}/s"
            ),
            Text("" if in_bytes else amount(self._bytes)),
            Text("" if clock is None or clock > LONGEST else f"{_clock(clock)}{'' if ended else ' left'}"),
        )
        return Text(" " * GAP, no_wrap=True, overflow="ellipsis").join(filter(None, parts))


class StateReporter(Reporter):
    """Waits for something to become ready, and writes a line whenever its state is another one."""

    _state = ""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream, WAIT)
        self._waits = WaitLines(stream)

    def show_wait(self, reason: str, action: str) -> None:
        """Write a line if the reason is new."""
        self._waits.show_wait(reason, action)

    def end_wait(self) -> None:
        """Write a line if something was waited for."""
        self._waits.end_wait()

    def advance(self, outcome: str, size: int) -> None:
        """Remember the state; whatever it is, the platform has answered."""
        self.end_wait()
        if outcome != self._state:
            self._state = outcome
            self._changed()

    def _changed(self) -> None:
        write_line(self._stream, f"The export is {self._state}.")

    @property
    def stopped(self) -> str:
        """What to tell somebody who does not wait any longer."""
        return self._work.kept


class SilentStateReporter(StateReporter):
    """Waits, and shows nothing."""

    def show_wait(self, reason: str, action: str) -> None:
        """Show nothing."""

    def end_wait(self) -> None:
        """Show nothing."""

    def _changed(self) -> None:
        """Show nothing."""


class SpinnerReporter(StateReporter):
    """Waits on a terminal: shows the state and the time so far in a line that is gone at the end."""

    _spinner: Progress | None = None

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._wait = WaitNote()

    def start(self, total: int | None) -> None:
        """Begin to turn."""
        super().start(total)
        self._spinner = _spinner(self._stream, self._figures, self._wait)
        self._spinner.add_task("", total=None)
        self._spinner.start()

    def finish(self) -> None:
        """Take the line away."""
        if self._spinner is not None:
            self._spinner.stop()

    def show_wait(self, reason: str, action: str) -> None:
        """Show a wait below the state."""
        self._wait.show(reason, action)

    def end_wait(self) -> None:
        """Take that line away."""
        self._wait.end()

    def _changed(self) -> None:
        if self._spinner is not None:
            self._spinner.refresh()

    def _figures(self, task: Task) -> Text:
        from rich.text import Text

        state = f"The export is {clean(self._state)}" if self._state else "Looking at the export"
        return Text(f"{state}{' ' * GAP}{_clock(task.elapsed or 0)}")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _bar(stream: TextIO, figures: Callable[[Task], Text], below: WaitNote) -> Progress:
    from rich.progress import BarColumn
    from rich.table import Column

    bar = BarColumn(bar_width=None, table_column=Column(ratio=1, max_width=BAR_WIDTH))
    return _progress(stream, bar, figures, below, Column(no_wrap=True))


def _spinner(stream: TextIO, figures: Callable[[Task], Text], below: WaitNote) -> Progress:
    from rich.progress import SpinnerColumn

    return _progress(stream, SpinnerColumn(), figures, below, transient=True)


def _progress(
    stream: TextIO,
    motion: ProgressColumn,
    figures: Callable[[Task], Text],
    below: WaitNote,
    column: Column | None = None,
    *,
    transient: bool = False,
) -> Progress:
    """Return something that moves, with figures beside it and a line below it."""
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

    class Figures(ProgressColumn):
        def render(self, task: Task) -> Text:
            return figures(task)

    class Shown(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            if self.tasks:
                yield self.make_tasks_table(self.tasks)
            if text := below.text:
                yield Text(clean(text), "yellow")

    return Shown(
        motion,
        Figures(table_column=column),
        console=screen(stream),
        # rich would replace both streams of the process while it is shown.
        redirect_stdout=False,
        redirect_stderr=False,
        transient=transient,
    )
