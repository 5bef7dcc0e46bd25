"""Adapter for supervision (extra ``supervision``): detections of a document, and a dataset of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..coco.documents import Document, PathLike, Source
from ..coco.samples import samples_of
from ..exceptions import ConfigurationError
from . import labels

# supervision is large, so it may be missing where types are checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
try:
    import numpy as np
    import supervision as sv
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.supervision needs supervision ({error}): pip install 'cfplatform[supervision]'"
    ) from error

__all__ = ["to_detections", "to_dataset"]


def to_detections(
    document: Document | Mapping[str, Any], classes: Iterable[str], *, masks: bool = False
) -> sv.Detections:
    """Return the labels of the image of a document as detections.

    ``data`` has ``class_name``, ``area`` and ``iscrowd``. An annotation is left out if its box is empty, its class is
    not in ``classes``, or, with ``masks``, if it has no mask of the size of the image.

    Args:
        document: The document.
        classes: Class names in the order of their IDs, from 0.
        masks: Whether detections have masks.

    Raises:
        InvalidResponseError: If the document does not have exactly one image.

    Example:
        >>> from cfplatform.adapters.supervision import to_detections
        >>> item = next(client.get_work_items())
        >>> detections = to_detections(item.load(), ["ellipse", "rectangle", "star", "triangle"], masks=True)
        >>> detections.mask.shape[1:], len(detections) == len(detections.class_id)
        ((240, 320), True)
    """
    if not isinstance(document, Document):
        document = Document(document)
    found = labels.labels_of(document, labels.checked_classes(classes), masks=masks)
    pixels: Any = None
    if masks:
        width, height = labels.image_size(document)
        pixels = np.zeros((len(found), height, width), dtype=bool)
        for row, label in zip(pixels, found, strict=True):
            row[:] = label.mask
    return sv.Detections(
        xyxy=np.array([label.corners for label in found], dtype=np.float32).reshape(-1, 4),
        mask=pixels,
        class_id=np.array([label.number for label in found], dtype=int),
        data={
            "class_name": np.array([label.name for label in found], dtype=str),
            "area": np.array([label.area for label in found], dtype=np.float64),
            "iscrowd": np.array([label.crowd for label in found], dtype=bool),
        },
    )


def to_dataset(
    source: Source,
    *,
    images_from: PathLike | None = None,
    classes: Iterable[str] | None = None,
    masks: bool = False,
    skip_missing: bool = False,
) -> sv.DetectionDataset:
    """Return labels with their images as a dataset: to split, to draw, or to write in other formats.

    Images are opened on access; the detections of all of them are held in memory, as supervision needs it.

    Args:
        source: A folder downloaded with ``assets=True``, a merged dataset, or any other source of
            :func:`cfplatform.coco.read`.
        images_from: The folder of the images, as for :func:`cfplatform.coco.read`.
        classes: Class names in the order of their IDs; by default those of all documents, in alphabetical order.
        masks: Whether detections have masks.
        skip_missing: Leave out images without a file instead of raising.

    Raises:
        InvalidParameterError: If it is not such a source, or the file of an image is missing.
        InvalidResponseError: If a document cannot be read, or does not have exactly one image.

    Example:
        >>> from cfplatform.adapters.supervision import to_dataset
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> train, test = to_dataset("labels").split(split_ratio=0.8, random_state=1)
        >>> len(train), len(test), train.classes
        (16, 4, ['ellipse', 'rectangle', 'star', 'triangle'])
    """
    samples = samples_of(source, images_from=images_from, skip_missing=skip_missing)
    names = labels.checked_classes(classes, samples)
    detections = {str(each.asset): to_detections(each, names, masks=masks) for each in samples}
    return sv.DetectionDataset(classes=list(names), images=list(detections), annotations=detections)
