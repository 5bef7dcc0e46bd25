"""Small things that tests of several folders use."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)


def outcome(expected: type[E], function: Callable[..., Any], *args: Any) -> tuple[Any, E | None]:
    """Call a function that may succeed or fail; return its result, or the error of the expected class."""
    try:
        return function(*args), None
    except expected as error:
        return None, error


def case_id(value: Any) -> str:
    """Return the same name for a case in every process, as tests that run side by side need: no addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def folded(name: str) -> str:
    """Return the same text for names that some file systems take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
