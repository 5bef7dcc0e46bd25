"""What is to be drawn of each annotation, in pixels of the picture that is drawn on.

Whatever a document says: what cannot be drawn is left out, and numbers stay near the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw

from ..coco import rle, values

Point = tuple[float, float]
Box = tuple[float, float, float, float]

#: Annotations of a picture that are drawn, at the most.
MAX_MARKS = 2000
#: Bounds for one picture; what would go beyond shows only its box. Pixels of masks that are unpacked, of one and of
#: all; pixels that are shaded, and kept until all are; corners of polygons and keypoints; lines of one skeleton.
MAX_PIXELS_OF_MASK, MAX_MASK_PIXELS = 100_000_000, 500_000_000
MAX_SHADED_PIXELS = 100_000_000
MAX_POINTS = 100_000
MAX_BONES = 500


@dataclass
class Mark:
    """One annotation.

    Attributes:
        name: The class.
        box: Left, top, right and bottom.
        rings: The outlines.
        mask: What it covers, and where its left top corner is.
        crowd: Whether it stands for many objects.
        keypoints: Each with its visibility: 0 for unknown, 1 for hidden, 2 for visible.
        bones: Pairs of keypoints, by position.
        caption: A sentence about the picture.
    """

    name: str
    box: Box | None = None
    rings: list[list[Point]] = field(default_factory=list)
    mask: tuple[Image.Image, tuple[int, int]] | None = None
    crowd: bool = False
    keypoints: list[tuple[float, float, int]] = field(default_factory=list)
    bones: list[tuple[int, int]] = field(default_factory=list)
    caption: str | None = None

    def extent(self) -> Box | None:
        """Return what it covers, by the best that is known."""
        if self.box is not None:
            return self.box
        if self.mask is not None:
            (left, top), (width, height) = self.mask[1], self.mask[0].size
            return left, top, left + width, top + height
        points = [point for ring in self.rings for point in ring]
        points += [(x, y) for x, y, visibility in self.keypoints if visibility]
        if not points:
            return None
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class Reader:
    """Makes marks of annotations.

    Args:
        categories: The categories of the document, by id.
        size: The size of the picture that annotations are about.
        target: The size of the picture that is drawn on.
    """

    def __init__(self, categories: Mapping[Any, Mapping[str, Any]], size: tuple[int, int], target: tuple[int, int]):
        self._categories = categories
        self._size = size
        self._target = target
        self._scale = target[0] / size[0], target[1] / size[1]
        self._pixels_left = MAX_MASK_PIXELS
        self._shaded_left = MAX_SHADED_PIXELS
        self._points_left = MAX_POINTS

    def mark(self, annotation: Mapping[str, Any]) -> Mark:
        """Return what can be drawn of an annotation."""
        category_id = annotation.get("category_id")
        category = self._categories.get(values.key(category_id), {})
        found = Mark(class_name(category, category_id), crowd=annotation.get("iscrowd") in (1, True))
        found.box = self._box(annotation.get("bbox"))
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list):
            found.rings = [ring for each in segmentation if (ring := self._ring(each)) is not None]
            found.mask = self._filled(found.rings)
        elif isinstance(segmentation, dict):
            found.mask = self._mask(segmentation)
        found.keypoints = self._keypoints(annotation.get("keypoints"))
        if found.keypoints:
            found.bones = list(_bones(category.get("skeleton"), found.keypoints))
        caption = annotation.get("caption")
        found.caption = caption if isinstance(caption, str) and caption.strip() else None
        return found

    def _near(self, value: float, axis: int) -> float:
        # Pillow takes the longer for a line the farther it leads.
        side = self._target[axis]
        return min(max(value * self._scale[axis], -3.0 * side), 4.0 * side)

    def _box(self, bbox: Any) -> Box | None:
        if not isinstance(bbox, list) or len(bbox) != 4 or not _are_usable(bbox):
            return None
        x, y, width, height = bbox
        if width < 0 or height < 0:
            return None
        return self._near(x, 0), self._near(y, 1), self._near(x + width, 0), self._near(y + height, 1)

    def _ring(self, polygon: Any) -> list[Point] | None:
        if not _are_usable(polygon) or len(polygon) < 6 or len(polygon) % 2 or not self._takes(len(polygon) // 2):
            return None
        return [(self._near(x, 0), self._near(y, 1)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]

    def _mask(self, segmentation: dict[str, Any]) -> tuple[Image.Image, tuple[int, int]] | None:
        try:
            counts, height, width = rle.runs(segmentation)
        except ValueError:
            return None
        if (width, height) != self._size or not rle.area(counts):
            return None
        trimmed, first, last = _columns(counts, height, width)
        pixels = height * (last - first)
        if pixels > min(MAX_PIXELS_OF_MASK, self._pixels_left):
            return None
        self._pixels_left -= pixels
        columns = Image.frombytes("L", (height, last - first), rle.bitmap(trimmed))
        mask = columns.transpose(Image.Transpose.TRANSPOSE)
        left, right = round(first * self._scale[0]), max(round(last * self._scale[0]), 1)
        target = max(1, right - left), self._target[1]
        if target != mask.size:
            mask = mask.resize(target, Image.Resampling.BOX)
        rows = mask.getbbox()
        if rows is None or not self._shades(target[0], rows[3] - rows[1]):
            return None
        return mask.crop((0, rows[1], target[0], rows[3])), (left, rows[1])

    def _filled(self, rings: list[list[Point]]) -> tuple[Image.Image, tuple[int, int]] | None:
        """Return what rings cover together, as other tools read them."""
        if not rings:
            return None
        xs = [x for ring in rings for x, _ in ring]
        ys = [y for ring in rings for _, y in ring]
        left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
        width = min(self._target[0], math.ceil(max(xs)) + 1) - left
        height = min(self._target[1], math.ceil(max(ys)) + 1) - top
        if width <= 0 or height <= 0 or not self._shades(width, height):
            return None
        mask = Image.new("L", (width, height))
        pen = ImageDraw.Draw(mask)
        for ring in rings:
            pen.polygon([(x - left, y - top) for x, y in ring], fill=255)
        return mask, (left, top)

    def _shades(self, width: int, height: int) -> bool:
        """Tell whether so many pixels more may be shaded, and count them."""
        allowed = width * height <= self._shaded_left
        self._shaded_left -= width * height if allowed else 0
        return allowed

    def _takes(self, points: int) -> bool:
        """Tell whether so many points more may be drawn, and count them."""
        allowed = points <= self._points_left
        self._points_left -= points if allowed else 0
        return allowed

    def _keypoints(self, flat: Any) -> list[tuple[float, float, int]]:
        if not _are_usable(flat) or len(flat) % 3 or not self._takes(len(flat) // 3):
            return []
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return [(self._near(x, 0), self._near(y, 1), int(min(max(v, 0), 2))) for x, y, v in triples]


def class_name(category: Mapping[str, Any], category_id: Any) -> str:
    """Return the name of a class, or something that stands for it."""
    name = category.get("name")
    if isinstance(name, str) and name.strip():
        return name
    return "" if category_id is None else f"class {category_id}"


def _are_usable(numbers: Any) -> bool:
    return values.are_numbers(numbers) and values.are_finite(numbers)


def _columns(counts: list[int], height: int, width: int) -> tuple[list[int], int, int]:
    """Return the runs of the columns that have a part of the object, with the first and the one after the last."""
    first = counts[0] // height
    tail = counts[-1] if len(counts) % 2 else 0
    last = -(-(height * width - tail) // height)
    trimmed = list(counts)
    trimmed[0] -= first * height
    if len(counts) % 2:
        trimmed[-1] -= (width - last) * height
    return trimmed, first, last


def _bones(skeleton: Any, keypoints: list[tuple[float, float, int]]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of keypoints that are joined and both known; documents count them from one."""
    for pair in skeleton[:MAX_BONES] if isinstance(skeleton, list) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            continue
        ends = [each - 1 for each in pair if isinstance(each, int) and 0 < each <= len(keypoints)]
        if len(ends) == 2 and all(keypoints[end][2] for end in ends):
            yield ends[0], ends[1]
