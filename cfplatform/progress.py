"""Progress reporting: the interface, and reporters for tqdm, for plain functions and for no output."""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from .exceptions import ConfigurationError, InvalidParameterError


@runtime_checkable
class ProgressReporter(Protocol):
    """Receives the progress of a long call. All methods are called from the thread that made the call.

    An exception in a reporter does not end the call: it is logged once, at level WARNING, and reporting stops.

    The method ``waiting(reason, seconds)`` is optional. It is called about twice a second while the platform or the
    storage is down, with the last response, such as "503 Service Unavailable from https://api.example.com", and the
    seconds until the next attempt.
    """

    def start(self, total: int | None) -> None:
        """Called before the first item; ``total`` is ``None`` if the number of items is unknown."""

    def advance(self, outcome: str, size: int) -> None:
        """Called for each item of ``size`` bytes: "downloaded", "uploaded", "read", "drawn", "skipped" or "failed".

        The download of an export calls it for each chunk, with a negative ``size`` if bytes are discarded; waiting for
        an export calls it with the status at each poll.
        """

    def finish(self) -> None:
        """Called at the end, even after an error."""


#: Values of ``progress=``: ``None``, ``True`` for a tqdm bar, a reporter, or a function of (done, total).
Progress = bool | ProgressReporter | Callable[[int, int | None], Any] | None

log = logging.getLogger(__name__)

#: Seconds between two calls of ``waiting``.
WATCH_INTERVAL = 0.5


class Watch:
    """Called periodically while a run waits; calls the reporter's ``waiting``, if it has one.

    ``trouble`` returns the reason and the seconds until the next attempt, or ``None`` if nothing is wrong.
    """

    def __init__(self, trouble: Callable[[], tuple[str, float] | None], reporter: ProgressReporter) -> None:
        self._trouble = trouble
        self._waiting = getattr(reporter, "waiting", None)
        self._next = 0.0

    def __call__(self) -> None:
        if self._waiting is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + WATCH_INTERVAL
            trouble = self._trouble()
            if trouble is not None:
                self._waiting(*trouble)


class NullReporter:
    """Reports nothing."""

    def start(self, total: int | None) -> None:
        """Do nothing."""

    def advance(self, outcome: str, size: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class FunctionReporter(NullReporter):
    """Calls a function with (done, total) after each item, or after each chunk if bytes are counted."""

    def __init__(self, function: Callable[[int, int | None], Any], *, counts_bytes: bool = False) -> None:
        self._function = function
        self._counts_bytes = counts_bytes
        self._done = 0
        self._total: int | None = None

    def start(self, total: int | None) -> None:
        self._done = 0
        self._total = total

    def advance(self, outcome: str, size: int) -> None:
        self._done += size if self._counts_bytes else 1
        self._function(self._done, self._total)


class _NotebookOutput:
    """A file for tqdm that is an output of a notebook cell: each line replaces the one before, and the last is stored.

    The bar of ``tqdm.notebook`` is a widget: it needs ipywidgets, and a stored notebook shows it at 0 % or not at all.
    """

    def __init__(self, display: Callable[..., Any]) -> None:
        self._display = display
        self._handle: Any = None

    def write(self, text: str) -> None:
        data = {"text/plain": text.strip()}
        if not data["text/plain"]:
            return
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)

    def flush(self) -> None:
        """Do nothing; tqdm calls it."""


def _notebook_display() -> Callable[..., Any] | None:
    """Return the function ``display`` where the code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    is_kernel = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    return ipython.display.display if ipython is not None and is_kernel else None


class TqdmReporter:
    """Shows a tqdm bar: in the output of a notebook cell, elsewhere on stderr. Needs the ``progress`` extra."""

    def __init__(self, *, counts_bytes: bool = False) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            message = "progress=True needs tqdm: pip install 'cfplatform[progress]'"
            raise ConfigurationError(message, parameter="progress") from None
        display = _notebook_display()
        self._tqdm: Any = functools.partial(tqdm, file=_NotebookOutput(display), ascii=False) if display else tqdm
        self._counts_bytes = counts_bytes
        self._bar: Any = None
        self._counts: dict[str, int] = {}
        self._is_waiting = False

    def start(self, total: int | None) -> None:
        self._bar = self._tqdm(total=total, unit="B" if self._counts_bytes else "item", unit_scale=self._counts_bytes)

    def advance(self, outcome: str, size: int) -> None:
        """Advance the bar, and show the counts of skipped and failed items next to it."""
        is_odd = not self._counts_bytes and outcome not in ("downloaded", "uploaded", "read")
        if is_odd:
            self._counts[outcome] = self._counts.get(outcome, 0) + 1
        if is_odd or self._is_waiting:
            self._is_waiting = False
            self._bar.set_postfix(self._counts, refresh=False)
        self._bar.update(size if self._counts_bytes else 1)

    def waiting(self, reason: str, seconds: float) -> None:
        """Show the reason for the wait next to the bar."""
        if self._bar is not None:
            self._is_waiting = True
            self._bar.set_postfix_str(f"{reason}: retrying in {seconds:.0f} s")

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()


class _Shielded:
    """Calls the reporter until it raises; after that, does nothing."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self._has_failed = False

    def __getattr__(self, name: str) -> Any:
        getattr(self._reporter, name)
        return functools.partial(self._call, name)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            if not self._has_failed:
                getattr(self._reporter, name)(*arguments)
        except Exception as error:
            self._has_failed = True
            message = "The progress reporter failed and will not be called again (%s)"
            log.warning(message, type(error).__name__, exc_info=True)


def reporter(progress: Progress, *, counts_bytes: bool = False) -> ProgressReporter:
    """Turn the argument ``progress`` into a reporter.

    With ``counts_bytes``, for one large object, the total is in bytes and ``advance`` is called for each chunk, with a
    negative ``size`` if bytes are discarded.
    """
    if progress is None or progress is False:
        return NullReporter()
    given: ProgressReporter
    if progress is True:
        given = TqdmReporter(counts_bytes=counts_bytes)
    elif isinstance(progress, ProgressReporter) and not isinstance(progress, type):
        given = progress
    elif callable(progress) and not isinstance(progress, type):
        given = FunctionReporter(progress, counts_bytes=counts_bytes)
    else:
        kind = type(progress).__name__
        message = f"progress must be True, a function of (done, total) or a ProgressReporter, not {kind}."
        raise InvalidParameterError(message, parameter="progress")
    # Type checkers cannot see that __getattr__ provides the methods.
    return cast(ProgressReporter, _Shielded(given))
