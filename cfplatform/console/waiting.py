"""Waiting made visible: a thread that checks whether the platform answers, and the lines that it shows."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from typing_extensions import Self

from .text import write_line

#: Seconds between two checks.
INTERVAL = 0.5
#: Checks in a row that must find the same problem before it is shown, and none before a wait is over. A server that
#: fails now and then would otherwise fill a log.
SEEN, GONE = 2, 3
#: Seconds without an answer after which that is a problem.
SILENCE = 1.5
#: Seconds that the end of a command waits for the thread.
JOIN_TIMEOUT = 1.0

#: The reason of a wait, and the current action, which changes from check to check.
Problem = tuple[str, str]


class Shows(Protocol):
    """Something that shows a wait."""

    def show_wait(self, reason: str, action: str) -> None:
        """Show the reason and the current action; called with each check while the wait lasts."""

    def end_wait(self) -> None:
        """Show that the wait is over."""


class Look:
    """Finds out what a client waits for.

    Args:
        trouble: Returns a reason and the seconds until the next attempt, or ``None``.
        unanswered: Returns an origin and for how many seconds it has not answered, or ``None`` if no call is under way.
    """

    def __init__(
        self, trouble: Callable[[], tuple[str, float] | None], unanswered: Callable[[], tuple[str, float] | None]
    ) -> None:
        self._trouble = trouble
        self._unanswered = unanswered
        self._limit = SILENCE
        self._longest = 0.0

    def __call__(self) -> Problem | None:
        """Return the problem, or ``None`` if there is none."""
        trouble = self._trouble()
        if trouble is not None:
            self._longest = 0.0
            reason, left = trouble
            return reason, f"retrying, next attempt in {_duration(left)}" if left > 0 else "retrying now"
        name, seconds = self._unanswered() or ("", 0.0)
        if seconds >= self._limit:
            self._longest = seconds
            return f"No answer yet from {name}", f"waiting for {_duration(seconds)}"
        # The server was only slow, and may be so with every answer.
        self._limit = max(self._limit, 2 * self._longest)
        return None


class Watcher:
    """Checks the calls of a client while a command runs, and has a wait shown.

    It needs a thread of its own, since the thread that waits for an answer cannot report. ``ProgressReporter.waiting``
    is not used for that reason: it is called by the thread that made the call, and not for single calls.

    Args:
        look: Returns the problem, or ``None`` if all is well.
        shown: Returns what shows the wait.
    """

    def __init__(self, look: Callable[[], Problem | None], shown: Callable[[], Shows]) -> None:
        self._look = look
        self._shown = shown
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cfplatform-watcher", daemon=True)
        self._reason: str | None = None
        self._seen: str | None = None
        self._looks = 0

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
        while not self._stop.wait(INTERVAL):
            self._take(self._look())

    def _take(self, found: Problem | None) -> None:
        """Take the result of a check."""
        reason, action = found or (None, "")
        self._looks = self._looks + 1 if reason == self._seen else 1
        self._seen = reason
        if self._looks >= (GONE if reason is None else SEEN):
            if reason is None and self._reason is not None:
                self._shown().end_wait()
            self._reason = reason
        if self._reason is not None and reason is not None:
            self._shown().show_wait(self._reason, action)


class WaitLines:
    """Writes a line when a wait begins, when its reason changes, and when it is over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._reason: str | None = None
        # Both the watching and the working thread may find that a wait is over.
        self._lock = threading.Lock()

    def show_wait(self, reason: str, action: str, done: str = "") -> None:
        """Write a line if the reason is new; ``done`` is the progress so far."""
        with self._lock:
            if reason != self._reason:
                self._reason = reason
                write_line(self._stream, f"{reason}: {action}{done}")

    def end_wait(self, done: str = "") -> None:
        """Write a line if something was waited for."""
        with self._lock:
            if self._reason is not None:
                self._reason = None
                write_line(self._stream, f"Resumed{done}")


class WaitNote:
    """The text of a wait on a display that moves; it expires unless the next check confirms it."""

    def __init__(self) -> None:
        self._text = ""
        self._until = 0.0

    def show(self, reason: str, action: str) -> None:
        """Show it until the next check."""
        self._text, self._until = f"{reason}: {action}", time.monotonic() + 1.5 * INTERVAL

    def end(self) -> None:
        """Show nothing."""
        self._until = 0.0

    @property
    def text(self) -> str:
        """The text to show; empty if there is none."""
        return self._text if time.monotonic() < self._until else ""


def _duration(seconds: float) -> str:
    """Return some seconds for people, rounded up."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds > 2 * size:
            return f"{math.ceil(seconds / size):,} {unit}"
    return f"{math.ceil(seconds)} s"
