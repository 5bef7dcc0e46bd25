"""Changing the project from Python, and the effect on listings, annotations and storage."""

from __future__ import annotations

import json
import threading

import pytest

from .conftest import Wire


def test_status_change(make_wire):
    wire = make_wire(10, batches=2, in_review=0.5)
    waiting = wire.ids(status="CLIENT_REVIEW")
    wire.sandbox.update_work_item(waiting[0], status="COMPLETED")
    assert wire.ids(status="CLIENT_REVIEW") == waiting[1:]
    assert waiting[0] in wire.ids(status="COMPLETED")
    assert wire.annotation(waiting[0]).status == 200
    assert sum(batch["completedCount"] for batch in wire.batches().json["items"]) == 6
    assert wire.work_items(status="COMPLETED").json["total"] == 6
    wire.sandbox.update_work_item(waiting[1], status="ON_HOLD")
    assert wire.ids(status="ON_HOLD") == [waiting[1]]


def test_every_touch_is_later_than_anything_before(wire):
    newest = max(item["updatedAt"] for item in wire.work_items(limit=100).json["items"])
    seen = [newest]
    for index in (40, 3, 3, 17):
        wire.sandbox.update_work_item(index)
        seen.append(wire.sandbox.work_item(index)["updatedAt"])
    assert seen == sorted(set(seen))
    ids = list(wire.sandbox.work_item_ids())
    assert wire.ids(updatedAtFrom=seen[2]) == [ids[3], ids[17]]
    assert wire.work_items(updatedAtFrom=seen[1]).json["total"] == 3
    assert len(wire.ids(updatedAtTo=newest)) == 47


def test_touch_makes_a_new_revision(wire):
    before = [json.loads(wire.sandbox.document(index)) for index in (1, 2)]
    wire.sandbox.update_work_item(1)
    wire.sandbox.update_work_item(2, touch=False, status="COMPLETED")
    after = [json.loads(wire.sandbox.document(index)) for index in (1, 2)]
    assert [document["info"]["version"] for document in before + after] == ["1", "1", "2", "1"]
    assert before[0]["annotations"] == after[0]["annotations"]
    assert before[1] == after[1]


def test_replaced_documents(wire):
    for content in (b"", b"not json", b"\xff\xfe{}\x00"):
        wire.sandbox.update_work_item(0, document=content)
        assert wire.send("GET", wire.sign_document(0)).body == wire.sandbox.document(0) == content


def test_delete(wire):
    ids = list(wire.sandbox.work_item_ids())
    wire.sandbox.delete_work_item(ids[12])
    assert wire.ids() == ids[:12] + ids[13:]
    assert wire.work_items().json["total"] == 49
    assert wire.batches().json["items"][1]["totalCount"] == 9
    assert wire.annotation(ids[12]).status == 404
    assert wire.ids(workItemIDs=ids[12]) == []
    with pytest.raises(LookupError):
        wire.sandbox.delete_work_item(ids[12])


def test_pages_hold_when_items_vanish(wire):
    ids = list(wire.sandbox.work_item_ids())
    cursor = wire.work_items(limit=10).json["meta"]["cursorNext"]
    for index in (9, 10, 20):
        wire.sandbox.delete_work_item(index)
    page = wire.work_items(limit=10, cursor=cursor, page="NEXT").json
    assert [item["id"] for item in page["items"]] == ids[11:20] + ids[21:22]
    for index in range(22, 50):
        wire.sandbox.delete_work_item(index)
    end = wire.work_items(limit=10, cursor=page["meta"]["cursorNext"], page="NEXT").json
    assert (end["items"], end["meta"]["cursorNext"]) == ([], None)


def test_changed_items_are_paged(wire):
    ids = list(wire.sandbox.work_item_ids())
    for index in range(0, 50, 2):
        wire.sandbox.update_work_item(index, status="CLIENT_REVIEW")
    first = wire.work_items(limit=20, status="CLIENT_REVIEW").json
    second = wire.work_items(limit=20, status="CLIENT_REVIEW", cursor=first["meta"]["cursorNext"], page="NEXT").json
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::2]
    assert wire.ids(status="COMPLETED", limit=7) == ids[1::2]


def test_rename_batch(wire):
    for name in ("a/b", "..", "", "Night drive"):
        wire.sandbox.rename_batch(1003, name)
        assert wire.batches().json["items"][2]["name"] == name
    for unknown in (1000, 1006):
        with pytest.raises(LookupError):
            wire.sandbox.rename_batch(unknown, "x")


def test_patched_json(wire):
    wire.sandbox.patch_work_item_json(0, {"status": None, "extra": {"é": [1]}}, remove=["assetUrl", "metadata"])
    wire.sandbox.patch_work_item_json(0, {"metadata": 5, "id": "other"})
    item = wire.work_items(status="COMPLETED").json["items"][0]
    assert (item["status"], item["extra"], item["metadata"], item["id"]) == (None, {"é": [1]}, 5, "other")
    assert "assetUrl" not in item
    wire.sandbox.update_work_item(0)
    assert wire.sandbox.work_item(0)["extra"] == {"é": [1]}


def test_annotation_metadata(wire):
    item_id = next(wire.sandbox.work_item_ids())
    for metadata in (None, {}, {"coco_results_url": "s3://elsewhere/x.json"}):
        wire.sandbox.set_annotation(item_id, metadata)
        assert wire.annotation(item_id).json["metadata"] == metadata


@pytest.mark.parametrize("item", ["nonsense", "c2fe4a5d-ae6e-4005-8845-d10c59218302", 50, -1])
def test_unknown_items(wire, item):
    for call in (
        wire.sandbox.update_work_item,
        wire.sandbox.delete_work_item,
        wire.sandbox.document,
        wire.sandbox.asset,
        wire.sandbox.work_item,
    ):
        with pytest.raises(LookupError, match="no work item"):
            call(item)


def test_changes_from_many_threads_while_serving(make_wire):
    wire = make_wire(400)

    def change(first):
        for index in range(first, 400, 4):
            wire.sandbox.update_work_item(index, status="CLIENT_REVIEW")

    def read():
        other = Wire(wire.sandbox)
        for _ in range(20):
            assert len(other.ids()) == 400
        other.connection.close()
        finished.append(True)

    finished = []
    threads = [threading.Thread(target=change, args=(first,)) for first in range(4)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert finished == [True, True]
    assert wire.work_items(status="CLIENT_REVIEW").json["total"] == 400
    assert len({wire.sandbox.work_item(index)["updatedAt"] for index in range(400)}) == 400
