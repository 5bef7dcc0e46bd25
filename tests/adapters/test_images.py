"""An image and its annotations are the same in ``draw`` and in every adapter."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from cfplatform import InvalidResponseError
from tests.placed import POLYGON, Placed, boxes, every

np = pytest.importorskip("numpy", reason="needs numpy: python -m tests.adapters installs it")
reference = pytest.importorskip("pycocotools.mask")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placed")
    return folder, every(folder)


def masks_of(of: Placed):
    """The masks of its annotations in the image, by pycocotools, and by NumPy from one that pycocotools decoded."""
    width, height = of.image.size
    polygon = [value * of.factors[index % 2] for index, value in enumerate(POLYGON)]
    mask = of.document["annotations"][1]["segmentation"]
    whole = reference.decode(reference.frPyObjects(mask, *mask["size"]))
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip((height, width), whole.shape, strict=True))
    return [reference.decode(reference.frPyObjects([polygon], height, width))[..., 0], whole[rows][:, columns]]


def test_torch_sees_the_image_and_its_labels(placed):
    torch = pytest.importorskip("torch", reason="needs torch: python -m tests.adapters installs it")
    from cfplatform.adapters.torch import FolderDataset

    folder, found = placed
    dataset = FolderDataset(folder, masks=True)
    for number, (image, target) in enumerate(dataset):
        of = found[dataset.document(number).item_id]
        assert image.tobytes() == of.image.tobytes(), of.name
        assert target["boxes"].numpy() == pytest.approx(np.array(boxes(of))), of.name
        assert target["area"].tolist() == pytest.approx([6000 * of.factors[0] * of.factors[1]] * 2)
        assert torch.equal(target["masks"], torch.from_numpy(np.stack(masks_of(of)))), of.name
        if number == len(dataset) - 1:
            break
    assert len(dataset) == 32


def test_datasets_has_the_image_and_its_labels(placed, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs datasets: python -m tests.adapters installs it")
    datasets.disable_progress_bars()
    from cfplatform.adapters.huggingface import to_dataset

    folder, found = placed
    rows = list(to_dataset(folder, cache_dir=tmp_path))
    assert len(rows) == 32
    for row in rows:
        of = found[row["item_id"]]
        assert row["image"].convert("RGB").tobytes() == of.image.tobytes(), of.name
        assert (row["width"], row["height"]) == row["image"].size == of.image.size
        corners = [[x, y, x + width, y + height] for x, y, width, height in row["objects"]["bbox"]]
        assert np.array(corners) == pytest.approx(np.array(boxes(of))), of.name


def test_supervision_has_the_image_and_its_labels(placed):
    sv = pytest.importorskip("supervision", reason="needs supervision: python -m tests.adapters installs it")
    from cfplatform.adapters.supervision import to_dataset

    folder, found = placed
    dataset = to_dataset(folder, masks=True)
    assert len(dataset) == 32
    for path, picture, detections in dataset:
        of = found[path.replace("\\", "/").rpartition("/")[2].removesuffix(".png")]
        assert picture[..., ::-1].tobytes() == of.image.tobytes(), of.name
        assert detections.xyxy == pytest.approx(np.array(boxes(of))), of.name
        assert np.array_equal(detections.mask, np.stack(masks_of(of)).astype(bool)), of.name
        left, top, right, bottom = detections.xyxy[0].astype(int)
        drawn = sv.BoxAnnotator(thickness=1).annotate(picture.copy(), detections)
        changed = (drawn != picture).any(axis=2)
        assert changed[top, left:right].all(), of.name
        assert changed[top:bottom, left].all(), of.name


def images_of_other_kinds(folder):
    """Images that OpenCV and Pillow show in another way than draw does, in files that datasets and supervision read."""
    (folder / "b" / "assets").mkdir(parents=True)
    clear = Image.new("RGBA", (40, 30), (255, 0, 0, 255))
    clear.paste((0, 255, 0, 0), (0, 0, 20, 30))
    deep = Image.new("I;16", (40, 30), 1000)
    deep.paste(1100, (0, 0, 20, 30))
    animated = [Image.new("RGB", (40, 30), each) for each in ("red", "green")]
    clear.save(folder / "b" / "assets" / "clear.png")
    deep.save(folder / "b" / "assets" / "deep.png")
    clear.quantize(4).save(folder / "b" / "assets" / "palette.png")
    Image.new("CMYK", (40, 30), (10, 200, 30, 40)).save(folder / "b" / "assets" / "cmyk.jpg")
    animated[0].save(folder / "b" / "assets" / "animated.gif", save_all=True, append_images=animated[1:])
    animated[1].save(folder / "b" / "assets" / "turned.tiff", exif={0x0112: 3})
    expected = {
        "clear": [(255, 255, 255), (255, 0, 0)],
        "deep": [(255, 255, 255), (0, 0, 0)],
        "palette": [(255, 255, 255), (255, 0, 0)],
        "animated": [(254, 0, 0)] * 2,
        "turned": [(0, 128, 0)] * 2,
    }
    for path in (folder / "b" / "assets").iterdir():
        image = {"id": 1, "file_name": path.name, "width": 40, "height": 30}
        document = {"info": {"asset_url": "x"}, "images": [image], "annotations": [], "categories": []}
        (folder / "b" / f"{path.stem}.json").write_text(json.dumps(document))
    return expected


def as_expected(name, image, expected):
    colours = [image.getpixel((5, 15)), image.getpixel((35, 15))]
    wanted = expected.get(name)
    assert wanted is None or np.abs(np.array(colours) - np.array(wanted)).max() <= 2, (name, colours)
    return colours


def test_images_of_every_kind_are_the_same_in_all_of_them(tmp_path):
    pytest.importorskip("datasets", reason="needs datasets: python -m tests.adapters installs it")
    pytest.importorskip("supervision", reason="needs supervision: python -m tests.adapters installs it")
    from cfplatform.adapters import huggingface, supervision

    expected = images_of_other_kinds(tmp_path / "labels")
    rows = {row["item_id"]: row["image"] for row in huggingface.to_dataset(tmp_path / "labels", cache_dir=tmp_path)}
    dataset = supervision.to_dataset(tmp_path / "labels")
    shown = {path.rpartition("/")[2].partition(".")[0]: picture for path, picture, _ in dataset}
    assert rows.keys() == shown.keys() == {*expected, "cmyk"}
    for name, row in rows.items():
        picture = Image.fromarray(shown[name][..., ::-1].copy())
        assert as_expected(name, row.convert("RGB"), expected) == as_expected(name, picture, expected)


@pytest.mark.parametrize("content", [b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"])
@pytest.mark.parametrize("name", ["huggingface", "supervision"])
def test_a_file_that_is_no_image_is_an_error_that_names_it(placed, tmp_path, name, content):
    pytest.importorskip({"huggingface": "datasets"}.get(name, name), reason="python -m tests.adapters installs it")
    import importlib

    expected = images_of_other_kinds(tmp_path / "labels")
    (tmp_path / "labels" / "b" / "assets" / "clear.png").write_bytes(content)
    adapter = importlib.import_module(f"cfplatform.adapters.{name}")
    options = {"cache_dir": tmp_path} if name == "huggingface" else {}
    with pytest.raises(InvalidResponseError, match=r"Work item clear: 'clear.png' is not a readable image"):
        adapter.to_dataset(tmp_path / "labels", **options)
    assert "clear" in expected


# --- Turned boxes -----------------------------------------------------------------------------------------------------


def turned(degrees=90, **more):
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [50, 150, 300, 60], "area": 18000, "iscrowd": 0}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 400, "height": 400}],
        "annotations": [{**label, "attributes": {"rotation": degrees}, **more}, {**label, "id": 2}],
        "categories": [{"id": 1, "name": "car"}],
    }


def test_supervision_gets_the_corners_of_turned_boxes():
    sv = pytest.importorskip("supervision", reason="needs supervision: python -m tests.adapters installs it")
    from cfplatform.adapters.supervision import to_detections

    found = to_detections(turned(), ["car"], masks=False)
    assert found.xyxy.tolist() == [[170, 30, 230, 330], [50, 150, 350, 210]]
    assert found.data[sv.config.ORIENTED_BOX_COORDINATES].tolist() == [
        [[230, 30], [230, 330], [170, 330], [170, 30]],
        [[50, 150], [350, 150], [350, 210], [50, 210]],
    ]
    assert found.area.tolist() == [18000, 18000]
    picture = np.zeros((400, 400, 3), np.uint8)
    drawn = sv.OrientedBoxAnnotator(thickness=1).annotate(picture.copy(), found[[0]])
    rows, columns = np.nonzero(drawn.any(axis=2))
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == pytest.approx([170, 30, 230, 330], abs=1)
    assert "xyxyxyxy" not in to_detections(turned(0), ["car"]).data


def test_torch_learns_the_box_around_a_turned_one_and_its_mask():
    pytest.importorskip("torch", reason="needs torch: python -m tests.adapters installs it")
    from cfplatform.adapters.torch import detection_target

    target = detection_target(turned(), ["car"], masks=True, image_size=(200, 200))
    # The upright one has no segmentation, so no mask.
    assert target["boxes"].tolist() == [[85, 15, 115, 165]]
    expected = reference.frPyObjects([[115, 15, 115, 165, 85, 165, 85, 15]], 200, 200)
    assert np.array_equal(target["masks"][0].numpy(), reference.decode(expected)[..., 0])


# --- Our own files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(placed, tmp_path_factory):
    """The same images as a merged file, as two split files, and as an unpacked export with its images elsewhere."""
    from cfplatform import coco

    folder, _ = placed
    root = tmp_path_factory.mktemp("sources")
    coco.merge(folder, root / "all.json")
    coco.split(folder, root / "parts", {"train": 0.5, "val": 0.5})
    (root / "export" / "b").mkdir(parents=True)
    for path in folder.glob("b/*.json"):
        (root / "export" / "b" / path.name).write_bytes(path.read_bytes())
    return {
        "merged": [(root / "all.json", None)],
        "split": [(root / "parts" / "train.json", None), (root / "parts" / "val.json", None)],
        "list": [(list(coco.read(folder)), None)],
        "export": [(root / "export", folder / "b" / "assets")],
    }


SOURCES = ["merged", "split", "list", "export"]


@pytest.mark.parametrize("name", SOURCES)
def test_torch_takes_merged_and_split_files_lists_and_exports(placed, sources, name):
    pytest.importorskip("torch", reason="needs torch: python -m tests.adapters installs it")
    from cfplatform.adapters.torch import FolderDataset

    sets = [FolderDataset(source, images_from=images) for source, images in sources[name]]
    documents = [each.document(number) for each in sets for number in range(len(each))]
    assert {document.item_id for document in documents} == set(placed[1])
    assert {document.batch for document in documents} == {"b"}
    assert all(document.asset.stem == document.item_id for document in documents)
    document = sets[0].document(0)
    image, target = sets[0][0]
    of = placed[1][document.item_id]
    assert image.tobytes() == of.image.tobytes()
    assert target["boxes"].numpy() == pytest.approx(np.array(boxes(of)))


@pytest.mark.parametrize("name", SOURCES)
def test_datasets_takes_merged_and_split_files_lists_and_exports(placed, sources, name, tmp_path):
    pytest.importorskip("datasets", reason="needs datasets: python -m tests.adapters installs it")
    from cfplatform.adapters.huggingface import to_dataset

    sets = [to_dataset(source, images_from=images, cache_dir=tmp_path) for source, images in sources[name]]
    rows = [row for each in sets for row in each.remove_columns("image")]
    assert {(row["item_id"], row["batch"]) for row in rows} == {(own, "b") for own in placed[1]}
    assert all((row["width"], row["height"]) == placed[1][row["item_id"]].image.size for row in rows)


@pytest.mark.parametrize("name", SOURCES)
def test_supervision_takes_merged_and_split_files_lists_and_exports(placed, sources, name):
    pytest.importorskip("supervision", reason="needs supervision: python -m tests.adapters installs it")
    from cfplatform.adapters.supervision import to_dataset

    sets = [to_dataset(source, images_from=images) for source, images in sources[name]]
    paths = [path.replace("\\", "/").rpartition("/")[2] for each in sets for path in each.image_paths]
    assert sorted(paths) == sorted(f"{own}.png" for own in placed[1])


def test_an_image_that_a_dataset_has_twice_is_there_twice(placed):
    pytest.importorskip("supervision", reason="needs supervision: python -m tests.adapters installs it")
    from cfplatform.adapters.supervision import to_dataset

    folder, found = placed
    document = found["1-upright"].document
    dataset = to_dataset([document, document], images_from=folder / "b" / "assets")
    assert [len(detections) for _, _, detections in dataset] == [2, 2]
    assert len({path.rpartition("/")[2] for path in dataset.image_paths}) == 2


def test_of_categories_with_one_id_the_first_counts_everywhere(placed):
    pytest.importorskip("torch", reason="needs torch: python -m tests.adapters installs it")
    from cfplatform import viz
    from cfplatform.adapters.torch import FolderDataset

    folder, found = placed
    document = {**found["1-upright"].document, "categories": [{"id": 1, "name": "car"}, {"id": 1, "name": "bus"}]}
    dataset = FolderDataset([document], images_from=folder / "b" / "assets")
    assert (dataset.classes, dataset[0][1]["labels"].tolist()) == (("car",), [1, 1])
    car, _ = (viz.draw({**document, "categories": [each]}) for each in document["categories"])
    assert viz.draw(document).tobytes() == car.tobytes()
