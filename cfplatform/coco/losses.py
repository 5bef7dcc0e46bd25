"""What a format cannot hold: counted, and reported for each image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .documents import Document, finding_about
from .findings import Finding, Problem, shown

#: What happened to annotations of an image, by the code of the finding.
_MESSAGES = {
    "crowd-left-out": "are crowds, which the format does not have; they are left out",
    "no-row": "have no valid box or shape that the format has; they are left out",
    "no-keypoints": "have no keypoints, or not as many as their category; they are left out",
    "outside-left-out": "are outside of the image; they are left out",
    "clipped": "extend beyond the image; they are clipped",
    "keypoint-outside": "have a keypoint outside of the image; it becomes one that is not labelled",
    "box-as-polygon": "have a box only; its corners become the polygon",
    "parts-bridged": "have several parts; they become one polygon",
    "hole-bridged": "have holes; they are connected with the outline",
    "segmentation-left-out": "lose their segmentation, which the format does not have",
    "keypoints-left-out": "lose their keypoints, which the format does not have",
    "rotation-left-out": "lose the rotation of their box, which the format does not have",
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
                message = f"{len(own):,} annotations of {shown(name)} {_MESSAGES[code]}."
                self._report(finding_about(document, Problem(code, message, "", own[0])))
            self._found = {}

    def add_image(self, code: str, document: Document, message: str) -> None:
        """Count and report an image, or another thing."""
        self._total[code] = self._total.get(code, 0) + 1
        self._report(finding_about(document, Problem(code, message)))
