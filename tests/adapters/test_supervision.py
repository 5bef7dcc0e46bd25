"""supervision: the detections of documents, and a folder as a dataset that it can split and write."""

from __future__ import annotations

import json
import os
import tempfile

import pytest
from hypothesis import given

from cfplatform import InvalidParameterError, InvalidResponseError
from cfplatform.coco import Document, check
from tests.unit.odd_documents import odd_documents

sv = pytest.importorskip("supervision", reason="needs supervision: python -m tests.adapters installs it")

from cfplatform.adapters.supervision import to_dataset, to_detections  # noqa: E402

CLASSES = ["ellipse", "rectangle", "star", "triangle"]


def test_detections_are_the_labels(sandbox):
    for item in sandbox.work_item_ids():
        document = json.loads(sandbox.document(item))
        annotations = document["annotations"]
        found = to_detections(document, CLASSES, masks=True)
        assert len(found) == len(annotations)
        for index, each in enumerate(annotations):
            x, y, width, height = each["bbox"]
            assert found.xyxy[index].tolist() == pytest.approx([x, y, x + width, y + height])
            assert CLASSES[found.class_id[index]] == found.data["class_name"][index]
            assert found.data["area"][index] == each["area"]
            assert found.mask[index].sum() == pytest.approx(each["area"], rel=0.05)
        assert found.mask.shape == (len(annotations), 240, 320)


def test_an_image_without_labels_has_no_detections():
    image = {"id": 1, "width": 4, "height": 3}
    found = to_detections(Document({"images": [image]}, "i"), CLASSES, masks=True)
    assert (len(found), found.xyxy.shape, found.mask.shape) == (0, (0, 4), (0, 3, 4))
    with pytest.raises(InvalidResponseError, match="Work item i has 0 images"):
        to_detections(Document({}, "i"), CLASSES)


def test_a_folder_is_a_dataset_that_it_splits_draws_and_writes(folder, sandbox, tmp_path):
    dataset = to_dataset(folder)
    assert (len(dataset), dataset.classes) == (20, CLASSES)
    boxes = {path.rpartition("/")[2].removesuffix(".png"): detections.xyxy.tolist() for path, _, detections in dataset}
    assert boxes == {
        item: to_detections(json.loads(sandbox.document(item)), CLASSES).xyxy.tolist()
        for item in sandbox.work_item_ids()
    }
    path, picture, detections = dataset[0]
    assert picture.shape == (240, 320, 3)
    assert (sv.BoxAnnotator().annotate(picture.copy(), detections) != picture).any()
    train, test = dataset.split(split_ratio=0.8, random_state=1)
    assert (len(train), len(test)) == (16, 4)
    dataset.as_coco(annotations_path=str(tmp_path / "written.json"))
    written = json.loads((tmp_path / "written.json").read_bytes())
    assert len(written["annotations"]) == sum(map(len, boxes.values()))


def test_items_with_an_image_are_in_the_dataset(folder):
    next(folder.glob("*/assets/*")).unlink()
    with pytest.raises(InvalidParameterError, match="1 of 20 images have no file"):
        to_dataset(folder)
    assert len(to_dataset(folder, classes=["star"], masks=True, skip_missing=True)) == 19


@given(odd_documents())
def test_what_validates_without_findings_is_read_with_all_its_boxes(document):
    if any(check(Document(document))):
        return
    # supervision reads boxes only, not captions or panoptic annotations.
    boxes = [each for each in document["annotations"] if "bbox" in each]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "c.json")
        with open(path, "w") as file:
            json.dump({**document, "annotations": boxes}, file)
        dataset = sv.DetectionDataset.from_coco(folder, path)
    assert sum(map(len, dataset.annotations.values())) == len(boxes)
