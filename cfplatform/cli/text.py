"""Text for a terminal: safe to print, with human-readable numbers."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import NamedTuple, TextIO


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: Its title.
        right: Whether it is aligned to the right.
        flexible: Whether a narrow terminal cuts it; at most one column of a table.
        optional: Whether a narrow terminal leaves it out; the column with the highest number first, with 0 never.
    """

    title: str
    right: bool = False
    flexible: bool = False
    optional: int = 0


def clean(text: str) -> str:
    """Return a text that cannot control a terminal: white space becomes a blank, other control characters U+FFFD."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text)


def write_line(stream: TextIO, text: str) -> None:
    """Write one line, whatever the text contains."""
    stream.write(clean(text) + "\n")


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that understands more than lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def amount(size: float) -> str:
    """Return a human-readable size, such as "1.2 MB"."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:.0f} {units[-1]}" if units[-1] == "B" or size >= 99.95 else f"{size:.1f} {units[-1]}"


def rate(count: float, seconds: float = 1.0) -> str:
    """Return a count per second, with a decimal only where it matters."""
    value = count / seconds if seconds > 0 else 0.0
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def clock(seconds: float) -> str:
    """Return a time that has passed, such as "0:01:30"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def counted(number: int, unit: str) -> str:
    """Return a count with its unit, such as "1 file" or "1,200 files"."""
    if number == 1:
        unit = f"{unit.removesuffix('ies')}y" if unit.endswith("ies") else unit.removesuffix("s")
    return f"{number:,} {unit}"


def listed(texts: list[str], count: int) -> list[str]:
    """Return texts, the first ones of ``count``, and a line for those that are left out."""
    return texts + ([f"and {count - len(texts):,} more"] if count > len(texts) else [])


def cell(value: object) -> str:
    """Return a value as the cell of a table."""
    return "-" if value is None else str(value)


def moment(value: datetime | None, in_table: bool) -> str:
    """Return a time as the cell of a table, in UTC."""
    if value is None:
        return "-"
    utc = value.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{utc:%Y-%m-%d %H:%M}" if in_table else f"{utc.isoformat(timespec='milliseconds')}Z"
