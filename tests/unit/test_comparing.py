"""Comparing two sets of annotations, checked with libraries that compute the same metrics."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections import Counter

import pytest

from cfplatform import InvalidParameterError, coco
from cfplatform.coco.comparing import agreement_of
from cfplatform.coco.matching import Pair, assigned, components
from tests.layouts import LAYOUTS

CLASSES = [{"id": number, "name": name} for number, name in ((3, "car"), (5, "bus"), (9, "bike"))]
SIDE = 100


def document(boxes, name="a.png", *, image_id=1, classes=CLASSES, size=(SIDE, SIDE), **members):
    """A document with one image; each box is (category, box) or (category, box, members)."""
    annotations = [
        {"id": number, "image_id": image_id, "category_id": category, "bbox": list(box), **(more[0] if more else {})}
        for number, (category, box, *more) in enumerate(boxes, 1)
    ]
    image = {"id": image_id, "file_name": name, "width": size[0], "height": size[1], **members}
    return {"images": [image], "annotations": annotations, "categories": classes}


def changes(a, b, **options):
    found = []
    result = coco.compare([a], [b], on_change=found.append, **options)
    return [each.kind for each in found], result


# --- Kinds of changes -------------------------------------------------------------------------------------------------

BOX = [10, 10, 20, 20]
KINDS = {
    "same": ([(3, BOX)], [(3, BOX)]),
    "rounded": ([(3, BOX)], [(3, [10.004, 10, 20, 20])]),
    "moved": ([(3, BOX)], [(3, [12, 11, 20, 20])]),
    "reshaped": ([(3, BOX)], [(3, [10, 10, 20, 22])]),
    "relabelled": ([(3, BOX)], [(5, BOX)]),
    "added": ([], [(5, BOX)]),
    "removed": ([(3, BOX)], []),
    "attributes": ([(3, BOX, {"attributes": {"hidden": True}})], [(3, BOX)]),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_change_has_its_kind(name):
    ours, theirs = KINDS[name]
    kinds, result = changes(document(ours), document(theirs))
    expected = "same" if name == "rounded" else name
    assert kinds == [expected]
    assert {kind: count for kind, count in result.changes.items() if count} == {expected: 1}


def test_a_polygon_that_changed_within_its_box_is_reshaped():
    square, notched = [[10, 10, 30, 10, 30, 30, 10, 30]], [[10, 10, 30, 10, 30, 30, 20, 20, 10, 30]]
    kinds, _ = changes(document([(3, BOX, {"segmentation": square})]), document([(3, BOX, {"segmentation": notched})]))
    assert kinds == ["reshaped"]


def test_ids_of_annotations_and_tracks_are_no_change():
    ours, theirs = [(3, BOX, {"id": 7, "track_id": 2, "attributes": {"track_id": 1}})], [(3, BOX, {"attributes": {}})]
    assert changes(document(ours), document(theirs))[0] == ["same"]


def test_a_category_is_matched_first_and_the_rest_across_categories():
    ours = [(3, [0, 0, 10, 10]), (5, [1, 0, 10, 10])]
    theirs = [(5, [0, 0, 10, 10]), (9, [1, 0, 10, 10])]
    found = []
    result = coco.compare([document(ours)], [document(theirs)], on_change=found.append)
    assert [(each.kind, each.category_a, each.category_b) for each in found] == [
        ("moved", "bus", "bus"),
        ("relabelled", "car", "bike"),
    ]
    assert result.confusion == {"car": {"bike": 1}, "bus": {"bus": 1}}
    assert (result.precision, result.recall, result.f1) == (0.5, 0.5, 0.5)


def test_a_box_without_an_area_is_the_same_as_itself_only():
    assert changes(document([(3, [5, 5, 0, 9])]), document([(3, [5, 5, 0, 9])]))[0] == ["same"]
    assert changes(document([(3, [5, 5, 0, 9])]), document([(3, [5, 5, 1, 9])]))[0] == ["removed", "added"]


def test_crowds_and_what_lies_within_are_in_no_figure():
    ours = [(3, [0, 0, 60, 60], {"iscrowd": 1}), (3, [70, 70, 10, 10])]
    theirs = [(3, [5, 5, 10, 10]), (5, [5, 5, 10, 10]), (3, [70, 70, 10, 10])]
    _, result = changes(document(ours), document(theirs))
    assert (result.total.a, result.total.b, result.total.matched) == (1, 2, 1)
    assert result.categories["car"].f1 == 1.0
    assert result.changes["removed"] == 1


def test_nothing_on_either_side_is_null():
    _, result = changes(document([]), document([]))
    assert (result.precision, result.recall, result.f1, result.mean_iou, result.kappa) == (None,) * 5
    assert changes(document([(3, BOX)]), document([(3, BOX)]))[1].kappa is None


def test_captions_are_compared_by_their_text():
    ours, theirs = document([]), document([])
    ours["annotations"] = [{"id": 1, "image_id": 1, "caption": "one"}, {"id": 2, "image_id": 1, "caption": "two"}]
    theirs["annotations"] = [{"id": 9, "image_id": 1, "caption": "two"}]
    assert sorted(changes(ours, theirs)[0]) == ["removed", "same"]


def test_an_image_of_another_size_is_scaled_and_reported():
    square = {"segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]]}
    larger = {"segmentation": [[20, 20, 60, 20, 60, 60, 20, 60]]}
    a, b = document([(3, BOX, square)]), document([(3, [20, 20, 40, 40], larger)], size=(200, 200))
    for shape in ("box", "segmentation"):
        result = coco.compare([a], [b], shape=shape)
        assert (result.f1, result.mean_iou) == (1.0, 1.0)
        assert [each.code for each in result.findings] == ["size-differs"]


def test_masks_have_the_iou_of_their_pixels():
    masks = pytest.importorskip("pycocotools.mask")
    chance = random.Random(3)
    ours, theirs = [], []
    for target in (ours, theirs):
        for _ in range(12):
            points = [round(chance.uniform(0, SIDE), 1) for _ in range(10)]
            xs, ys = points[::2], points[1::2]
            box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            target.append((3, box, {"segmentation": [points]}))
    encoded = [
        [masks.merge(masks.frPyObjects(more["segmentation"], SIDE, SIDE)) for _, _, more in each]
        for each in (ours, theirs)
    ]
    table = masks.iou(encoded[0], encoded[1], [0] * 12)
    found = []
    coco.compare([document(ours)], [document(theirs)], shape="segmentation", iou=0.2, on_change=found.append)
    matched = [each for each in found if each.iou is not None]
    assert len(matched) > 4
    for each in matched:
        assert each.iou == pytest.approx(table[each.a["id"] - 1][each.b["id"] - 1], abs=1e-12)


# --- Pairing ----------------------------------------------------------------------------------------------------------


def test_images_are_paired_by_what_is_most_reliable():
    ours = [coco.Document(document([(3, BOX)], "x.png"), "one"), coco.Document(document([], "x.png"), "two")]
    theirs = [coco.Document(document([(3, BOX)], "other.png"), "one"), coco.Document(document([], "x.png"), "two")]
    result = coco.compare(ours, theirs[::-1])
    assert (result.images, result.f1) == (2, 1.0)
    # Without its own, the first image of that name must not take that of the second.
    result = coco.compare(ours, theirs[1:])
    assert (result.images, result.images_only_a, result.changes["same"]) == (1, 1, 0)


def test_names_are_paired_in_any_unicode_form_and_folder():
    ours = document([(3, BOX)], "caf\u00e9.png")
    for name in ("cafe\u0301.png", "images\\cafe\u0301.png", "assets/caf\u00e9.png"):
        assert coco.compare([ours], [document([(3, BOX)], name)]).f1 == 1.0
    merged = document([(3, BOX)], "labels/1.png", original_file_name="caf\u00e9.png")
    assert coco.compare([ours], [merged]).f1 == 1.0


def test_a_name_of_several_images_pairs_none():
    with pytest.raises(InvalidParameterError, match="no image in common"):
        coco.compare([document([], "a.png")], [document([], "x/a.png"), document([], "y/a.png")])


def test_a_folder_and_its_merged_file_are_the_same(tmp_path):
    for number in range(5):
        folder = tmp_path / "labels" / "batch"
        folder.mkdir(parents=True, exist_ok=True)
        own = document([(3, BOX)], f"{number}.png") | {"info": {"asset_url": f"assets/{number}"}}
        (folder / f"item-{number}.json").write_text(json.dumps(own))
    coco.merge(tmp_path / "labels", tmp_path / "all.json")
    result = coco.compare(tmp_path / "labels", tmp_path / "all.json")
    assert (result.images, result.f1, result.changes["same"], result.findings) == (5, 1.0, 5, [])


@pytest.mark.parametrize("to_merged", [False, True])
def test_a_download_is_paired_with_a_data_set_made_of_it(tmp_path, to_merged):
    source = LAYOUTS["download"](tmp_path / "labels").source
    made = coco.convert(source, tmp_path / "yolo", "yolo")
    back = coco.convert(made.output, tmp_path / "back.json").output
    reference = coco.merge(source, tmp_path / "all.json").output if to_merged else source
    result = coco.compare(reference, back)
    assert (result.images, result.images_only_a, result.total.a, result.total.b) == (24, 0, 24, 24)
    assert result.images_only_b == 0
    # As YOLO names the images: by the stems of their files.
    result = coco.compare(reference, [detection("item-01"), detection("item-02")])
    assert (result.images, result.images_only_b, result.total.b) == (24, 0, 2)


def test_arrays_are_taken_as_lists():
    numpy = pytest.importorskip("numpy")
    plain, arrays = document([(3, BOX), (5, BOX)]), document([(3, BOX), (5, BOX)])
    for each in arrays["annotations"]:
        each["bbox"] = numpy.array(each["bbox"], float)
    results = [detection("a", box=numpy.array(BOX)), detection("a", category=5, score=numpy.float64(0.25))]
    for a, b in (([plain], [arrays]), ([arrays], [plain]), ([plain], results), (results, [arrays])):
        assert coco.compare(a, b).f1 == 1.0


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou": 0}, "iou must be above 0"),
        ({"iou": float("nan")}, "iou must be above 0"),
        ({"shape": "mask"}, "shape must be"),
    ],
)
def test_parameters_are_checked(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        coco.compare([document([])], [document([])], **options)


def test_sets_without_a_common_image_are_an_error():
    with pytest.raises(InvalidParameterError, match="no image in common: 1 images in the first and 1"):
        coco.compare([document([], "a.png")], [document([], "b.png")])


def test_other_keypoints_make_another_category_and_a_finding():
    classes = [[{"id": 1, "name": "person", "keypoints": ["x"] * count}] for count in (3, 4)]
    a, b = (document([(1, BOX)], classes=each) for each in classes)
    result = coco.compare([a], [b])
    assert (result.f1, result.changes["relabelled"]) == (0.0, 1)
    assert [each.code for each in result.findings] == ["category-differs"]


# --- Results lists ----------------------------------------------------------------------------------------------------


def detection(image_id, category=3, score=0.5, box=BOX, **more):
    return {"image_id": image_id, "category_id": category, "bbox": box, "score": score, **more}


@pytest.mark.parametrize("image_id", ["a", 1])
def test_a_results_list_names_images_by_stem_or_id(tmp_path, image_id):
    data, path = document([(3, BOX)]), tmp_path / "results.json"
    path.write_text(json.dumps([detection(image_id)]))
    dataset = tmp_path / "data.json"
    dataset.write_text(json.dumps(data))
    for results in (path, [detection(image_id)]):
        result = coco.compare(dataset, results)
        assert (result.images, result.f1, result.map, result.map50) == pytest.approx((1, 1.0, 1.0, 1.0))
        assert coco.compare(results, dataset).f1 == 1.0


def test_a_results_list_without_detections_has_a_precision_of_zero(tmp_path):
    (tmp_path / "results.json").write_text("[]")
    for results in (tmp_path / "results.json", [detection("a", category=77)]):
        result = coco.compare([document([(3, BOX)])], results)
        assert (result.map, result.map50, result.categories["car"].ap) == (0, 0, 0)
    assert coco.compare(tmp_path / "results.json", [document([(3, BOX)])]).map is None


def test_images_without_detections_are_in_both_sets():
    result = coco.compare([document([(3, BOX)], "7.png"), document([(3, BOX)], "b.png")], [detection(7)])
    assert (result.images, result.recall, result.precision) == (2, 0.5, 1.0)


@pytest.mark.parametrize("score", [1.5, -0.1, None, "0.5", float("nan"), True])
def test_a_score_out_of_range_is_an_error(score):
    with pytest.raises(InvalidParameterError, match="position 0 has the score .*between 0 and 1"):
        coco.compare([document([])], [detection("a", score=score)])


def test_detections_of_unknown_images_and_categories_are_findings():
    result = coco.compare([document([])], [detection("a", category=77), detection("none")])
    assert [each.code for each in result.findings] == ["dangling-category-id", "dangling-image-id"]
    with pytest.raises(InvalidParameterError, match="no image in common"):
        coco.compare([document([])], [detection("none")])


@pytest.mark.parametrize("text", ["[]", "\ufeff [\n{}]"])
def test_a_results_list_alone_is_not_a_source_of_documents(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text, encoding="utf-8")
    for function in (coco.read, coco.stats, lambda source: coco.merge(source, tmp_path / "all.json")):
        with pytest.raises(InvalidParameterError, match="is a results list"):
            function(path)


def test_a_long_or_broken_results_list_is_read_piece_by_piece(tmp_path):
    path = tmp_path / "results.json"
    entries = [detection("a", note="x" * 3_000_000), *(detection("a", box=[n, 0, 5, 5]) for n in range(30))]
    path.write_text(json.dumps(entries, indent=1))
    assert coco.compare([document([])], path).changes["added"] == 31
    path.write_text(json.dumps(entries)[:-3])
    with pytest.raises(coco.documents.InvalidResponseError, match="not a complete JSON array"):
        coco.compare([document([])], path)


# --- Witnesses --------------------------------------------------------------------------------------------------------


def test_the_assignment_has_the_sum_that_scipy_finds():
    optimize = pytest.importorskip("scipy.optimize")
    numpy = pytest.importorskip("numpy")
    for seed in range(200):
        chance = random.Random(seed)
        rows, columns = chance.randint(1, 20), chance.randint(1, 20)
        table = numpy.zeros((rows, columns))
        for place in chance.sample(range(rows * columns), rows * columns // 2):
            table[place // columns, place % columns] = chance.choice([chance.uniform(0.5, 1), 0.75, 1.0])
        pairs = [Pair(int(a), int(b), float(table[a, b])) for a, b in zip(*table.nonzero(), strict=True)]
        found = [pair for group in components(pairs) for pair in assigned(group)]
        assert len({pair.a for pair in found}) == len({pair.b for pair in found}) == len(found)
        best = table[optimize.linear_sum_assignment(table, maximize=True)].sum()
        assert sum(pair.iou for pair in found) == pytest.approx(best, abs=1e-9)


#: Pairs of categories of two annotators, and kappa and alpha by scikit-learn 1.9.1 and krippendorff 0.9.0.
AGREEMENTS = [
    (1, (0.2946205913786961, 0.2856103329088594)),
    (2, (0.5552673028814972, 0.5564628375243574)),
    (3, (0.750814332247557, 0.7510757622106659)),
]


def labels(seed):
    """Categories of the same objects by two annotators."""
    chance = random.Random(seed)
    ours = [chance.choice([1, 1, 2, 3, 4]) for _ in range(60 * seed)]
    return ours, [each if chance.random() < 0.2 * seed + 0.2 else chance.randint(1, 5) for each in ours]


@pytest.mark.parametrize(("seed", "expected"), AGREEMENTS)
def test_kappa_and_alpha_are_those_of_the_libraries(seed, expected):
    assert agreement_of(Counter(zip(*labels(seed), strict=True))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_libraries_still_compute_them(seed):
    metrics, krippendorff = pytest.importorskip("sklearn.metrics"), pytest.importorskip("krippendorff")
    kappa = metrics.cohen_kappa_score(*labels(seed))
    alpha = krippendorff.alpha(reliability_data=labels(seed), level_of_measurement="nominal")
    assert dict(AGREEMENTS)[seed] == pytest.approx((kappa, alpha), abs=1e-12)


def scene(seed, *, crowds=True):
    """A dataset with many overlapping objects, and detections with equal scores among them."""
    chance = random.Random(seed)
    images = [{"id": n, "file_name": f"{n}.png", "width": 200, "height": 200} for n in (9, 4, 30, 12, 5)]
    annotations, results = [], []
    for image in images:
        for _ in range(chance.randint(0, 25)):
            box = [round(chance.uniform(0, 150), 1), round(chance.uniform(0, 150), 1), 40, chance.randint(5, 50)]
            x, y, width, height = box
            corners = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            category = chance.choice([3, 5])
            crowd = int(crowds and chance.random() < 0.1)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "bbox": box}
                | {"area": width * height, "iscrowd": crowd, "segmentation": corners}
            )
            for _ in range(chance.choice([0, 1, 1, 2, 6 if crowd else 1])):
                x, y = x + chance.uniform(-6, 6), y + chance.uniform(-4, 4)
                corners = [[x, y, x + width, y, x + width, y + height, x, y + height]]
                results.append(
                    detection(image["id"], chance.choice([category, category, 3, 9]), round(chance.random(), 1))
                    | {"bbox": [x, y, width, height], "segmentation": corners}
                )
    results += [detection(9, 3, chance.random(), [chance.uniform(0, 90), 5, 30, 30]) for _ in range(130)]
    for each in results:
        x, y, width, height = each["bbox"]
        each.setdefault("segmentation", [[x, y, x + width, y, x + width, y + height, x, y + height]])
    return {"images": images, "annotations": annotations, "categories": CLASSES}, results


@pytest.mark.parametrize("shape", ["box", "segmentation"])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(tmp_path, seed, shape):
    pytest.importorskip("pycocotools")
    from pycocotools import mask as masks
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data, results = scene(seed)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(data))
        truth.createIndex()
        plain = json.loads(path.read_text())
        for each in plain:
            polygons = each.pop("segmentation")
            if shape == "segmentation":
                del each["bbox"]
                each["segmentation"] = masks.frPyObjects(polygons, 200, 200)[0]
        evaluation = COCOeval(truth, truth.loadRes(plain), "bbox" if shape == "box" else "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    result = coco.compare([data], path, shape=shape)
    assert (result.map, result.map50) == pytest.approx(tuple(evaluation.stats[:2]), abs=1e-9)
    assert 0 < result.map < 1
