"""Opening images, and placing annotations on them."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cfplatform import InvalidParameterError, viz
from cfplatform.coco import Document, mask
from cfplatform.coco.images import open_image, read_header, stored_size
from cfplatform.coco.placing import rotated_corners, rotation
from tests.placed import KINDS, placed

reference = pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_an_image_is_opened_as_its_document_has_it(tmp_path, orientation, kind, suffix):
    of = placed(tmp_path, orientation, kind, suffix)
    path = tmp_path / "b" / "assets" / f"{of.name}.{suffix}"
    image, size = open_image(path, of.document["images"][0])
    assert (image.mode, size) == ("RGB", of.image.size)
    assert image.tobytes() == of.image.tobytes()
    bare = Document({**of.document, "annotations": []}, asset=path)
    assert viz.draw(bare).tobytes() == viz.draw(bare.data, path).tobytes() == of.image.tobytes()
    stored = (260, 260) if kind == "square" else (300, 260)
    assert stored_size(path) == (stored, stored[::-1] if orientation >= 5 else stored)
    assert read_header(path).size_in(of.document["images"][0]) == of.image.size
    small, before = open_image(path, of.document["images"][0], 20)
    assert (max(small.size) < 60, before) == (True, of.image.size)


def test_an_annotation_as_stored_may_be_of_a_smaller_copy(tmp_path):
    of = placed(tmp_path, 6, "stored")
    record = {"width": 150, "height": 130}
    image, _ = open_image(tmp_path / "b" / "assets" / f"{of.name}.png", record)
    assert image.tobytes() == of.image.tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, colour=6, *, behind=b""):
    """A PNG that is far larger in memory than in its file."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    packer = zlib.compressobj(9)
    row = bytes(1 + channels * width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + behind + chunk(b"IEND", b"")


def test_the_orientation_may_stand_behind_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(png(40, 30, 2, behind=chunk(b"eXIf", exif.tobytes()[6:])))
    with Image.open(tmp_path / "a.png") as image:
        assert ImageOps.exif_transpose(image).size == (30, 40)
    assert open_image(tmp_path / "a.png", {})[0].size == (30, 40)
    assert stored_size(tmp_path / "a.png") == ((40, 30), (30, 40))


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_has_no_size(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    assert stored_size(tmp_path / "a.jpg") is stored_size(tmp_path / "b.jpg") is stored_size(tmp_path) is None


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_one_number_bounds_the_pixels_of_an_image(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30)
    assert stored_size(tmp_path / "a.png") == ((40, 30), (40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 30 - 1)
    assert stored_size(tmp_path / "a.png") is None
    with pytest.raises(InvalidParameterError, match=r"'a.png' is too large.*increase PIL.Image.MAX_IMAGE"):
        open_image(tmp_path / "a.png", {})


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F", "I;16", "I;16B"])
def test_parts_of_a_large_image_are_as_the_whole(monkeypatch, mode):
    noise = Image.effect_noise((97, 61), 90)
    image = noise.convert("I").convert(mode) if mode.startswith("I;16") else noise.convert(mode)
    whole = [open_image(image, {}, longest)[0].tobytes() for longest in (None, 10)]
    monkeypatch.setattr("cfplatform.coco.images._PIXELS_AT_A_TIME", 97 * 9)
    assert [open_image(image, {}, longest)[0].tobytes() for longest in (None, 10)] == whole


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "bmp", "tiff"])
def test_a_cut_file_is_an_error_that_names_it(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.effect_noise((90, 90), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-900])
    for longest in (None, 20):
        with pytest.raises(InvalidParameterError, match=rf"'a.{suffix}' is not a readable image"):
            open_image(path, {}, longest)


def test_of_an_animation_it_is_the_first_image():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(
        buffer, "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (9, 9))]
    )
    assert open_image(buffer.getvalue(), {})[0].getpixel((0, 0)) == (255, 0, 0)


# --- Placing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_resized_mask_has_the_pixel_under_the_middle_of_each(height, width, rows, columns, data):
    pixels = [data.draw(st.lists(st.booleans(), min_size=width, max_size=width)) for _ in range(height)]
    flat = [pixels[row][column] for column in range(width) for row in range(height)]
    counts = [0]
    for index, value in enumerate(flat):
        counts += [0] if value != (flat[index - 1] if index else False) else []
        counts[-1] += 1
    found = mask.pixels(mask.resized(mask.Runs(counts, height, width), rows, columns)).tolist()
    assert found == [
        [pixels[int((row + 0.5) * height / rows)][int((column + 0.5) * width / columns)] for column in range(columns)]
        for row in range(rows)
    ]


@pytest.mark.parametrize(
    ("attributes", "degrees"),
    [
        ({"rotation": 30}, 30),
        ({"rotation": -90.0}, 270),
        ({"rotation": 360}, 0),
        ({"rotation": "30"}, 0),
        ([], 0),
        (None, 0),
    ],
)
def test_a_rotation_is_a_number_of_degrees(attributes, degrees):
    assert rotation({"bbox": [0, 0, 4, 2], "attributes": attributes}) == degrees
    assert rotation({"attributes": attributes, "segmentation": [[0, 0, 1, 1, 2, 0]]}) == 0


def test_a_box_is_turned_clockwise_about_its_centre():
    corners = rotated_corners({"bbox": [10, 10, 40, 20], "attributes": {"rotation": 30}})
    # As Pillow turns an image, which is counterclockwise.
    image = Image.new("L", (60, 40))
    image.paste(255, (10, 10, 50, 30))
    left, top, right, bottom = image.rotate(-30, Image.Resampling.NEAREST, center=(30, 20), expand=False).getbbox()
    xs, ys = zip(*corners, strict=True)
    assert [min(xs), min(ys), max(xs), max(ys)] == pytest.approx([left, top, right, bottom], abs=1)
    assert corners[0] == (pytest.approx(30 - 20 * 3**0.5 / 2 + 5), pytest.approx(20 - 10 - 10 * 3**0.5 / 2))


# --- Drawn ------------------------------------------------------------------------------------------------------------

GROUND = (90, 90, 90)
COLOUR = viz.class_colours(["thing"])["thing"]


def labelled(*annotations, size=(400, 400)):
    image = {"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}
    return {"images": [image], "annotations": [*annotations], "categories": [{"id": 7, "name": "thing"}]}


def test_a_turned_box_is_drawn_turned():
    box = {"image_id": 1, "category_id": 7, "bbox": [50, 150, 300, 60], "attributes": {"rotation": 90}}
    drawn = viz.draw(labelled(box), Image.new("RGB", (400, 400), GROUND), labels=False)
    assert drawn.getpixel((170, 100)) == drawn.getpixel((230, 300)) == drawn.getpixel((200, 30)) == COLOUR
    assert drawn.getpixel((50, 180)) == drawn.getpixel((300, 150)) == GROUND
    assert viz.draw(labelled(box), labels=False, boxes=False).getcolors() == [(160000, (236, 236, 236))]


SEGMENTS = [{"id": 1 + 256 * 2 + 65536 * 3, "category_id": 7, "bbox": [0, 0, 200, 400]}, {"id": 9, "category_id": 7}]


def panoptic(folder, name="a.png"):
    """A panoptic document beside its images, and the PNG of the segments in a folder of its name."""
    annotation = {"image_id": 1, "file_name": name, "segments_info": SEGMENTS}
    (folder / "panoptic_val.json").write_text(json.dumps(labelled(annotation)))
    Image.new("RGB", (400, 400), GROUND).save(folder / "a.png")
    colours = Image.new("RGB", (400, 400))
    colours.paste((1, 2, 3), (0, 0, 100, 400))
    (folder / "panoptic_val").mkdir()
    colours.save(folder / "panoptic_val" / "a.png")
    return Document(labelled(annotation), path=folder / "panoptic_val.json")


def test_segments_of_a_panoptic_image_are_drawn_if_their_png_is_there(tmp_path):
    document = panoptic(tmp_path)
    drawn = viz.draw(document, labels=False, boxes=False)
    assert drawn.getpixel((50, 200)) != GROUND
    assert drawn.getpixel((150, 200)) == GROUND
    named = viz.draw(document)
    (tmp_path / "panoptic_val" / "a.png").unlink()
    # The image itself has the same name, and is not taken for it.
    without = viz.draw(document)
    assert without.getpixel((50, 200)) == GROUND
    assert without.getpixel((0, 200)) == named.getpixel((0, 200)) == COLOUR
    lower = (0, 370, 400, 400)
    assert without.crop(lower).tobytes() != named.crop(lower).tobytes()


def test_a_panoptic_document_of_a_stream_says_that_only_boxes_are_drawn():
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": SEGMENTS}
    drawn = viz.draw(labelled(annotation))
    assert {(0, 0, 0), (255, 255, 255), COLOUR} <= {colour for _, colour in drawn.getcolors(1 << 20)}


def test_a_document_that_was_read_finds_its_image(tmp_path):
    document = panoptic(tmp_path)
    assert viz.draw(document, labels=False).getpixel((300, 200)) == GROUND
    assert viz.draw(document.data, labels=False).getpixel((300, 200)) == (236, 236, 236)
    assert viz.draw(document, Image.new("RGB", (400, 400), "red")).getpixel((300, 200)) == (255, 0, 0)
