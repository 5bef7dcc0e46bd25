"""``compare()``: the differences between two sets of labels of the same images, and their agreement."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..exceptions import InvalidParameterError
from ..progress import Progress, ProgressReporter, reporter
from ..resources.base import table
from . import mask as masks
from .documents import Document, OnError, Opened, PathLike, Source, Stream, file_size, open_source
from .findings import WARNING, Finding, shown
from .matching import Pair, Shape, assigned, box_of, components, pairs_of, share_inside
from .pairing import LEVELS, Labelled, ResultsStore, Store, images_of
from .precision import PrecisionBuilder
from .references import references
from .results import Results, check_score
from .tables import CategoryNames
from .values import Key, is_crowd, key, plain, size_of

#: Kinds of changes.
SAME, MOVED, RESHAPED, RELABELLED = "same", "moved", "reshaped", "relabelled"
ADDED, REMOVED, ATTRIBUTES = "added", "removed", "attributes"
KINDS = (SAME, MOVED, RESHAPED, RELABELLED, ADDED, REMOVED, ATTRIBUTES)
#: Shapes that are compared.
SHAPES = ("box", "segmentation")
#: Coordinates that differ by at most this much count as equal, because tools round to two decimals.
NEAR = 0.01
#: Maximum number of findings, and of images in :attr:`Comparison.worst`.
_KEPT, _WORST = 100, 20
#: Fields that are not attributes: IDs, the class, and the shape.
_OWN = {"id", "bbox", "segmentation", "keypoints", "num_keypoints", "area", "iscrowd", "score"}


class Change(NamedTuple):
    """An object of an image, and how its annotation changed.

    Attributes:
        kind: "same", "moved" (the size of the box is the same), "reshaped", "relabelled", "added", "removed", or
            "attributes" (only other fields differ).
        image: The name of the image.
        item_id: The work item; ``None`` if it is unknown.
        a: The annotation of the first set; ``None`` if it was added.
        b: The annotation of the second set; ``None`` if it was removed.
        category_a: Its category in the first set.
        category_b: Its category in the second set.
        iou: The intersection over union; ``None`` without a match.
        counts: Whether it counts in the metrics. Crowds, objects within a crowd, and annotations without a shape do
            not.
    """

    kind: str
    image: str
    item_id: str | None
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    category_a: str | None
    category_b: str | None
    iou: float | None
    counts: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the change as plain values, with the IDs and boxes of both annotations."""
        values = self._asdict()
        a, b = values.pop("a") or {}, values.pop("b") or {}
        return {**values, "id_a": a.get("id"), "id_b": b.get("id"), "bbox_a": a.get("bbox"), "bbox_b": b.get("bbox")}


@dataclass
class Agreement:
    """Agreement of two sets of labels. The first set is the reference.

    Attributes:
        a: Objects of the first set, without crowds.
        b: Objects of the second set, without those inside a crowd of the first.
        matched: Objects in both sets with the same category and an IoU of at least ``iou``.
        iou_sum: The sum of the IoU of the matched objects.
        ap: COCO average precision (IoU from 0.50 to 0.95); ``None`` without scores or objects.
        ap50: Average precision at an IoU of 0.5.
    """

    a: int = 0
    b: int = 0
    matched: int = 0
    iou_sum: float = 0.0
    ap: float | None = None
    ap50: float | None = None

    @property
    def precision(self) -> float | None:
        """The fraction of the second set that is in the first; ``None`` if the second set is empty."""
        return self.matched / self.b if self.b else None

    @property
    def recall(self) -> float | None:
        """The fraction of the first set that is in the second; ``None`` if the first set is empty."""
        return self.matched / self.a if self.a else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; ``None`` if both sets are empty."""
        return 2 * self.matched / (self.a + self.b) if self.a + self.b else None

    @property
    def mean_iou(self) -> float | None:
        """The mean IoU of matched objects; ``None`` if none matched."""
        return self.iou_sum / self.matched if self.matched else None

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics as plain values, ready for JSON."""
        names = ("a", "b", "matched", "precision", "recall", "f1", "mean_iou", "ap", "ap50")
        return {name: getattr(self, name) for name in names}


@dataclass
class ImageAgreement:
    """An image whose annotations differ.

    Attributes:
        image: Its name.
        item_id: The work item; ``None`` if it is unknown.
        changes: The number of changes of each kind.
        difference: The number of unmatched and relabeled objects, plus ``1 - IoU`` for each matched object.
    """

    image: str
    item_id: str | None
    changes: dict[str, int]
    difference: float


@dataclass
class Comparison:
    """The result of a comparison; notebooks show it as tables. The first set is the reference.

    Attributes:
        images: Images in both sets; all other metrics are about these.
        images_only_a: Images only in the first set.
        images_only_b: Images only in the second set.
        total: Metrics over all categories.
        kappa: Cohen's kappa of the categories of matched objects, matched regardless of category; ``None`` with fewer
            than two categories. Unmatched objects do not count: see ``f1``.
        alpha: Krippendorff's alpha of the same objects, for nominal data.
        map: Mean average precision; ``None`` if the second set has no scores.
        map50: Mean average precision at an IoU of 0.5.
        changes: The number of changes of each kind.
        confusion: The number of objects by category in the first set, then by category in the second. ``""`` means no
            object.
        categories: Metrics of each category, by name.
        worst: The images with the largest difference, at most 20.
        findings: Warnings about the two sets, such as different image sizes; at most 100.
        finding_count: The total number of findings.
        unreadable: Files that could not be read.
    """

    images: int = 0
    images_only_a: int = 0
    images_only_b: int = 0
    total: Agreement = field(default_factory=Agreement)
    kappa: float | None = None
    alpha: float | None = None
    map: float | None = None
    map50: float | None = None
    changes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    categories: dict[str, Agreement] = field(default_factory=dict)
    worst: list[ImageAgreement] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    finding_count: int = 0
    unreadable: int = 0

    @property
    def precision(self) -> float | None:
        """The fraction of the second set that is in the first; ``None`` if the second set is empty."""
        return self.total.precision

    @property
    def recall(self) -> float | None:
        """The fraction of the first set that is in the second; ``None`` if the first set is empty."""
        return self.total.recall

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; ``None`` if both sets are empty."""
        return self.total.f1

    @property
    def mean_iou(self) -> float | None:
        """The mean IoU of matched objects; ``None`` if none matched."""
        return self.total.mean_iou

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, ready for JSON.

        Example:
            >>> Comparison().as_dict()["f1"] is None
            True
        """
        own = self.total.as_dict()
        return {
            "images": self.images,
            "images_only_a": self.images_only_a,
            "images_only_b": self.images_only_b,
            "unreadable": self.unreadable,
            **{name: value for name, value in own.items() if name not in ("ap", "ap50")},
            "kappa": self.kappa,
            "alpha": self.alpha,
            "map": self.map,
            "map50": self.map50,
            "changes": self.changes,
            "confusion": self.confusion,
            "categories": {name: each.as_dict() for name, each in self.categories.items()},
            "worst": [vars(each) for each in self.worst],
            "findings": [each.as_dict() for each in self.findings],
            "finding_count": self.finding_count,
        }

    def _repr_html_(self) -> str:
        rows = [(name, each.a, each.b, *map(figure, _figures(each))) for name, each in self.categories.items()]
        header = ("category", "in a", "in b", "precision", "recall", "F1", "mean IoU")
        return table("Comparison", self.figures()) + table("Categories", rows, header)

    def figures(self) -> list[tuple[str, str]]:
        """Return the metrics to show, with their names."""
        names = ("Precision", "Recall", "F1", "Mean IoU")
        scores = [] if self.map is None else [("mAP", figure(self.map)), ("mAP50", figure(self.map50))]
        return [
            ("Images in both", f"{self.images:,}"),
            ("Only in the first", f"{self.images_only_a:,}"),
            ("Only in the second", f"{self.images_only_b:,}"),
            *((name, figure(value)) for name, value in zip(names, _figures(self.total), strict=True)),
            ("Kappa of matched objects", figure(self.kappa)),
            ("Alpha of matched objects", figure(self.alpha)),
            *scores,
            *((kind.capitalize(), f"{count:,}") for kind, count in self.changes.items()),
        ]


def _figures(of: Agreement) -> tuple[float | None, ...]:
    return of.precision, of.recall, of.f1, of.mean_iou


def figure(value: float | None) -> str:
    """Return a ratio as text."""
    return "-" if value is None else f"{value:.3f}"


class ImagePair(NamedTuple):
    """An image in both sets, and its changes."""

    a: Labelled
    b: Labelled
    changes: list[Change]
    difference: float
    #: The categories, in the order of their numbers.
    categories: list[dict[str, Any]]


OnChange = Callable[[Change], Any]
OnImage = Callable[[ImagePair], Any]


def compare(
    a: Source,
    b: Source,
    *,
    iou: float = 0.5,
    shape: str = "box",
    images_from: PathLike | None = None,
    on_change: OnChange | None = None,
    progress: Progress = None,
    on_error: OnError | None = None,
) -> Comparison:
    """Compare two sets of labels of the same images, such as two annotators, or before and after a rework.

    Images are paired by work item, else by asset URL, ``original_file_name``, ``file_name``, the last part of
    ``file_name``, or the name of the local file. Categories are matched as in :func:`merge`. Objects are matched to
    maximize the sum of their IoU: first within each category, then across categories ("relabelled"). If two images have
    different sizes, the second is scaled.

    Crowds, and objects inside them, never count as missed or false. The images of ``b`` are kept in a temporary file,
    so memory does not grow with their number.

    Args:
        a: The reference: a folder, a file or an iterable; see :func:`read`.
        b: The labels to compare with it. Either ``a`` or ``b`` can also be a results list: a JSON array of detections
            with ``image_id``, ``category_id``, ``bbox`` and ``score``, as a file or a list. Its ``image_id`` is the ID
            of an image of the other set, or the name of its file without the extension. Images that it does not list
            have no detections.
        iou: The minimum IoU of a match, above 0 and up to 1.
        shape: "box", or "segmentation" for masks. An annotation without a segmentation uses its box.
        images_from: The folder of the images, as for :func:`~cfplatform.coco.read`. It does not change the metrics.
        on_change: Called with each :class:`Change`, including those of the kind "same".
        progress: ``True`` for a progress bar (extra ``progress``), a function of (done, total), or a
            :class:`~cfplatform.ProgressReporter`.
        on_error: Called with a :class:`Finding` for each file that is not a COCO document. Without it, the first one
            raises.

    Raises:
        InvalidParameterError: If a source or parameter is not valid, the sets have no image in common, or a score is
            not between 0 and 1.
        InvalidResponseError: If a file is not a complete JSON object and ``on_error`` is not given.

    Example:
        >>> images, categories = [{"id": 1, "file_name": "a.png"}], [{"id": 1, "name": "car"}]
        >>> box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
        >>> ours = {"images": images, "categories": categories, "annotations": [box]}
        >>> theirs = {**ours, "annotations": [{**box, "bbox": [1, 0, 10, 10]}, {**box, "bbox": [50, 0, 9, 9]}]}
        >>> found = compare([ours], [theirs])
        >>> found.recall, found.precision, found.changes["moved"], found.changes["added"]
        (1.0, 0.5, 1, 1)
    """
    return run(a, b, iou, shape, images_from, on_change, None, reporter(progress), on_error)


def run(
    a: Source,
    b: Source,
    iou: float,
    shape: str,
    images_from: PathLike | None,
    on_change: OnChange | None,
    on_image: OnImage | None,
    bar: ProgressReporter,
    on_error: OnError | None,
) -> Comparison:
    """Run :func:`compare`, and call ``on_image`` with each image that differs."""
    if isinstance(iou, bool) or not isinstance(iou, (int, float)) or not 0 < iou <= 1:
        raise InvalidParameterError(f"iou must be above 0 and at most 1, not {iou!r}.", parameter="iou")
    if shape not in SHAPES:
        raise InvalidParameterError(f"shape must be 'box' or 'segmentation', not {shape!r}.", parameter="shape")
    ours, theirs = open_source(a, images_from), open_source(b, images_from)
    totals = [each.total for each in (ours, theirs) if not isinstance(each, Results)]
    known = [each for each in totals if each is not None]
    if not totals:
        raise InvalidParameterError("Both sources are results lists. Pass COCO documents as one of them.")
    bar.start(sum(known) if len(known) == len(totals) else None)
    try:
        return _Comparing(float(iou), shape, on_change, on_image, bar, on_error).of(ours, theirs)
    finally:
        bar.finish()


class _Comparing:
    """One comparison."""

    def __init__(
        self,
        iou: float,
        shape: str,
        on_change: OnChange | None,
        on_image: OnImage | None,
        bar: ProgressReporter,
        on_error: OnError | None,
    ) -> None:
        self._iou, self._is_mask = iou, shape == "segmentation"
        self._on_change, self._on_image, self._bar, self._on_error = on_change, on_image, bar, on_error
        self._found = Comparison()
        self._names = CategoryNames(self._note)
        self._numbers: tuple[dict[Any, int], dict[Key, int]] = {}, {}
        self._of_class: dict[int, Agreement] = {}
        self._confusion: Counter[tuple[int | None, int | None]] = Counter()
        self._blind: Counter[tuple[int, int]] = Counter()
        self._precision = PrecisionBuilder()
        self._is_scored, self._unscored = False, 0
        self._worst: list[tuple[float, int, ImageAgreement]] = []
        self._are_results = False
        self._categories: list[dict[str, Any]] = []

    def of(self, ours: Opened, theirs: Opened) -> Comparison:
        """Compare two sources."""
        found = self._found
        if isinstance(ours, Results) or isinstance(theirs, Results):
            self._with_results(ours, theirs)
        else:
            self._documents(ours, theirs)
        if not found.images:
            raise InvalidParameterError(
                f"The two sets have no image in common: {found.images_only_a:,} images in the first and "
                f"{found.images_only_b:,} in the second. Images are paired by {', '.join(LEVELS[:-1])} or "
                f"{LEVELS[-1]}; results lists by image ID or file name."
            )
        self._finish()
        return found

    def _documents(self, ours: Opened, theirs: Opened) -> None:
        found, store, waiting = self._found, Store(), Store()
        for image in self._images(theirs):
            store.add(image)
        for image in self._images(ours):
            other = store.take(image)
            if other is None:
                waiting.add(image)
            else:
                self._compare(image, other)
        # Less reliable keys only pair images that no other key has paired.
        for level in range(len(LEVELS)):
            for number, image in waiting.rest():
                other = store.take(image, level)
                if other is not None:
                    waiting.remove(number)
                    self._compare(image, other)
        found.images_only_a = sum(1 for _ in waiting.rest())
        found.images_only_b = sum(1 for _ in store.rest())

    def _with_results(self, ours: Opened, theirs: Opened) -> None:
        self._are_results = True
        is_first = isinstance(ours, Results)
        # A results list without detections counts as scored.
        self._is_scored = not is_first
        results, documents = (ours, theirs) if is_first else (theirs, ours)
        store = ResultsStore(results)  # type: ignore[arg-type]
        taken = unpaired = 0
        for image in self._images(documents):
            detections = store.take(image)
            taken += len(detections)
            labels = [self._numbers[1].get(key(each.get("category_id")), 0) for each in detections]  # type: ignore[arg-type]
            for detection, label in zip(detections, labels, strict=True):
                if not label:
                    category = shown(detection.get("category_id"))
                    message = f"A detection of the image {shown(image.name)} has the category_id {category}, "
                    self._warn("dangling-category-id", message + "which is not in the other set; it is skipped.")
            kept = [(each, label) for each, label in zip(detections, labels, strict=True) if label]
            other = image._replace(annotations=[each for each, _ in kept], labels=[label for _, label in kept])
            self._compare(*((other, image) if is_first else (image, other)))
        for number in store.rest():
            unpaired += 1
            self._warn(
                "dangling-image-id",
                f"The other set has no image with the image_id {shown(number)} of the results list.",
            )
        if is_first:
            self._found.images_only_a = unpaired
        else:
            self._found.images_only_b = unpaired
        if unpaired and not taken:
            # Otherwise an image without detections would count as being in both sets.
            self._found.images_only_b += self._found.images if is_first else 0
            self._found.images_only_a += 0 if is_first else self._found.images
            self._found.images = 0

    def _images(self, opened: Opened) -> Iterator[Labelled]:
        def failed(finding: Finding) -> None:
            self._found.unreadable += 1
            self._bar.advance("failed", 0)
            if self._on_error is not None:
                self._on_error(finding)

        for document in opened.documents(failed if self._on_error is not None else None, streamed=True):
            if isinstance(opened, Stream):
                # Convert NumPy arrays to lists.
                document = replace(document, data=plain(document.data, {}))
            yield from images_of(document, self._numbers_of(document))
            self._bar.advance("read", file_size(document))

    def _numbers_of(self, document: Document) -> dict[Key, int]:
        numbers = self._names.numbers(document)
        if numbers is not self._numbers[0]:
            by_key = {key(own): number for own, number in numbers.items()}
            self._numbers = numbers, {own: number for own, number in by_key.items() if own is not None}
        return self._numbers[1]

    def _note(self, finding: Finding) -> None:
        self._found.finding_count += 1
        if len(self._found.findings) < _KEPT:
            self._found.findings.append(finding)

    def _warn(self, code: str, message: str) -> None:
        self._note(Finding(code, WARNING, message))

    # --- One image ----------------------------------------------------------------------------------------------------

    def _compare(self, a: Labelled, b: Labelled) -> None:
        """Compare an image of both sets."""
        self._found.images += 1
        size, own_size = size_of(a.image), size_of(b.image)
        factors = None
        if size and own_size and size != own_size:
            factors = size[0] / own_size[0], size[1] / own_size[1]
            sizes = f"{size[0]} x {size[1]} in the first set and {own_size[0]} x {own_size[1]} in the second"
            self._warn("size-differs", f"The image {shown(a.name)} is {sizes}; the second is scaled.")
        mask_size = (size or own_size) if self._is_mask else None
        if self._is_mask and mask_size is None:
            self._warn("missing-size", f"The image {shown(a.name)} has no size, so its boxes are compared.")
        ours, our_crowds, ours_shapeless = self._shapes(a, None)
        theirs, their_crowds, theirs_shapeless = self._shapes(b, factors)
        image = _Image(a, b, [], self._on_change is not None or self._on_image is not None)
        has_scores = self._has_scores(theirs, b)
        pairs = pairs_of(ours, theirs, min(self._iou, 0.5) if has_scores else self._iou, mask_size)
        if has_scores:
            self._add_precision(a, ours, theirs, our_crowds, pairs, mask_size)
            pairs = [pair for pair in pairs if pair.iou >= self._iou]
        free_a, free_b = dict.fromkeys(range(len(ours))), dict.fromkeys(range(len(theirs)))
        for pair in self._matches(pairs, ours, theirs):
            del free_a[pair.a], free_b[pair.b]
            self._matched(image, ours[pair.a], theirs[pair.b], pair.iou, is_counted=True)
        for place in free_a:
            self._unmatched(image, REMOVED, ours[place], self._is_covered(ours[place], their_crowds, mask_size))
        for place in free_b:
            self._unmatched(image, ADDED, theirs[place], self._is_covered(theirs[place], our_crowds, mask_size))
        if our_crowds or their_crowds:
            self._compare_crowds(image, our_crowds, their_crowds, mask_size)
        if ours_shapeless or theirs_shapeless:
            self._compare_shapeless(image, ours_shapeless, theirs_shapeless)
        self._end(image)

    def _shapes(
        self, of: Labelled, factors: tuple[float, float] | None
    ) -> tuple[list[Shape], list[Shape], list[tuple[dict[str, Any], int]]]:
        """Return objects, crowds, and annotations without a shape."""
        objects: list[Shape] = []
        crowds: list[Shape] = []
        others: list[tuple[dict[str, Any], int]] = []
        for annotation, label in zip(of.annotations, of.labels, strict=True):
            box = box_of(annotation)
            if box is None:
                others.append((annotation, label))
                continue
            segmentation = annotation.get("segmentation") if self._is_mask else None
            if factors is not None:
                x, y = factors
                box = box[0] * x, box[1] * y, box[2] * x, box[3] * y
                if isinstance(segmentation, list):
                    segmentation = _scaled(segmentation, factors)
            (crowds if is_crowd(annotation) else objects).append(Shape(box, label, annotation, segmentation))
        return objects, crowds, others

    def _matches(self, pairs: list[Pair], ours: list[Shape], theirs: list[Shape]) -> Iterator[Pair]:
        """Yield the matches: first within each category, then across categories."""
        for group in components(pairs):
            if len(group) == 1:
                pair = group[0]
                self._blind[ours[pair.a].label, theirs[pair.b].label] += 1
                yield pair
                continue
            blind = assigned(group)
            for pair in blind:
                self._blind[ours[pair.a].label, theirs[pair.b].label] += 1
            same = [pair for pair in group if ours[pair.a].label == theirs[pair.b].label]
            if len(same) == len(group):
                yield from blind
                continue
            first = [pair for part in components(same) for pair in assigned(part)]
            used_a, used_b = {pair.a for pair in first}, {pair.b for pair in first}
            rest = [pair for pair in group if pair.a not in used_a and pair.b not in used_b]
            second = [pair for part in components(rest) for pair in assigned(part)]
            yield from (*first, *second)

    def _is_covered(self, one: Shape, crowds: list[Shape], size: tuple[int, int] | None) -> bool:
        return any(each.label == one.label and share_inside(one, each, size) >= self._iou for each in crowds)

    def _agreement(self, label: int) -> Agreement:
        found = self._of_class.get(label)
        if found is None:
            found = self._of_class[label] = Agreement()
        return found

    def _matched(self, image: _Image, a: Shape, b: Shape, iou: float, is_counted: bool) -> None:
        if is_counted:
            of_a, of_b = self._agreement(a.label), self._agreement(b.label)
            of_a.a += 1
            of_b.b += 1
            self._confusion[a.label, b.label] += 1
            if of_a is of_b:
                of_a.matched += 1
                of_a.iou_sum += iou
        kind = RELABELLED if a.label != b.label else _kind(a, b, self._are_results)
        image.add(kind, a, b, iou, is_counted, self)
        if is_counted:
            image.difference += 1 if kind == RELABELLED else 1 - iou

    def _unmatched(self, image: _Image, kind: str, one: Shape, is_covered: bool) -> None:
        if not is_covered:
            own = self._agreement(one.label)
            if kind == REMOVED:
                own.a += 1
                self._confusion[one.label, None] += 1
            else:
                own.b += 1
                self._confusion[None, one.label] += 1
            image.difference += 1
        image.add(kind, one if kind == REMOVED else None, one if kind == ADDED else None, None, not is_covered, self)

    def _compare_crowds(
        self, image: _Image, ours: list[Shape], theirs: list[Shape], size: tuple[int, int] | None
    ) -> None:
        free_a, free_b = dict.fromkeys(range(len(ours))), dict.fromkeys(range(len(theirs)))
        for group in components(pairs_of(ours, theirs, self._iou, size)):
            for pair in assigned(group):
                del free_a[pair.a], free_b[pair.b]
                self._matched(image, ours[pair.a], theirs[pair.b], pair.iou, is_counted=False)
        for place in free_a:
            self._unmatched(image, REMOVED, ours[place], is_covered=True)
        for place in free_b:
            self._unmatched(image, ADDED, theirs[place], is_covered=True)

    def _compare_shapeless(
        self, image: _Image, ours: list[tuple[dict[str, Any], int]], theirs: list[tuple[dict[str, Any], int]]
    ) -> None:
        """Compare annotations without a shape, such as captions, by their content."""
        left = [(Shape((0, 0, 0, 0), label, each), _attributes(each)) for each, label in theirs]
        for each, label in ours:
            own = Shape((0, 0, 0, 0), label, each)
            content = _attributes(each)
            place = next((n for n, (b, c) in enumerate(left) if b.label == label and c == content), None)
            if place is None:
                self._unmatched(image, REMOVED, own, is_covered=True)
            else:
                image.add(SAME, own, left.pop(place)[0], None, False, self)
        for other, _ in left:
            self._unmatched(image, ADDED, other, is_covered=True)

    def name_of(self, label: int) -> str | None:
        """Return the name of a category."""
        return (self._names.names[label - 1] or f"#{label}") if label else None

    def _named_categories(self) -> list[dict[str, Any]]:
        entries = self._names.categories.entries
        if len(self._categories) != len(entries):
            names = self._names.names
            self._categories = [{**each, "name": name or ""} for each, name in zip(entries, names, strict=True)]
        return self._categories

    def _end(self, image: _Image) -> None:
        found = self._found
        for kind, count in image.counts.items():
            found.changes[kind] += count
        changed = sum(image.counts.values()) - image.counts.get(SAME, 0)
        if self._on_change is not None:
            for change in image.changes:
                self._on_change(change)
        if not changed:
            return
        if self._on_image is not None:
            self._on_image(ImagePair(image.a, image.b, image.changes, image.difference, self._named_categories()))
        entry = (image.difference, -found.images)
        if len(self._worst) < _WORST or entry > self._worst[0][:2]:
            summary = ImageAgreement(
                image.a.name, image.a.item_id or image.b.item_id, dict(image.counts), image.difference
            )
            (heapq.heappush if len(self._worst) < _WORST else heapq.heappushpop)(self._worst, (*entry, summary))

    # --- Scores -------------------------------------------------------------------------------------------------------

    def _has_scores(self, theirs: list[Shape], b: Labelled) -> bool:
        """Check the scores; return whether average precision can still be computed."""
        with_score = 0
        for each in theirs:
            if each.annotation.get("score") is not None:
                check_score(each.annotation["score"], f"An annotation of the image {shown(b.name)}")
                with_score += 1
        self._is_scored = self._is_scored or with_score > 0
        self._unscored += len(theirs) - with_score
        return not self._unscored

    def _add_precision(
        self,
        a: Labelled,
        ours: list[Shape],
        theirs: list[Shape],
        crowds: list[Shape],
        pairs: list[Pair],
        size: tuple[int, int] | None,
    ) -> None:
        self._precision.start(a.image.get("id"))
        of_label: dict[int, tuple[list[int], list[int]]] = {}
        for place, each in enumerate(ours):
            of_label.setdefault(each.label, ([], []))[0].append(place)
        for place, each in enumerate(theirs):
            of_label.setdefault(each.label, ([], []))[1].append(place)
        candidates: dict[int, list[tuple[int, float]]] = {}
        for pair in pairs:
            if pair.iou >= 0.5 and ours[pair.a].label == theirs[pair.b].label:
                candidates.setdefault(pair.b, []).append((pair.a, pair.iou))
        for label, (objects, detections) in of_label.items():
            own = {n: sorted(candidates[place]) for n, place in enumerate(detections) if place in candidates}
            of_crowd = [each for each in crowds if each.label == label]
            inside = {
                n: [share_inside(theirs[place], each, size) for each in of_crowd if theirs[place].area]
                for n, place in enumerate(detections if of_crowd else ())
            }
            scores = [theirs[place].annotation["score"] for place in detections]
            self._precision.add(label, len(objects), scores, own, inside)

    # --- The end ------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        found = self._found
        if self._is_scored and not self._unscored:
            precisions = self._precision.result()
            for label, each in precisions.items():
                self._agreement(label).ap, self._agreement(label).ap50 = each
            if precisions:
                found.map = sum(each.ap for each in precisions.values()) / len(precisions)
                found.map50 = sum(each.ap50 for each in precisions.values()) / len(precisions)
        found.kappa, found.alpha = agreement_of(self._blind)
        total = found.total
        for label in sorted(self._of_class):
            own = self._of_class[label]
            found.categories[self.name_of(label) or "(no category)"] = own
            total.a += own.a
            total.b += own.b
            total.matched += own.matched
            total.iou_sum += own.iou_sum
        for (a, b), count in sorted(self._confusion.items(), key=lambda each: [label or -1 for label in each[0]]):
            names = ["" if label is None else self.name_of(label) or "(no category)" for label in (a, b)]
            found.confusion.setdefault(names[0], {})[names[1]] = count
        found.worst = [each for *_, each in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]


class _Image:
    """The comparison of one image."""

    def __init__(self, a: Labelled, b: Labelled, changes: list[Change], is_kept: bool) -> None:
        self.a, self.b, self.changes, self._is_kept = a, b, changes, is_kept
        self.counts: dict[str, int] = {}
        self.difference = 0.0

    def add(
        self, kind: str, a: Shape | None, b: Shape | None, iou: float | None, is_counted: bool, names: _Comparing
    ) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self._is_kept:
            self.changes.append(
                Change(
                    kind,
                    self.a.name,
                    self.a.item_id or self.b.item_id,
                    None if a is None else a.annotation,
                    None if b is None else b.annotation,
                    None if a is None else names.name_of(a.label),
                    None if b is None else names.name_of(b.label),
                    iou,
                    is_counted,
                )
            )


def agreement_of(pairs: Counter[tuple[int, int]]) -> tuple[float | None, float | None]:
    """Return Cohen's kappa and Krippendorff's alpha of pairs of categories; ``None`` if undefined.

    Example:
        >>> agreement_of(Counter({(1, 1): 20, (1, 2): 5, (2, 1): 10, (2, 2): 15}))
        (0.4, 0.4)
    """
    counted = {pair: count for pair, count in pairs.items() if all(pair)}
    count = sum(counted.values())
    ours, theirs = Counter[int](), Counter[int]()
    for (a, b), each in counted.items():
        ours[a] += each
        theirs[b] += each
    if len(ours | theirs) < 2:
        return None, None
    agreed = sum(each for (a, b), each in counted.items() if a == b)
    expected = sum(ours[label] * theirs[label] for label in ours) / count
    kappa = (agreed - expected) / (count - expected)
    both = ours + theirs
    disagreement = (2 * count) ** 2 - sum(each * each for each in both.values())
    return kappa, 1 - 2 * (count - agreed) * (2 * count - 1) / disagreement


def _kind(a: Shape, b: Shape, are_results: bool) -> str:
    """Return the kind of change between two annotations of one category."""
    one, other = a.annotation, b.annotation
    if a.box != b.box and not all(abs(x - y) <= NEAR for x, y in zip(a.box, b.box, strict=True)):
        is_moved = all(abs(x - y) <= 2 * NEAR for x, y in zip(a.box[2:], b.box[2:], strict=True))
        return MOVED if is_moved else RESHAPED
    # If the image was scaled, only the box is compared.
    for name in ("segmentation", "keypoints"):
        ours, theirs = one.get(name) or None, other.get(name) or None
        if ours != theirs and not (are_results and (ours is None or theirs is None)) and not _near(ours, theirs):
            return RESHAPED
    if are_results:
        return SAME
    return SAME if _attributes(one) == _attributes(other) else ATTRIBUTES


def _near(one: Any, other: Any) -> bool:
    """Return whether two segmentations or lists of keypoints are equal up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        with contextlib.suppress(ValueError):
            return masks.runs(one) == masks.runs(other)
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(one - other) <= NEAR
    return bool(one == other)


def _attributes(annotation: dict[str, Any]) -> dict[str, Any]:
    """Return the non-empty fields that are neither shape nor reference."""
    own = {name: annotation[name] for name in _attribute_names(tuple(annotation))}
    if isinstance(own.get("attributes"), dict):
        # A merge changes the track IDs of CVAT.
        inner = {name for name, _ in references(tuple(own["attributes"])).others}
        own["attributes"] = {name: value for name, value in own["attributes"].items() if name not in inner}
    return {name: value for name, value in own.items() if value not in (None, [], {})}


@functools.lru_cache(maxsize=256)
def _attribute_names(members: tuple[str, ...]) -> tuple[str, ...]:
    found = references(members)
    left_out = {name for name, _ in (*found.needed, *found.others)}.union(found.unknown, _OWN)
    return tuple(name for name in members if name not in left_out)


def _scaled(polygons: list[Any], factors: tuple[float, float]) -> list[Any]:
    """Return scaled polygons; other values are unchanged."""
    return [
        [value * factor for value, factor in zip(each, itertools.cycle(factors), strict=False)]
        if masks.is_polygon(each)
        else each
        for each in polygons
    ]
