"""What a detector learns from a document: the boxes of its one image, with their classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..coco.sources import Document, Entry, Folder, Source, open_source, read
from ..coco.values import box, key, number, records
from ..exceptions import InvalidParameterError, InvalidResponseError


class Label(NamedTuple):
    """One annotation that has a box with a size and a class with a name.

    Attributes:
        name: The class.
        box: Left, top, width and height, in pixels.
        area: The area; that of the box where the annotation has none.
        crowd: Whether it stands for a group.
        segmentation: As it stands in the document.
    """

    name: str
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: Any

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        left, top, width, height = self.box
        return left, top, left + width, top + height


def image_of(document: Document) -> dict[str, Any]:
    """Return the one image of a document.

    Raises:
        InvalidResponseError: If it has none, or several.
    """
    images = records(document.data, "images")
    if len(images) == 1:
        return images[0]
    raise InvalidResponseError(
        f"{named(document)} has {len(images)} images; a training sample is one. Read such documents with "
        "cfplatform.coco.read."
    )


def size(value: Any) -> int:
    """Return a width or a height; 0 where it is none."""
    found = number(value)
    return int(found) if found is not None and found > 0 and found == int(found) else 0


def labels_of(document: Document) -> list[Label]:
    """Return the labels of the one image of a document, in their order.

    An annotation without a box that has a size, without a class, or of another image is left out: detectors refuse it,
    and ``cfplatform.coco.validate`` tells where it is.

    Raises:
        InvalidResponseError: If the document has no image, or several.
    """
    image = key(image_of(document).get("id"))
    names = {key(each.get("id")): each["name"] for each in _classes(document)}
    names.pop(None, None)
    labels = []
    for each in records(document.data, "annotations"):
        name, found = names.get(key(each.get("category_id"))), box(each.get("bbox"))
        if name is None or found is None or image is None or key(each.get("image_id")) != image:
            continue
        area = number(each.get("area"))
        area = found[2] * found[3] if area is None else area
        labels.append(Label(name, found, area, each.get("iscrowd") == 1, each.get("segmentation")))
    return labels


def class_names(source: Source) -> tuple[str, ...]:
    """Return the names of all classes that the documents of a source define, used or not, in the order of the alphabet.

    This reads every document.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> class_names("labels")
        ('ellipse', 'rectangle', 'star', 'triangle')
    """
    found: set[str] = set()
    for document in read(source):
        found.update(each["name"] for each in _classes(document))
    return tuple(sorted(found))


def checked_classes(classes: Iterable[str] | None, source: Source | None = None) -> tuple[str, ...]:
    """Return the classes that are given, else those of a source.

    Raises:
        InvalidParameterError: If they are no texts, or one of them is there twice.
    """
    if classes is None and source is not None:
        return class_names(source)
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise InvalidParameterError(
            f"classes must be a list of names, not {type(classes).__name__}.", parameter="classes"
        )
    names = tuple(classes)
    if len(set(names)) != len(names) or not all(isinstance(each, str) for each in names):
        raise InvalidParameterError("classes must be names, each of them once.", parameter="classes")
    return names


def open_folder(source: Any) -> Folder:
    """Open a downloaded folder.

    Raises:
        InvalidParameterError: If it is none.
    """
    opened = open_source(source)
    if not isinstance(opened, Folder):
        raise InvalidParameterError("source must be a folder that labels were downloaded into.", parameter="source")
    return opened


def pictured(folder: Folder, *, skip_missing: bool) -> Iterator[Entry]:
    """Yield what has a picture.

    Raises:
        InvalidParameterError: At the end, if a picture is missing and ``skip_missing`` is false.
    """
    missing = 0
    for entry in folder.entries():
        if entry.asset is None:
            missing += 1
        else:
            yield entry
    if missing and not skip_missing:
        raise InvalidParameterError(
            f"{missing} of {folder.total} work items in {str(folder.root)!r} have no picture beside their labels. "
            "Download with assets=True, or pass skip_missing=True to leave them out."
        )


def named(document: Document) -> str:
    """Return how a message names a document."""
    if document.item_id is not None:
        return f"Work item {document.item_id}"
    return f"The document {str(document.path)!r}" if document.path else "A document of the stream"


def _classes(document: Document) -> Iterator[dict[str, Any]]:
    return (each for each in records(document.data, "categories") if isinstance(each.get("name"), str))
