"""Deadlines of calls, and reads and waits that end when their run is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from cfplatform import APITimeoutError, ServerError
from cfplatform.http import Interrupted, Run, timeouts
from tests.faults.test_n_network import DRIPS
from tests.http.scripted import Answer, raw, said
from tests.tools import load


@pytest.fixture
def short_calls(monkeypatch):
    """Give each call two seconds."""
    monkeypatch.setattr(timeouts, "CALL_SECONDS", 2.0)
    monkeypatch.setattr(timeouts, "CALL_TIMEOUTS", 0)


@pytest.fixture
def stop():
    """An event that is set soon."""
    event = threading.Event()
    timer = threading.Timer(0.2, event.set)
    timer.start()
    yield event
    timer.join()


@pytest.mark.parametrize("storage", [False, True], ids=["api", "storage"])
def test_a_body_that_gets_on_too_slowly_ends_at_the_deadline(serve, connect, short_calls, storage):
    # 8 KB/s: above the least speed, so only the deadline ends it.
    server = serve(default=Answer(raw(200, b"", "Content-Length: 9000000"), endless=b"y" * 400, pace=0.05))
    client = connect(server, timeout=5)
    began = time.monotonic()
    with pytest.raises(APITimeoutError, match="the time limit of the call"):
        load(client, f"{server.origin}/o") if storage else client.request("GET", "/x")
    # 2 s, and one more for each 16 KiB that came.
    assert 2 <= time.monotonic() - began < 5
    # It is not repeated: there is no time left.
    assert len(server.requests) == 1


@pytest.mark.parametrize("storage", [False, True], ids=["api", "storage"])
def test_repeats_end_at_the_deadline_with_what_the_server_said_last(serve, connect, short_calls, storage):
    server = serve(default=raw(503, b"Come again.", "Retry-After: 0.3"))
    client = connect(server, timeout=5, retries=20)
    began = time.monotonic()
    with pytest.raises(ServerError, match="Come again"):
        load(client, f"{server.origin}/o") if storage else client.request("GET", "/x")
    # It does not begin a wait that would end after the deadline of 2 s.
    assert 1.5 <= time.monotonic() - began < 2.5
    assert 4 <= len(server.requests) <= 7


@pytest.mark.parametrize(
    "answer",
    [
        *(DRIPS[name] for name in ("headers", "continue", "body", "trailers", "chunk")),
        Answer(raw(200, b"", "Content-Length: 4000000000"), endless=b"x" * 65_536),
    ],
    ids=["headers", "continue", "body", "trailers", "chunk", "flood"],
)
def test_reading_ends_when_the_run_is_stopped(serve, connect, stop, answer):
    server = serve(default=answer)
    client = connect(server, timeout=(5, 20))
    began = time.monotonic()
    with pytest.raises(Interrupted):
        client._calls.fetch(f"{server.origin}/o", lambda stream: sum(map(len, stream.chunks())), run=Run(stop=stop))
    assert time.monotonic() - began < 10
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "headers"), [(503, ["Retry-After: 30"]), (500, ["Retry-After: 30"]), (503, [])])
def test_a_wait_ends_when_the_run_is_stopped(serve, connect, monkeypatch, stop, status, headers):
    monkeypatch.setattr("random.uniform", lambda low, high: 30)
    server = serve(said({"message": "busy"}, status, *headers), default=said({}))
    client = connect(server)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        client._calls.get_json("/x", run=Run(stop=stop))
    assert time.monotonic() - began < 1
    assert len(server.requests) == 1


CHILD = """
import sys
from cfplatform import Client
from cfplatform.http import timeouts

# A call may take two seconds.
timeouts.CALL_SECONDS, timeouts.CALL_TIMEOUTS, timeouts.LATE = 2.0, 0, 0.5
with Client(timeout=(1, 1)) as client:
    def progress(done, total):
        if done == 20:
            print("now", flush=True)
    summary = client.download_project(destination=sys.argv[1], progress=progress, patience=0, max_workers=4)
print(summary.successful, summary.failed)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_time_in_which_the_process_did_not_run_counts_for_no_deadline(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=200, latency=0.02)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "labels")],
        env={**os.environ, **sandbox.environment()},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "now\n"
        child.send_signal(signal.SIGSTOP)
        time.sleep(5)
        child.send_signal(signal.SIGCONT)
        assert child.stdout.read() == "200 0\n"
