"""Progress of a long call: an interface, one reporter that does nothing, one for tqdm, one for plain functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from .exceptions import ConfigurationError, InvalidParameterError


@runtime_checkable
class ProgressReporter(Protocol):
    """What a long call tells while it runs. All methods are called from the thread that made the call.

    An exception raised by a method stops the call; what is finished is kept.
    """

    def start(self, total: int | None) -> None:
        """The work begins; ``total`` is the number of items where the platform tells it, else ``None``."""

    def advance(self, outcome: str, size: int) -> None:
        """One item is done: ``outcome`` is "downloaded", "skipped" or "failed", ``size`` its bytes."""

    def finish(self) -> None:
        """The work has ended, well or not."""


#: What ``progress=`` accepts: nothing, ``True`` for a tqdm bar, a reporter, or a function of (done, total).
Progress = bool | ProgressReporter | Callable[[int, int | None], Any] | None


class NullReporter:
    """Reports nothing, so that code never has to ask whether there is a reporter."""

    def start(self, total: int | None) -> None:
        """Do nothing."""

    def advance(self, outcome: str, size: int) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""


class FunctionReporter(NullReporter):
    """Calls a function with (done, total) after each item."""

    def __init__(self, function: Callable[[int, int | None], Any]) -> None:
        self._function = function
        self._done = 0
        self._total: int | None = None

    def start(self, total: int | None) -> None:
        """Remember the total."""
        self._total = total

    def advance(self, outcome: str, size: int) -> None:
        """Call the function."""
        self._done += 1
        self._function(self._done, self._total)


class TqdmReporter:
    """Shows a tqdm bar: a widget in notebooks, a line on stderr elsewhere. Needs the extra ``progress``."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            tqdm = None
        if tqdm is None:
            raise ConfigurationError("progress=True needs tqdm: pip install 'cfplatform[progress]'")
        self._tqdm = tqdm
        self._bar: Any = None
        self._counts: dict[str, int] = {}

    def start(self, total: int | None) -> None:
        """Open the bar."""
        self._bar = self._tqdm(total=total, unit="item")

    def advance(self, outcome: str, size: int) -> None:
        """Move the bar, and name skipped and failed items beside it."""
        if outcome != "downloaded":
            self._counts[outcome] = self._counts.get(outcome, 0) + 1
            self._bar.set_postfix(self._counts, refresh=False)
        self._bar.update()

    def finish(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()


def reporter(progress: Progress) -> ProgressReporter:
    """Turn what the caller gave for ``progress=`` into a reporter.

    Raises:
        ConfigurationError: If ``True`` is given and tqdm is not installed.
        InvalidParameterError: If it is none of the accepted forms.
    """
    if progress is None or progress is False:
        return NullReporter()
    if progress is True:
        return TqdmReporter()
    if isinstance(progress, ProgressReporter) and not isinstance(progress, type):
        return progress
    if callable(progress) and not isinstance(progress, type):
        return FunctionReporter(progress)
    raise InvalidParameterError(
        f"progress must be True, a function of (done, total) or a ProgressReporter, not {type(progress).__name__}."
    )
