"""Annotations compared with images: masks, boxes and areas are measured in pixels."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cfplatform.sandbox import Sandbox, shapes
from cfplatform.sandbox.formats import Identifiers

ITEMS = 150

# pycocotools 2.0.11 decodes masks in a way that numpy 2 is going to give up.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def scenes():
    ids = Identifiers(3)
    return [shapes.make_scene(ids.digest("scene", index)) for index in range(ITEMS)]


def pixels(scene):
    return np.asarray(Image.open(io.BytesIO(scene.draw())).convert("RGB"))


def decode(annotation):
    """Return a mask as pycocotools understands the segmentation."""
    segmentation = annotation["segmentation"]
    codes = coco_mask.frPyObjects(segmentation, shapes.HEIGHT, shapes.WIDTH)
    return coco_mask.decode(coco_mask.merge(codes) if isinstance(codes, list) else codes).astype(bool)


def test_masks_lie_on_the_shapes(scenes):
    worst = 1.0
    for scene in scenes:
        picture = pixels(scene)
        for shape, annotation in zip(scene.shapes, scene.annotations(), strict=True):
            drawn = (picture == shape.color).all(axis=2)
            mask = decode(annotation)
            if shape.kind == "ellipse":
                assert (mask == drawn).all()
                assert annotation["area"] == drawn.sum()
            overlap = (mask & drawn).sum() / (mask | drawn).sum()
            worst = min(worst, overlap)
            assert annotation["area"] == pytest.approx(drawn.sum(), rel=0.02)
    assert worst >= 0.95


def test_boxes_enclose_the_shapes(scenes):
    for scene in scenes:
        picture = pixels(scene)
        for shape in scene.shapes:
            rows, columns = np.nonzero((picture == shape.color).all(axis=2))
            x, y, width, height = shape.bbox
            assert x - 0.5 <= columns.min() <= x + 1.5
            assert y - 0.5 <= rows.min()
            assert columns.max() + 1 <= x + width + 0.5
            assert rows.max() + 1 <= y + height + 0.5
            if shape.kind in ("ellipse", "rectangle"):
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert shape.bbox == box


def test_shapes_do_not_touch_and_stay_inside(scenes):
    for scene in scenes:
        assert shapes.MIN_SHAPES <= len(scene.shapes) <= shapes.MAX_SHAPES
        assert len({shape.color for shape in scene.shapes} | {scene.background}) == len(scene.shapes) + 1
        count = np.zeros((shapes.HEIGHT, shapes.WIDTH), int)
        for shape in scene.shapes:
            for x, top, bottom in shape.runs():
                assert 0 <= x < shapes.WIDTH
                assert 0 <= top < bottom <= shapes.HEIGHT
                count[top:bottom, x] += 1
        assert count.max() == 1
        assert (count == 1).sum() == (pixels(scene) != scene.background).any(axis=2).sum()


def test_run_lengths_are_complete(scenes):
    codes = [shape.segmentation for scene in scenes for shape in scene.shapes if shape.kind == "ellipse"]
    assert codes
    for code in codes:
        assert code["size"] == [240, 320]
        assert sum(code["counts"]) == 240 * 320
        assert min(code["counts"]) >= 0


def test_all_kinds_and_sizes_occur(scenes):
    assert {shape.kind for scene in scenes for shape in scene.shapes} == set(shapes.KINDS)
    assert {len(scene.shapes) for scene in scenes} == set(range(shapes.MIN_SHAPES, shapes.MAX_SHAPES + 1))


def test_document_is_coco(tmp_path, capsys):
    sandbox = Sandbox(items=3)
    sandbox.stop()
    content = sandbox.document(2)
    document = json.loads(content)
    assert content == json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    assert not content.isascii()
    assert list(document) == ["info", "licenses", "images", "categories", "annotations"]
    assert {"description", "version", "date_created"} <= document["info"].keys()
    assert "asset_url" not in document["info"]
    (image,) = document["images"]
    assert image["file_name"] == sandbox.work_item(2)["assetUrl"].removeprefix("assets/") + ".png"
    assert Image.open(io.BytesIO(sandbox.asset(2))).size == (image["width"], image["height"])
    for annotation in document["annotations"]:
        assert list(annotation) == [
            "id",
            "image_id",
            "category_id",
            "bbox",
            "area",
            "segmentation",
            "iscrowd",
        ]
        assert annotation["image_id"] == image["id"]

    path = tmp_path / "labels.json"
    path.write_bytes(content)
    dataset = COCO(path)
    capsys.readouterr()
    for annotation in dataset.loadAnns(dataset.getAnnIds()):
        assert dataset.annToMask(annotation).sum() > 0
        assert dataset.loadCats(annotation["category_id"])


def test_documents_have_a_realistic_size_and_are_quick():
    sandbox = Sandbox(items=2000)
    sandbox.stop()
    begin = time.process_time()
    sizes = [len(sandbox.document(index)) for index in range(2000)]
    assert (time.process_time() - begin) / 2000 < 0.001
    assert 1500 < sum(sizes) / 2000 < 5000
    assert max(sizes) < 6000
