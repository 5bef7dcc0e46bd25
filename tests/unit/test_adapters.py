"""What adapters have in common: which labels count, what masks look like, whose share an item is, what is missing."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from cfplatform import InvalidParameterError
from cfplatform.adapters import labels, live
from cfplatform.adapters.masks import mask
from cfplatform.adapters.places import Places
from cfplatform.coco.sources import Document, Entry, open_source
from tests.unit.test_coco import put

np = pytest.importorskip("numpy")

IMAGE = {"id": 1, "width": 40, "height": 30}


def annotation(**changes):
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3.5, 4], "area": 5, "iscrowd": 0, **changes}


def labelled(*annotations):
    data = {"images": [IMAGE], "categories": [{"id": 1, "name": "a"}, {"name": "no id"}], "annotations": [*annotations]}
    return labels.labels_of(Document(data))


def test_a_label_has_what_a_detector_learns_from():
    (label,) = labelled(annotation(segmentation=[[1, 2, 3, 4, 5, 6]], iscrowd=1))
    assert (label.name, label.area, label.crowd, label.segmentation) == ("a", 5, True, [[1, 2, 3, 4, 5, 6]])
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


@given(st.integers(1, 9), st.integers(1, 30), st.randoms(use_true_random=False))
def test_run_lengths_are_drawn_as_the_reference_draws_them(height, width, random):
    pixels = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)], dtype=np.uint8)
    packed = reference.encode(np.asfortranarray(pixels))
    drawn = mask({"size": [height, width], "counts": packed["counts"].decode()}, width, height)
    assert np.array_equal(np.asarray(drawn) > 0, pixels > 0)


def grown(pixels):
    """The pixels and their neighbours."""
    moved = [np.roll(pixels, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return np.logical_or.reduce(moved)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=50)
@given(st.lists(st.floats(9, 25), min_size=5, max_size=12))
def test_polygons_differ_from_the_reference_by_a_pixel_at_their_edge_at_the_most(radii):
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    polygon = np.stack([40 + np.cos(angles) * radii, 30 + np.sin(angles) * radii], axis=1).flatten().tolist()
    drawn = np.asarray(mask([polygon], 80, 60)) > 0
    expected = reference.decode(reference.frPyObjects([polygon], 60, 80))[:, :, 0] > 0
    assert not (expected & ~grown(drawn)).any()
    assert not (drawn & ~grown(expected)).any()
    assert (drawn & expected).sum() > 0.93 * (drawn | expected).sum()


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
def test_what_is_no_mask_of_the_picture_is_none(segmentation):
    assert mask(segmentation, 3, 3) is None


def test_parts_of_a_polygon_are_one_mask():
    drawn = np.asarray(mask([[0, 0, 3, 0, 3, 3, 0, 3], [6, 6, 8, 6, 8, 8, 6, 8]], 10, 10)) > 0
    assert drawn[1, 1] & drawn[7, 7] & ~drawn[5, 5]


# --- Places -----------------------------------------------------------------------------------------------------------


def test_places_are_the_entries_of_the_folder(tmp_path):
    put(tmp_path, "b é/2.json", "b é/assets/2.png", "a/x.y.json")
    folder = open_source(tmp_path)
    entries = list(folder.entries())
    places = pickle.loads(pickle.dumps(Places(folder.root, entries)))  # noqa: S301 - made in the same line
    assert list(places) == entries == [places[-2], places[-1]]
    assert [place.read() for place in places] == list(folder.documents(None))
    with pytest.raises(IndexError):
        places[2]
    batch = open_source(tmp_path / "b é")
    assert list(Places(batch.root, batch.entries())) == list(batch.entries()) == [entries[1]]


def test_places_take_few_bytes(tmp_path):
    entries = (Entry(f"{n:036}", "batch", tmp_path / "batch" / f"{n:036}.json", None) for n in range(1000))
    assert len(pickle.dumps(Places(tmp_path, entries))) < 64_000


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


# --- Missing libraries ------------------------------------------------------------------------------------------------
