"""Prefetched pages: when a page is prefetched, and that each is requested once."""

from __future__ import annotations

import threading

from cfplatform import params
from cfplatform.transfer import pagination


def threads():
    return [each for each in threading.enumerate() if each.name == "cfplatform-prefetch"]


def test_a_server_that_answers_at_once_is_asked_as_late_as_possible(make_sandbox, monkeypatch):
    large = make_sandbox(items=300, batches=3)
    monkeypatch.setattr(pagination, "WORTH_A_THREAD", 60)
    with large.client() as client:
        items = client.get_work_items(page_size=20)
        for _ in range(220):
            next(items)
            assert threads() == []
    assert large.counts["work_items"] == 11


def test_a_run_over_a_long_listing_asks_for_each_page_once(make_sandbox, tmp_path, monkeypatch):
    sandbox = make_sandbox(items=60, batches=2)
    monkeypatch.setattr(pagination, "WORTH_A_THREAD", 0)
    monkeypatch.setattr(params, "MAX_PAGE_SIZE", 5)
    with sandbox.client(max_workers=8) as client:
        first = client.download_project(destination=tmp_path)
        assert (first.total_items, first.failed) == (60, 0)
        assert sandbox.counts["work_items"] == 12
        sandbox.clear_requests()
        assert client.download_project(destination=tmp_path).skipped == 60
        assert {request.route for request in sandbox.requests} == {"work_items", "batches"}
        assert sandbox.counts["work_items"] == 12
