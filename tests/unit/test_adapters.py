"""Common parts of adapters: selected annotations, masks, shares of items, missing libraries."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from cfplatform import Client, InvalidParameterError
from cfplatform.adapters import labels, live
from cfplatform.adapters.rows import COLUMNS, annotation_rows
from cfplatform.coco.documents import Document, Entry, open_source
from cfplatform.coco.samples import Samples, samples_of
from cfplatform.coco.values import records
from tests.unit.odd_documents import odd_documents
from tests.unit.test_coco import put

np = pytest.importorskip("numpy")

IMAGE = {"id": 1, "width": 40, "height": 30}


def annotation(**changes):
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3.5, 4], "area": 5, "iscrowd": 0, **changes}


def labelled(*annotations):
    data = {
        "images": [IMAGE],
        "categories": [{"id": 1, "name": "a"}, {"name": "no id"}, {"id": 3, "name": "b"}],
        "annotations": [*annotations],
    }
    return labels.labels_of(Document(data), ["a"])


def test_a_label_has_what_a_detector_learns_from():
    (label,) = labelled(annotation(segmentation=[[1, 2, 3, 4, 5, 6]], iscrowd=1))
    assert (label.name, label.number, label.area, label.crowd, label.mask) == ("a", 0, 5, True, None)
    assert (label.box, label.corners) == ((1, 2, 3.5, 4), (1, 2, 4.5, 6))
    assert labelled(annotation(area=None))[0].area == 14
    # Ids are numbers: what an exporter wrote as 1.0 is 1.
    assert labelled(annotation(image_id=1.0, category_id=1.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": [1, 2, 0, 4]},
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        {"bbox": [1, 2, float("nan"), 4]},
        {"category_id": 2},
        {"category_id": 3},
        {"category_id": None},
        {"image_id": 2},
        {"image_id": [1]},
    ],
)
def test_what_no_detector_takes_is_left_out(changes):
    assert labelled(annotation(**changes)) == []


@pytest.mark.parametrize("classes", ["ab", ["a", "a"], [1], 3])
def test_classes_are_names(classes):
    with pytest.raises(InvalidParameterError, match="classes must be"):
        labels.checked_classes(classes)


# --- Masks ------------------------------------------------------------------------------------------------------------


def masked(segmentation, **image):
    image = {**IMAGE, **image}
    label = annotation(segmentation=segmentation)
    document = Document({"images": [image], "categories": [{"id": 1, "name": "a"}], "annotations": [label]})
    return labels.labels_of(document, ["b", "a"], masks=True)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("packed", [True, False])
def test_a_label_has_the_mask_that_the_reference_decodes(packed):
    polygon = [[10, 5, 30, 8, 25.5, 25, 8, 20]]
    expected = reference.frPyObjects(polygon, 30, 40)[0]
    segmentation = {**expected, "counts": expected["counts"].decode()} if packed else polygon
    (label,) = masked(segmentation)
    assert (label.name, label.number, label.mask.shape) == ("a", 1, (30, 40))
    assert np.array_equal(np.asarray(label.mask), reference.decode(expected))


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [["1", 2, 3, 4, 5, 6]],
        {},
        {"size": [2, 2], "counts": [4]},
        "text",
        3,
    ],
)
def test_an_invalid_mask_is_none(segmentation):
    assert masked(segmentation, width=3, height=3) == []


def test_parts_of_a_polygon_are_one_mask():
    (label,) = masked([[0, 0, 3, 0, 3, 3, 0, 3], [6, 6, 8, 6, 8, 8, 6, 8], [1, 1]])
    assert (label.mask[1, 1], label.mask[7, 7], label.mask[5, 5]) == (1, 1, 0)


@pytest.mark.parametrize("segmentation", [[[0, 0, 3, 0, 3, 3]], {"size": [2, 2], "counts": [0, 4]}])
def test_an_image_without_a_size_has_no_masks(segmentation):
    assert masked(segmentation, width=None) == []


# --- Entries ----------------------------------------------------------------------------------------------------------


def test_samples_of_a_folder_are_its_files(tmp_path):
    put(tmp_path, "b é/2.json", "b é/assets/2.png", "a/x.y.json", "a/assets/x.y.png")
    folder = open_source(tmp_path)
    kept = pickle.loads(pickle.dumps(samples_of(tmp_path)))  # noqa: S301 - made in the same line
    assert list(kept.entries()) == list(folder.entries())
    assert list(kept) == list(folder.documents(None)) == kept[:]
    with pytest.raises(IndexError):
        kept[2]
    batch = open_source(tmp_path / "b é")
    assert list(samples_of(tmp_path / "b é").entries()) == list(batch.entries())


def test_samples_of_one_file_are_its_images(tmp_path):
    put(tmp_path, "1.png", "assets/2.png")
    images = [{"id": 1, "file_name": "1.png", "work_item_id": "w"}, {"id": 2, "file_name": "2.png"}, {"id": 3}]
    document = {"images": images, "annotations": [{"id": 7, "image_id": 2}]}
    (tmp_path / "all.json").write_text(json.dumps(document))
    with pytest.raises(InvalidParameterError, match="1 of 3 images have no file"):
        samples_of(tmp_path / "all.json")
    kept = pickle.loads(pickle.dumps(samples_of(tmp_path / "all.json", skip_missing=True)))  # noqa: S301 - as above
    assert [(each.item_id, each.asset.name, len(each.data["annotations"])) for each in kept] == [
        ("w", "1.png", 0),
        (None, "2.png", 1),
    ]
    assert list(samples_of([Document(document)], images_from=tmp_path, skip_missing=True))[0].asset.name == "1.png"


def test_samples_take_few_bytes(tmp_path):
    kept = Samples(tmp_path)
    for number in range(1000):
        kept.add_file(Entry(None, "batch", tmp_path / "batch" / f"{number:036}.json", None))
    assert len(pickle.dumps(kept)) < 70_000


def test_categories_of_a_document_are_kept_once_for_all_of_its_images(tmp_path):
    put(tmp_path, "a.png")
    classes = [{"id": number, "name": f"class {number}"} for number in range(1000)]
    document = {"images": [{"id": n, "file_name": "a.png"} for n in range(300)], "categories": classes}
    kept = samples_of([document, {**document, "categories": classes[:2]}, document], images_from=tmp_path)
    assert len(pickle.dumps(kept)) < 400_000
    numbers = [0, 299, 300, 599, 600, 899]
    assert [len(kept[number].data["categories"]) for number in numbers] == [1000, 1000, 2, 2, 1000, 1000]
    assert kept[301].data["categories"] == classes[:2]
    kept.halve()
    assert [each.data["images"][0]["id"] for each in kept[:3]] == [0, 2, 4]
    assert (len(kept), kept[449].data["categories"][999]["name"]) == (450, "class 999")


# --- Shares -----------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.sets(st.text(max_size=8), max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_each_item_is_in_one_share(ids, ranks, workers):
    found = Counter(
        item
        for rank in range(ranks)
        for worker in range(workers)
        for item in ids
        if live._belongs(item, [(rank, ranks), (worker, workers)])
    )
    assert found == Counter(ids)


def test_shares_are_about_equally_large():
    parts = [sum(live._belongs(f"item-{n}", [(1, 2), (own, 4)]) for n in range(8000)) for own in range(4)]
    assert min(parts) > 900


def test_the_filters_of_a_live_stream_are_those_of_a_listing(sandbox, monkeypatch):
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    sandbox.rename_batch(1002, "Park")
    sandbox.patch_work_item_json(12, {"metadata": {"camera": 7}})
    filters = {"batch_names": ["Park"], "metadata": {"camera": 7}, "status": ["COMPLETED", "CLIENT_REVIEW"]}
    stream = live.Live(Client, options={}, filters=filters)
    for _ in range(2):
        assert [item.id for item, _ in stream.share((0, 1))] == list(sandbox.work_item_ids(12, 13))
    sent = [dict(request.query) for request in sandbox.requests if request.route == "work_items"]
    assert {query["batchIds"] for query in sent} == {"1002"}
    assert [query["status"] for query in sent] == ["COMPLETED", "CLIENT_REVIEW"] * 2
    with pytest.raises(TypeError, match="Did you mean 'batch_names'"):
        live.Live(Client, options={}, filters={"batch_name": ["Park"]})


# --- Missing libraries ------------------------------------------------------------------------------------------------


# --- Tables -----------------------------------------------------------------------------------------------------------


@given(st.lists(odd_documents(), max_size=3))
def test_nothing_of_an_annotation_vanishes(documents):
    found = list(annotation_rows(documents, empty_images=False))
    annotations = [one for each in documents for one in records(each, "annotations")]
    assert len(found) == len(annotations)
    for row, annotation in zip(found, annotations, strict=True):
        row = dict(zip(COLUMNS, row, strict=True))
        other = json.loads(row["other"] or "{}")
        box = annotation.get("bbox")
        columns = {
            "id": [row["annotation_id"], row["annotation_id_text"]],
            "image_id": [row["image_id"], row["image_id_text"]],
            "category_id": [row["category"]],
            "bbox": [row["bbox_x"]],
            "area": [row["area"]],
            "iscrowd": [row["iscrowd"]],
            "segmentation": [row["segmentation"]],
        }
        for member, value in annotation.items():
            in_columns = [each for each in columns.get(member, []) if each is not None]
            nothing = value is None or (member == "segmentation" and not value)
            assert nothing or bool(in_columns) != (member in other), member
        if isinstance(box, list) and row["bbox_x"] is not None:
            assert box == [row[f"bbox_{side}"] for side in ("x", "y", "width", "height")]
