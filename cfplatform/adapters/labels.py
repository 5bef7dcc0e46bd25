"""Training labels: the annotations of an image with a non-empty box and a known class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..coco import mask
from ..coco.documents import Document, Source, read
from ..coco.placing import Point, Size, frame, rotated_corners, scale
from ..coco.values import box, by_id, is_crowd, key, number, records, size_of
from ..exceptions import InvalidParameterError, InvalidResponseError


class Label(NamedTuple):
    """An annotation with a non-empty box and a known class."""

    name: str
    #: The index of the class, from 0.
    number: int
    #: Left, top, width and height, in pixels of the image; for a rotated box, the upright box around it.
    box: tuple[float, float, float, float]
    #: The area; by default the area of the box.
    area: float
    crowd: bool
    #: The decoded mask, if masks are requested.
    mask: Any = None
    #: The corners of a rotated box, clockwise; ``None`` if it is upright.
    rotated: list[Point] | None = None

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        left, top, width, height = self.box
        return left, top, left + width, top + height


def image_of(document: Document) -> dict[str, Any]:
    """Return the only image of a document.

    Raises:
        InvalidResponseError: If it does not have exactly one.
    """
    images = records(document.data, "images")
    if len(images) == 1:
        return images[0]
    raise InvalidResponseError(
        f"{named(document)} has {len(images)} images, but a training sample has one. Read such documents with "
        "cfplatform.coco.read."
    )


def image_size(document: Document) -> Size:
    """Return the width and height of the only image of a document, 0 if unknown."""
    return size_of(image_of(document)) or (0, 0)


def labels_of(
    document: Document, classes: Iterable[str], *, masks: bool = False, size: Size | None = None
) -> list[Label]:
    """Return the labels of the image of a document, in order.

    Annotations with an empty box, of another class, or of another image are skipped, because detectors reject them.
    With ``masks``, so are those without a mask of the size in the document. ``cfplatform.coco.validate`` reports them.

    Args:
        document: The document.
        classes: The class names.
        masks: Whether to include masks.
        size: The size of the opened image, to scale annotations to. Defaults to the size in the document.

    Raises:
        InvalidResponseError: If the document does not have exactly one image.
    """
    record = image_of(document)
    image, size = key(record.get("id")), size or image_size(document)
    factors = scale(record, size) if all(size) else (1.0, 1.0)
    numbers = {name: number for number, name in enumerate(classes)}
    categories = by_id(records(document.data, "categories"))
    labels = []
    for each in records(document.data, "annotations"):
        category, found = key(each.get("category_id")), box(each.get("bbox"))
        name = None if category is None else categories.get(category, {}).get("name")
        if not isinstance(name, str) or name not in numbers:
            continue
        if found is None or image is None or key(each.get("image_id")) != image:
            continue
        rotated = rotated_corners(each)
        shape = [[value for point in rotated for value in point]] if rotated else each.get("segmentation")
        pixels = _mask(shape, frame(record, size), size) if masks else None
        if masks and pixels is None:
            continue
        area = number(each.get("area"))
        area = found[2] * found[3] if area is None else area
        if factors != (1, 1):
            left, top, width, height = _scaled(found, factors)
            found, area = (left, top, width, height), area * factors[0] * factors[1]
            rotated = rotated and [(x * factors[0], y * factors[1]) for x, y in rotated]
        own_box = _around(rotated) if rotated else found
        labels.append(Label(name, numbers[name], own_box, area, is_crowd(each), pixels, rotated))
    return labels


def _around(points: list[Point]) -> tuple[float, float, float, float]:
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _scaled(values: Sequence[float], factors: tuple[float, float]) -> list[float]:
    """Scale a flat list of alternating x and y values."""
    return [value * factors[index % 2] for index, value in enumerate(values)]


def _mask(segmentation: Any, own: Size, size: Size) -> memoryview | None:
    """Return the mask of a segmentation in an image of the size ``own``, scaled to ``size``."""
    if not all(size):
        return None
    (own_width, own_height), (width, height) = own, size
    try:
        if isinstance(segmentation, list):
            polygons = [each for each in segmentation if mask.is_polygon(each)]
            if own != size:
                polygons = [_scaled(each, (width / own_width, height / own_height)) for each in polygons]
            return mask.decode(polygons, height, width)
        if own == size:
            return mask.decode(segmentation, height, width)
        return mask.pixels(mask.resized(mask.checked(segmentation, own_height, own_width), height, width))
    except InvalidParameterError:
        return None


def checked_classes(classes: Iterable[str] | None, source: Source | None = None) -> tuple[str, ...]:
    """Return the given classes, or all classes of the documents of a source, sorted by name.

    Raises:
        InvalidParameterError: If they are not unique strings.
    """
    if classes is None and source is not None:
        defined = (
            each.get("name")
            for document in read(source)
            for each in by_id(records(document.data, "categories")).values()
        )
        return tuple(sorted({name for name in defined if isinstance(name, str)}))
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise InvalidParameterError(
            f"classes must be a list of names, not {type(classes).__name__}.", parameter="classes"
        )
    names = tuple(classes)
    if len(set(names)) != len(names) or not all(isinstance(each, str) for each in names):
        raise InvalidParameterError("classes must be unique names.", parameter="classes")
    return names


def named(document: Document) -> str:
    """Return the name of a document for messages."""
    if document.item_id is not None:
        return f"Work item {document.item_id}"
    return f"The document {str(document.path)!r}" if document.path else "A document of the stream"
