"""Writes YOLO datasets for ultralytics: images with one text file each, and ``data.yaml``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ..exceptions import InvalidParameterError
from . import mask as masks
from .dataset_folder import DatasetFolder
from .losses import Losses
from .outlines import outline_of
from .placing import rotated_corners, rotation
from .shapes import EDGE
from .values import are_finite, are_numbers, box, is_crowd

#: The kinds of rows, named like the tasks of ultralytics.
DETECT, SEGMENT, POSE, OBB = "detect", "segment", "pose", "obb"
TASKS = (DETECT, SEGMENT, POSE, OBB)
#: Suffixes of the names of pretrained models.
_MODELS = {DETECT: "", SEGMENT: "-seg", POSE: "-pose", OBB: "-obb"}
#: Field names in ``data.yaml`` for the names of parts.
KEYS = {"valid": "val", "validation": "val"}
DATA = "data.yaml"
#: Words for the sides in the names of keypoints.
_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
#: A smaller fraction of an image is 0 with seven decimals.
_LEAST = 5e-8

Size = tuple[int, int]
#: Left, top, right and bottom.
Corners = tuple[float, float, float, float]


class YoloWriter:
    """Writes the rows of images, then ``data.yaml``."""

    def __init__(self, folder: DatasetFolder, task: str, losses: Losses) -> None:
        self._folder = folder
        self._task = task
        self._losses = losses
        self._row = {DETECT: self._detect, SEGMENT: self._segment, POSE: self._pose, OBB: self._obb}[task]
        #: The number of keypoints, and the class that has it.
        self._keypoints: tuple[int, str] | None = None
        folder.remove(DATA)

    def image_path(self, part: str, name: str) -> str:
        """Return the path of an image."""
        return f"images/{part}/{name}"

    def add(self, part: str, name: str, size: Size, labels: list[tuple[dict[str, Any], dict[str, Any]]]) -> int:
        """Write the file of an image, given its annotations and their categories; return the number of rows."""
        rows = []
        for annotation, category in labels:
            if is_crowd(annotation):
                self._losses.add("crowd-left-out", annotation)
            elif values := self._row(annotation, category, size):
                rows.append(f"{category['id'] - 1} {values}\n")
        self._folder.write(f"labels/{part}/{name.rpartition('.')[0]}.txt", "".join(rows))
        return len(rows)

    def finish(self, parts: dict[str, int], categories: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
        """Write ``data.yaml``, after the rows, so that an unfinished folder is not mistaken for a dataset.

        Yields:
            Codes and messages of warnings.
        """
        hint = "Download the images with assets=True (--assets), or pass images_from."
        if not parts:
            yield "no-part", f"There are no images, so training fails. {hint}"
        keys = {KEYS.get(part, part): part for part in parts}
        first = keys.get("train", next(iter(parts), "train"))
        paths = {"train": first, "val": keys.get("val", first), **keys}
        for key in ("train", "val"):
            if parts and key not in keys:
                yield "no-part", f"There is no part {key!r}, so {DATA} uses the images of {paths[key]!r} for it."
            elif parts and not parts[keys[key]]:
                yield "no-part", f"The part {keys[key]!r} has no images, so training fails. {hint}"
        for part in paths.values():
            self._folder.make(f"images/{part}")
            self._folder.make(f"labels/{part}")
        names = unique_names(categories)
        # Without "path:", parts are relative to the folder of the file.
        lines = [f"# Train: yolo {self._task} train data={DATA} model=yolo11n{_MODELS[self._task]}.pt"]
        lines += [f"{_short(key)}: {_short(f'images/{part}')}" for key, part in paths.items()]
        lines += [f"task: {self._task}", f"nc: {len(names)}", "names:" if names else "names: {}"]
        lines += [f"  {number}: {quoted(name)}" for number, name in enumerate(names)]
        if self._task == POSE:
            lines += self._keypoint_lines(categories)
            if not any(line.startswith("flip_idx:") for line in lines):
                yield "no-flip", f"The keypoint names do not contain left and right, so {DATA} has no flip_idx."
        self._folder.write(DATA, "\n".join(lines) + "\n")

    def _keypoint_lines(self, categories: list[dict[str, Any]]) -> list[str]:
        named = {each["id"] - 1: names for each in categories if (names := _keypoint_names(each))}
        count = self._keypoints[0] if self._keypoints else len(next(iter(named.values()), ()))
        if not count:
            raise InvalidParameterError(
                "The source has no keypoints, which task 'pose' needs. Use 'detect' or 'segment'.",
                parameter="task",
            )
        named = {number: names for number, names in named.items() if len(names) == count}
        lines = [f"kpt_shape: [{count}, 3]"]
        flips = {tuple(flipped) if (flipped := flip_indices(names)) else None for names in named.values()}
        if len(flips) == 1 and (flip := flips.pop()):
            lines.append(f"flip_idx: {[*flip]}")
        if named:
            lines.append("kpt_names:")
            lines += [f"  {number}: [{', '.join(map(quoted, names))}]" for number, names in named.items()]
        return lines

    # --- Rows ------------------------------------------------------------------------------------------------

    def _detect(self, annotation: dict[str, Any], category: dict[str, Any], size: Size) -> str | None:
        self._note_lost(annotation, "segmentation", "keypoints", "rotation")
        return self._box_values(annotation, size)

    def _box_values(self, annotation: dict[str, Any], size: Size) -> str | None:
        corners = corners_of(annotation, size)
        if corners is None:
            self._losses.add("no-row", annotation)
            return None
        corners = self._within(annotation, corners, size)
        if corners is None:
            return None
        left, top, right, bottom = corners
        width, height = size
        x, y = (left + right) / 2 / width, (top + bottom) / 2 / height
        across, down = (right - left) / width, (bottom - top) / height
        if across < _LEAST or down < _LEAST:
            self._losses.add("no-row", annotation)
            return None
        return f"{x:.7f} {y:.7f} {across:.7f} {down:.7f}"

    def _within(self, annotation: dict[str, Any], corners: Corners, size: Size) -> Corners | None:
        """Clip a box to the image; ``None`` if it is outside."""
        left, top, right, bottom = corners
        width, height = size
        if left < -EDGE or top < -EDGE or right > width + EDGE or bottom > height + EDGE:
            if left >= width or top >= height or right <= 0 or bottom <= 0:
                self._losses.add("outside-left-out", annotation)
                return None
            self._losses.add("clipped", annotation)
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            self._losses.add("outside-left-out", annotation)
            return None
        return left, top, right, bottom

    def _segment(self, annotation: dict[str, Any], category: dict[str, Any], size: Size) -> str | None:
        self._note_lost(annotation, "keypoints")
        segmentation = annotation.get("segmentation")
        if not segmentation:
            rotated = rotated_corners(annotation)
            found = rotated or _rectangle(corners_of(annotation, size))
            if found is None:
                self._losses.add("no-row", annotation)
                return None
            segmentation = [[value for point in found for value in point]]
            self._losses.add("box-as-polygon", annotation)
        try:
            outline = outline_of(segmentation, *size)
        except ValueError:
            self._losses.add("no-row", annotation)
            return None
        if outline is None:
            self._losses.add("outside-left-out", annotation)
            return None
        if isinstance(segmentation, list) and _is_far_out(segmentation, size):
            self._losses.add("clipped", annotation)
        if outline.parts > 1:
            self._losses.add("parts-bridged", annotation)
        if outline.holes:
            self._losses.add("hole-bridged", annotation)
        width, height = outline.width, outline.height
        return " ".join([f"{x / width:.7f} {y / height:.7f}" for x, y in outline.points])

    def _pose(self, annotation: dict[str, Any], category: dict[str, Any], size: Size) -> str | None:
        found, names = annotation.get("keypoints"), _keypoint_names(category)
        if not are_numbers(found) or not found or len(found) % 3 or not are_finite(found):
            self._losses.add("no-keypoints", annotation)
            return None
        self._check_count(len(names) or len(found) // 3, category)
        if names and len(found) != 3 * len(names):
            self._losses.add("no-keypoints", annotation)
            return None
        values = self._box_values(annotation, size)
        if values is None:
            return None
        self._note_lost(annotation, "segmentation", "rotation")
        width, height = size
        is_out = False
        for start in range(0, len(found), 3):
            x, y, seen = found[start : start + 3]
            if seen > 0 and -EDGE <= x <= width + EDGE and -EDGE <= y <= height + EDGE:
                x, y = min(max(x, 0), width) / width, min(max(y, 0), height) / height
                values += f" {x:.7f} {y:.7f} {1 if seen == 1 else 2}"
            else:
                is_out = is_out or seen > 0
                values += " 0 0 0"
        if is_out:
            self._losses.add("keypoint-outside", annotation)
        return values

    def _check_count(self, count: int, category: dict[str, Any]) -> None:
        name = str(category.get("name"))
        if self._keypoints is None:
            self._keypoints = count, name
        elif self._keypoints[0] != count:
            raise InvalidParameterError(
                f"YOLO needs the same number of keypoints in all classes, but {self._keypoints[1]!r} has "
                f"{self._keypoints[0]} and {name!r} has {count}. Convert such classes separately.",
                parameter="task",
            )

    def _obb(self, annotation: dict[str, Any], category: dict[str, Any], size: Size) -> str | None:
        self._note_lost(annotation, "segmentation", "keypoints")
        found = rotated_corners(annotation) or _rectangle(corners_of(annotation, size))
        if found is None:
            self._losses.add("no-row", annotation)
            return None
        xs, ys = zip(*found, strict=True)
        if self._within(annotation, (min(xs), min(ys), max(xs), max(ys)), size) is None:
            return None
        width, height = size
        return " ".join(
            [f"{min(max(x, 0), width) / width:.7f} {min(max(y, 0), height) / height:.7f}" for x, y in found]
        )

    def _note_lost(self, annotation: dict[str, Any], *members: str) -> None:
        note_lost(self._losses, annotation, *members)


def note_lost(losses: Losses, annotation: dict[str, Any], *members: str) -> None:
    """Count the given losses that an annotation has: "segmentation", "keypoints", "rotation"."""
    if "segmentation" in members and annotation.get("segmentation"):
        losses.add("segmentation-left-out", annotation)
    if "keypoints" in members and annotation.get("keypoints"):
        losses.add("keypoints-left-out", annotation)
    if "rotation" in members and "attributes" in annotation and rotation(annotation) % 180:
        losses.add("rotation-left-out", annotation)


def corners_of(annotation: dict[str, Any], size: Size) -> Corners | None:
    """Return the upright box of an annotation; without a ``bbox``, the box around its segmentation or keypoints."""
    found = box(annotation.get("bbox"))
    if found is not None:
        if "attributes" in annotation and (rotated := rotated_corners(annotation)):
            return _around(rotated)
        left, top, width, height = found
        return left, top, left + width, top + height
    segmentation: Any = annotation.get("segmentation")
    keypoints: Any = annotation.get("keypoints")
    if isinstance(segmentation, list) and segmentation and all(map(masks.is_polygon, segmentation)):
        return _around([point for each in segmentation for point in zip(each[::2], each[1::2], strict=True)])
    if isinstance(segmentation, dict):
        try:
            runs = masks.runs(segmentation)
        except ValueError:
            return None
        extent = runs.extent()
        if not extent:
            return None
        across, down = size[0] / runs.width, size[1] / runs.height
        return extent[0] * across, extent[1] * down, extent[2] * across, extent[3] * down
    if are_numbers(keypoints) and len(keypoints) % 3 == 0 and are_finite(keypoints):
        seen = [tuple(keypoints[at : at + 2]) for at in range(0, len(keypoints), 3) if keypoints[at + 2] > 0]
        return _around(seen) if seen else None
    return None


def _around(points: Any) -> Corners:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _rectangle(corners: Corners | None) -> list[tuple[float, float]] | None:
    if corners is None:
        return None
    left, top, right, bottom = corners
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _is_far_out(polygons: list[list[float]], size: Size) -> bool:
    least, (width, height) = -EDGE, size
    for each in polygons:
        xs, ys = each[::2], each[1::2]
        if each and (min(xs) < least or min(ys) < least or max(xs) > width + EDGE or max(ys) > height + EDGE):
            return True
    return False


def _keypoint_names(category: dict[str, Any]) -> list[str]:
    names = category.get("keypoints")
    return names if isinstance(names, list) and all(isinstance(each, str) for each in names) else []


def flip_indices(names: list[str]) -> list[int] | None:
    """Return the index of each keypoint in the flipped image; ``None`` if the names do not contain sides.

    Example:
        >>> flip_indices(["nose", "left_eye", "right_eye"]), flip_indices(["left_eye", "nose"])
        ([0, 2, 1], None)
    """
    known = {name.lower(): number for number, name in enumerate(names)}
    found = []
    for number, name in enumerate(names):
        other = _mirrored(name.lower())
        if other is not None and other not in known:
            return None
        found.append(number if other is None else known[other])
    return found if sorted(found) == [*range(len(names))] else None


def _mirrored(name: str) -> str | None:
    words = name.replace("-", "_").replace(" ", "_").split("_")
    sides = [number for number, word in enumerate(words) if word in _SIDES]
    if not sides:
        for side in ("left", "right"):
            if side in name:
                return name.replace(side, _SIDES[side])
        return None
    start = sum(len(word) + 1 for word in words[: sides[0]])
    return f"{name[:start]}{_SIDES[words[sides[0]]]}{name[start + len(words[sides[0]]) :]}"


def unique_names(categories: list[dict[str, Any]]) -> list[str]:
    """Return a unique name for each category, as statistics do."""
    names: dict[str, None] = {}
    for category in categories:
        name, outer = category.get("name"), category.get("supercategory")
        if not isinstance(name, str) or not name:
            name = f"category {category['id']}"
        if name in names and outer and isinstance(outer, str):
            name = f"{name} ({outer})"
        while name in names:
            name = f"{name} #{category['id']}"
        names[name] = None
    return [*names]


def _short(text: str) -> str:
    """Return text without quotes if YAML reads it unchanged."""
    return text if text in ("train", "val", "test") or re.fullmatch(r"images/[A-Za-z0-9_]+", text) else quoted(text)


def quoted(text: str) -> str:
    r"""Return text as a JSON string that YAML reads the same way; YAML misreads surrogate pairs.

    Example:
        >>> print(quoted('"car": é\u2028'))
        "\"car\": é\u2028"
    """
    return "".join(
        each if each.isprintable() or ord(each) > 0xFFFF else f"\\u{ord(each):04x}"
        for each in json.dumps(text, ensure_ascii=False)
    )
