"""Batches and work items that clients create."""

from __future__ import annotations

import http.client
import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from PIL import Image

from .test_uploads import upload

UNKNOWN = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


def create_batch(wire, body):
    return wire.api("POST", f"/projects/{wire.sandbox.project_id}/batches", body)


def update_batch(wire, batch_id, body):
    return wire.api("PATCH", f"/projects/{wire.sandbox.project_id}/batches/{batch_id}", body)


def create_item(wire, **body):
    return wire.api("POST", f"/projects/{wire.sandbox.project_id}/workItems", body)


def moment(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def just_now(text):
    return abs(datetime.now(timezone.utc) - moment(text)) < timedelta(minutes=1)


def test_create_batch(wire):
    answer = create_batch(wire, {"name": "Été / 北京"})
    assert answer.status == 201
    batch = answer.json
    assert list(batch) == ["id", "projectId", "name", "createdBy", "createdAt", "metadata", "priority"]
    assert (batch["id"], batch["name"], batch["projectId"]) == (1006, "Été / 北京", wire.sandbox.project_id)
    assert just_now(batch["createdAt"])
    listed = wire.batches(limit=100).json["items"]
    assert [entry["id"] for entry in listed] == [1001, 1002, 1003, 1004, 1005, 1006]
    assert listed[-1] == {**batch, "totalCount": 0, "completedCount": 0}
    assert [page["items"][0]["id"] for page in wire.pages(wire.batches, limit=2)] == [1001, 1003, 1005]
    request = wire.sandbox.requests[0]
    assert (request.method, request.route, json.loads(request.body)) == ("POST", "batches", {"name": "Été / 北京"})


def test_update_batch(wire):
    batch_id = create_batch(wire, {"name": "first"}).json["id"]
    for batch in (batch_id, 1002):
        answer = update_batch(wire, batch, {"name": f"renamed {batch}"})
        assert (answer.status, answer.json["name"], answer.json["id"]) == (200, f"renamed {batch}", batch)
    assert update_batch(wire, 1002, {"name": "renamed 1002"}).status == 200
    names = [batch["name"] for batch in wire.batches().json["items"]]
    assert (names[1], names[5]) == ("renamed 1002", f"renamed {batch_id}")
    assert create_batch(wire, {"name": "first"}).status == 201


def test_names_are_unique(wire):
    taken = wire.batches().json["items"][3]["name"]
    answer = create_batch(wire, {"name": taken})
    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert repr(taken) in answer.json["message"]
    assert update_batch(wire, 1001, {"name": taken}).status == 409
    update_batch(wire, 1004, {"name": "free again"})
    assert create_batch(wire, {"name": taken}).status == 201


@pytest.mark.parametrize("body", [None, b"{", [], {}, {"name": ""}, {"name": "  "}, {"name": 5}, {"name": None}])
def test_bad_names(wire, body):
    for answer in (create_batch(wire, body), update_batch(wire, 1001, body)):
        assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_unknown_batches_and_projects(wire):
    for batch_id in ("1000", "1006", "x", "-1"):
        assert update_batch(wire, batch_id, {"name": "x"}).status == 404
    for path in ("batches", "workItems"):
        assert wire.api("POST", f"/projects/{UNKNOWN}/{path}", {"name": "x", "assetUrl": "y"}).status == 404
    assert wire.api("PATCH", f"/projects/{UNKNOWN}/batches/1001", {"name": "x"}).status == 404


def test_create_item(wire):
    ids = wire.ids()
    answer = create_item(wire, assetUrl="assets/x", batchId=1002, metadata={"callbackUrl": "http://127.0.0.1:1/"})
    assert answer.status == 201
    item = answer.json
    assert list(item) == list(wire.work_items(limit=1).json["items"][0])
    assert item["id"] not in ids
    assert (item["status"], item["batchId"], item["assetUrl"]) == ("NEW", 1002, "assets/x")
    assert (item["assetType"], item["projectId"]) == ("image", wire.sandbox.project_id)
    assert item["metadata"] == {"callbackUrl": "http://127.0.0.1:1/"}
    assert item["createdAt"] == item["updatedAt"]
    assert just_now(item["createdAt"])
    assert wire.ids() == [*ids, item["id"]]
    assert wire.sandbox.work_item(50) == wire.sandbox.work_item(item["id"]) == item
    assert list(wire.sandbox.work_item_ids(49)) == [ids[-1], item["id"]]
    assert wire.annotation(item["id"]).status == 404
    assert wire.sandbox.requests[0].route == wire.sandbox.requests[1].route == "work_items"


def test_filters_find_created_items(make_wire):
    wire = make_wire(30, batches=3, in_review=0.5)
    batch_id = create_batch(wire, {"name": "own"}).json["id"]
    created = []
    for number in range(9):
        batch = {"batchId": [1002, batch_id][number % 2]} if number < 8 else {}
        created.append(create_item(wire, assetUrl=f"assets/{number}", **batch).json)
    ids = [item["id"] for item in created]
    assert wire.ids(status="NEW") == wire.ids(status="NEW", limit=2) == ids
    assert wire.ids(batchIds=[batch_id]) == ids[1:8:2]
    assert wire.ids(batchIds=[1002])[10:] == ids[:8:2]
    assert wire.ids(workItemIDs=[ids[4], wire.ids()[3], ids[0]]) == [wire.ids()[3], ids[0], ids[4]]
    assert wire.ids(workItemIDs=ids, batchIds=[1001]) == []
    assert wire.ids(createdAtFrom=created[3]["createdAt"]) == ids[3:]
    assert wire.ids(createdAtFrom="2025-12-31T00:00:00Z", createdAtTo=created[3]["createdAt"]) == ids[:4]
    assert wire.ids(updatedAtFrom=created[5]["updatedAt"]) == ids[5:]
    assert wire.work_items(status="NEW").json["total"] == 9
    assert wire.work_items().json["total"] == 39
    counts = [(batch["totalCount"], batch["completedCount"]) for batch in wire.batches().json["items"]]
    assert counts == [(10, 5), (14, 5), (10, 5), (4, 0)]
    wire.sandbox.set_status(ids[1], "COMPLETED")
    assert wire.ids(batchIds=[batch_id], status="COMPLETED") == [ids[1]]
    assert [(batch["totalCount"], batch["completedCount"]) for batch in wire.batches().json["items"]][3] == (4, 1)
    wire.sandbox.delete_work_item(ids[1])
    assert wire.ids(batchIds=[batch_id]) == ids[3:8:2]
    last = wire.work_items(limit=10).json["meta"]["cursorNext"]
    pages = list(wire.pages(wire.work_items, limit=10))
    assert len({item["id"] for page in pages for item in page["items"]}) == 38
    assert last != pages[1]["meta"]["cursorNext"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"assetUrl": ""}, 400),
        ({"assetUrl": " "}, 400),
        ({"assetUrl": 5}, 400),
        ({"assetUrl": "x", "assetType": 5}, 400),
        ({"assetUrl": "x", "batchId": "1001"}, 400),
        ({"assetUrl": "x", "batchId": True}, 400),
        ({"assetUrl": "x", "batchId": 7}, 404),
        ({"assetUrl": "x", "metadata": []}, 400),
    ],
)
def test_bad_items(wire, body, status):
    answer = create_item(wire, **body)
    assert answer.status == status
    assert answer.json["message"]
    assert wire.work_items().json["total"] == 50


def test_a_completed_item_has_a_document(wire):
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")
    path = upload(wire, picture.getvalue(), Content_Type="image/png")
    item = create_item(wire, assetUrl=path).json
    wire.sandbox.set_status(item["id"], "COMPLETED")
    after = wire.sandbox.work_item(item["id"])
    assert moment(after["updatedAt"]) > moment(item["updatedAt"])
    assert just_now(after["updatedAt"])
    annotation = wire.annotation(item["id"]).json
    assert annotation["workItemID"] == item["id"]
    place = annotation["metadata"]["coco_results_url"].partition(f"/spaces/{wire.sandbox.space_id}/")[2]
    document = wire.send("GET", wire.sign(place)[0]).json
    (image,) = document["images"]
    assert (image["width"], image["height"], image["file_name"]) == (64, 48, path.rpartition("/")[2])
    assert document["annotations"] == []
    assert {"info", "licenses", "categories"} < document.keys()
    assert wire.sandbox.asset(item["id"]) == picture.getvalue()
    assert wire.send("GET", wire.sign(path)[0]).body == picture.getvalue()


@pytest.mark.parametrize(("content_type", "asset_type"), [("video/mp4", "video"), ("image/png", "image")])
def test_asset_type_follows_the_upload(wire, content_type, asset_type):
    path = upload(wire, b"no picture", Content_Type=content_type)
    item = create_item(wire, assetUrl=path).json
    assert item["assetType"] == asset_type
    assert create_item(wire, assetUrl=path, assetType="audio").json["assetType"] == "audio"
    wire.sandbox.set_status(item["id"], "COMPLETED")
    assert json.loads(wire.sandbox.document(item["id"]))["images"][0]["width"] == 320


def test_an_asset_elsewhere_is_not_in_the_storage(wire):
    item = create_item(wire, assetUrl="https://example.com/a.jpg").json
    wire.sandbox.set_status(item["id"], "COMPLETED")
    assert json.loads(wire.sandbox.document(item["id"]))["images"][0]["file_name"] == "a.jpg"
    with pytest.raises(LookupError, match="not in the storage"):
        wire.sandbox.asset(item["id"])


def test_created_things_change_like_others(wire):
    item = create_item(wire, assetUrl="assets/x").json
    wire.sandbox.update_work_item(item["id"], status="COMPLETED", document=b"{}")
    wire.sandbox.patch_work_item_json(item["id"], {"extra": 1})
    assert wire.sandbox.work_item(50)["extra"] == 1
    assert wire.sandbox.document(50) == b"{}"
    wire.sandbox.update_work_item(0)
    times = [wire.sandbox.work_item(index)["updatedAt"] for index in (50, 0)]
    assert moment(times[0]) < moment(times[1])
    assert just_now(times[1])
    wire.sandbox.rename_batch(1001, "x")
    assert "51 items" in repr(wire.sandbox)
    assert wire.control("GET", "").json["items"] == 51


def test_reset_forgets_what_was_created(wire):
    ids = []
    for _ in range(2):
        ids.append(create_item(wire, assetUrl="assets/x").json["id"])
        batch = create_batch(wire, {"name": "own"}).json
        assert batch["id"] == 1006
        wire.sandbox.set_status(ids[-1], "COMPLETED")
        assert json.loads(wire.sandbox.document(50))["images"]
        wire.sandbox.reset()
        assert len(wire.ids()) == 50
        assert len(wire.batches().json["items"]) == 5
        with pytest.raises(LookupError):
            wire.sandbox.work_item(50)
    assert ids[0] == ids[1]


def test_faults_hit_creation(wire):
    wire.sandbox.fail_next(503, method="POST", path="*/batches")
    assert create_batch(wire, {"name": "x"}).status == 503
    wire.sandbox.html_next(method="POST", path="*/workItems")
    assert create_item(wire, assetUrl="x").body.startswith(b"<!DOCTYPE")
    assert (len(wire.batches().json["items"]), wire.work_items().json["total"]) == (5, 50)
    # The answer is lost, but not what was done.
    wire.sandbox.truncate_next(method="POST", path="*/workItems")
    with pytest.raises(http.client.IncompleteRead):
        create_item(wire, assetUrl="x")
    assert wire.work_items().json["total"] == 51
