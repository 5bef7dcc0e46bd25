from __future__ import annotations

import copy
import json
import math
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfplatform import InvalidParameterError, InvalidResponseError, WorkItem, coco
from cfplatform.coco import Document, Stats, StatsBuilder, stats
from tests.unit.odd_documents import anything, odd_documents

#: Two images with three labels, an image with none, and a class that nothing has.
DOCUMENT = {
    "images": [{"id": 1}, {"id": 2.0}, {"id": "three"}],
    "categories": [{"id": 5, "name": "car"}, {"id": 6, "name": "tree"}, {"id": 7, "name": "boat"}],
    "annotations": [
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 16, 16], "area": 200, "segmentation": [[0, 0, 9, 9, 0, 9]]},
        {"image_id": 1.0, "category_id": 5, "bbox": [0, 0, 40, 40]},
        {"image_id": 2, "category_id": 6, "bbox": [0, 0, 100, 100], "segmentation": {"counts": ""}, "iscrowd": 1},
    ],
}


def of(*documents, batch=None):
    builder = StatsBuilder()
    for document in documents:
        builder.add(Document(document, batch=batch))
    return builder.result()


def test_everything_is_counted():
    found = of(DOCUMENT)
    assert (found.documents, found.images, found.annotations) == (1, 3, 3)
    assert (found.empty_images, found.crowds, round(found.crowd_share, 3)) == (1, 1, 0.333)
    assert {name: (each.annotations, each.images) for name, each in found.categories.items()} == {
        "car": (2, 1),
        "tree": (1, 1),
        "boat": (0, 0),
    }
    car = found.categories["car"]
    assert (car.area, car.boxes, car.box_area) == (1800, 2, 256 + 1600)
    assert car.mean_side == math.sqrt(1856 / 2)
    assert found.categories["boat"].mean_side == 0
    assert found.kinds == {"box": 3, "polygon": 1, "rle": 1}
    assert found.box_sizes == {"small": 1, "medium": 1, "large": 1}
    assert found.box_sides == {16: 1, 32: 1, 64: 1}
    assert found.batches == {}


def test_documents_without_any_label_divide_by_nothing():
    found = of({"images": [{"id": 1}]}, {})
    assert (found.documents, found.empty_images, found.crowd_share) == (2, 1, 0)


def test_classes_are_merged_by_name_and_the_most_frequent_come_first():
    other = copy.deepcopy(DOCUMENT)
    other["categories"] = [{"id": 5, "name": "tree"}, {"id": 6, "name": "car"}]
    other["annotations"] *= 2
    found = of(DOCUMENT, other)
    assert [(name, each.annotations, each.images) for name, each in found.categories.items()] == [
        ("tree", 5, 2),
        ("car", 4, 2),
        ("boat", 0, 0),
    ]


def test_classes_that_are_as_frequent_are_in_the_order_of_their_names():
    names = ["car", "boat", "tree"]
    found = of({"categories": [{"id": number, "name": name} for number, name in enumerate(names)]})
    assert list(found.categories) == sorted(names)


def test_two_ids_of_one_name_count_an_image_once():
    document = copy.deepcopy(DOCUMENT)
    document["categories"][1]["name"] = "car"
    document["annotations"][2]["image_id"] = 1
    assert (of(document).categories["car"].annotations, of(document).categories["car"].images) == (3, 1)


@pytest.mark.parametrize(
    ("area", "size"), [(0, "small"), (1023.9, "small"), (1024, "medium"), (9216, "medium"), (9216.1, "large")]
)
def test_sizes_are_those_of_coco(area, size):
    found = of({"annotations": [{"area": area, "bbox": [0, 0, 500, 500]}]})
    assert [name for name, count in found.box_sizes.items() if count] == [size]


@pytest.mark.parametrize(
    ("box", "side"),
    [([0, 0, 0.5, 0.5], 0), ([0, 0, 1, 1], 1), ([0, 0, 1.99, 1.99], 1), ([0, 0, 2, 2], 2), ([0, 0, 4, 1000], 32)],
)
def test_sides_are_powers_of_two(box, side):
    assert of({"annotations": [{"bbox": box}]}).box_sides == {side: 1}


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        ({}, ["none"]),
        ({"segmentation": []}, ["none"]),
        ({"segmentation": None, "bbox": None}, ["none"]),
        ({"segmentation": {"counts": [1], "size": [1, 1]}}, ["rle"]),
        ({"caption": "A dog."}, ["caption"]),
        ({"keypoints": [1, 1, 2], "bbox": [0, 0, 1, 1]}, ["box", "keypoints"]),
        ({"bbox": [0, 0, 0, 1]}, ["none"]),
        ({"segments_info": [{"id": 1}]}, ["panoptic"]),
    ],
)
def test_kinds(annotation, kinds):
    assert sorted(of({"annotations": [annotation]}).kinds) == kinds


def test_batches_are_counted_apart_by_name():
    source = [Document(DOCUMENT, batch="b"), Document(DOCUMENT, batch="a"), Document({"images": [{}]}, batch="b")]
    found = stats(source)
    assert list(found.batches) == ["a", "b"]
    assert vars(found.batches["b"]) == {"documents": 2, "images": 4, "annotations": 3, "empty_images": 2}


def test_a_merged_dataset_has_the_batches_of_its_images():
    document = copy.deepcopy(DOCUMENT)
    for image, batch in zip(document["images"], ["day", "night", "night"], strict=True):
        image["batch"] = batch
    document["annotations"].append({"image_id": "nowhere"})
    found = of(document)
    assert {name: vars(each) for name, each in found.batches.items()} == {
        "day": {"documents": 1, "images": 1, "annotations": 2, "empty_images": 0},
        "night": {"documents": 1, "images": 2, "annotations": 1, "empty_images": 1},
    }
    # What belongs to no image is that of the document's batch, which is the folder of the file.
    assert vars(of(document, batch="datasets").batches["datasets"]) == {
        "documents": 1, "images": 0, "annotations": 1, "empty_images": 0
    }  # fmt: skip
    document["annotations"].pop()
    assert list(of(document, batch="datasets").batches) == ["day", "night"]
    assert list(of({}, batch="datasets").batches) == ["datasets"]


def test_a_folder_and_the_merged_file_of_it_have_the_same_figures(tmp_path, sandbox):
    with sandbox.client() as client:
        client.download_project(destination=tmp_path / "labels").raise_for_failures()
    expected = stats(tmp_path / "labels")
    whole = coco.merge(tmp_path / "labels", tmp_path / "merged.json").output
    for found in (stats(whole), stats(whole, images_from=tmp_path), stats(coco.read(whole, by_image=True))):
        assert (found.categories, found.kinds, found.box_sizes) == (
            expected.categories, expected.kinds, expected.box_sizes
        )  # fmt: skip
        assert len(found.batches) == 2
        for name, each in expected.batches.items():
            figures = {**vars(each), "documents": found.batches[name].documents}
            assert vars(found.batches[name]) == figures
    with pytest.raises(InvalidParameterError, match="images_from"):
        stats(whole, images_from=tmp_path / "nowhere")


@settings(max_examples=20)
@given(st.lists(odd_documents(), max_size=4))
def test_classes_are_the_categories_of_a_merge(tmp_path_factory, documents):
    whole = coco.merge(documents, tmp_path_factory.mktemp("merge") / "merged.json").output
    categories = json.loads(whole.read_text())["categories"]
    builder = StatsBuilder()
    for document in documents:
        # A merge refuses the whole document if it has no list of images, and needs no categories without annotations.
        if isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list):
            builder.add(Document(document))
    named = [each for each in categories if isinstance(each.get("name"), str)]
    assert len(builder.result().categories) == len(named)


def test_a_stream_may_name_files_that_are_not_here(tmp_path):
    assert stats([Document(DOCUMENT, path=tmp_path / "gone.json")]).documents == 1


def test_batches_of_a_stream_are_named_by_their_ids():
    assert list(stats([(WorkItem({"id": "i", "batchId": 7}), DOCUMENT)]).batches) == ["7"]


def test_the_previous_name_of_the_builder_works():
    assert coco.Tally is StatsBuilder


def test_classes_with_one_name_are_those_of_a_merge():
    outer = ["vehicle", "toy", "vehicle", None]
    documents = [{"categories": [{"id": 5, "name": "car", "supercategory": each}]} for each in outer]
    builder = StatsBuilder()
    names = []
    for document in map(Document, documents):
        builder.add(document)
        names.append(builder.class_names(document))
    assert names == [{5: "car"}, {5: "car (toy)"}, {5: "car"}, {5: "car #3"}]
    assert set(builder.result().categories) == {"car", "car (toy)", "car #3"}


def test_a_result_stays_as_it_is():
    builder = StatsBuilder()
    builder.add(Document(DOCUMENT, batch="b"))
    before = builder.result()
    kept = before.as_dict()
    builder.add(Document(DOCUMENT, batch="b"))
    assert before.as_dict() == kept != builder.result().as_dict()


def test_the_figures_are_ready_for_json():
    found = of(DOCUMENT, batch="b").as_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["box_sides"] == {"16": 1, "32": 1, "64": 1}
    assert found["categories"]["car"]["mean_side"] == math.sqrt(928)
    assert set(vars(Stats())) < set(found)


def test_a_notebook_shows_names_and_runs_nothing():
    shown = of({"categories": [{"id": 1, "name": "<script>"}]}, batch="<b>")._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "with polygon" in of(DOCUMENT)._repr_html_()
    assert "<b>" not in shown


def test_a_notebook_shows_the_first_of_many_classes():
    shown = of({"categories": [{"id": number, "name": f"class {number:03}"} for number in range(200)]})._repr_html_()
    assert "the first 50 of 200" in shown
    assert ("class 049" in shown, "class 050" in shown) == (True, False)


def test_files_that_cannot_be_read_raise_or_are_counted(tmp_path):
    batch = tmp_path / "batch"
    batch.mkdir()
    (batch / "good.json").write_text(json.dumps(DOCUMENT))
    (batch / "bad.json").write_text("[")
    with pytest.raises(InvalidResponseError, match=r"bad\.json"):
        stats(tmp_path)
    reported, steps = [], []
    found = stats(tmp_path, on_error=reported.append, progress=lambda done, total: steps.append((done, total)))
    assert (found.documents, found.unreadable, len(reported)) == (1, 1, 1)
    assert steps == [(1, 2), (2, 2)]
    assert "unreadable" in found._repr_html_()
    assert "unreadable" not in of(DOCUMENT)._repr_html_()


@pytest.mark.parametrize("arguments", [{"source": 3}, {"source": [], "progress": 3}])
def test_arguments_are_checked(arguments):
    with pytest.raises(InvalidParameterError):
        stats(**arguments)


@given(anything | odd_documents())
def test_no_document_raises(document):
    found = of(document, document, batch="b")
    json.dumps(found.as_dict(), allow_nan=False)
    assert found._repr_html_()
    assert found.documents == 2


def test_an_annotation_without_a_box_adds_nothing_to_those_of_its_class():
    document = {"categories": [{"id": 1, "name": "car"}], "annotations": [{"category_id": 1, "area": 5}]}
    assert vars(of(document).categories["car"]) == {
        "annotations": 1, "images": 0, "area": 5, "boxes": 0, "box_area": 0
    }  # fmt: skip


@given(st.lists(odd_documents(), max_size=3))
def test_the_figures_add_up(documents):
    found = of(*documents, batch="b")
    assert sum(each.annotations for each in found.categories.values()) <= found.annotations
    assert found.empty_images <= found.images
    assert found.crowds <= found.annotations
    assert vars(found.batches["b"]).items() <= vars(found).items() if documents else not found.batches


def peak(count):
    """The most memory, in bytes, that counting so many documents takes at once."""
    tracemalloc.start()
    try:
        stats(copy.deepcopy(DOCUMENT) for _ in range(count))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_documents():
    peak(10)
    assert peak(2000) < peak(100) + 20_000
