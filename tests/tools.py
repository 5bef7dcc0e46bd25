"""Helpers of several test folders."""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cfplatform import Client

E = TypeVar("E", bound=Exception)

#: Secrets that must not appear anywhere.
KEY = "cf-key-SENTINEL-0123456789"
SIGNATURE = "SENTINELsignature0123"


def outcome(expected: type[E], function: Callable[..., Any], *args: Any) -> tuple[Any, E | None]:
    """Call a function that may succeed or fail; return its result, or the error of the expected class."""
    try:
        return function(*args), None
    except expected as error:
        return None, error


def case_id(value: Any) -> str:
    """Return the same name for a case in every process, as parallel tests need: no memory addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def folded(name: str) -> str:
    """Return the same text for names that some file systems treat as equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def load(client: Client, url: str) -> bytes:
    """Fetch an object from a storage and return its bytes: as an asset, which may have any content."""
    from cfplatform import WorkItem

    item = WorkItem({"id": "a", "assetUrl": url}, client, "p")
    with tempfile.TemporaryDirectory() as folder:
        return item.download_asset(folder).read_bytes()
