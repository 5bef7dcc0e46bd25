"""Work items and batches: fields, paging, filters, totals."""

from __future__ import annotations

import re
import time

import pytest

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def test_work_item_fields(wire):
    answer = wire.work_items(limit=1)
    item = answer.json["items"][0]
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert list(item) == [
        "id",
        "projectId",
        "batchId",
        "status",
        "assetType",
        "assetUrl",
        "resultUrl",
        "createdAt",
        "updatedAt",
        "metadata",
    ]
    assert UUID4.fullmatch(item["id"])
    assert item["id"] == next(wire.sandbox.work_item_ids())
    assert UUID4.fullmatch(item["assetUrl"].removeprefix("assets/"))
    assert item["projectId"] == wire.sandbox.project_id
    assert item["batchId"] == 1001
    assert item["status"] == "COMPLETED"
    assert item["assetType"] == "image"
    assert item["resultUrl"] is None
    assert item["metadata"] == {}
    assert item["createdAt"] == "2025-03-03T06:00:00Z"
    assert item["createdAt"] < item["updatedAt"] < "2025-03-03T12"
    assert item == wire.sandbox.work_item(0)


def test_first_page_meta_and_default_limit(wire):
    page = wire.work_items().json
    assert len(page["items"]) == 20
    assert page["total"] == 50
    meta = page["meta"]
    assert meta.pop("cursorNext")
    assert meta == {"object": "work_item", "limit": 20, "page": None, "cursorPrev": None}


def test_created_at_grows_by_seven_seconds(wire):
    created = [item["createdAt"] for item in wire.work_items(limit=3).json["items"]]
    assert created == ["2025-03-03T06:00:00Z", "2025-03-03T06:00:07Z", "2025-03-03T06:00:14Z"]


@pytest.mark.parametrize(("style", "other"), [("camel", "snake"), ("snake", "camel")])
def test_paging(make_wire, style, other):
    names = {"camel": ("cursorNext", "cursorPrev"), "snake": ("cursor_next", "cursor_prev")}
    wire = make_wire(45, cursor_style=style)
    following, previous = names[style]
    forth = list(wire.pages(wire.work_items, limit=10))
    assert [len(page["items"]) for page in forth] == [10, 10, 10, 10, 5]
    assert [item["id"] for page in forth for item in page["items"]] == list(wire.sandbox.work_item_ids())
    assert [page["meta"]["page"] for page in forth] == [None, "NEXT", "NEXT", "NEXT", "NEXT"]
    assert forth[-1]["meta"][following] is None
    assert not set(names[other]) & set(forth[0]["meta"])

    assert all(page["meta"][previous] is None for page in forth)
    # Nobody pages backwards, so the sandbox does not either.
    back = wire.work_items(limit=10, cursor=forth[0]["meta"][following], page="PREV")
    assert (back.status, back.json["message"]) == (400, "this sandbox does not support paging backwards")


def test_cursor_without_page_means_next(wire):
    cursor = wire.work_items(limit=10).json["meta"]["cursorNext"]
    with_page, without = (
        wire.work_items(limit=10, cursor=cursor, page="NEXT"),
        wire.work_items(limit=10, cursor=cursor),
    )
    assert with_page.body == without.body


def test_some_cursors_need_escaping(make_wire):
    wire = make_wire(300)
    cursors = [page["meta"]["cursorNext"] or "" for page in wire.pages(wire.work_items, limit=10)]
    assert any("+" in cursor for cursor in cursors)
    assert any("/" in cursor for cursor in cursors)
    assert cursors[0].endswith("=")


def test_page_size_default(make_wire):
    page = make_wire(10, page_size_default=4).work_items().json
    assert len(page["items"]) == page["meta"]["limit"] == 4


def test_without_total(make_wire):
    assert "total" not in make_wire(5, with_total=False).work_items().json


def test_overlap_repeats_the_boundary(make_wire):
    wire = make_wire(20, overlap=2)
    pages = [[item["id"] for item in page["items"]] for page in wire.pages(wire.work_items, limit=8)]
    ids = list(wire.sandbox.work_item_ids())
    assert pages == [ids[0:8], ids[6:14], ids[12:20]]


def test_overlap_never_stops_progress(make_wire):
    wire = make_wire(5, overlap=9, batches=4)
    assert wire.ids(limit=1) == list(wire.sandbox.work_item_ids())
    assert set(wire.ids(limit=3)) == set(wire.sandbox.work_item_ids())
    numbers = [batch["id"] for page in wire.pages(wire.batches, limit=2) for batch in page["items"]]
    assert numbers == [1001, 1002, 1002, 1003, 1003, 1004]


def test_empty_project(make_wire):
    wire = make_wire(0, batches=0)
    for listing, kind in ((wire.work_items, "work_item"), (wire.batches, "batch")):
        page = listing().json
        assert page["items"] == []
        assert page["meta"] == {
            "object": kind,
            "limit": 20,
            "page": None,
            "cursorNext": None,
            "cursorPrev": None,
        }


@pytest.mark.parametrize("listing", ["work_items", "batches"])
@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"limit": ""},
        {"limit": "-1"},
        {"page": "next"},
        {"cursor": "x"},
        {"cursor": ""},
        {"cursor": "AAAAAAAAAAAAAAAAAAAAAA=="},
    ],
)
def test_bad_paging_is_refused(wire, listing, query):
    answer = getattr(wire, listing)(**query)
    assert answer.status == 400
    assert set(answer.json) == {"code", "message"}
    assert answer.json["code"] == "bad_request"


def test_cursor_of_another_listing_is_refused(wire):
    cursor = wire.batches(limit=1).json["meta"]["cursorNext"]
    assert wire.batches(cursor=cursor).status == 200
    assert wire.work_items(cursor=cursor).status == 400


@pytest.mark.parametrize(
    "query",
    [
        {"batchIds": list(range(101))},
        {"batchIds": "1001,1002"},
        {"workItemIDs": ["c2fe4a5d-ae6e-4005-8845-d10c59218302"] * 101},
        {"workItemIDs": "item_1"},
        {"createdAtFrom": "2025-03-03"},
        {"createdAtTo": "2025-03-03T06:00:00"},
        {"updatedAtFrom": "yesterday"},
        {"updatedAtTo": "2025-13-03T06:00:00Z"},
        {"updatedAtTo": "2025-03-03T06:00:00 05:45"},
    ],
)
def test_bad_filters_are_refused(wire, query):
    assert wire.work_items(**query).status == 400


def test_filter_by_batch(wire):
    ids = list(wire.sandbox.work_item_ids())
    assert wire.ids(batchIds=1002) == ids[10:20]
    assert wire.ids(batchIds=[1005, 1001, 1001, 9], limit=7) == ids[:10] + ids[40:]
    assert wire.work_items(batchIds=[1005, 1001]).json["total"] == 20
    assert wire.work_items(batchIds=77).json["total"] == 0


def test_filter_by_id(wire):
    ids = list(wire.sandbox.work_item_ids())
    unknown = "c2fe4a5d-ae6e-4005-8845-d10c59218302"
    assert wire.ids(workItemIDs=[ids[30], unknown, ids[3].upper(), ids[30]]) == [ids[3], ids[30]]
    assert wire.ids(workItemIDs=unknown) == []
    assert wire.ids(workItemIDs=[ids[3], ids[30]], batchIds=1001) == [ids[3]]


def test_filter_by_creation(wire):
    ids = list(wire.sandbox.work_item_ids())
    assert wire.ids(createdAtFrom="2025-03-03T06:00:07Z", createdAtTo="2025-03-03T06:00:21Z") == ids[1:4]
    assert wire.ids(createdAtTo="2025-03-03T11:45:07+05:45") == ids[:2]
    assert wire.ids(createdAtFrom="2025-03-03T06:00:07.000001Z", createdAtTo="2025-03-03T06:00:20.999Z") == ids[2:3]
    assert wire.ids(createdAtFrom="2031-01-01T00:00:00Z") == []
    assert wire.ids(createdAtTo="1999-01-01T00:00:00-08:00") == []


def test_filters_agree_with_a_plain_search(make_wire):
    wire = make_wire(3000, in_review=0.3, batches=7, unbatched=100)
    everything = [item for page in wire.pages(wire.work_items, limit=100) for item in page["items"]]
    bounds = sorted(item["updatedAt"] for item in everything)
    since, until = bounds[900], bounds[2200]
    for status in ("COMPLETED", "CLIENT_REVIEW"):
        query = {
            "status": status,
            "updatedAtFrom": since,
            "updatedAtTo": until,
            "batchIds": [1002, 1003, 1006],
        }
        expected = [
            item["id"]
            for item in everything
            if item["status"] == status and since <= item["updatedAt"] <= until and item["batchId"] in query["batchIds"]
        ]
        assert expected
        assert wire.ids(**query) == expected
        assert wire.work_items(**query).json["total"] == len(expected)


def test_in_review(make_wire):
    wire = make_wire(1000, in_review=0.25)
    waiting = wire.ids(status="CLIENT_REVIEW")
    assert len(waiting) == wire.work_items(status="CLIENT_REVIEW").json["total"] == 250
    assert wire.work_items(status="COMPLETED").json["total"] == 750
    assert wire.work_items(status="SOMETHING_ELSE").json["items"] == []
    assert wire.annotation(waiting[0]).status == 404


@pytest.mark.parametrize(("fraction", "waiting"), [(0.0, 0), (1.0, 40)])
def test_all_or_none_in_review(make_wire, fraction, waiting):
    wire = make_wire(40, in_review=fraction)
    assert len(wire.ids(status="CLIENT_REVIEW")) == waiting
    assert len(wire.ids(status="COMPLETED")) == 40 - waiting
    assert sum(batch["completedCount"] for batch in wire.batches().json["items"]) == 40 - waiting


def test_batch_fields(wire):
    answer = wire.batches(limit=2)
    first, second = answer.json["items"]
    assert UUID4.fullmatch(first.pop("createdBy"))
    assert first == {
        "id": 1001,
        "projectId": wire.sandbox.project_id,
        "name": "Street scenes",
        "createdAt": "2025-03-03T06:00:00Z",
        "metadata": {},
        "priority": 0,
        "totalCount": 10,
        "completedCount": 10,
    }
    assert second["name"] == "Café façades"
    assert "total" not in answer.json


def test_batches_are_contiguous_and_names_unique(make_wire):
    wire = make_wire(103, batches=30, unbatched=3)
    batches = [batch for page in wire.pages(wire.batches) for batch in page["items"]]
    assert [batch["id"] for batch in batches] == list(range(1001, 1031))
    assert len({batch["name"].casefold() for batch in batches}) == 30
    assert batches[29]["name"] == "Batch 0030"
    items = [item for page in wire.pages(wire.work_items) for item in page["items"]]
    numbers = [item["batchId"] for item in items]
    assert numbers[-3:] == [None] * 3
    assert numbers[:-3] == sorted(numbers[:-3])
    assert [numbers.count(batch["id"]) for batch in batches] == [batch["totalCount"] for batch in batches]


def test_more_batches_than_items(make_wire):
    wire = make_wire(2, batches=5)
    assert [batch["totalCount"] for batch in wire.batches().json["items"]] == [0, 0, 1, 0, 1]


def test_batch_names(make_wire):
    names = ["a/b", "..", "CON"]
    assert [batch["name"] for batch in make_wire(6, batch_names=names).batches().json["items"]] == names
    more = [batch["name"] for batch in make_wire(6, batches=4, batch_names=names).batches().json["items"]]
    assert more == [*names, "Zürich trams"][:3] + ["Night drive"]


def test_a_million_items(make_wire):
    begin = time.perf_counter()
    wire = make_wire(1_000_000, batches=100, in_review=0.001)
    first = wire.work_items(limit=100, status="CLIENT_REVIEW")
    assert time.perf_counter() - begin < 1
    assert first.json["total"] == 1000

    begin = time.perf_counter()
    middle = wire.work_items(limit=100, status="COMPLETED", batchIds=[1050, 1051], createdAtFrom="2025-04-12T12:00:00Z")
    assert len(middle.json["items"]) == 100
    newest = wire.work_items(limit=100, updatedAtFrom="2025-05-22T00:00:00Z")
    assert newest.json["total"] > 10_000
    assert wire.sandbox.document(999_999)
    assert time.perf_counter() - begin < 0.5
