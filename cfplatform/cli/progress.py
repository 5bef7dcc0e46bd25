"""Progress on stderr as plain lines, and the thread that finds out whether the platform responds."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TextIO

from typing_extensions import Self

from .text import amount, clock, counted, rate, write_line

#: Seconds between two lines of progress, and between two lines about the same wait.
LINE_INTERVAL = 10.0
#: Seconds without output after which a line shows that the command is still working.
FIRST_LINE = 2.5
#: The unit of work that is counted in bytes.
BYTES = "bytes"

#: Seconds between two checks of the platform.
CHECK_INTERVAL = 0.5
#: Consecutive checks that must find the same problem before a wait is shown, and no problem before it is over. A server
#: that fails now and then would otherwise fill a log.
SEEN, GONE = 2, 3
#: Seconds without a response after which that is a problem.
SILENCE = 1.5
#: Seconds that the end of a command waits for the thread.
JOIN_TIMEOUT = 1.0


class Work(NamedTuple):
    """The work that is reported.

    Attributes:
        action: The action, such as "Downloading".
        unit: The unit that is counted.
        kept: The sentence for a user who stops it.
    """

    action: str
    unit: str
    kept: str


_RESUMED = "Finished work is kept; run the same command again to resume."
DOWNLOAD = Work("Downloading", "items", _RESUMED)
CHECK = Work("Checking", "items", "Nothing was downloaded or removed.")
ARCHIVE = Work("Downloading", BYTES, _RESUMED)
UPLOAD = Work("Uploading", "files", "Uploaded files are kept; the same command would upload them again.")
CREATE = Work("Creating", "work items", _RESUMED)
READ = Work("Reading", "documents", "Nothing was changed.")
MERGE = Work("Reading", "documents", "No dataset was written.")
CONVERT = Work("Reading", "documents", "The output may be incomplete; run the same command again to replace it.")
REPORT = Work("Reporting", "documents and images", "No page was written.")
WAIT = Work("Waiting", "polls", "The export continues on the platform; run the same command again to wait for it.")


class Reporter:
    """Counts what is finished, and shows nothing; the reporters that show something extend it."""

    #: Seconds between two updates.
    interval = math.inf

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        self._stream = stream
        self._work = work
        self._total: int | None = None
        self._done = self._failed = self._skipped = self._bytes = 0
        self._created = time.monotonic()
        self._began: float | None = None
        self._shown = self._created
        # When the command has printed something.
        self._last_sign: float | None = None
        # Whether anything succeeded since a wait was shown last.
        self._has_resumed = False

    def start(self, total: int | None) -> None:
        """Begin to count, and store the total."""
        self._total = total
        self._done = self._failed = self._skipped = self._bytes = 0
        self._began = self._shown = time.monotonic()

    def advance(self, outcome: str, size: int) -> None:
        """Count an item or a piece; show the figures if the last update is old enough."""
        self._done += size if self._work.unit == BYTES else 1
        self._failed += outcome == "failed"
        self._skipped += outcome == "skipped"
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
        """Show the reason of a wait and the current action; called with each check while the wait lasts."""

    def end_wait(self) -> None:
        """Show that the wait is over."""

    def tick(self, *, is_calling: bool = True) -> None:
        """Show that time passes; called with each check while there is no wait, even if no call is under way."""

    def touch(self) -> None:
        """Note that the command has just printed something itself."""
        self._last_sign = time.monotonic()

    def _show(self) -> None:
        """Show the figures as they are now."""

    @property
    def _preparing(self) -> str:
        """The line for the time before anything can be counted."""
        return f"Waiting for the platform, {_elapsed(self._created)}"

    def _named(self, number: int) -> str:
        return amount(number) if self._work.unit == BYTES else counted(number, self._work.unit)

    @property
    def counted(self) -> str:
        """The count so far, such as "37 of 200 items", including failures."""
        return self._of_total(self._done)

    @property
    def succeeded(self) -> str:
        """The same without failures."""
        return self._of_total(self._done - self._failed)

    def _of_total(self, number: int) -> str:
        if self._total is None:
            return self._named(number)
        done = amount(number) if self._work.unit == BYTES else f"{number:,}"
        return f"{done} of {self._named(self._total)}"

    @property
    def parts(self) -> list[str]:
        """The unchanged and the failed ones, where there are any."""
        return [f"{n:,} {name}" for n, name in ((self._skipped, "unchanged"), (self._failed, "failed")) if n]

    @property
    def stopped(self) -> str:
        """The sentence for a user who has stopped the work."""
        if self._work is WAIT:
            return self._work.kept
        parts = f" ({', '.join(self.parts)})" if self.parts else ""
        return f"{self._work.kept} Finished so far: {self.succeeded}{parts}."


class LineReporter(Reporter):
    """Writes plain lines, for logs: figures now and then; when a wait begins or ends, and when its reason changes."""

    interval = LINE_INTERVAL

    def __init__(self, stream: TextIO, work: Work = DOWNLOAD) -> None:
        super().__init__(stream, work)
        self._reason: str | None = None
        self._wait_began = self._wait_shown = 0.0
        # Both the checking and the working thread may find that a wait is over.
        self._lock = threading.Lock()

    def start(self, total: int | None) -> None:
        """Write the total."""
        # Without figures: there are none yet.
        self.end_wait()
        super().start(total)
        write_line(self._stream, self._work.action + ("" if total is None else f" {self._named(total)}"))

    def finish(self) -> None:
        """Write the last figures."""
        # The work may end before the next check. If it ends with an error, this is called while that is raised.
        if self._has_resumed and sys.exc_info()[1] is None:
            self.end_wait()
        super().finish()

    def show_wait(self, reason: str, action: str) -> None:
        """Write a line if the reason is new, and again after a while."""
        with self._lock:
            self._has_resumed = False
            now = time.monotonic()
            if reason != self._reason:
                self._reason, self._wait_began = reason, now
                elapsed = ""
            elif now - self._wait_shown >= LINE_INTERVAL:
                # How long a server has not responded is part of the action.
                elapsed = f", {_elapsed(self._wait_began)} so far" if action.startswith("retrying") else ""
            else:
                return
            self._wait_shown = now
            self._write(f"{reason}: {action}{elapsed}{self._so_far}")

    def end_wait(self) -> None:
        """Write a line if a wait was shown."""
        with self._lock:
            if self._reason is not None:
                self._reason = None
                self._write(f"Resumed{self._so_far}")

    def tick(self, *, is_calling: bool = True) -> None:
        """Write the figures, or how long the command has waited for some, if the last line is old enough."""
        now = time.monotonic()
        # Between calls, the command waits for its user or for its next run.
        if self._began is None and is_calling:
            last, limit = (self._created, FIRST_LINE) if self._last_sign is None else (self._last_sign, LINE_INTERVAL)
            if now - last >= limit:
                self._write(self._preparing)
        elif self._began is not None and now - self._shown >= self.interval:
            self._shown = now
            self._show()

    def _write(self, line: str) -> None:
        self.touch()
        write_line(self._stream, line)

    @property
    def _so_far(self) -> str:
        return "" if self._began is None else f", {self.succeeded} done"

    def _show(self) -> None:
        seconds = time.monotonic() - (self._began or 0.0)
        failed = f" ({', '.join(self.parts)})" if self.parts else ""
        if self._work.unit == BYTES:
            speed = f"{amount(self._done / seconds if seconds > 0 else 0)}/s"
        else:
            speed = f"{amount(self._bytes)}, {rate(self._done, seconds)} {self._work.unit}/s"
        write_line(self._stream, f"{self.counted}{failed}, {speed}, {clock(seconds)}")


class StateReporter(LineReporter):
    """Writes a line whenever the state of an export changes, and again after a while."""

    _state = ""

    def start(self, total: int | None) -> None:
        """Write nothing: there is no state yet, and nothing is counted."""

    def advance(self, outcome: str, size: int) -> None:
        """Write a new state; whatever it is, the platform has responded."""
        self.end_wait()
        if outcome != self._state:
            self._state = outcome
            self._write(f"The export is {outcome}.")

    def tick(self, *, is_calling: bool = True) -> None:
        """Write the state, if the last line is old enough, also between two polls."""
        super().tick()

    @property
    def _preparing(self) -> str:
        return f"The export is {self._state}, {_elapsed(self._created)}" if self._state else super()._preparing


class Watcher:
    """Checks the calls of a client while a command runs, and has a wait shown.

    It needs a separate thread, since the thread that waits for a response cannot report. ``ProgressReporter.waiting``
    is not used for that reason: it is called by the thread that made the call, and not for single calls.

    Args:
        trouble: Returns a reason and the seconds until the next attempt, or ``None``.
        unanswered: Returns an origin and its seconds without a response, or ``None`` if no call is under way.
        shown: Returns the reporter that shows the wait.
    """

    def __init__(
        self,
        trouble: Callable[[], tuple[str, float] | None],
        unanswered: Callable[[], tuple[str, float] | None],
        shown: Callable[[], Reporter],
    ) -> None:
        self._trouble = trouble
        self._unanswered = unanswered
        self._shown = shown
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cfplatform-watcher", daemon=True)
        self._limit = SILENCE
        self._longest = 0.0
        self._is_calling = False
        self._reason: str | None = None
        self._seen: str | None = None
        self._checks = 0

    def __enter__(self) -> Self:
        try:
            self._thread.start()
        except RuntimeError:
            # No thread can be started; then waits are not shown.
            self._stop.set()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stop.is_set():
            self._stop.set()
            # It must not write while the interpreter shuts down.
            self._thread.join(JOIN_TIMEOUT)

    def _run(self) -> None:
        while not self._stop.wait(CHECK_INTERVAL):
            self._take(self._check())

    def _check(self) -> tuple[str, str] | None:
        """Return the reason of a wait and the current action, which changes from check to check."""
        trouble, unanswered = self._trouble(), self._unanswered()
        self._is_calling = unanswered is not None
        if trouble is not None:
            self._longest = 0.0
            reason, left = trouble
            return reason, f"retrying in {_duration(left)}" if left > 0 else "retrying now"
        name, seconds = unanswered or ("", 0.0)
        if seconds >= self._limit:
            self._longest = seconds
            return f"No response yet from {name}", f"waiting for {_duration(seconds)}"
        # The server was only slow, and may be so with every response.
        self._limit = max(self._limit, 2 * self._longest)
        return None

    def _take(self, found: tuple[str, str] | None) -> None:
        """Take the result of a check."""
        reason, action = found or (None, "")
        self._checks = self._checks + 1 if reason == self._seen else 1
        self._seen = reason
        if self._checks >= (GONE if reason is None else SEEN):
            if reason is None and self._reason is not None:
                self._shown().end_wait()
            self._reason = reason
        if self._reason is not None and reason is not None:
            self._shown().show_wait(self._reason, action)
        elif self._reason is None and reason is None:
            self._shown().tick(is_calling=self._is_calling)


def _elapsed(began: float) -> str:
    return clock(time.monotonic() - began)


def _duration(seconds: float) -> str:
    """Return a human-readable duration, rounded up."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds > 2 * size:
            return f"{math.ceil(seconds / size):,} {unit}"
    return f"{math.ceil(seconds)} s"
