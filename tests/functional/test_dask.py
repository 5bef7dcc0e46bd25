"""Downloads on a local Dask cluster: a scheduler and two workers in separate processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from cfplatform import AuthenticationError, DownloadError, iter_downloaded
from tests.faults.tools import ROOT, parts, tree, wait_until

distributed = pytest.importorskip("distributed", reason="needs the extra dask")

LOOPBACK = "127.0.0.1"


class Cluster:
    """A scheduler and two workers, started by commands like a user's; none of them has a key."""

    def __init__(self, folder, stack, **environment):
        self._folder = folder
        self._stack = stack
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("CF_")}
        self._environment |= {"PYTHONPATH": str(ROOT), **environment}
        self.logs = folder / "logs"
        file = folder / "scheduler.json"
        self._start("scheduler", "--host", LOOPBACK, "--port", "0", "--no-dashboard", "--scheduler-file", file)
        wait_until(file.exists, 60)
        options = ("--host", LOOPBACK, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder)
        self.workers = [self._start("worker", "--scheduler-file", file, *options) for _ in range(2)]
        self.client = stack.enter_context(distributed.Client(scheduler_file=str(file), timeout=60))
        self.client.wait_for_workers(2, timeout=60)

    def _start(self, *command):
        with self.logs.open("ab") as logs:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *map(str, command)],
                env=self._environment,
                cwd=self._folder,
                stdout=logs,
                stderr=logs,
            )
        self._stack.callback(process.wait, 20)
        self._stack.callback(process.kill)
        return process

    def kill_a_worker(self):
        self.workers[0].send_signal(signal.SIGKILL)
        self.workers[0].wait(20)


@pytest.fixture
def make_cluster(tmp_path_factory):
    with ExitStack() as stack:
        yield lambda **environment: Cluster(tmp_path_factory.mktemp("cluster"), stack, **environment)


def test_a_cluster_leaves_the_tree_of_threads(make_sandbox, make_cluster, tmp_path):
    sandbox = make_sandbox(items=250, batches=3)
    cluster = make_cluster()
    with sandbox.client(max_workers=4) as client, cluster.client.get_executor() as executor:
        client.download_project(destination=tmp_path / "here", assets=True)
        spread = client.download_project(destination=tmp_path / "there", assets=True, executor=executor)
        assert (spread.successful, spread.failed) == (250, 0)
        again = client.download_project(destination=tmp_path / "there", assets=True, executor=executor)
        assert again.skipped == 250
        everything = client.download_project(destination=tmp_path / "there", overwrite=True, executor=executor)
        assert everything.successful == 250
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert parts(tmp_path / "there") == []


def test_a_worker_that_is_killed_loses_nothing(make_sandbox, make_cluster, tmp_path):
    sandbox = make_sandbox(items=1000, batches=2, latency=0.01)
    cluster = make_cluster()
    with sandbox.client(max_workers=4) as client, cluster.client.get_executor() as executor:
        outcomes = {}
        for result in client.iter_downloads(client.get_work_items(), tmp_path / "there", executor=executor):
            assert result.item_id not in outcomes
            outcomes[result.item_id] = result.outcome
            if len(outcomes) == 50:
                cluster.kill_a_worker()
        sandbox.latency = 0
        assert set(outcomes) == set(sandbox.work_item_ids())
        assert set(outcomes.values()) == {"downloaded"}
        assert client.download_project(destination=tmp_path / "there").skipped == 1000
        client.download_project(destination=tmp_path / "here")
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    # The dead worker's unfinished files go with the next run.
    assert parts(tmp_path / "there") == []


def test_a_chunk_that_the_cluster_gives_up_ends_the_run_and_costs_that_chunk_only(make_sandbox, make_cluster, tmp_path):
    sandbox = make_sandbox(items=1000, batches=2, latency=0.01)
    cluster = make_cluster(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    with sandbox.client(max_workers=4) as client, cluster.client.get_executor() as executor:
        results = client.iter_downloads(client.get_work_items(), tmp_path, executor=executor)
        for _ in range(50):
            next(results)
        cluster.kill_a_worker()
        with pytest.raises(DownloadError, match="KilledWorker.*run it again") as caught:
            list(results)
        assert type(caught.value.__cause__).__name__ == "KilledWorker"
        kept = sum(1 for _ in iter_downloaded(tmp_path))
        assert 50 <= kept < 1000
        sandbox.latency = 0
        summary = client.download_project(destination=tmp_path, executor=executor)
    assert (summary.skipped, summary.successful) == (kept, 1000 - kept)


def test_the_key_is_neither_needed_nor_shown_by_the_cluster(make_sandbox, make_cluster, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    sandbox = make_sandbox(items=20, batches=2)
    cluster = make_cluster(DASK_LOGGING__DISTRIBUTED="debug")
    with sandbox.client() as client, cluster.client.get_executor() as executor:
        assert client.download_project(destination=tmp_path, executor=executor).successful == 20
        sandbox.fail_next(401, times=None, body=f"no, {sandbox.api_key}".encode(), path="*/annotations")
        with pytest.raises(AuthenticationError):
            client.download_project(destination=tmp_path, overwrite=True, executor=executor)
    logs = cluster.logs.read_text(encoding="utf-8")
    assert "download_chunk" in logs + caplog.text
    assert sandbox.api_key not in logs + caplog.text
