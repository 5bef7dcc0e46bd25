"""Listing against the sandbox: items yielded, and number of requests."""

from __future__ import annotations

import copy
import pickle
import tracemalloc
import uuid
from datetime import timedelta

import pytest

from cfplatform import (
    BadRequestError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
    WorkItemStatus,
)


def listings(sandbox):
    return [request for request in sandbox.requests if request.path.endswith("/workItems")]


def test_every_item_is_yielded_once_in_order(make_sandbox):
    sandbox = make_sandbox(items=250, batches=3)
    with sandbox.client() as client:
        ids = [item.id for item in client.get_work_items()]
    assert ids == list(sandbox.work_item_ids())
    assert sandbox.counts["work_items"] == 3


def test_first_item_comes_after_exactly_one_request(make_sandbox):
    sandbox = make_sandbox(items=100_000, batches=5)
    with sandbox.client() as client:
        items = client.get_work_items()
        assert sandbox.counts["work_items"] == 0
        next(items)
        assert sandbox.counts["work_items"] == 1


@pytest.mark.parametrize("style", ["camel", "snake"])
def test_both_cursor_spellings_and_overlapping_pages(make_sandbox, style):
    sandbox = make_sandbox(items=95, batches=2, cursor_style=style, overlap=3)
    with sandbox.client() as client:
        ids = [item.id for item in client.get_work_items(page_size=20)]
    assert ids == list(sandbox.work_item_ids())


def test_limit_asks_for_no_more_than_it_yields(sandbox, client):
    assert len(list(client.get_work_items(limit=7))) == 7
    assert dict(listings(sandbox)[0].query)["limit"] == "7"
    sandbox.clear_requests()
    assert list(client.get_work_items(limit=0)) == []
    assert sandbox.counts["work_items"] == 0


def test_more_than_100_ids_are_split_without_duplicates(make_sandbox):
    sandbox = make_sandbox(items=400, batches=4)
    wanted = list(sandbox.work_item_ids(0, 250))
    with sandbox.client() as client:
        found = [item.id for item in client.get_work_items(work_item_ids=[*wanted, *wanted[:30]])]
    assert found == wanted
    sizes = [sum(name == "workItemIDs" for name, _ in request.query) for request in listings(sandbox)]
    assert max(sizes) <= 100
    assert sum(sizes) == 250


def test_ids_may_be_a_generator_of_uuids(sandbox, client):
    wanted = list(sandbox.work_item_ids(0, 3))
    found = client.get_work_items(work_item_ids=(uuid.UUID(text) for text in wanted))
    assert [item.id for item in found] == wanted


def test_an_empty_list_of_ids_selects_nothing_and_sends_nothing(sandbox, client, tmp_path):
    assert list(client.get_work_items(work_item_ids=[])) == []
    assert list(client.get_work_items(batch_ids=[])) == []
    assert client.get_work_items_count(batch_ids=[]) == 0
    assert list(client.iter_annotations(work_item_ids=[])) == []
    assert client.download_project(destination=tmp_path / "none", batch_ids=[]).total_items == 0
    assert sandbox.requests == []


def test_filters_reach_the_platform_and_combine(make_sandbox):
    sandbox = make_sandbox(items=60, batches=3, in_review=0.5)
    with sandbox.client() as client:
        everything = list(client.get_work_items())
        first, last = everything[10].created_at, everything[30].created_at
        found = list(
            client.get_work_items(
                batch_ids=[1001, 1002],
                status=WorkItemStatus.COMPLETED,
                created_at_from=first,
                created_at_to=last.isoformat(),
            )
        )
    expected = [
        item
        for item in everything
        if item.batch_id in (1001, 1002) and item.status == "COMPLETED" and first <= item.created_at <= last
    ]
    assert found == expected
    assert 0 < len(found) < 21
    sent = dict(listings(sandbox)[-1].query)
    assert sent["status"] == "COMPLETED"
    assert sent["createdAtFrom"] == first.isoformat()


def test_updated_at_filters_find_what_changed(sandbox, client):
    latest = max(item.updated_at for item in client.get_work_items())
    sandbox.update_work_item(4)
    changed = list(client.get_work_items(updated_at_from=latest + timedelta(microseconds=1)))
    assert [item.id for item in changed] == list(sandbox.work_item_ids(4, 5))


@pytest.mark.parametrize("with_total", [True, False])
def test_count_with_and_without_a_total_from_the_server(make_sandbox, with_total):
    sandbox = make_sandbox(items=230, batches=2, with_total=with_total)
    with sandbox.client() as client:
        assert client.get_work_items_count() == 230
        assert client.get_work_items_count(batch_ids=[1002]) == 115
    assert sandbox.counts["work_items"] == (2 if with_total else 2 + 3 + 2)


def test_one_work_item_is_found_by_a_confirmed_call(sandbox, client):
    wanted = next(sandbox.work_item_ids(7))
    assert client.get_work_item(wanted).id == wanted
    assert dict(listings(sandbox)[0].query)["workItemIDs"] == wanted
    with pytest.raises(NotFoundError, match="no work item"):
        client.get_work_item(str(uuid.uuid4()))


def test_batches_by_listing_id_and_name(make_sandbox):
    sandbox = make_sandbox(items=500, batches=150)
    with sandbox.client() as client:
        batches = list(client.get_batches())
        assert len({batch.id for batch in batches}) == 150
        assert sum(batch.total_count for batch in batches) == 500
        last = batches[-1]
        assert client.get_batch(last.id) == last
        assert client.get_batch(name=last.name) == last
        with pytest.raises(NotFoundError, match="named 'nobody'"):
            client.get_batch(name="nobody")
        with pytest.raises(InvalidParameterError, match="Pass exactly one of batch_id and name"):
            client.get_batch()
        assert len(list(client.get_batches(limit=5))) == 5


def test_annotation_names_the_document(sandbox, client):
    item = next(client.get_work_items())
    annotation = item.get_annotation()
    assert annotation == client.get_annotation(item.id)
    assert annotation.work_item_id == item.id
    assert annotation.project_id == sandbox.project_id
    assert f"/spaces/{sandbox.space_id}/" in annotation.coco_results_url


def test_no_annotation_is_a_not_found_error(make_sandbox):
    sandbox = make_sandbox(items=4, batches=1, in_review=1.0)
    with sandbox.client() as client:
        item = next(client.get_work_items())
        with pytest.raises(NotFoundError) as caught:
            item.get_annotation()
    assert caught.value.status_code == 404
    assert caught.value.request_id
    assert "/annotations" in caught.value.url


def test_resources_keep_every_field_and_survive_copying(sandbox, client):
    sandbox.patch_work_item_json(0, {"somethingNew": {"deep": [1, 2]}})
    item = next(client.get_work_items())
    data = item.as_dict()
    assert data["somethingNew"] == {"deep": [1, 2]}
    data["somethingNew"]["deep"].append(3)
    assert item.as_dict()["somethingNew"] == {"deep": [1, 2]}
    assert copy.copy(item) == copy.deepcopy(item) == pickle.loads(pickle.dumps(item)) == item  # noqa: S301 - our own bytes
    assert copy.copy(item).refresh().id == item.id
    assert item.project_id == sandbox.project_id


def test_odd_and_missing_fields_never_lose_a_page(sandbox, client):
    sandbox.patch_work_item_json(
        0,
        {"batchId": "1001", "status": None, "assetUrl": 5, "createdAt": "yesterday", "metadata": [], "resultUrl": {}},
        remove=["updatedAt", "projectId", "assetType"],
    )
    sandbox.patch_work_item_json(1, {"status": "SOMETHING_NEW", "batchId": None})
    items = list(client.get_work_items())
    assert len(items) == 20
    odd, new = items[:2]
    assert odd.batch_id == 1001
    assert (odd.status, odd.asset_url, odd.created_at, odd.updated_at, odd.result_url) == (None,) * 5
    assert odd.metadata == {}
    assert odd.project_id == sandbox.project_id
    assert new.status == "SOMETHING_NEW"
    assert new.batch_id is None


def test_refresh_and_batch_listing(sandbox, client):
    item = next(client.get_work_items())
    sandbox.update_work_item(item.id, status="CLIENT_REVIEW")
    assert item.status == "COMPLETED"
    assert item.refresh().status == "CLIENT_REVIEW"
    batch = client.get_batch(1002)
    assert {found.batch_id for found in batch.get_work_items()} == {1002}
    assert sum(1 for _ in batch.get_work_items()) == batch.total_count
    sandbox.rename_batch(1002, "Another name")
    assert batch.refresh().name == "Another name"


def test_a_listing_that_failed_is_continued_from_its_cursor(make_sandbox):
    sandbox = make_sandbox(items=300, batches=2)
    with sandbox.client(retries=0) as client:
        items = client.get_work_items()
        first = [next(items).id for _ in range(200)]
        sandbox.fail_next(500, path="*/workItems")
        with pytest.raises(ServerError) as caught:
            next(items)
        sandbox.clear_requests()
        rest = [item.id for item in client.get_work_items(cursor=caught.value.cursor)]
    assert first + rest == list(sandbox.work_item_ids())
    assert sandbox.counts["work_items"] == 1


def test_a_cursor_that_the_platform_refuses_is_told(client):
    with pytest.raises(BadRequestError, match="/workItems failed with status 400"):
        next(client.get_work_items(cursor="no such cursor"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"meta": {}}', "no list of items"),
        (b'{"items": [{"id": "a"}], "meta": {"cursorNext": "x"}}', "repeats an earlier cursor"),
        (b'{"items": [{"noid": 1}], "meta": {}}', "Item 0 on page 1"),
        (b'{"items": [', "not valid JSON"),
        (b"<html><title>Portal</title></html>", "not valid JSON"),
    ],
)
def test_pages_that_cannot_be_pages(sandbox, client, body, words):
    sandbox.replace_next(body, times=None, path="*/workItems")
    with pytest.raises(InvalidResponseError, match=words):
        list(client.get_work_items())
    assert sandbox.counts["work_items"] <= 3


def test_iterate_pages_and_request_are_the_low_level(sandbox, client):
    pages = list(client.iterate_pages(f"/projects/{sandbox.project_id}/workItems", {"limit": 8}))
    assert [len(page["items"]) for page in pages] == [8, 8, 4]
    response = client.request("GET", "/projects/nobody/batches", check=False)
    assert response.status_code == 404
    with pytest.raises(NotFoundError):
        client.request("GET", "/projects/nobody/batches")
    with pytest.raises(InvalidParameterError, match="path"):
        client.request("GET", "https://elsewhere.invalid/")


@pytest.mark.parametrize("count", [8_000, pytest.param(100_000, marks=pytest.mark.stress)])
def test_a_long_listing_does_not_grow_memory(make_sandbox, count):
    sandbox = make_sandbox(items=count, batches=5)
    with sandbox.client() as client:
        items = client.get_work_items()
        for _ in range(count // 4):
            next(items)
        tracemalloc.start(1)
        try:
            for _ in range(1_000):
                next(items)
            before, _ = tracemalloc.get_traced_memory()
            seen = sum(1 for _ in items)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert seen == count - count // 4 - 1_000
    # The server runs in this process too and logs each request; the listing itself keeps nothing.
    assert after - before < 1024 * 1024 + 90 * count
