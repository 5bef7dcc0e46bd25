"""What a format cannot hold: counted, and reported for each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .documents import Document, finding_about
from .findings import Finding, Problem, shown

#: What happened to annotations of an image, by the code of the finding.
_MESSAGES = {
    "crowd-left-out": "Crowds are left out, because the format has none",
    "no-row": "Annotations without a valid box or shape that the format has are left out",
    "no-keypoints": "Annotations without keypoints, or with another number than their category, are left out",
    "outside-left-out": "Annotations outside of the image are left out",
    "clipped": "Shapes beyond the image are clipped",
    "keypoint-outside": "Keypoints outside of the image become ones that are not labelled",
    "box-as-polygon": "Boxes without a segmentation become polygons of their corners",
    "parts-bridged": "Several parts of an object become one polygon",
    "hole-bridged": "Holes are connected with the outline",
    "segmentation-left-out": "Segmentations are left out, because the format or the task has none",
    "keypoints-left-out": "Keypoints are left out, because the format or the task has none",
    "rotation-left-out": "Turned boxes become the upright ones around them",
}


class Losses:
    """Counts what is lost, and reports it once for each image."""

    def __init__(self, total: dict[str, int], report: Callable[[Finding], Any]) -> None:
        self._total = total
        self._report = report
        self._found: dict[str, list[Any]] = {}

    def add(self, code: str, annotation: dict[str, Any]) -> None:
        """Count an annotation of the present image."""
        self._found.setdefault(code, []).append(annotation.get("id"))

    def report(self, document: Document, name: object) -> None:
        """Report what was counted, for an image with this name."""
        if self._found:
            for code, own in self._found.items():
                self._total[code] = self._total.get(code, 0) + len(own)
                message = f"{_MESSAGES[code]}: {len(own):,} of the image {shown(name)}."
                self._report(finding_about(document, Problem(code, message, "", own[0])))
            self._found = {}

    def add_image(self, code: str, document: Document, message: str) -> None:
        """Count and report an image, or another thing."""
        self._total[code] = self._total.get(code, 0) + 1
        self._report(finding_about(document, Problem(code, message)))
