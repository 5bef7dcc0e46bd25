"""The images of the gallery, drawn by several threads in the order of the samples."""

from __future__ import annotations

import base64
import io
import os
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from PIL import features

from ..coco.images import read_header
from ..coco.samples import Samples
from ..exceptions import CFPlatformError
from ..viz import Colour, draw

#: Pairs of (maximum number of images, longer side in pixels), which limit the size of the page.
SIDES = ((200, 640), (1000, 480), (3000, 320))
SMALLEST = 240
_QUALITY = 60
#: The effort of WebP; more takes twice the time and saves 5% of the size.
_EFFORT = 2
#: Images with more pixels are drawn one at a time.
LARGE = 6_000_000
#: Number of threads; Pillow releases the GIL.
_WORKERS = min(4, os.cpu_count() or 1)


class Thumbnail(NamedTuple):
    """A drawn image."""

    #: The file in base64; empty if drawing failed.
    text: str
    #: A message to show with it.
    note: str


def side_for(count: int) -> int:
    """Return the longer side in pixels for a page with this number of images.

    Example:
        >>> side_for(500), side_for(10_000)
        (480, 240)
    """
    return next((side for most, side in SIDES if count <= most), SMALLEST)


def media_type() -> str:
    """Return the media type of the images: WebP, or JPEG if Pillow lacks WebP."""
    return "image/webp" if features.check("webp") else "image/jpeg"


def thumbnails(samples: Samples, order: Iterable[int], colours: Mapping[str, Colour]) -> Generator[Thumbnail]:
    """Yield the annotated images of samples in the given order."""
    side, kind = side_for(len(samples)), media_type().partition("/")[2].upper()
    waiting: deque[Future[Thumbnail]] = deque()
    # Memory of large images is returned to the thread that allocated it, so one thread draws all of them.
    with ThreadPoolExecutor(_WORKERS) as small, ThreadPoolExecutor(1) as large:
        try:
            for number in order:
                asset = samples.entry(number).asset
                header = None if asset is None else read_header(asset)
                pool = large if header is not None and header.decoded_pixels > LARGE else small
                waiting.append(pool.submit(_thumbnail, samples, number, colours, side, kind))
                if len(waiting) > 4 * _WORKERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for pool in (small, large):
                pool.shutdown(wait=False, cancel_futures=True)


def _thumbnail(samples: Samples, number: int, colours: Mapping[str, Colour], side: int, kind: str) -> Thumbnail:
    try:
        document = samples[number]
        note = "" if document.asset else "The image is missing."
        try:
            image = draw(document, document.asset, max_size=side, colours=colours)
        except CFPlatformError as error:
            note = str(error)
            image = draw(document.data, None, max_size=side, colours=colours)
    except (CFPlatformError, OSError) as error:
        return Thumbnail("", f"Could not read the annotations: {error}")
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=_QUALITY, method=_EFFORT)
    return Thumbnail(base64.b64encode(buffer.getvalue()).decode(), note)
