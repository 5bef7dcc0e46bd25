"""Findings: the errors and warnings about documents, and their codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..resources.base import Tabular
from .values import Foreign, Key

ERROR, WARNING = "error", "warning"
#: Maximum characters of a string, and digits of a number, in a message.
_SHOWN = 40


class Meaning(NamedTuple):
    """The meaning of a code.

    Attributes:
        severity: "error" or "warning".
        meaning: The problem, as in the documentation.
    """

    severity: str
    meaning: str


#: Every code that :func:`~cfplatform.coco.validate`, :func:`~cfplatform.coco.merge`,
#: :func:`~cfplatform.coco.split` or :func:`~cfplatform.coco.compare` can report.
CODES = {
    "unreadable": Meaning(ERROR, "The file is not a complete JSON object in UTF-8."),
    # Sections and their entries
    "missing-section": Meaning(
        ERROR, "There are no ``images``, no ``annotations``, or no ``categories`` although annotations refer to them."
    ),
    "wrong-type": Meaning(ERROR, "A section is not a list, or an entry or ``info`` is not an object."),
    "not-json": Meaning(
        ERROR, "A value of a document from a stream cannot be written as JSON, or is nested too deeply."
    ),
    "missing-id": Meaning(ERROR, "An entry has no ``id`` that is a number or a string."),
    "odd-id": Meaning(
        WARNING, "IDs of a section are strings or fractions, which some tools reject; reported once per section."
    ),
    "duplicate-image-id": Meaning(ERROR, "An image has the ID of an earlier image."),
    "duplicate-annotation-id": Meaning(ERROR, "An annotation has the ID of an earlier annotation."),
    "duplicate-category-id": Meaning(ERROR, "A category has the ID of an earlier category."),
    "duplicate-license-id": Meaning(ERROR, "A license has the ID of an earlier license, which is used."),
    # Images
    "missing-size": Meaning(ERROR, "An image has no ``width`` or no ``height``."),
    "bad-size": Meaning(ERROR, "The width or height of an image is not a positive integer."),
    "missing-file-name": Meaning(ERROR, "An image has no ``file_name``."),
    "odd-file-name": Meaning(WARNING, "The ``file_name`` has backslashes, is absolute, or points outside the folder."),
    "duplicate-file-name": Meaning(
        ERROR, "An image has the ``file_name`` of an earlier image; tools lose one of them."
    ),
    "missing-image": Meaning(
        ERROR, "An image has no file, although other images of the document have one or ``images_from`` was given."
    ),
    "bad-image": Meaning(
        ERROR, "The file of an image is empty, too large, has a corrupt header, or has an unsupported format."
    ),
    "size-mismatch": Meaning(ERROR, "The size of an image differs from its file; annotations are scaled to the file."),
    # Categories
    "missing-category-name": Meaning(ERROR, "A category has no ``name``."),
    "duplicate-category-name": Meaning(WARNING, "A category has the name of an earlier category."),
    "category-spelling": Meaning(
        WARNING, "Two names differ only by case, spaces or Unicode form; tools treat them as two categories."
    ),
    "bad-keypoint-names": Meaning(ERROR, "The ``keypoints`` of a category are not a list of names."),
    "bad-skeleton": Meaning(ERROR, "The ``skeleton`` is not a list of pairs of keypoints, which are counted from 1."),
    # Annotations
    "dangling-image-id": Meaning(ERROR, "The ``image_id`` is missing, or no image has it."),
    "dangling-category-id": Meaning(ERROR, "The ``category_id`` is missing, or no category has it."),
    "duplicate-annotation": Meaning(WARNING, "An earlier annotation has the same image, category and box."),
    "no-shape": Meaning(WARNING, "An annotation has no box, segmentation, keypoints, caption or segments."),
    "no-box": Meaning(ERROR, "There is a segmentation or keypoints, but no ``bbox``; detectors drop the annotation."),
    "rotated-box": Meaning(WARNING, "The box has a ``rotation``; tools that do not support it draw the box unrotated."),
    "not-finite": Meaning(ERROR, "A number is NaN, infinite, or above 10^15."),
    "bad-crowd": Meaning(WARNING, "``iscrowd`` is neither 0 nor 1."),
    "bad-caption": Meaning(WARNING, "The ``caption`` is empty or not a string."),
    # Boxes
    "bad-box": Meaning(ERROR, "The ``bbox`` is not a list of four numbers."),
    "empty-box": Meaning(ERROR, "The width or height of the box is zero or less."),
    "tiny-box": Meaning(ERROR, "The width or height of the box is below a pixel; detectors drop the annotation."),
    "box-outside": Meaning(ERROR, "The box is outside the image."),
    "box-over-edge": Meaning(WARNING, "The box extends more than a pixel beyond the image."),
    "box-mismatch": Meaning(WARNING, "The box and the segmentation have different positions or sizes."),
    # Polygons
    "bad-segmentation": Meaning(ERROR, "The ``segmentation`` is neither a list of polygons nor a mask."),
    "empty-segmentation": Meaning(
        WARNING, "The ``segmentation`` is empty, but ``iscrowd`` or the ``area`` suggests that there was one."
    ),
    "bad-polygon": Meaning(ERROR, "A polygon is not a list of pairs of numbers."),
    "short-polygon": Meaning(ERROR, "A polygon has fewer than three points."),
    "flat-polygon": Meaning(WARNING, "The area of a polygon is zero."),
    "polygon-outside": Meaning(ERROR, "A polygon is outside the image."),
    "polygon-over-edge": Meaning(WARNING, "A polygon extends more than a pixel beyond the image."),
    "crowd-polygons": Meaning(WARNING, "A crowd has polygons; COCO expects a mask."),
    # Masks
    "bad-mask": Meaning(ERROR, "The counts of an RLE mask are invalid, or do not match its size."),
    "mask-size": Meaning(ERROR, "The size of a mask differs from that of the image."),
    "empty-mask": Meaning(WARNING, "A mask has no pixels."),
    # Areas
    "missing-area": Meaning(WARNING, "The ``area`` is missing, which COCO's evaluation needs."),
    "bad-area": Meaning(ERROR, "The ``area`` is not a number of zero or more."),
    "zero-area": Meaning(ERROR, "The ``area`` is zero; detectors drop the annotation."),
    "tiny-area": Meaning(WARNING, "The ``area`` is below a pixel."),
    "area-mismatch": Meaning(WARNING, "The ``area`` does not match the segmentation, or is larger than the box."),
    # Keypoints
    "bad-keypoints": Meaning(ERROR, "The ``keypoints`` are not a list of x, y, visibility triples."),
    "keypoints-of-category": Meaning(ERROR, "The number of keypoints differs from that of the category."),
    "bad-visibility": Meaning(WARNING, "The visibility of a keypoint is not 0, 1 or 2."),
    "keypoint-outside": Meaning(WARNING, "A labeled keypoint is more than a pixel outside the image."),
    "num-keypoints": Meaning(WARNING, "``num_keypoints`` is not the number of keypoints whose visibility is above 0."),
    # Merging and splitting
    "batch-without-part": Meaning(ERROR, "A batch is in no part of a split; its items are skipped."),
    "unknown-batch": Meaning(ERROR, "A part of a split lists a batch that is not in the source."),
    "no-group": Meaning(WARNING, "An item has no group, so it becomes its own group."),
    "unknown-item": Meaning(WARNING, "The groups of a split list an item that is not in the source."),
    "unknown-part": Meaning(
        WARNING, "A part of the earlier split is not in the new one; its items are assigned again."
    ),
    "empty-part": Meaning(WARNING, "A part of a split is empty."),
    "class-in-one-group": Meaning(WARNING, "A class is in only one group, so only one part of a split has it."),
    "unknown-metadata": Meaning(WARNING, "No work item has the metadata that a merge should copy."),
    "category-supercategory": Meaning(WARNING, "A name has two supercategories; they are kept as separate categories."),
    "category-differs": Meaning(
        WARNING, "The keypoints, skeleton or ``isthing`` of a category differ; they are kept as separate categories."
    ),
    "category-members": Meaning(
        WARNING, "Another field of a category differs, such as a color; the first value is kept."
    ),
    "license-members": Meaning(WARNING, "A field of a license differs; the first value is kept."),
    "duplicate-license-name": Meaning(WARNING, "A document lists a license under two IDs; they are merged."),
    "dangling-license-id": Meaning(
        WARNING, "The license of an image does not exist; the image is kept without a license."
    ),
    "dangling-reference": Meaning(
        WARNING,
        "Another field refers to an image or category that does not exist or is in another part; the reference is "
        "removed.",
    ),
    "member-left-out": Meaning(
        WARNING,
        "A field that is not part of COCO differs between documents, or may refer to IDs that changed; it is dropped.",
    ),
    # Converting
    "crowd-left-out": Meaning(WARNING, "The format has no crowds; they are dropped."),
    "outside-left-out": Meaning(WARNING, "A shape is outside the image; the annotation is dropped."),
    "no-row": Meaning(
        WARNING, "An annotation has no shape that the format supports, such as a caption; it is dropped."
    ),
    "no-keypoints": Meaning(WARNING, "An annotation has no keypoints, or not as many as its category; it is dropped."),
    "clipped": Meaning(WARNING, "A shape extends more than a pixel beyond the image; it is clipped."),
    "box-as-polygon": Meaning(WARNING, "An annotation has only a box; the box becomes a polygon."),
    "parts-bridged": Meaning(WARNING, "An object has several parts; zero-width bridges join them into one polygon."),
    "hole-bridged": Meaning(WARNING, "An object has holes; zero-width bridges join them with the outline."),
    "segmentation-left-out": Meaning(WARNING, "The format or task has only boxes; segmentations are dropped."),
    "keypoints-left-out": Meaning(WARNING, "The format or task has no keypoints; they are dropped."),
    "rotation-left-out": Meaning(
        WARNING, "The format or task has no rotated boxes; the upright box around each is written."
    ),
    "no-image": Meaning(WARNING, "An image has no file, so it is not in the output."),
    "image-format": Meaning(WARNING, "Training tools may not read the format of an image."),
    "turned-image": Meaning(
        WARNING,
        "An image was annotated as stored, but YOLO applies its EXIF orientation; the image is skipped.",
    ),
    "no-part": Meaning(WARNING, "A YOLO dataset has no part for training or validation, or the part has no images."),
    "no-flip": Meaning(WARNING, "The keypoint names do not contain left and right, so images cannot be flipped."),
    "bad-row": Meaning(ERROR, "A row of a YOLO label file cannot be read; it is skipped."),
    # Comparing
    "size-differs": Meaning(
        WARNING, "An image has different sizes in the two sets; annotations of the second set are scaled."
    ),
}


@dataclass(frozen=True)
class Finding(Tabular):
    """An error or a warning about one document.

    Attributes:
        code: One of the keys of ``coco.CODES``.
        severity: "error" if tools fail or learn from wrong data, "warning" if it is only unusual.
        message: The problem, as a sentence.
        item_id: The work item, if known.
        batch: The folder of the batch, or the batch ID if the document came from a stream.
        path: The file, if any.
        pointer: The position in the document as a JSON pointer (RFC 6901), such as ``/annotations/3/bbox``; empty for
            the document itself.
        annotation_id: The ``id`` of the annotation, as it is in the document.
    """

    code: str
    severity: str
    message: str
    item_id: str | None = None
    batch: str | None = None
    path: str | None = None
    pointer: str = ""
    annotation_id: Any = None

    @property
    def location(self) -> str:
        """The file, or else the work item or the batch, and the position in the document.

        Example:
            >>> Finding("bad-box", "error", "The box is empty.", path="a/1.json", pointer="/annotations/3").location
            'a/1.json /annotations/3'
        """
        return f"{self.path or self.item_id or self.batch or 'document'} {self.pointer}".rstrip()

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain values, ready for JSON."""
        return asdict(self)

    def _cells(self) -> list[tuple[str, Any]]:
        return [
            ("code", self.code),
            ("severity", self.severity),
            ("message", self.message),
            ("location", self.location),
        ]


class Problem(NamedTuple):
    """A finding without its document; the fields are those of :class:`Finding`."""

    code: str
    message: str
    pointer: str = ""
    annotation_id: Any = None


def dangling(
    kind: str, owner: dict[str, Any], pointer: str = "", annotation_id: Any = None, similar: Key | None = None
) -> Problem:
    """Return the problem of an entry whose image or category does not exist; ``similar`` is an ID of another type."""
    name = f"{kind}_id"
    if name not in owner:
        return Problem(f"dangling-{kind}-id", f"The {name} is missing.", pointer, annotation_id)
    hint = "" if similar is None else f", only {shown(similar)}: strings and numbers are different IDs"
    message = f"There is no {kind} {shown(owner[name])}{hint}."
    return Problem(f"dangling-{kind}-id", message, f"{pointer}/{name}", annotation_id)


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…")
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value) if abs(value) < 10**_SHOWN else f"a number of more than {_SHOWN} digits"
    if isinstance(value, Foreign):
        return f"of the type {value.name}"
    return f"{value:.6g}" if isinstance(value, float) else type(value).__name__


class FirstProblems:
    """The first problem of each code, with the number of others: one entry can have a million.

    Example:
        >>> problems = FirstProblems(Problem("bad-polygon", f"Polygon {number} is odd.") for number in range(3))
        >>> [each.message for each in problems]
        ['Polygon 0 is odd (2 more like this).']
    """

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._first: dict[str, Problem] = {}
        self._counts: dict[str, int] = {}
        for each in problems:
            self.add(each)

    def add(self, problem: Problem) -> None:
        """Add a problem."""
        self._first.setdefault(problem.code, problem)
        self._counts[problem.code] = self._counts.get(problem.code, 0) + 1

    def __iter__(self) -> Iterator[Problem]:
        """Yield the problems."""
        for code, first in self._first.items():
            more = self._counts[code] - 1
            yield first._replace(message=f"{first.message[:-1]} ({more:,} more like this).") if more else first


@dataclass
class FindingGroup:
    """The findings of one code.

    Attributes:
        code: One of the keys of ``coco.CODES``.
        severity: "error" or "warning".
        count: The number of findings.
        documents: The number of documents with such a finding.
        first: The first findings.
    """

    code: str
    severity: str
    count: int = 0
    documents: int = 0
    first: list[Finding] = field(default_factory=list)


class FindingGroups:
    """Groups findings by code. Memory grows with the number of codes only.

    Args:
        limit: Maximum number of findings to keep for each code; all are counted.

    Example:
        >>> groups = FindingGroups(limit=1)
        >>> for number in range(3):
        ...     groups.add(Finding("bad-box", "error", f"Box {number} is empty."))
        >>> [(group.code, group.count, len(group.first)) for group in groups.sorted()]
        [('bad-box', 3, 1)]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._groups: dict[str, FindingGroup] = {}
        self._last: dict[str, tuple[str | None, str | None]] = {}

    def add(self, finding: Finding) -> None:
        """Count a finding. Findings of one document must be consecutive."""
        group = self._groups.setdefault(finding.code, FindingGroup(finding.code, finding.severity))
        group.count += 1
        document = finding.path, finding.item_id
        group.documents += self._last.get(finding.code) != document
        self._last[finding.code] = document
        if len(group.first) < self._limit:
            group.first.append(finding)

    def count(self, severity: str) -> int:
        """Return the number of findings with this severity."""
        return sum(group.count for group in self._groups.values() if group.severity == severity)

    def sorted(self) -> list[FindingGroup]:
        """Return the groups: errors first, then the most frequent."""
        return sorted(self._groups.values(), key=lambda group: (group.severity, -group.count, group.code))
