"""Runs during an outage of the platform or the storage, as distinguished from items that always fail."""

from __future__ import annotations

import io
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from cfplatform import APIConnectionError, Client, OutageError, RateLimitError, ServerError

#: Seconds of an outage: longer than it takes to notice one.
AWAY = 2.5


@pytest.fixture
def usual_backoff(monkeypatch):
    monkeypatch.setattr(random, "uniform", random.Random().uniform)


class Reporter:
    def __init__(self):
        self.waits = []
        self.outcomes = []

    def start(self, total):
        """Do nothing."""

    def advance(self, outcome, size):
        self.outcomes.append(outcome)

    def waiting(self, reason, seconds):
        self.waits.append((reason, seconds))

    def finish(self):
        """Do nothing."""


def begin_at(count, outage):
    """Return a progress function that begins an outage after a number of items."""

    def progress(done, total):
        if done == count:
            outage()

    return progress


PLACES = ("annotations", "storage", "signedurls", "work_items")
STATUSES = (500, 503, "reset")
#: Each endpoint and each status once; the other pairs run with ``-m stress``.
USUAL_OUTAGES = {("annotations", 503), ("storage", "reset"), ("signedurls", 500), ("work_items", 503)}


@pytest.mark.parametrize(
    ("at", "status"),
    [
        pytest.param(*pair, marks=() if pair in USUAL_OUTAGES else pytest.mark.stress)
        for pair in itertools.product(PLACES, STATUSES)
    ],
)
def test_an_outage_in_mid_run_costs_time_and_no_item(make_sandbox, tmp_path, caplog, status, at):
    caplog.set_level("INFO", "cfplatform")
    # More pages than are prefetched, if the listing is to fail.
    items = 600 if at == "work_items" else 300
    sandbox = make_sandbox(items=items, latency=0.005)
    progress = begin_at(50, lambda: sandbox.outage(AWAY, status, at=at))
    with sandbox.client(max_workers=8) as client:
        summary = client.download_project(destination=tmp_path / "labels", progress=progress)
    assert (summary.successful, summary.failed) == (items, 0)
    assert AWAY < summary.elapsed < AWAY + 10
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("WARNING", "waiting for it to recover") in [(level, text.rpartition(": ")[2]) for level, text in said]
    assert [text for level, text in said if level == "INFO" and "responds again after" in text]


def test_attempts_that_an_outage_took_are_given_back(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, latency=0.005)
    with sandbox.client(max_workers=8, retries=1) as client:
        first = next(client.get_work_items()).id
        # Its second attempt comes when the outage is over, and fails as well.
        sandbox.fail_next(500, times=2, path=f"*/{first}/*", headers={"Retry-After": "4"})
        progress = begin_at(50, lambda: sandbox.outage(AWAY, 500, at="annotations"))
        summary = client.download_project(destination=tmp_path / "labels", progress=progress)
    assert (summary.successful, summary.failed) == (200, 0)
    assert [each.status for each in sandbox.requests if f"/{first}/" in each.path] == [500, 500, 200]


def test_an_outage_that_begins_before_the_last_attempt_of_an_item_does_not_fail_it(
    make_sandbox, tmp_path, usual_backoff
):
    sandbox = make_sandbox(items=600, latency=0.005)
    with sandbox.client(max_workers=8) as client:
        first = next(client.get_work_items()).id
        # Five repeats, the last of them a second after the beginning of the outage.
        sandbox.fail_next(500, times=4, path=f"*/{first}/*", headers={"Retry-After": "0.05"})
        sandbox.fail_next(500, times=1, path=f"*/{first}/*", headers={"Retry-After": "1"})
        outage = threading.Event()

        def progress(done, total):
            # Others have succeeded since its first failure, so it seems to fail alone.
            if not outage.is_set() and sum(f"/{first}/" in each.path for each in sandbox.requests) == 5:
                outage.set()
                sandbox.outage(AWAY, 500, at="annotations")

        summary = client.download_project(destination=tmp_path / "labels", progress=progress)
    assert outage.is_set()
    assert (summary.successful, summary.failed) == (600, 0)


def test_all_of_the_platform_is_away(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, latency=0.005)
    progress = begin_at(50, lambda: sandbox.outage(AWAY, "refused"))
    with sandbox.client(max_workers=8) as client:
        summary = client.download_project(destination=tmp_path / "labels", progress=progress)
    assert (summary.successful, summary.failed) == (300, 0)


def test_little_is_asked_during_an_outage(make_sandbox, tmp_path, usual_backoff):
    sandbox = make_sandbox(items=300, latency=0.005)
    progress = begin_at(50, lambda: sandbox.outage(6, 503, at="annotations"))
    with sandbox.client(max_workers=8) as client:
        assert client.download_project(destination=tmp_path / "labels", progress=progress).failed == 0
    refused = [each for each in sandbox.requests if each.status == 503]
    # In the two seconds until it is noticed each worker sends a few; then there are probes after 0, 1 and 2 seconds.
    assert 8 <= len(refused) <= 8 * 5 + 4


def test_one_worker_is_enough_to_tell_an_outage_from_an_item(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=40)
    progress = begin_at(10, lambda: sandbox.outage(1.5, 503, at="annotations"))
    with sandbox.client(max_workers=1) as client:
        assert client.download_project(destination=tmp_path / "labels", progress=progress).failed == 0


def test_a_quota_that_is_used_up_for_a_while_costs_time_and_no_item(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=300, latency=0.005)
    progress = begin_at(50, lambda: sandbox.outage(AWAY, 429, at="annotations"))
    with sandbox.client(max_workers=8, retries=1) as client:
        summary = client.download_project(destination=tmp_path / "labels", progress=progress)
    assert (summary.successful, summary.failed) == (300, 0)


def test_a_stream_and_uploads_outlast_an_outage(make_sandbox, usual_backoff):
    sandbox = make_sandbox(items=200, latency=0.005)
    with sandbox.client(max_workers=8) as client:
        stream = client.iter_annotations()
        next(stream)
        sandbox.outage(AWAY, 500, at="storage")
        assert sum(1 for _ in stream) == 199
        sandbox.outage(AWAY, 500, at="signedurls")
        results = list(client.upload_files([io.BytesIO(b"data")] * 30))
        sandbox.outage(AWAY, "reset", at="storage")
        results += client.upload_files([io.BytesIO(b"data")] * 30)
    assert [result.error for result in results if not result.ok] == []


@pytest.mark.parametrize("workers", [1, 4, 32])
@pytest.mark.parametrize("where", ["annotations", "storage"])
def test_items_that_always_fail_fail_alone_and_soon(make_sandbox, tmp_path, workers, where):
    sandbox = make_sandbox(items=30)
    with sandbox.client(max_workers=workers) as client:
        *_, before, last = items = list(client.get_work_items())
        broken = {items[3].id, before.id, last.id, items[4].id, items[5].id}
        for each in broken:
            sandbox.fail_next(500, times=None, path=f"*/{each}*")
        if where == "storage":
            sandbox.clear_faults()
            broken = set()
            for each in (items[3], before, last, items[4], items[5]):
                name = each.get_annotation().coco_results_url.rpartition("/")[2]
                sandbox.fail_next(500, times=None, path=f"/storage/*{name}")
                broken.add(each.id)
        began = time.monotonic()
        summary = client.download_project(destination=tmp_path / "labels")
    assert {result.item_id for result in summary.failures} == broken
    assert {type(result.error) for result in summary.failures} == {ServerError}
    assert summary.successful == 25
    assert time.monotonic() - began < 20


def test_a_run_ends_when_its_patience_is_used_up_and_the_next_one_fetches_the_rest(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, latency=0.005)
    progress = begin_at(50, lambda: sandbox.outage(60, 503, at="annotations", body={"message": "maintenance"}))
    with sandbox.client(max_workers=8) as client:
        began = time.monotonic()
        with pytest.raises(OutageError) as caught:
            client.download_project(destination=tmp_path / "labels", patience=1.5, progress=progress)
        assert 1.5 <= time.monotonic() - began < 10
        message = str(caught.value)
        assert f"503 Service Unavailable from {sandbox.base_url.partition('/api')[0]}" in message
        assert ": maintenance. No request has succeeded for 1.5 s." in message
        assert "work items are finished and kept. Run it again to fetch the rest" in message
        assert "failed" not in message
        assert caught.value.status_code == 503
        sandbox.clear_faults()
        summary = client.download_project(destination=tmp_path / "labels")
    assert summary.failed == 0
    assert summary.skipped >= 50
    assert summary.skipped + summary.successful == 200


def test_without_patience_items_fail_after_their_retries(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=20)
    sandbox.fail_next(503, times=None, path="*/annotations")
    with sandbox.client(patience=0, retries=2) as client:
        assert client.download_project(destination=tmp_path / "labels").failed == 20
    assert sandbox.counts["annotations"] == 20 * 3


def test_a_single_call_does_not_wait_for_an_outage_to_end(make_sandbox):
    sandbox = make_sandbox(items=20)
    with sandbox.client() as client:
        assert len(list(client.get_batches())) == 5
        sandbox.outage(60, 503)
        began = time.monotonic()
        for call in (lambda: list(client.get_batches()), lambda: next(client.get_work_items())):
            with pytest.raises(ServerError):
                call()
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:9", "https://api.invalid/v1"])
@pytest.mark.parametrize("session", [None, requests.Session()])
def test_an_address_that_was_never_reached_is_reported_within_three_seconds(tmp_path, usual_backoff, base_url, session):
    def seconds(call):
        with Client("key", base_url=base_url, project_id="p", space_id="s", session=session) as client:
            began = time.monotonic()
            with pytest.raises(APIConnectionError):
                call(client)
            return time.monotonic() - began

    calls = (
        lambda client: next(client.get_work_items()),
        lambda client: client.download_project(destination=tmp_path / "labels"),
        lambda client: client.upload_file(io.BytesIO(b"data")),
    )
    with ThreadPoolExecutor() as pool:
        assert max(pool.map(seconds, calls)) < 3


def test_a_run_that_begins_in_an_outage_waits_for_its_end(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=20)
    sandbox.outage(AWAY, 503)
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path / "labels")
    assert (summary.successful, summary.failed) == (20, 0)


def test_a_long_pause_is_kept_by_all_and_nothing_is_sent_into_it(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, latency=0.005)
    progress = begin_at(50, lambda: sandbox.outage(3, 429, at="annotations", headers={"Retry-After": "3"}))
    with sandbox.client(max_workers=8) as client:
        summary = client.download_project(destination=tmp_path / "labels", progress=progress)
        # Longer than a single call waits.
        sandbox.fail_next(429, path="*/batches", headers={"Retry-After": "61"})
        with pytest.raises(RateLimitError) as caught:
            list(client.get_batches())
    assert (summary.successful, summary.failed) == (200, 0)
    assert caught.value.retry_after == 61
    refused = [each for each in sandbox.requests if each.status == 429 and each.path.endswith("annotations")]
    # Those that were on their way when the first was refused.
    assert 1 <= len(refused) <= 8


def test_a_pause_that_is_longer_than_the_patience_ends_the_run_at_once(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=20)
    sandbox.fail_next(429, times=None, path="*/annotations", headers={"Retry-After": "3600"})
    with sandbox.client() as client:
        began = time.monotonic()
        with pytest.raises(OutageError, match="429 Too Many Requests"):
            client.download_project(destination=tmp_path / "labels", patience=60)
        assert time.monotonic() - began < 10


def test_who_asks_too_often_is_slowed_down_and_loses_nothing(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=30)
    sandbox.rate_limit(15, retry_after=0.2)
    with sandbox.client(max_workers=32, retries=1) as client:
        summary = client.download_project(destination=tmp_path / "labels")
    assert (summary.successful, summary.failed) == (30, 0)
    assert sum(each.status == 429 for each in sandbox.requests) > 1


def test_the_listing_does_not_pay_for_items(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=600)
    sandbox.fail_next(500, times=1500, path="*/annotations")
    sandbox.fail_next(500, times=1, path="*/workItems")
    with sandbox.client(patience=0, retries=1) as client:
        summary = client.download_project(destination=tmp_path / "labels")
    assert summary.total_items == 600
    assert summary.failed > 0


def test_a_reporter_is_told_what_is_waited_for(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, latency=0.005)
    reporter = Reporter()
    with sandbox.client(max_workers=8) as client:
        stream = client.iter_downloads(client.get_work_items(), tmp_path / "labels", progress=reporter)
        for _ in range(50):
            next(stream)
        sandbox.outage(AWAY, 503, at="annotations")
        assert sum(1 for _ in stream) == 150
    assert reporter.outcomes == ["downloaded"] * 200
    assert {reason for reason, _ in reporter.waits} == {
        f"503 Service Unavailable from {sandbox.base_url.partition('/api')[0]}"
    }
    assert all(0 <= seconds <= 30 for _, seconds in reporter.waits)
