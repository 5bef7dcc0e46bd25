"""Images: opened safely and upright, in RGB (needs Pillow)."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from ..exceptions import InvalidParameterError
from .values import size_of

Size = tuple[int, int]

#: Formats that are opened. Pillow's other formats run programs, such as EPS, or are hardly tested.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
#: How to turn an image upright by its EXIF orientation; from 5 on width and height are swapped.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(
    source: str | os.PathLike[str] | bytes | Image.Image, record: dict[str, Any], longest: int | None = None
) -> tuple[Image.Image, Size]:
    """Return an image in RGB, and its size before it was reduced.

    It is turned upright by its EXIF orientation, unless ``record`` has the size of the image as stored: then it was
    annotated like that. Transparent pixels become white; gray levels of more than 8 bits are scaled to the range used.

    Args:
        source: A path, the bytes of a file, or a PIL image, which is not changed.
        record: The image in the COCO document.
        longest: Reduce a larger image by an integer factor, to a longer side of at least this. A JPEG is decoded at
            the reduced size.

    Raises:
        InvalidParameterError: If it is not an image in one of :data:`FORMATS`, or has more pixels than Pillow allows
            (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    name = repr(Path(source).name) if isinstance(source, (str, os.PathLike)) else "image"
    try:
        if isinstance(source, Image.Image):
            return _upright(source, source.size, record, longest)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            stored = image.size
            if longest is not None:
                image.draft(None, (longest, longest))
            return _upright(image, stored, record, longest)
    except FileNotFoundError:
        raise InvalidParameterError(f"{name} does not exist.") from None
    except Image.DecompressionBombError as error:
        raise InvalidParameterError(
            f"{name} is too large to be opened: {error} If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from None
    except Exception as error:
        # Decoders of Pillow raise anything for a broken file.
        raise InvalidParameterError(f"{name} is not an image that can be read: {error}") from None


def stored_size(path: str | os.PathLike[str]) -> tuple[Size, Size] | None:
    """Return the width and height of an image as it is stored, and upright by its EXIF orientation.

    Only headers are read. ``None`` if it is not an image in one of :data:`FORMATS`, or cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Whether it can be decoded is another question.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                # That of PNG files would decode the image, to look for EXIF data after it.
                turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    except Exception:
        # Readers of Pillow raise anything for a broken file.
        return None
    return (width, height), (height, width) if turned else (width, height)


def _upright(image: Image.Image, stored: Size, record: dict[str, Any], longest: int | None) -> tuple[Image.Image, Size]:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    turn = _TURNS.get(orientation)
    size = (stored[1], stored[0]) if turn is not None and orientation >= 5 else stored
    if stored == size_of(record) != size:
        turn, size = None, stored
    image = _in_rgb(image, longest)
    return image if turn is None else image.transpose(turn), size


def _in_rgb(image: Image.Image, longest: int | None) -> Image.Image:
    """Return a copy in RGB; a large image is reduced first."""
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA")
    elif image.mode.startswith(("I", "F")):
        image = _scaled(image)
    if longest is not None:
        image = image.reduce(max(1, max(image.size) // (2 * longest)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """Return gray levels of more than 8 bits with 8, from the darkest to the brightest in use."""
    image = image.convert("F")
    low, high = image.getextrema()
    if not isinstance(low, float) or not isinstance(high, float) or not high > low:
        return Image.new("L", image.size)
    scale = 255 / (high - low)
    return image.point(lambda value: value * scale - low * scale).convert("L")
