"""Small things that tests of several folders use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)


def outcome(expected: type[E], function: Callable[..., Any], *args: Any) -> tuple[Any, E | None]:
    """Call a function that may succeed or fail; return its result, or the error of the expected class."""
    try:
        return function(*args), None
    except expected as error:
        return None, error
