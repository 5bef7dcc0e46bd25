"""Findings: what is wrong with a document and where, and the codes that any function reports."""

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
        meaning: What is wrong, as in the documentation.
    """

    severity: str
    meaning: str


#: Every code that :func:`~cfplatform.coco.validate`, :func:`~cfplatform.coco.merge`,
#: :func:`~cfplatform.coco.split` or :func:`~cfplatform.coco.compare` can report.
CODES = {
    "unreadable": Meaning(ERROR, "The file is not a complete JSON object in UTF-8."),
    # Sections and their entries
    "missing-section": Meaning(
        ERROR, "There are no ``images``, no ``annotations``, or no ``categories`` although annotations use them."
    ),
    "wrong-type": Meaning(ERROR, "A section is not a list, or an entry or ``info`` is not an object."),
    "not-json": Meaning(ERROR, "A value of a stream is not valid JSON, or is nested too deeply."),
    "missing-id": Meaning(ERROR, "An entry has no ``id`` that is a number or a string."),
    "odd-id": Meaning(
        WARNING, "IDs of a section are strings or fractions, which some tools refuse; reported once for a section."
    ),
    "duplicate-image-id": Meaning(ERROR, "An image has the id of an earlier one."),
    "duplicate-annotation-id": Meaning(ERROR, "An annotation has the id of an earlier one."),
    "duplicate-category-id": Meaning(ERROR, "A category has the id of an earlier one."),
    "duplicate-license-id": Meaning(ERROR, "A license has the id of an earlier one, which is used."),
    # Images
    "missing-size": Meaning(ERROR, "An image has no ``width`` or no ``height``."),
    "bad-size": Meaning(ERROR, "The width or height of an image is not a positive integer."),
    "missing-file-name": Meaning(ERROR, "An image has no ``file_name``."),
    "odd-file-name": Meaning(WARNING, "The ``file_name`` has backslashes, is absolute, or leads out of the folder."),
    "duplicate-file-name": Meaning(ERROR, "An image has the ``file_name`` of an earlier one; tools lose one of them."),
    "missing-image": Meaning(
        ERROR, "There is no file for an image, but for others of the document, or the folder of images was named."
    ),
    "bad-image": Meaning(
        ERROR, "The file of an image is empty, broken in its header, too large, or in a format that is not opened."
    ),
    "size-mismatch": Meaning(ERROR, "The file of an image has another size; annotations are scaled to the file."),
    # Categories
    "missing-category-name": Meaning(ERROR, "A category has no ``name``."),
    "duplicate-category-name": Meaning(WARNING, "A category has the name of an earlier one."),
    "category-spelling": Meaning(
        WARNING, "Two names differ only by case, spaces or Unicode form; tools take them for two categories."
    ),
    "bad-keypoint-names": Meaning(ERROR, "The ``keypoints`` of a category are not a list of names."),
    "bad-skeleton": Meaning(ERROR, "The ``skeleton`` is not a list of pairs of keypoints, which are counted from 1."),
    # Annotations
    "dangling-image-id": Meaning(ERROR, "There is no image with this ``image_id``, or the annotation has none."),
    "dangling-category-id": Meaning(
        ERROR, "There is no category with this ``category_id``, or the annotation has none."
    ),
    "duplicate-annotation": Meaning(WARNING, "Image, category and box are those of an earlier annotation."),
    "no-shape": Meaning(WARNING, "An annotation has no box, segmentation, keypoints, caption or segments."),
    "no-box": Meaning(ERROR, "There is a segmentation or keypoints, but no ``bbox``; detectors drop the annotation."),
    "rotated-box": Meaning(WARNING, "The box has a ``rotation``; tools that do not know it draw the box upright."),
    "not-finite": Meaning(ERROR, "A number is NaN, infinite, or beyond 10 to the power of 15."),
    "bad-crowd": Meaning(WARNING, "``iscrowd`` is neither 0 nor 1."),
    "bad-caption": Meaning(WARNING, "The ``caption`` is empty or not a string."),
    # Boxes
    "bad-box": Meaning(ERROR, "The ``bbox`` is not a list of four numbers."),
    "empty-box": Meaning(ERROR, "The width or height of the box is zero or less."),
    "tiny-box": Meaning(ERROR, "The width or height of the box is below a pixel; detectors drop the annotation."),
    "box-outside": Meaning(ERROR, "The box is outside of the image."),
    "box-over-edge": Meaning(WARNING, "The box extends more than a pixel beyond the image."),
    "box-mismatch": Meaning(WARNING, "The box and the segmentation have different positions or sizes."),
    # Polygons
    "bad-segmentation": Meaning(ERROR, "The ``segmentation`` is neither a list of polygons nor a mask."),
    "empty-segmentation": Meaning(
        WARNING, "The ``segmentation`` is empty, but ``iscrowd`` or the ``area`` implies one."
    ),
    "bad-polygon": Meaning(ERROR, "A polygon is not a list of pairs of numbers."),
    "short-polygon": Meaning(ERROR, "A polygon has fewer than three points."),
    "flat-polygon": Meaning(WARNING, "The area of a polygon is zero."),
    "polygon-outside": Meaning(ERROR, "A polygon is outside of the image."),
    "polygon-over-edge": Meaning(WARNING, "A polygon extends more than a pixel beyond the image."),
    "crowd-polygons": Meaning(WARNING, "A crowd has polygons; COCO expects a mask."),
    # Masks
    "bad-mask": Meaning(ERROR, "The run lengths of a mask cannot be read, or do not match its size."),
    "mask-size": Meaning(ERROR, "The size of a mask is not that of the image."),
    "empty-mask": Meaning(WARNING, "A mask has no pixels."),
    # Areas
    "missing-area": Meaning(WARNING, "The ``area`` is missing, which COCO's evaluation needs."),
    "bad-area": Meaning(ERROR, "The ``area`` is not a number of zero or more."),
    "zero-area": Meaning(ERROR, "The ``area`` is zero; detectors drop the annotation."),
    "tiny-area": Meaning(WARNING, "The ``area`` is below a pixel."),
    "area-mismatch": Meaning(WARNING, "The ``area`` does not match the segmentation, or is larger than the box."),
    # Keypoints
    "bad-keypoints": Meaning(ERROR, "The ``keypoints`` are not a list of x, y and visibility in turn."),
    "keypoints-of-category": Meaning(ERROR, "The number of keypoints is not that of the category."),
    "bad-visibility": Meaning(WARNING, "The visibility of a keypoint is not 0, 1 or 2."),
    "keypoint-outside": Meaning(WARNING, "A labelled keypoint is more than a pixel outside of the image."),
    "num-keypoints": Meaning(WARNING, "``num_keypoints`` is not the number of keypoints whose visibility is above 0."),
    # Merging and splitting
    "batch-without-part": Meaning(ERROR, "A batch is in no part of a split; its items are left out."),
    "unknown-batch": Meaning(ERROR, "A part of a split names a batch that the source does not have."),
    "no-group": Meaning(WARNING, "An item has no group, so a split makes it a group of its own."),
    "unknown-item": Meaning(WARNING, "The groups of a split name an item that the source does not have."),
    "unknown-part": Meaning(WARNING, "A part of the earlier split is none of the new one; its items move."),
    "empty-part": Meaning(WARNING, "No group is in a part of a split."),
    "class-in-one-group": Meaning(WARNING, "A class is in one group only, so only one part of a split has it."),
    "unknown-metadata": Meaning(WARNING, "No work item has the metadata that a merge was to copy."),
    "category-supercategory": Meaning(WARNING, "A name has two supercategories; they stay separate categories."),
    "category-differs": Meaning(
        WARNING, "The keypoints, skeleton or ``isthing`` of a category differ; they stay separate categories."
    ),
    "category-members": Meaning(WARNING, "Another member of a category differs, such as a color; the first is kept."),
    "license-members": Meaning(WARNING, "A member of a license differs; the first is kept."),
    "duplicate-license-name": Meaning(WARNING, "A document has a license under two ids; they become one."),
    "dangling-license-id": Meaning(WARNING, "The license of an image does not exist; the image is kept without one."),
    "dangling-reference": Meaning(
        WARNING,
        "Another member refers to an image or a category that does not exist, or is in another part; the reference is "
        "left out.",
    ),
    "member-left-out": Meaning(
        WARNING,
        "A member that is not part of COCO differs between documents, or may refer to ids that changed; it is left "
        "out.",
    ),
    # Converting
    "crowd-left-out": Meaning(WARNING, "The format has no crowds; they are left out."),
    "outside-left-out": Meaning(WARNING, "A shape is outside of the image; the annotation is left out."),
    "no-row": Meaning(
        WARNING, "An annotation has no valid box or shape that the format has, such as a caption; it is left out."
    ),
    "no-keypoints": Meaning(
        WARNING, "An annotation has no keypoints, or not as many as its category; it is left out of poses."
    ),
    "clipped": Meaning(WARNING, "A shape extends more than a pixel beyond the image; it is clipped."),
    "box-as-polygon": Meaning(WARNING, "An annotation has a box only; its corners become a polygon."),
    "parts-bridged": Meaning(WARNING, "An object has several parts; bridges without an area make them one polygon."),
    "hole-bridged": Meaning(WARNING, "An object has holes; bridges without an area make them part of the outline."),
    "segmentation-left-out": Meaning(WARNING, "The format, or the task, has boxes only; segmentations are left out."),
    "keypoints-left-out": Meaning(WARNING, "The format, or the task, has no keypoints; they are left out."),
    "rotation-left-out": Meaning(
        WARNING, "The format, or the task, has no turned boxes; the upright box around it is written."
    ),
    "no-image": Meaning(WARNING, "There is no file for an image, so it is not in the output."),
    "image-format": Meaning(WARNING, "The content of an image is of no format that tools for training read."),
    "turned-image": Meaning(
        WARNING,
        "An image was annotated as it is stored, but YOLO turns it upright by its EXIF orientation; it is left out.",
    ),
    "no-part": Meaning(WARNING, "A dataset of YOLO has no part for training or validation, or no images in it."),
    "no-flip": Meaning(WARNING, "The names of keypoints do not say left and right, so images cannot be mirrored."),
    "bad-row": Meaning(ERROR, "A row of a label file of YOLO cannot be read; it is left out."),
    # Comparing
    "size-differs": Meaning(
        WARNING, "An image has another size in the second set; its annotations are scaled to that of the first."
    ),
}


@dataclass(frozen=True)
class Finding(Tabular):
    """An error or a warning about one document.

    Attributes:
        code: One of the keys of ``coco.CODES``.
        severity: "error" if tools fail or learn something false, "warning" if it is only unusual.
        message: What is wrong, as a sentence.
        item_id: The work item, if known.
        batch: The folder of the batch, or its ID if the document came from a stream.
        path: The file, if there is one.
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
        """The file, or else the work item or the batch, and the position in it.

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
    """An error or a warning before its document is known; the fields are those of :class:`Finding`."""

    code: str
    message: str
    pointer: str = ""
    annotation_id: Any = None


def dangling(
    kind: str, owner: dict[str, Any], pointer: str = "", annotation_id: Any = None, similar: Key | None = None
) -> Problem:
    """Return the problem of an object whose image or category does not exist, but maybe one with a ``similar`` ID."""
    name = f"{kind}_id"
    if name not in owner:
        return Problem(f"dangling-{kind}-id", f"There is no {name}.", pointer, annotation_id)
    hint = "" if similar is None else f", only {shown(similar)}: text and numbers are different ids"
    message = f"There is no {kind} {shown(owner[name])}{hint}."
    return Problem(f"dangling-{kind}-id", message, f"{pointer}/{name}", annotation_id)


def shown(value: Any) -> str:
    """Return a value as a message shows it, always short."""
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


class Firsts:
    """The first problem of each code, which says how many more there are: one entry can have a million.

    Example:
        >>> problems = Firsts(Problem("bad-polygon", f"Polygon {number} is odd.") for number in range(3))
        >>> [each.message for each in problems]
        ['Polygon 0 is odd; 2 more are like it.']
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
            yield first._replace(message=f"{first.message[:-1]}; {more:,} more are like it.") if more else first


@dataclass
class FindingGroup:
    """The findings of one code.

    Attributes:
        code: The code.
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
        limit: How many findings of each code to keep; all are counted.

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
        """Count a finding. Those of one document must come one after the other."""
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
