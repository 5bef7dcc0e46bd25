"""Validates the shapes of an annotation: box, polygons, mask, area and keypoints."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from operator import mul, sub
from typing import Any, NamedTuple

from . import mask as masks
from .findings import FirstProblems, Problem, shown
from .values import NUMBERS, are_finite, are_numbers, is_crowd, number

#: Tolerance for shapes beyond the image in pixels, because tools round differently.
EDGE = 1.0
#: Tolerance for the area of a shape: a fraction of it, half a pixel along the outline, and one pixel. The areas of a
#: polygon and of its mask differ by no more.
AREA_SHARE, AREA_OUTLINE, AREA_PIXELS = 0.01, 0.5, 1.0
#: A polygon with a smaller area, in pixels, is flat.
FLAT = 1e-6
#: A box and its segmentation, both enlarged by this many pixels on each side, must have at least this IoU.
AROUND, SHARED = 2.0, 0.5

#: Width and height of an image.
Size = tuple[float, float]
#: Left, top, right and bottom.
_Corners = tuple[float, float, float, float]
#: Left, top, width and height.
_Box = tuple[float, float, float, float]


class _Extent(NamedTuple):
    """The extent of a shape: its minimum and maximum area, the length of its outline, and its corners."""

    least: float
    most: float
    outline: float
    corners: _Corners

    def allows(self, area: float) -> bool:
        """Return whether the shape can have this area."""
        slack = AREA_SHARE * self.most + AREA_OUTLINE * self.outline + AREA_PIXELS
        return self.least - slack <= area <= self.most + slack


def shape_problems(
    annotation: dict[str, Any], found: _Box | None, image: Size | None, named: int | None
) -> Iterator[Problem]:
    """Yield the problems of the shapes of an annotation.

    Args:
        annotation: The annotation.
        found: Its box; ``None`` if it is empty or not valid.
        image: The size of its image; ``None`` to skip checks against the image.
        named: The number of keypoints of its category; ``None`` if it has none.
    """
    if "bbox" in annotation:
        yield from _box_problems(annotation["bbox"], image)
        if "attributes" in annotation:
            yield from _rotation_problems(annotation["attributes"])
    elif annotation.get("segmentation") or annotation.get("keypoints"):
        yield Problem("no-box", "The annotation has no bbox; detectors drop it.")
    extent = None
    if "segmentation" in annotation:
        extent = yield from _segmentation_problems(annotation, found, annotation["segmentation"], image)
    if extent:
        yield from _share_problems(found, extent)
    yield from _area_problems(annotation, found, extent)
    if "keypoints" in annotation:
        yield from _keypoint_problems(annotation, annotation["keypoints"], image, named)


def _box_problems(value: Any, image: Size | None) -> Iterator[Problem]:
    if not are_numbers(value) or len(value) != 4:
        yield Problem("bad-box", "The box is not a list of four numbers: x, y, width and height.", "/bbox")
    elif not are_finite(value):
        yield Problem("not-finite", "The box has a number that is NaN, infinite or above 10^15.", "/bbox")
    elif value[2] <= 0 or value[3] <= 0:
        yield Problem("empty-box", f"The box is {shown(value[2])} wide and {shown(value[3])} high.", "/bbox")
    elif value[2] < 1 or value[3] < 1:
        size = f"{shown(value[2])} x {shown(value[3])}"
        yield Problem("tiny-box", f"The box has {size} pixels; detectors drop boxes smaller than a pixel.", "/bbox")
    elif image:
        x, y, width, height = value
        yield from _outside("box", (x, y, x + width, y + height), image, "/bbox")


def _rotation_problems(attributes: Any) -> Iterator[Problem]:
    rotation = number(attributes.get("rotation")) if isinstance(attributes, dict) else None
    # A rotation by 180 degrees does not change the box.
    if rotation and rotation % 180:
        message = f"The box is rotated by {shown(rotation)} degrees; tools that do not support it draw it unrotated."
        yield Problem("rotated-box", message, "/attributes/rotation")


def _share_problems(found: _Box | None, extent: _Extent) -> Iterator[Problem]:
    """Yield a problem if the box and the segmentation do not match."""
    if not found or not extent.most:
        return
    ours, theirs = _extent_of_box(found).corners, extent.corners
    shared = _area((*map(max, ours[:2], theirs[:2]), *map(min, ours[2:], theirs[2:])))
    if shared < SHARED * (_area(ours) + _area(theirs) - shared):
        message = f"The box spans {_span(ours)}, but the segmentation spans {_span(theirs)}."
        yield Problem("box-mismatch", message, "/bbox")


def _area(corners: Sequence[float]) -> float:
    """Return the area within corners, enlarged by a few pixels on each side."""
    left, top, right, bottom = corners
    return max(0.0, right - left + 2 * AROUND) * max(0.0, bottom - top + 2 * AROUND)


def _span(corners: _Corners) -> str:
    left, top, right, bottom = map(shown, corners)
    return f"({left}, {top}) to ({right}, {bottom})"


def _outside(kind: str, corners: _Corners, image: Size, pointer: str) -> Iterator[Problem]:
    left, top, right, bottom = corners
    width, height = image
    over = max(-left, -top, right - width, bottom - height)
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        code, relation = f"{kind}-outside", f"The {kind} is outside"
    elif over > EDGE:
        code, relation = f"{kind}-over-edge", f"The {kind} extends {shown(float(over))} pixels beyond"
    else:
        return
    size = f"{shown(width)} x {shown(height)}"
    yield Problem(code, f"{relation} the image of {size}: it spans {_span(corners)}.", pointer)


def _segmentation_problems(
    annotation: dict[str, Any], found: _Box | None, value: Any, image: Size | None
) -> Generator[Problem, None, _Extent | None]:
    """Yield the problems of a segmentation, and return its extent if it is valid."""
    if value is None or value == []:
        yield from _empty_problems(annotation, found)
        return None
    if isinstance(value, dict):
        return (yield from _mask_problems(found, value, image))
    if not isinstance(value, list):
        message = f"The segmentation is {shown(value)}, neither a list of polygons nor a mask."
        yield Problem("bad-segmentation", message, "/segmentation")
        return None
    if type(value[0]) in NUMBERS:
        message = "The segmentation is one list of numbers; it must be a list of such lists."
        yield Problem("bad-segmentation", message, "/segmentation")
        return None
    if is_crowd(annotation):
        yield Problem("crowd-polygons", "The crowd has polygons; COCO expects a mask.", "/segmentation")
    return (yield from _polygons_problems(value, image))


def _empty_problems(annotation: dict[str, Any], found: _Box | None) -> Iterator[Problem]:
    """Yield a problem if other fields suggest that there was a segmentation."""
    area = number(annotation.get("area")) or 0
    # An area larger than the box is reported separately.
    fits = found is not None and (_extent_of_box(found).allows(area) or area > found[2] * found[3])
    if is_crowd(annotation):
        yield Problem("empty-segmentation", "The crowd has an empty segmentation.", "/segmentation")
    elif area > 0 and not fits:
        message = f"The segmentation is empty, but the area {shown(area)} does not match the box."
        yield Problem("empty-segmentation", message, "/segmentation")


def _extent_of_box(found: _Box) -> _Extent:
    x, y, width, height = found
    return _Extent(width * height, width * height, 2 * (width + height), (x, y, x + width, y + height))


def _polygons_problems(polygons: list[Any], image: Size | None) -> Generator[Problem, None, _Extent | None]:
    areas, outline, all_corners, complete = [0.0], 0.0, [], True
    problems = FirstProblems()
    for index, polygon in enumerate(polygons):
        pointer = f"/segmentation/{index}"
        broken = _broken(polygon, pointer)
        if broken:
            problems.add(broken)
            complete = False
            continue
        xs, ys = polygon[0::2], polygon[1::2]
        next_xs, next_ys = xs[1:] + xs[:1], ys[1:] + ys[:1]
        area = abs(sum(map(mul, xs, next_ys)) - sum(map(mul, ys, next_xs))) / 2
        corners = min(xs), min(ys), max(xs), max(ys)
        if area < FLAT:
            problems.add(Problem("flat-polygon", "The polygon has no area.", pointer))
        elif image:
            for problem in _outside("polygon", corners, image, pointer):
                problems.add(problem)
        areas.append(area)
        all_corners.append(corners)
        outline += sum(map(math.hypot, map(sub, next_xs, xs), map(sub, next_ys, ys)))
    yield from problems
    if not complete:
        return None
    # A polygon may overlap another one, or be a hole in it.
    largest, total = max(areas), sum(areas)
    lefts, tops, rights, bottoms = zip(*all_corners, strict=True)
    return _Extent(max(0.0, 2 * largest - total), total, outline, (min(lefts), min(tops), max(rights), max(bottoms)))


def _broken(polygon: Any, pointer: str) -> Problem | None:
    if not are_numbers(polygon):
        return Problem("bad-polygon", "The polygon is not a list of numbers.", pointer)
    if not are_finite(polygon):
        return Problem("not-finite", "The polygon has a number that is NaN, infinite or above 10^15.", pointer)
    if len(polygon) % 2:
        return Problem("bad-polygon", f"The polygon has {len(polygon)} numbers; they must be pairs.", pointer)
    if len(polygon) < 6:
        return Problem(
            "short-polygon", f"The polygon has only {len(polygon) // 2} points; it needs at least three.", pointer
        )
    return None


def _mask_problems(
    own: _Box | None, value: dict[str, Any], image: Size | None
) -> Generator[Problem, None, _Extent | None]:
    try:
        found = masks.runs(value)
    except ValueError as error:
        yield Problem("bad-mask", f"The mask is not valid: {str(error)[:200]}.", "/segmentation")
        return None
    if image and (found.width, found.height) != image:
        size, other = f"{found.width} x {found.height}", f"{shown(image[0])} x {shown(image[1])}"
        yield Problem(
            "mask-size", f"The mask is for an image of {size}, but the image is {other}.", "/segmentation/size"
        )
    corners = found.extent()
    if not corners:
        yield Problem("empty-mask", "The mask has no pixels.", "/segmentation")
        return _Extent(0, 0, 0, (0, 0, 0, 0))
    # The outline is at least that of a square, longer for a long mask; a ragged mask has many runs.
    area = found.area
    outline = max(4 * math.sqrt(area), _extent_of_box(own).outline if own else 0)
    return _Extent(area, area, outline + len(found.counts), corners)


def _area_problems(annotation: dict[str, Any], found: _Box | None, extent: _Extent | None) -> Iterator[Problem]:
    if "area" not in annotation:
        if extent or found:
            yield Problem("missing-area", "The annotation has no area.")
        return
    area = annotation["area"]
    if type(area) not in NUMBERS:
        yield Problem("bad-area", f"The area is {shown(area)}, not a number.", "/area")
    elif number(area) is None:
        yield Problem("not-finite", "The area is NaN, infinite or above 10^15.", "/area")
    elif area < 0:
        yield Problem("bad-area", f"The area is {shown(area)}.", "/area")
    elif not area and (extent or found):
        yield Problem("zero-area", "The area is 0; detectors drop the annotation.", "/area")
    elif extent and not extent.allows(area):
        message = f"The area is {shown(area)}, but the segmentation has {shown(float(extent.most))}."
        yield Problem("area-mismatch", message, "/area")
    elif extent is None and found and not _extent_of_box(found)._replace(least=0).allows(area):
        message = f"The area is {shown(area)}, but the box has only {shown(float(found[2] * found[3]))}."
        yield Problem("area-mismatch", message, "/area")
    elif area < 1 and (extent or found):
        yield Problem("tiny-area", f"The area is {shown(area)}, less than a pixel.", "/area")


def _keypoint_problems(
    annotation: dict[str, Any], value: Any, image: Size | None, named: int | None
) -> Iterator[Problem]:
    if not are_numbers(value) or len(value) % 3:
        message = "The keypoints are not a list of x, y, visibility triples."
        yield Problem("bad-keypoints", message, "/keypoints")
        return
    if not are_finite(value):
        yield Problem("not-finite", "The keypoints have a number that is NaN, infinite or above 10^15.", "/keypoints")
        return
    if named is not None and len(value) != 3 * named:
        message = f"There are {len(value) // 3} keypoints, but the category has {named}."
        yield Problem("keypoints-of-category", message, "/keypoints")
    seen = value[2::3]
    odd = next((index for index, each in enumerate(seen) if each not in (0, 1, 2)), None)
    if odd is not None:
        message = f"The visibility of keypoint {odd + 1} is {shown(seen[odd])}, not 0, 1 or 2."
        yield Problem("bad-visibility", message, f"/keypoints/{3 * odd + 2}")
    if image:
        yield from _far_keypoint(value, image)
    count, given = sum(each > 0 for each in seen), annotation.get("num_keypoints")
    if given is not None and given != count:
        message = f"num_keypoints is {shown(given)}, but {count} keypoints have a visibility above 0."
        yield Problem("num-keypoints", message, "/num_keypoints")


def _far_keypoint(value: list[float], image: Size) -> Iterator[Problem]:
    width, height = image
    for start in range(0, len(value), 3):
        x, y, visibility = value[start : start + 3]
        if visibility > 0 and not (-EDGE <= x <= width + EDGE and -EDGE <= y <= height + EDGE):
            message = f"Keypoint {start // 3 + 1} at ({shown(x)}, {shown(y)}) is outside the image."
            yield Problem("keypoint-outside", message, f"/keypoints/{start}")
            return
