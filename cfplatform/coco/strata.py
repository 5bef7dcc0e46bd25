"""Distributes groups over parts by class (stratification)."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from .documents import Document
from .tables import Categories, FindingLog
from .values import key, records

#: Maximum number of moves of each group.
_PASSES = 4
#: Smaller decreases of chi-square are rounding errors.
_LEAST = 1e-9
#: Strata before the classes: all images, and images without annotations.
_IMAGES, _EMPTY = 0, 1

#: The count of each stratum in a group.
Row = Sequence[tuple[int, int]]


class Strata:
    """Counts the images and annotations of each class by group."""

    def __init__(self) -> None:
        self._categories = Categories(FindingLog(lambda finding: None))
        self._counts: list[dict[int, int]] = []

    def add(self, document: Document, owners: Sequence[tuple[dict[str, Any], int]]) -> None:
        """Count the images of a document, given with the numbers of their groups."""
        categories = self._categories.numbers(document)
        groups: dict[Any, int] = {}
        for image, number in owners:
            if number == len(self._counts):
                self._counts.append({})
            _count(self._counts[number], _IMAGES)
            # If several images share an ID, the first has the annotations.
            groups.setdefault(key(image.get("id")), number)
        labelled = set()
        for annotation in records(document.data, "annotations"):
            own = key(annotation.get("image_id"))
            if own is None or own not in groups:
                continue
            labelled.add(own)
            for each in (annotation, *records(annotation, "segments_info")):
                category = key(each.get("category_id"))
                if category in categories:
                    _count(self._counts[groups[own]], _EMPTY + categories[category])
        for image, number in owners:
            if key(image.get("id")) not in labelled:
                _count(self._counts[number], _EMPTY)

    def in_one_group(self) -> list[str]:
        """Return the names of the classes that only one group has."""
        groups: dict[int, int] = {}
        for row in self._counts:
            for stratum in row:
                _count(groups, stratum)
        entries = self._categories.entries
        return sorted(str(each.get("name")) for each in entries if groups.get(_EMPTY + each["id"]) == 1)

    def rows(self) -> list[Row]:
        """Return the counts of each group; the order of strata does not depend on the source."""
        names = sorted((_identity(entry), entry["id"]) for entry in self._categories.entries)
        ranks = {_EMPTY + number: _EMPTY + 1 + rank for rank, (_, number) in enumerate(names)}
        return [sorted((ranks.get(stratum, stratum), count) for stratum, count in row.items()) for row in self._counts]


def _count(counts: dict[int, int], stratum: int) -> None:
    counts[stratum] = counts.get(stratum, 0) + 1


def _identity(entry: dict[str, Any]) -> str:
    """Return the identity of a category, regardless of its ID."""
    members = ("name", "supercategory", "keypoints", "skeleton", "isthing")
    return unicodedata.normalize("NFC", json.dumps([entry.get(member) for member in members], ensure_ascii=False))


class Spread:
    """Moves groups between parts as long as the chi-square of all strata falls.

    Numbers are added in a fixed order, and without ``sum``, which rounds differently in some versions of Python, so the
    result is the same on every machine.

    Args:
        rows: The counts of each group.
        fractions: The fractions of the parts.
        parts: The part of each group; modified.
    """

    def __init__(self, rows: Sequence[Row], fractions: Sequence[float], parts: list[int]) -> None:
        self._rows = rows
        self._parts = parts
        self._every = range(len(fractions))
        totals = [0] * (1 + max((stratum for row in rows for stratum, _ in row), default=0))
        self._held = [[0] * len(totals) for _ in fractions]
        self._members = [parts.count(part) for part in self._every]
        for row, part in zip(rows, parts, strict=True):
            for stratum, count in row:
                totals[stratum] += count
                self._held[part][stratum] += count
        self._goals = [[fraction * total for total in totals] for fraction in fractions]

    def improve(self, order: Sequence[int]) -> None:
        """Move these groups, the largest first, then in their order; an empty part gets one group."""
        order = sorted(order, key=lambda number: -sum(count for _, count in self._rows[number]))
        for _ in range(_PASSES):
            if not sum([self._improve(number) for number in order]):
                break
        for part in self._every:
            if not self._members[part]:
                spare = [number for number in order if self._members[self._parts[number]] > 1]
                if spare:
                    self._move(min(spare, key=lambda number: self._gain(number, part)), part)

    def _improve(self, number: int) -> bool:
        source = self._parts[number]
        if self._members[source] == 1:
            return False
        changes = [(self._gain(number, part), part) for part in self._every if part != source]
        change, target = min(changes, default=(0.0, source))
        if change >= -_LEAST:
            return False
        self._move(number, target)
        return True

    def _gain(self, number: int, target: int) -> float:
        """Return the change of chi-square if a group moves."""
        row, source = self._rows[number], self._parts[number]
        return self._change(row, source, -1) + self._change(row, target, 1)

    def _change(self, row: Row, part: int, sign: int) -> float:
        """Return the change of chi-square if a part gets (1) or loses (-1) a group."""
        change = 0.0
        held, goals = self._held[part], self._goals[part]
        for stratum, count in row:
            goal = goals[stratum]
            change += count * (count + sign * 2 * (held[stratum] - goal)) / goal
        return change

    def _move(self, number: int, target: int) -> None:
        source = self._parts[number]
        for stratum, count in self._rows[number]:
            self._held[source][stratum] -= count
            self._held[target][stratum] += count
        self._members[source] -= 1
        self._members[target] += 1
        self._parts[number] = target
