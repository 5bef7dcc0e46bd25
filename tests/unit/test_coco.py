from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from cfplatform import InvalidParameterError, InvalidResponseError, WorkItem
from cfplatform.coco import Document, mask, read


def put(root, *places):
    for place in places:
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"info": {"asset_url": "a"}, "images": [], "place": place}))


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    put(tmp_path, "b/2.json", "b/10.json", "a/x.json", ".cfplatform/no.json", "no.json", "a/assets/no.json", "a/no.txt")
    put(tmp_path, "b/assets/2.png", "b/.no.json")
    found = list(read(tmp_path))
    assert [(each.batch, each.item_id) for each in found] == [("a", "x"), ("b", "10"), ("b", "2")]
    assert [each.data["place"] for each in found] == ["a/x.json", "b/10.json", "b/2.json"]
    assert [each.asset for each in found] == [None, None, (tmp_path / "b/assets/2.png").resolve()]


def test_of_several_assets_it_is_the_first_by_name(tmp_path):
    put(tmp_path, "a/1.json", *(f"a/assets/1.{suffix}" for suffix in ("png", "webp", "gif", "jpg", "mp4")))
    (found,) = read(tmp_path)
    assert found.asset.name == "1.gif"


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
    with pytest.raises(InvalidParameterError, match="contains no labels"):
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
        ("unreadable", "error", None, "a")
    ]


def test_the_name_of_a_file_alone_makes_no_work_item(tmp_path):
    put(tmp_path, "Day/annotations.json", "Day/9.json")
    (tmp_path / "Day/annotations.json").write_text('{"images": []}')
    assert [(each.batch, each.item_id) for each in read(tmp_path)] == [("Day", "9"), ("Day", None)]
    assert [each.item_id for each in read(tmp_path / "Day/annotations.json")] == [None]
    (one,) = read(tmp_path / "Day/9.json")
    assert (one.item_id, one.batch) == ("9", "Day")


def test_the_state_of_a_download_names_its_work_items(tmp_path, sandbox):
    with sandbox.client() as client:
        client.download_project(destination=tmp_path / "labels", inject_asset_url=False, assets=True)
        listed = {item.id for item in client.get_work_items(status="COMPLETED")}
    found = list(read(tmp_path / "labels"))
    assert {each.item_id for each in found} == listed
    assert not any("asset_url" in each.data.get("info", {}) for each in found)
    of_one = list(read(tmp_path / "labels" / found[0].batch))
    assert [each.item_id for each in of_one] == [each.item_id for each in found if each.batch == found[0].batch]
    # A damaged state leaves a folder of labels.
    (tmp_path / "labels/.cfplatform/state.sqlite3").write_bytes(b"no database")
    assert {each.item_id for each in read(tmp_path / "labels")} == {None}


#: The document, the file_name of an image, and where the image is, as tools lay them out.
LAYOUTS = {
    "downloaded by others": ("b/1.json", "1.png", "b/assets/1.png"),
    "coco": ("annotations/instances_val2017.json", "7.png", "val2017/7.png"),
    "coco below images": ("annotations/instances_val2017.json", "7.png", "images/val2017/7.png"),
    "cvat": ("annotations/instances_default.json", "7.png", "images/7.png"),
    "cvat with parts": ("annotations/instances_default.json", "7.png", "images/default/7.png"),
    "roboflow": ("train/_annotations.coco.json", "7.png", "train/7.png"),
    "fiftyone": ("labels.json", "7.png", "data/7.png"),
    "label studio": ("result.json", "images\\7.png", "images/7.png"),
    "absolute of another machine": ("all.json", "C:\\data\\7.png", "images/7.png"),
    "absolute": ("all.json", "/mnt/data/7.png", "images/7.png"),
    "URL": ("all.json", "https://store.example/o/a%20b.png?v=1", "images/a b.png"),
    "below the folder around": ("annotations/person_keypoints_x.json", "day/7.png", "day/7.png"),
}


@pytest.mark.parametrize(("document", "name", "image"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("is_folder", [True, False])
def test_images_are_found_where_tools_put_them(tmp_path, document, name, image, is_folder):
    for path in (document, image):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / image).touch()
    records = [{"id": 1, "file_name": name}, {"id": 2, "file_name": "not-there.png"}]
    (tmp_path / document).write_text(json.dumps({"images": records}))
    found = [each.asset for each in read(tmp_path if is_folder else tmp_path / document, by_image=True)]
    assert found == [(tmp_path / image).resolve(), None]


def test_the_caller_names_the_folder_of_the_images(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/7.png").touch()
    (tmp_path / "7.png").touch()
    document = {"images": [{"id": 1, "file_name": "7.png"}]}
    for source in ([document], [Document(document)]):
        (found,) = read(source, images_from=tmp_path / "elsewhere", by_image=True)
        assert found.asset == tmp_path / "elsewhere/7.png"
    with pytest.raises(InvalidParameterError, match="images_from .*nowhere.* is not a folder"):
        read([document], images_from=tmp_path / "nowhere")


def test_a_merged_dataset_says_of_each_image_where_it_comes_from(tmp_path):
    own = {"work_item_id": "w", "batch": "Day", "asset_url": "s3://a", "asset_path": "p/1.png"}
    (tmp_path / "p").mkdir()
    (tmp_path / "p/1.png").touch()
    images = [
        {"id": 1, "file_name": "x.png", **own},
        {"id": "2", "file_name": "y.png"},
        {"id": 1, "file_name": "z.png"},
    ]
    labels = [{"id": 5, "image_id": 1.0}, {"id": 6, "image_id": "2"}, {"id": 7, "image_id": 9}]
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": labels, "categories": [{"id": 1}]}))
    found = list(read(tmp_path / "all.json", by_image=True))
    assert [(each.item_id, each.batch, each.asset and each.asset.name) for each in found] == [
        ("w", "Day", "1.png"),
        (None, None, None),
        (None, None, None),
    ]
    assert [[label["id"] for label in each.data["annotations"]] for each in found] == [[5], [6], []]
    assert [each.data["info"] for each in found] == [{"asset_url": "s3://a"}, {}, {}]
    assert all(each.data["categories"] == [{"id": 1}] for each in found)


# --- Masks -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 40), st.randoms(use_true_random=False))
def test_run_lengths_are_decoded_as_the_reference_does(height, width, random):
    np = pytest.importorskip("numpy")
    pixels = np.array([[random.random() < 0.4 for _ in range(width)] for _ in range(height)], dtype=np.uint8)
    packed = reference.encode(np.asfortranarray(pixels))
    as_text = {**packed, "counts": packed["counts"].decode()}
    as_numbers = {**packed, "counts": mask.runs(as_text).counts}
    for segmentation in (packed, as_text, as_numbers):
        decoded = mask.decode(segmentation)
        assert np.array_equal(np.asarray(decoded), pixels)
        assert mask.area(segmentation, height, width) == reference.area(packed)
        assert mask.to_bbox(segmentation) == reference.toBbox(packed).tolist()


def polygons(coordinate):
    return st.lists(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9), min_size=1, max_size=3)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    polygons(st.floats(-20, 60)) | polygons(st.integers(-5, 45)) | polygons(st.integers(0, 160).map(lambda n: n / 4)),
)
def test_polygons_cover_the_pixels_that_they_cover_for_the_reference(height, width, corners):
    np = pytest.importorskip("numpy")
    segmentation = [[value for point in polygon for value in point] for polygon in corners]
    expected = reference.merge(reference.frPyObjects([[*map(float, each)] for each in segmentation], height, width))
    assert np.array_equal(np.asarray(mask.decode(segmentation, height, width)), reference.decode(expected))
    assert mask.area(segmentation, height, width) == reference.area(expected)
    assert mask.to_bbox(segmentation, height, width) == reference.toBbox(expected).tolist()
    # Not only the same pixels: the same run lengths.
    as_text = {**expected, "counts": expected["counts"].decode()}
    assert mask.runs(segmentation, height, width) == mask.runs(as_text)


@pytest.mark.parametrize(
    ("segmentation", "size", "why"),
    [
        ([[0, 0, 4, 0, 4, 4]], (None, None), "the size of the image is not"),
        ([[0, 0, 4, 0, 4, 4]], (-1, 4), "the size of the image is not"),
        ([[0, 0, 4, 0, 4, 4]], (10**6, 10**6), "more than"),
        ([], (4, 4), "not a list of polygons"),
        ([0, 0, 4, 0, 4, 4], (4, 4), "not a list of polygons"),
        ([[0, 0, 4, 0, 4, 4], [0, 0, 1, 1]], (4, 4), "not a list of polygons"),
        ([[0, 0, 4, 0, 4, float("nan")]], (4, 4), "not a list of polygons"),
        ([[0, 0, 10**6, 1] * 10], (1, 10**6), "too long"),
        ({"size": [2, 2], "counts": [4]}, (3, 3), "but the image is 3 x 3"),
        ({"size": [2, 2], "counts": b"\xff"}, (None, None), "character"),
        ({"size": [0, 2], "counts": []}, (None, None), "no pixels to decode"),
        (None, (4, 4), "neither a list of polygons nor an object"),
    ],
)
def test_what_cannot_be_decoded_is_refused(segmentation, size, why):
    with pytest.raises(InvalidParameterError, match=f"segmentation .*{why}"):
        mask.decode(segmentation, *size)


@pytest.mark.parametrize(
    ("segmentation", "why"),
    [
        ("[[1, 2]]", "nor an object"),
        ({"counts": [4]}, "size"),
        ({"size": [2, -2], "counts": [4]}, "size"),
        ({"size": [2, 2], "counts": [True, 3]}, "neither a string"),
        ({"size": [2, 2], "counts": None}, "neither a string"),
        ({"size": [2, 2], "counts": [1, 2]}, "3 pixels, but 2 x 2 are 4"),
        ({"size": [2, 2], "counts": "1a\n"}, "character"),
        ({"size": [2, 2], "counts": "P"}, "end in the middle of a number"),
        ({"size": [2, 2], "counts": "o" * 40}, "too large"),
        ({"size": [2, 2], "counts": "O"}, "negative"),
        ({"size": [10**6, 10**6], "counts": [10**12]}, "more than"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation, why):
    with pytest.raises(ValueError, match=why):
        mask.runs(segmentation)
