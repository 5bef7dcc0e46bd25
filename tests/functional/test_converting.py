"""A real download converted to other formats by the command, and read by ultralytics."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from cfplatform import coco
from tests.functional.shell import json_lines, run
from tests.layouts import LAYOUTS


def test_from_a_download_to_yolo_and_back(client, tmp_path):
    client.download_project(destination=tmp_path / "labels", assets=True).raise_for_failures()
    parts = ["--part", "train=80", "--part", "val=20"]
    done = run("convert", tmp_path / "labels", tmp_path / "training", "--to", "yolo", "--task", "segment", *parts)
    assert done.returncode == 0
    assert re.search(r"^20 of 20 documents, [1-9][\d.]* kB, ", done.stderr, re.MULTILINE)
    assert done.stdout.splitlines()[-1] == f"yolo segment train data={tmp_path}/training/data.yaml"
    fractions = ["--part", "train=0.8", "--part", "val=0.2"]
    again = run(
        "convert", tmp_path / "labels", tmp_path / "training", "--to", "yolo", "--task", "segment", *fractions, "--json"
    )
    (*lines, last) = json_lines(again.stdout)
    summary = last["summary"]
    assert {line["severity"] for line in lines} <= {"warning"}
    assert summary["parts"]["train"] + summary["parts"]["val"] == summary["images"] == 20
    for part, count in summary["parts"].items():
        images = list((tmp_path / "training" / "images" / part).iterdir())
        assert len(images) == len(list((tmp_path / "training" / "labels" / part).iterdir())) == count
        assert all(image.stat().st_nlink == 2 for image in images)
    back = run("convert", tmp_path / "training" / "data.yaml", tmp_path / "back.json", "--to", "coco", "--json")
    assert json_lines(back.stdout)[-1]["summary"]["annotations"] == summary["annotations"]
    assert [each.code for each in coco.validate(tmp_path / "back.json")] == []


def test_the_same_loss_is_shown_once(client, tmp_path):
    client.download_project(destination=tmp_path / "labels", assets=True).raise_for_failures()
    done = run("convert", tmp_path / "labels", tmp_path / "training", "--to", "yolo")
    first, second, more = (line for line in done.stderr.splitlines() if line.startswith("Warning: "))
    assert "Segmentations are dropped, because the format or task has none: " in first
    assert "There is no part 'val'" in second
    assert more == "Warning: and 19 more"


def test_without_images_no_training_is_proposed(client, tmp_path):
    client.download_project(destination=tmp_path / "labels").raise_for_failures()
    done = run("convert", tmp_path / "labels", tmp_path / "training", "--to", "yolo")
    assert done.stdout.splitlines()[-1] == f"{tmp_path}/training/data.yaml"
    assert "There are no images, so training fails. Download the images" in done.stderr
    assert "There is no part" not in done.stderr
    parts = ["--part", "train=80", "--part", "val=20"]
    done = run("convert", tmp_path / "labels", tmp_path / "training", "--to", "yolo", *parts, "--json")
    messages = [line["message"] for line in json_lines(done.stdout)[:-1] if line["code"] == "no-part"]
    assert messages[0] == (
        "The part 'train' has no images, so training fails. Download the images with assets=True "
        "(--assets), or pass images_from."
    )


def test_a_stream_has_labels_without_images(client, tmp_path):
    made = coco.convert(client.iter_annotations(), tmp_path / "out", "yolo", images=None)
    assert made.images == len(list((tmp_path / "out" / "labels" / "train").iterdir())) == 20


def test_options_reach_the_conversion(tmp_path):
    layout = LAYOUTS["labelbox"](tmp_path / "in")
    found = ["--images-from", layout.images_from, "--images", "copy", "--json"]
    done = run("convert", layout.source, tmp_path / "voc", "--to", "voc", "--origin", "0", *found)
    assert json_lines(done.stdout)[-1]["summary"]["images"] == 24
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "voc" / "JPEGImages").iterdir())
    parts = ["--part", "a=0.5", "--part", "b=0.5", "--seed", "3", "--layout", "parts"]
    done = run("convert", layout.source, tmp_path / "coco", "--to", "coco", *parts, *found)
    assert sum(json_lines(done.stdout)[-1]["summary"]["parts"].values()) == 24
    assert (tmp_path / "coco" / "a" / "_annotations.coco.json").is_file()
    done = run("convert", layout.source, tmp_path / "yolo", "--to", "yolo", "--images", "none", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert list((tmp_path / "yolo" / "images" / "train").iterdir()) == []
    source = LAYOUTS["download"](tmp_path / "labels").source
    batches = ["--batch-name", "train=Day", "--batch-name", "val=Night", "--json"]
    done = run("convert", source, tmp_path / "batches", "--to", "yolo", *batches)
    assert json_lines(done.stdout)[-1]["summary"]["parts"] == {"train": 12, "val": 12}


def test_only_what_cannot_be_read_is_a_failure(tmp_path):
    source = LAYOUTS["export"](tmp_path / "in").source
    assert run("convert", source, tmp_path / "out", "--to", "yolo").returncode == 0
    (source / "Day" / "broken.json").write_text("{")
    done = run("convert", source, tmp_path / "out", "--to", "yolo")
    assert done.returncode == 1
    assert "could not be converted" in done.stderr
    done = run("convert", source, source, "--to", "yolo")
    assert done.returncode == 2
    assert "of other programs" in done.stderr or "contains the source" in done.stderr
    assert run("convert", source, tmp_path / "out").returncode == 2


@pytest.mark.stress
@pytest.mark.parametrize("task", ["detect", "segment", "obb", "pose"])
def test_ultralytics_reads_it_and_trains(tmp_path, monkeypatch, task):
    monkeypatch.setenv("YOLO_CONFIG_DIR", os.fspath(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    ultralytics = pytest.importorskip("ultralytics")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset, load_dataset_cache_file

    source = LAYOUTS["cvat"](tmp_path / "in").source
    path = source / "annotations" / "instances_default.json"
    data = json.loads(path.read_text())
    for category in data["categories"]:
        category["keypoints"] = ["left", "right"]
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["keypoints"] = [x, y, 2, x + width, y + height, 1]
    path.write_text(json.dumps(data))
    made = coco.convert(source, tmp_path / "out", "yolo", task=task, parts={"train": 0.6, "val": 0.4})
    read = check_det_dataset(os.fspath(made.output), autodownload=False)
    assert list(read["names"].values()) == ["bus", "tram", "bike"]
    rows = 0
    for part, count in made.parts.items():
        dataset = YOLODataset(img_path=read[part], data=read, task=task, imgsz=64, augment=False)
        cache = load_dataset_cache_file(Path(dataset.label_files[0]).parent.with_suffix(".cache"))
        found, missing, _, corrupt, total = cache["results"]
        assert (found, missing, corrupt, total, cache["msgs"]) == (count, 0, 0, count, [])
        rows += sum(len(each["cls"]) for each in dataset.get_labels())
    assert rows == made.annotations
    ending = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb"}[task]
    options = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "device": "cpu", "plots": False, "amp": False}
    model = ultralytics.YOLO(f"yolov8n{ending}.yaml")
    model.train(data=os.fspath(made.output), project=os.fspath(tmp_path / "runs"), name="one", **options)
    assert (tmp_path / "runs" / "one" / "weights" / "last.pt").is_file()
