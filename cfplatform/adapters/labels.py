"""Labels of a folder as training samples: each document has one image, its annotations boxes of named classes."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..coco import mask
from ..coco.documents import Document, Entry, Folder, Source, open_source, read
from ..coco.values import box, by_id, is_crowd, key, number, records, size_of
from ..destination.local import ASSETS_FOLDER
from ..exceptions import InvalidParameterError, InvalidResponseError


class Label(NamedTuple):
    """An annotation with a box that is not empty and a class with a name.

    Attributes:
        name: The class.
        box: Left, top, width and height, in pixels.
        area: The area; that of the box if the annotation has none.
        crowd: Whether it stands for a group.
        segmentation: As in the document.
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


class Masked(NamedTuple):
    """The labels that have a mask, each with its mask, and the size of all masks."""

    labels: list[tuple[Label, memoryview]]
    width: int
    height: int


def image_of(document: Document) -> dict[str, Any]:
    """Return the only image of a document.

    Raises:
        InvalidResponseError: If it does not have exactly one.
    """
    images = records(document.data, "images")
    if len(images) == 1:
        return images[0]
    raise InvalidResponseError(
        f"{named(document)} has {len(images)} images; a training sample has one. Read such documents with "
        "cfplatform.coco.read."
    )


def labels_of(document: Document) -> list[Label]:
    """Return the labels of the image of a document, in their order.

    An annotation with an empty box, without a class, or of another image is left out, because detectors refuse it.
    ``cfplatform.coco.validate`` finds these.

    Raises:
        InvalidResponseError: If the document does not have exactly one image.
    """
    image = key(image_of(document).get("id"))
    categories = by_id(records(document.data, "categories"))
    labels = []
    for each in records(document.data, "annotations"):
        category, found = key(each.get("category_id")), box(each.get("bbox"))
        name = None if category is None else categories.get(category, {}).get("name")
        if not isinstance(name, str) or found is None or image is None or key(each.get("image_id")) != image:
            continue
        area = number(each.get("area"))
        area = found[2] * found[3] if area is None else area
        labels.append(Label(name, found, area, is_crowd(each), each.get("segmentation")))
    return labels


def with_masks(document: Document, found: list[Label]) -> Masked:
    """Decode the masks of labels; a label without a mask of the size of the image is left out."""
    width, height = size_of(image_of(document)) or (0, 0)
    masks = ((label, _mask(label.segmentation, width, height)) for label in found)
    return Masked([(label, pixels) for label, pixels in masks if pixels is not None], width, height)


def _mask(segmentation: Any, width: int, height: int) -> memoryview | None:
    if isinstance(segmentation, list):
        segmentation = [each for each in segmentation if mask.is_polygon(each)]
    try:
        return mask.decode(segmentation, height, width)
    except InvalidParameterError:
        return None


def class_names(source: Source) -> tuple[str, ...]:
    """Return the names of all classes that the documents of a source define, used or not, in alphabetical order.

    This reads every document.

    Example:
        >>> summary = client.download_project(destination="labels")
        >>> class_names("labels")
        ('ellipse', 'rectangle', 'star', 'triangle')
    """
    found: set[str] = set()
    for document in read(source):
        names = (each.get("name") for each in records(document.data, "categories"))
        found.update(name for name in names if isinstance(name, str))
    return tuple(sorted(found))


def checked_classes(classes: Iterable[str] | None, source: Source | None = None) -> tuple[str, ...]:
    """Return the given classes, or else those of a source.

    Raises:
        InvalidParameterError: If they are not strings, or one is there twice.
    """
    if classes is None and source is not None:
        return class_names(source)
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise InvalidParameterError(
            f"classes must be a list of names, not {type(classes).__name__}.", parameter="classes"
        )
    names = tuple(classes)
    if len(set(names)) != len(names) or not all(isinstance(each, str) for each in names):
        raise InvalidParameterError("classes must be different names.", parameter="classes")
    return names


def open_folder(source: Any) -> Folder:
    """Open a downloaded folder.

    Raises:
        InvalidParameterError: If it is not one.
    """
    opened = open_source(source)
    if not isinstance(opened, Folder):
        raise InvalidParameterError("source must be a downloaded folder.", parameter="source")
    return opened


def with_images(folder: Folder, *, skip_missing: bool) -> Iterator[Entry]:
    """Yield the entries that have an image.

    Raises:
        InvalidParameterError: At the end, if an image is missing and ``skip_missing`` is false.
    """
    missing = 0
    for entry in folder.entries():
        if entry.asset is None:
            missing += 1
        else:
            yield entry
    if missing and not skip_missing:
        raise InvalidParameterError(
            f"{missing} of {folder.total} work items in {str(folder.root)!r} have no image. Download with assets=True, "
            "or pass skip_missing=True to leave them out."
        )


class EntryList:
    """A sequence of entries, kept as two blocks of bytes.

    A million strings would be copied page by page into each forked worker of a loader, as their reference counts
    change, and pickled for each spawned one.

    Args:
        root: The folder.
        entries: Entries of it, or of its batches.
    """

    def __init__(self, root: Path, entries: Iterable[Entry]) -> None:
        self._root = str(root)
        self._names = bytearray()
        self._ends = array("Q", [0])
        for path, asset in ((each.path, each.asset) for each in entries):
            folder = "" if path.parent == root else path.parent.name
            self._names += os.fsencode("\0".join((folder, path.name, asset.name if asset else "")))
            self._ends.append(len(self._names))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Entry]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Entry:
        """Return an entry.

        Raises:
            IndexError: If there is none with this number.
        """
        number = range(len(self))[index]
        names = bytes(self._names[self._ends[number] : self._ends[number + 1]])
        folder, name, asset = os.fsdecode(names).split("\0")
        parent = Path(self._root, folder)
        return Entry(
            os.path.splitext(name)[0], parent.name, parent / name, parent / ASSETS_FOLDER / asset if asset else None
        )


def named(document: Document) -> str:
    """Return how a message names a document."""
    if document.item_id is not None:
        return f"Work item {document.item_id}"
    return f"The document {str(document.path)!r}" if document.path else "A document of the stream"
