"""Small datasets in the layouts of labelling tools, with images, for tests that read annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cfplatform import coco

WIDTH, HEIGHT = 64, 48
#: Images of each layout.
COUNT = 24


@dataclass(frozen=True)
class Layout:
    """A dataset as written by a tool.

    Attributes:
        source: What users pass: a folder or a file.
        documents: The files with labels.
        images: The files of the images.
        images_from: The folder that users have to name; ``None`` if images are found without it.
    """

    source: Path
    documents: list[Path]
    images: list[Path]
    images_from: Path | None = None

    def loaded(self) -> list[dict[str, Any]]:
        """Return the documents as plain values."""
        return [json.loads(path.read_bytes()) for path in self.documents]


def roboflow(root: Path) -> Layout:
    """Roboflow's "COCO" export: in each part the images beside ``_annotations.coco.json``, classes from 0 on."""
    classes = [
        {"id": 0, "name": "vehicles", "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": "vehicles"},
        {"id": 2, "name": "tram", "supercategory": "vehicles"},
    ]
    documents, images = [], []
    for part, numbers in {"train": range(16), "valid": range(16, 20), "test": range(20, COUNT)}.items():
        names = [f"street-{number:02}_png.rf.{number:032x}.png" for number in numbers]
        data = _document(names, classes, first=0, date_captured="2026-01-02T03:04:05+00:00", license=1)
        data["info"] = {"year": "2026", "version": "1", "description": "Exported from roboflow.com"}
        data["licenses"] = [{"id": 1, "url": "", "name": "CC BY 4.0"}]
        for image in data["images"]:
            image["extra"] = {"name": image["file_name"].partition("_png")[0] + ".png"}
        documents.append(_write(root / part / "_annotations.coco.json", data))
        images += _images(root / part, names)
    return Layout(root, documents, images)


def cvat(root: Path) -> Layout:
    """CVAT's "COCO 1.0": ``annotations/instances_default.json`` and ``images``, with attributes of each annotation."""
    names = [f"frame_{number:06}.png" for number in range(COUNT)]
    data = _document(names, _classes(first=1, supercategory=""), license=0, flickr_url="", coco_url="", date_captured=0)
    data["info"] = dict.fromkeys(["contributor", "date_created", "description", "url", "version", "year"], "")
    data["licenses"] = [{"name": "", "id": 0, "url": ""}]
    for annotation in data["annotations"]:
        annotation["attributes"] = {"occluded": False, "rotation": 0.0, "track_id": annotation["id"] % 3}
    document = _write(root / "annotations" / "instances_default.json", data)
    return Layout(root, [document], _images(root / "images", names))


def fiftyone(root: Path) -> Layout:
    """FiftyOne's ``COCODetectionDataset``: ``labels.json`` beside ``data``."""
    names = [f"{number:06}.png" for number in range(COUNT)]
    data = _document(names, _classes(first=0, supercategory=None), license=None, coco_url=None)
    data["info"] = {"year": "", "version": "", "description": "Exported from FiftyOne", "contributor": "", "url": ""}
    data["licenses"] = []
    document = _write(root / "labels.json", data)
    return Layout(document, [document], _images(root / "data", names))


def official(root: Path) -> Layout:
    """COCO itself: ``annotations/instances_val2017.json`` beside ``val2017``, with gaps between IDs, and crowds."""
    own = [139 + 146 * number for number in range(COUNT)]
    names = [f"{number:012}.png" for number in own]
    data = _document(names, [{"id": 3, "name": "car", "supercategory": "vehicle"}, *_classes(first=90)], license=4)
    data["info"] = {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "version": "1.0", "year": 2017}
    data["licenses"] = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]
    for image in data["images"]:
        image.update(id=own[image["id"] - 1], coco_url=f"http://images.cocodataset.org/val2017/{image['file_name']}")
    for annotation in data["annotations"]:
        annotation["image_id"] = own[annotation["image_id"] - 1]
    document = _write(root / "annotations" / "instances_val2017.json", data)
    return Layout(root, [document], _images(root / "val2017", names))


def label_studio(root: Path) -> Layout:
    r"""Label Studio's "COCO" on Windows: ``result.json`` beside ``images``, and names such as ``images\a.png``."""
    names = [f"{number:08x}-street.png" for number in range(COUNT)]
    data = _document([f"images\\{name}" for name in names], _classes(first=0, supercategory=None), first=0)
    data["info"] = {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}
    for annotation in data["annotations"]:
        annotation["ignore"] = 0
    document = _write(root / "result.json", data)
    return Layout(document, [document], _images(root / "images", names))


def labelbox(root: Path) -> Layout:
    """Labelbox's converter: text IDs, URLs as names; the images were downloaded into a folder of the user."""
    names = [f"street%20{number:02}.png" for number in range(COUNT)]
    data = _document([f"https://storage.example/bucket/{name}?token=x" for name in names], _classes(first=1))
    for number, image in enumerate(data["images"]):
        image["id"] = f"ck{number:022}"
    for annotation in data["annotations"]:
        annotation.update(id=f"label-{annotation['id']}", image_id=f"ck{annotation['image_id'] - 1:022}")
    document = _write(root / "labels" / "export.json", data)
    images = _images(root / "downloads", [name.replace("%20", " ") for name in names])
    return Layout(document, [document], images, root / "downloads")


def taco(root: Path) -> Layout:
    """TACO: ``annotations.json`` beside folders of images, with scenes as a list of its own."""
    names = [f"batch_{1 + number // 8}/{number:06}.png" for number in range(COUNT)]
    data = _document(names, _classes(first=0), first=0, license=None, flickr_url="https://f.example/1", coco_url=None)
    data["scene_categories"] = [{"id": number, "name": name} for number, name in enumerate(["clean", "indoor", "road"])]
    data["scene_annotations"] = [
        {"image_id": each["id"], "background_ids": [each["id"] % 3]} for each in data["images"]
    ]
    document = _write(root / "data" / "annotations.json", data)
    return Layout(root, [document], _images(root / "data", names))


def video(root: Path) -> Layout:
    """TAO, BDD100K and CVAT for video: frames with the ``video_id`` of one of the ``videos``, and tracks."""
    names = [f"clip-{number // 4}/{number % 4:05}.png" for number in range(COUNT)]
    data = _document(names, _classes(first=1))
    data["videos"] = [{"id": 1 + n, "name": f"clip-{n}", "width": WIDTH, "height": HEIGHT} for n in range(COUNT // 4)]
    for number, image in enumerate(data["images"]):
        image.update(video_id=1 + number // 4, frame_index=number % 4)
    for annotation in data["annotations"]:
        annotation.update(video_id=1 + (annotation["image_id"] - 1) // 4, track_id=annotation["category_id"])
    document = _write(root / "annotations" / "train.json", data)
    return Layout(root, [document], _images(root / "images", names))


def export(root: Path) -> Layout:
    """An unpacked export of ours that was rearranged: one file of many images in the folder of each batch."""
    documents, images = [], []
    for batch in ("Day", "Night"):
        names = [f"{batch.lower()}-{number:02}.png" for number in range(COUNT // 2)]
        documents.append(_write(root / batch / "annotations.json", _document(names, _classes(first=1))))
        images += _images(root / batch / "images", names)
    return Layout(root, documents, images)


def download(root: Path) -> Layout:
    """A download of ours, copied without its state: ``<batch>/<work item>.json``, images in ``<batch>/assets``."""
    documents, images = [], []
    for number in range(COUNT):
        item, batch = f"item-{number:02}", ("Day", "Night")[number % 2]
        data = _document([f"original {number}.png"], _classes(first=1), shift=number)
        data["info"] = {"asset_url": f"assets/{number}"}
        documents.append(_write(root / batch / f"{item}.json", data))
        images += _images(root / batch / "assets", [f"{item}.png"])
    return Layout(root, documents, images)


def merged(root: Path) -> Layout:
    """The output of ``coco.merge`` for a download: the dataset beside its folder."""
    labels = download(root / "labels")
    document = coco.merge(labels.source, root / "dataset.json").output
    return Layout(document, [document], labels.images)


#: Each layout by its name.
LAYOUTS: dict[str, Callable[[Path], Layout]] = {
    each.__name__: each
    for each in (
        roboflow,
        cvat,
        fiftyone,
        official,
        label_studio,
        labelbox,
        taco,
        video,
        export,
        download,
        merged,
    )  # fmt: skip
}


def _classes(first: int, supercategory: str | None = "vehicle") -> list[dict[str, Any]]:
    outer = {} if supercategory is None else {"supercategory": supercategory}
    return [{"id": first + number, "name": name, **outer} for number, name in enumerate(["bus", "tram", "bike"])]


def _document(
    names: list[str], classes: list[dict[str, Any]], *, first: int = 1, shift: int = 0, **members: Any
) -> dict[str, Any]:
    """Return a document with none, one, two or three annotations of each image: polygon, mask and box in turn."""
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, **members}
        for number, name in enumerate(names, first)
    ]
    annotations: list[dict[str, Any]] = []
    for number in range(first + shift, len(names) + first + shift):
        for which in range(number % 4):
            shape = _shape(which, number)
            category = classes[(number + which) % len(classes)]["id"]
            own = {"id": len(annotations) + first, "image_id": number - shift, "category_id": category}
            annotations.append({**own, **shape})
    return {"images": images, "annotations": annotations, "categories": classes}


def _shape(which: int, number: int) -> dict[str, Any]:
    x, y, width, height = 2 + number % 20, 3 + which, 8 + number % 30, 5 + 10 * which
    box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
    if which == 0:
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        return {**box, "segmentation": [[float(each) for each in corners]]}
    if which == 1:
        column = [height, HEIGHT - height]
        counts = [x * HEIGHT + y, *(column * width)[:-1], (WIDTH - x - width) * HEIGHT + HEIGHT - height - y]
        return {**box, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}, "iscrowd": 1}
    return {**box, "segmentation": []}


def _write(path: Path, data: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def _images(folder: Path, names: list[str]) -> list[Path]:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (10 * number % 256, 100, 200)).save(path)
    return [folder / name for name in names]
