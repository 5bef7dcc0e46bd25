"""Images of training samples, with errors that name the work item (needs Pillow)."""

from __future__ import annotations

from typing import Any

from ..coco.documents import Document
from ..coco.images import Stored, open_image, read_header
from ..exceptions import InvalidParameterError, InvalidResponseError
from . import labels


def opened(document: Document) -> Any:
    """Return the only image of a document as :func:`~cfplatform.coco.images.open_image` opens it.

    Raises:
        InvalidResponseError: If it cannot be read.
    """
    record = labels.image_of(document)
    try:
        return open_image(str(document.asset), record)[0]
    except InvalidParameterError as error:
        raise InvalidResponseError(
            f"{labels.named(document)}: {error} Remove {str(document.asset)!r} and download with assets=True again."
        ) from None


def header_of(document: Document) -> Stored:
    """Return the header of the only image of a document.

    Raises:
        InvalidResponseError: If it cannot be read.
    """
    found = read_header(str(document.asset))
    if found is None:
        # Raises with the reason.
        opened(document)
        raise InvalidResponseError(f"{labels.named(document)}: {str(document.asset)!r} is not an image.")
    return found
