"""The project before any change: all work items and batches, derived from the seed.

Nothing is stored or enumerated: everything is computed from an index. A filter becomes a few spans of indexes, a
regular pattern for the status, and bounds on the update time, which are only checked near their edges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from . import shapes
from .formats import HOUR, SECOND, Identifiers, parse_time, render_time
from .settings import Settings

COMPLETED = "COMPLETED"
CLIENT_REVIEW = "CLIENT_REVIEW"

FIRST_BATCH_ID = 1001
_BASE_TIME = parse_time("2025-03-03T06:00:00Z")
_CREATION_INTERVAL = 7 * SECOND
#: Minimum and maximum time from the creation of an item until it is finished.
_SHORTEST_WORK = 60 * SECOND
_LONGEST_WORK = 6 * HOUR

_BATCH_NAMES = (
    "Street scenes",
    "Café façades",
    "Warehouse shelves",
    "Night drive",
    "Crop rows",
    "Harbour cranes",
    "Roof inspection",
    "Zürich trams",
    "Solar panels",
    "Retail checkout",
    "Forest canopy",
    "Conveyor belt",
)


@dataclass(frozen=True)
class WorkItemFilter:
    """A filter of a listing; ``None`` is no restriction, times are inclusive, IDs are lower-case."""

    batch_ids: tuple[int, ...] | None = None
    work_item_ids: tuple[str, ...] | None = None
    status: str | None = None
    created_from: int | None = None
    created_to: int | None = None
    updated_from: int | None = None
    updated_to: int | None = None

    def accepts(self, status: str, updated_at: int) -> bool:
        """Return whether an item with this status and update time matches the filter."""
        return (self.status is None or status == self.status) and _within(
            updated_at, self.updated_from, self.updated_to
        )

    def accepts_created(self, item_id: str, batch_id: int | None, created_at: int) -> bool:
        """Return whether an item matches the other conditions of the filter."""
        return (
            (self.batch_ids is None or batch_id in self.batch_ids)
            and (self.work_item_ids is None or item_id in self.work_item_ids)
            and _within(created_at, self.created_from, self.created_to)
        )


@dataclass(frozen=True)
class Selection:
    """A filter, and the disjoint, ascending spans of indexes that may match it."""

    wanted: WorkItemFilter
    spans: tuple[range, ...]

    def has_index(self, index: int) -> bool:
        position = bisect_right(self.spans, index, key=lambda span: span.start)
        return position > 0 and index in self.spans[position - 1]


class EvenPattern:
    """Marks a fraction of all indexes, evenly spaced, so that marks can be counted without enumeration."""

    _ONE = 1 << 32

    def __init__(self, fraction: float, phase: int) -> None:
        self._step = round(fraction * self._ONE)
        self._phase = phase

    def complement(self) -> EvenPattern:
        other = EvenPattern(0.0, self._ONE - 1 - self._phase)
        other._step = self._ONE - self._step
        return other

    def rank(self, index: int) -> int:
        """Return the number of marked indexes below this one."""
        return (index * self._step + self._phase) >> 32

    def select(self, rank: int) -> int:
        """Return the marked index with ``rank`` marked indexes below it."""
        return (((rank + 1) << 32) - self._phase - 1) // self._step

    def __contains__(self, index: int) -> bool:
        return self.rank(index + 1) > self.rank(index)

    def walk(self, span: range) -> Iterator[int]:
        return map(self.select, range(self.rank(span.start), self.rank(span.stop)) if span else ())


class Catalogue:
    def __init__(self, settings: Settings) -> None:
        self.ids = Identifiers(settings.seed)
        self.items = settings.items
        self.batches = settings.batches
        self._batch_names = settings.batch_names
        self._batched = self.items - settings.unbatched if self.batches else 0
        self._in_review = EvenPattern(settings.in_review, int.from_bytes(self.ids.digest("review", 0, 4), "big"))
        self._completed = self._in_review.complement()
        self._jitter = int.from_bytes(self.ids.digest("work", 0, 4), "big")

    def batch_of(self, index: int) -> int | None:
        if index >= self._batched:
            return None
        return FIRST_BATCH_ID + ((index + 1) * self.batches - 1) // self._batched

    def batch_span(self, batch: int) -> range:
        return range(batch * self._batched // self.batches, (batch + 1) * self._batched // self.batches)

    def batch_name(self, batch: int) -> str:
        if batch < len(self._batch_names):
            return self._batch_names[batch]
        return _BATCH_NAMES[batch] if batch < len(_BATCH_NAMES) else f"Batch {batch + 1:04d}"

    def status(self, index: int) -> str:
        return CLIENT_REVIEW if index in self._in_review else COMPLETED

    def created_at(self, index: int) -> int:
        return _BASE_TIME + index * _CREATION_INTERVAL

    def updated_at(self, index: int) -> int:
        """Return when an item was first finished, in whole milliseconds."""
        spread = (index * 2_654_435_761 + self._jitter) % (1 << 32)
        milliseconds = spread * ((_LONGEST_WORK - _SHORTEST_WORK) // 1000) >> 32
        return self.created_at(index) + _SHORTEST_WORK + milliseconds * 1000

    @property
    def last_update(self) -> int:
        """A whole second after all changes."""
        return self.created_at(self.items) + _LONGEST_WORK

    def scene(self, index: int) -> shapes.Scene:
        return shapes.make_scene(self.ids.digest("scene", index))

    def document(self, index: int, revision: int) -> bytes:
        return shapes.coco_document(
            description=f"Scène {index + 1} of the sandbox’s shapes",
            revision=revision,
            created=render_time(self.created_at(index)),
            file_name=self.ids.encode("asset", index) + ".png",
            annotations=self.scene(index).annotations(),
        )

    def select(self, wanted: WorkItemFilter) -> Selection:
        spans = [range(self.items)]
        if wanted.batch_ids is not None:
            positions = sorted({number - FIRST_BATCH_ID for number in wanted.batch_ids})
            spans = [self.batch_span(position) for position in positions if 0 <= position < self.batches]
        if wanted.work_item_ids is not None:
            indexes = {self.ids.decode("item", text) for text in wanted.work_item_ids}
            known_spans = Selection(wanted, tuple(spans))
            known = sorted(index for index in indexes if index is not None and known_spans.has_index(index))
            spans = [range(index, index + 1) for index in known]
        first, stop = 0, self.items
        if wanted.created_from is not None:
            first = -((_BASE_TIME - wanted.created_from) // _CREATION_INTERVAL)
        if wanted.created_to is not None:
            stop = (wanted.created_to - _BASE_TIME) // _CREATION_INTERVAL + 1
        clipped = (_clip(span, first, stop) for span in spans)
        return Selection(wanted, tuple(span for span in clipped if span))

    def matches(self, selection: Selection, index: int) -> bool:
        return selection.has_index(index) and selection.wanted.accepts(self.status(index), self.updated_at(index))

    def walk(self, selection: Selection, start: int) -> Iterator[int]:
        # Outside these bounds, the update time of no item matches the filter.
        possible = self._bounds(selection.wanted, _LONGEST_WORK, _SHORTEST_WORK)
        for span in selection.spans:
            yield from self._search(selection.wanted, _clip(span, max(start, possible.start), possible.stop))

    def _search(self, wanted: WorkItemFilter, span: range) -> Iterator[int]:
        for index in self._pattern(wanted.status).walk(span):
            if wanted.accepts(wanted.status or COMPLETED, self.updated_at(index)):
                yield index

    def count(self, selection: Selection) -> int:
        wanted, total = selection.wanted, 0
        possible = self._bounds(wanted, _LONGEST_WORK, _SHORTEST_WORK)
        # Inside these bounds, that of every item matches, so only the edges between the two are searched.
        certain = self._bounds(wanted, _SHORTEST_WORK, _LONGEST_WORK)
        pattern = self._pattern(wanted.status)
        for span in selection.spans:
            near = _clip(span, possible.start, possible.stop)
            sure = _clip(near, certain.start, certain.stop) or range(near.stop, near.stop)
            total += pattern.rank(sure.stop) - pattern.rank(sure.start)
            for edge in (range(near.start, sure.start), range(sure.stop, near.stop)):
                total += sum(1 for _ in self._search(wanted, edge))
        return total

    def _pattern(self, status: str | None) -> EvenPattern:
        """Return the pattern of the items with a status; ``None`` stands for all items."""
        known = {None: EvenPattern(1.0, 0), COMPLETED: self._completed, CLIENT_REVIEW: self._in_review}
        return known.get(status) or EvenPattern(0.0, 0)

    def _bounds(self, wanted: WorkItemFilter, before: int, after: int) -> range:
        """Return the indexes of items created this long before an update within the bounds."""
        first, stop, since, until = 0, self.items, wanted.updated_from, wanted.updated_to
        if since is not None:
            first = max(first, -((_BASE_TIME - since + before) // _CREATION_INTERVAL))
        if until is not None:
            stop = min(stop, (until - after - _BASE_TIME) // _CREATION_INTERVAL + 1)
        return range(first, max(first, stop))


def _within(moment: int, since: int | None, until: int | None) -> bool:
    return (since is None or moment >= since) and (until is None or moment <= until)


def _clip(span: range, first: int, stop: int) -> range:
    start = max(span.start, first)
    return range(start, max(start, min(span.stop, stop)))
