"""Small datasets in the layouts of labelling tools: images, statistics, splits and tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from cfplatform import coco
from cfplatform.adapters.rows import COLUMNS, annotation_rows
from tests.layouts import COUNT, LAYOUTS
from tests.unit.test_merging import MASKS, loaded


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path):
    return LAYOUTS[request.param](tmp_path / "source")


def names(data):
    """The images of a dataset by the names that they had in the source."""
    return [image["original_file_name"] for image in data["images"]]


def test_every_image_is_found(layout):
    documents = coco.read(layout.source, images_from=layout.images_from, by_image=True)
    found = [document.asset for document in documents]
    assert sorted(found) == sorted(path.resolve() for path in layout.images)


def test_statistics_are_what_pycocotools_counts(layout):
    found = coco.stats(layout.source)
    annotations, images, areas = Counter(), Counter(), Counter()
    for path in layout.documents:
        reference = loaded(path)
        for category in reference.loadCats(reference.getCatIds()):
            own = reference.getAnnIds(catIds=[category["id"]])
            annotations[category["name"]] += len(own)
            images[category["name"]] += len(reference.getImgIds(catIds=[category["id"]]))
            areas[category["name"]] += sum(each["area"] for each in reference.loadAnns(own))
    assert {name: each.annotations for name, each in found.categories.items()} == dict(annotations)
    assert {name: each.images for name, each in found.categories.items()} == dict(images)
    assert {name: each.area for name, each in found.categories.items()} == pytest.approx(dict(areas))
    assert (found.images, found.documents) == (COUNT, len(layout.documents))
    assert found.annotations == sum(annotations.values()) > COUNT


@MASKS
def test_a_split_divides_the_images_and_keeps_their_annotations(layout, tmp_path):
    summary = coco.split(layout.source, tmp_path / "parts", {"a": 0.5, "b": 0.5}, images_from=layout.images_from)
    parts = {name: json.loads(part.output.read_text()) for name, part in summary.parts.items()}
    assert summary.problems == []
    assert all(len(each["images"]) >= COUNT / 6 for each in parts.values())
    source = [
        image.get("original_file_name", image["file_name"]) for data in layout.loaded() for image in data["images"]
    ]
    assert sorted(sum(map(names, parts.values()), [])) == sorted(source)
    # pycocotools finds as many annotations of each class, with as many pixels, as in the source.
    pixels = Counter()
    for sign, paths in ((1, layout.documents), (-1, [part.output for part in summary.parts.values()])):
        for reference in map(loaded, paths):
            for each in reference.loadAnns(reference.getAnnIds()):
                name = reference.loadCats([each["category_id"]])[0]["name"]
                area = reference.annToMask(each).sum() if each["segmentation"] else each["area"]
                pixels[name, int(area), each["iscrowd"]] += sign
    assert set(pixels.values()) == {0}


@pytest.mark.parametrize("images", [None, "link", "copy"])
def test_the_images_of_a_part_are_found_from_the_part_alone(layout, tmp_path, images):
    parts = {"a": 0.5, "b": 0.5}
    summary = coco.split(layout.source, tmp_path / "parts", parts, images_from=layout.images_from, images=images)
    found = [each for part in summary.parts.values() for each in coco.read(part.output, by_image=True)]
    if images is None:
        assert sorted(each.asset for each in found) == sorted(path.resolve() for path in layout.images)
        return
    file_names = [each.data["images"][0]["file_name"] for each in found]
    assert {name.split("/")[0] for name in file_names} == {"images"}
    assert len(set(file_names)) == COUNT
    assert sorted(each.asset.read_bytes() for each in found) == sorted(path.read_bytes() for path in layout.images)
    shared = {path.stat().st_ino for path in layout.images} & {each.asset.stat().st_ino for each in found}
    assert len(shared) == (COUNT if images == "link" else 0)


def test_tables_keep_every_id_and_name_the_file_of_each_image(layout):
    rows = [
        dict(zip(COLUMNS, row, strict=True))
        for row in annotation_rows(layout.source, empty_images=True, images_from=layout.images_from)
    ]
    ids = Counter((row["image_id"] or row["image_id_text"] or 0, row["file_name"]) for row in rows)
    images = [image for data in layout.loaded() for image in data["images"]]
    assert set(ids) == {(image["id"], image["file_name"]) for image in images}
    annotations = [each["id"] for data in layout.loaded() for each in data["annotations"]]
    found = [row["annotation_id"] if row["annotation_id_text"] is None else row["annotation_id_text"] for row in rows]
    assert Counter(each for each in found if each is not None) == Counter(annotations)
    assert {row["asset_path"] for row in rows} == {str(path.resolve()) for path in layout.images}


def test_frames_of_a_video_stay_together(tmp_path):
    layout = LAYOUTS["video"](tmp_path / "source")
    summary = coco.split(layout.source, tmp_path / "parts", {"a": 0.5, "b": 0.5})
    parts = [json.loads(part.output.read_text())["images"] for part in summary.parts.values()]
    clips = [{image["original_file_name"].partition("/")[0] for image in images} for images in parts]
    assert all(clips)
    assert not clips[0] & clips[1]
    # The name of the video decides, not the number that it has in this document.
    whole = coco.merge(
        [{"images": [], "videos": [{"id": 1, "name": "other"}]}, *layout.loaded()], tmp_path / "all.json"
    )
    for source in (whole.output, coco.read(layout.source, by_image=True)):
        found = coco.split(source, tmp_path / "others", {"a": 0.5, "b": 0.5})
        assert [part.images for part in found.parts.values()] == [len(images) for images in parts]
    data = layout.loaded()[0]
    for each in (*data["videos"], *data["images"]):
        own = "video_id" if "video_id" in each else "id"
        each[own] += 100
    again = coco.split([data], tmp_path / "again", {"a": 0.5, "b": 0.5})
    assert [part.images for part in again.parts.values()] == [len(images) for images in parts]


@pytest.mark.parametrize("secret", ["id_rsa", ".env", "credentials", "config.json", "notes.txt"])
@pytest.mark.parametrize("member", ["file_name", "asset_path"])
def test_a_document_gets_no_file_from_outside_that_is_no_image(tmp_path, secret, member):
    labels = tmp_path / "labels" / "batch"
    labels.mkdir(parents=True)
    (tmp_path / secret).write_text("a secret")
    (tmp_path / "street.webp").write_bytes(b"RIFF")
    suffix = Path(secret).suffix
    for name in (f"../../{secret}", str(tmp_path / secret)):
        image = {"id": 1, "file_name": f"other{suffix}", member: name}
        (labels / "a.json").write_text(json.dumps({"images": [image], "annotations": []}))
        coco.merge(tmp_path / "labels", tmp_path / "made" / "dataset.json", images="copy")
        assert [path.name for path in (tmp_path / "made").rglob("*") if path.is_file()] == ["dataset.json"]
    # An image may be elsewhere, as those of a merged dataset are.
    image = {"id": 1, "file_name": "../../street.webp"}
    (labels / "a.json").write_text(json.dumps({"images": [image], "annotations": []}))
    coco.merge(tmp_path / "labels", tmp_path / "made" / "dataset.json", images="copy")
    assert (tmp_path / "made" / "images" / "street.webp").read_bytes() == b"RIFF"
