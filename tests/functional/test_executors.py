"""Downloads in other processes: the same tree and summary, nothing lost if a process dies, no key exposed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import requests
import urllib3

from cfplatform import AuthenticationError, ConfigurationError, DownloadError, InvalidParameterError, iter_downloaded
from tests.faults.tools import parts, start, tree, wait_until

#: Items in a chunk.
CHUNK = 200
METHODS = [method for method in ("spawn", "forkserver", "fork") if method in multiprocessing.get_all_start_methods()]


class Inline:
    """Runs each call in this process, with arguments and result pickled."""

    def __init__(self):
        self.sent = []
        self.returned = []
        self.shown = ""

    def submit(self, fn, /, *args):
        future = Future()
        self.shown += repr(args)
        self.sent.append(pickle.dumps((fn, args)))
        try:
            fn, args = pickle.loads(self.sent[-1])  # noqa: S301 - made in the line above
            self.returned.append(pickle.dumps(fn(*args)))
            future.set_result(pickle.loads(self.returned[-1]))  # noqa: S301 - as above
        except BaseException as error:
            future.set_exception(error)
        return future


def pool_of(method, workers=2):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))


@pytest.fixture
def pool():
    with pool_of(METHODS[0]) as pool:
        yield pool


def remembered(root):
    """The state of a folder, without values that differ from run to run."""
    return [(item.project_id, item.item_id, item.path, item.asset_path) for item in iter_downloaded(root)]


def account(summary):
    """The results of a run by item, relative to its folder."""
    return {
        result.item_id: (
            result.batch_id,
            result.outcome,
            result.size,
            result.asset_size,
            result.written,
            type(result.error),
            str(result.error).partition(" (request ID ")[0],
            result.path and result.path.relative_to(summary.destination),
            result.asset_path and result.asset_path.relative_to(summary.destination),
        )
        for result in summary.results
    }


# Newer versions of Python warn about a fork with threads, which is tested here.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
def test_processes_leave_the_tree_and_the_account_of_threads(make_sandbox, tmp_path, method):
    sandbox = make_sandbox(items=210, batches=3)
    here, there = tmp_path / "here", tmp_path / "there"
    with sandbox.client(max_workers=4) as client, pool_of(method) as pool:
        alone = client.download_project(destination=here, assets=True)
        sandbox.clear_requests()
        spread = client.download_project(destination=there, assets=True, executor=pool)
        counts = sandbox.counts
        assert (counts["work_items"], counts["batches"], counts["annotations"]) == (3, 1, 210)
        assert counts["storage"] == 420
        assert counts["signing"] <= 3 * 4
        assert (spread.total_items, spread.successful, spread.failed) == (210, 210, 0)
        assert tree(there) == tree(here)
        assert account(spread) == account(alone)
        assert [(*row[:2], *(path.relative_to(there) for path in row[2:])) for row in remembered(there)] == [
            (*row[:2], *(path.relative_to(here) for path in row[2:])) for row in remembered(here)
        ]
        assert parts(there) == []
        sandbox.clear_requests()
        again = client.download_project(destination=there, assets=True, executor=pool)
        assert (again.skipped, again.bytes) == (210, 0)
        assert {kind for kind, count in sandbox.counts.items() if count} == {"work_items", "batches"}
        # Threads resume where processes stopped, and vice versa.
        assert client.download_project(destination=there, assets=True).skipped == 210
        assert pool.submit(os.getpid).result() != os.getpid()
    assert sandbox.leaks == 0


def test_every_way_to_download_takes_an_executor(sandbox, client, tmp_path, pool):
    items = list(client.get_work_items())
    totals = []
    summary = client.download_work_items(
        items, tmp_path / "a", executor=pool, max_workers=2, progress=lambda done, total: totals.append((done, total))
    )
    assert summary.successful == 20
    assert totals == [(number, 20) for number in range(1, 21)]
    assert {result.outcome for result in client.iter_downloads(items, tmp_path / "b", executor=pool)} == {"downloaded"}
    assert items[0].download(tmp_path / "c", executor=pool).path.is_file()
    assert client.get_batch(1001).download(tmp_path / "d", executor=pool).successful == 10
    assert client.download_work_items([], tmp_path / "e", executor=pool).total_items == 0


def test_options_reach_the_workers(sandbox, client, tmp_path, pool):
    summary = client.download_project(
        destination=tmp_path, executor=pool, inject_asset_url=False, space_id=sandbox.space_id
    )
    assert summary.successful == 20
    for path, content in tree(tmp_path).items():
        assert content == sandbox.document(path.rsplit("/", 1)[1].removesuffix(".json"))
    assert client.download_project(destination=tmp_path, executor=pool, inject_asset_url=False).skipped == 20
    assert client.download_project(destination=tmp_path, executor=pool).successful == 20
    assert client.download_project(destination=tmp_path, executor=pool, overwrite=True).successful == 20


def test_what_the_storage_says_is_unchanged_is_skipped(sandbox, client, tmp_path):
    for number in range(20):
        sandbox.patch_work_item_json(number, {}, remove=["updatedAt"])
    assert client.download_project(destination=tmp_path, executor=Inline()).successful == 20
    sandbox.clear_requests()
    again = client.download_project(destination=tmp_path, executor=Inline())
    assert (again.skipped, sandbox.counts["storage"]) == (20, 20)
    assert all(result.size for result in again.results)


def test_files_move_with_their_batch(sandbox, client, tmp_path):
    client.download_project(destination=tmp_path, assets=True)
    before = tree(tmp_path)
    sandbox.rename_batch(1001, "Renamed")
    client.download_project(destination=tmp_path, assets=True, executor=Inline()).raise_for_failures()
    after = tree(tmp_path)
    assert len(after) == len(before) == 40
    assert len([name for name in after if name.startswith("Renamed/")]) == 20


def test_an_item_that_fails_in_a_worker_fails_as_it_does_here(sandbox, client, tmp_path, pool):
    ids = list(sandbox.work_item_ids())
    sandbox.set_annotation(ids[0], None)
    sandbox.fail_next(404, times=None, path=f"*{ids[1]}/annotations")
    sandbox.update_work_item(ids[2], document=b"[1, 2]")
    sandbox.fail_next(404, times=None, path="/storage/*" + sandbox.work_item(ids[3])["assetUrl"].split("/")[-1])
    alone = client.download_project(destination=tmp_path / "here", assets=True)
    spread = client.download_project(destination=tmp_path / "there", assets=True, executor=pool)
    assert (spread.successful, spread.failed) == (16, 4)
    assert account(spread) == account(alone)
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert {type(result.error).__name__ for result in spread.failures} >= {"NotFoundError", "InvalidResponseError"}
    # The document of the item whose asset failed is kept, and is in the state.
    sandbox.clear_faults()
    sandbox.clear_requests()
    client.download_work_items([client.get_work_item(ids[3])], tmp_path / "there", assets=True, executor=pool)
    assert sandbox.counts["storage"] == 1


def test_a_refused_key_stops_the_run_and_keeps_what_is_finished(make_sandbox, tmp_path, pool):
    sandbox = make_sandbox(items=700, batches=2)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path, executor=pool)
        for _ in range(150):
            next(results)
        sandbox.fail_next(401, times=None, path="*/annotations")
        with pytest.raises(AuthenticationError, match="Check the API key") as caught:
            list(results)
        assert sandbox.api_key not in "".join(traceback.format_exception(caught.value))
        sandbox.clear_faults()
        # What two workers had under way may be unknown, nothing else.
        kept = len(remembered(tmp_path))
        assert 150 <= kept < 700
        summary = client.download_project(destination=tmp_path, executor=pool)
    assert (summary.skipped, summary.successful) == (kept, 700 - kept)
    assert len(tree(tmp_path)) == 700


@pytest.mark.skipif(
    sys.version_info < (3, 11, 5), reason="closing a pool whose process died may hang: a fault of this Python"
)
def test_a_worker_that_is_killed_loses_nothing(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=600, batches=2, latency=0.02)
    with sandbox.client(max_workers=4) as client:
        with pool_of(METHODS[0]) as pool:
            victim = pool.submit(os.getpid).result()
            results = client.iter_downloads(client.get_work_items(), tmp_path / "there", executor=pool)
            seen = {next(results).item_id for _ in range(50)}
            os.kill(victim, signal.SIGKILL)
            with pytest.raises(DownloadError, match="run it again") as caught:
                seen.update(result.item_id for result in results)
            assert type(caught.value.__cause__).__name__ == "BrokenProcessPool"
            with pytest.raises(DownloadError, match="run it again"):
                client.download_project(destination=tmp_path / "there", executor=pool)
        sandbox.latency = 0
        with pool_of(METHODS[0]) as pool:
            summary = client.download_project(destination=tmp_path / "there", executor=pool)
        assert (summary.total_items, summary.failed) == (600, 0)
        assert summary.skipped >= len(seen) >= 50
        client.download_project(destination=tmp_path / "here")
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert parts(tmp_path / "there") == []


def test_closing_early_ends_the_workers_soon_and_keeps_what_they_saved(make_sandbox, tmp_path, pool):
    sandbox = make_sandbox(items=2400, batches=2)
    with sandbox.client(max_workers=4) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path, executor=pool)
        next(results)
        began = time.monotonic()
        results.close()
        assert pool.submit(os.getpid).result(20) != os.getpid()
        assert time.monotonic() - began < 20
        wait_until(lambda: parts(tmp_path) == [])
        stored = len(tree(tmp_path))
        assert stored < 1200
        sandbox.clear_requests()
        summary = client.download_project(destination=tmp_path, executor=pool, batch_ids=[1001])
    assert summary.failed == 0
    # Nearly all that two interrupted chunks saved is known.
    assert summary.skipped >= min(stored, 1200) - 2 * CHUNK
    assert sandbox.counts["storage"] == 1200 - summary.skipped


class Holding:
    """Holds calls until it has a number of them, and then runs them all."""

    def __init__(self, number):
        self.number = number
        self.calls = []

    def submit(self, fn, /, *args):
        future = Future()
        self.calls.append((future, fn, args))
        if len(self.calls) == self.number:
            threading.Thread(target=self.run).start()
        return future

    def run(self):
        for future, fn, args in self.calls:
            future.set_result(fn(*args))


def test_a_listing_that_breaks_finishes_what_it_listed(sandbox, client, tmp_path):
    def items():
        yield from client.get_work_items(limit=7)
        raise RuntimeError("the listing broke")

    finished = []
    with pytest.raises(RuntimeError, match="the listing broke"):
        finished.extend(client.iter_downloads(items(), tmp_path, executor=Inline()))
    assert len(tree(tmp_path)) == 7


def test_the_key_goes_to_the_workers_and_nowhere_else(sandbox, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    executor = Inline()
    ids = list(sandbox.work_item_ids())
    sandbox.fail_next(404, times=None, path=f"*{ids[1]}/annotations", body=f"no, {sandbox.api_key}".encode())
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path, assets=True, executor=executor)
        assert summary.failed == 1
        sandbox.fail_next(401, times=None, body=f"no, {sandbox.api_key}".encode(), path="*/annotations")
        with pytest.raises(AuthenticationError) as caught:
            client.download_project(destination=tmp_path, overwrite=True, executor=executor)
    key = sandbox.api_key
    # The documented way to pass it.
    assert all(key.encode() in sent for sent in executor.sent)
    assert not any(key.encode() in returned for returned in executor.returned)
    shown = executor.shown + caplog.text + "".join(traceback.format_exception(caught.value))
    shown += repr([*summary.results, *summary.failures, client])
    assert key not in shown
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes()
    # Other private values are still not passed.
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client)


class Elsewhere(Inline):
    """A worker with another folder of the same name."""

    def submit(self, fn, /, chunk):
        return super().submit(fn, dataclasses.replace(chunk, mark=chunk.mark.with_name("elsewhere")))


def test_a_worker_that_does_not_see_the_folder_ends_the_run(sandbox, client, tmp_path):
    with pytest.raises(DownloadError, match="has no access to the caller"):
        client.download_project(destination=tmp_path, executor=Elsewhere())
    assert tree(tmp_path) == {}
    assert sandbox.counts["annotations"] == 0


class Failing(Inline):
    """Fails with a message that contains the key."""

    def submit(self, fn, /, chunk):
        future = Future()
        future.set_exception(OSError(f"lost {chunk.settings.api_key}"))
        return future


def test_an_executor_that_fails_ends_the_run_with_one_error(sandbox, client, tmp_path):
    with pytest.raises(DownloadError, match=r"OSError: lost \*\*\*") as caught:
        client.download_project(destination=tmp_path, executor=Failing())
    assert isinstance(caught.value.__cause__, OSError)
    pool = ThreadPoolExecutor()
    pool.shutdown()
    with pytest.raises(DownloadError, match="executor was shut down"):
        client.download_project(destination=tmp_path, executor=pool)


class OwnRetry(urllib3.Retry):
    """A policy that worker processes can import."""


def test_settings_that_cannot_travel_are_refused_before_any_request(sandbox, tmp_path, pool):
    class LocalRetry(urllib3.Retry):
        """A policy that other processes cannot import."""

    with requests.Session() as session, sandbox.client(session=session) as client:
        with pytest.raises(ConfigurationError, match=r"cannot be used with session=\.\.\."):
            client.download_project(destination=tmp_path, executor=pool)
        # Without an executor it works.
        sandbox.clear_requests()
    with sandbox.client(retries=LocalRetry(2)) as client:
        with pytest.raises(ConfigurationError, match="retries") as caught:
            client.download_project(destination=tmp_path, executor=pool)
        assert sandbox.api_key not in "".join(traceback.format_exception(caught.value))
    assert sandbox.requests == []
    with sandbox.client(retries=OwnRetry(2), user_agent="my-tool/1", proxies={"https": "http://u:p@proxy"}) as client:
        assert client.download_project(destination=tmp_path, executor=pool).successful == 20
    annotations = [request for request in sandbox.requests if request.path.endswith("/annotations")]
    assert all(request.headers["user-agent"].startswith("my-tool/1 cfplatform/") for request in annotations)


@pytest.mark.parametrize("executor", [5, "processes", True, ProcessPoolExecutor, object()])
def test_what_is_no_executor_is_refused(sandbox, client, tmp_path, executor):
    with pytest.raises(InvalidParameterError, match="executor must be"):
        client.download_project(destination=tmp_path, executor=executor)
    assert sandbox.requests == []


KILLED = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from cfplatform import Client

if __name__ == "__main__":
    with Client(max_workers=4) as client, ProcessPoolExecutor(1, mp_context=get_context(sys.argv[2])) as pool:
        results = client.iter_downloads(client.get_work_items(), sys.argv[1], executor=pool)
        next(results)
        print(active_children()[0].pid, flush=True)
        list(results)
"""


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_outlive_their_caller_do_not_keep_the_destination(make_sandbox, tmp_path, method):
    sandbox = make_sandbox(items=600, batches=2)
    with start(sandbox, KILLED, tmp_path, method) as process:
        worker = int(process.stdout.readline())
        process.kill()
        process.wait()
        kept = len(remembered(tmp_path))
        with sandbox.client() as client:
            summary = client.download_project(destination=tmp_path)
        # A forked worker waits forever; the others have noticed that the caller is gone.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        process.communicate(timeout=20)
    assert (summary.total_items, summary.failed) == (600, 0)
    assert 0 < kept <= summary.skipped + CHUNK
    assert len(tree(tmp_path)) == 600


INTERRUPTED = """
import sys
from concurrent.futures import ProcessPoolExecutor
from cfplatform import Client

if __name__ == "__main__":
    with Client(max_workers=4) as client, ProcessPoolExecutor(2) as pool:
        client.download_project(
            destination=sys.argv[1], executor=pool, progress=lambda done, total: print(done, flush=True)
        )
"""


def test_ctrl_c_ends_a_run_with_processes(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=1500, batches=2)
    with start(sandbox, INTERRUPTED, tmp_path) as process:
        process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 20
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err
    kept = len(tree(tmp_path))
    assert 0 < kept < 1500
    with sandbox.client() as client:
        summary = client.download_project(destination=tmp_path)
    assert (summary.total_items, summary.failed) == (1500, 0)
    assert summary.skipped >= kept - 2 * CHUNK
