"""The platform mocked with responses and requests-mock, which see every call."""

from __future__ import annotations

import json
import time

import pytest
import requests_mock
import responses

from cfplatform import (
    APIConnectionError,
    NotFoundError,
    ServerError,
)

from .test_downloading import tree

DOCUMENT = {"info": {}, "images": [], "categories": [], "annotations": []}


class Mock:
    """A mock that is started and stopped by ``with``."""

    def __enter__(self):
        self._mock.start()
        return self

    def __exit__(self, *_):
        self._mock.stop()


class Responses(Mock):
    """Mocks with responses."""

    def __init__(self):
        self._mock = responses.RequestsMock(assert_all_requests_are_fired=False)

    def add(self, method, url, *answers):
        for status, content in answers:
            self._mock.add(method, url, status=status, json=content)

    @property
    def requests(self):
        return [call.request for call in self._mock.calls]


class RequestsMock(Mock):
    """Mocks with requests-mock."""

    def __init__(self):
        self._mock = requests_mock.Mocker(case_sensitive=True)

    def add(self, method, url, *answers):
        self._mock.request(method, url, [{"status_code": status, "json": content} for status, content in answers])

    @property
    def requests(self):
        return self._mock.request_history


@pytest.fixture(params=[Responses, RequestsMock])
def mock(request):
    with request.param() as mock:
        yield mock


@pytest.fixture
def project(sandbox, mock):
    """A mocked project with two work items, at the URLs of a sandbox that is running; nothing may reach it."""
    api = f"{sandbox.base_url}/projects/{sandbox.project_id}"
    storage = sandbox.base_url.replace("/api/v1", "/storage")
    items = [{"id": name, "batchId": 7, "status": "COMPLETED", "assetUrl": f"assets/{name}"} for name in ("a", "b")]
    mock.add("GET", f"{api}/workItems", (200, {"items": items, "meta": {}, "total": 2}))
    mock.add("GET", f"{api}/batches", (200, {"items": [{"id": 7, "name": "Mocked"}], "meta": {}}))
    signed = [
        {"path": f"coco_output/{name}.json", "signedUrl": f"{storage}/{name}.json?X-Amz-Signature=signature-{name}"}
        for name in ("a", "b")
    ]
    mock.add("POST", f"{sandbox.base_url}/spaces/{sandbox.space_id}/signedurls", (200, {"items": signed}))
    for name in ("a", "b"):
        place = f"s3://bucket/spaces/{sandbox.space_id}/coco_output/{name}.json"
        mock.add(
            "GET", f"{api}/workItems/{name}/annotations", (200, {"id": 1, "metadata": {"coco_results_url": place}})
        )
        mock.add("GET", f"{storage}/{name}.json", (200, DOCUMENT))
    yield mock
    assert sandbox.requests == []


def test_a_listing_is_mocked(sandbox, project, options):
    with sandbox.client(**options) as client:
        assert [item.id for item in client.get_work_items()] == ["a", "b"]
    (request,) = project.requests
    assert request.headers["X-API-Key"] == sandbox.api_key


def test_a_whole_download_is_mocked(sandbox, project, options, tmp_path):
    with sandbox.client(**options) as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (2, 0)
    files = tree(tmp_path)
    assert set(files) == {"Mocked/a.json", "Mocked/b.json"}
    assert json.loads(files["Mocked/a.json"])["info"]["asset_url"] == "assets/a"
    assert len(project.requests) >= 7
    assert {request.url.split("/")[3] for request in project.requests} == {"api", "storage"}
    assert all(("X-API-Key" in request.headers) == ("/api/" in request.url) for request in project.requests)


def test_a_mocked_error_status_is_the_typed_error(sandbox, mock, options):
    path = f"{sandbox.base_url}/projects/{sandbox.project_id}/batches"
    mock.add("GET", path, (404, {"message": "There is no such project."}))
    with sandbox.client(**options) as client, pytest.raises(NotFoundError, match="There is no such project") as caught:
        list(client.get_batches())
    assert caught.value.status_code == 404
    assert len(mock.requests) == 1
    assert sandbox.requests == []


def test_a_mocked_transient_error_is_retried(sandbox, mock, options):
    path = f"{sandbox.base_url}/projects/{sandbox.project_id}/batches"
    mock.add("GET", path, (503, {"message": "busy"}), (200, {"items": [{"id": 7, "name": "Mocked"}], "meta": {}}))
    with sandbox.client(**options) as client:
        assert [batch.name for batch in client.get_batches()] == ["Mocked"]
    assert len(mock.requests) == 2
    assert sandbox.requests == []


def test_a_mocked_error_that_lasts_ends_after_the_retries(sandbox, mock, options):
    path = f"{sandbox.base_url}/projects/{sandbox.project_id}/batches"
    mock.add("GET", path, (503, {"message": "busy all day"}))
    with sandbox.client(retries=2, **options) as client, pytest.raises(ServerError, match="busy all day"):
        list(client.get_batches())
    assert len(mock.requests) == 3
    assert sandbox.requests == []


def test_a_call_that_responses_does_not_know_fails_at_once_and_says_so(sandbox, options, tmp_path):
    began = time.monotonic()
    mock = responses.RequestsMock(assert_all_requests_are_fired=False)
    with mock, sandbox.client(**options) as client:
        mock.get(f"{sandbox.base_url}/elsewhere")
        with pytest.raises(APIConnectionError, match="the call doesn't match any registered mock") as caught:
            list(client.get_batches())
        assert f"Available matches: - GET {sandbox.base_url}/elsewhere URL does not match" in str(caught.value)
        assert "network" not in str(caught.value)
        with pytest.raises(APIConnectionError, match="the call doesn't match any registered mock"):
            client.download_project(destination=tmp_path)
        assert len(mock.calls) == 2
    assert time.monotonic() - began < 2
    assert sandbox.requests == []


def test_an_item_that_responses_does_not_know_fails_at_once_and_says_so(sandbox, options, tmp_path):
    api = f"{sandbox.base_url}/projects/{sandbox.project_id}"
    began = time.monotonic()
    with responses.RequestsMock() as mock, sandbox.client(**options) as client:
        mock.get(f"{api}/workItems", json={"items": [{"id": "a", "batchId": 7, "status": "COMPLETED"}], "meta": {}})
        mock.get(f"{api}/batches", json={"items": [{"id": 7, "name": "Mocked"}], "meta": {}})
        summary = client.download_project(destination=tmp_path)
    (failure,) = summary.failures
    assert "the call doesn't match any registered mock" in str(failure.error)
    assert "/workItems/a/annotations" in str(failure.error)
    assert time.monotonic() - began < 2
    assert sandbox.requests == []


def test_a_call_that_requests_mock_does_not_know_fails_at_once_and_says_so(sandbox, options, tmp_path):
    began = time.monotonic()
    api = f"{sandbox.base_url}/projects/{sandbox.project_id}"
    with requests_mock.Mocker(case_sensitive=True) as mock, sandbox.client(**options) as client:
        # It is the tool's own exception, not one of ours.
        with pytest.raises(requests_mock.NoMockAddress, match="No mock address: GET .*/batches"):
            list(client.get_batches())
        mock.get(f"{api}/workItems", json={"items": [{"id": "a", "batchId": 7, "status": "COMPLETED"}], "meta": {}})
        mock.get(f"{api}/batches", json={"items": [{"id": 7, "name": "Mocked"}], "meta": {}})
        with pytest.raises(requests_mock.NoMockAddress, match="No mock address: GET .*/workItems/a/annotations"):
            client.download_project(destination=tmp_path)
    assert time.monotonic() - began < 2
    assert sandbox.requests == []
