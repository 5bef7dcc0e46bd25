"""A folder of images in every orientation, annotated as stored, upright, square and in another size."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

#: The relation of the document to the image.
KINDS = ("stored", "upright", "square", "other")
POLYGON = [20, 30, 120, 30, 120, 90, 20, 90]


@dataclass
class Placed:
    """An image file with its document, and the result that every tool must have."""

    name: str
    document: dict
    #: The image, opened.
    image: Image.Image
    #: The transformation from document to image.
    factors: tuple[float, float]


def placed(folder: Path, orientation: int, kind: str, suffix: str = "png") -> Placed:
    """Write an image and its document into the folder of a batch."""
    size = (260, 260) if kind == "square" else (300, 260)
    stored = Image.new("RGB", size, "blue")
    stored.paste("red", (0, 0, size[0] // 2, size[1] // 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = f"{orientation}-{kind}"
    path = folder / "b" / "assets" / f"{name}.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    stored.save(path, exif=exif)
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    with Image.open(buffer) as image:
        upright = ImageOps.exif_transpose(image)
    lies = kind == "stored" and orientation >= 5
    image = stored if lies else upright
    width, height = (image.size[0] * 2, image.size[1] * 3) if kind == "other" else image.size
    counts = [width // 4 * height, width // 2 * height, width * height - width // 4 * height - width // 2 * height]
    label = {"image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [20, 30, 100, 60], "area": 6000}
    document = {
        "info": {"asset_url": "https://example.com/a"},
        "images": [{"id": 1, "file_name": path.name, "width": width, "height": height}],
        "annotations": [
            {"id": 1, **label, "segmentation": [POLYGON]},
            {"id": 2, **label, "segmentation": {"size": [height, width], "counts": counts}},
        ],
        "categories": [{"id": 1, "name": "car"}],
    }
    (folder / "b" / f"{name}.json").write_text(json.dumps(document))
    return Placed(name, document, image, (image.size[0] / width, image.size[1] / height))


def every(folder: Path) -> dict[str, Placed]:
    """Write all images and documents."""
    made = [placed(folder, orientation, kind) for orientation in range(1, 9) for kind in KINDS]
    return {each.name: each for each in made}


def boxes(of: Placed) -> list[list[float]]:
    """Left, top, right and bottom of its boxes in the image."""
    x, y = of.factors
    return [[20 * x, 30 * y, 120 * x, 90 * y]] * 2
