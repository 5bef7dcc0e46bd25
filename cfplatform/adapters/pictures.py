"""The picture of a document, opened with Pillow."""

from __future__ import annotations

from PIL import Image, ImageOps

from ..coco.sources import Document
from ..exceptions import InvalidResponseError
from .labels import image_of, named


def opened(document: Document) -> Image.Image:
    """Return the picture of a document in RGB.

    It is turned upright as its EXIF orientation says, unless the document has the size of the picture as it lies.

    Raises:
        InvalidResponseError: If it cannot be read.
    """
    image = image_of(document)
    try:
        with Image.open(str(document.asset)) as picture:
            turned = picture.size != (image.get("width"), image.get("height"))
            return (ImageOps.exif_transpose(picture) if turned else picture).convert("RGB")
    # Pillow raises whatever the decoder of a format came upon.
    except Exception as error:
        raise InvalidResponseError(
            f"{named(document)}: its picture {str(document.asset)!r} cannot be read: {error}. Remove the file and "
            "download with assets=True again, which puts it back."
        ) from None
