"""Streaming parsed documents: order, concurrency, prefetching and cancelling."""

from __future__ import annotations

import json
import time

import pytest

from cfplatform import ConfigurationError, DownloadError, InvalidParameterError, NotFoundError, UnsafePathError


def test_documents_come_in_listing_order_and_hold_what_is_stored(make_sandbox):
    sandbox = make_sandbox(items=230, batches=3)
    with sandbox.client(max_workers=8) as client:
        pairs = [(item.id, item.asset_url, document) for item, document in client.iter_annotations()]
    assert [item_id for item_id, _, _ in pairs] == list(sandbox.work_item_ids())
    for item_id, asset_url, document in pairs[:10]:
        assert document["info"].pop("asset_url") == asset_url
        assert document == json.loads(sandbox.document(item_id))
    counts = sandbox.counts
    assert (counts["work_items"], counts["annotations"], counts["storage"]) == (3, 230, 230)
    assert counts["signing"] <= 3 + 8
    assert counts["batches"] == 0


def test_unordered_yields_the_same_documents(make_sandbox):
    sandbox = make_sandbox(items=120, batches=2)
    with sandbox.client(max_workers=8) as client:
        ids = [item.id for item, _ in client.iter_annotations(ordered=False)]
    assert sorted(ids) == sorted(sandbox.work_item_ids())


def test_order_is_kept_when_the_first_document_is_the_slowest(sandbox, client):
    first = next(sandbox.work_item_ids())
    sandbox.fail_next(503, times=3, path=f"*{first}*")
    ids = [item.id for item, _ in client.iter_annotations()]
    assert ids == list(sandbox.work_item_ids())


def test_prefetch_bytes_is_bounded_and_closing_cancels(make_sandbox):
    sandbox = make_sandbox(items=5000, batches=2)
    with sandbox.client(max_workers=4) as client:
        stream = client.iter_annotations()
        next(stream)
        time.sleep(0.5)
        held = sandbox.counts
        # Documents wait for the reader: at most two a worker; annotations at most a window.
        assert held["storage"] <= 1 + 2 * 4
        assert held["annotations"] <= 2 * 100 + 4 * 4 + 1
        assert held["work_items"] <= 4
        stream.close()
        time.sleep(0.1)
        closed = sandbox.counts
        time.sleep(0.3)
        assert sandbox.counts == closed


def test_first_document_needs_few_round_trips(make_sandbox):
    sandbox = make_sandbox(items=1000, batches=2, latency=0.1)
    with sandbox.client() as client:
        began = time.monotonic()
        next(client.iter_annotations())
        assert time.monotonic() - began < 6 * 0.1 + 0.4


@pytest.mark.parametrize("workers", [1, 3])
def test_signing_hardly_counts_however_few_the_workers(make_sandbox, workers):
    sandbox = make_sandbox(items=250, batches=2)
    with sandbox.client(max_workers=workers) as client:
        assert sum(1 for _ in client.iter_annotations()) == 250
    assert sandbox.counts["signing"] <= 3 + workers


def test_max_in_flight_is_the_number_of_workers(make_sandbox):
    sandbox = make_sandbox(items=200, batches=2, latency=0.01)
    with sandbox.client(max_workers=5) as client:
        assert sum(1 for _ in client.iter_annotations()) == 200
    # In addition to the workers: one signing request and one page.
    assert 5 <= sandbox.max_in_flight <= 5 + 2


def test_an_error_is_raised_at_its_place_or_handed_to_on_error(sandbox, client):
    broken = list(sandbox.work_item_ids())[5]
    sandbox.set_annotation(broken, None)
    stream = client.iter_annotations()
    assert len([next(stream) for _ in range(5)]) == 5
    with pytest.raises(DownloadError, match="has no COCO document"):
        next(stream)
    failed = []
    pairs = list(client.iter_annotations(on_error=lambda item, error: failed.append((item.id, error))))
    assert len(pairs) == 19
    assert [item_id for item_id, _ in failed] == [broken]


def test_load_of_one_item_and_items_at_hand(sandbox, client):
    items = list(client.get_work_items(limit=3))
    assert items[0].load()["info"]["asset_url"] == items[0].asset_url
    sandbox.clear_requests()
    assert [item for item, _ in client.iter_annotations(items=items)] == items
    assert sandbox.counts["work_items"] == 0
    assert sandbox.counts["signing"] <= 2


def test_arguments_are_checked_at_the_call(client):
    items = list(client.get_work_items(limit=1))
    with pytest.raises(InvalidParameterError, match="either items"):
        client.iter_annotations(items=items, status="COMPLETED")
    with pytest.raises(TypeError, match="Did you mean 'batch_ids'"):
        client.iter_annotations(batchids=[1])
    with pytest.raises(ConfigurationError, match="from 1 to 256, not 257"):
        client.iter_annotations(max_workers=257)
    with pytest.raises(InvalidParameterError, match="iterable of WorkItem"):
        client.iter_annotations(items=items[0])


def test_space_is_found_and_a_wrong_one_is_named(sandbox):
    with sandbox.client() as client:
        wrong = client.iter_annotations(space_id="11111111-1111-4111-8111-111111111111")
        with pytest.raises(DownloadError) as caught:
            next(wrong)
    assert sandbox.space_id in str(caught.value)
    assert "11111111-1111-4111-8111-111111111111" in str(caught.value)
    assert sandbox.counts["signing"] == 0


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("s3://bucket/spaces/{space}/../other/f.json", UnsafePathError, "outside its space"),
        ("https://elsewhere.invalid/f.json", DownloadError, "https://"),
        ("s3://bucket/f.json", DownloadError, "has no space ID"),
        ("s3://spaces/spaces/{space}/nowhere/f.json", NotFoundError, "404"),
    ],
)
def test_odd_places_fail_that_item_only(sandbox, client, place, error, words):
    sandbox.set_annotation(0, {"coco_results_url": place.format(space=sandbox.space_id)})
    failed = []
    pairs = list(client.iter_annotations(on_error=lambda item, problem: failed.append(problem)))
    assert len(pairs) == 19
    assert isinstance(failed[0], error)
    assert words in str(failed[0])


# --- How many at a time


def test_all_workers_are_used_where_there_is_latency(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, batches=2, latency=0.1)
    with sandbox.client(max_workers=16) as client:
        client.download_project(destination=tmp_path / "labels")
    assert 16 <= sandbox.max_in_flight <= 16 + 2


def test_a_few_refusals_take_no_worker_away(make_sandbox):
    sandbox = make_sandbox(items=200, batches=2, latency=0.1)
    with sandbox.client(max_workers=16) as client:
        sandbox.fail_next(503, times=3, path="/storage/*")
        began = time.monotonic()
        assert sum(1 for _ in client.iter_annotations()) == 200
        calm = 2 * 200 / 16 * 0.1
        assert time.monotonic() - began < 2 * calm
    assert sandbox.max_in_flight >= 16
