"""``draw()``: an image with its annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from ..coco.documents import Document, with_plain_values
from ..coco.images import open_image
from ..coco.placing import Size, frame
from ..coco.values import by_id, key, records, size_of
from ..exceptions import InvalidParameterError, printable
from . import marks
from .colours import BLACK, Colour, against, class_colours
from .marks import Box, Mark

#: An image to draw on; ``None`` is a blank image.
Picture = str | os.PathLike[str] | bytes | Image.Image | None

#: Default maximum of the longer side of the result.
MAX_SIZE = 4096
#: Images whose longer side is below this are enlarged to keep names readable.
MIN_SIZE = 256
#: The color of a blank image.
BLANK: Colour = (236, 236, 236)
#: The intensity of a mask as shading, as stripes of a crowd, and as an edge.
_SHADE = [value * 35 // 100 for value in range(256)]
_STRIPE = [value * 80 // 100 for value in range(256)]
_EDGE = [255 if 32 < value < 224 else 0 for value in range(256)]
_CAPTION: Colour = (32, 32, 32)
_CAPTIONS = 3
_ROUNDED = 200
#: Maximum number of characters of a name.
MAX_TEXT = 40
#: The note on a panoptic image without its PNG.
BOXES_OF_SEGMENTS = "The PNG of the segments was not found: only boxes are drawn"
#: Maximum number of texts kept apart; with more, the image is full anyway.
_KEPT_APART = 200


def draw(
    document: Mapping[str, Any] | Document,
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
    """Draw the annotations of a COCO document on its image, and return the result as a PIL image.

    Draws boxes, including rotated ones (``attributes.rotation``, in degrees clockwise), polygons, masks (striped for
    crowds), keypoints with their skeleton (hollow if they are hidden), and captions. Polygons of an annotation are
    filled together, with the same pixels as pycocotools, and outlined one by one. Panoptic annotations are drawn from
    their PNG if it is found next to the document, else as boxes with a note. Lines and text scale with the image.
    Malformed parts are skipped.

    The EXIF orientation is applied, unless it is a quarter turn and the document has the size or aspect ratio of the
    image as stored. If the document has a different size than the image, annotations are scaled. An image whose longer
    side is below 256 pixels is enlarged by an integer factor.

    Args:
        document: The parsed document, or one from :func:`cfplatform.coco.read`.
        picture: A path, the bytes of a file (JPEG, PNG, GIF, WebP, BMP or TIFF), or a PIL image, which is not modified.
            ``None`` uses the local image of the document, or a blank image if there is none.
        image_id: The ID of an image of the document. Defaults to the first image.
        labels: Whether to write class names and captions.
        boxes: Whether to draw boxes.
        masks: Whether to draw polygons and masks.
        keypoints: Whether to draw keypoints.
        colours: Colors by class name, as from :func:`class_colours`; other names get their own.
        font: A TrueType font file, for characters missing from the default font of Pillow.
        max_size: Maximum length of the longer side of the result in pixels, at least 16; larger images are scaled down.

    Raises:
        InvalidParameterError: If the image cannot be read or has too many pixels, ``image_id`` is not in the document,
            or the font cannot be used.

    Example:
        >>> from cfplatform import viz
        >>> item = next(client.get_work_items())
        >>> viz.draw(item.load(), item.download_asset("labels")).size
        (320, 240)
    """
    of = with_plain_values(document)
    document = of.data
    if not isinstance(document, dict):
        raise InvalidParameterError(
            f"document must be a parsed COCO document, not {type(document).__name__}.", parameter="document"
        )
    if not isinstance(max_size, int) or max_size < 16:
        raise InvalidParameterError(
            f"max_size must be an integer of at least 16, not {max_size!r}.", parameter="max_size"
        )
    image = _image(document, image_id)
    if picture is None:
        picture = of.image_path(image)
    canvas, size = _canvas(picture, image, max_size)
    categories = by_id(records(document, "categories"))
    own = _annotations(document, image, everything=image_id is None)
    chosen = list(marks.with_segments(own))
    segments = _segments(of, own, of.image_path(image))
    reader = marks.Reader(categories, frame(image, size), canvas.size, segments)
    found = [reader.mark(annotation) for annotation in chosen[: marks.MAX_MARKS]]
    names = {mark.name for mark in found} | {marks.class_name(each, None) for each in categories.values()}
    known = {**class_colours(names), **(colours or {})}
    if masks:
        _fill(canvas, found, known)
    _outline(canvas, found, known, boxes=boxes, masks=masks, keypoints=keypoints)
    if labels:
        hidden = len(chosen) - len(found)
        noun = "annotation is" if hidden == 1 else "annotations are"
        notes = [f"{hidden:,} more {noun} not drawn"] if hidden else []
        if segments is None and any(marks.SEGMENT in each for each in chosen):
            notes.append(BOXES_OF_SEGMENTS)
        _write(canvas, found, known, font, notes)
    return canvas


def _image(document: Mapping[str, Any], image_id: Any) -> dict[str, Any]:
    images = records(document, "images")
    if image_id is None:
        return images[0] if images else {}
    for image in images:
        if key(image.get("id")) == key(image_id):
            return image
    raise InvalidParameterError(f"The document has no image with the ID {image_id!r}.")


def _canvas(picture: Picture, record: dict[str, Any], longest: int) -> tuple[Image.Image, Size]:
    """Return the image to draw on, and its size before it was reduced or enlarged."""
    if picture is None:
        size = size_of(record) or (640, 480)
        return Image.new("RGB", _fitted(size, longest), BLANK), size
    if not isinstance(picture, (str, bytes, os.PathLike, Image.Image)):
        raise InvalidParameterError(
            f"picture must be a path, bytes, a PIL image or None, not {type(picture).__name__}."
        )
    image, size = open_image(picture, record, longest)
    target = _fitted(size, longest)
    if image.size != target:
        enlarged = max(target) > max(size)
        image = image.resize(target, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
    return image, size


def _fitted(size: Size, longest: int) -> Size:
    """Return the size of the canvas: reduced to fit, or enlarged by an integer factor."""
    side = max(size)
    if side < min(MIN_SIZE, longest):
        times = min(-(-MIN_SIZE // side), longest // side)
        return size[0] * times, size[1] * times
    scale = min(1.0, longest / side)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _annotations(document: Mapping[str, Any], image: dict[str, Any], *, everything: bool) -> list[dict[str, Any]]:
    """Return the annotations of an image; those without ``image_id`` belong to the first."""
    found = records(document, "annotations")
    if "id" not in image:
        return found
    own = key(image["id"])
    return [each for each in found if (key(each["image_id"]) == own if "image_id" in each else everything)]


def _segments(document: Document, annotations: list[dict[str, Any]], image: Path | None) -> Image.Image | None:
    """Return the PNG with the IDs of the segments of a panoptic annotation, if there is one."""
    for each in annotations:
        path = document.mask_path(each) if records(each, "segments_info") else None
        if path is not None and path != image:
            try:
                return open_image(path, {})[0]
            except InvalidParameterError:
                # A note on the image reports the missing segments.
                return None
    return None


def _fill(canvas: Image.Image, found: list[Mark], colours: Mapping[str, Colour]) -> None:
    """Shade masks, the largest first, so that all are visible; then draw their edges."""
    line = _line(canvas)
    covered = [(mark, *mark.mask) for mark in found if mark.mask is not None]
    covered.sort(key=lambda each: -each[1].size[0] * each[1].size[1])
    for mark, mask, position in covered:
        shade = mask.point(_SHADE)
        if mark.crowd:
            shade = Image.composite(mask.point(_STRIPE), shade, _stripes(mask.size, 3 * line))
        canvas.paste(colours[mark.name], position, shade)
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
        if boxes and mark.rotated is not None:
            _path(pen, [*mark.rotated, mark.rotated[0]], colour, line)
        elif boxes and mark.box is not None:
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
                    _dot(pen, (x, y), colour, 2 * line, hollow=visibility == 1)


def _path(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: Colour, line: int) -> None:
    """Draw a line with a black or white edge, so that it is visible on any background."""
    # Round joints draw a circle for each point; they matter only if there are few.
    joint = "curve" if len(points) < _ROUNDED else None
    # Pillow rounds the width of diagonals; odd widths need more to be visible on both sides.
    pen.line(points, fill=against(colour), width=line + 2 * _edge(line) + line % 2, joint=joint)
    pen.line(points, fill=colour, width=line, joint=joint)


def _dot(pen: ImageDraw.ImageDraw, point: tuple[float, float], colour: Colour, radius: int, *, hollow: bool) -> None:
    pen.circle(point, radius + _edge(radius // 2), fill=against(colour))
    pen.circle(point, radius, fill=colour)
    if hollow:
        pen.circle(point, max(1, radius // 2), fill=against(colour))


def _edge(line: int) -> int:
    return max(1, line // 4)


def _line(canvas: Image.Image) -> int:
    return max(2, round(max(canvas.size) / 320))


# --- Names and notes -----------------------------------------------------------------------------------------------


def _write(
    canvas: Image.Image,
    found: list[Mark],
    colours: Mapping[str, Colour],
    font: str | os.PathLike[str] | None,
    notes: list[str],
) -> None:
    text = _TextCanvas(canvas, font)
    for note in notes:
        text.sentence(note, BLACK)
    for caption in [mark.caption for mark in found if mark.caption is not None][:_CAPTIONS]:
        text.sentence(caption, _CAPTION)
    for mark in found:
        extent = mark.extent()
        if extent is not None:
            # The dots of keypoints are larger than points.
            more = 2 * _line(canvas) + 2 if mark.box is None and mark.keypoints else 0
            left, top, right, bottom = extent
            text.name(mark.name, (left - more, top - more, right + more, bottom + more), colours[mark.name])


def readable(value: object, limit: int = MAX_TEXT) -> str:
    """Return text on one line, without characters that are invisible or change the text direction."""
    shown = printable(" ".join(str(value)[: 4 * limit].split()))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class _TextCanvas:
    """An image to write text on, without overlaps if there is space."""

    def __init__(self, image: Image.Image, font: str | os.PathLike[str] | None) -> None:
        self._size = image.size
        self._pen = ImageDraw.Draw(image)
        height = max(11, round(max(image.size) / 48))
        try:
            self._font = ImageFont.load_default(height) if font is None else ImageFont.truetype(font, height)
        except OSError as error:
            raise InvalidParameterError(
                f"font {os.fspath(font or '')!r} could not be loaded: {error}", parameter="font"
            ) from None
        self._edge = max(2, height // 6)
        # The same for all letters, so that texts in a row have the same height.
        self._height = self._font.getbbox("Ágjy")[3] + 2 * self._edge
        self._placed: list[Box] = []

    def name(self, text: str, extent: Box, colour: Colour) -> None:
        """Write the name of an object at its upper edge, or at a free position nearby."""
        text = self._fitting(readable(text))
        if not text:
            return
        width = self._font.getlength(text) + 2 * self._edge
        positions = [self._inside(position) for position in self._positions(extent, width)]
        free = (position for position in positions if not self._is_taken(position))
        self._write(text, next(free, positions[0]), colour)

    def sentence(self, text: str, colour: Colour) -> None:
        """Write a note at the lower edge, above earlier ones."""
        text = self._fitting(readable(text, 400))
        if not text:
            return
        width = self._font.getlength(text) + 2 * self._edge
        bottom = float(self._size[1])
        while bottom > self._height and self._is_taken((0, bottom - self._height, width, bottom)):
            bottom -= self._height
        self._write(text, self._inside((0, bottom - self._height, width, bottom)), colour)

    def _positions(self, extent: Box, width: float) -> Iterator[Box]:
        left, top, right, bottom = extent
        for x in (left, right - width):
            for y in (top - self._height, top, bottom, bottom - self._height):
                yield x, y, x + width, y + self._height

    def _inside(self, position: Box) -> Box:
        left = max(0.0, min(position[0], self._size[0] - (position[2] - position[0])))
        top = max(0.0, min(position[1], self._size[1] - self._height))
        return left, top, left + position[2] - position[0], top + self._height

    def _is_taken(self, position: Box) -> bool:
        left, top, right, bottom = position
        return any(left < r and l < right and top < b and t < bottom for l, t, r, b in self._placed)  # noqa: E741

    def _fitting(self, text: str) -> str:
        available = self._size[0] - 2 * self._edge
        while text and self._font.getlength(text) > available:
            text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
        return text

    def _write(self, text: str, position: Box, colour: Colour) -> None:
        ink = against(colour)
        self._pen.rectangle(position, fill=colour, outline=ink)
        self._pen.text((position[0] + self._edge, position[1] + self._edge), text, fill=ink, font=self._font)
        if len(self._placed) < _KEPT_APART:
            self._placed.append(position)
