"""Opens images safely, with their EXIF orientation applied, in RGB (needs Pillow)."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple, cast

from PIL import ExifTags, Image

from ..exceptions import InvalidParameterError
from .placing import Size, is_as_stored

#: Supported formats. Pillow's other formats run external programs, such as EPS, or are barely tested.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
#: The transposition for each EXIF orientation; from 5 on width and height are swapped.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Pixels to convert at a time, to avoid a second copy of a large image in memory.
_PIXELS_AT_A_TIME = 8_000_000
#: Formats, and modes of at most 8 bits per channel, that all tools show alike if there is no transparency.
_PLAIN_FORMATS, _PLAIN_MODES = ("JPEG", "MPO", "PNG", "BMP", "WEBP"), ("1", "L", "P", "RGB")


class Stored(NamedTuple):
    """The header of an image file."""

    #: Width and height as stored.
    size: Size
    #: Width and height with the EXIF orientation applied.
    upright: Size
    #: The EXIF orientation, 1 to 8; 1 if there is none.
    orientation: int
    #: The format, as named by Pillow.
    format: str
    #: Whether other libraries show the same image, except for its orientation.
    plain: bool

    @property
    def decoded_pixels(self) -> int:
        """The number of pixels in memory while a thumbnail is made; a JPEG is decoded at a smaller size."""
        return 0 if self.format in ("JPEG", "MPO") else self.size[0] * self.size[1]

    def is_rotated_in(self, record: dict[str, Any]) -> bool:
        """Return whether :func:`open_image` rotates the image for this entry of a document."""
        return self.orientation != 1 and (self.orientation < 5 or not is_as_stored(record, self.size))

    def is_shown_alike(self, record: dict[str, Any]) -> bool:
        """Return whether other libraries, such as OpenCV, show it as :func:`open_image` opens it."""
        if self.orientation == 1:
            return self.plain
        # Not all of them rotate other formats. They also rotate images that were annotated as stored.
        return self.plain and self.format in ("JPEG", "MPO") and self.is_rotated_in(record)

    def size_in(self, record: dict[str, Any]) -> Size:
        """Return the size of the image for this entry of a document, as :func:`open_image` opens it."""
        return self.upright if self.is_rotated_in(record) else self.size


def open_image(
    source: str | os.PathLike[str] | bytes | Image.Image, record: dict[str, Any], longest: int | None = None
) -> tuple[Image.Image, Size]:
    """Return an image in RGB, and its size before it was reduced.

    The EXIF orientation is applied, unless the size in ``record`` shows that the image was annotated as stored.
    Transparent pixels become white. Gray levels of more than 8 bits are scaled to the range in use. For an animation,
    the first frame is returned.

    Args:
        source: A path, the bytes of a file, or a PIL image, which is not changed.
        record: The entry of the image in the COCO document.
        longest: Reduce a larger image by an integer factor; the longer side stays at least this long. A JPEG is
            decoded at the reduced size.

    Raises:
        InvalidParameterError: If it is not a complete image in one of :data:`FORMATS`, or has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS`` (default: 89 million).
    """
    name = repr(Path(source).name) if isinstance(source, (str, os.PathLike)) else "image"
    try:
        if isinstance(source, Image.Image):
            header = _header(source)
            return _upright(source, header, record, longest), header.size_in(record)
        with _opened(source) as image:
            header = _header(image)
            if longest is not None:
                image.draft(None, (longest, longest))
            return _upright(image, header, record, longest), header.size_in(record)
    except FileNotFoundError:
        raise InvalidParameterError(f"{name} does not exist.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidParameterError(
            f"{name} is too large: {error} If you trust the file, increase PIL.Image.MAX_IMAGE_PIXELS."
        ) from None
    except Exception as error:
        # Pillow's decoders can raise any exception for a corrupt file.
        raise InvalidParameterError(f"{name} is not a readable image: {error}") from None


def read_header(path: str | os.PathLike[str]) -> Stored | None:
    """Return the header of an image file; ``None`` if :func:`open_image` would reject it.

    Nothing is decoded, so the rest of the file may be corrupt.
    """
    try:
        with _opened(path) as image:
            return _header(image)
    except Exception:
        # As in open_image.
        return None


def stored_size(path: str | os.PathLike[str]) -> tuple[Size, Size] | None:
    """Return the size of an image as stored, and with its EXIF orientation applied; ``None`` if it cannot be opened.

    Only the header is read.
    """
    found = read_header(path)
    return None if found is None else (found.size, found.upright)


def _opened(source: str | os.PathLike[str] | bytes) -> Image.Image:
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    # Pillow only warns up to twice this number.
    most, pixels = Image.MAX_IMAGE_PIXELS, image.size[0] * image.size[1]
    if most is not None and pixels > most:
        image.close()
        raise Image.DecompressionBombError(
            f"Image size ({pixels} pixels) exceeds limit of {most} pixels, could be decompression bomb DOS attack."
        )
    return image


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation. A PNG is decoded only if it has metadata after its pixels."""
    if image.format != "PNG" or "exif" in image.info or _has_more(image):
        exif = image.getexif()
    else:
        # getexif() of PNG images would decode the image to find metadata after its pixels.
        exif = Image.Image.getexif(image)
    found = exif.get(ExifTags.Base.Orientation, 1)
    return found if found in _TURNS else 1


def _has_more(image: Image.Image) -> bool:
    """Return whether a PNG has EXIF, or text that may contain EXIF, after its pixels."""
    file, seen = getattr(image, "fp", None), False
    if file is None:
        # Already decoded.
        return True
    position = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if seen and kind in (b"eXIf", b"iTXt", b"zTXt"):
            file.seek(position)
            return True
        seen = seen or kind == b"IDAT"
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(position)
    return False


def _header(image: Image.Image) -> Stored:
    """Return the header of an image that has not been decoded yet."""
    orientation, size = _orientation(image), image.size
    swapped = (size[1], size[0])
    upright = swapped if orientation >= 5 else size
    if image.format == "TIFF":
        # Pillow applies the orientation while decoding, and already reports the final size.
        size, upright = upright, size
    is_still = image.format != "WEBP" or getattr(image, "n_frames", 1) == 1
    plain = image.format in _PLAIN_FORMATS and image.mode in _PLAIN_MODES and not image.has_transparency_data
    return Stored(size, upright, orientation, image.format or "", plain and is_still)


def _upright(image: Image.Image, header: Stored, record: dict[str, Any], longest: int | None) -> Image.Image:
    factor = 1 if longest is None else max(1, max(image.size) // (2 * longest))
    found, is_rotated = _in_rgb(image, factor), header.format == "TIFF"
    if header.is_rotated_in(record) == is_rotated or header.orientation == 1:
        return found
    # Every transposition is its own inverse, except for the two quarter turns.
    orientation = {6: 8, 8: 6}.get(header.orientation, header.orientation) if is_rotated else header.orientation
    return found.transpose(_TURNS[orientation])


def _in_rgb(image: Image.Image, factor: int) -> Image.Image:
    """Return a copy in RGB, reduced by a factor."""
    width, height = image.size
    levels = _levels(image) if image.mode.startswith(("I", "F")) else None
    rows = max(1, _PIXELS_AT_A_TIME // (width * factor)) * factor
    if rows >= height or (image.mode in ("L", "RGB") and not image.has_transparency_data):
        return _part_in_rgb(image, factor, levels)
    found = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height)))
        found.paste(_part_in_rgb(part, factor, levels), (0, top // factor))
    return found


def _part_in_rgb(image: Image.Image, factor: int, levels: tuple[float, float] | None) -> Image.Image:
    if levels is not None:
        image = _scaled(image, *levels)
    elif image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if factor > 1:
        if image.has_transparency_data and image.mode not in ("LA", "RGBA"):
            image = image.convert("RGBA")
        image = image.reduce(factor)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _levels(image: Image.Image) -> tuple[float, float]:
    """Return the lowest and highest gray level in use."""
    if image.mode not in ("I", "F", "I;16"):
        image = image.convert("I")
    return cast("tuple[float, float]", image.getextrema())


def _scaled(image: Image.Image, low: float, high: float) -> Image.Image:
    """Return gray levels of more than 8 bits scaled to 8 bits."""
    if not high > low:
        return Image.new("L", image.size)
    scale = 255 / (high - low)
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")
