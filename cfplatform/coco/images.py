"""Images: opened in one way everywhere: safely, upright and in RGB (needs Pillow)."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple, cast

from PIL import ExifTags, Image

from ..exceptions import InvalidParameterError
from .placing import Size, is_as_stored

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
#: Pixels that are converted at a time, so that no second copy of a large image is in memory.
_PIXELS_AT_A_TIME = 8_000_000
#: What every tool shows alike, without transparency: formats, and modes with at most 8 bits for a colour.
_PLAIN_FORMATS, _PLAIN_MODES = ("JPEG", "MPO", "PNG", "BMP", "WEBP"), ("1", "L", "P", "RGB")


class Stored(NamedTuple):
    """What the header of an image file says."""

    #: Width and height as stored.
    size: Size
    #: Width and height upright, by the EXIF orientation.
    upright: Size
    #: The EXIF orientation, 1 to 8; 1 if there is none.
    orientation: int
    #: The name of the format, as Pillow has it.
    format: str
    #: Whether other libraries show the same, except for the orientation.
    plain: bool

    @property
    def decoded_pixels(self) -> int:
        """The number of pixels in memory while a small copy is made; a JPEG is decoded at a smaller size."""
        return 0 if self.format in ("JPEG", "MPO") else self.size[0] * self.size[1]

    def turned_in(self, record: dict[str, Any]) -> bool:
        """Return whether :func:`open_image` turns it for this image of a document."""
        return self.orientation != 1 and (self.orientation < 5 or not is_as_stored(record, self.size))

    def is_shown_alike(self, record: dict[str, Any]) -> bool:
        """Return whether other libraries, such as OpenCV, show it as :func:`open_image` opens it."""
        if self.orientation == 1:
            return self.plain
        # Not all of them turn other formats upright; what was annotated as stored they turn.
        return self.plain and self.format in ("JPEG", "MPO") and self.turned_in(record)

    def size_in(self, record: dict[str, Any]) -> Size:
        """Return the size that the image has for this image of a document, as :func:`open_image` opens it."""
        return self.upright if self.turned_in(record) else self.size


def open_image(
    source: str | os.PathLike[str] | bytes | Image.Image, record: dict[str, Any], longest: int | None = None
) -> tuple[Image.Image, Size]:
    """Return an image in RGB, and its size before it was reduced.

    It is turned upright by its EXIF orientation, unless the size in ``record`` is that of the image as stored: then it
    was annotated like that. Transparent pixels become white; gray levels of more than 8 bits are scaled to the range
    used. Of an animation it is the first image.

    Args:
        source: A path, the bytes of a file, or a PIL image, which is not changed.
        record: The image in the COCO document.
        longest: Reduce a larger image by an integer factor, to a longer side of at least this. A JPEG is decoded at
            the reduced size.

    Raises:
        InvalidParameterError: If it is not a whole image in one of :data:`FORMATS`, or has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS`` (89 million unless the program sets another number).
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
            f"{name} is too large to be opened: {error} If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from None
    except Exception as error:
        # Decoders of Pillow raise anything for a broken file.
        raise InvalidParameterError(f"{name} is not an image that can be read: {error}") from None


def read_header(path: str | os.PathLike[str]) -> Stored | None:
    """Return what the header of an image file says; ``None`` if :func:`open_image` would not open it.

    Nothing is decoded, so the rest of the file may be broken.
    """
    try:
        with _opened(path) as image:
            return _header(image)
    except Exception:
        # As in open_image.
        return None


def stored_size(path: str | os.PathLike[str]) -> tuple[Size, Size] | None:
    """Return the size of an image file as stored, and upright by its EXIF orientation; ``None`` if it cannot be opened.

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
    """Return the EXIF orientation. Of a PNG everything is decoded only if there is something behind its pixels."""
    if image.format != "PNG" or "exif" in image.info or _has_more(image):
        exif = image.getexif()
    else:
        # That of PNG images decodes the image to look behind it.
        exif = Image.Image.getexif(image)
    found = exif.get(ExifTags.Base.Orientation, 1)
    return found if found in _TURNS else 1


def _has_more(image: Image.Image) -> bool:
    """Return whether a PNG has EXIF, or text that may have it, behind its pixels."""
    file, seen = getattr(image, "fp", None), False
    if file is None:
        # It was decoded.
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
    """Return what the header says, of an image that is not decoded yet."""
    orientation, size = _orientation(image), image.size
    swapped = (size[1], size[0])
    upright = swapped if orientation >= 5 else size
    if image.format == "TIFF":
        # Pillow turns it upright when it is decoded, and has the size for that already.
        size, upright = upright, size
    is_still = image.format != "WEBP" or getattr(image, "n_frames", 1) == 1
    plain = image.format in _PLAIN_FORMATS and image.mode in _PLAIN_MODES and not image.has_transparency_data
    return Stored(size, upright, orientation, image.format or "", plain and is_still)


def _upright(image: Image.Image, header: Stored, record: dict[str, Any], longest: int | None) -> Image.Image:
    factor = 1 if longest is None else max(1, max(image.size) // (2 * longest))
    found, is_turned = _in_rgb(image, factor), header.format == "TIFF"
    if header.turned_in(record) == is_turned or header.orientation == 1:
        return found
    # The turn that undoes another is the same, except for those to the side.
    orientation = {6: 8, 8: 6}.get(header.orientation, header.orientation) if is_turned else header.orientation
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
    """Return the darkest and the brightest gray level in use."""
    if image.mode not in ("I", "F", "I;16"):
        image = image.convert("I")
    return cast("tuple[float, float]", image.getextrema())


def _scaled(image: Image.Image, low: float, high: float) -> Image.Image:
    """Return gray levels of more than 8 bits with 8, from the darkest to the brightest in use."""
    if not high > low:
        return Image.new("L", image.size)
    scale = 255 / (high - low)
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")
