"""Merging layouts of other tools: references stay correct, and images and masks are found."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from cfplatform import InvalidParameterError, coco
from cfplatform.coco import Document, choosing, findings, merging, output, references, strata, tables

NAN = float("nan")
POLYGON = [[4, 4, 30, 6, 22, 40]]


def document(*names, first=1, **members):
    """A document with an annotation for each image."""
    numbers = range(first, first + len(names))
    return {
        "images": [
            {"id": n, "file_name": each, "width": 64, "height": 48} for n, each in zip(numbers, names, strict=True)
        ],
        "categories": [{"id": 5, "name": "fork"}, {"id": 1, "name": "spoon"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 5, "bbox": [4, 4, 26, 36], "area": 400, "segmentation": POLYGON}
            for n in numbers
        ],
        **members,
    }


def merged(source, tmp_path, **options):
    summary = coco.merge(source, tmp_path / "merged.json", **options)
    return json.loads(summary.output.read_text("ascii")), summary


def put(path, data=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return path


def loaded(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(os.fspath(path))


def names_of(data, section, member="name"):
    return {each["id"]: each[member] for each in data[section]}


# --- References -------------------------------------------------------------------------------------------------------


def test_lists_of_taco_name_the_same_images_and_scenes(tmp_path):
    def taco(*names, scenes):
        return document(
            *names,
            first=0,
            scene_categories=[{"id": n, "name": each, "supercategory": ""} for n, each in enumerate(scenes)],
            scene_annotations=[{"image_id": n, "background_ids": [n]} for n in range(len(names))],
        )

    source = [taco("a.jpg", "b.jpg", scenes=("clean", "sand")), taco("c.jpg", "d.jpg", scenes=("sand", "water"))]
    data, summary = merged(source, tmp_path)
    images, scenes = names_of(data, "images", "original_file_name"), names_of(data, "scene_categories")
    found = [
        (images[each["image_id"]], [scenes[n] for n in each["background_ids"]]) for each in data["scene_annotations"]
    ]
    assert found == [("a.jpg", ["clean"]), ("b.jpg", ["sand"]), ("c.jpg", ["sand"]), ("d.jpg", ["water"])]
    assert (len(scenes), summary.counts) == (3, {})
    assert len(loaded(summary.output).anns) == 4
    again, _ = merged(put(tmp_path / "first.json", data), tmp_path)
    assert again["scene_annotations"] == data["scene_annotations"]


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_negative_categories_of_lvis_stay_what_they_are(tmp_path):
    lvis = document("a.jpg")
    lvis["images"][0] |= {"neg_category_ids": [1, 5], "not_exhaustive_category_ids": [1], "category_id": 1}
    plain = document("b.jpg", categories=[{"id": 5, "name": "knife"}])
    data, summary = merged([plain, lvis], tmp_path)
    classes, image = names_of(data, "categories"), data["images"][1]
    assert [classes[n] for n in image["neg_category_ids"]] == ["spoon", "fork"]
    assert [classes[n] for n in (*image["not_exhaustive_category_ids"], image["category_id"])] == ["spoon", "spoon"]
    assert summary.counts == {}
    before, after = loaded(put(tmp_path / "lvis.json", lvis)), loaded(summary.output)
    assert (before.annToMask(before.anns[1]) == after.annToMask(after.anns[2])).all()
    assert before.annToMask(before.anns[1]).any()


def video(name, first=0):
    """Two frames of a video, as TAO and CocoVID have them, with a track that goes through both."""
    made = document(f"{name}/0.jpg", f"{name}/1.jpg", first=first)
    made["videos"] = [{"id": 3, "name": name}]
    made["tracks"] = [{"id": 7, "video_id": 3, "category_id": 5, "of": name}]
    for number, (image, annotation) in enumerate(zip(made["images"], made["annotations"], strict=True)):
        image |= {"video_id": 3, "frame_id": number, "prev_image_id": first if number else -1}
        annotation |= {"video_id": 3, "track_id": 7, "instance_id": 0, "attributes": {"track_id": 2, "person_id": 4}}
    return made


def test_videos_tracks_and_instances_of_documents_stay_apart(tmp_path):
    data, summary = merged([video("u"), video("v", first=40)], tmp_path)
    videos, tracks = names_of(data, "videos"), {each["id"]: each for each in data["tracks"]}
    images = {each["id"]: each for each in data["images"]}
    classes = names_of(data, "categories")
    assert list(videos.items()) == [(1, "u"), (2, "v")]
    assert [(each["of"], videos[each["video_id"]], classes[each["category_id"]]) for each in tracks.values()] == [
        ("u", "u", "fork"),
        ("v", "v", "fork"),
    ]
    for each in data["annotations"]:
        image = images[each["image_id"]]
        own = image["file_name"].split("/")[0]
        assert own == videos[image["video_id"]] == videos[each["video_id"]] == tracks[each["track_id"]]["of"]
        assert each["attributes"]["person_id"] == 4
        earlier = image["prev_image_id"]
        assert earlier == -1 if image["frame_id"] == 0 else images[earlier]["file_name"] == f"{own}/0.jpg"
    assert [each["instance_id"] for each in data["annotations"]] == [1, 1, 2, 2]
    inner = [each["attributes"]["track_id"] for each in data["annotations"]]
    assert len({*inner} | {*tracks}) == 4
    assert summary.counts == {}
    # Tracks that are only in attributes come after the others; then nothing changes any more.
    again, _ = merged(put(tmp_path / "first.json", data), tmp_path)
    assert [each["id"] for each in again["tracks"]] == [1, 2]
    third, summary = merged(put(tmp_path / "first.json", again), tmp_path)
    assert (third, summary.counts) == (again, {})


def test_a_video_is_in_the_parts_that_have_frames_of_it(tmp_path):
    source = [Document(video(name), name, batch=name) for name in "uv"]
    coco.split(source, tmp_path, {"train": ["u"], "val": ["v"]})
    for part, name in (("train", "u"), ("val", "v")):
        data = json.loads((tmp_path / f"{part}.json").read_text())
        assert [each["name"] for each in data["videos"]] == [each["of"] for each in data["tracks"]] == [name]
        assert {each["video_id"] for each in data["images"]} == {data["videos"][0]["id"]}
    both = video("u")
    for image, batch in zip(both["images"], "ab", strict=True):
        image["batch"] = batch
    coco.split([both], tmp_path, {"train": ["a"], "val": ["b"]})
    parts = [json.loads((tmp_path / f"{part}.json").read_text()) for part in ("train", "val")]
    assert [len(each["images"]) for each in parts] == [1, 1]
    assert [each["videos"][0]["name"] for each in parts] == ["u", "u"]
    # The frame before is in the other part.
    assert sorted(str(each["images"][0].get("prev_image_id")) for each in parts) == ["-1", "None"]


def test_what_may_refer_to_changed_ids_is_left_out_with_one_warning(tmp_path):
    def unknown(first):
        made = document("a.jpg", "b.jpg", first=first, best={"image_id": first}, tool={"n": 1})
        for each in made["images"]:
            each |= {"scene_id": 1, "row_id": "text", "frame_id": 9, "seen_ids": []}
        made["categories"] = [{"id": 1, "name": "fork"}]
        for each in made["annotations"]:
            each |= {"category_id": 1, "parent_id": first, "score": 0.5}
        return made

    data, summary = merged([unknown(1)], tmp_path)
    # No id changed.
    assert [(each["parent_id"], each["score"]) for each in data["annotations"]] == [(1, 0.5)] * 2
    assert (data["images"][0]["scene_id"], data["best"], summary.counts) == (1, {"image_id": 1}, {})
    tracked = unknown(1)
    tracked["annotations"][1]["track_id"] = 8
    assert "best" not in merged([tracked], tmp_path)[0]
    data, summary = merged([unknown(1), unknown(1)], tmp_path)
    assert [each.get("scene_id") for each in data["images"]] == [1, 1, None, None]
    assert {(each["row_id"], each["frame_id"], str(each["seen_ids"])) for each in data["images"]} == {("text", 9, "[]")}
    assert [each.get("parent_id") for each in data["annotations"]] == [1, 1, None, None]
    assert ("best" in data, data["tool"]) == (False, {"n": 1})
    assert [each.code for each in summary.conflicts] == ["member-left-out"] * 3
    assert all(
        repr(name) in each.message
        for name, each in zip(("scene_id", "parent_id", "best"), summary.conflicts, strict=True)
    )


def test_text_that_is_an_id_of_the_document_may_be_a_reference(tmp_path):
    made = document("a.jpg")
    made["images"][0] |= {"id": "x", "pair_id": "x", "row_id": "y"}
    made["annotations"][0]["image_id"] = "x"
    data, _ = merged([made], tmp_path)
    assert ("pair_id" in data["images"][0], data["images"][0]["row_id"]) == (False, "y")


def test_lists_of_entries_are_joined_and_what_only_describes_categories_is_there_once(tmp_path):
    def noted(name):
        notes = [{"id": 9, "image_id": 1, "text": name}]
        return document(name, notes=notes, palette=[{"category_id": 1, "color": "red"}])

    data, summary = merged([noted("a.jpg"), noted("b.jpg"), document("c.jpg", notes=[])], tmp_path)
    assert data["notes"] == [{"id": n, "image_id": n, "text": each} for n, each in ((1, "a.jpg"), (2, "b.jpg"))]
    assert [(names_of(data, "categories")[each["category_id"]], each["color"]) for each in data["palette"]] == [
        ("spoon", "red")
    ]
    assert summary.counts == {}
    data, summary = merged([document("c.jpg", notes="none"), noted("a.jpg")], tmp_path)
    assert [each["image_id"] for each in data["notes"]] == [2]
    assert summary.counts == {"member-left-out": 1}


def test_entries_that_refer_to_nothing_are_reported(tmp_path):
    made = document(
        "a.jpg",
        notes=[{"image_id": 8}, {"image_id": 1, "category_id": {}}, 3, {"image_id": 1, "x": NAN}, {"image_id": 1}],
    )
    made["images"][0]["neg_category_ids"] = [5, 77, None]
    made["annotations"][0] |= {"id": "a7", "image_ids": [1, 2]}
    data, summary = merged([made], tmp_path)
    assert [(each.code, each.pointer) for each in summary.problems] == [
        ("dangling-image-id", "/notes/0/image_id"),
        ("dangling-category-id", "/notes/1/category_id"),
        ("wrong-type", "/notes/2"),
        ("not-finite", "/notes/3"),
    ]
    assert [(each.code, each.pointer, each.annotation_id) for each in summary.conflicts] == [
        ("dangling-reference", "/images/0/neg_category_ids", None),
        ("dangling-reference", "/annotations/0/image_ids", "a7"),
    ]
    assert data["notes"] == [{"image_id": 1}]
    assert (data["images"][0]["neg_category_ids"], data["annotations"][0]["image_ids"]) == ([1, None], [1])


def test_references_among_images_follow_when_one_cannot_be_written(tmp_path):
    made = document("a.jpg", "b.jpg", "c.jpg")
    made["images"][0]["width"] = NAN
    for image, after in zip(made["images"], (2, 3, 1), strict=True):
        image["next_image_id"] = after
    data, summary = merged([made], tmp_path)
    assert [(each["file_name"], each.get("next_image_id")) for each in data["images"]] == [
        ("b.jpg", 2),
        ("c.jpg", None),
    ]
    assert [(each["id"], each["image_id"]) for each in data["annotations"]] == [(1, 1), (2, 2)]
    assert summary.counts == {"not-finite": 1, "dangling-reference": 1}


def test_a_document_may_not_begin_any_number_of_lists(tmp_path):
    lists = {f"list {number}": [{"image_id": 1}] for number in range(merging._LISTS + 3)}
    data, summary = merged([document("a.jpg", first=0) | lists | {"images": [{"id": 1, "file_name": "a"}]}], tmp_path)
    assert sum(name.startswith("list") for name in data) == merging._LISTS
    assert summary.counts["member-left-out"] == 3


# --- Captions and categories ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [{"categories": []}, {"categories": None}, {}])
def test_captions_without_categories_are_kept(tmp_path, members):
    captions = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], **members}
    captions["annotations"] = [{"id": 1, "image_id": 1, "category_id": 0, "caption": "a street"}]
    data, summary = merged([captions, document("b.jpg", annotations=None)], tmp_path)
    assert [(each["caption"], each["category_id"]) for each in data["annotations"]] == [("a street", None)]
    assert summary.counts == {}
    assert [each["caption"] for each in loaded(summary.output).anns.values()] == ["a street"]
    del captions["annotations"][0]["caption"]
    assert merged([captions], tmp_path)[1].counts == {"dangling-category-id": 1}


def test_names_that_only_unicode_distinguishes_are_one_class(tmp_path):
    source = [
        document("a.jpg", categories=[{"id": 5, "name": name}]) for name in ("caf\u00e9", "cafe\u0301", "Caf\u00e9")
    ]
    data, summary = merged(source, tmp_path)
    assert [each["name"] for each in data["categories"]] == ["caf\u00e9", "Caf\u00e9"]
    assert [each["category_id"] for each in data["annotations"]] == [1, 1, 2]
    assert summary.counts == {"category-spelling": 1}
    assert {name: each.annotations for name, each in coco.stats(source).categories.items()} == {
        "caf\u00e9": 2,
        "Caf\u00e9": 1,
    }


categories = st.fixed_dictionaries(
    {"id": st.sampled_from([1, 2, 1.0, "1", 0])},
    optional={
        "name": st.sampled_from(["car", "Car", "", None, 5, "cafe\u0301", "caf\u00e9"]),
        "supercategory": st.sampled_from(["", "vehicle", None, 3]),
        "keypoints": st.sampled_from([None, [], ["nose"]]),
        "isthing": st.sampled_from([0, 1]),
    },
)


@given(st.lists(st.lists(categories, max_size=3), max_size=3))
def test_classes_of_a_merge_are_those_of_its_statistics(tmp_path_factory, lists):
    source = [
        document("a.jpg", categories=each, annotations=[{"id": 1, "image_id": 1, "category_id": n["id"]} for n in each])
        for each in lists
    ]
    data, _ = merged(source, tmp_path_factory.mktemp("merge"))
    used = Counter(each["category_id"] for each in data["annotations"])
    found = coco.stats(source).categories.values()
    expected = sorted(used[each["id"]] for each in data["categories"] if each.get("name") not in (None, "", 5))
    assert sorted(each.annotations for each in found) == expected


def test_every_code_that_merging_and_splitting_report_is_in_the_table():
    kinds = [tables.Categories, tables.Licenses, tables.SceneCategories]
    found = set()
    for module in (choosing, merging, output, references, strata, tables):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                text = "".join(each.value if isinstance(each, ast.Constant) else "*" for each in node.values)
                # Only categories have members in which they may differ.
                found |= {text.replace("*", kind._one) for kind in kinds if kind._meaning or "differs" not in text}
    codes = {each for each in found if each in findings.CODES}
    assert {"dangling-reference", "category-members", "duplicate-license-id", "not-json", "unknown-batch"} <= codes
    shaped = {each for each in found if each.replace("-", "").isalpha() and each.islower() and "-" in each.strip("-")}
    # What begins or ends with a dash is a part of the texts above.
    assert {each for each in shaped - codes if each.strip("-") == each} == set()


# --- Images -----------------------------------------------------------------------------------------------------------


def test_urls_stay_urls_and_backslashes_become_slashes(tmp_path):
    put(tmp_path / "images/a.jpg")
    url = "https://store.example:8080/o/a.jpg?v=1"
    names = ["images\\a.jpg", "gone\\b.jpg", url, url, "s3://../../etc/passwd", "file:///etc/passwd"]
    data, _ = merged(put(tmp_path / "result.json", document(*names, annotations=[])), tmp_path)
    assert [each["file_name"] for each in data["images"]] == [
        "images/a.jpg", "gone_b.jpg", "images/a.jpg", "images/a.jpg",
        "s3_/unnamed~e6fc5bb9/unnamed~e6fc5bb9/etc/passwd", "file_/etc/passwd",
    ]  # fmt: skip
    assert [each["original_file_name"] for each in data["images"]] == names
    data, _ = merged([document(url, url)], tmp_path)
    assert [each["file_name"] for each in data["images"]] == [url, url]


def test_images_of_a_folder_of_datasets_are_found_and_keep_what_is_known_of_them(tmp_path):
    put(tmp_path / "set/train/_annotations.coco.json", document("a.jpg", "b.jpg"))
    for name in "ab":
        put(tmp_path / f"set/train/{name}.jpg")
    data, _ = merged(tmp_path / "set", tmp_path)
    assert [(each["file_name"], each["batch"]) for each in data["images"]] == [
        ("set/train/a.jpg", "train"),
        ("set/train/b.jpg", "train"),
    ]
    own = {"work_item_id": "w", "batch": "Day", "asset_url": "s3://a", "original_file_name": "first.jpg"}
    data["images"][0] |= own
    put(tmp_path / "all/first.json", data)
    again, _ = merged(tmp_path / "all", tmp_path, images_from=tmp_path)
    assert {name: again["images"][0][name] for name in own} == own
    assert [each["file_name"] for each in again["images"]] == ["set/train/a.jpg", "set/train/b.jpg"]


def test_the_caller_names_the_folder_of_the_images(tmp_path):
    put(tmp_path / "elsewhere/a.jpg")
    data, _ = merged([document("a.jpg")], tmp_path, images_from=tmp_path / "elsewhere")
    assert data["images"][0]["file_name"] == data["images"][0]["asset_path"] == "elsewhere/a.jpg"


def test_a_work_item_without_an_asset_does_not_take_that_of_another(tmp_path):
    for item in ("1", "2"):
        put(tmp_path / f"labels/a/{item}.json", document("1.png", info={"asset_url": item}))
    put(tmp_path / "labels/a/assets/1.png")
    assert [each.asset and each.asset.name for each in coco.read(tmp_path / "labels", by_image=True)] == ["1.png", None]


@pytest.mark.parametrize("age", [0, 3600])
def test_a_folder_that_came_later_is_found(tmp_path, age):
    put(tmp_path / "set/all.json", document("a.jpg"))
    before = (tmp_path / "set").stat().st_mtime - age
    os.utime(tmp_path / "set", (before, before))
    assert merged(tmp_path / "set", tmp_path)[0]["images"][0]["file_name"] == "a.jpg"
    put(tmp_path / "set/Images/a.jpg").parent.rename(tmp_path / "set/images")
    assert merged(tmp_path / "set", tmp_path)[0]["images"][0]["file_name"] == "set/images/a.jpg"


def panoptic(name):
    segments = [{"id": 5, "category_id": 5}, {"id": 6, "category_id": 1, "track_id": 4}]
    annotation = {"image_id": 1, "file_name": f"{name}.png", "segments_info": segments}
    return document(f"{name}.jpg", annotations=[annotation])


def test_masks_of_panoptic_documents_are_kept_apart(tmp_path):
    data, summary = merged([panoptic("1"), panoptic("1")], tmp_path)
    assert [each["file_name"] for each in data["annotations"]] == ["1.png", "1~2.png"]
    assert [each["original_file_name"] for each in data["annotations"]] == ["1.png", "1.png"]
    assert [each["segments_info"][1]["track_id"] for each in data["annotations"]] == [1, 2]
    assert [each["segments_info"][0]["id"] for each in data["annotations"]] == [5, 5]
    assert summary.counts == {}


def test_masks_of_panoptic_documents_are_found(tmp_path):
    for part in ("train", "val"):
        put(tmp_path / f"coco/annotations/panoptic_{part}.json", panoptic("1"))
        put(tmp_path / f"coco/annotations/panoptic_{part}/1.png", part.encode())
        put(tmp_path / f"coco/{part}/1.jpg", part.encode())
    data, summary = merged(tmp_path / "coco", tmp_path, images="copy")
    for section, folder in (("images", "images/"), ("annotations", "masks/")):
        found = [each["file_name"] for each in data[section]]
        assert [(tmp_path / name).read_text() for name in found] == ["train", "val"]
        assert all(name.startswith(folder) for name in found)
    again, _ = merged(put(tmp_path / "first.json", data), tmp_path)
    assert again == data
    assert summary.counts == {}
    streamed, _ = merged([panoptic("1")], tmp_path, images_from=tmp_path / "coco/annotations/panoptic_val")
    assert streamed["annotations"][0]["file_name"] == "coco/annotations/panoptic_val/1.png"
    # The image is no mask, even if it has the name of one.
    same = document("1.jpg", annotations=[{"image_id": 1, "file_name": "1.jpg", "segments_info": []}])
    put(tmp_path / "alone/1.jpg")
    data, _ = merged(put(tmp_path / "alone/all.json", same), tmp_path)
    assert (data["images"][0]["file_name"], data["annotations"][0]["file_name"]) == ("alone/1.jpg", "1.jpg")


# --- Images beside the dataset ----------------------------------------------------------------------------------------


@pytest.fixture
def labels(tmp_path):
    """Two batches whose images have the same names, by case at least."""
    for batch, name in (("Day", "1.png"), ("Night", "1.png"), ("Night", "1.PNG"), ("Night", "2.png")):
        stem, suffix = name.split(".")
        item = f"{stem}{suffix}"
        put(tmp_path / f"labels/{batch}/{item}.json", document(name, info={"asset_url": item}))
        put(tmp_path / f"labels/{batch}/assets/{item}.{suffix}", f"{batch}/{name}".encode())
    return tmp_path / "labels"


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_images_are_put_beside_the_dataset(tmp_path, labels, mode):
    summary = coco.merge(labels, tmp_path / "out/all.json", images=mode)
    first = summary.output.read_bytes()
    images = json.loads(first)["images"]
    assert [(tmp_path / "out" / each["file_name"]).read_text() for each in images] == [
        f"{each['batch']}/{each['original_file_name']}" for each in images
    ]
    names = [each["file_name"] for each in images]
    assert all(name.startswith("images/") for name in names)
    assert len({name.lower() for name in names}) == len(images) == 4
    assert [each["asset_path"] for each in images] == names
    original = labels / "Day/assets/1png.png"
    assert (tmp_path / "out" / names[0]).samefile(original) == (mode == "link")
    files = sorted((tmp_path / "out/images").iterdir())
    assert coco.merge(labels, tmp_path / "out/all.json", images=mode).output.read_bytes() == first
    assert sorted((tmp_path / "out/images").iterdir()) == files
    assert len(loaded(summary.output).imgs) == 4
    # The other way finds them there too.
    other = {"link": "copy", "copy": "link"}[mode]
    assert coco.merge(labels, tmp_path / "out/all.json", images=other).output.read_bytes() == first
    assert not (tmp_path / "out" / names[0]).samefile(original)


def test_other_files_beside_the_dataset_stay(tmp_path, labels):
    put(tmp_path / "images/1png.png", b"mine")
    (tmp_path / "images/2png.png").symlink_to("nowhere")
    data, _ = merged(labels, tmp_path, images="link")
    assert (tmp_path / "images/1png.png").read_bytes() == b"mine"
    assert os.readlink(tmp_path / "images/2png.png") == "nowhere"
    names = [each["file_name"] for each in data["images"]]
    assert not {"images/1png.png", "images/2png.png"} & {*names}
    assert [(tmp_path / name).read_text() for name in names] == [
        "Day/1.png",
        "Night/1.PNG",
        "Night/1.png",
        "Night/2.png",
    ]


def test_an_image_that_is_there_twice_is_one_file(tmp_path):
    put(tmp_path / "in/a.jpg")
    (tmp_path / "in/link.jpg").symlink_to("a.jpg")
    put(tmp_path / "in/all.json", document("a.jpg", "a.jpg", "link.jpg"))
    data, _ = merged(tmp_path / "in/all.json", tmp_path, images="copy")
    assert [each["file_name"] for each in data["images"]] == ["images/a.jpg"] * 3
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.jpg"]
    again, _ = merged(put(tmp_path / "first.json", data), tmp_path, images="copy")
    assert again == data


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_images_that_are_beside_the_dataset_stay(tmp_path, mode):
    original = put(tmp_path / "data/a.jpg")
    (tmp_path / "images").symlink_to("data")
    put(tmp_path / "masks/\udce9.png")
    source = document("a.jpg", annotations=[{"image_id": 1, "file_name": "\udce9.png", "segments_info": []}])
    before = original.stat()
    data, _ = merged(put(tmp_path / "first.json", source), tmp_path, images=mode)
    assert (data["images"][0]["file_name"], data["annotations"][0]["file_name"]) == ("images/a.jpg", "masks/\udce9.png")
    after = original.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("mode", ["move", "", True, 5])
def test_other_ways_are_refused(tmp_path, mode):
    with pytest.raises(InvalidParameterError, match="images must be 'link' or 'copy'"):
        merged([document("a.jpg")], tmp_path, images=mode)
    assert list(tmp_path.iterdir()) == []
