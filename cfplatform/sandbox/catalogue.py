"""The world before anybody changed it: what the seed says about every work item and batch.

Nothing here is stored or enumerated. Each question about an index is answered by arithmetic, and so is
"which items match this filter": a filter becomes a few spans of indexes, a regular pattern for the status,
and bounds on the time of the last update that need to be looked at only near their edges.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import shapes, timestamps
from .ids import MAX_OBJECTS, Identifiers

COMPLETED = "COMPLETED"
CLIENT_REVIEW = "CLIENT_REVIEW"

FIRST_BATCH_ID = 1001
_BASE_TIME = timestamps.parse("2025-03-03T06:00:00Z")
_CREATION_INTERVAL = 7 * timestamps.SECOND
#: An item is finished between these two times after its creation.
_SHORTEST_WORK = 60 * timestamps.SECOND
_LONGEST_WORK = 6 * timestamps.HOUR

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
    """What a listing asks for; ``None`` stands for no restriction, times are inclusive."""

    batch_ids: tuple[int, ...] | None = None
    work_item_ids: tuple[str, ...] | None = None
    status: str | None = None
    created_from: int | None = None
    created_to: int | None = None
    updated_from: int | None = None
    updated_to: int | None = None


@dataclass(frozen=True)
class Selection:
    """A filter resolved to disjoint, ascending spans of indexes, a status and bounds on the last update."""

    spans: tuple[range, ...]
    status: str | None = None
    updated_from: int | None = None
    updated_to: int | None = None

    def has_index(self, index: int) -> bool:
        """Tell whether the index lies in one of the spans."""
        position = bisect_right(self.spans, index, key=lambda span: span.start)
        return position > 0 and index in self.spans[position - 1]

    def accepts(self, status: str, updated_at: int) -> bool:
        """Tell whether an item in this state belongs to the selection, its index aside."""
        return (
            (self.status is None or status == self.status)
            and (self.updated_from is None or updated_at >= self.updated_from)
            and (self.updated_to is None or updated_at <= self.updated_to)
        )


class EvenPattern:
    """Marks a fraction of all indexes, evenly spread, so that marked ones can be counted without looking."""

    _ONE = 1 << 32

    def __init__(self, fraction: float, phase: int) -> None:
        self._step = round(fraction * self._ONE)
        self._phase = phase

    def complement(self) -> EvenPattern:
        """Return the pattern that marks exactly the other indexes."""
        other = EvenPattern(0.0, self._ONE - 1 - self._phase)
        other._step = self._ONE - self._step
        return other

    def rank(self, index: int) -> int:
        """Return how many indexes below this one are marked."""
        return (index * self._step + self._phase) >> 32

    def select(self, rank: int) -> int:
        """Return the marked index that has ``rank`` marked ones below it."""
        return (((rank + 1) << 32) - self._phase - 1) // self._step

    def __contains__(self, index: int) -> bool:
        return self.rank(index + 1) > self.rank(index)

    def walk(self, span: range, backwards: bool) -> Iterator[int]:
        """Yield the marked indexes of a span."""
        ranks = range(self.rank(span.start), self.rank(span.stop)) if span else range(0)
        return map(self.select, reversed(ranks) if backwards else ranks)


class Catalogue:
    """Answers what the seed says about items and batches."""

    def __init__(
        self,
        *,
        seed: int,
        items: int,
        batches: int,
        batch_names: Sequence[str] = (),
        unbatched: int = 0,
        in_review: float = 0.0,
    ) -> None:
        if not 0 <= items <= MAX_OBJECTS:
            raise ValueError(f"items must be between 0 and {MAX_OBJECTS}, not {items}")
        if batches < 0:
            raise ValueError(f"batches must not be negative, not {batches}")
        if len(batch_names) > batches:
            raise ValueError(f"{len(batch_names)} batch_names were given for {batches} batches")
        if not 0 <= unbatched <= items:
            raise ValueError(f"unbatched must be between 0 and the {items} items, not {unbatched}")
        if not 0.0 <= in_review <= 1.0:
            raise ValueError(f"in_review must be between 0 and 1, not {in_review}")
        self.ids = Identifiers(seed)
        self.items = items
        self.batches = batches
        self._batch_names = tuple(batch_names)
        self._batched = items - unbatched if batches else 0
        self._in_review = EvenPattern(in_review, int.from_bytes(self.ids.digest("review", 0, 4), "big"))
        self._completed = self._in_review.complement()
        self._jitter = int.from_bytes(self.ids.digest("work", 0, 4), "big")

    # -- one item, one batch

    def batch_of(self, index: int) -> int | None:
        """Return the id of the batch of an item."""
        if index >= self._batched:
            return None
        return FIRST_BATCH_ID + ((index + 1) * self.batches - 1) // self._batched

    def batch_span(self, batch: int) -> range:
        """Return the indexes of the items of the batch in this position."""
        return range(batch * self._batched // self.batches, (batch + 1) * self._batched // self.batches)

    def batch_name(self, batch: int) -> str:
        """Return the first name of the batch in this position."""
        if batch < len(self._batch_names):
            return self._batch_names[batch]
        return _BATCH_NAMES[batch] if batch < len(_BATCH_NAMES) else f"Batch {batch + 1:04d}"

    def status(self, index: int) -> str:
        """Return the first status of an item."""
        return CLIENT_REVIEW if index in self._in_review else COMPLETED

    def created_at(self, index: int) -> int:
        """Return when an item was created."""
        return _BASE_TIME + index * _CREATION_INTERVAL

    def updated_at(self, index: int) -> int:
        """Return when an item was first finished, a whole number of milliseconds."""
        spread = (index * 2_654_435_761 + self._jitter) % (1 << 32)
        milliseconds = spread * ((_LONGEST_WORK - _SHORTEST_WORK) // 1000) >> 32
        return self.created_at(index) + _SHORTEST_WORK + milliseconds * 1000

    @property
    def last_update(self) -> int:
        """A whole second after which nothing has happened yet."""
        return self.created_at(self.items) + _LONGEST_WORK

    def scene(self, index: int) -> shapes.Scene:
        """Return the picture of an item, not yet drawn."""
        return shapes.make_scene(self.ids.digest("scene", index))

    # -- many items

    def select(self, wanted: WorkItemFilter) -> Selection:
        """Resolve a filter."""
        spans = [range(self.items)]
        if wanted.batch_ids is not None:
            positions = sorted({number - FIRST_BATCH_ID for number in wanted.batch_ids})
            spans = [self.batch_span(position) for position in positions if 0 <= position < self.batches]
        if wanted.work_item_ids is not None:
            indexes = {self.ids.decode("item", text) for text in wanted.work_item_ids}
            whole = Selection(tuple(spans))
            known = sorted(index for index in indexes if index is not None and whole.has_index(index))
            spans = [range(index, index + 1) for index in known]
        first, stop = 0, self.items
        if wanted.created_from is not None:
            first = -((_BASE_TIME - wanted.created_from) // _CREATION_INTERVAL)
        if wanted.created_to is not None:
            stop = (wanted.created_to - _BASE_TIME) // _CREATION_INTERVAL + 1
        clipped = (_clip(span, first, stop) for span in spans)
        return Selection(
            tuple(span for span in clipped if span),
            wanted.status,
            wanted.updated_from,
            wanted.updated_to,
        )

    def matches(self, selection: Selection, index: int) -> bool:
        """Tell whether an item belonged to a selection at first."""
        return selection.has_index(index) and selection.accepts(self.status(index), self.updated_at(index))

    def walk(self, selection: Selection, start: int, *, backwards: bool = False) -> Iterator[int]:
        """Yield the indexes that match a selection, from ``start`` upwards or downwards."""
        possible = self._possible(selection)
        for span in reversed(selection.spans) if backwards else selection.spans:
            near = _clip(span, 0, start + 1) if backwards else _clip(span, start, self.items)
            for index in self._with_status(selection.status, _clip(near, possible.start, possible.stop), backwards):
                if selection.accepts(selection.status or COMPLETED, self.updated_at(index)):
                    yield index

    def count(self, selection: Selection) -> int:
        """Count the items that match a selection."""
        possible, certain = self._possible(selection), self._certain(selection)
        total = 0
        for span in selection.spans:
            near = _clip(span, possible.start, possible.stop)
            sure = _clip(near, certain.start, certain.stop)
            if not sure:
                edges = [near]
            else:
                total += self._count_status(selection.status, sure)
                edges = [range(near.start, sure.start), range(sure.stop, near.stop)]
            for edge in edges:
                total += sum(
                    selection.accepts(selection.status or COMPLETED, self.updated_at(index))
                    for index in self._with_status(selection.status, edge, False)
                )
        return total

    def _with_status(self, status: str | None, span: range, backwards: bool) -> Iterator[int]:
        if status is None:
            return iter(reversed(span) if backwards else span)
        if status == COMPLETED:
            return self._completed.walk(span, backwards)
        if status == CLIENT_REVIEW:
            return self._in_review.walk(span, backwards)
        return iter(())

    def _count_status(self, status: str | None, span: range) -> int:
        if status is None:
            return len(span)
        if status not in (COMPLETED, CLIENT_REVIEW):
            return 0
        pattern = self._completed if status == COMPLETED else self._in_review
        return pattern.rank(span.stop) - pattern.rank(span.start)

    def _possible(self, selection: Selection) -> range:
        """Return the indexes outside of which no item was last updated within the bounds."""
        return self._created_within(selection.updated_from, selection.updated_to, _LONGEST_WORK, _SHORTEST_WORK)

    def _certain(self, selection: Selection) -> range:
        """Return the indexes inside of which every item was last updated within the bounds."""
        return self._created_within(selection.updated_from, selection.updated_to, _SHORTEST_WORK, _LONGEST_WORK)

    def _created_within(self, since: int | None, until: int | None, before: int, after: int) -> range:
        first, stop = 0, self.items
        if since is not None:
            first = max(first, -((_BASE_TIME - since + before) // _CREATION_INTERVAL))
        if until is not None:
            stop = min(stop, (until - after - _BASE_TIME) // _CREATION_INTERVAL + 1)
        return range(first, max(first, stop))


def _clip(span: range, first: int, stop: int) -> range:
    start = max(span.start, first)
    return range(start, max(start, min(span.stop, stop)))
