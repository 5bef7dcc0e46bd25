from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask

from cfplatform import InvalidParameterError, InvalidResponseError, WorkItem
from cfplatform.coco import Document, read, rle


def put(root, *places):
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": [], "place": place}))


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    put(tmp_path, "b/2.json", "b/10.json", "a/x.json", ".cfplatform/no.json", "no.json", "a/assets/no.json", "a/no.txt")
    put(tmp_path, "b/assets/2.png", "b/.no.json")
    found = list(read(tmp_path))
    assert [(each.batch, each.item_id) for each in found] == [("a", "x"), ("b", "10"), ("b", "2")]
    assert [each.data["place"] for each in found] == ["a/x.json", "b/10.json", "b/2.json"]
    assert [each.asset for each in found] == [None, None, (tmp_path / "b/assets/2.png").resolve()]


def test_the_folder_of_one_batch_is_a_source_too(tmp_path):
    put(tmp_path, "a/1.json", "a/assets/1.png", "b/2.json")
    (found,) = read(str(tmp_path / "a"))
    assert (found.batch, found.item_id, found.asset.name) == ("a", "1", "1.png")


def test_a_file_and_streams_are_sources(tmp_path):
    put(tmp_path, "all.json")
    document = {"images": []}
    assert [each.data["place"] for each in read(tmp_path / "all.json")] == ["all.json"]
    assert list(read([document])) == [Document(document)]
    assert list(read([(WorkItem({"id": "i", "batchId": 7}), document)])) == [Document(document, "i", "7")]
    assert list(read([Document(document, "i")])) == [Document(document, "i")]


@pytest.mark.parametrize("source", [{}, 3, None, "no such place"])
def test_what_is_no_source_is_refused_at_the_call(source):
    with pytest.raises(InvalidParameterError):
        read(source)


def test_a_folder_without_labels_is_refused_at_the_call(tmp_path):
    put(tmp_path, "a/b/1.json")
    with pytest.raises(InvalidParameterError, match="holds no labels"):
        read(tmp_path)


def test_what_a_stream_brings_is_checked():
    with pytest.raises(InvalidParameterError, match="not int"):
        list(read([{}, 3]))


def test_a_file_that_cannot_be_read_raises_or_is_reported(tmp_path):
    put(tmp_path, "a/1.json", "a/3.json")
    (tmp_path / "a/2.json").write_text("[]")
    with pytest.raises(InvalidResponseError, match=r"2\.json.*top level is a JSON array"):
        list(read(tmp_path))
    findings = []
    assert [each.item_id for each in read(tmp_path, on_error=findings.append)] == ["1", "3"]
    assert [(each.code, each.severity, each.item_id, each.batch) for each in findings] == [
        ("unreadable", "error", "2", "a")
    ]


@given(st.integers(1, 12), st.integers(1, 40), st.randoms(use_true_random=False))
def test_masks_are_read_as_the_reference_reads_them(height, width, random):
    np = pytest.importorskip("numpy")
    picture = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)], dtype=np.uint8)
    packed = mask.encode(np.asfortranarray(picture))
    counts, *size = rle.runs({"size": packed["size"], "counts": packed["counts"].decode()})
    assert size == [height, width]
    assert rle.area(counts) == picture.sum()
    x, y, box_width, box_height = map(int, mask.toBbox(packed))
    extent = rle.extent(counts, height) or (0, 0, 0, 0)
    assert extent == (x, y, x + box_width, y + box_height)
    assert rle.bitmap(counts) == (picture.T * 255).astype(np.uint8).tobytes()
    assert rle.runs({"size": size, "counts": counts}) == (counts, height, width)


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ([[1, 2]], "not an object"),
        ({"counts": [4]}, "size"),
        ({"size": [2, -2], "counts": [4]}, "size"),
        ({"size": [2, 2], "counts": [True, 3]}, "neither text"),
        ({"size": [2, 2], "counts": None}, "neither text"),
        ({"size": [2, 2], "counts": [1, 2]}, "3 pixels, 2 x 2 are 4"),
        ({"size": [2, 2], "counts": "1a\n"}, "character"),
        ({"size": [2, 2], "counts": "P"}, "end within"),
        ({"size": [2, 2], "counts": "o" * 40}, "too large"),
        ({"size": [2, 2], "counts": "O"}, "negative"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "more than"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation, why):
    with pytest.raises(ValueError, match=why):
        rle.runs(segmentation)
