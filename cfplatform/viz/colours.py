"""Colors of classes: the same in every run, and most of them distinguishable by people with color blindness."""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Iterable

#: Red, green and blue, 0 to 255.
Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)

#: The colors of Okabe and Ito, then the most different ones of Tol.
PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (136, 34, 85),
    (51, 34, 136),
    (153, 153, 51),
    (17, 119, 51),
    (170, 68, 153),
)


def class_colours(names: Iterable[str]) -> dict[str, Colour]:
    """Return a color for each class name.

    A name has the same color in every run and on every machine, unless a name before it in the alphabet has taken that
    color. For matching colors across images, pass all names of a dataset at once. Up to twelve classes have different
    colors, most of which can be distinguished by people with any type of color blindness.

    Example:
        >>> class_colours(["star", "ellipse"]) == class_colours(["ellipse", "star"])
        True
    """
    found: dict[str, Colour] = {}
    free = list(PALETTE)
    for name in sorted(set(names)):
        number = zlib.crc32(name.encode("utf-8", "surrogatepass"))
        own = PALETTE[number % len(PALETTE)]
        if own not in free:
            own = free[number % len(free)] if free else _of_number(number)
        if free:
            free.remove(own)
        found[name] = own
    return found


def _of_number(number: int) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(number % 360 / 360, 0.35 + number % 3 * 0.12, 0.7)
    return round(red * 255), round(green * 255), round(blue * 255)


def against(colour: Colour) -> Colour:
    """Return black or white, whichever has more contrast with a color."""
    parts = [value / 255 for value in colour]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # At this luminance, both have the same contrast.
    return BLACK if luminance > 0.179 else WHITE
