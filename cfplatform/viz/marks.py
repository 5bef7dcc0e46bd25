"""The drawable parts of each annotation, in pixels of the canvas.

Malformed parts of a document are skipped, and coordinates are clamped near the canvas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageChops

from ..coco import mask as masks
from ..coco import placing, values
from ..coco.placing import Point

Box = tuple[float, float, float, float]

#: Maximum number of annotations drawn on an image.
MAX_MARKS = 2000
#: Limits for one image; beyond them only boxes and outlines are drawn. Pixels of one decoded mask and of all; shaded
#: pixels, which are kept until all are drawn; vertices of polygons and keypoints; skeleton lines.
MAX_PIXELS_OF_MASK, MAX_MASK_PIXELS = 100_000_000, 500_000_000
MAX_SHADED_PIXELS = 100_000_000
MAX_POINTS = 100_000
#: The field for the ID of a segment in the annotations that :func:`with_segments` makes.
SEGMENT = "\0segment"
#: Maximum number of pixel columns that the edges of filled polygons cross, which determines the time to fill them.
MAX_CROSSED_COLUMNS = 2_000_000
MAX_BONES = 500


@dataclass
class Mark:
    """An annotation to draw."""

    name: str
    #: Left, top, right and bottom; for a rotated box, the upright box around it.
    box: Box | None = None
    #: The corners of a rotated box.
    rotated: list[Point] | None = None
    #: The outlines.
    rings: list[list[Point]] = field(default_factory=list)
    #: The mask, and its position.
    mask: tuple[Image.Image, tuple[int, int]] | None = None
    crowd: bool = False
    #: Each with its visibility: 0 for unknown, 1 for hidden, 2 for visible.
    keypoints: list[tuple[float, float, int]] = field(default_factory=list)
    #: Pairs of indexes of connected keypoints.
    bones: list[tuple[int, int]] = field(default_factory=list)
    caption: str | None = None

    def extent(self) -> Box | None:
        """Return left, top, right and bottom of the first of box, mask and points that exists."""
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


class _Budget:
    """The remainder of a limit."""

    def __init__(self, limit: int) -> None:
        self._left: float = limit

    def takes(self, amount: float) -> bool:
        """Return whether this amount is within the limit, and subtract it."""
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Reader:
    """Makes marks from annotations.

    Args:
        categories: The categories of the document, by ID.
        size: The size of the image that coordinates refer to.
        target: The size of the canvas.
        segments: The image with the segment IDs of a panoptic annotation, if any.
    """

    def __init__(
        self,
        categories: Mapping[Any, Mapping[str, Any]],
        size: tuple[int, int],
        target: tuple[int, int],
        segments: Image.Image | None = None,
    ):
        self._categories = categories
        self._size = size
        self._target = target
        self._scale = target[0] / size[0], target[1] / size[1]
        self._segments = None if segments is None else segments.resize(target, Image.Resampling.NEAREST).split()
        self._pixels = _Budget(MAX_MASK_PIXELS)
        self._shaded = _Budget(MAX_SHADED_PIXELS)
        self._points = _Budget(MAX_POINTS)
        self._columns = _Budget(MAX_CROSSED_COLUMNS)

    def mark(self, annotation: dict[str, Any]) -> Mark:
        """Return the drawable parts of an annotation."""
        category_id = annotation.get("category_id")
        category = self._categories.get(values.key(category_id), {})
        found = Mark(class_name(category, category_id), crowd=values.is_crowd(annotation))
        found.box = self._box(annotation.get("bbox"))
        rotated = placing.rotated_corners(annotation)
        if rotated is not None:
            found.rotated = [(self._near(x, 0), self._near(y, 1)) for x, y in rotated]
            xs, ys = zip(*found.rotated, strict=True)
            found.box = min(xs), min(ys), max(xs), max(ys)
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list):
            found.rings = [ring for each in segmentation if (ring := self._ring(each)) is not None]
            found.mask = self._filled(found.rings)
        elif isinstance(segmentation, dict):
            found.mask = self._mask(segmentation)
        elif SEGMENT in annotation:
            found.mask = self._segment(annotation[SEGMENT])
        found.keypoints = self._keypoints(annotation.get("keypoints"))
        if found.keypoints:
            found.bones = list(_bones(category.get("skeleton"), found.keypoints))
        caption = annotation.get("caption")
        found.caption = caption if isinstance(caption, str) and caption.strip() else None
        return found

    def _near(self, value: float, axis: int) -> float:
        # Pillow takes more time for longer lines.
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
        if not masks.is_polygon(polygon) or not self._points.takes(len(polygon) // 2):
            return None
        return [(self._near(x, 0), self._near(y, 1)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]

    def _mask(self, segmentation: dict[str, Any]) -> tuple[Image.Image, tuple[int, int]] | None:
        try:
            found = masks.runs(segmentation)
        except ValueError:
            return None
        if (found.width, found.height) != self._size:
            return None
        columns = _trimmed(found)
        if columns is None:
            return None
        trimmed, first, last = columns
        pixels = found.height * (last - first)
        if pixels > MAX_PIXELS_OF_MASK or not self._pixels.takes(pixels):
            return None
        mask = _image(trimmed)
        left, right = round(first * self._scale[0]), max(round(last * self._scale[0]), 1)
        target = max(1, right - left), self._target[1]
        if target != mask.size:
            mask = mask.resize(target, Image.Resampling.BOX)
        rows = mask.getbbox()
        if rows is None or not self._shaded.takes(target[0] * (rows[3] - rows[1])):
            return None
        return mask.crop((0, rows[1], target[0], rows[3])), (left, rows[1])

    def _segment(self, own: Any) -> tuple[Image.Image, tuple[int, int]] | None:
        """Return the pixels of a segment, whose ID is red + 256 green + 65,536 blue, and their position."""
        if self._segments is None or not isinstance(own, int) or not 0 < own < 1 << 24:
            return None
        if not self._pixels.takes(self._target[0] * self._target[1]):
            return None
        mask = Image.new("L", self._target, 255)
        for channel, level in zip(self._segments, own.to_bytes(3, "little"), strict=True):
            mask = ImageChops.darker(mask, channel.point([255 * (value == level) for value in range(256)]))
        extent = mask.getbbox()
        if extent is None or not self._shaded.takes((extent[2] - extent[0]) * (extent[3] - extent[1])):
            return None
        return mask.crop(extent), extent[:2]

    def _filled(self, rings: list[list[Point]]) -> tuple[Image.Image, tuple[int, int]] | None:
        """Return the union of rings as a mask, and its position."""
        if not rings:
            return None
        xs = [x for ring in rings for x, _ in ring]
        ys = [y for ring in rings for _, y in ring]
        left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
        width = min(self._target[0], math.ceil(max(xs)) + 1) - left
        height = min(self._target[1], math.ceil(max(ys)) + 1) - top
        if width <= 0 or height <= 0 or not self._shaded.takes(width * height):
            return None
        crossed = sum(abs(x - ring[index - 1][0]) for ring in rings for index, (x, _) in enumerate(ring))
        if not self._columns.takes(crossed):
            return None
        polygons = [[value for x, y in ring for value in (x - left, y - top)] for ring in rings]
        return _image(masks.polygon_runs(polygons, height, width)), (left, top)

    def _keypoints(self, flat: Any) -> list[tuple[float, float, int]]:
        if not _are_usable(flat) or len(flat) % 3 or not self._points.takes(len(flat) // 3):
            return []
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return [(self._near(x, 0), self._near(y, 1), int(min(max(v, 0), 2))) for x, y, v in triples]


def with_segments(annotations: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield annotations; panoptic annotations are replaced by their segments."""
    for each in annotations:
        segments = values.records(each, "segments_info")
        if not segments:
            yield each
        for segment in segments:
            parts = {name: segment.get(name) for name in ("category_id", "bbox", "iscrowd")}
            yield {**parts, SEGMENT: segment.get("id")}


def class_name(category: Mapping[str, Any], category_id: Any) -> str:
    """Return the name of a class, or a placeholder."""
    name = category.get("name")
    if isinstance(name, str) and name.strip():
        return name
    return "" if category_id is None else f"class {category_id}"


def _are_usable(numbers: Any) -> bool:
    return values.are_numbers(numbers) and values.are_finite(numbers)


def _image(runs: masks.Runs) -> Image.Image:
    """Return a mask as an image: 255 for the object, 0 for the background."""
    # COCO goes column by column, Pillow row by row.
    columns = Image.frombytes("L", (runs.height, runs.width), runs.columns(255))
    return columns.transpose(Image.Transpose.TRANSPOSE)


def _trimmed(runs: masks.Runs) -> tuple[masks.Runs, int, int] | None:
    """Return the columns that contain the object, with the first column and the one after the last."""
    counts, height, width = runs
    if not runs.area:
        return None
    first = counts[0] // height
    tail = counts[-1] if len(counts) % 2 else 0
    last = -(-(height * width - tail) // height)
    trimmed = list(counts)
    trimmed[0] -= first * height
    if len(counts) % 2:
        trimmed[-1] -= (width - last) * height
    return masks.Runs(trimmed, height, last - first), first, last


def _bones(skeleton: Any, keypoints: list[tuple[float, float, int]]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of known keypoints to connect; documents count keypoints from one."""
    for pair in skeleton[:MAX_BONES] if isinstance(skeleton, list) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            continue
        ends = [each - 1 for each in pair if isinstance(each, int) and 0 < each <= len(keypoints)]
        if len(ends) == 2 and all(keypoints[end][2] for end in ends):
            yield ends[0], ends[1]
