"""Tables on a terminal, laid out page by page, so that a long listing appears while it is read."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from .text import GAP, clean, screen, write_line

#: Rows that are laid out together.
ROWS_AT_ONCE = 100
#: Characters that a flexible column keeps before an optional one is left out for it.
READABLE = 12


class Column(NamedTuple):
    """A column; where the terminal is too narrow an optional one is left out, and a flexible one is cut."""

    title: str
    right: bool = False
    flexible: bool = False
    optional: bool = False


def print_table(columns: Sequence[Column], rows: Iterator[list[str]]) -> bool:
    """Print rows page by page, with the widths that the pages so far have needed; tell whether there were any."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    console = screen(sys.stdout)
    widths = [len(column.title) for column in columns]
    shown: list[int] = []
    while page := list(itertools.islice(rows, ROWS_AT_ONCE)):
        widths = [max(width, *(cell_len(row[i]) for row in page)) for i, width in enumerate(widths)]
        has_header = not shown
        # Chosen once, so that the pages have the same columns.
        shown = shown or _chosen(columns, widths, console.width)
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=has_header, header_style="bold")
        present = [columns[i] for i in shown]
        fitted = _fitted(present, [widths[i] for i in shown], console.width)
        for column, width in zip(present, fitted, strict=True):
            justify: Literal["left", "right"] = "right" if column.right else "left"
            table.add_column(column.title, width=width, justify=justify, no_wrap=True, overflow="ellipsis")
        for cells in page:
            table.add_row(*(Text(cells[i]) for i in shown))
        console.print(table)
    return bool(shown)


def _chosen(columns: Sequence[Column], widths: list[int], available: int) -> list[int]:
    """Return the columns to show: optional ones only while the flexible ones stay readable; the last goes first."""
    chosen = list(range(len(columns)))
    least = [min(width, READABLE) if columns[i].flexible else width for i, width in enumerate(widths)]
    for i in reversed(range(len(columns))):
        if columns[i].optional and sum(least[j] for j in chosen) + GAP * (len(chosen) - 1) > available:
            chosen.remove(i)
    return chosen


def _fitted(columns: Sequence[Column], widths: list[int], available: int) -> list[int]:
    """Take from the flexible columns what is too much for the terminal."""
    excess = sum(widths) + GAP * (len(widths) - 1) - available
    fitted = []
    for column, width in zip(columns, widths, strict=True):
        cut = max(0, min(excess, width - len(column.title))) if column.flexible else 0
        excess -= cut
        fitted.append(width - cut)
    return fitted


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print the names of fields with their values, one a line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        write_line(sys.stdout, f"{name:<{width}}{' ' * GAP}{clean(value)}")


#: How the status of a check looks, or the severity of a finding.
_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "error": "bold red"}


def print_checks(checks: Sequence[tuple[str, str, str, str | None]]) -> None:
    """Print status, name, findings and advice of checks; what is too long for the terminal goes on below."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for title in ("Status", "Check"):
        table.add_column(title, no_wrap=True)
    table.add_column("Found", overflow="fold")
    for status, check, found, advice in checks:
        cell = Text(clean(found))
        if advice:
            cell.append(f"\n{clean(advice)}", "bold")
        table.add_row(Text(status, _STYLES[status]), Text(check), cell)
    screen(sys.stdout).print(table)


def print_findings(severity: str, code: str, findings: Sequence[tuple[str, str]]) -> None:
    """Print place and message of findings below their code, in lines that a terminal may break but nobody cuts."""
    from rich.text import Text

    console = screen(sys.stdout)
    console.print(Text.assemble((severity, _STYLES[severity]), " ", (code, "bold")), soft_wrap=True)
    for place, message in findings:
        console.print(Text(f"  {clean(place)}\n    {clean(message)}"), soft_wrap=True)
