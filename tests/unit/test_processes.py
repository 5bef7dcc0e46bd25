"""Chunks of a run in several processes: number in flight, and cancelled chunks."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from cfplatform import DestinationError
from cfplatform.transfer import processes
from tests.faults.tools import parts, tree
from tests.functional.test_executors import CHUNK, Holding, Inline


def test_the_size_of_a_chunk():
    assert processes.CHUNK == CHUNK


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, Inline])
def test_anything_with_such_a_submit_will_do(sandbox, client, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(processes, "CHUNK", 3)
    executor = kind()
    client.download_project(destination=tmp_path / "here", assets=True)
    assert client.download_project(destination=tmp_path / "there", assets=True, executor=executor).successful == 20
    assert tree(tmp_path / "here") == tree(tmp_path / "there")


def test_what_has_not_begun_is_cancelled(sandbox, client, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CHUNK", 5)
    executor = Holding(100)

    def items():
        yield from client.get_work_items(limit=10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.download_work_items(items(), tmp_path, executor=executor)
    assert [future.cancelled() for future, _, _ in executor.calls] == [True, True]
    assert parts(tmp_path) == []


def test_a_destination_that_vanishes_ends_the_run_with_one_error(sandbox, client, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CHUNK", 5)
    executor = Holding(100)

    def items():
        for item in client.get_work_items():
            if executor.calls:
                shutil.rmtree(tmp_path / ".cfplatform" / "partial", ignore_errors=True)
            yield item

    with pytest.raises(DestinationError, match="was removed while other processes were using it"):
        client.download_work_items(items(), tmp_path, executor=executor)


def test_the_listing_is_read_only_as_far_as_chunks_are_in_flight(make_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CHUNK", 5)
    monkeypatch.setattr(processes, "MAX_CHUNKS", 3)
    sandbox = make_sandbox(items=100, batches=2)
    taken = []
    with sandbox.client() as client:
        items = (taken.append(item) or item for item in client.get_work_items())
        results = client.iter_downloads(items, tmp_path, executor=Holding(3))
        assert next(results).outcome == "downloaded"
        assert len(taken) == 15
        results.close()
