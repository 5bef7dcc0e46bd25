"""Writes Pascal VOC datasets: images with one XML file each, and the list of images of each part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from .dataset_folder import DatasetFolder
from .losses import Losses
from .shapes import EDGE
from .values import is_crowd
from .yolo import Size, corners_of, note_lost, unique_names


class VocWriter:
    """Writes images and objects.

    Args:
        folder: The output folder.
        origin: 1 for pixels counted from 1, the last one included, as in VOC; 0 for coordinates from 0.
        losses: Counts losses.
        categories: All categories so far; the list grows.
    """

    def __init__(self, folder: DatasetFolder, origin: int, losses: Losses, categories: list[dict[str, Any]]) -> None:
        self._folder = folder
        self._origin = origin
        self._losses = losses
        self._categories = categories
        self._names: list[str] = []
        self._lists: dict[str, list[str]] = {}

    def image_path(self, part: str, name: str) -> str:
        """Return the path of an image."""
        return f"JPEGImages/{name}"

    def add(self, part: str, name: str, size: Size, labels: list[tuple[dict[str, Any], dict[str, Any]]]) -> int:
        """Write the file of an image, given its annotations and their categories; return the number of objects."""
        objects = [
            found for annotation, category in labels if (found := self._object(annotation, category, size)) is not None
        ]
        stem = name.rpartition(".")[0]
        self._folder.write(
            f"Annotations/{stem}.xml",
            f"<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{_text(name)}</filename>\n"
            f"  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
            f"  <segmented>0</segmented>\n{''.join(objects)}</annotation>\n",
        )
        self._lists.setdefault(part, []).append(stem)
        return len(objects)

    def _object(self, annotation: dict[str, Any], category: dict[str, Any], size: Size) -> str | None:
        if is_crowd(annotation):
            self._losses.add("crowd-left-out", annotation)
            return None
        corners = corners_of(annotation, size)
        if corners is None:
            self._losses.add("no-row", annotation)
            return None
        left, top, right, bottom = corners
        width, height = size
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            self._losses.add("outside-left-out", annotation)
            return None
        note_lost(self._losses, annotation, "segmentation", "keypoints", "rotation")
        is_clipped = left < -EDGE or top < -EDGE or right > width + EDGE or bottom > height + EDGE
        if is_clipped:
            self._losses.add("clipped", annotation)
        # At least one pixel; the last pixel is included.
        first = [min(max(round(left), 0), width - 1), min(max(round(top), 0), height - 1)]
        last = [min(max(round(right), first[0] + 1), width), min(max(round(bottom), first[1] + 1), height)]
        x, y = (each + self._origin for each in first)
        return (
            f"  <object>\n    <name>{_text(self._name(category))}</name>\n    <pose>Unspecified</pose>\n"
            f"    <truncated>{int(is_clipped)}</truncated>\n    <difficult>0</difficult>\n"
            f"    <bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{last[0]}</xmax><ymax>{last[1]}</ymax></bndbox>\n"
            "  </object>\n"
        )

    def _name(self, category: dict[str, Any]) -> str:
        if len(self._names) < category["id"]:
            self._names = unique_names(self._categories)
        number: int = category["id"]
        return self._names[number - 1]

    def finish(self, parts: dict[str, int], categories: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
        """Write the lists of the parts."""
        for part in parts:
            self._folder.write(f"ImageSets/Main/{part}.txt", "".join(f"{stem}\n" for stem in self._lists.get(part, ())))
        yield from ()


def _text(text: str) -> str:
    """Return text escaped for XML, without characters that XML does not allow."""
    return escape("".join(each if each.isprintable() else "\ufffd" for each in text))
