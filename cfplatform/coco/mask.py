"""COCO segmentations as masks: the same pixels as pycocotools, without NumPy.

A segmentation is a list of polygons, or a run-length encoding (RLE), as numbers or as a compressed string. Runs go
column by column and alternate between background and object, starting with background; they must cover ``height *
width`` pixels. Every function validates its input, so a malformed document cannot make other tools read out of bounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..exceptions import InvalidParameterError
from .values import are_finite, are_numbers

__all__ = ["area", "decode", "to_bbox"]

#: Maximum number of pixels of a mask: 400 million, more than any camera has.
MAX_PIXELS = 400_000_000
#: Maximum number of pixel columns that the outline of a polygon may cross.
MAX_CROSSINGS = 4_000_000
#: Steps per pixel for tracing a polygon, as in pycocotools.
_STEPS = 5


class Runs(NamedTuple):
    """A mask as run lengths, column by column: background and object in turn."""

    counts: list[int]
    height: int
    width: int

    @property
    def area(self) -> int:
        """The number of pixels of the object."""
        return sum(self.counts[1::2])

    def extent(self) -> tuple[int, int, int, int] | None:
        """Return the first column and row of the object, and the ones after its last; ``None`` if it has no pixels.

        Example:
            >>> Runs([1, 2, 1], 2, 2).extent()
            (0, 0, 2, 2)
        """
        height = self.height
        ends = itertools.accumulate(self.counts)
        spans = [span for span in zip(itertools.islice(ends, 0, None, 2), self.counts[1::2], strict=False) if span[1]]
        if not spans:
            return None
        rows = [start % height for start, _ in spans]
        top, bottom = min(rows), max([row + length for row, (_, length) in zip(rows, spans, strict=True)])
        if bottom > height:
            # The run continues in the next column, so it touches the top and bottom edges.
            top, bottom = 0, height
        start, length = spans[-1]
        return spans[0][0] // height, top, (start + length - 1) // height + 1, bottom

    def columns(self, value: int = 1) -> bytes:
        """Return one byte for each pixel, column by column: ``value`` for the object, 0 for the background.

        Example:
            >>> Runs([1, 2, 1], 2, 2).columns(255)
            b'\\x00\\xff\\xff\\x00'
        """
        inside = bytes([value])
        return b"".join((inside if index % 2 else b"\0") * count for index, count in enumerate(self.counts))


def decode(segmentation: Any, height: int | None = None, width: int | None = None) -> memoryview:
    """Return the mask of a segmentation: 1 for the object, 0 for the background.

    Args:
        segmentation: The ``segmentation`` of an annotation: a list of polygons, or an object with ``size`` and
            ``counts``.
        height: Height of the image in pixels; required for polygons.
        width: Width of the image in pixels; required for polygons.

    Returns:
        A view of bytes with the shape (height, width). ``numpy.asarray`` converts it without a copy.

    Raises:
        InvalidParameterError: If the segmentation is not valid, or does not match the size of the image.

    Example:
        >>> mask = decode([[1, 0, 3, 0, 3, 2, 1, 2]], height=2, width=4)
        >>> mask.tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    found = checked(segmentation, height, width)
    if not found.height * found.width:
        raise InvalidParameterError(
            f"segmentation has a size of {found.width} x {found.height}, so it has no pixels to decode."
        )
    return pixels(found)


def pixels(found: Runs) -> memoryview:
    """Return the pixels of a non-empty mask, as :func:`decode` does."""
    rows, columns = found.height, found.width
    decoded, by_column = bytearray(rows * columns), found.columns()
    for row in range(rows):
        decoded[row * columns : (row + 1) * columns] = by_column[row::rows]
    return memoryview(decoded).cast("B", (rows, columns))


def area(segmentation: Any, height: int | None = None, width: int | None = None) -> int:
    """Return the number of pixels of a segmentation; the arguments are those of :func:`decode`.

    Example:
        >>> area({"size": [2, 3], "counts": [1, 2, 3]})
        2
    """
    return checked(segmentation, height, width).area


def to_bbox(segmentation: Any, height: int | None = None, width: int | None = None) -> list[int]:
    """Return the ``bbox`` of a segmentation: left, top, width and height; the arguments are those of :func:`decode`.

    Example:
        >>> to_bbox({"size": [2, 3], "counts": [1, 2, 3]})
        [0, 0, 2, 2]
    """
    left, top, right, bottom = checked(segmentation, height, width).extent() or (0, 0, 0, 0)
    return [left, top, right - left, bottom - top]


def checked(segmentation: Any, height: int | None = None, width: int | None = None) -> Runs:
    """Return the run lengths of any segmentation; the arguments and errors are those of :func:`decode`."""
    if isinstance(segmentation, dict) and isinstance(segmentation.get("counts"), bytes):
        # pycocotools returns bytes.
        segmentation = {**segmentation, "counts": segmentation["counts"].decode("latin-1")}
    try:
        return runs(segmentation, height, width)
    except ValueError as error:
        raise InvalidParameterError(f"segmentation is not valid: {error}.") from None


def runs(segmentation: Any, height: int | None = None, width: int | None = None) -> Runs:
    """Return the run lengths of a segmentation; the arguments are those of :func:`decode`.

    Raises:
        ValueError: If it is not a valid segmentation; the message is a clause.

    Example:
        >>> runs({"size": [2, 3], "counts": "123"})
        Runs(counts=[1, 2, 3], height=2, width=3)
    """
    if isinstance(segmentation, list):
        return polygon_runs(segmentation, *_size([height, width], "the size of the image"))
    if not isinstance(segmentation, dict):
        raise ValueError("it is neither a list of polygons nor an object with size and counts")
    own_height, own_width = _size(segmentation.get("size"), "its size")
    if (height or own_height, width or own_width) != (own_height, own_width):
        raise ValueError(f"its size is {own_width} x {own_height}, but the image is {width} x {height}")
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        found = unpack(counts)
    elif isinstance(counts, list) and set(map(type, counts)) <= {int} and min(counts, default=0) >= 0:
        found = counts
    else:
        raise ValueError("its counts are neither a string nor a list of integers")
    pixels = own_height * own_width
    if sum(found) != pixels:
        raise ValueError(f"its runs cover {sum(found):,} pixels, but {own_width} x {own_height} are {pixels:,}")
    return Runs(found, own_height, own_width)


def _size(value: Any, name: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(each) is int and each >= 0 for each in value):
        raise ValueError(f"{name} is not [height, width]")
    height, width = value
    if height * width > MAX_PIXELS:
        raise ValueError(f"{name} of {width} x {height} is more than {MAX_PIXELS:,} pixels")
    return height, width


def unpack(counts: str) -> list[int]:
    """Return the run lengths of a compressed string.

    Each number is split into groups of five bits, the lowest first, and each group is one character, starting at ``0``.
    32 is added if another group follows; the highest bit of the last group is the sign. From the fourth number on, it
    is the difference from the number two before it.

    Raises:
        ValueError: If it is incomplete, has invalid characters, or a run is negative.
    """
    found: list[int] = []
    value = shift = 0
    for character in counts:
        piece = ord(character) - 48
        if not 0 <= piece < 64:
            raise ValueError(f"its counts contain the character {character!r}")
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            if shift > 60:
                raise ValueError("its counts contain a number that is too large")
            continue
        if piece & 16:
            value -= 1 << shift
        if len(found) > 2:
            value += found[-2]
        if value < 0:
            raise ValueError("its counts contain a negative run")
        found.append(value)
        value = shift = 0
    if shift:
        raise ValueError("its counts end in the middle of a number")
    return found


# --- Polygons -----------------------------------------------------------------------------------------------------


def is_polygon(value: Any) -> bool:
    """Return whether a value is a list of at least three points: x and y in turn, all finite."""
    return are_numbers(value) and len(value) >= 6 and len(value) % 2 == 0 and are_finite(value)


def polygon_runs(polygons: Sequence[Any], height: int, width: int) -> Runs:
    """Return the union of polygons, with the same run lengths as pycocotools.

    Raises:
        ValueError: If there are no polygons, one is not valid, or an outline is too long.
    """
    if not polygons or not all(map(is_polygon, polygons)):
        raise ValueError("it is not a list of polygons with at least three points each")
    crossed = (sorted(_crossings(polygon, height, width)) for polygon in polygons)
    covered = (span for found in crossed for span in zip(found[::2], found[1::2], strict=True))
    return Runs(_united(covered, height * width), height, width)


def resized(found: Runs, height: int, width: int) -> Runs:
    """Return a resized mask (nearest neighbor, by pixel centers).

    Example:
        >>> resized(Runs([1, 2, 1], 2, 2), 4, 2)
        Runs(counts=[2, 4, 2], height=4, width=2)
    """
    old_height, old_width = found.height, found.width
    if (height, width) == (old_height, old_width) or not old_height * old_width:
        return found if (height, width) == (old_height, old_width) else Runs([height * width], height, width)
    # The spans of each old column, in new rows.
    columns: list[list[tuple[int, int]]] = [[] for _ in range(old_width)]
    ends = list(itertools.accumulate(found.counts))
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        while start < end:
            column, row = divmod(start, old_height)
            stop = min(end, (column + 1) * old_height)
            rows = (row, stop - column * old_height)
            top, bottom = (-(-(2 * each * height - old_height) // (2 * old_height)) for each in rows)
            columns[column].append((top, bottom))
            start = stop
    spans = (
        (column * height + top, column * height + bottom)
        for column in range(width)
        for top, bottom in columns[(2 * column + 1) * old_width // (2 * width)]
    )
    return Runs(_united(spans, height * width), height, width)


def _united(spans: Iterable[tuple[int, int]], pixels: int) -> list[int]:
    """Return the run lengths of the union of spans of pixels."""
    ends: list[int] = []
    for start, end in sorted(spans):
        if start == end:
            continue
        if ends and start <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            ends += start, end
    if not ends or ends[-1] < pixels:
        ends.append(pixels)
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _crossings(polygon: Sequence[float], height: int, width: int) -> list[int]:
    """Return the pixels, counted column by column, where the outline enters and leaves the polygon.

    pycocotools walks along the outline in steps of a fifth of a pixel, and records where it crosses the center of a
    column. This computes the same points directly, with the rounding of ``rleFrPoly``.
    """
    xs = [int(_STEPS * x + 0.5) for x in polygon[::2]]
    ys = [int(_STEPS * y + 0.5) for y in polygon[1::2]]
    found: list[int] = []
    for x, y, next_x, next_y in zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True):
        left, right = (x, next_x) if x < next_x else (next_x, x)
        # Columns whose center, between the steps 5n + 2 and 5n + 3, is on the edge.
        columns = range(max(0, (left + 2) // _STEPS), min(width, (right + 2) // _STEPS))
        if not columns:
            continue
        if len(found) + len(columns) > MAX_CROSSINGS:
            raise ValueError("its outline is too long")
        if right - left >= abs(next_y - y):
            rows = _rows_of_flat(left, right, *((y, next_y) if x < next_x else (next_y, y)), columns)
        else:
            rows = _rows_of_steep(*((x, next_x, y, next_y) if y < next_y else (next_x, x, next_y, y)), columns)
        for column, row in zip(columns, rows, strict=True):
            pixel = (row + 2) // _STEPS
            found.append(column * height + (0 if pixel < 0 else height if pixel > height else pixel))
    return found


def _rows_of_flat(left: int, right: int, start: int, end: int, columns: range) -> Iterator[int]:
    """Yield the row, in steps, where an edge of at most 45 degrees crosses the center of each column.

    The edge goes from ``left`` in the row ``start`` to ``right`` in the row ``end``.
    """
    slope = (end - start) / (right - left)
    # The upper one of the two steps around the center.
    first = (2 if slope >= 0 else 3) - left
    for column in columns:
        yield int(start + slope * (_STEPS * column + first) + 0.5)


def _rows_of_steep(start: int, end: int, top: int, bottom: int, columns: range) -> Iterator[int]:
    """Yield the same for a steeper edge, from ``start`` in the row ``top`` to ``end`` in the row ``bottom``."""
    slope = (end - start) / (bottom - top)
    for column in columns:
        # The first step down that is past the center.
        middle = _STEPS * column + 3
        steps = int((middle - 0.5 - start) / slope)
        while steps > 0 and (start + slope * (steps - 1) + 0.5 >= middle) == (slope > 0):
            steps -= 1
        while (start + slope * steps + 0.5 >= middle) != (slope > 0):
            steps += 1
        yield top + steps - 1
