from __future__ import annotations

import collections
import contextlib
import copy
import io
import json
import math
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from array import array
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask
from pycocotools.coco import COCO

from cfplatform import InvalidParameterError, WorkItem
from cfplatform.coco import CODES, Document, Finding, FindingGroups, check, merge, validate
from cfplatform.sandbox import shapes
from tests.unit.odd_documents import EVERYTHING, anything, odd_documents, places

GONE = object()
A0, A1, A2, A3, A4, A5 = (("annotations", index) for index in range(6))
OUTLINE = (*A0, "segmentation", 0)
#: What makes the first annotation one that has only a box.
BOX_ONLY = (((*A0, "segmentation"), GONE), ((*A0, "area"), 1))
KEYPOINTS_GONE = (((*A0, "keypoints"), GONE), ((*A0, "num_keypoints"), GONE))
TALLER = {"size": [60, 20], "counts": [0, 3, 57, 3, 1137]}
SEGMENT = (*A4, "segments_info", 0)
#: More digits than Python prints.
HUGE = 10**5000
PLACES = [each for each in places(EVERYTHING) if each]


def changed(*changes):
    """The document with one of everything, in which some places hold something else."""
    document = copy.deepcopy(EVERYTHING)
    for place, value in changes:
        holder = document
        for key in place[:-1]:
            holder = holder[key]
        if value is GONE:
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
    return document


def found(document):
    return [(each.code, each.pointer) for each in check(Document(document))]


def test_a_good_document_has_no_findings():
    assert found(EVERYTHING) == []


#: Code and place of the one finding, and what has to be changed for it.
DEFECTS = [
    ("missing-section", "", (("images",), GONE)),
    ("missing-section", "", (("annotations",), GONE)),
    ("missing-section", "", (("categories",), GONE)),
    ("wrong-type", "/images", (("images",), {"id": 1})),
    ("wrong-type", "/annotations", (("annotations",), "none")),
    ("wrong-type", "/categories", (("categories",), None)),
    ("wrong-type", "/annotations/0", (A0, 3)),
    ("wrong-type", "/annotations/4/segments_info", ((*A4, "segments_info"), "x")),
    ("wrong-type", "/annotations/4/segments_info/0", (SEGMENT, [])),
    ("missing-id", "/annotations/1", ((*A1, "id"), GONE)),
    ("missing-id", "/annotations/1", ((*A1, "id"), True)),
    ("missing-id", "/annotations/1", ((*A1, "id"), math.nan)),
    ("odd-id", "/annotations/1/id", ((*A1, "id"), "two"), ((*A2, "id"), "three")),
    ("odd-id", "/annotations/1/id", ((*A1, "id"), 1.5)),
    ("duplicate-annotation-id", "/annotations/2/id", ((*A2, "id"), 1.0)),
    ("duplicate-category-id", "/categories/1/id", (("categories", 1, "id"), 1), ((*A1, "category_id"), 1),
     ((*A2, "category_id"), 1),
     ((*A3, "category_id"), 1), ((*SEGMENT, "category_id"), 1), ((*A5, "category_id"), 1)),
    ("wrong-type", "/images", (("images",), None)),
    ("wrong-type", "/annotations", (("annotations",), None)),
    ("wrong-type", "/licenses", (("licenses",), None)),
    ("wrong-type", "/licenses", (("licenses",), {"id": 1})),
    ("wrong-type", "/licenses/1", (("licenses",), [{"id": 1}, "MIT"])),
    ("wrong-type", "/info", (("info",), None)),
    ("wrong-type", "/info", (("info",), "a dataset")),
    ("missing-id", "/licenses/0", (("licenses", 0, "id"), GONE)),
    ("duplicate-license-id", "/licenses/1/id", (("licenses",), [{"id": 1}, {"id": 1}])),
    ("not-json", "/annotations/0", ((*A0, "attributes"), {"color": {1, 2}})),
    ("not-json", "/annotations/0", ((*A0, "attributes"), [[[HUGE]]])),
    ("not-finite", "/annotations/0", ((*A0, "attributes"), {"score": [1, math.nan]})),
    ("not-finite", "/annotations/1", ((*A1, "segmentation", "score"), math.inf)),
    ("not-finite", "/licenses/0", (("licenses", 0, "version"), math.nan)),
    ("missing-size", "/images/0", (("images", 0, "width"), GONE)),
    ("bad-size", "/images/0/width", (("images", 0, "width"), 0)),
    ("bad-size", "/images/0/height", (("images", 0, "height"), "30")),
    ("bad-size", "/images/0/height", (("images", 0, "height"), 30.5)),
    ("bad-size", "/images/0/height", (("images", 0, "height"), 30.0)),
    ("bad-size", "/images/0/height", (("images", 0, "height"), HUGE)),
    ("missing-file-name", "/images/0", (("images", 0, "file_name"), GONE)),
    ("missing-file-name", "/images/0/file_name", (("images", 0, "file_name"), "")),
    ("odd-file-name", "/images/0/file_name", (("images", 0, "file_name"), "images\\a.png")),
    ("odd-file-name", "/images/0/file_name", (("images", 0, "file_name"), "/data/a.png")),
    ("odd-file-name", "/images/0/file_name", (("images", 0, "file_name"), "C:/data/a.png")),
    ("odd-file-name", "/images/0/file_name", (("images", 0, "file_name"), "images/../../a.png")),
    ("duplicate-file-name", "/images/1/file_name", (("images", 1, "file_name"), "a.png")),
    ("missing-category-name", "/categories/0", (("categories", 0, "name"), GONE)),
    ("missing-category-name", "/categories/0/name", (("categories", 0, "name"), 7)),
    ("duplicate-category-name", "/categories/1/name", (("categories", 1, "name"), "person")),
    ("category-spelling", "/categories/1/name", (("categories", 1, "name"), "Person")),
    ("category-spelling", "/categories/1/name", (("categories", 1, "name"), " person ")),
    ("category-spelling", "/categories/1/name", (("categories", 0, "name"), "caf\u00e9"),
     (("categories", 1, "name"), "cafe\u0301")),
    ("bad-keypoint-names", "/categories/0/keypoints", (("categories", 0, "keypoints"), None)),
    ("bad-keypoint-names", "/categories/0/keypoints", (("categories", 0, "keypoints"), ["nose", 2])),
    ("bad-skeleton", "/categories/0/skeleton", (("categories", 0, "skeleton"), None)),
    ("bad-skeleton", "/categories/0/skeleton", (("categories", 0, "skeleton"), "none")),
    ("bad-skeleton", "/categories/0/skeleton/0", (("categories", 0, "skeleton"), [[0, 1]])),
    ("bad-skeleton", "/categories/0/skeleton/1", (("categories", 0, "skeleton"), [[1, 2], [2, 3]])),
    ("bad-skeleton", "/categories/0/skeleton/0", (("categories", 0, "skeleton"), [[1.5, 2]])),
    ("bad-skeleton", "/categories/0/skeleton/0", (("categories", 0, "skeleton"), [1, 2])),
    ("dangling-image-id", "/annotations/0", ((*A0, "image_id"), GONE)),
    ("dangling-image-id", "/annotations/0/image_id", ((*A0, "image_id"), 3)),
    ("dangling-image-id", "/annotations/0/image_id", ((*A0, "image_id"), "1")),
    ("dangling-image-id", "/annotations/0/image_id", ((*A0, "image_id"), [1])),
    ("dangling-category-id", "/annotations/1", ((*A1, "category_id"), GONE)),
    ("dangling-category-id", "/annotations/1/category_id", ((*A1, "category_id"), 7)),
    ("dangling-category-id", "/annotations/3", ((*A3, "category_id"), GONE)),
    ("dangling-category-id", "/annotations/3/category_id", ((*A3, "category_id"), None)),
    ("dangling-category-id", "/annotations/4/segments_info/0/category_id", ((*SEGMENT, "category_id"), 7)),
    ("duplicate-annotation", "/annotations/2", ((*A2, "image_id"), 1)),
    ("no-shape", "/annotations/3", ((*A3, "caption"), GONE)),
    ("bad-crowd", "/annotations/0/iscrowd", ((*A0, "iscrowd"), 2)),
    ("bad-crowd", "/annotations/0/iscrowd", ((*A0, "iscrowd"), None)),
    ("bad-caption", "/annotations/3/caption", ((*A3, "caption"), " ")),
    ("bad-box", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 3])),
    ("bad-box", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 3, "4"])),
    ("bad-box", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 3, True])),
    ("bad-box", "/annotations/0/bbox", ((*A0, "bbox"), None)),
    ("not-finite", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 3, math.nan])),
    ("not-finite", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, HUGE, 4])),
    ("not-finite", "/annotations/0/segmentation/0", ((*A0, "segmentation", 0, 3), -math.inf)),
    ("not-finite", "/annotations/0/segmentation/0", ((*A0, "segmentation", 0, 3), 10**400)),
    ("not-finite", "/annotations/0/area", ((*A0, "area"), math.inf)),
    ("not-finite", "/annotations/0/keypoints", ((*A0, "keypoints", 0), math.nan)),
    ("empty-box", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 0, 4])),
    ("empty-box", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 3, 0.0])),
    ("empty-box", "/annotations/0/bbox", ((*A0, "bbox"), [1, 2, 3, -4.0])),
    ("no-box", "/annotations/0", ((*A0, "bbox"), GONE)),
    ("no-box", "/annotations/0", ((*A0, "bbox"), GONE), ((*A0, "segmentation"), GONE)),
    ("no-box", "/annotations/0", ((*A0, "bbox"), GONE), *KEYPOINTS_GONE),
    ("rotated-box", "/annotations/0/attributes/rotation", ((*A0, "attributes"), {"rotation": 90.0})),
    ("rotated-box", "/annotations/0/attributes/rotation", ((*A0, "attributes"), {"rotation": -0.5})),
    ("tiny-box", "/annotations/5/bbox", ((*A5, "bbox"), [5, 5, 0.4, 3]), ((*A5, "area"), 1.2)),
    ("tiny-box", "/annotations/5/bbox", ((*A5, "bbox"), [5, 5, 3, 0.99]), ((*A5, "area"), 2.97)),
    ("zero-area", "/annotations/0/area", ((*A0, "area"), 0)),
    ("zero-area", "/annotations/5/area", ((*A5, "area"), 0.0)),
    ("tiny-area", "/annotations/5/area", ((*A5, "area"), 0.5)),
    ("box-outside", "/annotations/0/bbox", ((*A0, "bbox"), [40, 2, 3, 4]), *BOX_ONLY),
    ("box-outside", "/annotations/0/bbox", ((*A0, "bbox"), [2, -4, 3, 4]), *BOX_ONLY),
    ("box-outside", "/annotations/0/bbox", ((*A0, "bbox"), [-3, 2, 3, 4]), *BOX_ONLY),
    ("box-outside", "/annotations/0/bbox", ((*A0, "bbox"), [2, 30, 3, 4]), *BOX_ONLY),
    ("box-over-edge", "/annotations/0/bbox", ((*A0, "bbox"), [-1.1, 2, 30, 4]), *BOX_ONLY),
    ("box-over-edge", "/annotations/0/bbox", ((*A0, "bbox"), [20, 20, 3, 11.1]), *BOX_ONLY),
    ("box-mismatch", "/annotations/0/bbox", ((*A0, "bbox"), [2, 2, 24, 14])),
    ("box-mismatch", "/annotations/1/bbox", ((*A1, "bbox"), [7, 0, 2, 3])),
    ("bad-segmentation", "/annotations/0/segmentation", ((*A0, "segmentation"), "x")),
    ("bad-segmentation", "/annotations/0/segmentation", ((*A0, "segmentation"), 0)),
    ("bad-segmentation", "/annotations/0/segmentation", ((*A0, "segmentation"), [2, 2, 12, 2, 12, 12])),
    ("empty-segmentation", "/annotations/1/segmentation", ((*A1, "segmentation"), [])),
    ("empty-segmentation", "/annotations/0/segmentation", ((*A0, "segmentation"), []), ((*A0, "area"), 30)),
    ("empty-segmentation", "/annotations/0/segmentation", ((*A0, "segmentation"), None), ((*A0, "bbox"), GONE),
     *KEYPOINTS_GONE, ((*A0, "caption"), "A person.")),
    ("bad-polygon", "/annotations/0/segmentation/0", ((*A0, "segmentation"), [[1, 1, 9, 1, 9, 9, 1]])),
    ("bad-polygon", "/annotations/0/segmentation/0", ((*A0, "segmentation"), [[[1, 1], [9, 1], [9, 9]]])),
    ("bad-polygon", "/annotations/0/segmentation/1", ((*A0, "segmentation"), [[2, 2, 12, 2, 12, 12], None])),
    ("short-polygon", "/annotations/0/segmentation/0", ((*A0, "segmentation"), [[]])),
    ("short-polygon", "/annotations/0/segmentation/0", ((*A0, "segmentation"), [[2, 2, 12, 12]])),
    ("flat-polygon", "/annotations/0/segmentation/0", (OUTLINE, [2, 2, 6, 6, 4, 4]), ((*A0, "area"), 1)),
    ("polygon-outside", "/annotations/0/segmentation/0", (OUTLINE, [40, 2, 41, 2, 41, 12, 40, 12]),
     ((*A0, "bbox"), [38, 2, 3, 10]), ((*A0, "area"), 10)),
    ("polygon-over-edge", "/annotations/0/segmentation/0", (OUTLINE, [-2, 2, 8, 2, 8, 12, -2, 12])),
    ("crowd-polygons", "/annotations/0/segmentation", ((*A0, "iscrowd"), 1)),
    ("bad-mask", "/annotations/1/segmentation", ((*A1, "segmentation"), {})),
    ("bad-mask", "/annotations/1/segmentation", ((*A1, "segmentation", "counts"), [0, 3, 27])),
    ("bad-mask", "/annotations/1/segmentation", ((*A1, "segmentation", "counts", 0), HUGE)),
    ("bad-mask", "/annotations/2/segmentation", ((*A2, "segmentation", "counts"), "03k00dS2")),
    ("mask-size", "/annotations/2/segmentation/size", ((*A2, "segmentation"), TALLER)),
    ("empty-mask", "/annotations/1/segmentation", ((*A1, "segmentation", "counts"), [1200]), ((*A1, "area"), 1)),
    ("missing-area", "/annotations/0", ((*A0, "area"), GONE)),
    ("missing-area", "/annotations/5", ((*A5, "area"), GONE)),
    ("bad-area", "/annotations/0/area", ((*A0, "area"), "100")),
    ("bad-area", "/annotations/0/area", ((*A0, "area"), -1)),
    ("area-mismatch", "/annotations/0/area", ((*A0, "area"), 140)),
    ("area-mismatch", "/annotations/0/area", ((*A0, "area"), 60)),
    ("area-mismatch", "/annotations/1/area", ((*A1, "area"), 50)),
    ("area-mismatch", "/annotations/5/area", ((*A5, "area"), 20)),
    ("bad-keypoints", "/annotations/0/keypoints", ((*A0, "keypoints"), [1, 2])),
    ("bad-keypoints", "/annotations/0/keypoints", ((*A0, "keypoints"), None)),
    ("keypoints-of-category", "/annotations/0/keypoints", ((*A0, "keypoints"), [4, 4, 2])),
    ("bad-visibility", "/annotations/0/keypoints/2", ((*A0, "keypoints", 2), 3)),
    ("keypoint-outside", "/annotations/0/keypoints/0", ((*A0, "keypoints", 0), 41.1)),
    ("num-keypoints", "/annotations/0/num_keypoints", ((*A0, "num_keypoints"), 2)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "pointer", "changes"),
    [pytest.param(code, pointer, rest, id=code) for code, pointer, *rest in DEFECTS],
)
def test_a_defect_is_found_where_it_is_and_nothing_else(code, pointer, changes):
    document = changed(*changes)
    assert found(document) == [(code, pointer)]
    (finding,) = check(Document(document, "item", "batch", Path("a/b.json")))
    assert (finding.severity, finding.item_id, finding.batch) == (CODES[code].severity, "item", "batch")
    assert finding.path == str(Path("a/b.json"))
    assert re.fullmatch(r"[^\n]{5,200}\.", finding.message)


@pytest.mark.parametrize(
    ("crowd", "said"),
    [
        (None, "null"),
        (True, None),
        (7, "7"),
        (0.25, "0.25"),
        (-(10**40), "a number of more than 40 digits"),
        (HUGE, "a number of more than 40 digits"),
        (math.nan, "nan"),
        ("x" * 40, f"'{'x' * 40}'"),
        ("x" * 41, f"'{'x' * 39}…'"),
        ([HUGE], "a list"),
        ({}, "an object"),
    ],
    ids=range(11),
)
def test_a_message_names_the_value_in_few_characters(crowd, said):
    document = changed((("annotations", 3, "iscrowd"), crowd))
    messages = [each.message for each in check(Document(document)) if each.code == "bad-crowd"]
    assert messages == ([] if said is None else [f"iscrowd is {said}, neither 0 nor 1."])


@pytest.mark.parametrize(
    ("known", "used", "message"),
    [
        (0, "0", "There is no image '0', only 0: strings and numbers are different IDs."),
        ("0", 0, "There is no image 0, only '0': strings and numbers are different IDs."),
        ("00012", 12.0, "There is no image 12, only '00012': strings and numbers are different IDs."),
        (1, 7, "There is no image 7."),
        ("01", "1", "There is no image '1'."),
        (1, None, "There is no image null."),
    ],
)
def test_an_id_of_the_other_type_is_named(known, used, message):
    document = changed((("images", 0, "id"), known), (("annotations",), [{"id": 1, "image_id": used, "caption": "x"}]))
    messages = [each.message for each in check(Document(document)) if each.code == "dangling-image-id"]
    assert messages == [message]


def test_a_category_id_of_the_other_type_is_named_for_annotations_and_segments():
    document = changed(((*A1, "category_id"), "2"), ((*SEGMENT, "category_id"), "1"))
    assert [(each.pointer, each.message) for each in check(Document(document))] == [
        ("/annotations/1/category_id", "There is no category '2', only 2: strings and numbers are different IDs."),
        (
            "/annotations/4/segments_info/0/category_id",
            "There is no category '1', only 1: strings and numbers are different IDs.",
        ),
    ]


def test_segments_need_categories_too():
    assert found(changed((("annotations",), [EVERYTHING["annotations"][4]]), (("categories",), GONE))) == [
        ("missing-section", "")
    ]


def test_many_equal_problems_of_one_entry_are_one_finding_with_their_number():
    outlines = [[2, 2, 12, 2, 12, 12], [], [1, 1], [1, 2, 3, 4, 5], []]
    messages = [(each.pointer, each.message) for each in check(Document(changed(((*A0, "segmentation"), outlines))))]
    assert messages == [
        (
            "/annotations/0/segmentation/1",
            "The polygon has only 0 points; it needs at least three (2 more like this).",
        ),
        ("/annotations/0/segmentation/3", "The polygon has 5 numbers; they must be pairs."),
    ]
    messages = [(each.pointer, each.message) for each in check(Document(changed((("licenses",), [1] * 3000))))]
    assert messages == [("/licenses/0", "The entry is 1, not an object (2,999 more like this).")]


def test_a_defect_of_an_image_id_is_reported_with_its_consequences():
    assert found(changed((("images", 1, "id"), 1))) == [
        ("duplicate-image-id", "/images/1/id"),
        ("dangling-image-id", "/annotations/2/image_id"),
        ("dangling-image-id", "/annotations/4/image_id"),
        ("dangling-image-id", "/annotations/5/image_id"),
    ]


#: Codes that are about files; their tests are further down.
OF_FILES = {"unreadable", "missing-image", "bad-image", "size-mismatch"}
#: Codes that only merging and splitting report; their tests are beside those of merging and splitting.
#: Codes that only comparing reports.
OF_COMPARING = {"size-differs"}
OF_MERGING = {
    "batch-without-part",
    "unknown-batch",
    "category-supercategory",
    "category-differs",
    "category-members",
    "license-members",
    "duplicate-license-name",
    "dangling-license-id",
    "dangling-reference",
    "member-left-out",
    "no-group",
    "unknown-item",
    "unknown-part",
    "empty-part",
    "class-in-one-group",
    "unknown-metadata",
}
#: Codes that only converting reports; their tests are beside those of converting.
OF_CONVERTING = {
    "crowd-left-out",
    "outside-left-out",
    "no-row",
    "no-keypoints",
    "clipped",
    "box-as-polygon",
    "parts-bridged",
    "hole-bridged",
    "segmentation-left-out",
    "keypoints-left-out",
    "rotation-left-out",
    "no-image",
    "image-format",
    "turned-image",
    "no-part",
    "no-flip",
    "bad-row",
}


def test_there_is_a_test_of_every_code():
    others = OF_FILES | OF_MERGING | OF_COMPARING | OF_CONVERTING | {"duplicate-image-id"}
    assert {code for code, *_ in DEFECTS} | others == set(CODES)


def test_the_documentation_has_the_table_of_the_code():
    # The directive writes it from CODES: one row for each, with its meaning as it stands.
    page = (Path(__file__).parents[2] / "docs" / "labels" / "codes.rst").read_text(encoding="utf-8")
    assert "\n.. finding-codes::\n" in page
    assert {each.severity for each in CODES.values()} == {"error", "warning"}
    assert [code for code, each in CODES.items() if not re.fullmatch(r"[A-Z`].+\.", each.meaning)] == []
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in CODES)


def test_findings_are_grouped_by_code():
    groups = FindingGroups(limit=2)
    for code, path in (("bad-crowd", "a"), ("bad-box", "a"), ("bad-crowd", "a"), ("bad-crowd", "b"), ("bad-area", "b")):
        groups.add(Finding(code, CODES[code].severity, "It is wrong.", path=path, pointer="/annotations/0"))
    found = [(each.code, each.count, each.documents, len(each.first)) for each in groups.sorted()]
    assert found == [("bad-area", 1, 1, 1), ("bad-box", 1, 1, 1), ("bad-crowd", 3, 2, 2)]
    assert (groups.count("error"), groups.count("warning")) == (2, 3)


@pytest.mark.parametrize(
    ("known", "location"),
    [
        ({"path": "a.json", "item_id": "i"}, "a.json /x"),
        ({"item_id": "i", "batch": "b"}, "i /x"),
        ({"batch": "b"}, "b /x"),
        ({}, "document /x"),
    ],
)
def test_a_finding_has_a_location(known, location):
    assert Finding("bad-box", "error", "It is wrong.", pointer="/x", **known).location == location


# --- What is allowed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        [((*A0, "bbox"), [-1, -1, 42, 32]), *BOX_ONLY],
        [((*A0, "bbox"), [3, 1, 9, 12])],
        [((*A0, "bbox"), [0, 2, 12, 13])],
        [((*A0, "area"), 120)],
        [((*A0, "area"), 80)],
        [((*A0, "segmentation"), [])],
        [((*A0, "segmentation"), None)],
        [((*A0, "segmentation"), GONE), ((*A0, "area"), 30)],
        [((*A0, "iscrowd"), GONE)],
        [
            ((*A0, "iscrowd"), True),
            ((*A0, "segmentation"), {"size": [30, 40], "counts": [60, 100, 1040]}),
            ((*A0, "bbox"), [2, 0, 4, 30]),
        ],
        [((*A0, "num_keypoints"), GONE)],
        [((*A0, "keypoints", 0), -500), ((*A0, "keypoints", 2), 0), ((*A0, "num_keypoints"), 0)],
        [*KEYPOINTS_GONE],
        [((*A0, "attributes"), {"rotation": 0.0})],
        [((*A0, "attributes"), {"rotation": 180})],
        [((*A0, "attributes"), {"rotation": "90"})],
        [((*A5, "bbox"), [5, 5, 1, 1]), ((*A5, "area"), 1)],
        [((*A3, "area"), 0)],
        [(("categories", 0, "skeleton"), [])],
        [(("images", 0, "file_name"), "train/..a.png")],
        [(("images", 0, "file_name"), "A.png"), (("images", 1, "file_name"), "a.png")],
        [(("info",), GONE), (("licenses",), GONE)],
        [(("categories", 0, "keypoints"), GONE)],
        [((*A2, "segmentation"), {"size": [30, 40], "counts": [0, 3, 27, 3, 1167]})],
    ],
)
def test_variants_that_the_format_allows_have_no_findings(changes):
    assert found(changed(*changes)) == []


def test_a_document_of_captions_needs_no_categories():
    document = changed((("annotations",), [{"id": 1, "image_id": 1, "caption": "A tree."}]), (("categories",), GONE))
    assert found(document) == []


def test_one_polygon_may_be_a_hole_or_lie_over_another():
    square, hole = [0, 0, 30, 0, 30, 30, 0, 30], [5, 5, 25, 5, 25, 25, 5, 25]
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 30, 30], "segmentation": [square, hole]}
    for area, codes in ((500, []), (900, []), (1300, []), (300, ["area-mismatch"]), (1600, ["area-mismatch"])):
        document = changed((("annotations",), [{**annotation, "area": area}]))
        assert [code for code, _ in found(document)] == codes, area


def document_of(annotations, width=shapes.WIDTH, height=shapes.HEIGHT):
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "categories": shapes.CATEGORIES,
        "annotations": annotations,
    }


@given(st.binary(min_size=64, max_size=64))
def test_documents_of_the_sandbox_have_no_findings(entropy):
    assert found(document_of(shapes.make_scene(entropy).annotations())) == []


def test_what_the_sandbox_serves_has_no_findings(client):
    assert list(validate(client.iter_annotations())) == []


@st.composite
def outlines(draw):
    """The size of a picture and an outline in it that does not cross itself: it goes once round a point."""
    width, height = draw(st.integers(2, 400)), draw(st.integers(2, 400))
    x, y = draw(st.floats(0.5, width - 0.5)), draw(st.floats(0.5, height - 0.5))
    most = min(x, y, width - x, height - y)
    count = draw(st.integers(5, 12))
    turn = draw(st.floats(0, 1))
    reaches = draw(st.lists(st.floats(0.05, 1), min_size=count, max_size=count))
    angles = [(index + turn) * math.tau / count for index in range(count)]
    corners = [
        (round(x + most * reach * math.cos(angle), 2), round(y + most * reach * math.sin(angle), 2))
        for angle, reach in zip(angles, reaches, strict=True)
    ]
    return width, height, corners


def shoelace(corners):
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs)) / 2


@given(outlines())
def test_areas_of_polygons_and_of_their_masks_agree(outline):
    width, height, corners = outline
    polygon = [value for corner in corners for value in corner]
    packed = mask.frPyObjects([polygon], height, width)[0]
    exact, pixels = shoelace(corners), int(mask.area(packed))
    assume(pixels)
    as_text = {"size": packed["size"], "counts": packed["counts"].decode()}
    (left, right), (top, bottom) = ((min(values), max(values)) for values in (polygon[0::2], polygon[1::2]))
    assume(exact >= 1 and right - left >= 1 and bottom - top >= 1)
    boxes = [left, top, right - left, bottom - top], mask.toBbox(packed).tolist()
    shapes_and_areas = [(0, [polygon], exact), (0, [polygon], pixels), (1, as_text, exact), (1, as_text, pixels)]
    annotations = [
        {"id": number, "image_id": 1, "category_id": number, "bbox": boxes[box], "segmentation": shape, "area": area}
        for number, (box, shape, area) in enumerate(shapes_and_areas, start=1)
    ]
    assert found(document_of(annotations, width, height)) == []


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**31), st.booleans())
def test_masks_of_the_reference_have_no_findings(height, width, seed, crowd):
    picture = np.array(np.random.default_rng(seed).random((height, width)) < 0.4, dtype=np.uint8)
    assume(picture.any())
    packed = mask.encode(np.asfortranarray(picture))
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": mask.toBbox(packed).tolist(),
        "area": int(mask.area(packed)),
        "segmentation": {"size": packed["size"], "counts": packed["counts"].decode()},
        "iscrowd": int(crowd),
    }
    assert found(document_of([annotation], width, height)) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Of the reference itself, with new versions of NumPy.
@given(odd_documents())
def test_what_has_no_findings_is_read_by_the_reference(document):
    if found(document):
        return
    loaded = COCO()
    # Those of panoptic pictures have no id, which its own tool wants.
    loaded.dataset = {**document, "annotations": [each for each in document["annotations"] if "id" in each]}
    with contextlib.redirect_stdout(io.StringIO()):
        loaded.createIndex()
    for annotation in loaded.loadAnns(loaded.getAnnIds()):
        assert annotation.get("category_id") is None or loaded.loadCats([annotation["category_id"]])
        if annotation.get("segmentation") or annotation.get("keypoints"):
            # What detectors take.
            assert min(annotation["bbox"][2:]) >= 1
            assert annotation["area"] > 0
        if annotation.get("segmentation"):
            image = loaded.imgs[annotation["image_id"]]
            assert loaded.annToMask(annotation).shape == (image["height"], image["width"])


# --- Images on this machine -------------------------------------------------------------------------------------------


def put_image(path, size, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)


def of_images(*names, width=40, height=30):
    images = [{"id": n, "file_name": name, "width": width, "height": height} for n, name in enumerate(names)]
    return {"images": images, "annotations": [], "categories": []}


def test_the_size_of_an_image_is_compared_with_its_file(tmp_path):
    put_image(tmp_path / "images" / "a.png", (40, 30))
    put_image(tmp_path / "images" / "b.png", (20, 15))
    put(tmp_path / "labels" / "c.json", of_images("a.png", "b.png"))
    (finding,) = validate(tmp_path)
    assert (finding.code, finding.severity, finding.pointer) == ("size-mismatch", "error", "/images/1")
    assert finding.message == "The image file is 20 x 15, not 40 x 30; annotations are scaled to it."


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_an_image_may_be_annotated_as_it_is_stored_or_turned_upright(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    put_image(tmp_path / f"a.{suffix}", (40, 30), exif=exif)
    for size in ((40, 30), (30, 40)):
        put(tmp_path / "c.json", of_images(f"a.{suffix}", width=size[0], height=size[1]))
        codes = [each.code for each in validate(tmp_path / "c.json")]
        assert codes == (["size-mismatch"] if orientation < 5 and size == (30, 40) else [])


@pytest.mark.parametrize(
    "content", [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n\0\0"]
)
def test_a_file_that_cannot_be_opened_is_reported_if_its_name_is_that_of_an_image(tmp_path, content):
    for name in ("a.png", "b.mp4"):
        (tmp_path / name).write_bytes(content)
    put(tmp_path / "c.json", of_images("a.png", "b.mp4"))
    assert [(each.code, each.message, each.pointer) for each in validate(tmp_path / "c.json")] == [
        ("bad-image", "The file 'a.png' cannot be opened as an image.", "/images/0/file_name")
    ]


def test_the_size_of_a_huge_image_is_read_without_decoding_it(tmp_path):
    # The header alone says so; there are no pixels that could be decoded.
    header = b"IHDR" + struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT\x35\xaf\x06\x1e")
    put(tmp_path / "c.json", of_images("a.png"))
    assert [each.code for each in validate(tmp_path / "c.json")] == ["size-mismatch"]


def test_an_image_is_missing_if_others_are_there_or_their_folder_is_named(tmp_path):
    put(tmp_path / "labels" / "c.json", of_images("a.png", "b.png"))
    (tmp_path / "elsewhere").mkdir()
    assert list(validate(tmp_path / "labels" / "c.json")) == []
    missing = validate(tmp_path / "labels" / "c.json", images_from=tmp_path / "elsewhere")
    assert [(each.code, each.pointer) for each in missing] == [
        ("missing-image", "/images/0/file_name"),
        ("missing-image", "/images/1/file_name"),
    ]
    put_image(tmp_path / "images" / "b.png", (40, 30))
    (finding,) = validate(tmp_path / "labels" / "c.json")
    assert (finding.code, finding.pointer) == ("missing-image", "/images/0/file_name")
    assert finding.message == "The file 'a.png' does not exist."


def test_sizes_are_not_compared_without_pillow(tmp_path):
    put_image(tmp_path / "a.png", (4, 3))
    put(tmp_path / "c.json", of_images("a.png", "b.png"))
    program = """
import sys
sys.modules["PIL"] = None
from cfplatform.coco import validate
print(*(each.code for each in validate(sys.argv[1])))
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "c.json"], capture_output=True, check=True)
    assert done.stdout.split() == [b"missing-image"]
    assert [each.code for each in validate(tmp_path / "c.json")] == ["size-mismatch", "missing-image"]


def test_an_image_of_a_download_is_its_asset(tmp_path):
    document = {"info": {"asset_url": "assets/1"}, **of_images("street.png")}
    put(tmp_path / "a" / "item.json", document)
    assert list(validate(tmp_path)) == []
    put_image(tmp_path / "a" / "assets" / "item.png", (4, 3))
    assert [each.code for each in validate(tmp_path)] == ["size-mismatch"]


def test_many_frames_of_one_video_take_little_time(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"")
    document = Document(of_images(*map(str, range(4000))), "item", "a", tmp_path / "item.json", tmp_path / "video.mp4")
    began = time.process_time()
    assert list(check(document)) == []
    assert time.process_time() - began < 3


@pytest.mark.parametrize("name", ["http://[a", "a\0b", "a" * 5000, "\ud800", "C:", "\\\\", ".", "http://"])
def test_odd_names_of_images_do_not_raise(tmp_path, name):
    document = Document(of_images(name, "b.png"), path=tmp_path / "c.json", images_from=tmp_path)
    assert {each.code for each in check(document)} <= {"missing-image", "odd-file-name"}


# --- Whatever a document holds ----------------------------------------------------------------------------------------


@given(anything | odd_documents())
def test_no_document_raises_and_every_finding_is_ready_for_json(document):
    for finding in check(Document(document)):
        assert CODES[finding.code].severity == finding.severity
        text = json.dumps(finding.as_dict(), allow_nan=False)
        assert len(text) < 1500
        assert place(document, finding.pointer) is not GONE


class Odd:
    """An object that does nothing that others ask of it."""

    def __eq__(self, other):
        raise ZeroDivisionError

    __hash__ = __bool__ = __len__ = __iter__ = __str__ = __repr__ = __float__ = __int__ = __eq__

    @property
    def __class__(self):
        raise ZeroDivisionError

    def tolist(self):
        raise ZeroDivisionError


class OddDict(dict):
    get = __getitem__ = __iter__ = __contains__ = __len__ = items = keys = values = __eq__ = Odd.__eq__


class OddList(list):
    __getitem__ = __iter__ = __contains__ = __len__ = __eq__ = Odd.__eq__


class OddText(str):
    __slots__ = ()
    __len__ = __str__ = replace = strip = split = Odd.__eq__


class OddInt(int):
    __int__ = __index__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __add__ = __abs__ = Odd.__eq__
    __hash__ = int.__hash__


class Endless:
    def tolist(self):
        return [self]


def array_of(value):
    made = np.empty(1, dtype=object)
    made[0] = value
    return made


#: Values that only documents of a stream can have.
FOREIGN = {
    "object": Odd(), "object in a list": [[Odd()]], "dict": OddDict(id=1), "list": OddList([1, 2, 3, 4]),
    "text": OddText("a.png"), "int": OddInt(7), "endless": Endless(), "set": {1, 2}, "frozenset": frozenset("a"),
    "tuple": (1, 2, 3, 4), "bytes": b"03k00dS1", "bytearray": bytearray(b"a"), "array": np.array([2, 2, 10, 10]),
    "two dimensions": np.array([[2.5, math.nan]]), "no dimension": np.array(3), "float32": np.float32(0.5),
    "int64": np.int64(1), "bool": np.bool_(True), "array of objects": array_of(Odd()),
    "another array": array("d", [1, 2, 3, 4]), "complex": 1j, "type": object, "function": len,
    "odd names": {1: 2, (1, 2): 3, None: 4, OddText("id"): 5}, "range": range(4), "view": memoryview(b"a"),
    "path": Path("a"), "decimal": Decimal(1), "date": date(2026, 1, 1), "huge": [HUGE, -HUGE],
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_values_that_json_does_not_have_raise_nowhere(name):
    value = FOREIGN[name]
    for change in PLACES:
        for finding in check(Document(changed((change, value)))):
            json.dumps(finding.as_dict(), allow_nan=False)
    for whole in (value, [value], {"images": value, "annotations": value, "categories": value}):
        assert list(check(Document(whole)))


def as_of_pycocotools(value):
    """A document as users of pycocotools have it in memory."""
    if isinstance(value, dict):
        return {name: as_of_pycocotools(each) for name, each in value.items()}
    if isinstance(value, list) and value and set(map(type, value)) <= {int, float}:
        return np.array(value)
    if isinstance(value, list):
        return tuple(map(as_of_pycocotools, value))
    return np.array(value)[()] if isinstance(value, (int, float)) else value


def test_arrays_are_lists_and_so_are_tuples():
    document = as_of_pycocotools(EVERYTHING)
    document["annotations"][2]["segmentation"]["counts"] = b"03k00dS1"
    assert found(document) == []
    document["annotations"][0]["bbox"] = np.array([2, 2, 10.5, math.nan])
    document["annotations"][1]["segmentation"]["counts"] = np.array([1, 2])
    document["annotations"][3]["attributes"] = {"color": np.array([0.5, math.inf])}
    assert found(document) == [
        ("not-finite", "/annotations/0/bbox"),
        ("bad-mask", "/annotations/1/segmentation"),
        ("not-finite", "/annotations/3"),
    ]


def test_a_document_of_arrays_is_not_changed():
    document = as_of_pycocotools(EVERYTHING)
    list(check(Document(document)))
    assert isinstance(document["annotations"], tuple)
    assert isinstance(document["annotations"][0]["bbox"], np.ndarray)


@given(odd_documents())
def test_what_has_no_errors_is_merged_without_problems(document):
    if any(each.severity == "error" for each in check(Document(document))):
        return
    with tempfile.TemporaryDirectory() as folder:
        assert merge([document], Path(folder) / "merged.json").problems == []


def test_arrays_are_merged_as_lists(tmp_path):
    document = {**EVERYTHING, "annotations": [as_of_pycocotools(each) for each in EVERYTHING["annotations"][:4]]}
    document["annotations"][2]["segmentation"]["counts"] = b"03k00dS1"
    assert found(document) == []
    merge([document], tmp_path / "merged.json").raise_for_problems()
    written = json.loads((tmp_path / "merged.json").read_bytes())["annotations"]
    for name in ("bbox", "segmentation", "keypoints", "area", "iscrowd"):
        assert [each.get(name) for each in written] == [each.get(name) for each in EVERYTHING["annotations"][:4]]


def place(document, pointer):
    """What stands at a JSON pointer."""
    for key in pointer.split("/")[1:]:
        holder = document
        document = holder[int(key)] if isinstance(holder, list) else holder.get(key, GONE)
    return document


def one(**fields):
    """A document with one annotation."""
    return document_of([{"id": 1, "image_id": 1, "category_id": 1, **fields}])


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: one(segmentation=[[1.5, 2] * 300_000], area=1),
        lambda: one(segmentation=[[]] * 20_000),
        lambda: one(segmentation={"size": [10**9, 10**9], "counts": "1" * 10**6}),
        lambda: one(segmentation={"size": [20_000, 20_000], "counts": "1" * 300_000}),
        lambda: one(segmentation={"size": [9, 9], "counts": [HUGE] * 1000}),
        lambda: one(segmentation={"size": [HUGE, 9], "counts": "1"}),
        lambda: one(bbox=deep(100_000), keypoints=deep(9), segmentation=deep(100_000)),
        lambda: one(id=deep(100_000), image_id=HUGE, category_id=deep(5), iscrowd=deep(5)),
        # A dict would compare each of these with all others.
        lambda: document_of([{"id": number * (2**61 - 1), "image_id": 1, "caption": "x"} for number in range(30_000)]),
        lambda: document_of([], 10**9, 10**9),
        lambda: deep(100_000),
    ],
)
def test_hostile_documents_take_little_time(make):
    document = make()
    began = time.process_time()
    findings = list(check(Document(document)))
    assert time.process_time() - began < 3
    for finding in findings[:100]:
        assert len(json.dumps(finding.as_dict(), allow_nan=False)) < 1500


BASE = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25}
#: What makes large documents of about so many bytes.
LARGE = {
    "empty polygons": lambda size: one(segmentation=[[]] * (size // 3)),
    "polygons": lambda size: one(segmentation=[[1, 2, 3, 4, 5, 7]] * (size // 14)),
    "lists of annotations": lambda size: {**one(), "annotations": [[]] * (size // 3)},
    "lists of licenses": lambda size: {**one(), "licenses": [[]] * (size // 3)},
    "lists of segments": lambda size: one(segments_info=[[]] * (size // 3)),
    "lists of attributes": lambda size: one(attributes=[[]] * (size // 3)),
    "one id": lambda size: {**one(), "annotations": [BASE] * (size // 80)},
    "text ids": lambda size: {**one(), "annotations": [{**BASE, "image_id": "1"}] * (size // 80)},
    "one name": lambda size: {**one(), "categories": [{"id": n, "name": "car"} for n in range(size // 25)]},
    "skeleton": lambda size: {**one(), "categories": [{"id": 1, "name": "a", "skeleton": [[1, 2]] * (size // 7)}]},
    "keypoints": lambda size: one(keypoints=[1, 2, 3] * (size // 9)),
}


@pytest.mark.parametrize("name", LARGE)
def test_time_grows_with_the_size_of_a_document_only(name):
    def seconds(size):
        document = Document(LARGE[name](size))
        best = math.inf
        for _ in range(2):
            began = time.process_time()
            collections.deque(check(document), maxlen=0)
            best = min(best, time.process_time() - began)
        return best

    # Eight times as much; the square of that would be 64 times. A few milliseconds are noise.
    assert seconds(400_000) < 24 * max(seconds(50_000), 0.004)


@pytest.mark.parametrize(
    ("value", "reported"),
    [(7, 7), ("a", "a"), (1.5, 1.5), ("x" * 101, None), (HUGE, None), (math.nan, None), ([1], None), (True, None)],
    ids=range(8),
)
def test_a_finding_has_the_id_of_its_annotation_if_it_is_short(value, reported):
    document = changed(((*A0, "bbox"), []), ((*A0, "id"), value))
    assert [each.annotation_id for each in check(Document(document)) if each.code == "bad-box"] == [reported]


# --- Sources ----------------------------------------------------------------------------------------------------------


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_findings_come_in_the_order_of_the_documents(tmp_path):
    put(tmp_path / "a" / "1.json", changed(((*A0, "iscrowd"), 2)))
    put(tmp_path / "a" / "2.json", "[")
    put(tmp_path / "b" / "3.json", EVERYTHING)
    put(tmp_path / "b" / "4.json", changed(((*A0, "iscrowd"), 3)))
    put(tmp_path / "b" / "5.json", '"text"')
    steps = []
    findings = list(validate(tmp_path, progress=lambda done, total: steps.append((done, total))))
    assert [(each.code, Path(each.path).name, each.batch) for each in findings] == [
        ("bad-crowd", "1.json", "a"),
        ("unreadable", "2.json", "a"),
        ("bad-crowd", "4.json", "b"),
        ("unreadable", "5.json", "b"),
    ]
    assert findings[1].path == str((tmp_path / "a" / "2.json").resolve())
    assert {each.severity for each in findings if each.code == "unreadable"} == {CODES["unreadable"].severity}
    assert steps == [(done, 5) for done in range(1, 6)]


def test_a_stream_is_read_as_findings_are_asked_for():
    taken = []

    def stream():
        for number in range(3):
            taken.append(number)
            yield WorkItem({"id": f"item-{number}", "batchId": 7}), {"images": []}

    findings = validate(stream())
    assert taken == []
    first = next(findings)
    assert (first, taken) == (Finding("missing-section", "error", first.message, "item-0", "7"), [0])
    assert [each.item_id for each in findings] == ["item-1", "item-2"]


@pytest.mark.parametrize("arguments", [{"source": {}}, {"source": "no such place"}, {"source": [], "progress": 3}])
def test_arguments_are_checked_at_the_call(arguments):
    with pytest.raises(InvalidParameterError):
        validate(**arguments)


def test_a_merged_panoptic_dataset_is_valid(tmp_path):
    segments = [{"id": 3, "category_id": 1, "bbox": [0, 0, 3, 3], "area": 9, "iscrowd": 0}]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"image_id": 1, "file_name": "a_mask.png", "segments_info": segments}],
    }
    assert list(validate([document])) == []
    merged = merge([document], tmp_path / "dataset.json")
    assert json.loads(merged.output.read_text())["annotations"][0]["category_id"] is None
    assert list(validate(merged.output)) == []
    document["annotations"][0]["category_id"] = 7
    assert [finding.code for finding in validate([document])] == ["dangling-category-id"]
