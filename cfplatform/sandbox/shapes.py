"""Generates annotated images: colored shapes with exact outlines, boxes and masks.

A scene is computed from a few random bytes. Annotations do not need the image; the image is drawn from the same pixel
columns as the masks, so both always match.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from PIL import Image, ImageDraw

WIDTH = 320
HEIGHT = 240
MIN_SHAPES = 2
MAX_SHAPES = 6

_GRID_COLUMNS = 3
_CELL_WIDTH = WIDTH // _GRID_COLUMNS
_CELL_HEIGHT = HEIGHT // (MAX_SHAPES // _GRID_COLUMNS)
_MARGIN = 5
_BYTES_PER_SHAPE = 6

#: One category for each kind of shape; its ID is the position plus one.
KINDS = ("rectangle", "triangle", "star", "ellipse")
CATEGORIES: list[dict[str, Any]] = [
    {"id": number, "name": kind, "supercategory": "shape"} for number, kind in enumerate(KINDS, start=1)
]

#: Half of the shapes are ellipses: their masks make documents realistically large.
_DRAWN_KINDS = ("rectangle", "triangle", "star", "ellipse", "ellipse", "ellipse")

_RGB = bytes.fromhex("d64541 1f77b4 2ca02c ff9838 9467bd 17becf 8c564b e377c2 40407a bcbd22")
_PALETTE = [(_RGB[at], _RGB[at + 1], _RGB[at + 2]) for at in range(0, len(_RGB), 3)]

Point = tuple[float, float]
#: A pixel column: x, first row, row after the last.
Run = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    kind: str
    color: tuple[int, int, int]
    bbox: list[float]
    area: float
    segmentation: list[list[float]] | dict[str, list[int]]
    #: Yields its pixels, column by column.
    runs: Callable[[], Iterator[Run]]


@dataclass(frozen=True)
class Scene:
    background: tuple[int, int, int]
    shapes: tuple[Shape, ...]

    def annotations(self) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "image_id": 1,
                "category_id": KINDS.index(shape.kind) + 1,
                "bbox": shape.bbox,
                "area": shape.area,
                "segmentation": shape.segmentation,
                "iscrowd": 0,
            }
            for number, shape in enumerate(self.shapes, start=1)
        ]

    def draw(self) -> bytes:
        image = Image.new("RGB", (WIDTH, HEIGHT), self.background)
        pen = ImageDraw.Draw(image)
        for shape in self.shapes:
            for x, top, bottom in shape.runs():
                pen.rectangle((x, top, x, bottom - 1), fill=shape.color)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


def coco_document(
    *,
    description: str,
    revision: int,
    created: str,
    file_name: str,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    annotations: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    document = {
        "info": {
            "description": description,
            "version": str(revision),
            "year": int(created[:4]),
            "contributor": "cfplatform sandbox",
            "date_created": created,
        },
        "licenses": [],
        "images": [{"id": 1, "width": size[0], "height": size[1], "file_name": file_name, "date_captured": created}],
        "categories": CATEGORIES,
        "annotations": annotations,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def make_scene(entropy: bytes) -> Scene:
    """Create a scene from 64 random bytes.

    Each shape is in a separate cell, so shapes never touch, and every pixel belongs to at most one.
    """
    count = MIN_SHAPES + entropy[0] % (MAX_SHAPES - MIN_SHAPES + 1)
    cells = list(range(MAX_SHAPES))
    for position in range(count):
        swap = position + entropy[1 + position] % (MAX_SHAPES - position)
        cells[position], cells[swap] = cells[swap], cells[position]
    first_color = entropy[8]
    shapes = []
    for position, cell in enumerate(sorted(cells[:count])):
        start = 16 + position * _BYTES_PER_SHAPE
        left = cell % _GRID_COLUMNS * _CELL_WIDTH + _MARGIN
        top = cell // _GRID_COLUMNS * _CELL_HEIGHT + _MARGIN
        color = _PALETTE[(first_color + position) % len(_PALETTE)]
        shapes.append(_make_shape(entropy[start : start + _BYTES_PER_SHAPE], left, top, color))
    background = (228 + entropy[9] % 28, 228 + entropy[10] % 28, 228 + entropy[11] % 28)
    return Scene(background, tuple(shapes))


def _make_shape(entropy: bytes, left: int, top: int, color: tuple[int, int, int]) -> Shape:
    space_x = _CELL_WIDTH - 2 * _MARGIN
    space_y = _CELL_HEIGHT - 2 * _MARGIN
    kind = _DRAWN_KINDS[entropy[0] % len(_DRAWN_KINDS)]
    if kind == "star":
        width = height = 64 + entropy[1] % (min(space_x, space_y) - 63)
    else:
        width = 45 + entropy[1] % (space_x - 44)
        height = 45 + entropy[2] % (space_y - 44)
    x = left + entropy[3] % (space_x - width + 1)
    y = top + entropy[4] % (space_y - height + 1)
    if kind == "ellipse":
        return _ellipse(x, y, (width - 1) // 2, (height - 1) // 2, color)
    points: Sequence[Point]
    if kind == "rectangle":
        points = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    elif kind == "triangle":
        points = [(x, y + height), (x + width, y + height), (round(x + width * entropy[5] / 255, 2), y)]
    else:
        center_x, center_y, radius = x + width / 2, y + width / 2, width / 2
        points = [
            (round(center_x + radius * dx, 2), round(center_y + radius * dy, 2)) for dx, dy in _unit_star(entropy[5])
        ]
    return _polygon(kind, points, color)


def _polygon(kind: str, points: Sequence[Point], color: tuple[int, int, int]) -> Shape:
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    left, top = min(xs), min(ys)
    twice = sum(
        x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(points, [*points[1:], points[0]], strict=True)
    )
    return Shape(
        kind=kind,
        color=color,
        bbox=[left, top, round(max(xs) - left, 2), round(max(ys) - top, 2)],
        area=round(abs(twice) / 2, 2),
        segmentation=[[value for point in points for value in point]],
        runs=partial(_polygon_runs, tuple(points)),
    )


def _ellipse(x: int, y: int, radius_x: int, radius_y: int, color: tuple[int, int, int]) -> Shape:
    center_y = y + radius_y
    inner, area = _ellipse_counts(radius_x, radius_y)
    # Uncompressed COCO RLE: background and foreground in turn, column by column.
    before = x * HEIGHT + center_y
    after = (WIDTH - (x + 2 * radius_x)) * HEIGHT - center_y - 1
    return Shape(
        kind="ellipse",
        color=color,
        bbox=[x, y, 2 * radius_x + 1, 2 * radius_y + 1],
        area=area,
        segmentation={"counts": [before, *inner, after], "size": [HEIGHT, WIDTH]},
        runs=partial(_ellipse_runs, x, center_y, radius_x, radius_y),
    )


@cache
def _half_heights(radius_x: int, radius_y: int) -> tuple[int, ...]:
    """Return the height of an ellipse above its axis in pixels, for each column."""
    return tuple(
        math.isqrt(radius_y * radius_y * (radius_x * radius_x - dx * dx)) // radius_x
        for dx in range(-radius_x, radius_x + 1)
    )


def _ellipse_runs(x: int, center_y: int, radius_x: int, radius_y: int) -> Iterator[Run]:
    for column, half in enumerate(_half_heights(radius_x, radius_y), start=x):
        yield column, center_y - half, center_y + half + 1


@cache
def _ellipse_counts(radius_x: int, radius_y: int) -> tuple[tuple[int, ...], int]:
    """Return the run lengths from the first to the last pixel of an ellipse, and its area.

    The ellipse is symmetric about a row of pixels, so the gaps between its columns are the same anywhere.
    """
    halves = _half_heights(radius_x, radius_y)
    counts: list[int] = []
    for half, following in zip(halves, halves[1:], strict=False):
        counts += (2 * half + 1, HEIGHT - 1 - half - following)
    counts.append(2 * halves[-1] + 1)
    return tuple(counts), sum(2 * half + 1 for half in halves)


@cache
def _unit_star(turn: int) -> tuple[Point, ...]:
    """Return the vertices of a five-pointed star in the unit circle, rotated by ``turn`` / 256 of a fifth."""
    start = turn / 256 * math.tau / 5
    return tuple(
        (radius * math.cos(start + step * math.tau / 10), radius * math.sin(start + step * math.tau / 10))
        for step, radius in enumerate((1.0, 0.5) * 5)
    )


def _polygon_runs(points: Sequence[Point]) -> Iterator[Run]:
    """Yield the pixels whose centers are inside a polygon."""
    first = math.floor(min(x for x, _ in points))
    last = math.ceil(max(x for x, _ in points))
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    for column in range(first, last):
        center = column + 0.5
        crossings = sorted(
            y1 + (center - x1) * (y2 - y1) / (x2 - x1)
            for (x1, y1), (x2, y2) in edges
            if (x1 <= center) != (x2 <= center)
        )
        for top, bottom in zip(crossings[::2], crossings[1::2], strict=True):
            start, stop = math.ceil(top - 0.5), math.ceil(bottom - 0.5)
            if start < stop:
                yield column, start, stop
