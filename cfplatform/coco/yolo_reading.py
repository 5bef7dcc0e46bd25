"""Reads YOLO datasets as documents, one for each image."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from ..exceptions import InvalidParameterError, InvalidResponseError
from .documents import Document, OnError, Stream, finding_about
from .findings import Problem, shown
from .image_files import upright_size
from .yolo import DETECT, OBB, POSE, SEGMENT, TASKS

#: Image extensions that ultralytics reads.
_IMAGES = {
    ".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp",
}  # fmt: skip
#: Parts by their field in ``data.yaml``.
_PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
#: Maximum number of label files read to detect the task.
_SAMPLE = 200
#: Larger coordinates are not valid fractions of the image; ultralytics skips the image.
_MOST = 1.01
_LARGEST_FILE = 64 << 20
#: Maximum nesting in ``data.yaml``.
_DEPTH = 20


def find_yolo(source: object) -> Path | None:
    """Return the ``data.yaml`` of a source, given as the file or its folder; ``None`` if it is not a YOLO dataset."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(os.fsdecode(source)).expanduser()
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    if not path.is_dir():
        return None
    usual = (path / f"{name}.{suffix}" for name in ("data", "dataset") for suffix in ("yaml", "yml"))
    found = [each for each in usual if each.is_file()]
    others = [*path.glob("*.yaml"), *path.glob("*.yml")]
    return next(iter(found), others[0] if len(others) == 1 and not [*path.glob("*/*.json")] else None)


class Yolo(Stream):
    """A YOLO dataset as a source: one document for each image, whose batch is its part.

    Args:
        path: ``data.yaml``.
        task: The kind of its rows; ``None`` to detect it.
        images_from: Another root folder for the paths in ``data.yaml``.
    """

    def __init__(self, path: Path, task: str | None, images_from: Path | None = None) -> None:
        super().__init__(())
        self.path = path.resolve()
        try:
            data = read_yaml(self.path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InvalidParameterError(
                f"source {str(path)!r} could not be read: {error}.", parameter="source"
            ) from None
        names = data.get("names")
        listed = names if isinstance(names, list) else None
        if listed is None and isinstance(names, dict):
            listed = [names.get(str(number)) for number in range(len(names))]
        if not listed or None in listed:
            raise InvalidParameterError(
                f"source {str(path)!r} has no class names. Add names to it.", parameter="source"
            )
        self._data = data
        own = data.get("path")
        self._roots = [self.path.parent] if images_from is None else [images_from]
        if isinstance(own, str) and own and images_from is None:
            self._roots.insert(0, self.path.parent / own)
        parts = {part: data[name] for name, part in _PARTS.items() if data.get(name)}
        # Two names for the same images are one part.
        self._parts: dict[str, Any] = {}
        for part, paths in parts.items():
            if paths not in self._parts.values():
                self._parts[part] = paths
        if not self._parts:
            raise InvalidParameterError(
                f"source {str(path)!r} lists no images. Add train or val to it.", parameter="source"
            )
        # Roboflow lists a test part that often does not exist.
        named = [self._found(each) for part in self._parts for each in self._paths(part)]
        if not any(each.exists() for each in named):
            raise InvalidParameterError(
                f"source {str(path)!r} lists no existing images: {str(named[0])!r} does not exist.",
                parameter="source",
            )
        self._shape = self._keypoint_shape()
        stated = data.get("task")
        self.task = task or (stated if stated in TASKS else self._detected_task())
        self.categories = [{"id": number, "name": str(name)} for number, name in enumerate(listed, 1)]
        if self.task == POSE:
            self._name_keypoints()

    def reads(self, path: Path) -> bool:
        """Return whether this is the file."""
        return path == self.path

    def images(self, part: str) -> Iterator[Path]:
        """Yield the images of a part, sorted by name."""
        for each in self._paths(part):
            found = self._found(each)
            if found.is_file():
                try:
                    lines = found.read_text(encoding="utf-8-sig").splitlines()
                except (OSError, ValueError) as error:
                    raise InvalidParameterError(
                        f"source lists {str(found)!r}, which is not a list of images: {error}.", parameter="source"
                    ) from None
                yield from (found.parent / line.strip() for line in lines if line.strip())
            else:
                yield from sorted(image for image in found.rglob("*.*") if image.suffix.lower() in _IMAGES)

    def _paths(self, part: str) -> list[str]:
        paths = self._parts[part]
        return [*map(str, paths)] if isinstance(paths, list) else [str(paths)]

    def _found(self, path: str) -> Path:
        # Roboflow mistakenly writes paths that leave the folder.
        tried = [root / own for root in self._roots for own in (path, path.removeprefix("../"))]
        return next((each for each in tried if each.exists()), tried[0])

    def documents(self, on_error: OnError | None, *, streamed: bool = False) -> Generator[Document]:
        """Yield a document for each image."""
        for part in self._parts:
            for image in self.images(part):
                found = self._document(image, part, on_error)
                if found is not None:
                    yield found

    def _document(self, image: Path, part: str, on_error: OnError | None) -> Document | None:
        path = label_path(image)
        record: dict[str, Any] = {"id": 1, "file_name": image.name}
        data: dict[str, Any] = {"images": [record], "annotations": [], "categories": self.categories}
        document = Document(data, None, part, path, image if image.is_file() else None)
        problem = None
        size = _size(image) if document.asset else None
        if document.asset is None:
            problem = Problem("missing-image", f"The image {str(image)!r} does not exist.")
        elif size is None:
            problem = Problem("missing-size", f"Could not read the size of the image {image.name!r}.")
        if problem or size is None:
            self._report(document, problem, on_error)
            return None
        record["width"], record["height"] = size
        with contextlib.suppress(FileNotFoundError):
            # An image without a label file has no objects.
            for number, columns in enumerate(self._rows(document, path, on_error), 1):
                try:
                    found = self._annotation(columns, size)
                except ValueError as error:
                    self._report(document, Problem("bad-row", f"Row {number} of {path.name!r}: {error}."), on_error)
                else:
                    data["annotations"].append(
                        {"id": len(data["annotations"]) + 1, "image_id": 1, **found, "iscrowd": 0}
                    )
        return document

    @staticmethod
    def _report(document: Document, problem: Problem | None, on_error: OnError | None) -> None:
        if problem is not None:
            found = finding_about(document, problem)
            if on_error is None:
                raise InvalidResponseError(f"{found.location}: {found.message}")
            on_error(found)

    def _rows(self, document: Document, path: Path, on_error: OnError | None) -> list[list[str]]:
        try:
            return _rows_of(path)
        except (ValueError, PermissionError, IsADirectoryError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._report(document, Problem("unreadable", f"Could not read the file: {reason}."), on_error)
            return []

    def _annotation(self, columns: list[str], size: tuple[int, int]) -> dict[str, Any]:
        try:
            own, *values = map(float, columns)
        except ValueError:
            raise ValueError("not all values are numbers") from None
        if own % 1 or not 0 <= own < len(self.categories):
            raise ValueError(f"there is no class {columns[0][:20]}")
        if not all(map(math.isfinite, values)):
            raise ValueError("a number is not finite")
        category = {"category_id": int(own) + 1}
        if self.task == POSE:
            return {**category, **self._posed(values, size)}
        if len(values) in (4, 5):
            score = {"score": values[4]} if len(values) == 5 else {}
            return {**category, **_boxed(values[:4], size), **score}
        if len(values) < 6 or len(values) % 2:
            raise ValueError(f"{len(columns)} columns do not fit a box or a polygon")
        points = _points(values, size)
        if self.task == OBB:
            if len(values) != 8:
                raise ValueError(f"{len(columns)} columns do not fit four corners")
            return {**category, **_turned(points)}
        return {**category, **_outlined(points)}

    def _posed(self, values: list[float], size: tuple[int, int]) -> dict[str, Any]:
        count, dimensions = self._shape or (0, 3)
        if len(values) != 4 + count * dimensions:
            raise ValueError(f"{len(values) + 1} columns do not fit {count} keypoints")
        keypoints: list[float] = []
        for start in range(4, len(values), dimensions):
            x, y = values[start], values[start + 1]
            seen = int(values[start + 2]) if dimensions == 3 else 2 * int(x > 0 or y > 0)
            keypoints += (*_points([x, y], size)[0], seen) if seen else (0, 0, 0)
        named = sum(each > 0 for each in keypoints[2::3])
        return {**_boxed(values[:4], size), "keypoints": keypoints, "num_keypoints": named}

    def _keypoint_shape(self) -> tuple[int, int] | None:
        shape = self._data.get("kpt_shape")
        try:
            count, dimensions = map(int, shape)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        return (count, dimensions) if 0 < count < 10_000 and dimensions in (2, 3) else None

    def _name_keypoints(self) -> None:
        if self._shape is None:
            raise InvalidParameterError(
                f"source {str(self.path)!r} has no kpt_shape, the number of keypoints.",
                parameter="task",
            )
        named = self._data.get("kpt_names")
        for number, category in enumerate(self.categories):
            own = named.get(str(number)) if isinstance(named, dict) else named
            is_named = isinstance(own, list) and len(own) == self._shape[0]
            category["keypoints"] = (
                [*map(str, own)] if is_named and own else [f"{at}" for at in range(1, self._shape[0] + 1)]
            )

    def _detected_task(self) -> str:
        """Detect the task by the number of columns in the first rows."""
        if self._shape:
            return POSE
        counts: set[int] = set()
        read = 0
        for part in self._parts:
            for image in self.images(part):
                with contextlib.suppress(OSError, ValueError):
                    counts |= {len(row) for row in _rows_of(label_path(image))}
                    read += 1
                if read >= _SAMPLE:
                    break
        if counts <= {5, 6}:
            return DETECT
        return OBB if counts == {9} else SEGMENT


def label_path(image: Path) -> Path:
    """Return the path of the label file of an image: the last ``images`` in the path becomes ``labels``."""
    start, found, end = str(image).rpartition(f"{os.sep}images{os.sep}")
    path = Path(f"{start}{os.sep}labels{os.sep}{end}") if found else image
    return path.with_suffix(".txt")


def _rows_of(path: Path) -> list[list[str]]:
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError("it is too large")
    return [row for line in path.read_text(encoding="utf-8-sig").splitlines() if (row := line.split())]


def _size(image: Path) -> tuple[int, int] | None:
    """Return the size of an image file with its EXIF orientation applied."""
    try:
        return upright_size(image)
    except ImportError:
        raise InvalidParameterError(
            "Reading the image sizes needs Pillow: pip install 'cfplatform[viz]'.", parameter="source"
        ) from None


def _clean(value: float) -> float:
    # Only removes rounding errors: finer than seven decimals of any image side above 10 pixels.
    return round(value, 6)


def _boxed(values: list[float], size: tuple[int, int]) -> dict[str, Any]:
    x, y, across, down = values
    if max(values) > _MOST or min(values) < -0.01 or across <= 0 or down <= 0:
        raise ValueError("the box is empty, or its numbers are not fractions of the image")
    width, height = across * size[0], down * size[1]
    found = [_clean(x * size[0] - width / 2), _clean(y * size[1] - height / 2), _clean(width), _clean(height)]
    return {"bbox": found, "area": _clean(width * height)}


def _points(values: list[float], size: tuple[int, int]) -> list[tuple[float, float]]:
    if max(values) > _MOST or min(values) < -0.01:
        raise ValueError("its numbers are not fractions of the image")
    return [(_clean(x * size[0]), _clean(y * size[1])) for x, y in zip(values[::2], values[1::2], strict=True)]


def _outlined(points: list[tuple[float, float]]) -> dict[str, Any]:
    xs, ys = zip(*points, strict=True)
    left, top = min(xs), min(ys)
    twice = sum(x * ny - nx * y for x, y, nx, ny in zip(xs, ys, (*xs[1:], xs[0]), (*ys[1:], ys[0]), strict=True))
    return {
        "bbox": [left, top, _clean(max(xs) - left), _clean(max(ys) - top)],
        "area": _clean(abs(twice) / 2),
        "segmentation": [[value for point in points for value in point]],
    }


def _turned(points: list[tuple[float, float]]) -> dict[str, Any]:
    """Return the box of four corners and its rotation, from the first corner to the second."""
    (x, y), (next_x, next_y), third, _ = points
    width, height = math.dist(points[0], points[1]), math.dist(points[1], third)
    if not width * height:
        raise ValueError("the box is empty")
    center_x, center_y = (sum(each) / 4 for each in zip(*points, strict=True))
    degrees = round(math.degrees(math.atan2(next_y - y, next_x - x)) % 360, 3) % 360
    box = [center_x - width / 2, center_y - height / 2, width, height]
    found: dict[str, Any] = {"bbox": [*map(_clean, box)], "area": _clean(width * height)}
    return {**found, "attributes": {"rotation": degrees}} if degrees else found


# --- YAML ---------------------------------------------------------------------------------------------------------

_KEY = re.compile(r"""(?P<key>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#"'\[\]{},][^:#]*?)\s*:(?:\s+|$)(?P<rest>.*)""")


def read_yaml(text: str) -> dict[str, Any]:
    """Return the content of a ``data.yaml``; supports the YAML that such files use: names, lists and tables of strings.

    Numbers are strings, and so are the keys of tables.

    Raises:
        ValueError: If it uses other YAML; the message is a clause.

    Example:
        >>> read_yaml("names:\\n  0: car  # red\\n  1: 'a b'\\nkpt_shape: [17, 3]\\ntrain: images/train")
        {'names': {'0': 'car', '1': 'a b'}, 'kpt_shape': ['17', '3'], 'train': 'images/train'}
    """
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.rstrip()
        if bare.strip() and not bare.lstrip().startswith("#") and bare not in ("---", "..."):
            lines.append((number, len(bare) - len(bare.lstrip()), bare.strip()))
    found, rest = _block(lines, 0)
    if rest or not isinstance(found, dict):
        raise ValueError(f"line {rest[0][0] if rest else 1} has YAML that is not supported")
    return found


_Lines = list[tuple[int, int, str]]


def _block(lines: _Lines, depth: int) -> tuple[Any, _Lines]:
    """Read the lines of one indentation; return their value, and the remaining lines."""
    if depth > _DEPTH:
        raise ValueError("it is nested too deeply")
    table: dict[str, Any] = {}
    items: list[Any] = []
    indent, rest = (lines[0][1] if lines else 0), lines
    is_list = bool(lines) and _is_item(lines[0][2])
    while rest and rest[0][1] == indent and _is_item(rest[0][2]) == is_list:
        number, _, line = rest[0]
        if is_list:
            items.append(_value(line[1:].strip(), number))
            rest = rest[1:]
            continue
        match = _KEY.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} has YAML that is not supported")
        table[_scalar(match["key"], number)], rest = _entry(_uncommented(match["rest"]), rest, depth)
    return (items if is_list else table), rest


def _is_item(line: str) -> bool:
    return line == "-" or line.startswith("- ")


def _entry(value: str, lines: _Lines, depth: int) -> tuple[Any, _Lines]:
    """Read the value of a name, which begins in the first line."""
    number, indent, _ = lines[0]
    rest = lines[1:]
    if value and value[0] in "[{":
        # The value may continue on the next lines.
        while rest and not _is_closed(value):
            value, rest = f"{value} {_uncommented(rest[0][2])}", rest[1:]
        return _value(value, number), rest
    if value in ("|", ">", "|-", ">-"):
        text = []
        while rest and rest[0][1] > indent:
            text.append(rest[0][2])
            rest = rest[1:]
        return " ".join(text), rest
    # A list below its name need not be indented.
    if not value and rest and (rest[0][1] > indent or (rest[0][1] == indent and _is_item(rest[0][2]))):
        return _block(rest, depth + 1)
    return _value(value, number), rest


def _uncommented(text: str) -> str:
    """Return text without a trailing comment."""
    quote = ""
    for at, each in enumerate(text):
        if quote:
            if each == quote and (quote == "'" or text[at - 1] != "\\"):
                quote = ""
        elif each in "\"'" and (not at or text[at - 1] in " [{,:"):
            quote = each
        elif each == "#" and (not at or text[at - 1].isspace()):
            return text[:at].rstrip()
    return text.strip()


def _is_closed(text: str) -> bool:
    return text.count("[") <= text.count("]") and text.count("{") <= text.count("}")


def _value(text: str, number: int) -> Any:
    text = _uncommented(text)
    if text[:1] not in ("[", "{"):
        return _scalar(text, number)
    if text[-1] != {"[": "]", "{": "}"}[text[0]]:
        raise ValueError(f"line {number} has a list that is not closed")
    parts = [*_split(text[1:-1])]
    if text[0] == "[":
        return [_scalar(each, number) for each in parts]
    matches = [_KEY.fullmatch(each) for each in parts]
    if None in matches:
        raise ValueError(f"line {number} has YAML that is not supported")
    return {_scalar(each["key"], number): _scalar(each["rest"], number) for each in matches if each}


def _split(text: str) -> Iterator[str]:
    """Yield the texts between commas."""
    for match in re.finditer(r"""\s*((?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,"']|(?<=\w)['"])+)\s*(?:,|$)""", text):
        if own := match[1].strip():
            yield own


def _scalar(text: str, number: int) -> str:
    if text[:1] == '"':
        try:
            return str(json.loads(re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", text)))
        except ValueError:
            raise ValueError(f"line {number} has an invalid string: {shown(text)}") from None
    if text[:1] == "'":
        if len(text) < 2 or text[-1] != "'":
            raise ValueError(f"line {number} has a string that is not closed")
        return text[1:-1].replace("''", "'")
    return "" if text in ("null", "~") else text
