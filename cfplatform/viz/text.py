"""Text on an image: names and sentences on a coloured background, without overlaps if there is space."""

from __future__ import annotations

import os
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

from ..exceptions import InvalidParameterError
from .colours import Colour, against

Rectangle = tuple[float, float, float, float]

#: Maximum characters of a name.
MAX_TEXT = 40
#: Texts that are kept apart; with more of them the image is full anyway.
_KEPT_APART = 200


def readable(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text on one line that a font can show."""
    shown = "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class TextCanvas:
    """An image that text is written on.

    Args:
        image: The image.
        font: A font file; the font of Pillow if ``None``.
    """

    def __init__(self, image: Image.Image, font: str | os.PathLike[str] | None) -> None:
        self._size = image.size
        self._pen = ImageDraw.Draw(image)
        height = max(11, round(max(image.size) / 48))
        try:
            self._font = ImageFont.load_default(height) if font is None else ImageFont.truetype(font, height)
        except OSError as error:
            raise InvalidParameterError(
                f"font {os.fspath(font or '')!r} cannot be used: {error}", parameter="font"
            ) from None
        self._edge = max(2, height // 6)
        # The same for all letters, so that texts in a row have one height.
        self._height = self._font.getbbox("Ágjy")[3] + 2 * self._edge
        self._placed: list[Rectangle] = []

    def name(self, text: str, extent: Rectangle, colour: Colour) -> None:
        """Write the name of an object at its upper edge, or at another free position near it."""
        text = self._fitting(readable(text))
        if not text:
            return
        width = self._font.getlength(text) + 2 * self._edge
        positions = [self._inside(position) for position in self._positions(extent, width)]
        free = (position for position in positions if not self._is_taken(position))
        self._write(text, next(free, positions[0]), colour)

    def sentence(self, text: str, colour: Colour) -> None:
        """Write a sentence at the lower edge, above earlier ones."""
        text = self._fitting(readable(text, 400))
        if not text:
            return
        width = self._font.getlength(text) + 2 * self._edge
        bottom = float(self._size[1])
        while bottom > self._height and self._is_taken((0, bottom - self._height, width, bottom)):
            bottom -= self._height
        self._write(text, self._inside((0, bottom - self._height, width, bottom)), colour)

    def _positions(self, extent: Rectangle, width: float) -> Iterator[Rectangle]:
        left, top, right, bottom = extent
        for x in (left, right - width):
            for y in (top - self._height, top, bottom, bottom - self._height):
                yield x, y, x + width, y + self._height

    def _inside(self, position: Rectangle) -> Rectangle:
        left = max(0.0, min(position[0], self._size[0] - (position[2] - position[0])))
        top = max(0.0, min(position[1], self._size[1] - self._height))
        return left, top, left + position[2] - position[0], top + self._height

    def _is_taken(self, position: Rectangle) -> bool:
        left, top, right, bottom = position
        return any(left < r and l < right and top < b and t < bottom for l, t, r, b in self._placed)  # noqa: E741

    def _fitting(self, text: str) -> str:
        available = self._size[0] - 2 * self._edge
        while text and self._font.getlength(text) > available:
            text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
        return text

    def _write(self, text: str, position: Rectangle, colour: Colour) -> None:
        ink = against(colour)
        self._pen.rectangle(position, fill=colour, outline=ink)
        self._pen.text((position[0] + self._edge, position[1] + self._edge), text, fill=ink, font=self._font)
        if len(self._placed) < _KEPT_APART:
            self._placed.append(position)
