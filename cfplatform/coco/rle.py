"""Masks as COCO writes them: run lengths in columns, as numbers or packed into text.

A mask of height ``h`` and width ``w`` is read column by column; its runs are background and object in turn, beginning
with background, and together they have ``h * w`` pixels. Every function proves that, so that nothing that a document
says can make another tool read beyond its memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

#: Pixels of a mask, at the most: 400 million, more than any camera has.
MAX_PIXELS = 400_000_000


def runs(segmentation: Any) -> tuple[list[int], int, int]:
    """Return the run lengths of a segmentation, with its height and width.

    Args:
        segmentation: An object with ``size`` (height, width) and ``counts``, a list of numbers or packed text.

    Raises:
        ValueError: If it is not a mask; the message says why.

    Example:
        >>> runs({"size": [2, 3], "counts": [1, 2, 3]})
        ([1, 2, 3], 2, 3)
        >>> runs({"size": [2, 3], "counts": "123"})
        ([1, 2, 3], 2, 3)
    """
    if not isinstance(segmentation, dict):
        raise ValueError("it is not an object with size and counts")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_count(each) for each in size):
        raise ValueError("its size is not [height, width]")
    height, width = size
    if height * width > MAX_PIXELS:
        raise ValueError(f"its size of {width} x {height} is more than {MAX_PIXELS:,} pixels")
    if isinstance(counts, str):
        found = unpack(counts)
    elif isinstance(counts, list) and set(map(type, counts)) <= {int} and min(counts, default=0) >= 0:
        found = counts
    else:
        raise ValueError("its counts are neither text nor a list of whole numbers")
    if sum(found) != height * width:
        raise ValueError(f"its runs have {sum(found):,} pixels, {width} x {height} are {height * width:,}")
    return found, height, width


def unpack(counts: str) -> list[int]:
    """Return the run lengths of packed text.

    Each number is cut into pieces of five bits, the lowest first, each a character from ``0`` on; 32 is added where
    another piece follows, and the highest bit of the last one is the sign. From the fourth number on it is the
    difference to the one before the last.

    Raises:
        ValueError: If it is not whole, has other characters, or a run is negative.
    """
    found: list[int] = []
    value = shift = 0
    for character in counts:
        piece = ord(character) - 48
        if not 0 <= piece < 64:
            raise ValueError(f"its counts have the character {character!r}")
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            if shift > 60:
                raise ValueError("its counts have a number that is too large")
            continue
        if piece & 16:
            value -= 1 << shift
        if len(found) > 2:
            value += found[-2]
        if value < 0:
            raise ValueError("its counts have a negative run")
        found.append(value)
        value = shift = 0
    if shift:
        raise ValueError("its counts end within a number")
    return found


def area(counts: Sequence[int]) -> int:
    """Return the number of pixels of the object."""
    return sum(counts[1::2])


def extent(counts: Sequence[int], height: int) -> tuple[int, int, int, int] | None:
    """Return the first column and row of the object and those after its last; ``None`` if it has no pixel.

    Example:
        >>> extent([1, 2, 1], 2)
        (0, 0, 2, 2)
    """
    ends = itertools.accumulate(counts)
    spans = [span for span in zip(itertools.islice(ends, 0, None, 2), counts[1::2], strict=False) if span[1]]
    if not spans:
        return None
    rows = [start % height for start, _ in spans]
    top, bottom = min(rows), max(row + length for row, (_, length) in zip(rows, spans, strict=True))
    if bottom > height:
        # A run goes on in another column, so it touches the lower and the upper edge.
        top, bottom = 0, height
    start, length = spans[-1]
    return spans[0][0] // height, top, (start + length - 1) // height + 1, bottom


def bitmap(counts: Sequence[int]) -> bytes:
    """Return the mask as bytes, column by column: 0 for background, 255 for the object.

    Example:
        >>> bitmap([1, 2, 1])
        b'\\x00\\xff\\xff\\x00'
    """
    return b"".join((b"\xff" if index % 2 else b"\x00") * count for index, count in enumerate(counts))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
