"""Labels for supervision (extra ``supervision``): the detections of a document, and a folder as a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..coco.sources import Document
from ..exceptions import ConfigurationError
from . import labels

# Where types are checked it may be missing, as it is large.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
try:
    import numpy as np
    import supervision as sv

    from .masks import of_labels
except ImportError as error:
    raise ConfigurationError(
        f"cfplatform.adapters.supervision needs supervision ({error}): pip install 'cfplatform[supervision]'"
    ) from error

__all__ = ["to_detections", "to_dataset"]


def to_detections(document: Document | dict[str, Any], classes: Iterable[str], *, masks: bool = False) -> sv.Detections:
    """Return the labels of the one image of a document as detections.

    ``data`` has ``class_name``, ``area`` and ``iscrowd``. An annotation is left out where its box has no size, its
    class is none of ``classes``, or with ``masks`` where it has no mask of the picture's size.

    Args:
        document: The document.
        classes: The names of the classes, in the order of their ids, which begin with 0.
        masks: Draw the masks too.

    Raises:
        InvalidResponseError: If the document has no image, or several.

    Example:
        >>> from cfplatform.adapters.supervision import to_detections
        >>> item = next(client.get_work_items())
        >>> detections = to_detections(item.load(), ["ellipse", "rectangle", "star", "triangle"], masks=True)
        >>> detections.mask.shape[1:], len(detections) == len(detections.class_id)
        ((240, 320), True)
    """
    if not isinstance(document, Document):
        document = Document(document)
    numbers = {name: number for number, name in enumerate(labels.checked_classes(classes))}
    found = [label for label in labels.labels_of(document) if label.name in numbers]
    pixels: Any = None
    if masks:
        masked = of_labels(document, found)
        found = [label for label, _ in masked.labels]
        pixels = np.zeros((len(found), masked.height, masked.width), dtype=bool)
        for number, (_, shape) in enumerate(masked.labels):
            pixels[number] = np.asarray(shape, dtype=bool)
    return sv.Detections(
        xyxy=np.array([label.corners for label in found], dtype=np.float32).reshape(-1, 4),
        mask=pixels,
        class_id=np.array([numbers[label.name] for label in found], dtype=int),
        data={
            "class_name": np.array([label.name for label in found], dtype=str),
            "area": np.array([label.area for label in found], dtype=np.float64),
            "iscrowd": np.array([label.crowd for label in found], dtype=bool),
        },
    )


def to_dataset(
    source: str | os.PathLike[str],
    *,
    classes: Iterable[str] | None = None,
    masks: bool = False,
    skip_missing: bool = False,
) -> sv.DetectionDataset:
    """Return a folder downloaded with ``assets=True`` as a dataset: to split, to draw, or to write in other formats.

    Pictures are opened when they are asked for; the detections of all of them are held in memory, as supervision does.

    Args:
        source: The folder, or that of one batch.
        classes: The names of the classes, in the order of their ids; else those of all documents, in the order of the
            alphabet.
        masks: Draw the masks too.
        skip_missing: Leave out items whose picture is not there, rather than refuse the folder.

    Raises:
        InvalidParameterError: If it is not such a folder, or a picture is missing.
        InvalidResponseError: If a document cannot be read, or has not one image.

    Example:
        >>> from cfplatform.adapters.supervision import to_dataset
        >>> summary = client.download_project(destination="labels", assets=True)
        >>> train, test = to_dataset("labels").split(split_ratio=0.8, random_state=1)
        >>> len(train), len(test), train.classes
        (16, 4, ['ellipse', 'rectangle', 'star', 'triangle'])
    """
    folder = labels.open_folder(source)
    names = labels.checked_classes(classes, source)
    detections = {
        str(entry.asset): to_detections(entry.read(), names, masks=masks)
        for entry in labels.pictured(folder, skip_missing=skip_missing)
    }
    return sv.DetectionDataset(classes=list(names), images=list(detections), annotations=detections)
