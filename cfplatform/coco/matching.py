"""Matches the objects of two annotators: intersection over union (IoU), and the assignment with the largest sum."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from . import mask as masks
from .values import are_finite, are_numbers

#: Left, top, width and height.
Box = tuple[float, float, float, float]
Size = tuple[int, int]


class Pair(NamedTuple):
    """Two objects, by their positions in the two lists."""

    a: int
    b: int
    iou: float


class Shape:
    """The shape of an annotation, in the coordinates of one image.

    Attributes:
        box: The box.
        label: The number of its category; 0 without a category.
        annotation: The annotation itself, not scaled.
        segmentation: The segmentation; ``None`` if only the box counts.
    """

    __slots__ = ("_runs", "annotation", "area", "box", "label", "right", "segmentation", "bottom")

    def __init__(self, box: Box, label: int, annotation: dict[str, Any], segmentation: Any = None) -> None:
        self.box = box
        self.label = label
        self.annotation = annotation
        self.segmentation = segmentation
        left, top, width, height = box
        self.right, self.bottom, self.area = left + width, top + height, width * height
        self._runs: masks.Runs | None = None

    def runs(self, size: Size) -> masks.Runs:
        """Return the mask in an image of this size; the mask of the box if there is no valid segmentation."""
        if self._runs is None:
            width, height = size
            try:
                found = masks.runs(self.segmentation, *((height, width) if isinstance(self.segmentation, list) else ()))
            except ValueError:
                left, top, right, bottom = self.box[0], self.box[1], self.right, self.bottom
                found = masks.polygon_runs([[left, top, right, top, right, bottom, left, bottom]], height, width)
            self._runs = masks.resized(found, height, width)
        return self._runs


def any_box(value: Any) -> Box | None:
    """Return a box, which may be empty; ``None`` if the value is not a box."""
    if are_numbers(value) and len(value) == 4 and are_finite(value) and value[2] >= 0 and value[3] >= 0:
        return value[0], value[1], value[2], value[3]
    return None


def box_of(annotation: dict[str, Any]) -> Box | None:
    """Return the box of an annotation, or the box around its segmentation; ``None`` if it has neither.

    Example:
        >>> box_of({"segmentation": [[1, 2, 5, 2, 5, 4]]})
        (1, 2, 4, 2)
    """
    found = any_box(annotation.get("bbox"))
    segmentation = annotation.get("segmentation")
    if found is not None or not segmentation:
        return found
    if isinstance(segmentation, list):
        polygons = [each for each in segmentation if masks.is_polygon(each)]
        if not polygons:
            return None
        left, top = min(min(each[::2]) for each in polygons), min(min(each[1::2]) for each in polygons)
        right, bottom = max(max(each[::2]) for each in polygons), max(max(each[1::2]) for each in polygons)
        return left, top, right - left, bottom - top
    try:
        extent = masks.runs(segmentation).extent()
    except ValueError:
        return None
    return None if extent is None else (extent[0], extent[1], extent[2] - extent[0], extent[3] - extent[1])


def pairs_of(ours: Sequence[Shape], theirs: Sequence[Shape], least: float, size: Size | None = None) -> list[Pair]:
    """Return the pairs whose IoU is at least ``least``.

    Args:
        ours: The objects of the first set.
        theirs: The objects of the second set.
        least: The minimum IoU, above 0.
        size: The width and height of the image, to compare masks; ``None`` to compare boxes.
    """
    order = sorted(range(len(theirs)), key=lambda place: theirs[place].box[0])
    lefts = [theirs[place].box[0] for place in order]
    widest = max((each.box[2] for each in theirs), default=0)
    found: list[Pair] = []
    for a, one in enumerate(ours):
        left, top, width, height = one.box
        right, bottom, area = one.right, one.bottom, one.area
        # The minimum IoU bounds the difference of the widths.
        before, after = (widest, width) if size else (min(widest, width * (1 / least - 1)), width * (1 - least))
        slack = 1e-9 * (abs(left) + width)
        for place in range(bisect_left(lefts, left - before - slack), bisect_right(lefts, left + after + slack)):
            b = order[place]
            other = theirs[b]
            if other.box == one.box:
                iou = 1.0
            else:
                across = (right if right < other.right else other.right) - max(left, lefts[place])
                if across <= 0:
                    continue
                their_top = other.box[1]
                down = (bottom if bottom < other.bottom else other.bottom) - (top if top > their_top else their_top)
                if down <= 0:
                    continue
                shared = across * down
                iou = shared / (area + other.area - shared)
            if size and one.segmentation != other.segmentation:
                iou = mask_iou(one.runs(size), other.runs(size))
            elif size and one.segmentation:
                iou = 1.0
            if iou >= least:
                found.append(Pair(a, b, iou if iou < 1 else 1.0))
    return found


def share_inside(one: Shape, crowd: Shape, size: Size | None = None) -> float:
    """Return the fraction of the area of an object that is inside a crowd."""
    left, top = max(one.box[0], crowd.box[0]), max(one.box[1], crowd.box[1])
    across, down = min(one.right, crowd.right) - left, min(one.bottom, crowd.bottom) - top
    if across <= 0 or down <= 0:
        return 0.0
    if size is None:
        return across * down / one.area
    mask = one.runs(size)
    return _shared(mask, crowd.runs(size)) / mask.area if mask.area else 0.0


def mask_iou(one: masks.Runs, other: masks.Runs) -> float:
    """Return the IoU of two masks of the same size.

    Example:
        >>> mask_iou(masks.Runs([1, 2, 1], 2, 2), masks.Runs([0, 2, 2], 2, 2))
        0.3333333333333333
    """
    shared = _shared(one, other)
    union = one.area + other.area - shared
    return shared / union if union else 0.0


def _shared(one: masks.Runs, other: masks.Runs) -> int:
    """Return the number of pixels that both masks have."""
    ours, theirs = list(accumulate(one.counts)), list(accumulate(other.counts))
    shared = place = 0
    for number in range(1, len(ours), 2):
        start, end = ours[number - 1], ours[number]
        while place + 1 < len(theirs) and theirs[place + 1] <= start:
            place += 2
        at = place
        while at + 1 < len(theirs) and theirs[at] < end:
            shared += max(0, min(end, theirs[at + 1]) - max(start, theirs[at]))
            at += 2
        place = max(place, at - 2)
    return shared


def components(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Return the pairs as connected components: groups that have no object in common."""
    of_a: dict[int, list[Pair]] = {}
    of_b: dict[int, list[Pair]] = {}
    for pair in pairs:
        of_a.setdefault(pair.a, []).append(pair)
        of_b.setdefault(pair.b, []).append(pair)
    if len(of_a) == len(of_b) and max(map(len, of_a.values()), default=0) == 1 == max(map(len, of_b.values())):
        return [*of_a.values()]
    found = []
    while of_a:
        a, first = of_a.popitem()
        group, waiting = [*first], [each.b for each in first]
        while waiting:
            for pair in of_b.pop(waiting.pop(), ()):
                if pair.a in of_a:
                    more = of_a.pop(pair.a)
                    group += more
                    waiting += [each.b for each in more]
        found.append(group)
    return found


def assigned(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with the largest sum of IoU, with each object in at most one pair.

    This is the Hungarian method for sparse candidates: for each object, it finds the shortest augmenting path
    (Dijkstra's algorithm, with potentials that keep all lengths non-negative).

    Example:
        >>> [each[:2] for each in assigned([Pair(0, 0, 0.9), Pair(0, 1, 0.6), Pair(1, 0, 0.7)])]
        [(0, 1), (1, 0)]
    """
    if len(pairs) == 1:
        return [*pairs]
    edges: dict[int, list[Pair]] = {}
    for pair in sorted(pairs):
        edges.setdefault(pair.a, []).append(pair)
    if len(edges) == 1:
        return [max(pairs, key=lambda each: (each.iou, -each.b))]
    price: dict[int, float] = {}
    of_a: dict[int, Pair] = {}
    of_b: dict[int, Pair] = {}
    for a in edges:
        _insert(a, edges, price, of_a, of_b)
    return sorted(of_b.values())


def _insert(
    start: int, edges: dict[int, list[Pair]], price: dict[int, float], of_a: dict[int, Pair], of_b: dict[int, Pair]
) -> None:
    """Add an object to the assignment if the sum grows; others may be reassigned.

    A pair costs ``1 - iou``, an unpaired object 1. The prices (potentials) of the second set are non-negative, and no
    object of the first set has a cheaper choice than its current one.
    """
    reached: dict[int, float] = {}
    by: dict[int, Pair] = {}
    passed: dict[int, None] = {}
    heap: list[tuple[float, int]] = []
    # The shortest path so far: its length, and the object at its end, which becomes unpaired (a) or was free (b).
    shortest, alone, free = math.inf, start, None
    a, length, paid = start, 0.0, 0.0
    while True:
        if length + 1 - paid < shortest:
            shortest, alone = length + 1 - paid, a
        for pair in edges[a]:
            new = length + 1 - pair.iou + price.get(pair.b, 0.0) - paid
            if pair.b not in passed and new < reached.get(pair.b, math.inf):
                reached[pair.b], by[pair.b] = new, pair
                heapq.heappush(heap, (new, pair.b))
        while heap and heap[0][0] > reached[heap[0][1]]:
            heapq.heappop(heap)
        if not heap or heap[0][0] >= shortest:
            break
        length, b = heapq.heappop(heap)
        held = of_b.get(b)
        if held is None:
            shortest, free = length, b
            break
        passed[b] = None
        a, paid = held.a, 1 - held.iou + price.get(b, 0.0)
    price.update({b: price.get(b, 0.0) + shortest - reached[b] for b in passed})
    if free is None:
        a, freed = alone, of_a.pop(alone, None)
    else:
        a, freed = by[free].a, of_a.get(by[free].a)
        of_a[a] = of_b[free] = by[free]
    _exchange(freed, by, of_a, of_b)


def _exchange(freed: Pair | None, by: dict[int, Pair], of_a: dict[int, Pair], of_b: dict[int, Pair]) -> None:
    """Apply a path: pass what each object gives up to the previous one."""
    while freed is not None:
        pair = by[freed.b]
        freed = of_a.get(pair.a)
        of_a[pair.a] = of_b[pair.b] = pair
