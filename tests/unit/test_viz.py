from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cfplatform import InvalidParameterError, viz
from cfplatform.coco.images import open_image
from cfplatform.viz import marks
from cfplatform.viz.colours import PALETTE, against

GROUND = (90, 90, 90)


def document(*annotations, size=(400, 300), **category):
    """A document about one image, with one class."""
    image = {"id": 1, "width": size[0], "height": size[1]}
    classes = [{"id": 7, "name": "thing", **category}]
    return {"images": [image], "categories": classes, "annotations": [{"image_id": 1, **each} for each in annotations]}


def drawn(*annotations, size=(400, 300), picture=None, category=None, **options):
    ground = Image.new("RGB", size, GROUND) if picture is None else picture
    return viz.draw(document(*annotations, size=size, **(category or {})), ground, **options)


COLOUR = viz.class_colours(["thing"])["thing"]
BOX = {"category_id": 7, "bbox": [100, 60, 200, 150]}
POLYGON = {"category_id": 7, "segmentation": [[100, 60, 300, 60, 300, 210, 100, 210]]}
#: The same, as a mask: 60 rows of ground above it, 150 of it, 90 below.
MASK = {
    "category_id": 7,
    "segmentation": {"size": [300, 400], "counts": [100 * 300 + 60, *[150, 150] * 199, 150, 30090]},
}


def changed(one, other, box):
    """Whether two pictures differ within a box."""
    return one.crop(box).tobytes() != other.crop(box).tobytes()


@pytest.mark.parametrize("point", [(100, 135), (299, 135), (200, 60), (200, 209)])
def test_the_lines_of_a_box_are_at_the_box(point):
    assert drawn(BOX, labels=False).getpixel(point) == COLOUR


@pytest.mark.parametrize("point", [(90, 135), (310, 135), (200, 50), (200, 220), (200, 135)])
def test_a_box_leaves_the_rest_as_it_is(point):
    assert drawn(BOX, labels=False).getpixel(point) == GROUND


@pytest.mark.parametrize("annotation", [POLYGON, MASK, {**MASK, "iscrowd": 1}])
def test_what_is_covered_is_shaded_and_nothing_else(annotation):
    result = drawn(annotation, labels=False)
    inside, outside = result.crop((110, 70, 290, 200)), Image.new("RGB", (400, 50), GROUND)
    assert all(colour != GROUND for _, colour in inside.getcolors(100000))
    assert result.crop((0, 0, 400, 50)).tobytes() == outside.tobytes()
    assert result.getpixel((90, 135)) == result.getpixel((310, 135)) == result.getpixel((200, 220)) == GROUND
    if "iscrowd" not in annotation:
        assert inside.getpixel((80, 60)) == tuple(
            pytest.approx(ground + 0.35 * (colour - ground), abs=2)
            for ground, colour in zip(GROUND, COLOUR, strict=True)
        )
    else:
        assert len(inside.getcolors(100000)) > 1


def test_a_packed_mask_is_drawn_as_the_same_unpacked():
    from pycocotools import mask

    counts = mask.frPyObjects(MASK["segmentation"], 300, 400)["counts"].decode()
    packed = {**MASK, "segmentation": {"size": [300, 400], "counts": counts}}
    assert drawn(packed).tobytes() == drawn(MASK).tobytes()


def test_a_mask_of_another_size_than_the_image_is_no_mask():
    assert drawn({"category_id": 7, "segmentation": {"size": [30, 40], "counts": [0, 1200]}}).getcolors() == [
        (120000, GROUND)
    ]


def test_parts_are_filled_together_as_other_tools_read_them():
    inner = [150, 100, 150, 150, 250, 150, 250, 100]
    result = drawn({**POLYGON, "segmentation": [POLYGON["segmentation"][0], inner]}, labels=False)
    assert result.getpixel((200, 125)) == result.getpixel((120, 180)) != GROUND
    assert result.getpixel((200, 150)) == COLOUR


def test_keypoints_have_their_skeleton_and_hidden_ones_are_hollow():
    keypoints = [100, 100, 2, 200, 100, 1, 300, 200, 0, 300, 100, 2]
    category = {"skeleton": [[1, 2], [2, 3], [9, 1], [1], "x", [True, None]]}
    result = drawn({"category_id": 7, "keypoints": keypoints}, category=category, labels=False)
    assert result.getpixel((100, 100)) == result.getpixel((150, 100)) == result.getpixel((300, 100)) == COLOUR
    assert result.getpixel((200, 100)) == against(COLOUR)
    assert result.getpixel((300, 200)) == result.getpixel((250, 150)) == result.getpixel((250, 100)) == GROUND


def test_parts_can_be_left_out():
    everything = {**BOX, **POLYGON, "bbox": [20, 20, 30, 30], "keypoints": [380, 280, 2], "caption": "x"}
    plain = Image.new("RGB", (400, 300), GROUND).tobytes()
    nothing = {"labels": False, "boxes": False, "masks": False, "keypoints": False}
    assert drawn(everything, **nothing).tobytes() == plain
    for option in nothing:
        assert drawn(everything, **{**nothing, option: True}).tobytes() != plain


def test_names_are_written_on_plates_above_their_boxes():
    with_name, without = drawn(BOX), drawn(BOX, labels=False)
    assert changed(with_name, without, (100, 40, 160, 58))
    assert not changed(with_name, without, (0, 80, 400, 300))
    assert with_name.getpixel((105, 57)) == COLOUR
    colours = {colour for _, colour in with_name.crop((100, 40, 150, 58)).getcolors(10000)}
    assert against(COLOUR) in colours


@pytest.mark.parametrize("corner", [(-50, -50), (390, -20), (-30, 290), (395, 295)])
def test_names_stay_inside_of_the_image(corner):
    box = {"category_id": 7, "bbox": [*corner, 100, 100]}
    with_name, without = drawn(box), drawn(box, labels=False)
    difference = Image.frombytes(
        "L",
        (400, 300),
        bytes(
            255 * (one != other)
            for one, other in zip(with_name.convert("L").tobytes(), without.convert("L").tobytes(), strict=True)
        ),
    )
    left, top, right, bottom = difference.getbbox()
    assert right - left > 25
    assert bottom - top > 10


def test_names_of_boxes_at_one_position_are_kept_apart():
    once, often = drawn(BOX), drawn(BOX, BOX, BOX)
    assert changed(once, often, (100, 60, 200, 300))


def test_a_name_too_long_is_cut_and_one_that_no_font_knows_is_written():
    for name in ("x" * 5000, "\u202e\x00\ud800", "\u05e9\u05dc\u05d5\u05dd", "<script>alert(1)</script>", " "):
        result = drawn(BOX, category={"name": name})
        assert result.size == (400, 300)


def test_captions_stand_at_the_lower_edge():
    plain = Image.new("RGB", (400, 300), GROUND)
    result = drawn({"caption": "A street in the rain"}, {"caption": "A wet street"})
    assert changed(result, plain, (0, 280, 120, 300))
    assert changed(result, plain, (0, 262, 80, 278))
    assert not changed(result, plain, (0, 0, 400, 250))


def test_annotations_that_are_not_drawn_are_counted(monkeypatch):
    monkeypatch.setattr(marks, "MAX_MARKS", 1)
    corner = {"category_id": 7, "bbox": [0, 0, 20, 20]}
    one, two = drawn(BOX), drawn(BOX, corner)
    assert not changed(one, two, (0, 0, 99, 200))
    assert changed(one, two, (0, 280, 200, 300))


@pytest.mark.parametrize(
    ("bound", "annotation"),
    [
        ("MAX_MASK_PIXELS", MASK),
        ("MAX_PIXELS_OF_MASK", MASK),
        ("MAX_SHADED_PIXELS", MASK),
        ("MAX_POINTS", POLYGON),
        ("MAX_POINTS", {"keypoints": [200, 100, 2] * 10}),
    ],
)
def test_what_takes_long_has_a_bound(monkeypatch, bound, annotation):
    before = drawn(annotation, labels=False)
    monkeypatch.setattr(marks, bound, 3)
    assert before.getcolors() != drawn(annotation, labels=False).getcolors() == [(120000, GROUND)]


def test_what_is_beyond_a_bound_has_its_box_and_those_before_it_are_drawn(monkeypatch):
    small = {"category_id": 7, "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}
    monkeypatch.setattr(marks, "MAX_SHADED_PIXELS", 1000)
    result = drawn(small, {**POLYGON, **BOX}, small, labels=False)
    assert result.getpixel((10, 10)) != GROUND
    assert result.getpixel((200, 135)) == GROUND
    assert result.getpixel((100, 135)) == COLOUR


def test_polygons_that_are_long_to_fill_have_only_their_outline(monkeypatch):
    monkeypatch.setattr(marks, "MAX_CROSSED_COLUMNS", 300)
    result = drawn(POLYGON, labels=False)
    assert (result.getpixel((200, 135)), result.getpixel((200, 60))) == (GROUND, COLOUR)


# --- Images ---------------------------------------------------------------------------------------------------------


def test_a_blank_image_has_the_size_of_the_document():
    assert viz.draw(document(BOX)).size == (400, 300)
    assert viz.draw({}).size == (640, 480)
    assert viz.draw(document(size=(10**9, 1))).size == (4096, 1)


@pytest.mark.parametrize(("size", "expected"), [((10, 4), (260, 104)), ((255, 100), (510, 200)), ((1, 1), (256, 256))])
def test_small_images_are_enlarged(size, expected):
    assert drawn(size=size).size == expected


def test_a_large_image_is_reduced_first_and_labels_with_it():
    large = Image.new("RGB", (20000, 200), GROUND)
    box = {"category_id": 7, "bbox": [5000, 0, 5000, 200]}
    result = drawn(box, size=(20000, 200), picture=large, labels=False, max_size=2000)
    assert result.size == (2000, 20)
    assert [result.getpixel((x, 10)) == COLOUR for x in (490, 500, 999, 1010)] == [False, True, True, False]
    assert large.size == (20000, 200)


def test_labels_are_scaled_if_the_document_has_another_size():
    result = drawn(BOX, picture=Image.new("RGB", (800, 600), GROUND), labels=False)
    assert result.getpixel((200, 270)) == result.getpixel((599, 270)) == COLOUR


def test_paths_and_bytes_are_images(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), GROUND).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    expected = drawn(BOX).tobytes()
    for picture in (tmp_path / "a.png", str(tmp_path / "a.png"), buffer.getvalue()):
        assert viz.draw(document(BOX), picture).tobytes() == expected


def sideways(size=(300, 400)):
    """A JPEG that lies on its side: a camera was turned, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture = Image.new("RGB", size, GROUND)
    picture.paste("white", (0, 0, size[0], 40))
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_an_image_is_turned_upright_unless_the_document_has_the_stored_size():
    upright = viz.draw(document(size=(400, 300)), sideways())
    assert upright.size == (400, 300)
    assert upright.getpixel((395, 150)) > (250, 250, 250)
    as_it_lies = viz.draw(document(size=(300, 400)), sideways())
    assert as_it_lies.size == (300, 400)
    assert as_it_lies.getpixel((150, 5)) > (250, 250, 250)
    assert viz.draw({}, sideways()).size == (400, 300)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(300, 260), (260, 260)])
def test_what_is_drawn_on_is_what_a_training_sample_has(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.new("RGB", size, "blue")
    stored.paste("red", (0, 0, size[0] // 2, size[1] // 3))
    stored.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        upright = ImageOps.exif_transpose(image)
    annotated = document(size=upright.size)
    image, before = open_image(tmp_path / "a.png", annotated["images"][0])
    assert (image.mode, before) == ("RGB", upright.size)
    assert image.tobytes() == viz.draw(annotated, tmp_path / "a.png").tobytes() == upright.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "HSV", "LAB"])
def test_images_of_every_mode(mode):
    assert drawn(BOX, picture=Image.new(mode, (400, 300))).mode == "RGB"


def test_grey_levels_of_sixteen_bits_are_stretched_to_what_can_be_seen():
    deep = Image.new("I;16", (400, 300), 1000)
    deep.paste(1100, (0, 0, 200, 300))
    result = drawn(picture=deep)
    assert (result.getpixel((10, 10)), result.getpixel((390, 10))) == ((255,) * 3, (0,) * 3)


def test_the_image_of_the_caller_stays_as_it_is():
    ground = Image.new("RGB", (400, 300), GROUND)
    drawn(BOX, picture=ground)
    assert ground.getcolors() == [(120000, GROUND)]


def test_an_unreadable_image_is_an_error_that_says_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    for picture, words in (
        (tmp_path / "a.png", "'a.png' is not a readable image"),
        (tmp_path / "b.png", "'b.png' does not exist"),
        (b"", "not a readable image"),
        # Pillow knows these formats, and runs a program to read the second.
        (b"P6 1 1 255\n\0\0\0", "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a readable image"),
        (3, "not int"),
    ):
        with pytest.raises(InvalidParameterError, match=words):
            viz.draw({}, picture)


def test_a_decompression_bomb_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    buffer = io.BytesIO()
    Image.new("1", (400, 300)).save(buffer, "PNG")
    with pytest.raises(InvalidParameterError, match=r"too large.*decompression bomb"):
        viz.draw({}, buffer.getvalue())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"image_id": 2}, "ID 2"), ({"max_size": 3}, "max_size"), ({"font": "no such font"}, "font 'no such font'")],
)
def test_arguments_are_checked(options, words):
    with pytest.raises(InvalidParameterError, match=words):
        viz.draw(document(), **options)
    with pytest.raises(InvalidParameterError, match="not list"):
        viz.draw([])


def test_one_image_of_several():
    both = document({"category_id": 7, "bbox": [0, 0, 10, 10], "image_id": 2}, BOX)
    both["images"].append({"id": 2, "width": 300, "height": 300})
    first, second = viz.draw(both, labels=False), viz.draw(both, image_id=2, labels=False)
    assert (first.size, second.size) == ((400, 300), (300, 300))
    assert (first.getpixel((100, 135)), second.getpixel((0, 5))) == (COLOUR, COLOUR)
    assert second.getpixel((100, 135)) != COLOUR


# --- Colours --------------------------------------------------------------------------------------------------------


def test_colours_are_stable_by_name_and_different_from_each_other():
    names = [f"class {number}" for number in range(len(PALETTE))]
    assert set(viz.class_colours(names).values()) == set(PALETTE)
    assert viz.class_colours(names) == viz.class_colours(reversed(names))
    assert viz.class_colours(["star"]) == {"star": viz.class_colours(["star"])["star"]}
    assert len(set(viz.class_colours([str(number) for number in range(60)]).values())) > 40


def test_colours_can_be_given():
    assert drawn(BOX, labels=False, colours={"thing": (1, 2, 3)}).getpixel((100, 135)) == (1, 2, 3)


@pytest.mark.parametrize("colour", PALETTE)
def test_letters_can_be_read_on_every_colour(colour):
    def luminance(of):
        parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in of]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(colour), luminance(against(colour))))
    assert (high + 0.05) / (low + 0.05) >= 4.5


# --- Odd and hostile documents --------------------------------------------------------------------------------------

numbers = st.one_of(st.floats(), st.integers(-(10**30), 10**30), st.sampled_from([0, 1, 5, 100, 1e9]))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)
odd_annotations = st.fixed_dictionaries(
    {},
    optional={
        "image_id": st.one_of(st.just(1), anything),
        "category_id": st.one_of(st.just(7), anything),
        "bbox": st.one_of(st.lists(numbers, min_size=4, max_size=4), anything),
        "segmentation": st.one_of(
            st.lists(st.lists(numbers, min_size=6, max_size=9), max_size=3),
            st.fixed_dictionaries(
                {"size": st.sampled_from([[30, 40], [40, 30], [0, 0]]), "counts": st.one_of(st.text(), anything)}
            ),
            st.lists(st.integers(0, 400), max_size=8).map(
                lambda runs: {"size": [30, 40], "counts": [*runs, max(0, 1200 - sum(runs))]}
            ),
            anything,
        ),
        "keypoints": st.one_of(st.lists(numbers, min_size=6, max_size=9), anything),
        "iscrowd": anything,
        "caption": anything,
    },
)


@settings(max_examples=80)
@given(st.lists(odd_annotations, max_size=4), anything, anything)
def test_no_document_makes_it_fail(annotations, category, size):
    odd = {
        "images": [{"id": 1, "width": 40, "height": 30 if size is None else size}],
        "categories": [{"id": 7, "name": "x", "skeleton": category}, category],
        "annotations": annotations,
    }
    assert viz.draw(odd, max_size=128).mode == "RGB"


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(["images", "categories", "annotations", "info"]), anything))
def test_no_structure_makes_it_fail(odd):
    assert viz.draw(json.loads(json.dumps(odd)), max_size=64).mode == "RGB"


def test_without_pillow_the_extra_is_named():
    script = "import sys; sys.modules['PIL'] = None; import cfplatform.viz"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'cfplatform[viz]'" in done.stderr.splitlines()[-1]


def test_values_of_numpy_are_drawn():
    np = pytest.importorskip("numpy")
    listed = {
        "images": [{"id": 1, "width": 320, "height": 240}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [40.0, 50.0, 100.0, 80.0]}],
    }
    arrays = json.loads(json.dumps(listed))
    arrays["images"][0]["id"] = np.int64(1)
    arrays["annotations"][0].update(image_id=np.int64(1), bbox=np.array([40.0, 50.0, 100.0, 80.0]))
    blank = Image.new("RGB", (320, 240))
    assert viz.draw(arrays, blank).tobytes() == viz.draw(listed, blank).tobytes() != blank.tobytes()
