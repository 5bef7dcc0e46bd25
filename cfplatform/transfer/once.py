"""Send a POST request that must not create anything twice."""

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

#: Maximum difference between the clocks of this machine and the platform.
CLOCK_SKEW = timedelta(minutes=10)
#: Errors after which the platform may have processed the request.
_LOST = (TransportError, ServerError)

T = TypeVar("T")


class Once(Generic[T]):
    """A POST request that creates an object. After a lost response it looks for the object before it retries.

    Args:
        post: Sends the request.
        find: Returns the created object, or ``None``.
        repeats: Maximum number of retries.

    Attributes:
        was_lost: Whether a response was lost.
    """

    def __init__(self, post: Callable[[], T], find: Callable[[], T | None], repeats: int = 1) -> None:
        self._post = post
        self._find = find
        self._repeats = repeats
        self.was_lost = False

    def send(self) -> T:
        """Send the request. Can be called again after a ``ConflictError``."""
        while True:
            try:
                return self._post()
            except OutageError:
                # The request was not sent.
                raise
            except (*_LOST, ConflictError) as error:
                problem: CFPlatformError = error.with_traceback(None)
            is_refused = isinstance(problem, ConflictError)
            # After a lost response, the first request may have caused the conflict.
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
            problem.message += " It may have been created, but listing failed too. Check before you create it again."
            problem.args = (problem.message,)
        raise problem


def created(response: Any, kind: str) -> dict[str, Any]:
    """Check the response to a POST request."""
    if not isinstance(response, dict) or response.get("id") in (None, ""):
        message = f"The platform accepted the {kind}, but the response has no ID. Check whether it was created."
        raise InvalidResponseError(message, method="POST")
    return response


@contextlib.contextmanager
def adding(words: str, *statuses: int, parameter: str | None = None, hint: str | None = None) -> Iterator[None]:
    """Add text or a hint to an error with one of these statuses."""
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
    """Return the earliest creation time that the platform may report for new objects."""
    return datetime.now(timezone.utc) - CLOCK_SKEW
