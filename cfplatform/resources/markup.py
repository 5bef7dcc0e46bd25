"""Small tables for notebooks: plain HTML that any theme can show, without scripts, colours or files from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: Characters of a cell, at the most; more would not be a small table.
MAX_TEXT = 300
# The module html would do the same, but importing the package would have to load it.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_LEFT = ' style="text-align: left"'


def table(caption: str, rows: Iterable[tuple[str, Any]]) -> str:
    """Return a table with a name and a value in each row; rows without a value are left out."""
    given = [(text(name), text(value)) for name, value in rows if value is not None]
    shown = "".join(f"<tr><th{_LEFT}>{name}</th><td{_LEFT}>{value}</td></tr>" for name, value in given)
    return f"<table><caption{_LEFT}>{text(caption)}</caption><tbody>{shown}</tbody></table>"


def grid(caption: str, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table with a header; what has no value is an empty cell."""
    names = "".join(f"<th{_LEFT}>{text(name)}</th>" for name in header)
    cells = "".join(f"<tr>{''.join(f'<td{_LEFT}>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    head = f"<caption{_LEFT}>{text(caption)}</caption><thead><tr>{names}</tr></thead>"
    return f"<table>{head}<tbody>{cells}</tbody></table>"


def text(value: Any) -> str:
    """Return a value as text that is shown, whatever it holds: never taken for markup, never longer than a cell."""
    shown = "" if value is None else str(value)
    if len(shown) > MAX_TEXT:
        shown = shown[: MAX_TEXT - 1] + "…"
    # Characters that nobody sees could turn the direction of what follows.
    visible = "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in shown)
    return visible.translate(_ENTITIES)
