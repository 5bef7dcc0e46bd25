"""Figures compared with their targets, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NO_BAR, AIM, REACHED, BELOW = "-", "aim", "reached", "BELOW"


@dataclass(frozen=True)
class Bar:
    """What a figure has to reach: at least or at most ``value``; and what it should reach."""

    value: float
    aim: float | None = None
    at_least: bool = True
    unit: str = "x"

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {shown(self.value, self.unit)}"

    def verdict(self, figure: float) -> str:
        """Judge a figure."""
        if not self._holds(figure, self.value):
            return BELOW
        return AIM if self.aim is not None and self._holds(figure, self.aim) else REACHED

    def _holds(self, figure: float, bound: float) -> bool:
        return figure >= bound if self.at_least else figure <= bound


@dataclass(frozen=True)
class Row:
    """One comparison; without a figure the other side was left out, and ``other`` says why."""

    case: str
    what: str
    ours: str
    other: str
    figure: float | None = None
    bar: Bar | None = None
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """``BELOW``, ``reached``, ``aim``; or ``-`` where nothing is demanded."""
        return NO_BAR if self.bar is None or self.figure is None else self.bar.verdict(self.figure)

    def as_dict(self) -> dict[str, Any]:
        """Return what is written to JSON."""
        bar = vars(self.bar) if self.bar else None
        return {**vars(self), "bar": bar, "verdict": self.verdict}

    def cells(self) -> list[str]:
        """Return what is shown."""
        figure = "" if self.figure is None else shown(self.figure, self.unit)
        return [self.case, self.what, self.ours, self.other, figure, str(self.bar or ""), self.verdict]


@dataclass
class Side:
    """One side of a case with the figures of its rounds."""

    case: str
    name: str
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Return the median of one figure."""
        return statistics.median(each[name] for each in self.rounds)

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.median("items") / self.median("seconds")

    @property
    def server_share(self) -> float:
        """How busy the server was: 1 is a whole processor, and then the figure is the server's."""
        return self.median("server_cpu") / self.median("seconds")

    def cells(self) -> list[str]:
        """Return what is shown."""
        items = max(1, self.median("items"))
        peak = self.rounds[0]["peak_mb"]
        return [
            self.case,
            self.name,
            f"{self.median('seconds'):.2f}",
            f"{self.rate:,.0f}",
            f"{self.median('cpu') / items * 1000:.2f}",
            "" if peak is None else f"{self.median('peak_mb'):.1f}",
            f"{sum(self.rounds[-1]['requests'].values()):,}",
            f"{self.server_share:.0%}",
        ]


def shown(value: float, unit: str) -> str:
    """Return a figure with its unit."""
    return f"{value:,.0f}" if unit == "" else f"{value:,.2f} {unit}"


def comparisons(rows: Sequence[Row]) -> str:
    """Return the table of figures and bars."""
    return _table(["case", "what", "ours", "other side", "ratio", "bar", "verdict"], [row.cells() for row in rows])


def sides(measured: Sequence[Side]) -> str:
    """Return the table of what each side took."""
    titles = ["case", "side", "seconds", "items/s", "ms CPU an item", "peak MB", "requests", "server CPU"]
    return _table(titles, [side.cells() for side in measured])


def _table(titles: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [titles, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
