"""Counts and reports annotations that the output format cannot represent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .documents import Document, finding_about
from .findings import Finding, Problem, shown

#: The message for each code.
_MESSAGES = {
    "crowd-left-out": "Crowds are dropped, because the format has none",
    "no-row": "Annotations without a shape that the format supports are dropped",
    "no-keypoints": "Annotations without keypoints, or not as many as their category, are dropped",
    "outside-left-out": "Annotations outside the image are dropped",
    "clipped": "Shapes beyond the image are clipped",
    "keypoint-outside": "Keypoints outside the image become unlabeled",
    "box-as-polygon": "Boxes without a segmentation become polygons",
    "parts-bridged": "Several parts of an object become one polygon",
    "hole-bridged": "Holes are connected with the outline",
    "segmentation-left-out": "Segmentations are dropped, because the format or task has none",
    "keypoints-left-out": "Keypoints are dropped, because the format or task has none",
    "rotation-left-out": "Rotated boxes become the upright boxes around them",
}


class Losses:
    """Counts losses, and reports them once for each image."""

    def __init__(self, total: dict[str, int], report: Callable[[Finding], Any]) -> None:
        self._total = total
        self._report = report
        self._found: dict[str, list[Any]] = {}

    def add(self, code: str, annotation: dict[str, Any]) -> None:
        """Count an annotation of the current image."""
        self._found.setdefault(code, []).append(annotation.get("id"))

    def report(self, document: Document, name: object) -> None:
        """Report the losses of an image with this name."""
        if self._found:
            for code, own in self._found.items():
                self._total[code] = self._total.get(code, 0) + len(own)
                message = f"{_MESSAGES[code]}: {len(own):,} in the image {shown(name)}."
                self._report(finding_about(document, Problem(code, message, "", own[0])))
            self._found = {}

    def add_image(self, code: str, document: Document, message: str) -> None:
        """Count and report a loss that is not about an annotation."""
        self._total[code] = self._total.get(code, 0) + 1
        self._report(finding_about(document, Problem(code, message)))
