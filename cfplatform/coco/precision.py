"""Average precision as in pycocotools: 101 recall points, IoU from 0.50 to 0.95, 100 detections per image."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

#: IoU thresholds and recall points.
THRESHOLDS = [0.5 + step * ((0.95 - 0.5) / 9) for step in range(9)] + [0.95]
_RECALLS = [step * 0.01 for step in range(100)] + [1.0]
#: Maximum number of detections per image and category.
MAX_DETECTIONS = 100
_ALL = (1 << len(THRESHOLDS)) - 1


class _OfClass:
    """The detections of a category, in a few bytes each."""

    def __init__(self) -> None:
        self.objects = 0
        self.scores = array("d")
        # One bit for each threshold: whether the detection is correct, and whether it is inside a crowd.
        self.right = array("H")
        self.ignored = array("H")
        self.images = array("I")


class Precision(NamedTuple):
    """The average precision over all thresholds, and at an IoU of 0.5."""

    ap: float
    ap50: float


class PrecisionBuilder:
    """Collects detections image by image."""

    def __init__(self) -> None:
        self._classes: dict[int, _OfClass] = {}
        self._ids: list[float] = []

    def start(self, image_id: object) -> None:
        """Begin an image; image IDs decide the order of equal scores, as in pycocotools."""
        is_number = isinstance(image_id, (int, float)) and not isinstance(image_id, bool)
        self._ids.append(float(image_id) if is_number else float(len(self._ids)))  # type: ignore[arg-type]

    def add(
        self,
        label: int,
        objects: int,
        scores: Sequence[float],
        candidates: Mapping[int, Sequence[tuple[int, float]]],
        crowds: Mapping[int, Sequence[float]],
    ) -> None:
        """Add the objects and detections of one category in the image.

        Args:
            label: The number of the category.
            objects: The number of objects, without crowds.
            scores: The score of each detection.
            candidates: For each position of a detection, the objects with an IoU of at least 0.5, in order.
            crowds: For each position of a detection, the fractions of its area inside crowds.
        """
        own = self._classes.setdefault(label, _OfClass())
        own.objects += objects
        order = sorted(range(len(scores)), key=lambda place: -scores[place])[:MAX_DETECTIONS]
        rivals: dict[int, int] = {}
        for place in order:
            for number, _ in candidates.get(place, ()):
                rivals[number] = rivals.get(number, 0) + 1
        taken: dict[int, int] = {}
        image = len(self._ids) - 1
        for place in order:
            of_detection = candidates.get(place, ())
            right = 0
            if len(of_detection) == 1 and rivals[of_detection[0][0]] == 1:
                right = (1 << bisect_right(THRESHOLDS, of_detection[0][1])) - 1
            elif of_detection:
                right = _taken(of_detection, taken)
            ignored = 0
            for share in crowds.get(place, ()):
                ignored |= (1 << bisect_right(THRESHOLDS, share)) - 1
            own.scores.append(scores[place])
            own.right.append(right)
            own.ignored.append(ignored & ~right & _ALL)
            own.images.append(image)

    def result(self) -> dict[int, Precision]:
        """Return the average precision of each category that has objects."""
        ranks = sorted(range(len(self._ids)), key=self._ids.__getitem__)
        rank = array("I", bytes(4 * len(ranks)))
        for place, image in enumerate(ranks):
            rank[image] = place
        return {label: _precision(own, rank) for label, own in self._classes.items() if own.objects}


def _taken(candidates: Sequence[tuple[int, float]], taken: dict[int, int]) -> int:
    """Take the best remaining object at each threshold; return the thresholds with a match."""
    right = 0
    for step, threshold in enumerate(THRESHOLDS):
        bit, best, found = 1 << step, min(threshold, 1 - 1e-10), None
        for number, iou in candidates:
            # If several are equal, the last one wins.
            if iou >= best and not taken.get(number, 0) & bit:
                best, found = iou, number
        if found is not None:
            right |= bit
            taken[found] = taken.get(found, 0) | bit
    return right


def _precision(own: _OfClass, rank: Sequence[int]) -> Precision:
    scores, images = own.scores, own.images
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], rank[images[place]]))
    right, ignored = [own.right[place] for place in order], [own.ignored[place] for place in order]
    found = []
    for step in range(len(THRESHOLDS)):
        bit = 1 << step
        hits = [each & bit > 0 for each, inside in zip(right, ignored, strict=True) if not inside & bit]
        sums = list(accumulate(hits))
        precisions = [count / (place + sys.float_info.epsilon) for place, count in enumerate(sums, 1)]
        for place in range(len(precisions) - 1, 0, -1):
            if precisions[place] > precisions[place - 1]:
                precisions[place - 1] = precisions[place]
        recalls = [count / own.objects for count in sums]
        places = (bisect_left(recalls, recall) for recall in _RECALLS)
        found.append(sum(precisions[place] for place in places if place < len(precisions)) / len(_RECALLS))
    return Precision(sum(found) / len(found), found[0])
