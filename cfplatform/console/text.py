"""Texts on a terminal: made printable, and numbers for people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

#: Blanks between the columns of a table.
GAP = 2


def clean(text: str) -> str:
    """Return a text that cannot drive a terminal: white space becomes a blank, what is not printable becomes U+FFFD."""
    if text.isprintable():
        return text
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text)


def write_line(stream: TextIO, text: str) -> None:
    """Write one line, whatever the text holds."""
    stream.write(clean(text) + "\n")


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream goes to a terminal that understands more than lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def screen(stream: TextIO) -> Console:
    """Return a rich console for a terminal, with everything off that would read a text as more than a text."""
    from rich.console import Console

    return Console(file=stream, force_terminal=True, markup=False, highlight=False, emoji=False)


def amount(size: float) -> str:
    """Return a number of bytes for people, such as "1.2 MB"."""
    units = ["TB", "GB", "MB", "kB", "B"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:.0f} {units[-1]}" if units[-1] == "B" or size >= 99.95 else f"{size:.1f} {units[-1]}"


def rate(count: float, seconds: float = 1.0) -> str:
    """Return a count for each second, with a decimal only where it matters."""
    value = count / seconds if seconds > 0 else 0.0
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"


def counted(number: int, unit: str) -> str:
    """Return a number of things, such as "1 file" or "1,200 files"."""
    return f"{number:,} {unit if number != 1 else unit.removesuffix('s')}"
