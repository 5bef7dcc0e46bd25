"""Splitting: repeatable, without duplicates or losses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfplatform import InvalidParameterError, WorkItem, coco
from cfplatform.coco import Document
from tests.unit.test_merging import document, folder, loaded

THREE = {"train": 0.8, "val": 0.1, "test": 0.1}


def stream(names, batches=7):
    """Documents as ``iter_annotations`` yields them."""
    for number, name in enumerate(names):
        categories = ("car",) if number % 2 else ("person", "tram")
        item = WorkItem({"id": name, "batchId": number % batches})
        yield item, document(name=f"{name}.png", categories=categories)


def divided(tmp_path, source, parts=THREE, **options):
    """Of each part what it holds, and the account."""
    summary = coco.split(source, tmp_path / "datasets", parts, **options)
    return {name: json.loads(part.output.read_text("ascii")) for name, part in summary.parts.items()}, summary


def items(data, member="work_item_id"):
    """Which images are in which part."""
    return {name: [image[member] for image in part["images"]] for name, part in data.items()}


def test_each_item_is_in_one_part_and_the_parts_have_their_fractions(tmp_path):
    names = [f"item-{number}" for number in range(2000)]
    data, summary = divided(tmp_path, stream(names))
    found = items(data)
    assert sorted(sum(found.values(), [])) == sorted(names)
    assert [len(each) for each in found.values()] == pytest.approx([1600, 200, 200], abs=60)
    assert {name: part.images for name, part in summary.parts.items()} == {name: len(v) for name, v in found.items()}
    assert sum(part.annotations for part in summary.parts.values()) == 4000
    assert (summary.documents, summary.problem_count) == (2000, 0)
    assert sorted(path.name for path in (tmp_path / "datasets").iterdir()) == ["test.json", "train.json", "val.json"]
    assert json.loads(json.dumps(summary.as_dict()))["parts"]["val"]["size"] == summary.parts["val"].size
    assert "images" in summary._repr_html_()


def test_all_parts_have_the_same_categories_and_their_own_ids(tmp_path):
    data, summary = divided(tmp_path, stream(map(str, range(60))))
    assert len({json.dumps(part["categories"]) for part in data.values()}) == 1
    assert summary.categories == 3
    for name, part in summary.parts.items():
        whole = loaded(part.output)
        assert whole.getImgIds() == list(range(1, part.images + 1))
        assert whole.getAnnIds() == list(range(1, part.annotations + 1))
        assert len(data[name]["annotations"]) == 2 * part.images


def test_a_part_is_what_merging_its_documents_makes_but_for_the_categories(tmp_path):
    names = [str(number) for number in range(40)]
    data, _ = divided(tmp_path, stream(names), {"train": 0.5, "val": 0.5})
    mine = set(items(data)["val"])
    alone = coco.merge((pair for pair in stream(names) if pair[0].id in mine), tmp_path / "val.json")
    data, expected = data["val"], json.loads(alone.output.read_text())
    for each in (data, expected):
        names = {category["id"]: category["name"] for category in each.pop("categories")}
        for annotation in each["annotations"]:
            annotation["category_id"] = names[annotation["category_id"]]
    assert data == expected


@given(st.sets(st.text(max_size=5), max_size=30), st.sets(st.text(max_size=5), max_size=30), st.integers() | st.text())
def test_items_that_are_added_move_no_others(tmp_path_factory, first, more, seed):
    tmp_path = tmp_path_factory.mktemp("split")
    before, after = (items(divided(tmp_path, stream(each), seed=seed)[0]) for each in (first, first | more))
    for name in THREE:
        assert set(before[name]) == set(after[name]) & first


def test_where_an_item_goes_never_changes(tmp_path):
    # Whoever trained with an earlier version must find the same division.
    data, _ = divided(tmp_path, stream("abcdefghij"))
    assert {name: "".join(each) for name, each in items(data).items()} == {"train": "abcdeghj", "val": "i", "test": "f"}
    again, _ = divided(tmp_path, stream("abcdefghij"), seed="other")
    assert items(again) != items(data)


def test_a_folder_a_stream_and_a_merged_file_are_divided_alike(tmp_path):
    names = [str(number) for number in range(50)]
    labels = folder(tmp_path / "labels", a={item.id: each for item, each in stream(names)})
    expected = {name: sorted(each) for name, each in items(divided(tmp_path, stream(names))[0]).items()}
    whole = coco.merge(labels, tmp_path / "merged.json").output
    for source in (labels, str(whole)):
        found = items(divided(tmp_path, source)[0])
        assert {name: sorted(each) for name, each in found.items()} == expected


def test_images_without_a_work_item_are_divided_one_by_one(tmp_path):
    many = document(info={})
    many["images"] = [{"id": number, "file_name": f"{number}.png"} for number in range(200)]
    many["annotations"] = [{"id": n, "image_id": n, "category_id": 1} for n in range(200)]
    data, summary = divided(tmp_path, [many], {"a": 0.5, "b": 0.5})
    assert summary.parts["a"].images == summary.parts["a"].annotations == pytest.approx(100, abs=30)
    assert summary.problem_count == 0
    # By their names, not by where they stand, and by those that they had before a merge gave them others.
    many["images"].reverse()
    other = {"images": [{"id": 0, "file_name": f"{number}.png"} for number in range(2)]}
    whole = coco.merge([other, many], tmp_path / "merged.json").output
    again, _ = divided(tmp_path, whole, {"a": 0.5, "b": 0.5})
    for name, each in items(again, "original_file_name").items():
        assert {*each} == {*items(data, "file_name")[name]}


#: Where an item of a source comes from, as far as the source knows it.
KINDS = ("folder", "stream", "documents", "merged", "merged twice", "image by image")


@settings(max_examples=10)
@given(
    st.sets(st.from_regex(r"[a-z0-9]([a-z0-9 _.-]{0,7}[a-z0-9])?", fullmatch=True), min_size=1, max_size=12),
    st.integers(),
)
def test_whatever_the_source_an_item_is_in_the_same_part(tmp_path_factory, names, seed):
    tmp_path = tmp_path_factory.mktemp("split")
    names = {name.casefold(): name for name in names}.values()
    pairs = list(stream(names, batches=2))
    labels = tmp_path / "labels"
    for batch in (0, 1):
        own = {item.id: each for item, each in pairs if item.batch_id == batch}
        folder(labels, **{f"batch-{batch}": own})
    once = coco.merge(labels, tmp_path / "once.json").output
    sources = {
        "folder": labels,
        "stream": pairs,
        "documents": list(coco.read(labels)),
        "merged": once,
        "merged twice": coco.merge(once, tmp_path / "twice.json").output,
        "image by image": coco.read(once, by_image=True),
    }
    assert tuple(sources) == KINDS
    found = {}
    for kind, source in sources.items():
        data, summary = divided(tmp_path, source, seed=seed)
        assert summary.problem_count == 0
        found[kind] = {name: sorted(each) for name, each in items(data).items()}
    assert [*found.values()] == [found["folder"]] * len(KINDS)
    # A file of many images that knows no work items goes by their names, before and after a merge.
    many = {"images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(names)], "annotations": []}
    once = coco.merge([many], tmp_path / "once.json").output
    first, second = (divided(tmp_path, source, seed=seed)[0] for source in ([many], once))
    assert items(first, "original_file_name") == items(second, "original_file_name")


def test_a_large_file_in_the_folder_of_a_batch_is_divided(tmp_path):
    for batch in ("Day", "Night"):
        many = {"images": [{"id": n, "file_name": f"{batch}{n}.png"} for n in range(100)], "annotations": []}
        folder(tmp_path / "export", **{batch: {"annotations": many}})
    data, summary = divided(tmp_path, tmp_path / "export", {"a": 0.5, "b": 0.5})
    assert [part.images for part in summary.parts.values()] == pytest.approx([100, 100], abs=40)
    assert {image["batch"] for part in data.values() for image in part["images"]} == {"Day", "Night"}
    assert not any("work_item_id" in image for part in data.values() for image in part["images"])


@pytest.mark.parametrize("names", [("a", "b"), (None, None)])
def test_frames_of_a_video_stay_together_if_the_document_lists_it(tmp_path, names):
    video = document(info={}, annotations=0)
    video["images"] = [{"id": n, "file_name": f"{n:04}.png", "video_id": n // 50} for n in range(100)]
    video["videos"] = [{"id": n, "name": name} for n, name in enumerate(names)]
    data, _ = divided(tmp_path, [video], {"a": 0.5, "b": 0.5})
    seen = [{image["video_id"] for image in part["images"]} for part in data.values()]
    # A merge gives videos new IDs.
    assert len(seen[0]) + len(seen[1]) == len(seen[0] | seen[1]) == 2
    # Zero, for images that belong to no video, must not put all of them into one part.
    del video["videos"]
    _, summary = divided(tmp_path, [video], {"a": 0.5, "b": 0.5})
    assert summary.parts["a"].images == pytest.approx(50, abs=25)


def test_the_work_item_of_a_video_comes_before_its_name(tmp_path):
    video = document(name="x.png", videos=[{"id": 1, "name": "f"}])
    video["images"][0]["video_id"] = 1
    data, _ = divided(tmp_path, [Document(video, "i")])
    assert items(data) == {"train": [], "val": ["i"], "test": []}


def test_a_merged_dataset_is_divided_by_the_batches_of_its_images(tmp_path):
    labels = folder(tmp_path / "labels", a={"1": document()}, b={"2": document(), "3": document()})
    whole = coco.merge(labels, tmp_path / "merged.json").output
    data, summary = divided(tmp_path, whole, {"train": ["a"], "val": ["b"]})
    assert (items(data), summary.problem_count) == ({"train": ["1"], "val": ["2", "3"]}, 0)


@pytest.mark.parametrize(
    "options", [{"images": "move"}, {"images": True}, {"images": ["link"]}, {"images_from": "nowhere"}]
)
def test_images_are_checked_before_anything_is_made(tmp_path, options):
    with pytest.raises(InvalidParameterError, match=next(iter(options))):
        divided(tmp_path, [document()], **options)
    assert list(tmp_path.iterdir()) == []


def test_batches_stay_together(tmp_path):
    data, _ = divided(tmp_path, stream(map(str, range(600)), batches=100), {"a": 0.5, "b": 0.5}, by="batch")
    batches = {name: set(each) for name, each in items(data, "batch").items()}
    assert not batches["a"] & batches["b"]
    assert len(batches["a"]) == pytest.approx(50, abs=20)


def test_lists_of_batches_say_where_they_go(tmp_path):
    parts = {"train": ["a", "b"], "val": ("c",)}
    labels = folder(tmp_path / "labels", a={"1": document()}, b={"2": document()}, c={"3": document(), "4": document()})
    data, summary = divided(tmp_path, labels, parts)
    assert (items(data), summary.problem_count) == ({"train": ["1", "2"], "val": ["3", "4"]}, 0)


def test_batches_that_lists_and_source_do_not_share_are_reported(tmp_path):
    labels = folder(tmp_path / "labels", a={"1": document()}, b={"2": document(), "3": document()})
    reported = []
    data, summary = divided(tmp_path, labels, {"train": ["a"], "val": ["c"]}, on_error=reported.append)
    assert items(data) == {"train": ["1"], "val": []}
    assert reported == summary.problems
    assert [(each.code, each.batch) for each in reported] == [("batch-without-part", "b"), ("unknown-batch", "c")]
    assert all(coco.CODES[each.code].severity == each.severity for each in reported)


@pytest.mark.parametrize("parts", [{"a": ["x"]}, {"a": 1.0}])
def test_a_division_by_batch_needs_batches(tmp_path, parts):
    with pytest.raises(InvalidParameterError, match="batch of an image is unknown"):
        divided(tmp_path, [document()], parts, by="batch")
    assert list((tmp_path / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ({}, {}),
        (None, {}),
        ([0.5, 0.5], {}),
        ({"a": 0.5}, {}),
        ({"a": 0.5, "b": 0.6}, {}),
        ({"a": 1.5, "b": -0.5}, {}),
        ({"a": 1, "b": 0}, {}),
        ({"a": float("nan")}, {}),
        ({"a": True}, {}),
        ({"a": "batch"}, {}),
        ({"a": [1]}, {}),
        ({"a": 0.5, "b": ["x"]}, {}),
        ({"a": ["x"], "b": ["x"]}, {}),
        ({"../a": 1}, {}),
        ({"": 1}, {}),
        ({3: 1}, {}),
        ({"a": 0.5, "A": 0.5}, {}),
        ({"a": 1}, {"by": ""}),
        ({"a": 1}, {"by": 3}),
        ({"a": ["x"]}, {"by": "scene"}),
        ({"a": ["x"]}, {"stratify": True}),
        ({"a": ["x"]}, {"keep": "before"}),
        ({"a": ["x"]}, {"groups": {"1": "g"}}),
        ({"a": 1}, {"seed": None}),
    ],
)
def test_what_is_no_division_is_refused_before_anything_is_made(tmp_path, parts, options):
    with pytest.raises(InvalidParameterError, match=r"parts|by must|seed"):
        divided(tmp_path, [document()], parts, **options)
    assert list(tmp_path.iterdir()) == []


def test_thirds_make_a_whole(tmp_path):
    data, _ = divided(tmp_path, stream("abc"), dict.fromkeys("xyz", 1 / 3))
    assert sum(len(each) for each in items(data).values()) == 3


def test_an_output_among_the_labels_is_refused(tmp_path):
    labels = folder(tmp_path / "labels", a={"1": document()})
    with pytest.raises(InvalidParameterError, match="would be read as labels"):
        coco.split(labels, labels / "datasets", THREE)
    assert [path.name for path in labels.iterdir()] == ["a"]
    coco.split(labels, labels, THREE)
    assert coco.split(labels, labels, THREE).documents == 1


def test_a_source_that_fails_leaves_what_was_there(tmp_path):
    def failing():
        yield from stream("abc")
        raise RuntimeError("no")

    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets/val.json").write_text("before")
    with pytest.raises(RuntimeError):
        divided(tmp_path, failing())
    assert [(path.name, path.read_text()) for path in (tmp_path / "datasets").iterdir()] == [("val.json", "before")]


def test_images_are_found_from_the_folder_of_the_parts(tmp_path):
    labels = folder(tmp_path / "labels", a={str(number): document() for number in range(9)})
    (labels / "a/assets").mkdir()
    for number in range(9):
        (labels / f"a/assets/{number}.jpg").touch()
    data, summary = divided(tmp_path, labels)
    assert sum(len(each["images"]) for each in data.values()) == 9
    for name, part in summary.parts.items():
        assert all((part.output.parent / image["file_name"]).is_file() for image in data[name]["images"])


def test_an_entry_that_cannot_be_merged_is_reported_once_and_an_image_is_not_missed_twice(tmp_path):
    broken = document(info={})
    broken["annotations"].append({"id": 5, "image_id": 77, "category_id": 1})
    broken["images"][0]["width"] = float("nan")
    _, summary = divided(tmp_path, [Document(broken, "x", "b"), *stream("abc")])
    assert [(each.code, each.pointer) for each in summary.problems] == [
        ("not-finite", "/images/0"),
        ("dangling-image-id", "/annotations/2/image_id"),
    ]
