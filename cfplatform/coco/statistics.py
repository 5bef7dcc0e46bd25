"""What is in labels: counted document by document, in memory that grows with classes and batches only."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..progress import Progress
from ..resources import markup
from .findings import Finding
from .reading import reported
from .sources import Document, OnError, Source
from .values import Key, box, key, number, records

#: COCO calls an object small below the first area, in pixels, and large above the second.
SMALL, LARGE = 32**2, 96**2
#: Rows of each table in a notebook.
_ROWS = 50


@dataclass
class CategoryStats:
    """Figures of one class.

    Attributes:
        annotations: Annotations of the class.
        images: Images that have at least one.
        area: The sum of their areas, in pixels.
        boxes: Annotations with a box that has a size.
        box_area: The sum of the areas of these boxes, in pixels.
    """

    annotations: int = 0
    images: int = 0
    area: float = 0.0
    boxes: int = 0
    box_area: float = 0.0

    @property
    def mean_side(self) -> float:
        """The side, in pixels, of a square as large as the boxes are on average; 0 where there is none."""
        return math.sqrt(self.box_area / self.boxes) if self.boxes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, ready for JSON."""
        return {**asdict(self), "mean_side": self.mean_side}


@dataclass
class BatchStats:
    """Figures of one batch.

    Attributes:
        documents: Documents of the batch.
        images: Images in them.
        annotations: Annotations in them.
        empty_images: Images without annotations.
    """

    documents: int = 0
    images: int = 0
    annotations: int = 0
    empty_images: int = 0


@dataclass
class Stats:
    """What is in labels; notebooks show it as tables.

    Attributes:
        documents: Documents that were read.
        images: Images in them.
        annotations: Annotations in them.
        empty_images: Images without annotations.
        crowds: Annotations that stand for a crowd of objects (``iscrowd``).
        unreadable: Files that are no COCO documents, and therefore in none of the other figures.
        categories: Figures of each class by its name, the most frequent first; also of classes that nothing has.
        batches: Figures of each batch by its folder, or by its id where the documents came from a stream.
        kinds: How many annotations have a "polygon", an "rle" mask, a "box", "keypoints", a "caption", "panoptic"
            segments, or "none" of these. One annotation can have several.
        box_sizes: How many objects are "small" (area below 32², in pixels), "medium" and "large" (above 96²), by their
            ``area`` or, where they have none, by that of their box.
        box_sides: How many boxes have which size: the square root of the area, in pixels, is at least the key and less
            than twice the key; less than 1 under 0.
    """

    documents: int = 0
    images: int = 0
    annotations: int = 0
    empty_images: int = 0
    crowds: int = 0
    unreadable: int = 0
    categories: dict[str, CategoryStats] = field(default_factory=dict)
    batches: dict[str, BatchStats] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    box_sizes: dict[str, int] = field(default_factory=lambda: {"small": 0, "medium": 0, "large": 0})
    box_sides: dict[int, int] = field(default_factory=dict)

    @property
    def crowd_share(self) -> float:
        """The share of crowds among all annotations, from 0 to 1."""
        return self.crowds / self.annotations if self.annotations else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, ready for JSON.

        Example:
            >>> Stats(annotations=4, crowds=1).as_dict()["crowd_share"]
            0.25
        """
        return {
            **asdict(self),
            "crowd_share": self.crowd_share,
            "categories": {name: each.as_dict() for name, each in self.categories.items()},
            "box_sides": {str(side): count for side, count in self.box_sides.items()},
        }

    def _repr_html_(self) -> str:
        totals = markup.table("Labels", self._totals())
        classes = markup.grid(
            _caption("Classes", len(self.categories)),
            ("name", "annotations", "images", "mean side"),
            (
                (name, each.annotations, each.images, f"{each.mean_side:.0f}")
                for name, each in _first(self.categories.items())
            ),
        )
        batches = markup.grid(
            _caption("Batches", len(self.batches)),
            ("name", "documents", "images", "annotations", "empty images"),
            (
                (name, each.documents, each.images, each.annotations, each.empty_images)
                for name, each in _first(self.batches.items())
            ),
        )
        return totals + classes + (batches if self.batches else "")

    def _totals(self) -> list[tuple[str, Any]]:
        return [
            ("documents", self.documents),
            ("unreadable", self.unreadable or None),
            ("images", self.images),
            ("empty images", self.empty_images),
            ("annotations", self.annotations),
            ("crowds", f"{self.crowds} ({self.crowd_share:.1%})"),
            *((f"with {kind}", count) for kind, count in self.kinds.items() if kind != "none"),
            *self.box_sizes.items(),
        ]


def _first(entries: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return list(entries)[:_ROWS]


def _caption(title: str, count: int) -> str:
    return title if count <= _ROWS else f"{title}: the first {_ROWS} of {count}"


class Tally:
    """Counts document by document, for those who read them themselves.

    What cannot be counted is left out, whatever a document holds: nothing here raises.

    Example:
        >>> tally = Tally()
        >>> tally.add(Document({"images": [{"id": 1}], "annotations": []}))
        >>> tally.result().empty_images
        1
    """

    def __init__(self) -> None:
        self._stats = Stats()
        self._kinds: Counter[str] = Counter()
        self._sides: Counter[int] = Counter()

    def add(self, document: Document) -> None:
        """Count one document."""
        found, data = self._stats, document.data
        annotations = records(data, "annotations")
        images = [key(image.get("id")) for image in records(data, "images")]
        labelled = self._add_annotations(annotations, set(images) - {None}, self._names(data))
        empty = sum(image not in labelled for image in images)
        totals: list[Stats | BatchStats] = [found]
        if document.batch is not None:
            totals.append(found.batches.setdefault(document.batch, BatchStats()))
        for total in totals:
            total.documents += 1
            total.images += len(images)
            total.annotations += len(annotations)
            total.empty_images += empty

    def add_unreadable(self) -> None:
        """Count a file that could not be read."""
        self._stats.unreadable += 1

    def result(self) -> Stats:
        """Return what was counted so far; later documents do not change it."""
        found = copy.deepcopy(self._stats)
        by_frequency = sorted(found.categories.items(), key=lambda entry: (-entry[1].annotations, entry[0]))
        found.categories = dict(by_frequency)
        found.batches = dict(sorted(found.batches.items()))
        found.kinds = dict(self._kinds.most_common())
        found.box_sides = dict(sorted(self._sides.items()))
        return found

    def _names(self, data: dict[str, Any]) -> dict[Key | None, CategoryStats]:
        """Return the figures of the classes of a document, by their ids."""
        known: dict[Key | None, CategoryStats] = {}
        for category in records(data, "categories"):
            name = category.get("name")
            if isinstance(name, str):
                figures = self._stats.categories.get(name)
                if figures is None:
                    figures = self._stats.categories[name] = CategoryStats()
                known.setdefault(key(category.get("id")), figures)
        known.pop(None, None)
        return known

    def _add_annotations(
        self, annotations: list[dict[str, Any]], images: set[Key | None], classes: dict[Key | None, CategoryStats]
    ) -> set[Key | None]:
        """Count annotations, and return the images that have any."""
        labelled: set[Key | None] = set()
        pairs: set[tuple[int, Key | None]] = set()
        for annotation in annotations:
            image = key(annotation.get("image_id"))
            figures = classes.get(key(annotation.get("category_id")))
            if image in images:
                labelled.add(image)
                if figures is not None and (id(figures), image) not in pairs:
                    pairs.add((id(figures), image))
                    figures.images += 1
            self._add_annotation(annotation, figures)
        return labelled

    def _add_annotation(self, annotation: dict[str, Any], figures: CategoryStats | None) -> None:
        self._stats.crowds += key(annotation.get("iscrowd")) == 1 or annotation.get("iscrowd") is True
        self._kinds.update(kinds(annotation))
        found = box(annotation.get("bbox"))
        side = 0.0 if found is None else found[2] * found[3]
        area = number(annotation.get("area"))
        if area is None or area < 0:
            area = side if found else None
        if found:
            self._sides[_power_of_two(math.sqrt(side))] += 1
        if area is not None:
            self._stats.box_sizes["small" if area < SMALL else "large" if area > LARGE else "medium"] += 1
        if figures is not None:
            figures.annotations += 1
            figures.area += area or 0.0
            figures.boxes += found is not None
            figures.box_area += side


def kinds(annotation: dict[str, Any]) -> list[str]:
    """Return what an annotation has: "polygon", "rle", "box", "keypoints", "caption", "panoptic"; or "none"."""
    segmentation = annotation.get("segmentation")
    found = []
    if isinstance(segmentation, dict):
        found.append("rle")
    elif isinstance(segmentation, list) and segmentation:
        found.append("polygon")
    if box(annotation.get("bbox")):
        found.append("box")
    if isinstance(annotation.get("keypoints"), list) and annotation["keypoints"]:
        found.append("keypoints")
    if isinstance(annotation.get("caption"), str):
        found.append("caption")
    if isinstance(annotation.get("segments_info"), list):
        found.append("panoptic")
    return found or ["none"]


def _power_of_two(side: float) -> int:
    return 1 << int(side).bit_length() - 1 if side >= 1 else 0


def stats(source: Source, *, progress: Progress = None, on_error: OnError | None = None) -> Stats:
    """Count what is in labels: images, annotations of each class and batch, sizes of boxes, empty images, crowds.

    Memory grows with classes and batches only, not with documents.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`.
        progress: ``True`` for a tqdm bar, a function of (done, total), or a reporter.
        on_error: Called with a :class:`Finding` for each file that is no COCO document, which is then counted as
            unreadable only; without it, the first one raises.

    Raises:
        InvalidParameterError: If the source is none, or the folder holds no labels.
        InvalidResponseError: If a file is not one whole JSON object and ``on_error`` is not given.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> found = stats("labels")
        >>> found.documents == summary.total_items, list(found.categories)[0]
        (True, 'ellipse')
    """
    tally = Tally()

    def missed(finding: Finding) -> None:
        tally.add_unreadable()
        if on_error is not None:
            on_error(finding)

    for document in reported(source, progress, missed if on_error else None):
        tally.add(document)
    return tally.result()
