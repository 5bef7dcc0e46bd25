"""``draw()``: a picture with its labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageOps

from ..coco.values import key, number, records
from ..exceptions import InvalidParameterError
from . import marks
from .colours import BLACK, Colour, against, class_colours
from .marks import Mark
from .pictures import Picture, Size, opened
from .plates import Plates

#: The longer side of a drawn picture if nothing else is asked for.
MAX_SIZE = 4096
#: What becomes of the levels of a mask: a shade, the stripes of a crowd, an edge.
_SHADE = [value * 35 // 100 for value in range(256)]
_STRIPE = [value * 80 // 100 for value in range(256)]
_EDGE = [255 if 32 < value < 224 else 0 for value in range(256)]
_CAPTION: Colour = (32, 32, 32)
_CAPTIONS = 3
_ROUNDED = 200


def draw(
    document: dict[str, Any],
    picture: Picture = None,
    *,
    image_id: Any = None,
    labels: bool = True,
    boxes: bool = True,
    masks: bool = True,
    keypoints: bool = True,
    colours: Mapping[str, Colour] | None = None,
    font: str | os.PathLike[str] | None = None,
    max_size: int = MAX_SIZE,
) -> Image.Image:
    """Draw the labels of a COCO document on its picture, and return the result as a PIL image.

    Boxes, polygons, masks (packed or not; those of crowds are striped), keypoints with their skeleton (hollow where
    they are hidden) and captions. The polygons of one annotation are filled together, as pycocotools reads them, and
    the outline of each is drawn. Lines and letters grow with the picture. What makes no sense is left out.

    The picture is turned upright as its EXIF orientation says, unless the document has the size of the picture as it
    lies. If the document tells another size than the picture has, labels are scaled with it. A picture whose longer
    side has less than 256 pixels is enlarged by a whole number.

    Args:
        document: The parsed document.
        picture: A path, the bytes of a file, a PIL image, which is not changed, or ``None`` for a blank one.
        image_id: Which image of the document, by its ``id``; the first if omitted.
        labels: Whether to write names of classes, and captions.
        boxes: Whether to draw boxes.
        masks: Whether to draw polygons and masks.
        keypoints: Whether to draw keypoints.
        colours: A colour for names of classes, as :func:`class_colours` returns them; other names get their own.
        font: A TrueType font file for names that the font of Pillow has no letters for.
        max_size: The longer side of the result, at the most; a larger picture is reduced first.

    Raises:
        InvalidParameterError: If the picture cannot be read or is too large to be opened safely, ``image_id`` is not in
            the document, or the font cannot be used.

    Example:
        >>> from cfplatform import viz
        >>> item = next(client.get_work_items())
        >>> viz.draw(item.load(), item.download_asset("labels")).size
        (320, 240)
    """
    if not isinstance(document, dict):
        raise InvalidParameterError(
            f"document must be a parsed COCO document, not {type(document).__name__}.", parameter="document"
        )
    if not isinstance(max_size, int) or max_size < 16:
        raise InvalidParameterError(
            f"max_size must be a whole number from 16 on, not {max_size!r}.", parameter="max_size"
        )
    image = _image(document, image_id)
    size = _size(image)
    canvas, shown = opened(picture, size, max_size)
    categories = {key(each.get("id")): each for each in records(document, "categories")}
    reader = marks.Reader(categories, size or shown, canvas.size)
    chosen = _annotations(document, image, everything=image_id is None)
    found = [reader.mark(annotation) for annotation in chosen[: marks.MAX_MARKS]]
    names = {mark.name for mark in found} | {marks.class_name(each, None) for each in categories.values()}
    known = {**class_colours(names), **(colours or {})}
    if masks:
        _fill(canvas, found, known)
    _outline(canvas, found, known, boxes=boxes, masks=masks, keypoints=keypoints)
    if labels:
        _write(canvas, found, known, font, left_out=len(chosen) - len(found))
    return canvas


def _image(document: dict[str, Any], image_id: Any) -> dict[str, Any]:
    images = records(document, "images")
    if image_id is None:
        return images[0] if images else {}
    for image in images:
        if key(image.get("id")) == key(image_id):
            return image
    raise InvalidParameterError(f"The document has no image with the id {image_id!r}.")


def _size(image: Mapping[str, Any]) -> Size | None:
    width, height = number(image.get("width")), number(image.get("height"))
    return None if width is None or height is None or min(width, height) < 1 else (int(width), int(height))


def _annotations(document: dict[str, Any], image: dict[str, Any], *, everything: bool) -> list[dict[str, Any]]:
    """Return the annotations of an image; those that name none belong to the first."""
    found = records(document, "annotations")
    if "id" not in image:
        return found
    own = key(image["id"])
    return [each for each in found if (key(each["image_id"]) == own if "image_id" in each else everything)]


def _fill(canvas: Image.Image, found: list[Mark], colours: Mapping[str, Colour]) -> None:
    """Shade what masks cover, the largest first, so that nothing is hidden; then draw their edges."""
    line = _line(canvas)
    covered = [(mark, *mark.mask) for mark in found if mark.mask is not None]
    covered.sort(key=lambda each: -each[1].size[0] * each[1].size[1])
    for mark, mask, place in covered:
        shade = mask.point(_SHADE)
        if mark.crowd:
            shade = Image.composite(mask.point(_STRIPE), shade, _stripes(mask.size, 3 * line))
        canvas.paste(colours[mark.name], place, shade)
    for mark, mask, (left, top) in covered:
        if not mark.rings:
            padded = ImageOps.expand(mask, 2 * line)
            edge = padded.filter(ImageFilter.BoxBlur(line)).point(_EDGE)
            canvas.paste(colours[mark.name], (left - 2 * line, top - 2 * line), edge)


def _stripes(size: Size, step: int) -> Image.Image:
    stripes = Image.new("L", size)
    pen = ImageDraw.Draw(stripes)
    for start in range(-size[1], size[0], 2 * step):
        pen.line((start, size[1], start + size[1], 0), fill=255, width=max(1, step // 2))
    return stripes


def _outline(
    canvas: Image.Image, found: list[Mark], colours: Mapping[str, Colour], *, boxes: bool, masks: bool, keypoints: bool
) -> None:
    pen = ImageDraw.Draw(canvas)
    line = _line(canvas)
    for mark in found:
        colour = colours[mark.name]
        if masks:
            for ring in mark.rings:
                _path(pen, [*ring, ring[0]], colour, line)
        if boxes and mark.box is not None:
            left, top, right, bottom = map(round, mark.box)
            corners = left, top, max(left, right - 1), max(top, bottom - 1)
            edge = _edge(line)
            around = corners[0] - edge, corners[1] - edge, corners[2] + edge, corners[3] + edge
            pen.rectangle(around, outline=against(colour), width=line + 2 * edge)
            pen.rectangle(corners, outline=colour, width=line)
        if keypoints:
            for one, other in mark.bones:
                _path(pen, [mark.keypoints[one][:2], mark.keypoints[other][:2]], colour, line)
            for x, y, visibility in mark.keypoints:
                if visibility:
                    _knot(pen, (x, y), colour, 2 * line, hollow=visibility == 1)


def _path(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: Colour, line: int) -> None:
    """Draw a line that stands out against any ground: it has an edge of black or white."""
    # Round joints take a circle for each point, which shows where there are few of them.
    joint = "curve" if len(points) < _ROUNDED else None
    # Pillow rounds the width of a diagonal, and an odd one needs more to be seen on both sides.
    pen.line(points, fill=against(colour), width=line + 2 * _edge(line) + line % 2, joint=joint)
    pen.line(points, fill=colour, width=line, joint=joint)


def _knot(pen: ImageDraw.ImageDraw, point: tuple[float, float], colour: Colour, radius: int, *, hollow: bool) -> None:
    pen.circle(point, radius + _edge(radius // 2), fill=against(colour))
    pen.circle(point, radius, fill=colour)
    if hollow:
        pen.circle(point, max(1, radius // 2), fill=against(colour))


def _write(
    canvas: Image.Image,
    found: list[Mark],
    colours: Mapping[str, Colour],
    font: str | os.PathLike[str] | None,
    left_out: int,
) -> None:
    plates = Plates(canvas, font)
    if left_out:
        plates.sentence(f"{left_out:,} more annotations are not drawn", BLACK)
    for caption in [mark.caption for mark in found if mark.caption is not None][:_CAPTIONS]:
        plates.sentence(caption, _CAPTION)
    for mark in found:
        extent = mark.extent()
        if extent is not None:
            # The knots of keypoints are larger than points.
            more = 2 * _line(canvas) + 2 if mark.box is None and mark.keypoints else 0
            left, top, right, bottom = extent
            plates.name(mark.name, (left - more, top - more, right + more, bottom + more), colours[mark.name])


def _edge(line: int) -> int:
    return max(1, line // 4)


def _line(canvas: Image.Image) -> int:
    return max(2, round(max(canvas.size) / 320))
