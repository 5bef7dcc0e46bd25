"""A POST that creates something, sent so that nothing is created twice."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, TypeVar

from ..exceptions import (
    APIError,
    CFPlatformError,
    ConflictError,
    InvalidResponseError,
    OutageError,
    ServerError,
    TransportError,
)

#: How much the clocks of this machine and of the platform may differ.
CLOCKS = timedelta(minutes=10)
#: Errors after which the platform may have acted.
_LOST = (TransportError, ServerError)

T = TypeVar("T")


class Once(Generic[T]):
    """A POST that creates something. After a lost response it is searched, and the POST is repeated.

    Args:
        post: Sends the request.
        find: Returns what it created, or ``None``.
        repeats: How often it may be repeated.

    Attributes:
        was_lost: Whether a response was lost.
    """

    def __init__(self, post: Callable[[], T], find: Callable[[], T | None], repeats: int = 1) -> None:
        self._post = post
        self._find = find
        self._repeats = repeats
        self.was_lost = False

    def send(self) -> T:
        """Send it; can be called again after a ``ConflictError``."""
        while True:
            try:
                return self._post()
            except OutageError:
                # It was not even sent.
                raise
            except (*_LOST, ConflictError) as error:
                problem: CFPlatformError = error.with_traceback(None)
            is_refused = isinstance(problem, ConflictError)
            # After a loss, the first request may be the cause of a conflict.
            if self.was_lost or not is_refused:
                found = self._search(problem)
                if found is not None:
                    return found
            if is_refused or not self._repeats:
                raise problem
            self.was_lost = True
            self._repeats -= 1

    def _search(self, problem: CFPlatformError) -> T | None:
        try:
            return self._find()
        except OutageError:
            raise
        except _LOST:
            problem.message += " Whether it exists is unknown, because listing failed too: look before you create it."
            problem.args = (problem.message,)
        raise problem


def created(response: Any, kind: str) -> dict[str, Any]:
    """Check the response to a POST."""
    if not isinstance(response, dict) or response.get("id") in (None, ""):
        message = f"The platform accepted the {kind}, but its response holds none with an ID. Look whether it is there."
        raise InvalidResponseError(message, method="POST")
    return response


@contextlib.contextmanager
def adding(words: str, *statuses: int, parameter: str | None = None, hint: str | None = None) -> Iterator[None]:
    """Add to an error with one of these statuses."""
    try:
        yield
    except APIError as error:
        if error.status_code in statuses:
            if hint is None and error.hint:
                hint = f"{error.hint} {words}"
            else:
                error.message = f"{error.message} {words}"
                error.args = (error.message,)
            error.parameter, error.hint = parameter or error.parameter, hint
        raise


def earliest() -> datetime:
    """Return the time, as the platform may see it, that nothing created from now on is older than."""
    return datetime.now(timezone.utc) - CLOCKS
