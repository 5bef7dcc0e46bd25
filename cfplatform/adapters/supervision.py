"""Adapter for supervision (extra ``supervision``)."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..coco.documents import Document, PathLike, Source, with_plain_values
from ..coco.placing import Point, Size
from ..coco.samples import samples_of
from ..exceptions import ConfigurationError
from . import labels

# supervision is large, so it may be missing during type checks.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
try:
    import numpy as np
    import supervision as sv

    from .opening import header_of, opened
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.supervision needs supervision ({error}): pip install 'cfplatform[supervision]'"
    ) from error

__all__ = ["to_detections", "to_dataset"]

#: The data field of supervision for the corners of rotated boxes.
_CORNERS = "xyxyxyxy"


def to_detections(
    document: Document | Mapping[str, Any],
    classes: Iterable[str],
    *,
    masks: bool = False,
    image_size: tuple[int, int] | None = None,
) -> sv.Detections:
    """Return the labels of the image of a document as detections.

    ``data`` has ``class_name``, ``area`` and ``iscrowd``, and ``xyxyxyxy`` with the corners of all boxes if any box is
    rotated (``attributes.rotation``); ``xyxy`` has the upright box around it. Annotations are skipped if their box is
    empty, their class is not in ``classes``, or, with ``masks``, they have no mask of the size in the document.

    Args:
        document: The document.
        classes: Class names in the order of their IDs, from 0.
        masks: Whether to include masks.
        image_size: Width and height of the image, to scale labels to. Defaults to the size in the document.

    Raises:
        InvalidResponseError: If the document does not have exactly one image.

    Example:
        >>> from cfplatform.adapters.supervision import to_detections
        >>> item = next(client.get_work_items())
        >>> detections = to_detections(item.load(), ["ellipse", "rectangle", "star", "triangle"], masks=True)
        >>> detections.mask.shape[1:], len(detections) == len(detections.class_id)
        ((240, 320), True)
    """
    document = with_plain_values(document)
    size = image_size or labels.image_size(document)
    found = labels.labels_of(document, labels.checked_classes(classes), masks=masks, size=size)
    pixels: Any = None
    if masks:
        pixels = np.zeros((len(found), size[1], size[0]), dtype=bool)
        for row, label in zip(pixels, found, strict=True):
            row[:] = label.mask
    detections = sv.Detections(
        xyxy=np.array([label.corners for label in found], dtype=np.float32).reshape(-1, 4),
        mask=pixels,
        class_id=np.array([label.number for label in found], dtype=int),
        data={
            "class_name": np.array([label.name for label in found], dtype=str),
            "area": np.array([label.area for label in found], dtype=np.float64),
            "iscrowd": np.array([label.crowd for label in found], dtype=bool),
        },
    )
    if any(label.rotated for label in found):
        _add_corners(detections, [label.rotated for label in found])
    return detections


def _add_corners(detections: sv.Detections, rotated: list[list[Point] | None]) -> None:
    """Add the corners of boxes, clockwise; those of an upright box start at the upper left."""
    corners = np.asarray(detections.xyxy)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    for row, each in zip(corners, rotated, strict=True):
        if each is not None:
            row[:] = each
    detections.data[_CORNERS] = corners


def to_dataset(
    source: Source,
    *,
    images_from: PathLike | None = None,
    classes: Iterable[str] | None = None,
    masks: bool = False,
    skip_missing: bool = False,
) -> sv.DetectionDataset:
    """Return labels and images as a dataset, to split, draw, or write in other formats.

    Images are opened on access; the detections of all images are in memory, as supervision requires. supervision opens
    and copies image files itself. Images that it would open differently from :func:`cfplatform.viz.draw` (transparent,
    16-bit, annotated without their EXIF orientation, GIF or TIFF) are replaced by PNG copies in a temporary folder,
    which is removed when the program ends.

    Args:
        source: A folder downloaded with ``assets=True``, a merged dataset, or any other source of
            :func:`cfplatform.coco.read`.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        classes: Class names in the order of their IDs. Defaults to the classes of all documents, sorted by name.
        masks: Whether to include masks.
        skip_missing: Skip images without a file instead of raising.

    Raises:
        InvalidParameterError: If the source is not valid, or an image has no file.
        InvalidResponseError: If a document or the header of an image cannot be read, or a document does not have
            exactly one image.

    Example:
        >>> from cfplatform.adapters.supervision import to_dataset
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> train, test = to_dataset("labels").split(split_ratio=0.8, random_state=1)
        >>> len(train), len(test), train.classes
        (16, 4, ['ellipse', 'rectangle', 'star', 'triangle'])
    """
    samples = samples_of(source, images_from=images_from, skip_missing=skip_missing)
    names = labels.checked_classes(classes, samples)
    detections: dict[str, sv.Detections] = {}
    for document in samples:
        path, size = _image(document, detections)
        detections[path] = to_detections(document, names, masks=masks, image_size=size)
    if any(_CORNERS in each.data for each in detections.values()):
        # supervision requires the same data fields in all detections of a dataset.
        for each in detections.values():
            if _CORNERS not in each.data:
                _add_corners(each, [None] * len(each))
    return sv.DetectionDataset(classes=list(names), images=list(detections), annotations=detections)


def _image(document: Document, taken: Collection[str]) -> tuple[str, Size]:
    """Return the path and size of an image that supervision opens like ``draw``: the file, or a copy."""
    path, header = str(document.asset), header_of(document)
    if header.is_shown_alike(labels.image_of(document)) and path not in taken:
        return path, header.upright
    image, name = opened(document), Path(path).stem
    # supervision cannot write two images with the same name, or list a file twice.
    name = f"{name}-{len(taken)}" if path in taken else name
    copy = str(Path(tempfile.mkdtemp(dir=_copies().name), f"{name}.png"))
    image.save(copy, compress_level=1)
    return copy, image.size


@functools.cache
def _copies() -> tempfile.TemporaryDirectory[str]:
    """Return the folder for copies, which is removed when the program ends."""
    return tempfile.TemporaryDirectory(prefix="cfplatform-images-")
