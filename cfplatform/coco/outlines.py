"""Converts any segmentation to one polygon, for formats with one polygon for each object."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from operator import mul
from typing import NamedTuple

from . import mask as masks
from .mask import Runs, polygon_runs

#: A point, or a corner of a pixel.
Point = tuple[float, float]
_Vertex = tuple[int, int]
#: A closed line; the last point does not repeat the first.
Ring = list[Point]

#: Maximum distance of a simplified outline from the pixels, and the minimum IoU of both.
_TOLERANCE, _SHARED = 0.75, 0.98
#: Rings with fewer points are not simplified, nor are rings with more, which would take too long.
_FEWEST, _MOST = 8, 20_000
#: Maximum number of vertices tried as ends of a bridge, over all rings; more rings than the second are chained.
_CANDIDATES, _CHAIN = 512, 256


class Outline(NamedTuple):
    """One polygon for an object.

    Attributes:
        points: Its points; a bridge between two parts goes there and back on the same line.
        parts: The number of connected parts.
        holes: The number of connected holes.
        width: The width of the image of these points.
        height: The height of the image of these points.
    """

    points: Ring
    parts: int
    holes: int
    width: float
    height: float


def outline_of(segmentation: object, width: int, height: int) -> Outline | None:
    """Return a segmentation as one polygon within the image; ``None`` if it is outside.

    A single polygon is kept. Parts that do not overlap are kept and connected by bridges. Overlapping parts and masks
    are traced along their pixels.

    Args:
        segmentation: A list of polygons, or a mask.
        width: The width of the image.
        height: The height of the image; a mask of another size is scaled.

    Raises:
        ValueError: If it is not a valid segmentation; the message is a clause.

    Example:
        >>> outline_of([[0, 0, 9, 0, 9, 3]], 6, 3).points
        [(6.0, 2.0), (0, 0), (6.0, 0.0)]
        >>> outline_of({"size": [2, 3], "counts": [2, 3, 1]}, 3, 2).points
        [(1, 0), (3, 0), (3, 1), (2, 1), (2, 2), (1, 2)]
    """
    if isinstance(segmentation, list):
        polygons = [each for each in segmentation if each != []]
        if not polygons or not all(map(masks.is_polygon, polygons)):
            raise ValueError("it is not a list of polygons with at least three points each")
        rings = [_clipped([*zip(each[::2], each[1::2], strict=True)], width, height) for each in polygons]
        rings = [ring for ring in rings if len(ring) > 2 and not _is_flat(ring)]
        if len(rings) < 2:
            return Outline(rings[0], 1, 0, width, height) if rings else None
        if not _overlap(rings, width, height):
            return Outline(
                bridged([ring if _area(ring) > 0 else ring[::-1] for ring in rings]), len(rings), 0, width, height
            )
        found = polygon_runs([[*itertools.chain(*ring)] for ring in rings], height, width)
    else:
        found = masks.runs(segmentation)
    traced = [*traced_rings(found)]
    if not traced:
        return None
    holes = sum(_area(ring) < 0 for ring in traced)
    simple = [_simplified(ring) for ring in traced]
    points = bridged(simple)
    if not _is_alike(points, found):
        points = bridged(traced)
    return Outline(points, len(traced) - holes, holes, found.width, found.height)


def _overlap(rings: list[Ring], width: int, height: int) -> bool:
    """Return whether any two rings share a pixel."""
    extents = sorted((min(xs), max(xs), min(ys), max(ys)) for ring in rings for xs, ys in [[*zip(*ring, strict=True)]])
    apart = (
        all(
            one[1] <= other[0] or one[3] <= other[2] or other[3] <= one[2]
            for one, other in itertools.combinations(extents, 2)
        )
        if len(rings) <= _CHAIN
        else False
    )
    if apart:
        return False
    flat = [[*itertools.chain(*ring)] for ring in rings]
    return sum(polygon_runs([each], height, width).area for each in flat) != polygon_runs(flat, height, width).area


def _area(ring: Ring) -> float:
    """Return twice the area of a ring, negative if it is counterclockwise (y points down)."""
    xs, ys = zip(*ring, strict=True)
    return math.fsum(map(mul, xs, (*ys[1:], ys[0]))) - math.fsum(map(mul, ys, (*xs[1:], xs[0])))


def _is_flat(ring: Ring) -> bool:
    """Return whether all points are on one line; the area of a self-intersecting ring may be zero too."""
    if _area(ring):
        return False
    (x, y), far = ring[0], max(ring, key=lambda point: math.dist(ring[0], point))
    return all((far[0] - x) * (own_y - y) == (far[1] - y) * (own_x - x) for own_x, own_y in ring)


def _clipped(ring: Ring, width: float, height: float) -> Ring:
    """Return the part of a ring within the image."""
    xs, ys = zip(*ring, strict=True)
    if min(xs) >= 0 and min(ys) >= 0 and max(xs) <= width and max(ys) <= height:
        return ring
    for axis, bound, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        if all((point[axis] - bound) * sign >= 0 for point in ring):
            continue
        kept: Ring = []
        for before, point in zip([ring[-1], *ring[:-1]], ring, strict=True):
            is_in = (point[axis] - bound) * sign >= 0
            if ((before[axis] - bound) * sign >= 0) != is_in:
                share = (bound - before[axis]) / (point[axis] - before[axis])
                other = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
                kept.append((float(bound), other) if axis == 0 else (other, float(bound)))
            if is_in:
                kept.append(point)
        ring = kept
        if not ring:
            break
    return ring


# --- Tracing ------------------------------------------------------------------------------------------------------


def traced_rings(found: Runs) -> Iterator[Ring]:
    """Yield the outlines of a mask along its pixels: parts clockwise, holes counterclockwise.

    Pixels that touch only at a corner are separate parts.

    Example:
        >>> [*traced_rings(Runs([0, 4, 1, 4], 3, 3))]
        [[(0, 0), (3, 0), (3, 3), (0, 3)], [(1, 1), (1, 2), (2, 2), (2, 1)]]
    """
    following = _edges(found)
    for start in sorted(following):
        while following.get(start):
            yield _corners(_followed(following, start))


def _edges(found: Runs) -> dict[_Vertex, list[_Vertex]]:
    """Return the edges of a mask by their start, with the object on the right."""
    following: dict[_Vertex, list[_Vertex]] = {}

    def add(start: _Vertex, end: _Vertex) -> None:
        following.setdefault(start, []).append(end)

    last = -1
    before: list[int] = []
    for column, spans in _columns(found):
        if column != last + 1:
            _add_sides(add, last + 1, before, [])
            before = []
        _add_sides(add, column, before, spans)
        for top, bottom in zip(spans[::2], spans[1::2], strict=True):
            add((column, top), (column + 1, top))
            add((column + 1, bottom), (column, bottom))
        last, before = column, spans
    _add_sides(add, last + 1, before, [])
    return following


def _columns(found: Runs) -> Iterator[tuple[int, list[int]]]:
    """Yield the columns with pixels of the object, and the start and end of each run."""
    height = found.height
    last = -1
    spans: list[int] = []
    ends = list(itertools.accumulate(found.counts))
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        while start < end:
            column, row = divmod(start, height)
            stop = min(end, (column + 1) * height)
            if column != last:
                if spans:
                    yield last, spans
                last, spans = column, []
            if spans and spans[-1] == row:
                spans[-1] = stop - column * height
            else:
                spans += row, stop - column * height
            start = stop
    if spans:
        yield last, spans


def _add_sides(add: Callable[[_Vertex, _Vertex], None], x: int, left: list[int], right: list[int]) -> None:
    """Add the edges between two columns, where only one of them has the object."""
    ends = sorted([(each, 0) for each in left] + [(each, 1) for each in right])
    inside = [False, False]
    start = 0
    for y, side in ends:
        if inside[0] != inside[1] and start != y:
            # The object is to the right of an upward edge on its left side, and of a downward edge on its right side.
            add(*(((x, start), (x, y)) if inside[0] else ((x, y), (x, start))))
        inside[side] = not inside[side]
        start = y


def _followed(following: dict[_Vertex, list[_Vertex]], start: _Vertex) -> list[_Vertex]:
    """Remove the edges of one ring, and return its vertices."""
    ring, here = [start], following[start].pop()
    before = start
    while here != start:
        ring.append(here)
        ways = following[here]
        if len(ways) > 1:
            # Two pixels touch at this corner: turn right to stay on the same pixel.
            turn = (before[1] - here[1], here[0] - before[0])
            way = next(each for each in ways if (each[0] - here[0]) * turn[0] + (each[1] - here[1]) * turn[1] > 0)
            ways.remove(way)
        else:
            way = ways.pop()
        before, here = here, way
    return ring


def _corners(ring: list[_Vertex]) -> Ring:
    """Return a ring without collinear vertices."""
    before, after = [ring[-1], *ring[:-1]], [*ring[1:], ring[0]]
    return [
        (x, y)
        for (left, top), (x, y), (right, bottom) in zip(before, ring, after, strict=True)
        if (left == x) != (x == right) or (top == y) != (y == bottom)
    ]


def _simplified(ring: Ring) -> Ring:
    """Return a ring with fewer points (Douglas-Peucker)."""
    if not _FEWEST < len(ring) <= _MOST:
        return ring
    far = max(range(len(ring)), key=lambda index: math.dist(ring[0], ring[index]))
    closed = [*ring, ring[0]]
    kept = {0, far}
    rest = [(0, far), (far, len(ring))]
    while rest:
        first, last = rest.pop()
        (x, y), (end_x, end_y) = closed[first], closed[last]
        dx, dy = end_x - x, end_y - y
        length = math.hypot(dx, dy)
        most, at = 0.0, first
        for index in range(first + 1, last):
            px, py = closed[index]
            away = abs(dx * (py - y) - dy * (px - x)) / length if length else math.hypot(px - x, py - y)
            if away > most:
                most, at = away, index
        if most > _TOLERANCE:
            kept.add(at)
            rest += (first, at), (at, last)
    found = [ring[index] for index in sorted(kept)]
    return found if len(found) > 2 else ring


def _is_alike(points: Ring, found: Runs) -> bool:
    """Return whether a polygon has almost the same pixels as a mask."""
    try:
        made = polygon_runs([[*itertools.chain(*points)]], found.height, found.width)
    except ValueError:
        return False
    total, shared = made.area + found.area, _shared(made.counts, found.counts)
    return shared >= _SHARED * (total - shared)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of pixels that two masks of the same size share."""
    ends = sorted([(end, 0) for end in itertools.accumulate(one)] + [(end, 1) for end in itertools.accumulate(other)])
    inside = [False, False]
    start = found = 0
    for end, side in ends:
        if inside[0] and inside[1]:
            found += end - start
        inside[side] = not inside[side]
        start = end
    return found


# --- Bridges ------------------------------------------------------------------------------------------------------


class _Bridge(NamedTuple):
    """A bridge: its squared length, the ring and vertex where it begins, and the vertex where it ends."""

    square: float
    parent: int
    at: int
    begin: int


def bridged(rings: list[Ring]) -> Ring:
    """Return rings as one polygon: each is connected by a short bridge, which is passed twice.

    A bridge has no area, so it cancels itself out where it crosses another ring.

    Example:
        >>> bridged([[(0, 0), (1, 0), (1, 1)], [(3, 0), (4, 0), (4, 1)]])
        [(0, 0), (1, 0), (3, 0), (4, 0), (4, 1), (3, 0), (1, 0), (1, 1)]
    """
    if len(rings) == 1:
        return rings[0]
    # By ring and vertex: the rings connected there, and the vertex where each begins.
    bridges: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for parent, at, child, begin in _chain(rings) if len(rings) > _CHAIN else _tree(rings):
        bridges.setdefault((parent, at), []).append((child, begin))
    points: Ring = []
    # The path through one ring: its number, the vertex, and the number of vertices left.
    ways = [(0, 0, len(rings[0]), 0)]
    while ways:
        ring, begin, left, entered = ways.pop()
        own = rings[ring]
        while left:
            at = (begin - left) % len(own)
            here = bridges.get((ring, at), ())
            points.append(own[at])
            if entered < len(here):
                child, first = here[entered]
                ways += (ring, begin, left, entered + 1), (child, first, len(rings[child]), 0)
                break
            left, entered = left - 1, 0
        else:
            if ways:
                points.append(own[begin])
    return points


def _chain(rings: list[Ring]) -> Iterator[tuple[int, int, int, int]]:
    for number in range(1, len(rings)):
        yield number - 1, 0, number, 0


def _tree(rings: list[Ring]) -> Iterator[tuple[int, int, int, int]]:
    """Yield short bridges that connect all rings (Prim's algorithm)."""
    most = max(4, min(64, _CANDIDATES // len(rings)))
    tried = [[*range(0, len(ring), -(-len(ring) // most))] for ring in rings]
    best = dict.fromkeys(range(1, len(rings)), _Bridge(math.inf, 0, 0, 0))
    newest = 0
    while best:
        for number, known in best.items():
            found = _nearest(rings, tried, newest, number)
            if found < known:
                best[number] = found
        newest = min(best, key=lambda number: (best[number], number))
        found = best.pop(newest)
        yield found.parent, found.at, newest, found.begin


def _nearest(rings: list[Ring], tried: list[list[int]], one: int, other: int) -> _Bridge:
    """Return a short bridge between two rings."""
    theirs = [(*rings[other][end], end) for end in tried[other]]
    found = _Bridge(math.inf, one, 0, 0)
    for start in tried[one]:
        x, y = rings[one][start]
        away, end = min(((x - ox) * (x - ox) + (y - oy) * (y - oy), number) for ox, oy, number in theirs)
        if away < found.square:
            found = _Bridge(away, one, start, end)
    return found
