"""Names on plates: readable on any ground, inside of the picture, and off each other where there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

from ..exceptions import InvalidParameterError
from .colours import Colour, against

Rectangle = tuple[float, float, float, float]

#: Characters of a name that are shown.
MAX_TEXT = 40
#: Plates that are kept off each other; where there are more, the picture is full anyway.
_KEPT_APART = 200


def readable(text: str, limit: int = MAX_TEXT) -> str:
    """Return a text in one line that a font can show."""
    shown = "".join(ch if ch.isprintable() else " " if ch.isspace() else "\ufffd" for ch in text[: 4 * limit])
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class Plates:
    """The plates of one picture.

    Args:
        picture: The picture; plates are drawn on it.
        font: A font file; the one that Pillow brings if ``None``.
    """

    def __init__(self, picture: Image.Image, font: str | os.PathLike[str] | None) -> None:
        self._size = picture.size
        self._pen = ImageDraw.Draw(picture)
        height = max(11, round(max(picture.size) / 48))
        try:
            self._font = ImageFont.load_default(height) if font is None else ImageFont.truetype(font, height)
        except OSError as error:
            raise InvalidParameterError(
                f"font {os.fspath(font or '')!r} cannot be used: {error}", parameter="font"
            ) from None
        self._edge = max(2, height // 6)
        # The same for all letters, so that plates in a row have one height.
        self._height = self._font.getbbox("Ágjy")[3] + 2 * self._edge
        self._placed: list[Rectangle] = []

    def name(self, text: str, extent: Rectangle, colour: Colour) -> None:
        """Write the name of something at its upper edge, or where there is room near it."""
        text = self._fitting(readable(text))
        if not text:
            return
        width = self._font.getlength(text) + 2 * self._edge
        places = [self._inside(place) for place in self._places(extent, width)]
        free = (place for place in places if not self._is_taken(place))
        self._write(text, next(free, places[0]), colour)

    def sentence(self, text: str, colour: Colour) -> None:
        """Write a sentence at the lower edge, above those that are there."""
        text = self._fitting(readable(text, 400))
        if not text:
            return
        width = self._font.getlength(text) + 2 * self._edge
        bottom = float(self._size[1])
        while bottom > self._height and self._is_taken((0, bottom - self._height, width, bottom)):
            bottom -= self._height
        self._write(text, self._inside((0, bottom - self._height, width, bottom)), colour)

    def _places(self, extent: Rectangle, width: float) -> Iterator[Rectangle]:
        left, top, right, bottom = extent
        for x in (left, right - width):
            for y in (top - self._height, top, bottom, bottom - self._height):
                yield x, y, x + width, y + self._height

    def _inside(self, place: Rectangle) -> Rectangle:
        left = max(0.0, min(place[0], self._size[0] - (place[2] - place[0])))
        top = max(0.0, min(place[1], self._size[1] - self._height))
        return left, top, left + place[2] - place[0], top + self._height

    def _is_taken(self, place: Rectangle) -> bool:
        left, top, right, bottom = place
        return any(left < r and l < right and top < b and t < bottom for l, t, r, b in self._placed)  # noqa: E741

    def _fitting(self, text: str) -> str:
        room = self._size[0] - 2 * self._edge
        while text and self._font.getlength(text) > room:
            text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
        return text

    def _write(self, text: str, place: Rectangle, colour: Colour) -> None:
        ink = against(colour)
        self._pen.rectangle(place, fill=colour, outline=ink)
        self._pen.text((place[0] + self._edge, place[1] + self._edge), text, fill=ink, font=self._font)
        if len(self._placed) < _KEPT_APART:
            self._placed.append(place)
