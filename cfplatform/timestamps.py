"""Times as the platform writes them: ISO 8601 with a time zone."""

from __future__ import annotations

import re
from datetime import datetime

# A string: re compiles and caches it at the first use, which keeps the import of the package fast.
_ISO = r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?:(:\d\d)(?:[.,](\d+))?)?\s*(Z|z|[+-]\d\d:?\d\d)?"


def parse(text: str) -> datetime:
    """Read an ISO 8601 date and time; the result is naive if the text names no time zone.

    Written out because ``datetime.fromisoformat`` takes neither ``Z`` nor most fractions before Python 3.11.

    Raises:
        ValueError: If it is not such a text, or no such moment exists.
    """
    match = re.fullmatch(_ISO, text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"not an ISO 8601 date and time: {text!r}")
    day, clock, seconds, fraction, zone = match.groups()
    micros = (fraction or "0")[:6].ljust(6, "0")
    if zone in ("Z", "z"):
        zone = "+00:00"
    elif zone and ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:]}"
    return datetime.fromisoformat(f"{day}T{clock}{seconds or ':00'}.{micros}{zone or ''}")


def parse_or_none(value: object) -> datetime | None:
    """Read a time that a server sent; ``None`` for whatever cannot be read as one."""
    if not isinstance(value, str):
        return None
    try:
        return parse(value)
    except ValueError:
        return None
