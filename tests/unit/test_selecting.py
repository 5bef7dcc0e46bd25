"""Selections: the remaining classes, annotations and images; arguments are not changed."""

from __future__ import annotations

import copy
import json
import unicodedata

import pytest
from pycocotools.coco import COCO

from cfplatform import InvalidParameterError, coco
from tests.layouts import LAYOUTS

CATEGORIES = [
    {"id": 1, "name": "car", "supercategory": "road"},
    {"id": 2, "name": "truck", "supercategory": "works"},
    {"id": 3, "name": "caf\u00e9"},
    {"id": 7, "name": "person", "keypoints": ["nose", "knee"]},
    {"id": 8, "name": "dog", "keypoints": ["nose", "tail"]},
]


def label(own, image, category, side=10.0, **members):
    return {"id": own, "image_id": image, "category_id": category, "bbox": [0, 0, side, 20], **members}


def document():
    return {
        "images": [{"id": number, "file_name": f"{number}.png", "batch": f"b{number % 2}"} for number in (1, 2, 3)],
        "annotations": [
            label(1, 1, 1),
            label(2, 1, 2, side=3),
            label(3, 2, 3, iscrowd=1),
            label(4, 2, 1, segmentation=[[0, 0, 5, 0, 5, 5]]),
            label(5, 1, 7),
        ],
        "categories": copy.deepcopy(CATEGORIES),
    }


def left(**options):
    """The IDs of the annotations that are left of the document, with the names of their classes, and its images."""
    data = document()
    selection = coco.select([data], **options)
    found = [each.data for each in selection]
    assert data == document()
    # A second run is the same.
    assert [each.data for each in selection] == found
    names = {each["id"]: each["name"] for one in found for each in one["categories"]}
    labels = {each["id"]: names[each["category_id"]] for one in found for each in one["annotations"]}
    return labels, [each["id"] for one in found for each in one["images"]], selection.removed


@pytest.mark.parametrize(
    ("options", "labels", "images", "removed", "images_removed"),
    [
        ({}, {1: "car", 2: "truck", 3: "caf\u00e9", 4: "car", 5: "person"}, [1, 2, 3], {}, {}),
        ({"only": ["car"]}, {1: "car", 4: "car"}, [1, 2, 3], {"class": 3}, {}),
        ({"only": ["cafe\u0301"]}, {3: "caf\u00e9"}, [1, 2, 3], {"class": 4}, {}),
        ({"only": ["truck"], "empty_images": False}, {2: "truck"}, [1], {"class": 4}, {"empty": 2}),
        ({"drop": ["car", "person"]}, {2: "truck", 3: "caf\u00e9"}, [1, 2, 3], {"class": 3}, {}),
        ({"batches": ["b0"]}, {3: "caf\u00e9", 4: "car"}, [2], {"batch": 3}, {"batch": 2}),
        ({"batches": ["b1"], "empty_images": False}, {1: "car", 2: "truck", 5: "person"}, [1], {"batch": 2},
         {"batch": 1, "empty": 1}),
        ({"kinds": ["polygon"]}, {4: "car"}, [1, 2, 3], {"kind": 4}, {}),
        ({"min_side": 3.5}, {1: "car", 3: "caf\u00e9", 4: "car", 5: "person"}, [1, 2, 3], {"side": 1}, {}),
        ({"min_side": 3}, {1: "car", 2: "truck", 3: "caf\u00e9", 4: "car", 5: "person"}, [1, 2, 3], {}, {}),
        ({"crowds": False}, {1: "car", 2: "truck", 4: "car", 5: "person"}, [1, 2, 3], {"crowd": 1}, {}),
        ({"where": lambda annotation, image, whole: annotation["id"] + image["id"] > 4 and "images" in whole.data},
         {3: "caf\u00e9", 4: "car", 5: "person"}, [1, 2, 3], {"where": 2}, {}),
        ({"rename": {"car": "truck", "truck": "van"}},
         {1: "truck", 2: "van", 3: "caf\u00e9", 4: "truck", 5: "person"}, [1, 2, 3], {}, {}),
        ({"rename": {"car": "truck"}}, {1: "truck", 2: "truck", 3: "caf\u00e9", 4: "truck", 5: "person"}, [1, 2, 3],
         {}, {}),
    ],
)  # fmt: skip
def test_what_is_left(options, labels, images, removed, images_removed):
    assert left(**options) == (labels, images, coco.Removed(removed, images_removed))


@pytest.mark.parametrize("layout", ["roboflow", "cvat", "official", "download"])
def test_the_same_annotations_as_those_of_pycocotools(layout, tmp_path):
    source = LAYOUTS[layout](tmp_path / "source").source
    whole = coco.merge(source, tmp_path / "all.json").output
    selected = coco.merge(coco.select(source, only=["tram", "bike"][: 1 + (layout != "roboflow")]), tmp_path / "1.json")
    theirs, ours = COCO(str(whole)), COCO(str(selected.output))
    wanted = theirs.getCatIds(catNms=["tram", "bike"])
    expected = theirs.loadAnns(theirs.getAnnIds(catIds=wanted))
    assert expected
    shape = ("image_id", "bbox", "area", "segmentation")
    assert [[each[name] for name in shape] for each in ours.loadAnns(ours.getAnnIds())] == [
        [each[name] for name in shape] for each in expected
    ]
    assert len(ours.getImgIds()) == len(theirs.getImgIds())


def test_classes_have_the_order_of_only_though_documents_begin_with_others(tmp_path):
    first, second = document(), document()
    first["categories"] = CATEGORIES[1:2]
    first["annotations"] = [label(1, 1, 2)]
    second["categories"] = [*CATEGORIES, {"id": 9, "name": "car", "supercategory": "toys"}]
    second["annotations"] += [label(9, 1, 9)]
    selection = coco.select([first, second], only=["caf\u00e9", "car", "truck"], rename={"truck": "van"})
    merged = json.loads(coco.merge(selection, tmp_path / "all.json").output.read_text())
    names = [(each["id"], each["name"], each.get("supercategory")) for each in merged["categories"]]
    assert names == [(1, "caf\u00e9", None), (2, "car", "road"), (3, "van", "works"), (4, "car", "toys")]
    assert [each["category_id"] for each in merged["annotations"]] == [3, 2, 3, 1, 2, 4]
    outer = coco.select(selection, drop=["car"], rename={"van": "lorry"})
    merged = json.loads(coco.merge(outer, tmp_path / "all.json").output.read_text())
    assert [each["name"] for each in merged["categories"]] == ["caf\u00e9", "lorry"]
    (_, again) = selection
    assert [each["name"] for each in again.data["categories"]] == ["caf\u00e9", "car", "car", "van"]


def test_classes_that_become_one_are_one_in_all_documents(tmp_path):
    one, other = document(), document()
    one["categories"], other["categories"] = CATEGORIES[:1], CATEGORIES[1:2]
    one["annotations"], other["annotations"] = [label(1, 1, 1)], [label(1, 1, 2)]
    selection = coco.select([one, other], rename={"car": "vehicle", "truck": "vehicle"})
    found = coco.stats(selection)
    assert {name: each.annotations for name, each in found.categories.items()} == {"vehicle": 2}
    merged = json.loads(coco.merge(selection, tmp_path / "all.json").output.read_text())
    assert merged["categories"] == [{"id": 1, "name": "vehicle", "supercategory": "road"}]


def test_classes_with_other_keypoints_do_not_become_one():
    with pytest.raises(InvalidParameterError, match="rename merges 'person' and 'dog', but they differ in 'keypoints'"):
        left(rename={"person": "animal", "dog": "animal"})
    # One without keypoints has no other ones.
    assert left(rename={"person": "animal", "car": "animal"})[0][5] == "animal"


def test_references_follow():
    data = document()
    data["images"][0].update(neg_category_ids=[2, 3, 1], next_image_id=3)
    data["annotations"] = [
        {"image_id": 1, "segments_info": [{"id": 5, "category_id": 2}, {"id": 6, "category_id": 1}]},
        {"image_id": 2, "segments_info": [{"id": 7, "category_id": 3}]},
    ]
    data["scenes"] = [{"image_id": 1, "name": "day"}, {"image_id": 3, "name": "night"}]
    selection = coco.select([data], drop=["caf\u00e9"], rename={"car": "x", "truck": "x"}, empty_images=False)
    (found,) = (each.data for each in selection)
    assert found["images"] == [{"id": 1, "file_name": "1.png", "batch": "b1", "neg_category_ids": [1]}]
    assert [each["segments_info"] for each in found["annotations"]] == [
        [{"id": 5, "category_id": 1}, {"id": 6, "category_id": 1}]
    ]
    assert found["scenes"] == [{"image_id": 1, "name": "day"}]
    assert selection.removed == coco.Removed({"class": 1}, {"empty": 2})


def test_captions_have_no_class():
    data = {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "caption": "a", "category_id": 4}]}
    classes = [{"id": 1, "name": "car"}]
    with_classes = {**data, "categories": classes, "annotations": [{"id": 2, "image_id": 1, "caption": "b"}]}
    source = [data, with_classes]
    assert [len(each.data["annotations"]) for each in coco.select(source, only=["car"])] == [0, 0]
    assert [len(each.data["annotations"]) for each in coco.select(source, drop=["car"])] == [1, 1]


def test_what_is_wrong_is_still_reported(tmp_path):
    data = document()
    data["annotations"] += [None, 5, label(90, 4, 1), label(91, 1, 44), label(92, 1, [1])]
    data["categories"] += [None, {"id": 1, "name": "again"}]
    expected = coco.merge([data], tmp_path / "1.json").counts
    assert expected
    assert coco.merge(coco.select([data], only=["car"], min_side=1), tmp_path / "2.json").counts == expected
    odd = [{"images": 5}, {"images": [], "categories": 5}, {"annotations": {}}]
    before = coco.merge(odd, tmp_path / "3.json").counts
    assert coco.merge(coco.select(odd, min_side=1, empty_images=False), tmp_path / "4.json").counts == before


def test_a_frame_that_is_left_of_a_video_is_not_the_video(tmp_path):
    video = tmp_path / "assets" / "clip.mp4"
    video.parent.mkdir()
    video.write_bytes(b"video")
    whole = coco.Document(document(), "item", "b", tmp_path / "item.json", video)
    (found,) = coco.select([whole], only=["truck"], empty_images=False)
    assert found.image_path(found.data["images"][0]) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["caar"]}, "only lists the class 'caar', which is not in the source. Did you mean 'car'?"),
        ({"drop": ["zebra"]}, "drop lists the class 'zebra'.* It has 'caf\u00e9', 'car', 'dog', 'person', 'truck'"),
        ({"rename": {"vehicle": "car"}}, "rename lists the class 'vehicle'"),
        ({"batches": ["b7"]}, "batches lists the batch 'b7', .* Did you mean 'b"),
    ],
)
def test_what_the_source_does_not_have(options, message, tmp_path):
    with pytest.raises(InvalidParameterError, match=message):
        coco.merge(coco.select([document()], **options), tmp_path / "all.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ({"only": "car"}, "only"),
        ({"only": []}, "only"),
        ({"drop": [1]}, "drop"),
        ({"only": ["caf\u00e9"], "drop": [unicodedata.normalize("NFD", "caf\u00e9")]}, "drop"),
        ({"rename": ["a"]}, "rename"),
        ({"rename": {"a": ""}}, "rename"),
        ({"kinds": ["circle"]}, "kinds"),
        ({"min_side": -1}, "min_side"),
        ({"min_side": "3"}, "min_side"),
        ({"where": 5}, "where"),
        ({"images_from": "nowhere"}, "images_from"),
    ],
)
def test_arguments_are_checked_at_the_call(options, parameter):
    with pytest.raises(InvalidParameterError) as caught:
        coco.select([document()], **options)
    assert caught.value.parameter == parameter


def test_a_selection_is_a_source_of_every_function(tmp_path):
    layout = LAYOUTS["cvat"](tmp_path / "source")
    inner = coco.select(layout.source, drop=["bus"])
    selection = coco.select(inner, crowds=False)
    found = coco.stats(selection)
    assert set(found.categories) == {"tram", "bike"}
    assert (found.crowds, found.images) == (0, len(layout.images))
    assert inner.removed.annotations["class"] > 0 < selection.removed.annotations["crowd"]
    parts = coco.split(selection, tmp_path / "parts", {"a": 0.5, "b": 0.5}, images="link").parts
    assert sum(part.annotations for part in parts.values()) == found.annotations
    assert len(list((tmp_path / "parts" / "images").iterdir())) == len(layout.images)
    with pytest.raises(InvalidParameterError, match="would be read as labels"):
        coco.merge(selection, layout.documents[0])
    one = coco.select(layout.source, only=["bus"])
    (tmp_path / "empty").mkdir()
    assert coco.merge(one, tmp_path / "1.json", images_from=tmp_path / "empty").images == len(layout.images)
    assert one.removed.annotations["class"] > 0
    names = [image["file_name"] for image in json.loads((tmp_path / "1.json").read_text())["images"]]
    assert not any("/" in name for name in names)
