"""Conversion to other formats: losses are counted, and round trips are exact."""

from __future__ import annotations

import json
import os
import random
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cfplatform import DownloadError, InvalidParameterError, InvalidResponseError, coco
from cfplatform.coco import Document
from tests.layouts import LAYOUTS

WIDTH, HEIGHT = 200, 100


def labels(folder, annotations, categories=("car",), sizes=((WIDTH, HEIGHT),), names=None, **options):
    """A file with these annotations beside its images; those without an image are of the first one."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for number, size in enumerate(sizes, 1):
        name = f"{number}.png" if names is None else names[number - 1]
        images.append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        if not (folder / name).exists():
            Image.new("RGB", size, (number, 0, 0)).save(folder / name, format="PNG")
    named = [{"name": each} if isinstance(each, str) else each for each in categories]
    own = [{"id": n, "image_id": 1, "category_id": 1, "iscrowd": 0, **each} for n, each in enumerate(annotations, 1)]
    data = {"images": images, "annotations": own, "categories": [{"id": n, **each} for n, each in enumerate(named, 1)]}
    path = folder / "labels.json"
    path.write_text(json.dumps({**data, **options}))
    return path


def rows(folder, part="train"):
    """The rows of each image."""
    return {path.stem: path.read_text().splitlines() for path in sorted((folder / "labels" / part).iterdir())}


def back(tmp_path, source, **options):
    """What comes back from a dataset of YOLO."""
    coco.convert(source, tmp_path / "back.json", **options).raise_for_problems()
    return json.loads((tmp_path / "back.json").read_text())


def iou(one, other, height=HEIGHT, width=WIDTH):
    """The intersection over union of two segmentations, by their pixels."""
    pixels = [bytes(coco.mask.decode(each, height, width)) for each in (one, other)]
    both = sum(map(min, *pixels))
    return both / (sum(map(sum, pixels)) - both)


def run_lengths(inside, height=HEIGHT, width=WIDTH):
    """The mask of the pixels for which a function of column and row is true."""
    counts, last = [0], False
    for at in range(height * width):
        here = bool(inside(at // height, at % height))
        if here != last:
            counts.append(0)
            last = here
        counts[-1] += 1
    return {"size": [height, width], "counts": counts}


# --- Boxes --------------------------------------------------------------------------------------------------------


def test_rows_are_the_class_and_the_middle_and_size_as_shares(tmp_path):
    source = labels(tmp_path, [{"bbox": [20, 10, 50, 40], "category_id": 2}], ["car", "person"])
    made = coco.convert(source, tmp_path / "out", "yolo")
    assert rows(tmp_path / "out") == {"1": ["1 0.2250000 0.3000000 0.2500000 0.4000000"]}
    assert (made.images, made.annotations, made.categories, made.parts) == (1, 1, 2, {"train": 1})
    assert made.output == tmp_path / "out" / "data.yaml"
    assert made.counts == {"no-part": 1}
    assert made.losses == {}
    assert made.as_dict()["output"] == str(made.output)
    assert "data.yaml" in made._repr_html_()
    made.raise_for_problems()


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_boxes_come_back(tmp_path_factory, data):
    tmp_path = tmp_path_factory.mktemp("boxes")
    size = data.draw(st.tuples(st.integers(1, 300), st.integers(1, 300)))

    def span(most):
        return (
            st.tuples(st.floats(0, most), st.floats(0, most))
            .map(sorted)
            .filter(lambda ends: ends[1] - ends[0] > most / 1e4)
        )

    found = data.draw(st.lists(st.tuples(span(size[0]), span(size[1]), st.integers(1, 3)), max_size=5))
    boxes = [([x[0], y[0], x[1] - x[0], y[1] - y[0]], category) for x, y, category in found]
    annotations = [{"bbox": each, "category_id": category} for each, category in boxes]
    made = coco.convert(labels(tmp_path, annotations, "abc", [size]), tmp_path / "out", "yolo")
    again = back(tmp_path, made.output)
    assert [each["name"] for each in again["categories"]] == ["a", "b", "c"]
    assert (again["images"][0]["width"], again["images"][0]["height"]) == size
    assert [each["category_id"] for each in again["annotations"]] == [category for _, category in boxes]
    for each, (expected, _) in zip(again["annotations"], boxes, strict=True):
        for axis in (0, 1, 2, 3):
            assert abs(each["bbox"][axis] - expected[axis]) <= 1e-6 * size[axis % 2] + 1e-6


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT)), min_size=3, max_size=9, unique=True))
def test_a_polygon_comes_back(tmp_path_factory, points):
    tmp_path = tmp_path_factory.mktemp("polygons")
    flat = [value for point in points for value in point]
    twice = sum(x * v - u * y for (x, y), (u, v) in zip(points, [*points[1:], points[0]], strict=True))
    source = labels(tmp_path, [{"segmentation": [flat], "bbox": [0, 0, 9, 9]}])
    made = coco.convert(source, tmp_path / "out", "yolo", task="segment")
    again = back(tmp_path, made.output)["annotations"]
    if not twice:
        assert (again, made.losses) == ([], {"outside-left-out": 1})
        return
    (polygon,) = again[0]["segmentation"]
    assert len(polygon) == len(flat)
    assert all(abs(a - b) <= 1e-6 * WIDTH for a, b in zip(polygon, flat, strict=True))
    assert again[0]["area"] == pytest.approx(abs(twice) / 2, abs=0.05)


def test_boxes_are_clipped_and_those_outside_left_out(tmp_path):
    boxes = [
        [-50, -10, 100, 60],
        [199.5, 50, 1, 10],
        [300, 10, 20, 20],
        [150, 50, 100, 100],
        [0, 0, -5, 9],
        [1, 1, 1e-9, 5],
    ]
    made = coco.convert(labels(tmp_path, [{"bbox": each} for each in boxes]), tmp_path / "out", "yolo")
    found = [[float(value) for value in row.split()[1:]] for row in rows(tmp_path / "out")["1"]]
    assert found == [[0.125, 0.25, 0.25, 0.5], [0.99875, 0.55, 0.0025, 0.1], [0.875, 0.75, 0.25, 0.5]]
    assert made.losses == {"clipped": 2, "outside-left-out": 1, "no-row": 2}
    assert made.problem_count == 0
    assert {each.code for each in made.conflicts} == {"clipped", "outside-left-out", "no-row", "no-part"}
    assert all(code in coco.CODES for code in made.counts)


def test_crowds_captions_and_unknown_references_are_left_out_and_counted(tmp_path):
    crowd = run_lengths(lambda x, y: x < 9)
    annotations = [
        {"bbox": [0, 0, 9, 100], "segmentation": crowd, "iscrowd": 1},
        {"caption": "a street", "category_id": None},
        {"bbox": [1, 1, 9, 9], "category_id": 5},
        {"bbox": [1, 1, 9, 9], "image_id": 7},
        {"bbox": [1, 1, 9, 9]},
    ]
    errors = []
    made = coco.convert(labels(tmp_path, annotations), tmp_path / "out", "yolo", on_error=errors.append)
    assert made.annotations == len(rows(tmp_path / "out")["1"]) == 1
    assert made.losses == {"crowd-left-out": 1, "no-row": 1}
    assert sorted(each.code for each in errors) == ["dangling-category-id", "dangling-image-id"]
    with pytest.raises(InvalidResponseError, match="There is no image 7"):
        made.raise_for_problems()


def test_a_box_that_is_missing_is_that_of_the_shape(tmp_path):
    annotations = [
        {"segmentation": [[20, 10, 70, 10, 70, 50]]},
        {"segmentation": run_lengths(lambda x, y: 20 <= x < 70 and 10 <= y < 50)},
        {"keypoints": [20, 10, 2, 0, 0, 0, 70, 50, 1]},
    ]
    made = coco.convert(labels(tmp_path, annotations), tmp_path / "out", "yolo")
    assert rows(tmp_path / "out")["1"] == ["0 0.2250000 0.3000000 0.2500000 0.4000000"] * 3
    assert made.losses == {"segmentation-left-out": 2, "keypoints-left-out": 1}


# --- Segmentations ------------------------------------------------------------------------------------------------

NOISE = random.Random(4)
SHAPES = {
    "hole": run_lengths(lambda x, y: 400 < (x - 70) ** 2 + (y - 50) ** 2 < 2000),
    "parts": run_lengths(lambda x, y: (x // 20 + y // 20) % 3 == 0),
    "corners": run_lengths(lambda x, y: (x // 7 + y // 7) % 2),
    "holes in parts": run_lengths(lambda x, y: x % 40 > 4 < y % 30 and not (15 < x % 40 < 30 and 12 < y % 30 < 20)),
    "pixel": run_lengths(lambda x, y: (x, y) == (9, 9)),
    "all": run_lengths(lambda x, y: True),
    "noise": run_lengths(lambda x, y: NOISE.random() < 0.6),
    "concave": [[10, 10, 190, 10, 190, 90, 100, 20, 10, 90]],
    "apart": [[10, 10, 60, 10, 60, 60], [100, 20, 150, 20, 150, 90, 100, 90], [10, 80, 40, 80, 40, 95]],
    "overlapping": [[10, 10, 100, 10, 100, 60, 10, 60], [50, 30, 150, 30, 150, 90, 50, 90]],
    "within": [[10, 10, 100, 10, 100, 90, 10, 90], [30, 30, 60, 30, 60, 60, 30, 60]],
    "beyond": [[-50, -50, 250, 50, -50, 150]],
    "crossed": [[10, 10, 100, 90, 100, 10, 10, 90]],
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_becomes_one_polygon_with_the_same_pixels(tmp_path, name):
    shape = SHAPES[name]
    source = labels(tmp_path, [{"segmentation": shape, "bbox": [0, 0, WIDTH, HEIGHT]}])
    made = coco.convert(source, tmp_path / "out", "yolo", task="segment")
    (row,) = rows(tmp_path / "out")["1"]
    values = [float(each) for each in row.split()[1:]]
    assert min(values) >= 0
    assert max(values) <= 1
    (found,) = back(tmp_path, made.output)["annotations"]
    assert len(found["segmentation"]) == 1
    assert iou(found["segmentation"], shape) >= 0.97
    expected = {
        "hole": {"hole-bridged"},
        "holes in parts": {"hole-bridged", "parts-bridged"},
        "noise": {"hole-bridged", "parts-bridged"},
        "beyond": {"clipped"},
        **dict.fromkeys(["parts", "corners", "apart"], {"parts-bridged"}),
    }
    assert set(made.losses) == expected.get(name, set())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_any_mask_becomes_one_polygon_with_the_same_pixels(tmp_path_factory, height, width, pick):
    tmp_path = tmp_path_factory.mktemp("masks")
    share = pick.choice([0.2, 0.5, 0.9])
    shape = run_lengths(lambda x, y: pick.random() < share, height, width)
    source = labels(tmp_path, [{"segmentation": shape, "bbox": [0, 0, 1, 1]}], sizes=[(width, height)])
    made = coco.convert(source, tmp_path / "out", "yolo", task="segment")
    found = back(tmp_path, made.output)["annotations"]
    if not coco.mask.area(shape):
        assert (found, made.losses) == ([], {"outside-left-out": 1})
    else:
        assert iou(found[0]["segmentation"], shape, height, width) >= 0.97


def test_a_mask_of_many_parts_takes_a_moment(tmp_path):
    shape = run_lengths(lambda x, y: (x + y) % 2)
    source = labels(tmp_path, [{"segmentation": shape, "bbox": [0, 0, WIDTH, HEIGHT]}])
    made = coco.convert(source, tmp_path / "out", "yolo", task="segment")
    assert made.elapsed < 5
    assert iou(back(tmp_path, made.output)["annotations"][0]["segmentation"], shape) == 1


def test_a_mask_of_another_size_is_one_of_the_image_scaled(tmp_path):
    shape = run_lengths(lambda x, y: x < 100 and y < 50)
    source = labels(tmp_path, [{"segmentation": shape, "bbox": [0, 0, 50, 25]}], sizes=[(100, 50)])
    coco.convert(source, tmp_path / "out", "yolo", task="segment")
    points = rows(tmp_path / "out")["1"][0].split()[1:]
    assert {tuple(points[at : at + 2]) for at in range(0, 8, 2)} == {
        (x, y) for x in ("0.0000000", "0.5000000") for y in ("0.0000000", "0.5000000")
    }


def test_files_of_segments_have_polygons_only(tmp_path):
    annotations = [
        {"bbox": [20, 10, 50, 40]},
        {"segmentation": [[0, 0, 9, 0, 9, 9]], "bbox": [0, 0, 9, 9]},
        {"bbox": [50, 40, 40, 20], "attributes": {"rotation": 90}},
        {"segmentation": [[0, 0, 9, 0]], "bbox": [0, 0, 9, 9]},
        {"segmentation": {"size": [5, 5], "counts": "?"}, "bbox": [0, 0, 9, 9]},
    ]
    made = coco.convert(labels(tmp_path, annotations), tmp_path / "out", "yolo", task="segment")
    found = rows(tmp_path / "out")["1"]
    assert [len(row.split()) for row in found] == [9, 7, 9]
    assert [float(each) for each in found[2].split()[1:]] == [0.4, 0.3, 0.4, 0.7, 0.3, 0.7, 0.3, 0.3]
    assert made.losses == {"box-as-polygon": 2, "no-row": 2}


# --- Turned boxes -------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 359.9), st.floats(5, 40), st.floats(5, 40))
def test_turned_boxes_come_back(tmp_path_factory, degrees, width, height):
    tmp_path = tmp_path_factory.mktemp("turned")
    own = {"bbox": [90 - width / 2, 50 - height / 2, width, height], "attributes": {"rotation": degrees}}
    made = coco.convert(labels(tmp_path, [own]), tmp_path / "out", "yolo", task="obb")
    (found,) = back(tmp_path, made.output)["annotations"]
    assert found["bbox"] == pytest.approx(own["bbox"], abs=1e-4)
    turned = found.get("attributes", {}).get("rotation", 0)
    assert min(abs(turned - degrees), 360 - abs(turned - degrees)) < 0.002
    assert made.losses == {}


def test_other_tasks_take_the_upright_box_around_a_turned_one(tmp_path):
    own = {"bbox": [50, 40, 40, 20], "attributes": {"rotation": 90}}
    made = coco.convert(labels(tmp_path, [own]), tmp_path / "out", "yolo")
    assert rows(tmp_path / "out")["1"] == ["0 0.3500000 0.5000000 0.1000000 0.4000000"]
    assert made.losses == {"rotation-left-out": 1}


# --- Keypoints ----------------------------------------------------------------------------------------------------

FACE = {"name": "person", "keypoints": ["nose", "left_eye", "right_eye"]}


def test_keypoints_come_back_with_their_names(tmp_path):
    annotations = [
        {"bbox": [20, 10, 50, 40], "keypoints": [30, 20, 2, 0, 0, 0, 60, 30, 1]},
        {"bbox": [20, 10, 50, 40], "keypoints": [30, 20, 2, 250, 20, 2, 200.5, 30, 1]},
        {"bbox": [20, 10, 50, 40], "keypoints": [30, 20, 2]},
        {"bbox": [20, 10, 50, 40]},
    ]
    made = coco.convert(labels(tmp_path, annotations, [FACE]), tmp_path / "out", "yolo", task="pose")
    first, second = rows(tmp_path / "out")["1"]
    assert first.split()[5:] == ["0.1500000", "0.2000000", "2", "0", "0", "0", "0.3000000", "0.3000000", "1"]
    assert second.split()[8:] == ["0", "0", "0", "1.0000000", "0.3000000", "1"]
    assert made.losses == {"keypoint-outside": 1, "no-keypoints": 2}
    text = made.output.read_text()
    assert "kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\n" in text
    again = back(tmp_path, made.output)
    assert again["categories"] == [{"id": 1, **FACE}]
    assert again["annotations"][0]["keypoints"] == annotations[0]["keypoints"]
    assert [each["num_keypoints"] for each in again["annotations"]] == [2, 2]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["l_ear", "r_ear"], "flip_idx: [1, 0]"),
        (["LeftWing", "RightWing", "tail"], "flip_idx: [1, 0, 2]"),
        (["head", "tail"], "flip_idx: [0, 1]"),
        (["eye-L", "eye-R"], "flip_idx: [1, 0]"),
        (["left_eye", "nose"], None),
        (None, None),
    ],
)
def test_which_keypoints_are_mirrored_is_in_their_names(tmp_path, names, expected):
    own = {"bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * (2 if names is None else len(names))}
    category = {"name": "bird"} if names is None else {"name": "bird", "keypoints": names}
    made = coco.convert(labels(tmp_path, [own], [category]), tmp_path / "out", "yolo", task="pose")
    found = [line for line in made.output.read_text().splitlines() if line.startswith("flip_idx")]
    assert found == ([] if expected is None else [expected])
    assert ("no-flip" in made.counts) == (expected is None)


def test_classes_with_different_numbers_of_keypoints_are_refused(tmp_path):
    categories = [FACE, {"name": "car", "keypoints": ["front", "back"]}]
    annotations = [
        {"bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * 3},
        {"bbox": [0, 0, 9, 9], "keypoints": [1, 1, 2] * 2, "category_id": 2},
    ]
    source = labels(tmp_path, annotations, categories)
    with pytest.raises(InvalidParameterError, match="'person' has 3 and 'car' has 2"):
        coco.convert(source, tmp_path / "out", "yolo", task="pose")
    assert not (tmp_path / "out" / "data.yaml").exists()
    with pytest.raises(InvalidParameterError, match="no keypoints"):
        coco.convert(labels(tmp_path, [{"bbox": [0, 0, 9, 9]}]), tmp_path / "out", "yolo", task="pose")


# --- Files --------------------------------------------------------------------------------------------------------


def test_an_image_without_annotations_has_an_empty_file(tmp_path):
    coco.convert(labels(tmp_path, [], sizes=[(9, 9), (9, 9)]), tmp_path / "out", "yolo")
    assert rows(tmp_path / "out") == {"1": [], "2": []}
    assert sorted(path.name for path in (tmp_path / "out" / "images" / "train").iterdir()) == ["1.png", "2.png"]


HOSTILE = [
    'car: "fast" # 1',
    "",
    "é\u2028\x7f\x85\t\nb",
    "\U0001f600\ufeff",
    "yes",
    "{a: b}",
    "'",
    "\\u0041",
    "- x",
    "\ud800",
]


def test_names_of_classes_come_back_whatever_they_are(tmp_path):
    categories = [{"name": name} for name in HOSTILE] + [
        {"name": "car", "supercategory": "a"},
        {"name": "car", "supercategory": "b"},
    ]
    made = coco.convert(labels(tmp_path, [], categories), tmp_path / "out", "yolo")
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(made.output.read_text("utf-8", "surrogatepass"))
    expected = [name or "category 2" for name in HOSTILE] + ["car", "car (b)"]
    assert list(read["names"].values()) == expected
    assert read["nc"] == len(expected)
    assert "path" not in read
    assert [each["name"] for each in back(tmp_path, made.output)["categories"]] == expected


def test_stems_are_unique_in_a_part_where_case_does_not_count(tmp_path):
    names = ["a.png", "A.PNG", "a.jpeg", "-x\n.png", "é.png", "e\u0301.png", "con.png"]
    made = coco.convert(labels(tmp_path, [], sizes=[(9, 9)] * 7, names=names), tmp_path / "out", "yolo")
    images = sorted(path.name for path in (tmp_path / "out" / "images" / "train").iterdir())
    stems = [os.path.splitext(name)[0] for name in images]
    assert len({stem.casefold() for stem in stems}) == len(images) == made.images == 7
    # All of them are PNG inside.
    assert {os.path.splitext(name)[1].lower() for name in images} == {".png"}
    assert sorted(rows(tmp_path / "out")) == stems
    assert all(name.isprintable() and name[0] != "-" for name in images)


def test_the_extension_is_that_of_the_content(tmp_path):
    formats = {
        "a.png": "JPEG",
        "b.jpeg": "JPEG",
        "c.dat": "PNG",
        "d.png": "WEBP",
        "e.png": "BMP",
        "f.png": "TIFF",
        "g.png": "GIF",
    }
    for name, kind in formats.items():
        Image.new("RGB", (9, 9)).save(tmp_path / name, format=kind)
    (tmp_path / "h.svg").write_text("<svg/>")
    names = [*formats, "h.svg"]
    made = coco.convert(labels(tmp_path, [], sizes=[(9, 9)] * 8, names=names), tmp_path / "out", "yolo")
    found = sorted(path.name for path in (tmp_path / "out" / "images" / "train").iterdir())
    assert found == ["a.jpg", "b.jpeg", "c.png", "d.webp", "e.bmp", "f.tif", "g.gif", "h.svg"]
    assert made.losses == {"image-format": 2}


def test_images_that_yolo_turns_are_left_out_if_they_were_annotated_as_stored(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("stored.jpg", "upright.jpg"):
        Image.new("RGB", (40, 20)).save(tmp_path / name, exif=turned)
    names, sizes = ["stored.jpg", "upright.jpg"], [(40, 20), (20, 40)]
    source = labels(tmp_path, [], sizes=sizes, names=names)
    made = coco.convert(source, tmp_path / "out", "yolo")
    assert list(rows(tmp_path / "out")) == ["upright"]
    assert made.losses == {"turned-image": 1}
    assert coco.convert(source, tmp_path / "voc", "voc").images == 2


@pytest.mark.parametrize("images", ["link", "copy"])
def test_images_are_files_of_the_folder(tmp_path, images):
    source = labels(tmp_path / "in", [])
    coco.convert(source, tmp_path / "out", "yolo", images=images)
    placed = tmp_path / "out" / "images" / "train" / "1.png"
    assert not placed.is_symlink()
    assert placed.samefile(tmp_path / "in" / "1.png") == (images == "link")
    assert placed.read_bytes() == (tmp_path / "in" / "1.png").read_bytes()


def test_an_image_without_a_file_is_left_out_unless_there_are_labels_only(tmp_path):
    source = labels(
        tmp_path / "in", [{"bbox": [0, 0, 9, 9]}, {"bbox": [0, 0, 9, 9], "image_id": 2}], sizes=[(9, 9)] * 2
    )
    (tmp_path / "in" / "2.png").unlink()
    made = coco.convert(source, tmp_path / "out", "yolo")
    assert (made.images, made.losses, made.problem_count) == (1, {"no-image": 1}, 0)
    made = coco.convert(source, tmp_path / "alone", "yolo", images=None)
    assert (made.images, made.losses) == (2, {})
    assert sorted(rows(tmp_path / "alone")) == ["1", "2"]


def test_a_second_run_leaves_nothing_of_the_first(tmp_path):
    source = labels(tmp_path / "in", [{"bbox": [0, 0, 9, 9]}], sizes=[(9, 9)] * 3)
    parts = {"train": 0.5, "val": 0.5}
    coco.convert(source, tmp_path / "out", "yolo", parts=parts)
    before = {path: path.stat().st_ino for path in (tmp_path / "out" / "images").rglob("*.png")}
    (tmp_path / "out" / "labels" / "train.cache").write_bytes(b"old")
    (tmp_path / "out" / "runs.txt").write_text("mine")
    (tmp_path / "out" / "images" / "train" / "mine.png").write_text("mine")
    assert coco.convert(source, tmp_path / "out", "yolo", parts=parts).images == 3
    assert {path: path.stat().st_ino for path in before} == before
    assert not (tmp_path / "out" / "labels" / "train.cache").exists()
    data = json.loads(source.read_text())
    data["images"] = data["images"][:1]
    source.write_text(json.dumps(data))
    Image.new("RGB", (9, 9), "red").save(tmp_path / "new.png")
    (tmp_path / "new.png").replace(tmp_path / "in" / "1.png")
    coco.convert(source, tmp_path / "out", "yolo")
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    mine = ["images/train/mine.png", "runs.txt"]
    assert files == [".cfplatform-convert", "data.yaml", "images/train/1.png", mine[0], "labels/train/1.txt", mine[1]]
    assert (tmp_path / "out" / "images" / "train" / "1.png").samefile(tmp_path / "in" / "1.png")


def test_two_conversions_do_not_write_one_folder(tmp_path):
    source = labels(tmp_path / "in", [{"bbox": [0, 0, 9, 9]}])
    refused = []

    def again(done, total):
        if not refused:
            with pytest.raises(InvalidParameterError, match="by another conversion") as found:
                coco.convert(source, tmp_path / "out", "yolo")
            refused.append(found)

    assert coco.convert(source, tmp_path / "out", "yolo", progress=again).images == 1
    assert refused


def test_a_stream_may_have_arrays_and_tuples(tmp_path):
    numpy = pytest.importorskip("numpy")
    document = json.loads(labels(tmp_path, []).read_text())
    for box in (numpy.array([20.0, 10, 50, 40]), (20, 10, 50, 40)):
        document["annotations"].append({"image_id": 1, "category_id": 1, "bbox": box})
    made = coco.convert([document], tmp_path / "out", "yolo", images=None)
    assert rows(tmp_path / "out")["1"] == ["0 0.2250000 0.3000000 0.2500000 0.4000000"] * 2
    assert made.losses == {}


def test_a_run_that_was_killed_is_cleaned_up_by_the_next(tmp_path):
    source = labels(tmp_path / "in", [{"bbox": [0, 0, 9, 9]}], sizes=[(9, 9)] * 3)

    def documents():
        data = json.loads(source.read_text())
        yield Document(data, path=source)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        coco.convert(documents(), tmp_path / "out", "yolo")
    assert not (tmp_path / "out" / "data.yaml").exists()
    assert len(rows(tmp_path / "out")) == 3
    coco.convert(labels(tmp_path / "other", [], names=["other.png"]), tmp_path / "out", "yolo")
    assert list(rows(tmp_path / "out")) == ["other"]
    assert [path.name for path in (tmp_path / "out" / "images" / "train").iterdir()] == ["other.png"]


def test_a_list_of_files_cannot_lead_out_of_the_folder(tmp_path):
    source = labels(tmp_path / "in", [])
    coco.convert(source, tmp_path / "out", "yolo")
    (tmp_path / "mine.txt").write_text("mine")
    with open(tmp_path / "out" / ".cfplatform-convert", "a") as file:
        file.write(f"../mine.txt\n{tmp_path}/mine.txt\n/\n\n")
    coco.convert(source, tmp_path / "out", "yolo")
    assert (tmp_path / "mine.txt").exists()


def test_labels_are_new_files_where_links_were(tmp_path):
    source = labels(tmp_path / "in", [{"bbox": [0, 0, 9, 9]}])
    coco.convert(source, tmp_path / "out", "yolo")
    (tmp_path / "other.txt").write_text("mine")
    (tmp_path / "out" / "labels" / "train" / "1.txt").unlink()
    (tmp_path / "out" / "labels" / "train" / "1.txt").symlink_to(tmp_path / "other.txt")
    coco.convert(source, tmp_path / "out", "yolo")
    assert (tmp_path / "other.txt").read_text() == "mine"
    assert len(rows(tmp_path / "out")["1"]) == 1


@pytest.mark.parametrize("to", ["yolo", "voc", "coco"])
def test_a_folder_with_other_files_is_refused(tmp_path, to):
    source = labels(tmp_path / "in", [])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InvalidParameterError, match="from other programs"):
        coco.convert(source, tmp_path / "out", to)
    with pytest.raises(InvalidParameterError, match="from other programs"):
        coco.convert(source, tmp_path / "in", to)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_output_that_holds_the_source_is_refused(tmp_path):
    made = coco.convert(labels(tmp_path / "in", []), tmp_path / "out", "yolo")
    for source in (made.output, tmp_path / "out"):
        with pytest.raises(InvalidParameterError, match="contains the source"):
            coco.convert(source, tmp_path / "out", "voc")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_an_error(tmp_path):
    source = labels(tmp_path / "in", [])
    coco.convert(source, tmp_path / "out", "yolo")
    (tmp_path / "out" / "labels" / "train").chmod(0o500)
    with pytest.raises(DownloadError, match="Could not write"):
        coco.convert(source, tmp_path / "out", "yolo")


def test_a_file_where_a_folder_should_be_is_an_error(tmp_path):
    source = labels(tmp_path / "in", [])
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidParameterError, match="could not be created"):
        coco.convert(source, tmp_path / "file" / "out", "yolo")
    coco.convert(source, tmp_path / "out", "yolo", parts={"train": 1.0})
    (tmp_path / "out" / "labels" / "val").write_text("mine")
    with pytest.raises(DownloadError, match=r"Could not write.*Run the conversion again"):
        coco.convert(source, tmp_path / "out", "yolo", parts={"val": 1.0})
    assert not (tmp_path / "out" / "data.yaml").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "csv"},
        {"task": "track"},
        {"images": "move"},
        {"layout": "flat"},
        {"origin": 2},
        {"seed": 1},
        {"parts": {}},
    ]
    + [{"parts": {"train": 0.5}}, {"parts": {"images": 1.0}}, {"origin": True}],
)
def test_wrong_options_are_errors(tmp_path, wrong):
    with pytest.raises(InvalidParameterError):
        coco.convert(labels(tmp_path / "in", []), tmp_path / "out", **{"to": "yolo", **wrong})
    assert not (tmp_path / "out").exists()


# --- Parts --------------------------------------------------------------------------------------------------------


def test_parts_are_those_of_split(tmp_path):
    source = LAYOUTS["download"](tmp_path / "in").source
    parts = {"train": 0.6, "val": 0.2, "test": 0.2}
    made = coco.convert(source, tmp_path / "out", "yolo", parts=parts, seed=4)
    divided = coco.split(source, tmp_path / "split", parts, seed=4)
    assert made.parts == {name: part.images for name, part in divided.parts.items()}
    for name, part in divided.parts.items():
        images = json.loads(part.output.read_text())["images"]
        assert sorted(each["work_item_id"] for each in images) == sorted(rows(tmp_path / "out", name))
    # The parts of a split stay.
    again = coco.convert(tmp_path / "split", tmp_path / "again", "yolo")
    assert {name: again.parts[name] for name in parts} == made.parts
    assert "val: images/val\n" in again.output.read_text()


def test_batches_can_be_parts(tmp_path):
    source = LAYOUTS["download"](tmp_path / "in").source
    made = coco.convert(source, tmp_path / "out", "voc", parts={"train": ["Day"], "val": ["Dusk"]})
    assert made.parts == {"train": 12, "val": 0}
    assert made.counts["batch-without-part"] == made.counts["unknown-batch"] == 1


def test_training_and_validation_are_always_named(tmp_path):
    made = coco.convert(labels(tmp_path / "in", []), tmp_path / "out", "yolo", parts={"valid": 1.0})
    text = made.output.read_text()
    assert "train: images/valid\nval: images/valid\n" in text
    assert made.counts == {"no-part": 1}
    made = coco.convert(labels(tmp_path / "in", []), tmp_path / "out", "yolo", parts={"train": 0.5, "val": 0.5})
    assert made.counts == {"no-part": 1}
    assert (tmp_path / "out" / "images" / "val").is_dir()


# --- All layouts, COCO, Pascal VOC --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_tools_write_becomes_yolo_and_comes_back(tmp_path, name):
    layout = LAYOUTS[name](tmp_path / "in")
    made = coco.convert(layout.source, tmp_path / "out", "yolo", task="segment", images_from=layout.images_from)
    assert (made.images, made.problem_count) == (24, 0)
    assert made.losses == {"crowd-left-out": 12, "box-as-polygon": 6}
    again = coco.convert(tmp_path / "out", tmp_path / "back.json")
    assert (again.images, again.annotations, again.problem_count) == (24, made.annotations, 0)
    assert [each.code for each in coco.validate(again.output)] == []


@pytest.mark.parametrize("layout", ["annotations", "parts"])
def test_coco_with_its_images_is_found_by_tools(tmp_path, layout):
    source = LAYOUTS["download"](tmp_path / "in").source
    parts = {"train": 0.5, "val": 0.5}
    made = coco.convert(source, tmp_path / "out", "coco", parts=parts, layout=layout)
    assert made.output == tmp_path / "out"
    assert sum(made.parts.values()) == made.images == 24
    for part in parts:
        where = f"{part}/_annotations.coco.json" if layout == "parts" else f"annotations/instances_{part}.json"
        data = json.loads((tmp_path / "out" / where).read_text())
        folder = tmp_path / "out" / (part if layout == "parts" else f"images/{part}")
        assert len(data["images"]) == made.parts[part]
        assert all((folder / each["file_name"]).is_file() for each in data["images"])
        assert all(((tmp_path / "out" / where).parent / each["asset_path"]).is_file() for each in data["images"])
    assert [each.code for each in coco.validate(tmp_path / "out")] == []
    again = coco.convert(source, tmp_path / "out", "coco", layout=layout)
    assert again.parts == {"train": 24}
    assert len([*(tmp_path / "out").rglob("*.png")]) == 24
    assert coco.merge(tmp_path / "out", tmp_path / "all.json").images == 24


def test_one_file_is_what_merge_writes(tmp_path):
    source = LAYOUTS["download"](tmp_path / "in").source
    made = coco.convert(source, tmp_path / "made.json")
    coco.merge(source, tmp_path / "merged.json")
    assert made.output.read_bytes() == (tmp_path / "merged.json").read_bytes()
    with pytest.raises(InvalidParameterError, match="output must be a folder"):
        coco.convert(source, tmp_path / "made.json", parts={"train": 1.0})


@pytest.mark.parametrize(("origin", "expected"), [(1, ["11", "11", "30", "30"]), (0, ["10", "10", "30", "30"])])
def test_pascal_voc_counts_pixels_from_one(tmp_path, origin, expected):
    annotations = [{"bbox": [10, 10, 20, 20]}, {"bbox": [-9, 90.4, 500, 50]}, {"bbox": [0.2, 0.2, 0.1, 0.1]}]
    source = labels(tmp_path / "in", annotations, ['<"car">&\x00'], names=["a b&.png"])
    made = coco.convert(source, tmp_path / "out", "voc", origin=origin)
    root = ET.parse(tmp_path / "out" / "Annotations" / "a b&.xml").getroot()  # noqa: S314 - we wrote it
    assert (root.findtext("filename"), root.findtext("size/width"), root.findtext("size/height")) == (
        "a b&.png",
        "200",
        "100",
    )
    boxes = [[each.text for each in box] for box in root.iter("bndbox")]
    assert boxes == [expected, [str(origin), str(90 + origin), "200", "100"], [str(origin), str(origin), "1", "1"]]
    assert {each.text for each in root.iter("name")} == {'<"car">&\ufffd'}
    assert [each.text for each in root.iter("truncated")] == ["0", "1", "0"]
    assert (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text() == "a b&\n"
    assert (tmp_path / "out" / "JPEGImages" / "a b&.png").is_file()
    assert made.losses == {"clipped": 1}


# --- Reading YOLO -------------------------------------------------------------------------------------------------


def yolo(folder, text, files):
    """A dataset of YOLO with a text for each label file."""
    for name, own in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(own)
        image = path.parent.parent.parent / "images" / path.parent.name / f"{path.stem}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(image)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ("train: images/trian\nval: images/vla\n", "'.*trian' does not exist"),
        ("train: [images/none.txt]\n", "none.txt' does not exist"),
        ("train: images/a.png\n", "a.png', which is not a list of images"),
    ],
)
def test_images_that_are_not_where_the_yaml_says_are_an_error(tmp_path, paths, reason):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    (tmp_path / "data.yaml").write_text(f"{paths}names: [car]\n")
    with pytest.raises(InvalidParameterError, match=reason):
        coco.convert(tmp_path / "data.yaml", tmp_path / "dataset.json")
    assert not (tmp_path / "dataset.json").exists()


def test_a_part_that_is_not_there_has_no_images(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    (tmp_path / "data.yaml").write_text("train: images\ntest: ../test/images\nnames: [car]\n")
    assert coco.convert(tmp_path / "data.yaml", tmp_path / "dataset.json").images == 1


def test_parts_are_the_batches_of_what_is_read(tmp_path):
    text = "path: .\ntrain: images/train  # here\nval:\n- images/val\nnames: ['a', \"b\\u00e9\", c d]\n"
    folder = yolo(
        tmp_path / "in", text, {"labels/train/1.txt": "0 .5 .5 .1 .2\n\n", "labels/val/2.txt": "2 .5 .5 1 1 0.7"}
    )
    Image.new("RGB", (9, 9)).save(folder / "images" / "val" / "empty.png")
    data = back(tmp_path, folder)
    assert [(each["batch"], each["width"]) for each in data["images"]] == [("train", 200), ("val", 200), ("val", 9)]
    assert [each["name"] for each in data["categories"]] == ["a", "bé", "c d"]
    assert [each["bbox"] for each in data["annotations"]] == [[90, 40, 20, 20], [0, 0, 200, 100]]
    assert data["annotations"][1]["score"] == 0.7
    made = coco.convert(folder, tmp_path / "out", "coco")
    assert made.parts == {"train": 1, "val": 2}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0.5 0.5 x 1", "not all values are numbers"),
        ("0 0.5 0.5 1.2 1", "not fractions"),
        ("0 0.5 0.5 -0.2 1", "not fractions"),
        ("3 0.5 0.5 0.1 0.1", "no class 3"),
        ("0.5 0.5 0.5 0.1 0.1", "no class 0.5"),
        ("0 0.5 nan 0.1 0.1", "not finite"),
        ("0 0.5 0.5", "3 columns do not fit a box or a polygon"),
        ("0 0.1 0.1 0.2 0.2 0.3 5", "not fractions"),
        ("", None),
    ],
)
def test_a_row_that_cannot_be_read_is_reported_and_the_rest_is_there(tmp_path, row, reason):
    folder = yolo(
        tmp_path / "in", "train: images/train\nnames: [a, b]\n", {"labels/train/1.txt": f"1 .5 .5 .1 .1\n{row}"}
    )
    made = coco.convert(folder, tmp_path / "back.json")
    assert made.annotations == 1
    assert made.counts == ({} if reason is None else {"bad-row": 1})
    if reason:
        assert reason in made.problems[0].message
        assert "Row 2 of '1.txt'" in made.problems[0].message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "names: [a]",
        "train: images/train",
        "train: x\nnames: {}",
        "- a\n- b",
        "a: [1",
        "names:\n\t- a\n  b",
        '"a: b',
    ],
)
def test_a_file_that_does_not_describe_a_dataset_is_an_error(tmp_path, text):
    folder = yolo(tmp_path / "in", text, {"labels/train/1.txt": ""})
    with pytest.raises(InvalidParameterError, match="source"):
        coco.convert(folder, tmp_path / "back.json")


def test_a_list_of_images_and_paths_of_roboflow_are_found(tmp_path):
    folder = yolo(tmp_path / "in", "train: ../list.txt\nnames:\n    0: a\n", {"labels/train/1.txt": "0 .5 .5 .1 .1"})
    (folder / "list.txt").write_text("images/train/1.png\nimages/train/gone.png\n")
    made = coco.convert(folder, tmp_path / "back.json")
    assert (made.images, made.annotations, made.counts) == (1, 1, {"missing-image": 1})


def test_supervision_reads_what_is_written(tmp_path):
    sv = pytest.importorskip("supervision")
    source = LAYOUTS["cvat"](tmp_path / "in").source
    made = coco.convert(source, tmp_path / "out", "yolo", task="segment")
    train = tmp_path / "out"
    found = sv.DetectionDataset.from_yolo(
        str(train / "images" / "train"), str(train / "labels" / "train"), str(made.output), force_masks=True
    )
    assert found.classes == ["bus", "tram", "bike"]
    assert (len(found), sum(map(len, found.annotations.values()))) == (24, made.annotations)
