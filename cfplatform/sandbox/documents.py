"""The COCO documents of work items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from . import shapes, timestamps
from .catalogue import Catalogue
from .created import CreatedItem
from .objects import StoredObject


def of_catalogue(catalogue: Catalogue, index: int, revision: int) -> bytes:
    """Return the document of a work item whose picture is drawn."""
    return _encode(
        description=f"Scène {index + 1} of the sandbox’s shapes",
        revision=revision,
        created_at=catalogue.created_at(index),
        image={
            "width": shapes.WIDTH,
            "height": shapes.HEIGHT,
            "file_name": catalogue.ids.encode("asset", index) + ".png",
        },
        annotations=catalogue.scene(index).annotations(),
    )


def of_created(item: CreatedItem, asset: StoredObject | None, revision: int) -> bytes:
    """Return the document of a work item that a client created: its asset, on which nothing was found."""
    width, height = _picture_size(asset)
    return _encode(
        description="An asset of the sandbox’s user",
        revision=revision,
        created_at=item.created_at,
        image={"width": width, "height": height, "file_name": item.asset_url.rpartition("/")[2]},
        annotations=[],
    )


def _encode(
    *,
    description: str,
    revision: int,
    created_at: int,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
) -> bytes:
    created = timestamps.render(created_at)
    document = {
        "info": {
            "description": description,
            "version": str(revision),
            "year": int(created[:4]),
            "contributor": "cfplatform sandbox",
            "date_created": created,
        },
        "licenses": [],
        "images": [{"id": 1, **image, "date_captured": created}],
        "categories": shapes.CATEGORIES,
        "annotations": annotations,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _picture_size(asset: StoredObject | None) -> tuple[int, int]:
    """Return the size of an uploaded picture, or that of the sandbox's own if it is no picture."""
    if asset is not None and not isinstance(asset.content, bytes):
        try:
            with Image.open(asset.content) as picture:
                return picture.size
        except (OSError, ValueError, Image.DecompressionBombError):
            pass
    return shapes.WIDTH, shapes.HEIGHT
