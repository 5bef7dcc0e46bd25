"""The control API, for processes that can only reach a sandbox over HTTP."""

from __future__ import annotations

import http.client

import pytest

SETTINGS = {
    "latency": 0.0,
    "url_lifetime": 900,
    "export_seconds": 0.2,
    "export_url_lifetime": 7 * 24 * 3600,
    "webhook_url": None,
    "rate_limit": None,
}


def test_describe(wire):
    wire.batches()
    answer = wire.control("GET", "")
    assert answer.status == 200
    reported = answer.json
    assert reported["base_url"] == wire.sandbox.base_url
    assert reported["api_key"] == wire.sandbox.api_key
    assert (reported["project_id"], reported["space_id"]) == (wire.sandbox.project_id, wire.sandbox.space_id)
    assert (reported["items"], reported["batches"]) == (50, 5)
    assert reported["settings"] == SETTINGS
    assert reported["counts"]["batches"] == 1
    assert (reported["in_flight"], reported["leaks"]) == (0, 0)


def test_requests(wire):
    wire.work_items(limit=1)
    wire.batches()
    entries = wire.control("GET", "/requests").json["items"]
    assert [entry["route"] for entry in entries] == ["work_items", "batches"]
    assert entries[0]["query"] == [["limit", "1"]]
    assert entries[0]["headers"]["x-api-key"] == wire.sandbox.api_key
    assert [entry["route"] for entry in wire.control("GET", "/requests?limit=1").json["items"]] == ["batches"]
    assert wire.control("GET", "/requests?limit=0").json["items"] == []
    assert wire.control("GET", "/requests?limit=x").status == 400
    assert wire.control("DELETE", "/requests").status == 204
    assert wire.sandbox.requests == []


def test_control_is_neither_logged_nor_hit_by_faults(wire):
    wire.sandbox.fail_next(500, times=None)
    wire.sandbox.latency = 30
    assert wire.control("GET", "").status == 200
    assert wire.sandbox.requests == []


def test_faults(wire):
    for plan in (
        {"kind": "fail", "path": "*/batches"},
        {"kind": "fail", "status": 418, "body": {"a": 1}, "times": 1},
        {"kind": "html"},
        {"kind": "replace", "body": "x", "content_type": "text/csv"},
    ):
        assert wire.control("POST", "/faults", plan).status == 204
    assert wire.batches().status == 503
    answer = wire.batches()
    assert (answer.status, answer.json) == (418, {"a": 1})
    assert wire.batches().headers["content-type"].startswith("text/html")
    answer = wire.batches()
    assert (answer.body, answer.headers["content-type"]) == (b"x", "text/csv; charset=utf-8")
    wire.control("POST", "/faults", {"kind": "truncate", "keep": 0})
    with pytest.raises(http.client.IncompleteRead):
        wire.batches()
    wire.control("POST", "/faults", {"kind": "reset", "times": None})
    with pytest.raises(http.client.RemoteDisconnected):
        wire.batches()
    assert wire.control("DELETE", "/faults").status == 204
    assert wire.batches().status == 200


@pytest.mark.parametrize(
    "plan",
    [
        [],
        {},
        {"kind": "explode"},
        {"kind": "fail", "when": 1},
        {"kind": "fail", "times": "x"},
        {"kind": "fail", "path": 1},
    ],
)
def test_bad_faults(wire, plan):
    answer = wire.control("POST", "/faults", plan)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert wire.batches().status == 200


def test_settings(wire):
    answer = wire.control("POST", "/settings", {"latency": 0.01, "url_lifetime": 60, "rate_limit": 1000})
    assert answer.json["settings"] == {**SETTINGS, "latency": 0.01, "url_lifetime": 60, "rate_limit": 1000}
    assert (wire.sandbox.latency, wire.sandbox.url_lifetime) == (0.01, 60)
    wire.control("POST", "/settings", {"rate_limit": {"per_second": 1, "retry_after": 9}, "latency": 0})
    assert [wire.batches().headers.get("retry-after") for _ in range(2)] == [None, "9"]
    assert wire.control("POST", "/settings", {"rate_limit": None}).json["settings"]["rate_limit"] is None
    for bad in (
        [],
        {"speed": 1},
        {"latency": -1},
        {"latency": 5, "export_seconds": "x"},
        {"export_url_lifetime": -1},
        {"webhook_url": 5},
        {"rate_limit": 0},
        {"rate_limit": "x"},
        {"rate_limit": {"x": 1}},
    ):
        assert wire.control("POST", "/settings", bad).status == 400
    assert wire.sandbox.latency == 0


def test_work_items(wire):
    item_id = next(wire.sandbox.work_item_ids(3))
    before = wire.sandbox.work_item(3)
    after = wire.control("POST", f"/work-items/{item_id}", {"status": "CLIENT_REVIEW"}).json
    assert (after["id"], after["status"]) == (item_id, "CLIENT_REVIEW")
    assert after["updatedAt"] > before["updatedAt"]
    assert wire.control("POST", "/work-items/3", {"document": "né", "touch": False}).json == after
    assert wire.sandbox.document(3) == "né".encode()
    assert wire.control("POST", "/work-items/nobody", {}).status == 404
    assert wire.control("POST", "/work-items/50", {}).status == 404
    for bad in ([], {"batch": 1}, {"status": 1}, {"touch": "no"}, {"document": {}}):
        assert wire.control("POST", "/work-items/3", bad).status == 400


def test_reset(wire):
    wire.sandbox.fail_next(500, times=None)
    wire.sandbox.update_work_item(0, status="CLIENT_REVIEW")
    wire.sandbox.rename_batch(1001, "other")
    wire.sandbox.rate_limit(1)
    wire.sandbox.latency = 0.001
    wire.batches()
    assert wire.control("POST", "/reset").status == 204
    assert wire.control("GET", "").json["settings"] == SETTINGS
    assert wire.sandbox.requests == []
    assert wire.batches().json["items"][0]["name"] == "Street scenes"
    assert wire.work_items(status="CLIENT_REVIEW").json["total"] == 0


def test_unknown_control_calls(wire):
    assert wire.control("GET", "/nothing").status == 404
    assert wire.control("PUT", "/faults").status == 405
    assert wire.control("POST", "/faults", b"{").status == 400
    assert wire.send("GET", "/_sandboxes").status == 404
