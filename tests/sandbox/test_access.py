"""Keys, unknown objects, annotations and the signing of URLs."""

from __future__ import annotations

import pytest

UNKNOWN = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


@pytest.mark.parametrize("headers", [{}, {"X_API_Key": "wrong"}, {"Authorization": "Bearer x"}])
def test_key_is_required(wire, headers):
    for path in (f"/projects/{wire.sandbox.project_id}/workItems", "/nothing"):
        answer = wire.send("GET", wire.prefix + path, **headers)
        assert answer.status == 401
        assert answer.json["code"] == "unauthorized"
        assert answer.headers["x-request-id"]


def test_request_ids_differ(wire):
    assert len({wire.batches().headers["x-request-id"] for _ in range(3)}) == 3


def test_unknown_project_and_space(wire):
    for path in (
        f"/projects/{UNKNOWN}/workItems",
        f"/projects/{UNKNOWN}/batches",
        f"/projects/{UNKNOWN}/workItems/{next(wire.sandbox.work_item_ids())}/annotations?format=coco",
    ):
        answer = wire.api("GET", path)
        assert (answer.status, answer.json["message"]) == (404, "project not found")
    answer = wire.api("POST", f"/spaces/{UNKNOWN}/signedurls", {"paths": ["a"]})
    assert (answer.status, answer.json["message"]) == (404, "space not found")


def test_unknown_routes_and_methods(wire):
    for answer in (wire.api("GET", "/nothing"), wire.send("GET", "/"), wire.send("GET", "/api/v1x/projects")):
        assert (answer.status, answer.json["code"]) == (404, "not_found")
    answer = wire.api("DELETE", f"/projects/{wire.sandbox.project_id}/workItems")
    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]
    assert wire.api("PUT", f"/spaces/{wire.sandbox.space_id}/signedurls").headers["allow"] == "GET, HEAD, POST"


def test_annotation(wire):
    item_id = next(wire.sandbox.work_item_ids(7))
    annotation = wire.annotation(item_id).json
    assert annotation.pop("id") not in (item_id, wire.sandbox.project_id)
    assert annotation == {
        "projectID": wire.sandbox.project_id,
        "workItemID": item_id,
        "metadata": {"coco_results_url": f"s3://cf-sandbox/spaces/{wire.sandbox.space_id}/coco_output/{item_id}.json"},
    }


def test_annotation_of_unknown_items(wire):
    for item_id in (UNKNOWN, "nonsense", wire.sandbox.project_id):
        answer = wire.annotation(item_id)
        assert (answer.status, answer.json["code"]) == (404, "not_found")


@pytest.mark.parametrize("query", [{"format": "COCO"}, {"format": "json"}, {"format": []}])
def test_annotation_needs_the_format(wire, query):
    assert wire.annotation(next(wire.sandbox.work_item_ids()), **query).status == 400


def test_signing_answers_every_path_in_order(wire):
    paths = [f"coco_output/{item_id}.json" for item_id in wire.sandbox.work_item_ids()] * 20
    answer = wire.api("POST", f"/spaces/{wire.sandbox.space_id}/signedurls", {"paths": paths})
    assert [item["path"] for item in answer.json["items"]] == paths
    signed = answer.json["items"][0]["signedUrl"]
    assert signed.startswith(wire.sandbox.base_url.removesuffix("/api/v1") + "/storage/cf-sandbox/spaces/")
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        assert f"X-Amz-{name}=" in signed


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"{",
        [],
        {},
        {"paths": []},
        {"paths": "a"},
        {"paths": [1]},
        {"paths": [""]},
        {"paths": ["a"] * 1001},
    ],
)
def test_signing_refuses_bad_bodies(wire, body):
    answer = wire.api("POST", f"/spaces/{wire.sandbox.space_id}/signedurls", body)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")


def test_own_key_and_environment(make_wire):
    wire = make_wire(3, api_key="my own key")
    assert wire.sandbox.api_key == "my own key"
    assert wire.work_items().status == 200
    assert wire.sandbox.environment() == {
        "CF_API_KEY": "my own key",
        "CF_PLATFORM_BASE_URL": wire.sandbox.base_url,
        "CF_PROJECT_ID": wire.sandbox.project_id,
        "CF_SPACE_ID": wire.sandbox.space_id,
    }
