"""Planned faults, limits and delays, and the log of requests."""

from __future__ import annotations

import http.client
import json
import threading
import time
from email.utils import parsedate_to_datetime

import pytest

from .conftest import Wire


def test_fail_next(wire):
    wire.sandbox.fail_next()
    answer = wire.batches()
    assert answer.status == 503
    assert answer.json == {"code": "unavailable", "message": "a planned fault"}
    assert wire.batches().status == 200


def test_fail_next_with_everything(wire):
    wire.sandbox.fail_next(429, times=2, path="*/batches", method="GET", headers={"Retry-After": 3}, body={"é": 1})
    assert wire.work_items().status == 200
    assert wire.api("POST", f"/projects/{wire.sandbox.project_id}/batches").status == 400
    for _ in range(2):
        answer = wire.batches()
        assert (answer.status, answer.headers["retry-after"]) == (429, "3")
        assert (answer.json, answer.headers["content-type"]) == ({"é": 1}, "application/json")
    assert wire.batches().status == 200


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ("nö", "text/plain; charset=utf-8", "nö".encode()),
        (b"", "application/octet-stream", b""),
        (["a"], "application/json", b'["a"]'),
    ],
)
def test_fail_next_bodies(wire, body, content_type, sent):
    wire.sandbox.fail_next(500, body=body)
    answer = wire.batches()
    assert (answer.status, answer.headers["content-type"], answer.body) == (500, content_type, sent)


def test_storage_fails_in_its_own_words(wire):
    wire.sandbox.fail_next(503, path="/storage/*")
    answer = wire.send("GET", wire.sign_document())
    assert answer.status == 503
    assert b"<Code>SlowDown</Code>" in answer.body


def test_faults_are_used_in_order_and_forever(wire):
    wire.sandbox.fail_next(500, times=1)
    wire.sandbox.fail_next(502, times=None)
    assert [wire.batches().status for _ in range(4)] == [500, 502, 502, 502]
    wire.sandbox.clear_faults()
    assert wire.batches().status == 200


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncate_next(wire, keep):
    url, document = wire.sign_document(), wire.sandbox.document(0)
    wire.sandbox.truncate_next(path="/storage/*", keep=keep)
    with pytest.raises(http.client.IncompleteRead) as caught:
        wire.send("GET", url)
    assert caught.value.partial == document[: int(len(document) * keep)]
    assert len(caught.value.partial) + caught.value.expected == len(document)
    assert wire.send("GET", url).body == document


def test_truncate_a_range(wire):
    url, document = wire.sign_document(), wire.sandbox.document(0)
    wire.sandbox.truncate_next(path="/storage/*")
    with pytest.raises(http.client.IncompleteRead) as caught:
        wire.send("GET", url, Range="bytes=100-299")
    assert caught.value.partial == document[100:200]
    assert wire.sandbox.requests[-1].status == 206


def test_reset_next(wire):
    wire.sandbox.reset_next(2, path="*/workItems")
    for _ in range(2):
        with pytest.raises(http.client.RemoteDisconnected):
            wire.work_items()
    assert wire.work_items().status == 200
    assert [request.status for request in wire.sandbox.requests] == [0, 0, 200]


def test_html_next(wire):
    wire.sandbox.html_next()
    wire.sandbox.html_next(status=502, body=b"<p>bad gateway")
    answer = wire.batches()
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.body.startswith(b"<!DOCTYPE html>")
    answer = wire.batches()
    assert (answer.status, answer.body) == (502, b"<p>bad gateway")


def test_replace_next(wire):
    wire.sandbox.replace_next(b"[]", path="*/annotations")
    item_id = next(wire.sandbox.work_item_ids())
    answer = wire.annotation(item_id)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"[]", "application/json")
    wire.sandbox.replace_next(b"", status=302, headers={"Location": "http://127.0.0.1:1/"}, content_type="text/plain")
    answer = wire.annotation(item_id)
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:1/")


def test_latency_delays_every_answer_but_does_not_block(wire):
    wire.sandbox.latency = 0.2
    others = [Wire(wire.sandbox) for _ in range(8)]
    threads = [threading.Thread(target=other.batches) for other in others]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    for other in others:
        other.connection.close()
    assert 0.2 <= elapsed < 0.8
    assert wire.sandbox.max_in_flight == 8
    wire.sandbox.latency = 0
    for impossible in (-1, float("nan"), "1", True):
        with pytest.raises(ValueError, match="latency"):
            wire.sandbox.latency = impossible


def test_rate_limit(wire):
    url = wire.sign_document()
    wire.sandbox.rate_limit(0.01, retry_after=5)
    statuses = [wire.batches().status for _ in range(3)]
    assert statuses == [200, 429, 429]
    answer = wire.batches()
    assert (answer.json["code"], answer.headers["retry-after"]) == ("rate_limited", "5")
    assert wire.send("GET", url).status == 200
    wire.sandbox.rate_limit(None)
    assert wire.batches().status == 200
    with pytest.raises(ValueError, match="per_second must be above 0"):
        wire.sandbox.rate_limit(0)


def test_rate_limit_with_a_date_and_refill(wire):
    wire.sandbox.rate_limit(5, retry_after=60, http_date=True)
    answers = [wire.batches() for _ in range(40)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    wait = parsedate_to_datetime(refused[0].headers["retry-after"]).timestamp() - time.time()
    assert 55 < wait <= 60
    time.sleep(0.25)
    assert wire.batches().status == 200


def test_the_log(wire):
    item_id = next(wire.sandbox.work_item_ids())
    begin = time.time()
    wire.work_items(limit=2, batchIds=[1001, 1002])
    wire.annotation(item_id)
    wire.api("POST", f"/spaces/{wire.sandbox.space_id}/signedurls", {"paths": ["a"]})
    wire.send("GET", "/favicon.ico", X_Twice="a")
    listing, annotation, signing, other = wire.sandbox.requests
    assert (listing.method, listing.path) == ("GET", f"/api/v1/projects/{wire.sandbox.project_id}/workItems")
    assert listing.query == [("limit", "2"), ("batchIds", "1001"), ("batchIds", "1002")]
    assert listing.headers["x-api-key"] == wire.sandbox.api_key
    assert (listing.body, listing.body_size, listing.status, listing.route) == (b"", 0, 200, "work_items")
    assert begin - 1 < listing.time <= other.time <= time.time()
    assert (annotation.route, annotation.query) == ("annotations", [("format", "coco")])
    assert (signing.method, json.loads(signing.body), signing.route) == ("POST", {"paths": ["a"]}, "signing")
    assert (other.status, other.route, other.headers["x-twice"]) == (404, "other", "a")
    assert wire.sandbox.counts == {
        "work_items": 1,
        "annotations": 1,
        "batches": 0,
        "signing": 1,
        "storage": 0,
        "uploads": 0,
        "exports": 0,
        "assets": 0,
        "jwks": 0,
        "other": 1,
    }
    assert wire.sandbox.connections == 1
    assert wire.sandbox.in_flight <= 1


def test_clear_requests(wire):
    wire.batches()
    wire.sandbox.clear_requests()
    assert wire.sandbox.requests == []
    assert set(wire.sandbox.counts.values()) == {0}


def test_bodies_are_cut_in_the_log(wire):
    body = b'{"paths": ["' + b"a" * 100_000 + b'"]}'
    assert wire.api("POST", f"/spaces/{wire.sandbox.space_id}/signedurls", body).status == 200
    assert wire.sandbox.requests[-1].body == body[: 64 * 1024]
    assert wire.sandbox.requests[-1].body_size == len(body)
