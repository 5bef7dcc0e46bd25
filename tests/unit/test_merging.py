"""Merging, checked with pycocotools: it loads the same from the merged file as from the sources."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from cfplatform import DownloadError, InvalidParameterError, InvalidResponseError, WorkItem, coco
from cfplatform.coco import Document
from cfplatform.progress import NullReporter

ROOT = Path(__file__).parents[2]


NAN, INFINITE = float("nan"), float("inf")
#: What pycocotools does with numpy 2.
MASKS = pytest.mark.filterwarnings("ignore:__array__ implementation")


def loaded(path):
    """A file as pycocotools has it."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(os.fspath(path))


def merged(source, tmp_path, **options):
    """The dataset as plain values, and the account."""
    summary = coco.merge(source, tmp_path / "merged.json", **options)
    return json.loads(summary.output.read_text("ascii")), summary


def document(*, name="1.png", categories=("car", "person"), annotations=2, **members):
    """A document of one image."""
    return {
        "info": {"asset_url": f"assets/{name}", "year": 2026},
        "images": [{"id": 1, "file_name": name, "width": 64, "height": 48}],
        "categories": [{"id": n, "name": each, "supercategory": "all"} for n, each in enumerate(categories, 1)],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": n % len(categories) + 1, "bbox": [n, n, 4, 4], "area": 16}
            for n in range(annotations)
        ],
        **members,
    }


def folder(root, **batches):
    """Labels as a download leaves them: of each batch the documents by their names."""
    for batch, documents in batches.items():
        (root / batch).mkdir(parents=True)
        for name, each in documents.items():
            (root / batch / f"{name}.json").write_text(json.dumps(each))
    return root


# --- Ids --------------------------------------------------------------------------------------------------------------


def test_ids_are_counted_from_one_in_the_order_of_the_source(tmp_path):
    labels = folder(tmp_path / "labels", b={"2": document(name="b2")}, a={"9": document(name="a9"), "10": document()})
    data, summary = merged(labels, tmp_path)
    assert [(each["id"], each["batch"], each["work_item_id"]) for each in data["images"]] == [
        (1, "a", "10"),
        (2, "a", "9"),
        (3, "b", "2"),
    ]
    assert [each["id"] for each in data["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert [each["image_id"] for each in data["annotations"]] == [1, 1, 2, 2, 3, 3]
    assert (summary.documents, summary.images, summary.annotations, summary.categories) == (3, 3, 6, 2)
    assert summary.size == summary.output.stat().st_size
    assert (summary.problem_count, summary.conflict_count, summary.counts) == (0, 0, {})


def test_categories_are_merged_by_name_and_supercategory_whatever_their_ids(tmp_path):
    first = document(categories=("car", "person"))
    second = document(categories=("person", "tram", "car"), annotations=3)
    second["categories"] = [{**each, "id": 10 * each["id"]} for each in second["categories"]]
    for each in second["annotations"]:
        each["category_id"] *= 10
    data, _ = merged([first, second], tmp_path)
    assert [(each["id"], each["name"]) for each in data["categories"]] == [(1, "car"), (2, "person"), (3, "tram")]
    assert [each["category_id"] for each in data["annotations"]] == [1, 2, 2, 3, 1]


def test_segments_of_panoptic_annotations_follow_their_categories(tmp_path):
    segments = [{"id": 7, "category_id": 2, "area": 3}, {"id": 9, "category_id": 5}, {"id": 10}]
    panoptic = {"image_id": 1, "file_name": "1.png", "segments_info": segments}
    first = document(categories=("x",), annotations=0)
    second = document(categories=("car", "person"), annotations=0)
    second["annotations"] = [panoptic]
    data, summary = merged([first, second], tmp_path)
    (found,) = data["annotations"]
    assert found["segments_info"] == [{"id": 7, "category_id": 3, "area": 3}, {"id": 10}]
    assert (found["id"], found["image_id"], found["file_name"]) == (1, 2, "1.png")
    assert [(each.code, each.pointer) for each in summary.problems] == [
        ("dangling-category-id", "/annotations/0/segments_info/1/category_id")
    ]


def test_licenses_are_merged_by_name_and_url(tmp_path):
    def licensed(licenses, own):
        each = document(licenses=licenses)
        each["images"][0]["license"] = own
        return each

    one, other = {"id": 1, "name": "A", "url": "u"}, {"id": 2, "name": "A", "url": "v"}
    sources = [licensed([one], 1), licensed([{**other, "id": 1}, {**one, "id": 2}], 2), licensed([other], 2)]
    data, summary = merged([*sources, licensed([], 4), licensed(None, [4]), licensed([one], None)], tmp_path)
    assert data["licenses"] == [one, other]
    assert [each.get("license", "none") for each in data["images"]] == [1, 1, 2, "none", "none", None]
    assert summary.counts == {"dangling-license-id": 2}
    assert (summary.problem_count, summary.licenses) == (0, 2)


def test_what_all_documents_say_of_themselves_is_kept(tmp_path):
    info = {"year": 2026, "version": "1", "asset_url": "a"}
    sources = [document(info=info, tool={"n": 1}, videos=[1]), document(info={**info, "version": "2"}, tool={"n": 1})]
    data, summary = merged(sources, tmp_path)
    assert data["info"] == {"year": 2026}
    assert data["tool"] == {"n": 1}
    assert "videos" not in data
    assert [(each.code, each.severity) for each in summary.conflicts] == [("member-left-out", "warning")]
    again, summary = merged(sources[::-1], tmp_path)
    assert (again["info"], again.keys(), summary.counts) == (data["info"], data.keys(), {"member-left-out": 1})


def test_the_documents_of_a_caller_stay_as_they_are(tmp_path):
    source = [document(), document(licenses=[{"id": 1, "name": "A"}])]
    before = copy.deepcopy(source)
    coco.merge(source, tmp_path / "merged.json")
    assert source == before


def test_one_document_object_may_be_used_over_and_over(tmp_path):
    def stream():
        each = document(categories=("car",))
        yield each
        each["categories"][0]["name"] = "tram"
        yield each

    data, _ = merged(stream(), tmp_path)
    assert [each["name"] for each in data["categories"]] == ["car", "tram"]
    assert [each["category_id"] for each in data["annotations"]] == [1, 1, 2, 2]


def test_the_same_source_gives_the_same_bytes(tmp_path):
    labels = folder(tmp_path / "labels", a={str(n): document(name=f"{n % 3}.png") for n in range(20)})
    first = coco.merge(labels, tmp_path / "1.json").output.read_bytes()
    assert coco.merge(str(labels), tmp_path / "2.json").output.read_bytes() == first
    assert coco.merge(coco.read(labels), tmp_path / "3.json").output.read_bytes() == first


def test_nothing_becomes_an_empty_dataset(tmp_path):
    data, summary = merged([], tmp_path)
    assert data == {"info": {}, "licenses": [], "categories": [], "images": [], "annotations": []}
    assert loaded(summary.output).getImgIds() == []


# --- Every variant that the format allows -----------------------------------------------------------------------------

numbers = st.integers(-3, 90) | st.floats(0, 90).map(lambda value: round(value, 2))
ids = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)
boxes = st.tuples(*[st.integers(0, 20).map(float) | st.integers(0, 20)] * 4).map(list)
polygons = st.lists(st.lists(st.integers(0, 47) | st.floats(0, 47), min_size=6, max_size=12), min_size=1, max_size=2)


@st.composite
def uncompressed(draw):
    cuts = sorted(draw(st.lists(st.integers(0, 64 * 48), max_size=6)))
    ends = [0, *cuts, 64 * 48]
    return {"size": [48, 64], "counts": [after - before for before, after in zip(ends, ends[1:], strict=False)]}


@st.composite
def compressed(draw):
    from pycocotools import mask

    made = mask.frPyObjects(draw(uncompressed()), 48, 64)
    return {"size": made["size"], "counts": made["counts"].decode()}


@st.composite
def documents(draw):
    """A document as any tool may write it."""
    images = [
        {"id": each, "width": 64, "height": 48, "file_name": draw(st.text(max_size=6)), **draw(extras)}
        for each in draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    ]
    names = draw(st.lists(st.sampled_from(["car", "Car", " car", "person", "<b>", ""]), max_size=3, unique=True))
    own = draw(st.lists(ids, min_size=len(names), max_size=len(names), unique=True))
    categories = [{"id": number, "name": name} for number, name in zip(own, names, strict=True)]
    annotations = []
    for _ in range(draw(st.integers(0, 4))):
        image = draw(st.sampled_from(images))["id"]
        kinds = ["caption", *(["polygon", "rle", "packed", "keypoints", "empty"] if categories else [])]
        kind = draw(st.sampled_from(kinds))
        made = {"id": draw(ids), "image_id": image, **draw(extras)}
        if kind == "caption":
            made["caption"] = draw(st.text(max_size=9))
        else:
            made |= {"category_id": draw(st.sampled_from(categories))["id"], "bbox": draw(boxes), "iscrowd": 0}
            if draw(st.booleans()):
                made["area"] = draw(st.integers(0, 99) | st.floats(0, 99))
        if kind == "polygon":
            made["segmentation"] = draw(polygons)
        elif kind == "rle":
            made |= {"segmentation": draw(uncompressed()), "iscrowd": 1}
        elif kind == "packed":
            made["segmentation"] = draw(compressed())
        elif kind == "keypoints":
            made |= {"keypoints": [3, 4, 2, 0, 0, 0, 5, 6, 1], "num_keypoints": 2}
        elif kind == "empty":
            made["segmentation"] = []
        annotations.append(made)
    return {"images": images, "categories": categories, "annotations": annotations}


extras = st.dictionaries(st.sampled_from(["attributes", "score", "näme", "x\ud800"]), values, max_size=2)
#: What is reassigned; everything else must be unchanged.
RENEWED = {"id", "image_id", "category_id"}


def contents(data, image, annotation=None):
    """What a dataset says of an annotation, or of an image, apart from ids."""
    if annotation is None:
        names = RENEWED | {"file_name", "original_file_name"}
        return {name: value for name, value in image.items() if name not in names}
    names = {each["id"]: each["name"] for each in data["categories"]}
    named = names[annotation["category_id"]] if annotation.get("category_id") is not None else None
    return named, {name: value for name, value in annotation.items() if name not in RENEWED}


@MASKS
@settings(max_examples=40)
@given(st.lists(documents(), min_size=1, max_size=4))
def test_every_variant_comes_out_as_it_went_in(tmp_path_factory, sources):
    output = tmp_path_factory.mktemp("merge") / "merged.json"
    summary = coco.merge([json.loads(json.dumps(each)) for each in sources], output)
    assert summary.problem_count == 0
    data = json.loads(output.read_text("ascii"))
    whole = loaded(output)
    expected = [
        (contents(source, image), [contents(source, image, each) for each in source["annotations"] if own(each, image)])
        for source in sources
        for image in source["images"]
    ]
    found = [
        (contents(data, image), [contents(data, image, each) for each in whole.imgToAnns[image["id"]]])
        for image in data["images"]
    ]
    assert found == expected
    names = [image["file_name"] for image in data["images"]]
    assert len({*names}) == len(names)
    originals = [image["file_name"] for source in sources for image in source["images"]]
    assert [image["original_file_name"] for image in data["images"]] == originals
    assert [each["id"] for each in data["annotations"]] == list(range(1, summary.annotations + 1))
    # Masks are not only equal as text: the reference decodes the same pixels.
    for each in data["annotations"]:
        if each.get("segmentation") and each["segmentation"] != []:
            assert whole.annToMask(each).shape == (48, 64)


def own(annotation, image):
    return annotation["image_id"] == image["id"]


# --- File names -------------------------------------------------------------------------------------------------------


def test_images_are_found_from_the_folder_of_the_output(tmp_path):
    labels = folder(tmp_path / "labels", a={"1": document()}, b={"1": document(), "2": document()})
    for batch in "ab":
        (labels / batch / "assets").mkdir()
        (labels / batch / "assets" / "1.jpg").touch()
    (tmp_path / "data").mkdir()
    names = {}
    for output in (tmp_path / "all.json", tmp_path / "data/all.json", labels / "all.json"):
        coco.merge(labels, output)
        images = json.loads(output.read_text())["images"]
        names[output.parent.name] = [image["file_name"] for image in images]
        assert [image.get("asset_path") for image in images] == [*names[output.parent.name][:2], None]
        assert all((output.parent / name).is_file() for name in names[output.parent.name][:2])
    assert names["labels"] == ["a/assets/1.jpg", "b/assets/1.jpg", "1.png"]
    assert names["data"] == ["../labels/a/assets/1.jpg", "../labels/b/assets/1.jpg", "1.png"]


def test_the_asset_of_several_images_is_no_name_of_theirs(tmp_path):
    frames = document()
    frames["images"] = [{"id": n, "file_name": f"frame{n}.png"} for n in range(3)]
    labels = folder(tmp_path / "labels", a={"1": frames})
    (labels / "a/assets").mkdir()
    (labels / "a/assets/1.mp4").touch()
    data, _ = merged(labels, tmp_path)
    assert [image["file_name"] for image in data["images"]] == ["frame0.png", "frame1.png", "frame2.png"]
    assert {image["asset_path"] for image in data["images"]} == {"labels/a/assets/1.mp4"}


def test_no_file_name_is_there_twice(tmp_path):
    data, _ = merged([document(name="x/a.png") for _ in range(3)] + [document(name="x/a~2.png")], tmp_path)
    assert [image["file_name"] for image in data["images"]] == ["x/a.png", "x/a~2.png", "x/a~3.png", "x/a~2~4.png"]
    assert [image["original_file_name"] for image in data["images"]] == ["x/a.png"] * 3 + ["x/a~2.png"]


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../up.png", "a/../b", "..", ".", "", "C:\\a.png", "\\\\host\\a", "a\0b", "x:y", "a\nb", "//a"],
)
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    data, _ = merged([document(name=name)], tmp_path)
    (image,) = data["images"]
    assert image["original_file_name"] == name
    path = os.path.normpath(os.path.join("/labels", image["file_name"]))
    assert path.startswith("/labels/")
    assert not set(image["file_name"]) & set('\\:\0\n"')


def test_ways_to_say_the_same_name_are_the_same(tmp_path):
    data, _ = merged([document(name=name) for name in ("./a.png", "a.png", "b//c.png", "b/./c.png")], tmp_path)
    assert [image["file_name"] for image in data["images"]] == ["a.png", "a~2.png", "b/c.png", "b/c~4.png"]


@pytest.mark.parametrize("name", ["<script>.png", "a b.png", "ü/日本.png", "~x", "\ud800.png", "a" * 300])
def test_other_names_stay_as_they_are(tmp_path, name):
    data, _ = merged([Document(document(name=name), batch=name, item_id=name)], tmp_path)
    (image,) = data["images"]
    assert (image["file_name"], image["batch"], image["work_item_id"]) == (name, name, name)


def test_a_merged_dataset_can_be_merged_again(tmp_path):
    labels = folder(tmp_path / "labels", a={"1": document(), "2": document()})
    (labels / "a/assets").mkdir()
    (labels / "a/assets/1.png").touch()
    first, summary = merged(labels, tmp_path)
    (tmp_path / "deep/er").mkdir(parents=True)
    again = coco.merge(summary.output, tmp_path / "deep/er/again.json")
    second = json.loads(again.output.read_text())
    names = [image.pop("file_name") for image in second["images"]]
    assert names == ["../../labels/a/assets/1.png", "1.png"]
    assert (tmp_path / "deep/er" / names[0]).is_file()
    assert second["images"][0].pop("asset_path") == names[0]
    for image in first["images"]:
        image.pop("file_name")
        image.pop("asset_path", None)
    assert second == first
    assert again.problem_count == 0


def test_images_of_a_dataset_are_found_by_its_paths(tmp_path):
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/images/a.png").touch()
    (tmp_path / "b.png").touch()
    names = ["images/a.png", "../b.png", str(tmp_path / "b.png"), "images/none.png", "images", "a\0b"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    (tmp_path / "data/all.json").write_text(json.dumps({"images": images}))
    data, _ = merged(tmp_path / "data/all.json", tmp_path)
    found = [image["file_name"] for image in data["images"]]
    assert found[:5] == ["data/images/a.png", "b.png", "b.png", "images/none.png", "images"]
    assert [image.get("asset_path") for image in data["images"]] == [*found[:3], None, None, None]


def test_the_asset_of_several_images_is_still_found_after_a_second_merge(tmp_path):
    frames = document()
    frames["images"] = [{"id": n, "file_name": f"frame{n}.png"} for n in range(2)]
    labels = folder(tmp_path / "labels", a={"1": frames})
    (labels / "a/assets").mkdir()
    (labels / "a/assets/1.mp4").touch()
    first = coco.merge(labels, tmp_path / "merged.json").output
    again = coco.merge(first, tmp_path / "deep/again.json").output
    assert {image["asset_path"] for image in json.loads(again.read_text())["images"]} == {"../labels/a/assets/1.mp4"}


def test_no_document_has_the_name_of_an_image_that_another_one_has(tmp_path):
    (tmp_path / "p.jpg").touch()
    source = [Document(document(), "i", asset=(tmp_path / "p.jpg").resolve()), document(name="p.jpg")]
    data, _ = merged(source, tmp_path)
    assert [image["file_name"] for image in data["images"]] == ["p.jpg", "p~2.jpg"]


@pytest.mark.parametrize(("old", "reported"), [(7, 7), ("x", "x"), (None, None), ([NAN], None), (NAN, None)])
def test_a_finding_has_the_id_of_the_annotation_if_json_can_have_it(tmp_path, old, reported):
    broken = document()
    broken["annotations"][0] |= {"id": old, "image_id": 99}
    _, summary = merged([broken], tmp_path)
    (found,) = summary.problems
    assert found.annotation_id == reported
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_stream_of_work_items_has_item_batch_and_asset(tmp_path):
    data, _ = merged([(WorkItem({"id": "i", "batchId": 7}), document()), document(info={})], tmp_path)
    known, unknown = data["images"]
    assert (known["work_item_id"], known["batch"], known["asset_url"]) == ("i", "7", "assets/1.png")
    assert not {"work_item_id", "batch", "asset_url", "asset_path"} & set(unknown)


# --- Conflicts --------------------------------------------------------------------------------------------------------


def conflicts(tmp_path, *categories):
    """Codes of the conflicts, and the categories, where each document has some."""
    sources = [document(categories=("x",), annotations=0) | {"categories": each} for each in categories]
    data, summary = merged(sources * 3, tmp_path, on_error=pytest.fail)
    assert summary.problem_count == 0
    assert len(summary.conflicts) == summary.conflict_count
    return [each.code for each in summary.conflicts], data["categories"]


@pytest.mark.parametrize(
    ("second", "code", "count"),
    [
        ({"supercategory": "toy"}, "category-supercategory", 2),
        ({"keypoints": ["nose", "tail"]}, "category-differs", 2),
        ({"skeleton": [[2, 1]]}, "category-differs", 2),
        ({"isthing": 0}, "category-differs", 2),
        ({"color": [1, 2, 3]}, "category-members", 1),
        ({"name": "Cat"}, "category-spelling", 2),
        ({"name": "cat "}, "category-spelling", 2),
    ],
)
def test_categories_that_do_not_agree_are_reported_once(tmp_path, second, code, count):
    first = {"id": 4, "name": "cat", "supercategory": "animal", "keypoints": ["nose"], "skeleton": [], "isthing": 1}
    first["color"] = [0, 0, 0]
    codes, found = conflicts(tmp_path, [first], [{**first, **second}])
    assert codes == [code]
    assert found == [{**first, "id": 1}, {**first, **second, "id": 2}][:count]


def test_what_a_category_does_not_say_is_no_conflict(tmp_path):
    bare, full = {"id": 1, "name": "cat"}, {"id": 5, "name": "cat", "supercategory": "", "keypoints": ["nose"]}
    nothing = {**bare, "supercategory": None, "keypoints": None}
    for first in (bare, nothing):
        codes, (found,) = conflicts(tmp_path, [first], [full], [nothing])
        assert (codes, found["keypoints"], found["supercategory"] or "") == ([], ["nose"], "")


def test_categories_without_a_name_are_distinguished_by_their_ids(tmp_path):
    assert conflicts(tmp_path, [{"id": 1}, {"id": 2}], [{"id": 2}]) == ([], [{"id": 1}, {"id": 2}])


def test_one_category_under_two_ids_is_reported(tmp_path):
    codes, found = conflicts(tmp_path, [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}])
    assert (codes, found) == (["duplicate-category-name"], [{"id": 1, "name": "x"}])


@pytest.mark.parametrize(
    ("licenses", "code", "severity"),
    [
        (
            [{"id": 1, "name": "A", "text": "x"}, {"id": 2, "name": "A", "text": "x"}],
            "duplicate-license-name",
            "warning",
        ),
        ([{"id": 1, "name": "A", "text": "y"}], "license-members", "warning"),
        ([{"id": 1, "name": "A", "text": "x"}, {"id": 1, "name": "B"}], "duplicate-license-id", "error"),
    ],
)
def test_licenses_that_do_not_agree_are_reported(tmp_path, licenses, code, severity):
    first = document(licenses=[{"id": 1, "name": "A", "text": "x"}])
    data, summary = merged([first, document(licenses=licenses)], tmp_path)
    assert data["licenses"] == [{"id": 1, "name": "A", "text": "x"}]
    assert [(each.code, each.severity) for each in (*summary.problems, *summary.conflicts)] == [(code, severity)]
    assert coco.CODES[code].severity == severity


def test_a_merge_and_its_statistics_have_the_same_categories(tmp_path):
    cat = {"id": 4, "name": "cat", "supercategory": "animal", "keypoints": ["nose"]}
    others = [{"supercategory": "toy"}, {"keypoints": []}, {"id": 9}, {"name": "Cat"}, {"color": "red"}, {"name": None}]
    sources = [
        document(annotations=0) | {"categories": [each], "annotations": [{"id": 1, "image_id": 1, "category_id": own}]}
        for other in ({}, *others)
        for each in [{**cat, **other}]
        for own in (each["id"], float(each["id"]))
    ]
    data, summary = merged(sources, tmp_path)
    found = coco.stats(sources).categories
    named = [each for each in data["categories"] if each["name"]]
    assert summary.categories == len(named) + 1
    assert set(found) == {"cat", "cat (toy)", "cat (animal)", "Cat"}
    used = Counter(each["category_id"] for each in data["annotations"])
    assert [used[each["id"]] for each in named] == [
        found[name].annotations for name in ("cat", "cat (toy)", "cat (animal)", "Cat")
    ]


# --- Problems ---------------------------------------------------------------------------------------------------------


def changed(path, value):
    """A document with one thing in it changed."""
    made = document()
    *outer, last = path
    place = made
    for step in outer:
        place = place[step]
    place[last] = value
    return made


@pytest.mark.parametrize(
    ("broken", "code", "pointer", "left"),
    [
        (changed(["annotations", 1, "image_id"], 2), "dangling-image-id", "/annotations/1/image_id", (2, 3)),
        (changed(["annotations", 1, "image_id"], [1]), "dangling-image-id", "/annotations/1/image_id", (2, 3)),
        (changed(["annotations", 1, "category_id"], 9), "dangling-category-id", "/annotations/1/category_id", (2, 3)),
        (changed(["annotations", 0, "category_id"], {}), "dangling-category-id", "/annotations/0/category_id", (2, 3)),
        (changed(["annotations", 1, "area"], NAN), "not-finite", "/annotations/1", (2, 3)),
        (changed(["annotations", 0, "bbox"], [0, 0, INFINITE, 1]), "not-finite", "/annotations/0", (2, 3)),
        (changed(["annotations", 0, "bbox"], {1, 2}), "not-json", "/annotations/0", (2, 3)),
        (changed(["annotations", 0], None), "wrong-type", "/annotations/0", (2, 3)),
        (changed(["annotations"], {}), "wrong-type", "/annotations", (2, 2)),
        (changed(["images", 0, "width"], NAN), "not-finite", "/images/0", (1, 2)),
        (changed(["images", 0], "x.png"), "wrong-type", "/images/0", (1, 2)),
        (changed(["images", 0, "id"], []), "missing-id", "/images/0", (2, 2)),
        (changed(["images"], None), "wrong-type", "/images", (1, 2)),
        ({"annotations": [1]}, "missing-section", "", (1, 2)),
        (changed(["categories", 1, "color"], NAN), "not-finite", "/categories/1", (2, 3)),
        (changed(["categories", 1], None), "wrong-type", "/categories/1", (2, 3)),
        (changed(["categories", 1, "id"], 1), "duplicate-category-id", "/categories/1/id", (2, 3)),
        (changed(["categories", 1, "id"], {}), "missing-id", "/categories/1", (2, 3)),
        (changed(["categories"], "x"), "wrong-type", "/categories", (2, 2)),
    ],
)
def test_entries_that_cannot_be_merged_are_skipped_and_reported(tmp_path, broken, code, pointer, left):
    reported = []
    whole = document(categories=("dog", "cow"))
    data, summary = merged([Document(broken, "item", "batch"), whole], tmp_path, on_error=reported.append)
    assert reported == summary.problems
    finding = reported[0]
    assert (finding.code, finding.severity, finding.pointer, finding.item_id) == (code, "error", pointer, "item")
    assert summary.counts[code] == 1
    assert (summary.images, summary.annotations) == left
    assert [each["id"] for each in data["annotations"]] == list(range(1, left[1] + 1))
    assert [each["id"] for each in data["images"]] == list(range(1, left[0] + 1))
    loaded(summary.output)
    with pytest.raises(InvalidResponseError, match="item"):
        summary.raise_for_problems()


@pytest.mark.parametrize(("segments", "left"), [(None, None), ("x", "x"), ([1, {"id": 2}], [{"id": 2}])])
def test_invalid_segments_are_kept_or_reported(tmp_path, segments, left):
    data, summary = merged([changed(["annotations", 0, "segments_info"], segments)], tmp_path)
    assert data["annotations"][0]["segments_info"] == left
    codes = ["wrong-type"] if segments != left else []
    assert [each.code for each in summary.problems] == codes


def test_what_json_does_not_have_is_not_added_to_a_category_or_to_info(tmp_path):
    first, second = document(info={"year": NAN, "version": "1"}), document(info={"version": "1"})
    second["categories"][1]["color"] = [NAN]
    data, summary = merged([first, second], tmp_path)
    assert (data["info"], data["categories"]) == ({"version": "1"}, first["categories"])
    assert [(each.code, each.pointer) for each in summary.problems] == [("not-finite", "/categories/1/color")]


def test_two_images_with_one_id_are_reported(tmp_path):
    twice = document()
    twice["images"] *= 2
    data, summary = merged([twice], tmp_path)
    assert [each["image_id"] for each in data["annotations"]] == [1, 1]
    assert (summary.images, summary.counts) == (2, {"duplicate-image-id": 1})


def test_invalid_files_are_reported_and_the_rest_is_merged(tmp_path):
    labels = folder(tmp_path / "labels", a={str(n): document() for n in range(300)})
    for number in range(150):
        (labels / "a" / f"{number}.json").write_text("{")
    outcomes = []

    class Shown:
        def start(self, total):
            outcomes.append(total)

        def advance(self, outcome, size):
            outcomes.append(outcome)
            assert (size > 0) == (outcome == "read")

        def finish(self):
            outcomes.append("finished")

    _, summary = merged(labels, tmp_path, progress=Shown())
    assert (summary.documents, summary.problem_count, len(summary.problems)) == (150, 150, 100)
    assert summary.problems[0].path.endswith("0.json")
    assert (outcomes[0], outcomes[-1]) == (300, "finished")
    assert (outcomes.count("read"), outcomes.count("failed")) == (150, 150)
    with pytest.raises(InvalidResponseError, match="150 entries.*And 147 more"):
        summary.raise_for_problems()
    assert "150" in summary._repr_html_()


def test_a_document_without_images_is_not_counted(tmp_path):
    outcomes = []

    class Shown(NullReporter):
        def advance(self, outcome, size):
            outcomes.append((outcome, size > 0))

    _, summary = merged([document(), {}, {"images": 1}, Document([])], tmp_path, progress=Shown())
    assert outcomes == [("read", True), *[("failed", False)] * 3]
    assert (summary.documents, summary.problem_count) == (1, 3)


def test_a_summary_without_problems_raises_nothing(tmp_path):
    _, summary = merged([document()], tmp_path)
    summary.raise_for_problems()
    assert json.loads(json.dumps(summary.as_dict()))["images"] == 1


places = [
    ["images"], ["annotations"], ["categories"], ["licenses"], ["info"], ["tool"], ["images", 0], ["annotations", 1],
    ["categories", 0], ["images", 0, "id"], ["images", 0, "file_name"], ["images", 0, "license"],
    ["annotations", 0, "id"], ["annotations", 0, "image_id"], ["annotations", 0, "category_id"],
    ["annotations", 0, "segments_info"], ["annotations", 0, "bbox"], ["categories", 0, "id"], ["categories", 0, "name"],
    ["categories", 0, "supercategory"], ["categories", 0, "keypoints"], ["licenses", 0], ["licenses", 0, "id"],
    ["info", "asset_url"],
]  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "category_id", "name"]), inner),
    max_leaves=4,
)


@given(st.lists(st.tuples(st.sampled_from(places), anything), max_size=4), st.booleans())
def test_anything_anywhere_leaves_a_dataset_that_loads(tmp_path_factory, changes, first):
    made = document(licenses=[{"id": 1, "name": "A"}], tool={})
    for path, value in changes:
        place = made
        with contextlib.suppress(TypeError, KeyError, IndexError):
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = value
    source = [made, document()] if first else [document(), made]
    summary = coco.merge(source, tmp_path_factory.mktemp("merge") / "merged.json")
    data = json.loads(summary.output.read_text("ascii"), parse_constant=pytest.fail)
    loaded(summary.output)
    for section in ("images", "annotations", "categories", "licenses"):
        assert [each["id"] for each in data[section]] == list(range(1, len(data[section]) + 1))
    assert {each["image_id"] for each in data["annotations"]} <= {each["id"] for each in data["images"]}
    assert {each["category_id"] for each in data["annotations"]} <= {None, *(each["id"] for each in data["categories"])}
    assert summary.annotations + summary.problem_count >= 2
    assert summary.counts.keys() <= coco.CODES.keys()


def test_a_callback_that_raises_stops_the_merge_and_leaves_nothing(tmp_path):
    def stop(finding):
        raise RuntimeError(finding.code)

    with pytest.raises(RuntimeError, match="missing-section"):
        coco.merge([document(), {}], tmp_path / "merged.json", on_error=stop)
    assert list(tmp_path.iterdir()) == []


# --- The output -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", ["labels/a/all.json", "labels/new/all.json", "labels/a/assets/1.json", "labels/a/assets/x"]
)
def test_an_output_among_the_labels_is_refused(tmp_path, place):
    labels = folder(tmp_path / "labels", a={"1": document()}, b={"1": document()})
    with pytest.raises(InvalidParameterError, match="would be read as labels"):
        coco.merge(labels, tmp_path / place)
    assert not (tmp_path / place).exists()


@pytest.mark.parametrize(
    "place", ["labels/all.json", "labels/.hidden/all.json", "labels/a/deep/all.json", "labels/a/all"]
)
def test_an_output_elsewhere_is_never_read_by_the_next_run(tmp_path, place):
    labels = folder(tmp_path / "labels", a={"1": document()}, b={"1": document()})
    first = coco.merge(labels, tmp_path / place)
    assert coco.merge(labels, tmp_path / place) == first.__class__(
        **{**vars(first), "elapsed": pytest.approx(0, abs=9)}
    )


def test_outputs_in_place_of_one_batch_or_one_file_are_refused(tmp_path):
    labels = folder(tmp_path / "labels", a={"1": document()})
    for place in ("all.json", "new/all.json"):
        with pytest.raises(InvalidParameterError, match="would be read as labels"):
            coco.merge(labels / "a", labels / "a" / place)
    (tmp_path / "link").symlink_to(labels / "a")
    with pytest.raises(InvalidParameterError, match="would be read as labels"):
        coco.merge(labels / "a", tmp_path / "link" / "all.json")
    with pytest.raises(InvalidParameterError, match="would be read as labels"):
        coco.merge(labels / "a/1.json", labels / "a/1.json")
    coco.merge(labels / "a", labels / "all.json")


@pytest.mark.parametrize("output", ["", ".", "..", 3, None, "a\0b", "labels"])
def test_what_cannot_be_an_output_is_refused(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "labels", a={"1": document()})
    with pytest.raises(InvalidParameterError, match="output"):
        coco.merge([document()], output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, DownloadError])
def test_a_source_that_fails_leaves_nothing_and_what_was_there(tmp_path, error):
    def failing():
        yield document()
        raise error("no")

    output = tmp_path / "merged.json"
    output.write_text("before")
    with pytest.raises(error):
        coco.merge(failing(), output)
    assert [path.name for path in tmp_path.iterdir()] == ["merged.json"]
    assert output.read_text() == "before"


def test_a_name_that_cannot_be_given_leaves_nothing(tmp_path):
    def documents():
        yield document()
        (tmp_path / "merged.json").mkdir()

    with pytest.raises(DownloadError, match="Could not write .*: Is a directory"):
        coco.merge(documents(), tmp_path / "merged.json")
    assert [path.is_dir() for path in tmp_path.iterdir()] == [True]


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    script = (
        "import resource, signal, sys\n"
        "from cfplatform import coco, DownloadError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
        "document = {'images': [{'id': 1, 'file_name': 'x' * 1000}]}\n"
        "try:\n"
        "    coco.merge((document for _ in range(5000)), sys.argv[1])\n"
        "except DownloadError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "merged.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    assert "Could not write the output in" in done.stdout
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder in which nobody can write")
def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    with pytest.raises(DownloadError, match="Could not write the output in '/proc'"):
        coco.merge([document()], "/proc/merged.json")


def test_a_process_that_is_killed_leaves_no_output(tmp_path):
    script = (
        "import sys, time\n"
        "from cfplatform import coco\n"
        "def documents():\n"
        "    for number in range(20_000):\n"
        "        yield {'images': [{'id': 1, 'file_name': 'x' * 100}]}\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
        "coco.merge(documents(), sys.argv[1])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "merged.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)
    # Its sections had no names, so they are gone with it.
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_the_last_step_goes_with_the_next_run(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from cfplatform import coco\n"
        "from cfplatform.coco import output\n"
        "output.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "coco.merge([{'images': []}], sys.argv[1])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "merged.json")]
    assert subprocess.run(command, check=False, timeout=60, cwd=ROOT).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    (tmp_path / ".mine.part").touch()
    coco.merge([document()], tmp_path / "merged.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "merged.json"]


def test_a_folder_for_the_output_is_made(tmp_path):
    assert coco.merge([document()], tmp_path / "a/b/merged.json").output == tmp_path / "a/b/merged.json"
    (tmp_path / "file").touch()
    with pytest.raises(InvalidParameterError, match="could not be created"):
        coco.merge([document()], tmp_path / "file/merged.json")


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=[pytest.mark.stress, pytest.mark.timeout(1800)])]
)
def test_memory_does_not_grow_with_the_number_of_documents(tmp_path, count):
    script = (
        "import sys\n"
        "from tests.benchmarks.sides.frame import _peak_mb\n"
        "from cfplatform import coco\n"
        "def documents():\n"
        "    for n in range(int(sys.argv[2])):\n"
        "        image = {'id': n, 'file_name': f'{n}.png', 'width': 9, 'height': 9}\n"
        "        yield {'info': {'asset_url': str(n)}, 'images': [image], 'categories': [{'id': 1, 'name': 'x'}],\n"
        "               'notes': [{'image_id': n}], 'videos': [{'id': n}],\n"
        "               'annotations': [{'id': 1, 'image_id': n, 'category_id': 1, 'bbox': [1, 1, 2, 2]}] * 2}\n"
        "assert coco.merge(documents(), sys.argv[1]).images == int(sys.argv[2])\n"
        "print(_peak_mb())\n"
    )

    def peak(count):
        command = [sys.executable, "-c", script, str(tmp_path / "merged.json"), str(count)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=1500, cwd=ROOT).stdout)

    few, many = peak(2_000), peak(count)
    assert (tmp_path / "merged.json").stat().st_size > 200 * count
    # The cache of SQLite, which remembers the names, has 2 MB.
    assert many - few < 3


def test_values_of_numpy_are_those_of_json_everywhere(tmp_path):
    np = pytest.importorskip("numpy")
    outline = [1.0, 2.0, 11.0, 2.0, 11.0, 14.0, 1.0, 14.0]
    annotation = {
        "id": np.int64(7),
        "image_id": np.int64(5),
        "category_id": np.int64(3),
        "bbox": np.array([1.0, 2.0, 10.0, 12.0]),
        "area": np.float32(120),
        "iscrowd": np.int8(0),
        "segmentation": [np.array(outline)],
    }
    data = {
        "images": [{"id": np.int64(5), "file_name": "a.png", "width": np.int32(64), "height": np.int64(48)}],
        "categories": [{"id": np.int64(3), "name": "car"}],
        "annotations": [annotation],
    }
    assert list(coco.validate([data])) == []
    merged = coco.merge([data], tmp_path / "dataset.json")
    assert (merged.problem_count, merged.annotations) == (0, 1)
    written = json.loads(merged.output.read_text())["annotations"][0]
    assert (written["image_id"], written["bbox"], written["segmentation"]) == (1, [1, 2, 10, 12], [outline])
    for source in ([data], [coco.Document(data)]):
        assert coco.stats(source).categories["car"].mean_side == pytest.approx(120**0.5)
        assert sum(part.annotations for part in coco.split(source, tmp_path, {"a": 0.5, "b": 0.5}).parts.values()) == 1
    (document,) = coco.read([data])
    assert document.data["annotations"][0]["bbox"] == [1, 2, 10, 12]
    assert isinstance(annotation["bbox"], np.ndarray)
    # One without such values is read as it is, and so is one with a value that JSON does not have.
    for same in (json.loads(merged.output.read_text()), {"images": [{"id": 1, "taken": 1j}]}):
        assert next(coco.read([same])).data is same


def test_a_pair_of_something_else_is_refused(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"\(work item, document\) pairs, not \(str, dict\)\."):
        coco.merge([("item", {"images": []})], tmp_path / "dataset.json")
