"""Third-party tools that hook into requests see every call: mocks, recorders, tracers, caches, hooks, adapters."""

from __future__ import annotations

import gc
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import requests_cache
import requests_mock
import responses
import urllib3
import vcr
from cachecontrol import CacheControl
from cachecontrol.heuristics import ExpiresAfter
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests_toolbelt.utils import dump
from vcr.patch import force_reset

from cfplatform import (
    APIConnectionError,
    Client,
    ConfigurationError,
    InvalidResponseError,
    NotFoundError,
    ServerError,
)
from cfplatform.sandbox import Sandbox

from .test_downloading import tree

ROOT = Path(__file__).parents[2]
KEY = "key-SENTINEL-0123456789"
DOCUMENT = {"info": {}, "images": [], "categories": [], "annotations": []}
#: The requests of a call to the API, by their route in the sandbox's log.
STORAGE = ("storage", "assets", "uploads")


@pytest.fixture(params=["its own session", "a session of the user"])
def options(request):
    """Options of a client that sends through its own session, and through one of the user."""
    with requests.Session() as session:
        yield {} if request.param == "its own session" else {"session": session}


def of_the_api(sandbox):
    return [request for request in sandbox.requests if request.route not in STORAGE]


def of_the_storage(sandbox):
    return [request for request in sandbox.requests if request.route in STORAGE]


# --- Mocks: responses and requests-mock -------------------------------------------------------------------------------


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
        # It is an exception of the tool itself, which belongs to nobody's family of errors.
        with pytest.raises(requests_mock.NoMockAddress, match="No mock address: GET .*/batches"):
            list(client.get_batches())
        mock.get(f"{api}/workItems", json={"items": [{"id": "a", "batchId": 7, "status": "COMPLETED"}], "meta": {}})
        mock.get(f"{api}/batches", json={"items": [{"id": 7, "name": "Mocked"}], "meta": {}})
        with pytest.raises(requests_mock.NoMockAddress, match="No mock address: GET .*/workItems/a/annotations"):
            client.download_project(destination=tmp_path)
    assert time.monotonic() - began < 2
    assert sandbox.requests == []


# --- vcrpy ------------------------------------------------------------------------------------------------------------

RECORDER = vcr.VCR(filter_headers=["X-API-Key"])
VCR_VERSION = tuple(map(int, vcr.__version__.split(".")[:2]))


def test_a_download_is_recorded_and_replayed_without_a_server(make_sandbox, options, tmp_path):
    sandbox = make_sandbox(items=40, batches=2)
    cassette = tmp_path / "download.yaml"
    with RECORDER.use_cassette(str(cassette)) as recorded, sandbox.client(max_workers=1, **options) as client:
        first = client.download_project(destination=tmp_path / "recorded")
    assert first.successful == 40
    assert len(recorded) == len(sandbox.requests)
    sandbox.stop()
    offline = sandbox.client(max_workers=1, retries=0, **options)
    with RECORDER.use_cassette(str(cassette), record_mode="none") as replayed, offline as client:
        second = client.download_project(destination=tmp_path / "replayed", patience=0)
    assert second.successful == 40
    assert replayed.all_played
    assert tree(tmp_path / "replayed") == tree(tmp_path / "recorded")
    assert sandbox.api_key not in cassette.read_text(encoding="utf-8")


def test_a_project_of_several_pages_is_recorded_when_it_is_listed_first(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=110, batches=2)
    cassette = str(tmp_path / "download.yaml")

    def download(folder, **options):
        with sandbox.client(max_workers=1, **options) as client:
            items = list(client.get_work_items(prefetch=False))
            return client.download_work_items(items, tmp_path / folder, patience=0)

    with RECORDER.use_cassette(cassette) as recorded:
        assert download("recorded").successful == 110
    assert len(recorded) == len(sandbox.requests)
    sandbox.stop()
    with RECORDER.use_cassette(cassette, record_mode="none"):
        assert download("replayed", retries=0).successful == 110
    assert tree(tmp_path / "replayed") == tree(tmp_path / "recorded")


# vcrpy before 9.4, of which Python 3.10 has only such ones, leaves the connections that it replaces to the collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
def test_a_client_with_open_connections_can_be_recorded_and_used_afterwards(sandbox, client, tmp_path):
    cassette = str(tmp_path / "batches.yaml")
    names = [batch.name for batch in client.get_batches()]
    with RECORDER.use_cassette(cassette) as recorded:
        assert [batch.name for batch in client.get_batches()] == names
    assert len(recorded) == 1
    assert len(sandbox.requests) == 2
    assert [batch.name for batch in client.get_batches()] == names
    assert len(sandbox.requests) == 3
    with RECORDER.use_cassette(cassette, record_mode="none") as replayed:
        assert [batch.name for batch in client.get_batches()] == names
    assert replayed.play_count == 1
    assert len(sandbox.requests) == 3
    client.close()
    gc.collect()


@pytest.mark.skipif(VCR_VERSION < (9, 4), reason="vcrpy before 9.4 does not reuse connections while it records")
def test_a_recorded_connection_stays_in_use_while_another_thread_connects(sandbox, client, tmp_path):
    with RECORDER.use_cassette(str(tmp_path / "batches.yaml")) as recorded:
        list(client.get_batches())
        # What vcrpy does, for the whole process, while it opens a connection in any thread.
        with force_reset():
            list(client.get_batches())
    assert len(recorded) == 2


def test_the_package_may_be_imported_while_a_cassette_is_in_use(sandbox, tmp_path):
    program = """
import vcr

with vcr.use_cassette("batches.yaml", filter_headers=["X-API-Key"]) as cassette:
    from cfplatform import Client

    client = Client()
    recorded = [batch.name for batch in client.get_batches()]
assert len(cassette) == 1
assert recorded == [batch.name for batch in client.get_batches()]
client.close()
assert len(cassette) == 1
"""
    environment = {**os.environ, **sandbox.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sandbox.counts["batches"] == 2


def test_a_recorded_error_is_replayed_as_the_typed_error(sandbox, options, tmp_path):
    sandbox.fail_next(503)
    with sandbox.client(**options) as client:
        for mode in ("once", "none"):
            cassette = RECORDER.use_cassette(str(tmp_path / "error.yaml"), record_mode=mode)
            with cassette, pytest.raises(NotFoundError, match="work item not found"):
                client.get_annotation("unknown")
    # With the retry after the 503.
    assert [request.status for request in sandbox.requests] == [503, 404]


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def spans():
    """The spans that the instrumentation of requests has exported."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter.get_finished_spans
    instrumentor.uninstrument()


def test_every_call_has_a_span_and_carries_the_trace_header(sandbox, spans, options, tmp_path):
    with sandbox.client(**options) as client:
        assert client.download_project(destination=tmp_path, assets=True).successful == 20
    # The header is "00-<trace id>-<span id>-01".
    arrived = [request.headers["traceparent"].split("-")[2] for request in sandbox.requests]
    assert sorted(arrived) == sorted(f"{span.context.span_id:016x}" for span in spans())
    assert len(set(arrived)) == len(arrived)
    counts = {route: count for route, count in sandbox.counts.items() if count}
    assert counts.keys() == {"work_items", "batches", "annotations", "signing", "storage"}
    assert {span.attributes["http.status_code"] for span in spans()} == {200}
    paths = {request.path for request in sandbox.requests}
    assert {requests.utils.urlparse(span.attributes["http.url"]).path for span in spans()} == paths


def test_the_spans_of_a_download_belong_to_the_trace_of_the_caller(make_sandbox, spans, tmp_path):
    # Several pages, so that some are prefetched.
    sandbox = make_sandbox(items=250, batches=2)
    tracer = TracerProvider().get_tracer("nightly")
    with tracer.start_as_current_span("nightly") as parent, sandbox.client() as client:
        assert client.download_project(destination=tmp_path).successful == 250
        assert len(list(client.get_work_items())) == 250
    trace = parent.get_span_context()
    assert {span.context.trace_id for span in spans()} == {trace.trace_id}
    assert {span.parent.span_id for span in spans()} == {trace.span_id}
    assert len(spans()) == len(sandbox.requests)


def test_an_error_is_in_its_span(sandbox, spans, options):
    with sandbox.client(**options) as client, pytest.raises(NotFoundError):
        client.get_annotation("unknown")
    assert [span.attributes["http.status_code"] for span in spans()] == [404]


def test_a_retry_is_part_of_the_span_and_has_its_own_on_a_session_of_the_user(sandbox, spans, options):
    sandbox.fail_next(503)
    with sandbox.client(**options) as client:
        assert len(list(client.get_batches())) == 2
    statuses = [span.attributes["http.status_code"] for span in spans()]
    assert statuses == ([503, 200] if "session" in options else [200])
    assert all("traceparent" in request.headers for request in sandbox.requests)


def test_a_request_hook_keeps_signatures_out_of_the_spans(sandbox, tmp_path):
    def remove_query(span, request):
        span.set_attribute("http.url", request.url.partition("?")[0])

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=provider, request_hook=remove_query)
    try:
        with sandbox.client() as client:
            assert client.download_project(destination=tmp_path).successful == 20
    finally:
        instrumentor.uninstrument()
    shown = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert "/storage/" in shown
    assert "X-Amz" not in shown
    assert sandbox.api_key not in shown


# --- Caches -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["requests-cache", "CacheControl"])
def caching_session(request):
    """A session that answers from a cache whatever it knows."""
    if request.param == "requests-cache":
        session = requests_cache.CachedSession(backend="memory")
    else:
        session = CacheControl(requests.Session(), heuristic=ExpiresAfter(minutes=5))
    with session:
        yield session
    # Now, so that what CacheControl leaves to the garbage collector is not found in another test.
    del session
    gc.collect()


def test_a_second_listing_is_answered_from_the_cache(sandbox, client, caching_session):
    wanted = [item.as_dict() for item in client.get_work_items(page_size=7)]
    before = len(sandbox.requests)
    for _ in range(2):
        with sandbox.client(session=caching_session) as cached:
            assert [item.as_dict() for item in cached.get_work_items(page_size=7)] == wanted
        assert len(sandbox.requests) == before + 3


def test_a_download_through_a_cache_is_right(sandbox, caching_session, tmp_path):
    with sandbox.client() as plain, sandbox.client(session=caching_session) as cached:
        plain.download_project(destination=tmp_path / "plain")
        for folder in ("first", "second"):
            assert cached.download_project(destination=tmp_path / folder).successful == 20
    assert tree(tmp_path / "plain") == tree(tmp_path / "first") == tree(tmp_path / "second")
    # The second one was signed, and its documents fetched: neither POST nor the storage is cached.
    assert sandbox.counts["annotations"] == 2 * 20
    assert sandbox.counts["storage"] == 3 * 20


# CacheControl closes its temporary file when a body is read to its end by read(), but errors are read by read1().
@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning")
def test_errors_through_a_cache_are_typed_and_retried(sandbox, caching_session):
    with sandbox.client(session=caching_session) as client:
        for _ in range(2):
            with pytest.raises(NotFoundError, match="work item not found"):
                client.get_annotation("unknown")
        sandbox.fail_next(503)
        assert len(list(client.get_batches())) == 2
        sandbox.fail_next(500, times=None, path="*/workItems", body={"message": "Down for today."})
        with pytest.raises(ServerError, match=r"Down for today\."):
            client.get_work_items_count()


def test_a_cache_file_holds_no_key(sandbox, tmp_path):
    session = requests_cache.CachedSession(tmp_path / "cache", backend="sqlite")
    with session, sandbox.client(session=session) as client:
        list(client.get_batches())
    (file,) = tmp_path.glob("cache*")
    assert b"Street scenes" in file.read_bytes()
    assert sandbox.api_key.encode() not in file.read_bytes()


# --- Hooks ------------------------------------------------------------------------------------------------------------


def test_the_dump_of_requests_toolbelt_shows_every_call(sandbox, options, tmp_path):
    dumps = []
    with sandbox.client(**options) as client:
        # It reads the body of each response.
        client.session.hooks["response"].append(lambda response, **_: dumps.append(dump.dump_all(response)))
        assert len(list(client.get_work_items(page_size=6))) == 20
        assert client.download_project(destination=tmp_path).successful == 20
        with pytest.raises(NotFoundError, match="work item not found"):
            client.get_annotation("unknown")
    assert len(dumps) == len(of_the_api(sandbox)) > 20
    text = b"".join(dumps)
    assert text.count(b"> HTTP/1.1 200 OK") == len(dumps) - 1
    assert b"> HTTP/1.1 404 Not Found" in text
    assert b"< GET /api/v1/projects/" in text
    assert b'{"items":[' in text


def test_a_hook_that_reads_the_body_does_not_break_what_creates(sandbox, options):
    bodies = []
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: bodies.append(response.json()))
        batch = client.create_batch("Spring")
    assert bodies[0]["id"] == batch.id
    assert sandbox.counts["batches"] == 1


def test_a_hook_that_does_not_keep_the_body_is_reported(sandbox, options):
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: list(response.iter_content(100)) and None)
        with pytest.raises(InvalidResponseError, match=r"A hook has read the body .* response\.content"):
            list(client.get_batches())


def test_a_hook_that_raises_for_the_status_becomes_the_typed_error(sandbox, options):
    with sandbox.client(retries=1, **options) as client:
        client.session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        with pytest.raises(NotFoundError, match="work item not found"):
            client.get_annotation("unknown")
        sandbox.fail_next(503, times=None, body={"message": "Down for today."})
        with pytest.raises(ServerError, match=r"Down for today\.") as caught:
            list(client.get_batches())
    assert caught.value.status_code == 503
    assert [request.status for request in sandbox.requests] == [404, 503, 503]


def test_a_hook_that_raises_for_the_status_leaves_retries_as_they_are(sandbox, options):
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        sandbox.fail_next(503)
        assert len(list(client.get_batches())) == 2
    assert [request.status for request in sandbox.requests] == [503, 200]


def test_a_hook_sees_the_last_response_of_a_call_and_each_attempt_on_a_session_of_the_user(sandbox, options):
    seen = []
    sandbox.fail_next(503)
    with sandbox.client(**options) as client:
        client.session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
        assert len(list(client.get_batches())) == 2
    assert seen == ([503, 200] if "session" in options else [200])


# --- The client's session ---------------------------------------------------------------------------------------------


class CountingAdapter(HTTPAdapter):
    """An adapter of a user, which sees what it sends."""

    def __init__(self, **options):
        super().__init__(**options)
        self.sent = []

    def send(self, request, **options):
        self.sent.append(request)
        return super().send(request, **options)


def test_what_is_set_on_the_session_of_a_client_applies_to_every_call_from_then_on(sandbox, client, tmp_path):
    seen, adapter = [], CountingAdapter()
    assert isinstance(client.session, requests.Session)
    list(client.get_batches())
    client.session.hooks["response"].append(lambda response, **_: seen.append(response.status_code))
    client.session.headers["X-Team"] = "vision"
    client.session.params["trace"] = "1"
    client.session.mount(sandbox.base_url, adapter)
    assert client.download_project(destination=tmp_path).successful == 20
    first, *later = of_the_api(sandbox)
    assert "x-team" not in first.headers
    assert {request.headers["x-team"] for request in later} == {"vision"}
    assert all(("trace", "1") in request.query for request in later)
    assert {request.headers["x-api-key"] for request in later} == {sandbox.api_key}
    assert len(seen) == len(adapter.sent) == len(later)
    # The storage has a session of its own.
    assert not any({"x-team", "x-api-key"} & request.headers.keys() for request in of_the_storage(sandbox))
    assert sandbox.leaks == 0


def test_calls_are_retried_through_an_adapter_that_the_user_mounts(sandbox, client):
    adapter = CountingAdapter()
    client.session.mount(sandbox.base_url, adapter)
    sandbox.fail_next(503)
    sandbox.reset_next()
    assert len(list(client.get_batches())) == 2
    assert len(adapter.sent) == 3


def test_the_session_of_a_closed_client_is_refused(sandbox):
    client = sandbox.client()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.session.headers.clear()


def test_headers_of_a_client_arrive_at_api_calls_and_not_at_the_storage(sandbox, options, tmp_path):
    with sandbox.client(headers={"X-Team": "vision", "X-Run": "7"}, **options) as client:
        assert client.download_project(destination=tmp_path, assets=True).successful == 20
        client.create_batch("Spring")
    assert {(request.headers["x-team"], request.headers["x-run"]) for request in of_the_api(sandbox)} == {
        ("vision", "7")
    }
    assert of_the_storage(sandbox)
    assert not any({"x-team", "x-run"} & request.headers.keys() for request in of_the_storage(sandbox))


# --- A session of the user --------------------------------------------------------------------------------------------


def test_a_session_of_the_user_keeps_what_is_set_on_it(sandbox, tmp_path):
    seen = []
    with requests.Session() as session:
        session.auth = HTTPBasicAuth("gateway", "password")
        session.headers.update({"X-Team": "vision", "User-Agent": "their-tool/3"})
        session.params = {"tenant": "7"}
        session.cookies.set("visit", "1")
        session.hooks["response"].append(lambda response, **_: seen.append(response.request.headers["Authorization"]))
        adapter = CountingAdapter()
        session.mount("http://", adapter)
        adapters = dict(session.adapters)
        with sandbox.client(session=session) as client:
            assert client.session is session
            assert client.download_project(destination=tmp_path).successful == 20
        # Nothing is mounted on it or set on it, and it stays open.
        assert dict(session.adapters) == adapters
        assert sandbox.api_key not in str(dict(session.headers))
        calls = of_the_api(sandbox)
        assert len(seen) == len(adapter.sent) == len(calls) > 20
        assert set(seen) == {"Basic Z2F0ZXdheTpwYXNzd29yZA=="}
        session.get(sandbox.base_url.replace("/api/v1", "/public/assets/x"))
    for request in calls:
        # The sandbox masks credentials in its log.
        assert request.headers["authorization"] == "Basic [masked]"
        assert request.headers["x-team"] == "vision"
        assert request.headers["user-agent"] == "their-tool/3"
        assert ("tenant", "7") in request.query
        assert request.headers["cookie"] == "visit=1"
        assert request.headers["x-api-key"] == sandbox.api_key
    *storage, own = of_the_storage(sandbox)
    assert len(storage) == 20
    assert not any({"authorization", "x-team", "cookie", "x-api-key"} & request.headers.keys() for request in storage)
    assert "x-api-key" not in own.headers


def test_headers_of_the_client_override_those_of_the_session(sandbox):
    with requests.Session() as session:
        session.headers.update({"X-Team": "audio", "User-Agent": "their-tool/3"})
        with sandbox.client(session=session, headers={"x-team": "vision"}, user_agent="tool/1") as client:
            list(client.get_batches())
        assert session.headers["X-Team"] == "audio"
    (request,) = sandbox.requests
    assert request.headers["x-team"] == "vision"
    assert request.headers["user-agent"].startswith("tool/1 cfplatform/")


def test_a_plain_session_of_the_user_sends_who_sends_it(sandbox):
    with requests.Session() as session, sandbox.client(session=session, user_agent="tool/1") as client:
        list(client.get_batches())
    (request,) = sandbox.requests
    assert request.headers["user-agent"].startswith("tool/1 cfplatform/")
    assert request.headers["accept"] == "application/json"


def test_calls_through_a_session_of_the_user_are_retried(sandbox, tmp_path):
    with requests.Session() as session, sandbox.client(session=session) as client:
        sandbox.fail_next(503)
        assert len(list(client.get_batches())) == 2
        sandbox.reset_next()
        assert client.get_work_items_count() == 20
        sandbox.truncate_next(path="*/workItems")
        sandbox.fail_next(503, times=5, path="*/annotations")
        assert client.download_project(destination=tmp_path).successful == 20
        sandbox.fail_next(503, method="POST")
        with pytest.raises(ServerError):
            client.create_batch("Spring")
    assert [request.status for request in sandbox.requests][:2] == [503, 200]


def test_retries_beside_an_adapter_with_retries_of_its_own_are_refused(sandbox):
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=3))
        with pytest.raises(ConfigurationError, match=r"retries cannot be obeyed.*max_retries"):
            sandbox.client(session=session, retries=2)
        # Without it, the adapter does as it was told.
        with sandbox.client(session=session) as client:
            assert client.get_work_items_count() == 20
    assert len(sandbox.requests) == 1


def test_an_adapter_that_gives_up_becomes_the_typed_error(sandbox, options):
    policy = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0, raise_on_status=True)
    sandbox.fail_next(503, times=None)
    with sandbox.client(**options) as client:
        client.session.mount(sandbox.base_url, HTTPAdapter(max_retries=policy))
        with pytest.raises(ServerError, match="503") as caught:
            list(client.get_batches())
    assert caught.value.status_code == 503
    assert len(sandbox.requests) == 3


class FileAdapter(HTTPAdapter):
    """An adapter that answers from a file, as adapters for other schemes do."""

    def send(self, request, **_):
        response = requests.Response()
        response.status_code = 200 if "/batches" in request.url else 404
        response.raw = io.BytesIO(b'{"items": [{"id": 7, "name": "From a file"}], "meta": {}, "message": "not in it"}')
        response.request, response.url = request, request.url
        return response


def test_an_adapter_may_answer_with_any_file(sandbox, options):
    with sandbox.client(**options) as client:
        client.session.mount(sandbox.base_url, FileAdapter())
        assert [batch.name for batch in client.get_batches()] == ["From a file"]
        with pytest.raises(NotFoundError, match="not in it"):
            client.get_work_items_count()
    assert sandbox.requests == []


# --- Settings that cannot be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"headers": {"X-Team": "a\nX-Evil: 1"}}, "headers: The header 'X-Team' must be"),
        ({"headers": {"X-Team": "a\r\n"}}, "headers: The header 'X-Team' must be"),
        ({"headers": {"X-Team\r\nX-Evil": "1"}}, "headers: .* cannot be the name of a header"),
        ({"headers": {"X-Team": "vision é"}}, "headers: The header 'X-Team' must be"),
        ({"headers": {"X-Team": 7}}, "headers: The header 'X-Team' must be"),
        ({"headers": {7: "x"}}, "headers: 7 cannot be the name of a header"),
        ({"headers": ["X-Team"]}, "headers must be a mapping"),
        ({"headers": "X-Team: vision"}, "headers must be a mapping"),
        ({"headers": {"X-API-Key": "another"}}, "headers must not hold the API key: pass api_key="),
        ({"headers": {"x-api-KEY": KEY}}, "headers must not hold the API key: pass api_key="),
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, "headers must not hold the API key: pass api_key="),
        ({"session": "a session"}, r"session must be a requests\.Session, not str"),
        ({"session": requests}, r"session must be a requests\.Session, not module"),
        ({"session": requests.Session}, r"session must be a requests\.Session, not type"),
        ({"session": urllib3.PoolManager()}, r"session must be a requests\.Session, not PoolManager"),
        ({"patience": -1}, "patience must be a number of seconds from 0 up, not -1"),
        ({"patience": "600"}, "patience must be a number of seconds from 0 up, not '600'"),
        ({"patience": None}, "patience must be a number of seconds from 0 up, not None"),
        ({"patience": True}, "patience must be a number of seconds from 0 up, not True"),
        ({"patience": float("nan")}, "patience must be a number of seconds from 0 up, not nan"),
        ({"patience": float("inf")}, "patience must be a number of seconds from 0 up, not inf"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_before_any_request(sandbox, wrong, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        Client(KEY, base_url=sandbox.base_url, **wrong)
    assert KEY not in str(caught.value)
    assert "X-Evil: 1" not in str(caught.value)
    assert sandbox.connections == 0


@pytest.mark.parametrize("patience", [-1, "600", True, float("nan")])
def test_a_run_with_a_wrong_patience_is_refused_before_any_request(sandbox, client, tmp_path, patience):
    with pytest.raises(ConfigurationError, match="patience must be a number of seconds from 0 up"):
        client.download_project(destination=tmp_path, patience=patience)
    assert sandbox.connections == 0


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
@pytest.mark.parametrize("source", ["argument", "environment", "session"])
def test_a_socks_proxy_without_pysocks_is_refused_before_any_request(monkeypatch, scheme, source):
    monkeypatch.setitem(sys.modules, "socks", None)
    proxy = f"{scheme}://127.0.0.1:9"
    options = {}
    session = requests.Session()
    if source == "argument":
        options = {"proxies": {"https": proxy}}
    elif source == "session":
        session.proxies["https"] = proxy
        options = {"session": session}
    else:
        monkeypatch.setenv("ALL_PROXY", proxy)
    with session, pytest.raises(ConfigurationError, match=r"needs PySocks: pip install 'requests\[socks\]'"):
        Client(KEY, base_url="https://api.invalid/v1", **options)


def test_a_socks_proxy_in_the_environment_does_not_concern_this_machine(sandbox, monkeypatch):
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with Sandbox(items=1) as other, other.client() as client:
        assert client.get_work_items_count() == 1
