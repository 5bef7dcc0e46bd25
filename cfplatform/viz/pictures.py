"""Pictures as they are drawn on: opened safely, upright, in colours, and of a bounded size."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import ExifTags, Image

from ..exceptions import InvalidParameterError

#: What a picture may be given as; ``None`` stands for a blank one.
Picture = str | os.PathLike[str] | bytes | Image.Image | None
Size = tuple[int, int]

#: The longer side of what is returned, at the least: smaller pictures are enlarged, so that names can be read.
MIN_SIDE = 256
#: The colour of a picture that is not there.
BLANK = (236, 236, 236)
#: How a picture becomes upright, by the orientation that EXIF tells; from 5 on it lies on its side.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def opened(picture: Picture, expected: Size | None, longest: int) -> tuple[Image.Image, Size]:
    """Return a picture in RGB, with the size that it had before it was reduced or enlarged.

    Args:
        picture: The picture; ``None`` for a blank one.
        expected: The size that the document tells, if any.
        longest: The longer side of the result, at the most.

    Raises:
        InvalidParameterError: If it is no picture, or larger than Pillow opens.
    """
    if picture is None:
        size = expected or (640, 480)
        return Image.new("RGB", fitted(size, longest), BLANK), size
    if not isinstance(picture, (str, bytes, os.PathLike, Image.Image)):
        raise InvalidParameterError(
            f"picture must be a path, bytes, a PIL image or None, not {type(picture).__name__}.", parameter="picture"
        )
    try:
        if isinstance(picture, Image.Image):
            return _prepared(picture, picture.size, expected, longest)
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
            stored = image.size
            # A JPEG is decoded smaller at once; others do not know this.
            image.draft(None, (longest, longest))
            return _prepared(image, stored, expected, longest)
    except FileNotFoundError:
        raise InvalidParameterError(f"{_called(picture)} is not there.") from None
    except Image.DecompressionBombError as error:
        raise InvalidParameterError(
            f"{_called(picture)} is too large to be opened: {error} If it can be trusted, raise "
            "PIL.Image.MAX_IMAGE_PIXELS."
        ) from None
    except Exception as error:
        # The readers of Pillow raise whatever they meet in a broken file.
        raise InvalidParameterError(f"{_called(picture)} is no picture that Pillow can read: {error}") from None


def _called(picture: Picture) -> str:
    return repr(Path(picture).name) if isinstance(picture, (str, os.PathLike)) else "picture"


def fitted(size: Size, longest: int) -> Size:
    """Return the size that a picture is drawn in: reduced to fit, or enlarged by a whole number."""
    side = max(size)
    if side < min(MIN_SIDE, longest):
        times = min(-(-MIN_SIDE // side), longest // side)
        return size[0] * times, size[1] * times
    scale = min(1.0, longest / side)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _prepared(image: Image.Image, stored: Size, expected: Size | None, longest: int) -> tuple[Image.Image, Size]:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    turn = _TURNS.get(orientation)
    upright = (stored[1], stored[0]) if turn is not None and orientation >= 5 else stored
    if expected == stored and expected != upright:
        # Whoever labelled it did not turn it.
        turn, upright = None, stored
    image = _in_colours(image, longest)
    if turn is not None:
        image = image.transpose(turn)
    target = fitted(upright, longest)
    if image.size != target:
        enlarged = max(target) > max(upright)
        image = image.resize(target, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)
    return image, upright


def _in_colours(image: Image.Image, longest: int) -> Image.Image:
    """Return a copy in RGB; a very large one is reduced by a whole number first, to a bit more than is needed."""
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA")
    elif image.mode.startswith(("I", "F")):
        image = _stretched(image)
    image = image.reduce(max(1, max(image.size) // (2 * longest)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Return grey levels of more than 8 bits as what can be seen: from the darkest to the brightest."""
    image = image.convert("F")
    low, high = image.getextrema()
    if not isinstance(low, float) or not isinstance(high, float) or not high > low:
        return Image.new("L", image.size)
    scale = 255 / (high - low)
    return image.point(lambda value: value * scale - low * scale).convert("L")
