"""Label statistics, in memory that grows only with the number of classes and batches."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..progress import Progress, reporter
from ..resources.base import table
from .documents import Document, OnError, PathLike, Source, open_source, reported
from .findings import Finding
from .tables import CategoryNames
from .values import Key, box, each_record, is_crowd, key, number, records

#: An object is small below the first area and large above the second, in pixels, as in pycocotools.
SMALL, LARGE = 32**2, 96**2
#: Rows of each table in a notebook.
_ROWS = 50


@dataclass
class CategoryStats:
    """Statistics of a class.

    Attributes:
        annotations: Number of annotations.
        images: Number of images with at least one.
        area: Total area of the annotations in pixels.
        boxes: Number of annotations with a non-empty box.
        box_area: Total area of the boxes in pixels.
    """

    annotations: int = 0
    images: int = 0
    area: float = 0.0
    boxes: int = 0
    box_area: float = 0.0

    @property
    def mean_side(self) -> float:
        """Side of a square with the mean area of the boxes in pixels; 0 if there are no boxes."""
        return math.sqrt(self.box_area / self.boxes) if self.boxes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as plain values, ready for JSON."""
        return {**asdict(self), "mean_side": self.mean_side}


@dataclass
class BatchStats:
    """Statistics of a batch.

    Attributes:
        documents: Number of documents with images of the batch.
        images: Number of images.
        annotations: Number of annotations.
        empty_images: Number of images without annotations.
    """

    documents: int = 0
    images: int = 0
    annotations: int = 0
    empty_images: int = 0


@dataclass
class Stats:
    """Statistics of labels; notebooks show them as tables.

    Attributes:
        documents: Number of documents.
        images: Number of images.
        annotations: Number of annotations.
        empty_images: Number of images without annotations.
        crowds: Number of annotations with ``iscrowd``.
        unreadable: Number of files that are not COCO documents; they are not counted elsewhere.
        categories: Statistics of each class by name, the most frequent first, including classes without annotations.
            Classes are those of ``coco.merge()``: a second class with the same name is "name (supercategory)", or "name
            #2" if that is not unique.
        batches: Statistics of each batch by its folder, or by its ID if the documents came from a stream. Merged
            datasets record the batch of each image.
        kinds: Number of annotations with a "polygon", an "rle" mask, a "box", "keypoints", a "caption", "panoptic"
            segments, or "none" of these. An annotation can have several.
        box_sizes: Number of "small" (area below 32² pixels), "medium" and "large" (above 96²) objects, by ``area`` or,
            if it is missing, by the area of the box.
        box_sides: Number of boxes by size: the square root of the area in pixels is at least the key and less than
            twice the key. Boxes below 1 pixel are under 0.
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
        """Ratio of annotations with ``iscrowd`` to all annotations."""
        return self.crowds / self.annotations if self.annotations else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return all statistics as plain values, ready for JSON.

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
        classes = _grid(
            "Classes",
            ("name", "annotations", "images", "mean side"),
            [(name, each.annotations, each.images, f"{each.mean_side:.0f}") for name, each in self.categories.items()],
        )
        batches = _grid(
            "Batches",
            ("name", "documents", "images", "annotations", "empty images"),
            [
                (name, each.documents, each.images, each.annotations, each.empty_images)
                for name, each in self.batches.items()
            ],
        )
        return table("Labels", self._totals()) + classes + (batches if self.batches else "")

    def _totals(self) -> list[tuple[str, Any]]:
        return [
            ("documents", self.documents),
            ("unreadable", self.unreadable or None),
            ("images", self.images),
            ("empty images", self.empty_images),
            ("annotations", self.annotations),
            ("crowds", f"{self.crowds:,} ({self.crowd_share:.1%})"),
            *((f"with {kind}", count) for kind, count in self.kinds.items() if kind != "none"),
            *self.box_sizes.items(),
        ]


def _grid(title: str, header: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    caption = title if len(rows) <= _ROWS else f"{title}: the first {_ROWS} of {len(rows):,}"
    return table(caption, rows[:_ROWS], header)


class StatsBuilder:
    """Counts documents one by one, as :func:`stats` does.

    Entries that cannot be counted are skipped. The methods never raise, whatever a document contains.

    Example:
        >>> builder = StatsBuilder()
        >>> builder.add(Document({"images": [{"id": 1}], "annotations": []}))
        >>> builder.result().empty_images
        1
    """

    def __init__(self) -> None:
        self._stats = Stats()
        self._kinds: Counter[str] = Counter()
        self._sides: Counter[int] = Counter()
        # The same class as in a merge, so that both have the same categories.
        self._categories = CategoryNames(lambda finding: None)
        self._last: tuple[dict[Any, int], dict[Key, str]] = {}, {}

    def add(self, document: Document) -> None:
        """Count a document."""
        images, found = records(document.data, "images"), self._stats
        ids = [key(image.get("id")) for image in images]
        # Annotations without an image count for the batch of the document; if images share an ID the first counts.
        of_image: dict[Key | None, BatchStats] = {}
        own_batches: dict[str | None, BatchStats] = {}
        batches = [own_batches.setdefault(document.origin(image).batch, BatchStats()) for image in images]
        for own, batch in zip(ids, batches, strict=True):
            batch.images += 1
            of_image.setdefault(own, batch)
        others = own_batches.get(document.batch) or BatchStats()
        of_image[None] = others
        annotations, names = each_record(document.data, "annotations"), self.class_names(document)
        labelled = self._add_annotations(annotations, set(ids) - {None}, names, of_image, others)
        found.documents += 1
        found.images += len(images)
        for own, batch in zip(ids, batches, strict=True):
            if own not in labelled:
                found.empty_images += 1
                batch.empty_images += 1
        if others.annotations or not images:
            own_batches[document.batch] = others
        for name, each in own_batches.items():
            if name is not None:
                total = found.batches.setdefault(name, BatchStats())
                total.documents += 1
                total.images += each.images
                total.annotations += each.annotations
                total.empty_images += each.empty_images

    def add_unreadable(self) -> None:
        """Count a file that could not be read."""
        self._stats.unreadable += 1

    def class_names(self, document: Document) -> dict[int | float | str, str]:
        """Return the name in :attr:`Stats.categories` of each category of a document, by ID."""
        numbers = self._categories.numbers(document)
        if numbers is not self._last[0]:
            found = self._categories.names
            for name in found:
                if name is not None:
                    self._stats.categories.setdefault(name, CategoryStats())
            names = {key(own): found[number - 1] for own, number in numbers.items()}
            self._last = numbers, {own: name for own, name in names.items() if own is not None and name is not None}
        return self._last[1]

    def result(self) -> Stats:
        """Return the statistics so far; later documents do not change them."""
        found = copy.deepcopy(self._stats)
        by_frequency = sorted(found.categories.items(), key=lambda entry: (-entry[1].annotations, entry[0]))
        found.categories = dict(by_frequency)
        found.batches = dict(sorted(found.batches.items()))
        found.kinds = dict(self._kinds.most_common())
        found.box_sides = dict(sorted(self._sides.items()))
        return found

    def _add_annotations(
        self,
        annotations: Iterable[dict[str, Any]],
        images: set[Key | None],
        names: dict[Key, str],
        of_image: dict[Key | None, BatchStats],
        others: BatchStats,
    ) -> set[Key | None]:
        """Count annotations, and return the images that have any."""
        labelled: set[Key | None] = set()
        pairs: set[tuple[str, Key | None]] = set()
        for annotation in annotations:
            image, category = key(annotation.get("image_id")), key(annotation.get("category_id"))
            self._stats.annotations += 1
            of_image.get(image, others).annotations += 1
            name = None if category is None else names.get(category)
            figures = None if name is None else self._stats.categories[name]
            if image in images:
                labelled.add(image)
                if name is not None and figures is not None and (name, image) not in pairs:
                    pairs.add((name, image))
                    figures.images += 1
            self._add_annotation(annotation, figures)
        return labelled

    def _add_annotation(self, annotation: dict[str, Any], figures: CategoryStats | None) -> None:
        self._stats.crowds += is_crowd(annotation)
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


#: The old name of :class:`StatsBuilder`.
Tally = StatsBuilder


def kinds(annotation: dict[str, Any]) -> list[str]:
    """Return the kinds of an annotation: "polygon", "rle", "box", "keypoints", "caption", "panoptic", or "none"."""
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


def stats(
    source: Source, *, images_from: PathLike | None = None, progress: Progress = None, on_error: OnError | None = None
) -> Stats:
    """Return statistics of labels: images, annotations by class and batch, box sizes, empty images, crowds.

    Memory grows with the number of classes and batches, not of documents.

    Args:
        source: A folder, a file or an iterable; see :func:`~cfplatform.coco.read`.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`. No image is opened.
        progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.
        on_error: Called with a :class:`Finding` for each file that is not a COCO document; the file counts as
            unreadable. Without it, the first one raises.

    Raises:
        InvalidParameterError: If the source is not valid, or the folder has no labels.
        InvalidResponseError: If a file is not a complete JSON object and ``on_error`` is not given.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> found = stats("labels")
        >>> found.documents == summary.total_items, list(found.categories)[0]
        (True, 'ellipse')
    """
    builder = StatsBuilder()

    def missed(finding: Finding) -> None:
        builder.add_unreadable()
        if on_error is not None:
            on_error(finding)

    opened = open_source(source, images_from)
    for document in reported(opened, reporter(progress), missed if on_error else None, streamed=True):
        builder.add(document)
    return builder.result()
