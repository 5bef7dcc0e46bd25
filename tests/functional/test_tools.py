"""Third-party tools that hook into requests (recorders, tracers, caches) see every call."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import requests_cache
import vcr
from cachecontrol import CacheControl
from cachecontrol.heuristics import ExpiresAfter
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from vcr.patch import force_reset

from cfplatform import (
    NotFoundError,
    ServerError,
)

from .test_downloading import tree

ROOT = Path(__file__).parents[2]


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


# vcrpy before 9.4 (the only versions for Python 3.10) leaves replaced connections to the garbage collector.
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
        # vcrpy does this for the entire process while it opens a connection in any thread.
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
    # Several pages, so some are prefetched.
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
    """A session that responds from a cache if it can."""
    if request.param == "requests-cache":
        session = requests_cache.CachedSession(backend="memory")
    else:
        session = CacheControl(requests.Session(), heuristic=ExpiresAfter(minutes=5))
    with session:
        yield session
    # Now, so objects that CacheControl leaves to the garbage collector do not affect another test.
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
