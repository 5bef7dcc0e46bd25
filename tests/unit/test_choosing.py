"""Splits by groups: members, functions, files of groups, balanced classes, and parts of an earlier split."""

from __future__ import annotations

import json
import random
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfplatform import InvalidParameterError, WorkItem, coco, iter_downloaded
from cfplatform.coco import Document
from cfplatform.coco.samples import samples_of
from tests.unit.test_merging import document, folder
from tests.unit.test_splitting import divided, items

HALVES = {"train": 0.5, "val": 0.5}


def scenes(count=60, scenes=12, **members):
    """Documents as ``iter_annotations`` yields them, with a scene in the metadata of their items."""
    for number in range(count):
        metadata = {"scene": f"scene-{number % scenes}", **members}
        item = WorkItem({"id": f"item-{number}", "batchId": number % 5, "metadata": metadata})
        yield item, document(name=f"{number}.png", categories=("car",) if number % 3 else ("person",))


def scene_of(item):
    return int(item.removeprefix("item-")) % 12


def parts_of(data):
    """The parts of each scene."""
    found: dict[int, set[str]] = {}
    for name, each in items(data).items():
        for item in each:
            found.setdefault(scene_of(item), set()).add(name)
    return found


def codes(summary):
    return sorted(each.code for each in summary.conflicts)


# --- Groups -----------------------------------------------------------------------------------------------------------


def with_image(pairs):
    for item, data in pairs:
        data["images"][0]["scene"] = item.metadata["scene"]
        yield WorkItem({"id": item.id}), data


def with_info(pairs):
    for item, data in pairs:
        data["info"]["scene"] = item.metadata["scene"]
        yield WorkItem({"id": item.id}), data


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (scenes, {"by": "scene"}),
        (lambda: with_image(scenes()), {"by": "scene"}),
        (lambda: with_info(scenes()), {"by": "scene"}),
        (scenes, {"by": lambda document, image: document.metadata["scene"]}),
        (scenes, {"groups": {f"item-{number}": f"scene-{number % 12}" for number in range(60)}}),
        (scenes, {"groups": {f"{number}.png": f"scene-{number % 12}" for number in range(60)}}),
    ],
    ids=["metadata", "image", "info", "function", "items", "files"],
)
def test_a_group_is_in_one_part_whatever_names_it(tmp_path, source, options):
    data, summary = divided(tmp_path, source(), HALVES, **options)
    assert {len(each) for each in parts_of(data).values()} == {1}
    assert (summary.problem_count, codes(summary)) == (0, [])
    # The hash is that of the name, so all of these agree, and so does every version.
    hashes = {n: blake2b(f"0\0scene-{n}".encode(), digest_size=8).digest() for n in range(12)}
    expected = {"train": [n for n in hashes if hashes[n] < b"\x80"], "val": [n for n in hashes if hashes[n] >= b"\x80"]}
    assert {name: sorted({*map(scene_of, each)}) for name, each in items(data).items()} == expected


def test_items_of_groups_that_are_added_later_move_no_others(tmp_path):
    before, after = (items(divided(tmp_path, scenes(count), HALVES, by="scene")[0]) for count in (40, 60))
    for name in HALVES:
        assert {*before[name]} == {each for each in after[name] if int(each[5:]) < 40}


@pytest.mark.parametrize(
    ("one", "same"), [(1, 1), ("1", 1), (True, True), ([1, {"a": 2}], [1, {"a": 2}]), ("e\u0301", "\u00e9")]
)
def test_values_that_are_equal_are_one_group(tmp_path, one, same):
    for seed in range(8):
        pairs = [
            (WorkItem({"id": str(number), "metadata": {"scene": value}}), document(name=f"{number}.png"))
            for number, value in enumerate([one, same, "another"])
        ]
        data, _ = divided(tmp_path, pairs, HALVES, by="scene", seed=seed)
        assert any({"0", "1"} <= {*each} for each in items(data).values())


def test_what_has_no_group_is_one_of_its_own_and_reported(tmp_path):
    pairs = [*scenes()]
    for number in range(0, 60, 2):
        pairs[number][0]._data["metadata"] = ({}, {"scene": None}, {"scene": ""})[number % 3]
    data, summary = divided(tmp_path, pairs, HALVES, by="scene")
    assert (summary.counts, summary.problem_count) == ({"no-group": 30}, 0)
    assert summary.conflicts[0].item_id == "item-0"
    assert "has no 'scene'" in summary.conflicts[0].message
    # One shared group would be in one part.
    alone = [sum(int(each[5:]) % 2 == 0 for each in part) for part in items(data).values()]
    assert alone == pytest.approx([15, 15], abs=9)
    _, summary = divided(tmp_path, pairs, HALVES, by=lambda document, image: document.metadata.get("scene"))
    assert summary.counts == {"no-group": 30}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "scne"}, "no image has this field"),
        ({"by": lambda document, image: None}, "returned no group"),
        ({"groups": {"x": "y"}}, "None of the items in groups is in the source"),
    ],
)
def test_groups_that_nothing_belongs_to_are_an_error_and_leave_what_was_there(tmp_path, options, message):
    divided(tmp_path, scenes(), HALVES)
    before = (tmp_path / "datasets/val.json").read_bytes()
    with pytest.raises(InvalidParameterError, match=message):
        divided(tmp_path, [*scenes()], HALVES, **options)
    assert (tmp_path / "datasets/val.json").read_bytes() == before


@pytest.mark.parametrize("options", [{"by": "scene"}, {"by": "batch"}, {"stratify": True}, {"by": "scene", "seed": 5}])
def test_fewer_groups_than_parts_are_an_error(tmp_path, options):
    few = [*scenes(2 if "by" not in options else 8, scenes=2)]
    for item, _ in few:
        item._data["batchId"] %= 2
    with pytest.raises(InvalidParameterError, match="2 groups for 3 parts"):
        divided(tmp_path, few, {"a": 0.4, "b": 0.3, "c": 0.3}, **options)


def test_a_part_that_the_hash_leaves_empty_is_reported_and_stratify_fills_it(tmp_path):
    parts = {"train": 0.98, "val": 0.02}
    data, summary = divided(tmp_path, [*scenes()], parts, by="scene")
    assert (codes(summary), items(data)["val"]) == (["empty-part"], [])
    data, summary = divided(tmp_path, [*scenes()], parts, by="scene", stratify=True)
    assert (codes(summary), len(items(data)["val"])) == ([], 5)


def test_items_and_videos_stay_whole_by_their_first_image(tmp_path):
    frames = [{"id": n, "file_name": f"{n}.png", "scene": f"s{n % 7}", "video_id": n // 10} for n in range(100)]
    video = {"images": frames, "annotations": [], "videos": [{"id": n, "name": f"v{n}"} for n in range(10)]}
    once = coco.merge([video], tmp_path / "once.json").output
    expected = None
    for source in ([video], once, coco.read(once, by_image=True)):
        data, summary = divided(tmp_path, source, HALVES, by="scene")
        seen = {name: sorted({image["original_file_name"][:-5] for image in data[name]["images"]}) for name in HALVES}
        assert len(seen["train"]) + len(seen["val"]) == 10
        assert summary.counts == {}
        assert seen == (expected := expected or seen)
    del video["videos"]
    data, _ = divided(tmp_path, [Document(video, "item"), *scenes()], HALVES, by="scene")
    assert sorted(items(data)[name].count("item") for name in HALVES) == [0, 100]


def test_by_video_is_its_name_or_a_member(tmp_path):
    pairs = []
    for number in range(40):
        data = document(name=f"{number}.png")
        data["images"][0]["video_id"], data["videos"] = 3, [{"id": 3, "name": f"v{number % 4}"}]
        pairs.append((WorkItem({"id": str(number)}), data))
    data, summary = divided(tmp_path, pairs, HALVES, by="video", stratify=True)
    seen = [{int(each) % 4 for each in part} for part in items(data).values()]
    assert (len(seen[0]), len(seen[1]), seen[0] & seen[1], summary.counts) == (2, 2, set(), {})


# --- Files of groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "item,group\nitem-0,a\nitem-1,b\n",
        "\ufeffItem,Group\r\nitem-0,a\r\n\r\nitem-1,b",
        'item-0,a\n"item-1",b\nitem-1,b\n',
    ],
)
def test_a_file_of_groups(tmp_path, content):
    (tmp_path / "groups.csv").write_text(content, "utf-8", newline="")
    _, summary = divided(tmp_path, [*scenes(3)], {"a": 1.0}, groups=tmp_path / "groups.csv")
    assert [(each.code, each.item_id) for each in summary.conflicts] == [("no-group", "item-2")]


def test_items_that_only_the_groups_have_are_reported(tmp_path):
    groups = {**{f"item-{n}": n % 2 for n in range(4)}, "gone": "a"}
    _, summary = divided(tmp_path, [*scenes(5)], {"a": 1.0}, groups=groups)
    found = [(each.code, each.item_id) for each in summary.conflicts]
    assert (found, summary.problem_count) == ([("no-group", "item-4"), ("unknown-item", "gone")], 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"item,group\na,b\nc\n", "line 3: expected 2 cells, item and group, found 1"),
        (b"a;b\n", "line 1: expected 2 cells, item and group, found 1"),
        (b"a,b,c\n", "line 1: expected 2 cells, item and group, found 3"),
        (b"a,b\n,c\n", "line 2: the item is empty"),
        (b"a,b\nc, \n", "line 2: the group is empty"),
        (b"a,b\n\na,c\n", "line 3: the item 'a' already has another group"),
        (b"a,b\nc\xff,d\n", "line 2: not UTF-8"),
        (b'a,b\nc,"d\n', "line 2: not valid CSV"),
        (b"", "groups has no item"),
        (b"item,group\n", "groups has no item"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_of_groups_names_the_line_and_the_reason(tmp_path, content, message):
    path = tmp_path / "groups.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidParameterError, match=message):
        divided(tmp_path, [*scenes()], HALVES, groups=path)
    assert not (tmp_path / "datasets").exists()


@pytest.mark.parametrize("groups", [{}, {1: "a"}, {"a": None}, {"": "a"}, {"a": ""}, 7])
def test_bad_groups_are_refused(tmp_path, groups):
    with pytest.raises(InvalidParameterError, match="groups"):
        divided(tmp_path, [*scenes()], HALVES, groups=groups)
    with pytest.raises(InvalidParameterError, match="Pass one of them"):
        divided(tmp_path, [*scenes()], HALVES, groups={"a": "b"}, by="scene")


# --- Classes spread evenly --------------------------------------------------------------------------------------------


def uneven(count, seed=3):
    """Documents of twelve classes, some of them rare, a few images each without any."""
    dice = random.Random(seed)
    for number in range(count):
        names = [f"class-{int(12 * dice.random() ** 3)}" for _ in range(dice.choice([0, 1, 1, 2, 8]))]
        data = document(name=f"{number}.png", categories=tuple(sorted({*names})) or ("class-0",), annotations=0)
        ids = {each["name"]: each["id"] for each in data["categories"]}
        data["annotations"] = [
            {"id": n, "image_id": 1, "category_id": ids[name], "bbox": [1, 1, 4, 4]} for n, name in enumerate(names)
        ]
        yield WorkItem({"id": f"item-{number}", "metadata": {"scene": number // 2}}), data


def worst(data, parts):
    """How far the worst share of images, of empty images, or of a class is from that of its part."""
    counts: dict[str, dict[str, int]] = {}
    for part, each in data.items():
        names = {category["id"]: category["name"] for category in each["categories"]}
        labelled = {annotation["image_id"] for annotation in each["annotations"]}
        found = [names[annotation["category_id"]] for annotation in each["annotations"]]
        found += ["image"] * len(each["images"]) + ["empty"] * (len(each["images"]) - len(labelled))
        for name in found:
            counts.setdefault(name, dict.fromkeys(parts, 0))[part] += 1
    return max(
        abs(count[part] / sum(count.values()) / fraction - 1)
        for count in counts.values()
        for part, fraction in parts.items()
    )


def test_each_class_gets_its_share(tmp_path):
    parts = {"train": 0.7, "val": 0.15, "test": 0.15}
    before, _ = divided(tmp_path, [*uneven(3000)], parts, by="scene")
    after, summary = divided(tmp_path, [*uneven(3000)], parts, by="scene", stratify=True)
    assert worst(before, parts) > 0.12
    # One annotation of the rarest class.
    assert worst(after, parts) < 0.03
    scenes = [{int(each[5:]) // 2 for each in part} for part in items(after).values()]
    assert sum(map(len, scenes)) == len(set.union(*scenes)) == 1500
    assert summary.counts == {}


def test_a_class_in_one_group_only_is_reported(tmp_path):
    pairs = [*uneven(50)]
    pairs[7][1]["categories"].append({"id": 99, "name": "rare"})
    pairs[7][1]["annotations"].append({"id": 99, "image_id": 1, "category_id": 99})
    _, summary = divided(tmp_path, pairs, HALVES, stratify=True)
    rare = [each.message for each in summary.conflicts if each.code == "class-in-one-group"]
    assert any("'rare' is in only one group" in each for each in rare)


def test_segments_of_panoptic_annotations_count(tmp_path):
    pairs = []
    for number in range(40):
        data = document(name=f"{number}.png", annotations=0)
        segments = [{"id": 5, "category_id": 1 + (number < 4)}]
        data["annotations"] = [{"id": 1, "image_id": 1, "file_name": "m.png", "segments_info": segments}]
        pairs.append((WorkItem({"id": f"item-{number}"}), data))
    data, _ = divided(tmp_path, pairs, HALVES, stratify=True)
    assert [sum(int(each[5:]) < 4 for each in part) for part in items(data).values()] == [2, 2]


def test_a_source_that_can_be_read_once_is_refused_with_advice(tmp_path):
    with pytest.raises(InvalidParameterError, match="can be read only once") as caught:
        divided(tmp_path, scenes(), HALVES, stratify=True)
    assert "pass a list" in caught.value.hint
    assert [*(tmp_path / "datasets").iterdir()] == []

    class Once:
        def __init__(self):
            self.pairs = scenes()

        def __iter__(self):
            return self.pairs

    with pytest.raises(InvalidParameterError, match="changed between the two passes"):
        divided(tmp_path, Once(), HALVES, stratify=True)
    assert [*(tmp_path / "datasets").iterdir()] == []


def test_an_unreadable_file_is_reported_once(tmp_path):
    labels = folder(tmp_path / "labels", a={item.id: data for item, data in scenes()})
    (labels / "a/bad.json").write_text("{")
    reported = []
    _, summary = divided(tmp_path, labels, HALVES, stratify=True, on_error=reported.append)
    assert [each.code for each in reported] == ["unreadable"]
    assert (summary.documents, summary.problem_count) == (60, 1)


# --- The same parts from every source ---------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.sampled_from("abc"), max_size=3)), min_size=3, max_size=14),
    st.booleans(),
    st.integers(),
    st.randoms(use_true_random=False),
)
def test_a_group_is_in_one_part_and_every_source_has_the_same_parts(tmp_path_factory, rows, stratify, seed, dice):
    tmp_path = tmp_path_factory.mktemp("split")
    pairs = []
    for number, (scene, classes) in enumerate(rows):
        data = document(name=f"{number}.png", categories=tuple(sorted({*classes})) or ("a",), annotations=0)
        ids = {each["name"]: each["id"] for each in data["categories"]}
        data["annotations"] = [{"id": n, "image_id": 1, "category_id": ids[c]} for n, c in enumerate(classes)]
        data["info"]["scene"] = scene
        pairs.append((WorkItem({"id": f"i{number}"}), data))
    labels = folder(tmp_path / "labels", a={item.id: data for item, data in pairs})
    merged = coco.merge(labels, tmp_path / "merged.json", metadata=["scene"]).output
    sources = [labels, pairs, dice.sample(pairs, len(pairs)), merged, [*coco.read(merged, by_image=True)]]
    if len({scene for scene, _ in rows}) < 2:
        sources = sources[:1]
        with pytest.raises(InvalidParameterError, match="1 group for 2 parts"):
            divided(tmp_path, labels, HALVES, by="scene", stratify=stratify, seed=seed)
        return
    found = []
    for source in sources:
        data, _ = divided(tmp_path, source, HALVES, by="scene", stratify=stratify, seed=seed)
        scene_sets = [{rows[int(each[1:])][0] for each in part} for part in items(data).values()]
        assert not scene_sets[0] & scene_sets[1]
        found.append({name: sorted(each) for name, each in items(data).items()})
    assert found == [found[0]] * len(sources)


# --- The parts of an earlier split ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"by": "scene"}, {"stratify": True}, {"by": "scene", "stratify": True}])
def test_items_and_groups_of_an_earlier_split_stay(tmp_path, options):
    # A seed that gives other parts without "keep".
    before = items(divided(tmp_path, [*scenes(40, scenes=8)], HALVES, **options)[0])
    source = [*scenes(60, scenes=8)]
    for name, keep in (("again", tmp_path / "datasets"), ("third", tmp_path / "again")):
        summary = coco.split(source, tmp_path / name, HALVES, keep=keep, seed="other", **options)
        after = {part: json.loads(each.output.read_text()) for part, each in summary.parts.items()}
        after = items(after)
        for part in HALVES:
            assert {*before[part]} == {each for each in after[part] if int(each[5:]) < 40}
        if "by" in options:
            seen = [{int(each[5:]) % 8 for each in part} for part in after.values()]
            assert not seen[0] & seen[1]
        assert sum(map(len, after.values())) == 60


def test_a_split_keeps_its_own_folder(tmp_path):
    divided(tmp_path, [*scenes(40)], HALVES, stratify=True)
    before = items({part: json.loads((tmp_path / f"datasets/{part}.json").read_text()) for part in HALVES})
    after = items(divided(tmp_path, [*scenes(60)], HALVES, stratify=True, keep=tmp_path / "datasets")[0])
    assert all({*before[part]} <= {*after[part]} for part in HALVES)


def test_a_group_that_was_in_two_parts_is_an_error(tmp_path):
    divided(tmp_path, [*scenes()], HALVES)
    with pytest.raises(InvalidParameterError, match="was in two parts, 'train' and 'val'"):
        divided(tmp_path, [*scenes()], HALVES, by="scene", keep=tmp_path / "datasets")


def test_an_item_in_two_parts_of_the_earlier_split_is_an_error(tmp_path):
    divided(tmp_path, [*scenes()], HALVES)
    (tmp_path / "datasets/val.json").write_bytes((tmp_path / "datasets/train.json").read_bytes())
    with pytest.raises(InvalidParameterError, match="in two parts, 'train' and 'val'"):
        divided(tmp_path, [*scenes()], HALVES, keep=tmp_path / "datasets")


def test_parts_of_the_earlier_split_that_are_gone_are_reported(tmp_path):
    divided(tmp_path, [*scenes()], {"train": 0.5, "test": 0.5})
    keep = tmp_path / "datasets"
    _, summary = divided(tmp_path, [*scenes()], HALVES, keep=keep)
    assert [(each.code, each.path) for each in summary.conflicts] == [("unknown-part", str(keep / "test.json"))]


@pytest.mark.parametrize("layout", ["annotations/instances_{}.json", "{}/_annotations.coco.json"])
def test_parts_in_other_layouts_are_kept(tmp_path, layout):
    data, _ = divided(tmp_path, [*scenes()], HALVES)
    for part in HALVES:
        path = tmp_path / "old" / layout.format(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"datasets/{part}.json").rename(path)
    again, _ = divided(tmp_path, [*scenes()], HALVES, seed="other", keep=tmp_path / "old")
    assert items(again) == items(data)


@pytest.mark.parametrize("keep", ["nowhere", "labels"])
def test_a_folder_without_parts_cannot_be_kept(tmp_path, keep):
    (tmp_path / "labels").mkdir()
    with pytest.raises(InvalidParameterError, match="is not an earlier split: it has no"):
        divided(tmp_path, [*scenes()], HALVES, keep=tmp_path / keep)


# --- Metadata ---------------------------------------------------------------------------------------------------------


def test_a_merge_copies_the_metadata_that_is_named_and_nothing_else(tmp_path):
    source = [*scenes(3, callbackUrl="https://example.com?token=s3cret", externalId=7)]
    once = coco.merge(source, tmp_path / "once.json", metadata=["externalId", "scene", "year"]).output
    twice = coco.merge(once, tmp_path / "twice.json", metadata=["scene", "later"])
    text = twice.output.read_text()
    assert "s3cret" not in text
    assert [image["metadata"] for image in json.loads(text)["images"]] == [
        {"externalId": 7, "scene": f"scene-{number}", "year": 2026} for number in range(3)
    ]
    assert [(each.code, each.message) for each in twice.conflicts] == [
        ("unknown-metadata", "No work item has the metadata 'later'.")
    ]
    first, *_ = coco.read(twice.output, by_image=True)
    assert first.metadata == {"externalId": 7, "scene": "scene-0", "year": 2026}
    assert "s3cret" not in repr([*coco.read(source)])


def test_metadata_of_an_image_of_another_tool_stay(tmp_path):
    data = document()
    data["images"][0]["metadata"] = {"own": 1, "scene": "theirs"}
    pair = (WorkItem({"id": "1", "metadata": {"scene": "ours"}}), data)
    made = json.loads(coco.merge([pair], tmp_path / "m.json", metadata=["scene"]).output.read_text())
    assert made["images"][0]["metadata"] == {"own": 1, "scene": "ours"}
    assert data["images"][0]["metadata"] == {"own": 1, "scene": "theirs"}
    made = json.loads(coco.merge([pair], tmp_path / "m.json").output.read_text())
    assert made["images"][0]["metadata"] == {"own": 1, "scene": "theirs"}


@pytest.mark.parametrize("metadata", ["scene", [""], [1], None, 5])
def test_metadata_must_be_a_list_of_names(tmp_path, metadata):
    with pytest.raises(InvalidParameterError, match="metadata"):
        coco.merge([document()], tmp_path / "m.json", metadata=metadata)


def test_images_as_a_sequence_have_the_metadata_of_a_download(sandbox, client, tmp_path):
    for number, item in enumerate(sandbox.work_item_ids()):
        sandbox.patch_work_item_json(item, {"metadata": {"number": number}})
    client.download_project(destination=tmp_path / "labels", assets=True)
    expected = {item: {"number": number} for number, item in enumerate(sandbox.work_item_ids())}
    for source in (tmp_path / "labels", coco.read(tmp_path / "labels")):
        samples = samples_of(source)
        assert {samples[number].item_id: samples[number].metadata for number in range(20)} == expected
    downloaded = next(iter(iter_downloaded(tmp_path / "labels")))
    assert downloaded.metadata
    assert "metadata" not in repr(downloaded) + downloaded._repr_html_()
