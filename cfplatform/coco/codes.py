"""What can be wrong with a document: the codes of all findings, with their severity and meaning."""

from __future__ import annotations

from typing import NamedTuple

ERROR, WARNING = "error", "warning"


class Meaning(NamedTuple):
    """What a code says.

    Attributes:
        severity: "error" or "warning".
        meaning: What is wrong, as the documentation tells it.
    """

    severity: str
    meaning: str


#: Each code that :func:`~cfplatform.coco.validate` can report.
CODES = {
    "unreadable": Meaning(ERROR, "The file is not one whole JSON object in UTF-8."),
    # Sections and their entries
    "missing-section": Meaning(
        ERROR, "There are no ``images``, no ``annotations``, or no ``categories`` though they are used."
    ),
    "wrong-type": Meaning(ERROR, "A section is no list, or an entry is no object."),
    "missing-id": Meaning(ERROR, "An entry has no ``id`` that is a number or a text."),
    "odd-id": Meaning(
        WARNING, "Ids of a section are texts or fractions, which some tools do not take; told once for a section."
    ),
    "duplicate-image-id": Meaning(ERROR, "An image has the id of an earlier one."),
    "duplicate-annotation-id": Meaning(ERROR, "An annotation has the id of an earlier one."),
    "duplicate-category-id": Meaning(ERROR, "A category has the id of an earlier one."),
    # Images
    "missing-size": Meaning(ERROR, "An image has no ``width`` or no ``height``."),
    "bad-size": Meaning(ERROR, "The width or height of an image is not a whole number above zero."),
    "missing-file-name": Meaning(ERROR, "An image has no ``file_name``."),
    # Categories
    "missing-category-name": Meaning(ERROR, "A category has no ``name``."),
    "duplicate-category-name": Meaning(WARNING, "A category has the name of an earlier one."),
    # Annotations
    "dangling-image-id": Meaning(ERROR, "The ``image_id`` is that of no image, or there is none."),
    "dangling-category-id": Meaning(ERROR, "The ``category_id`` is that of no category, or there is none."),
    "duplicate-annotation": Meaning(WARNING, "Image, category and box are those of an earlier annotation."),
    "no-shape": Meaning(WARNING, "An annotation has neither box, segmentation, keypoints, caption nor segments."),
    "not-finite": Meaning(ERROR, "A number is NaN, infinite, or beyond 10 to the power of 15."),
    "bad-crowd": Meaning(WARNING, "``iscrowd`` is neither 0 nor 1."),
    "bad-caption": Meaning(WARNING, "The ``caption`` is empty or no text."),
    # Boxes
    "bad-box": Meaning(ERROR, "The ``bbox`` is not a list of four numbers."),
    "empty-box": Meaning(ERROR, "The width or height of the box is zero or less."),
    "box-outside": Meaning(ERROR, "Nothing of the box lies in the picture."),
    "box-over-edge": Meaning(WARNING, "The box reaches more than a pixel beyond the picture."),
    "box-mismatch": Meaning(WARNING, "The box and the segmentation are in different places, or of different sizes."),
    # Polygons
    "bad-segmentation": Meaning(ERROR, "The ``segmentation`` is neither a list of polygons nor a mask."),
    "empty-segmentation": Meaning(
        WARNING, "It is empty, but ``iscrowd`` or the ``area`` says that there was something."
    ),
    "bad-polygon": Meaning(ERROR, "A polygon is not a list of pairs of numbers."),
    "short-polygon": Meaning(ERROR, "A polygon has fewer than three points."),
    "flat-polygon": Meaning(WARNING, "The area of a polygon is zero."),
    "polygon-outside": Meaning(ERROR, "Nothing of a polygon lies in the picture."),
    "polygon-over-edge": Meaning(WARNING, "A polygon reaches more than a pixel beyond the picture."),
    "crowd-polygons": Meaning(WARNING, "A crowd has polygons, where COCO wants a mask."),
    # Masks
    "bad-mask": Meaning(ERROR, "The run lengths of a mask cannot be read, or are not those of its size."),
    "mask-size": Meaning(ERROR, "The size of a mask is not that of the picture."),
    "empty-mask": Meaning(WARNING, "A mask has no pixel."),
    # Areas
    "missing-area": Meaning(WARNING, "There is no ``area``, which COCO's evaluation needs."),
    "bad-area": Meaning(ERROR, "The ``area`` is not a number of zero or more."),
    "area-mismatch": Meaning(WARNING, "The ``area`` is not that of the segmentation, or is more than that of the box."),
    # Keypoints
    "bad-keypoints": Meaning(ERROR, "The ``keypoints`` are not a list of x, y and visibility in turn."),
    "keypoints-of-category": Meaning(ERROR, "There are more or fewer keypoints than the category names."),
    "bad-visibility": Meaning(WARNING, "The visibility of a keypoint is not 0, 1 or 2."),
    "keypoint-outside": Meaning(WARNING, "A labelled keypoint lies more than a pixel outside of the picture."),
    "num-keypoints": Meaning(WARNING, "``num_keypoints`` is not the number of keypoints whose visibility is above 0."),
}
