"""The receivers of docs/examples as real processes: only signed deliveries get 2xx."""

from __future__ import annotations

import http.client
import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.deliveries import Signer, published
from tests.http.scripted import ScriptedServer

ROOT = Path(__file__).parents[2]
RECEIVERS = ["receive_webhooks.py", "receive_webhooks_flask.py"]


@pytest.fixture
def key_server():
    server = ScriptedServer(default=published(Signer()))
    yield server
    server.stop()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(name, base_url, folder):
    """Start an example; return its port and its database."""
    port, database = free_port(), folder / "events.db"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CF_PLATFORM_BASE_URL": base_url}
    command = [sys.executable, "-W", "error", ROOT / "docs" / "examples" / name, str(port), str(database)]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)
    try:
        wait_for(port, process)
        yield port, database
        assert process.poll() is None
    finally:
        process.kill()
        _, errors = process.communicate()
    assert b"Traceback" not in errors


@pytest.fixture(params=RECEIVERS)
def receiver(request, key_server, tmp_path):
    with started(request.param, key_server.base_url, tmp_path) as found:
        yield found


def wait_for(port, process):
    end = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def post(port, body, headers):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/webhooks", body, headers)
        return connection.getresponse().status


def announce(port, length, headers):
    """Send only the head of a request: a receiver that rejects it need not read the rest."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest("POST", "/webhooks")
        for name, value in {**headers, "Content-Length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status


def events(database):
    with closing(sqlite3.connect(database)) as db:
        return db.execute("SELECT work_item_id, status FROM events ORDER BY key").fetchall()


def test_a_receiver_takes_what_is_signed_and_nothing_else(receiver, key_server):
    port, database = receiver
    signer, now = Signer(), time.time()
    body, headers = signer.deliver(at=now, workItemID="a")
    assert post(port, body, headers) == 204
    # Sent again: an exact copy, and a copy with a new time.
    assert post(port, body, headers) == 204
    assert post(port, *signer.deliver(at=now + 5, workItemID="a")) == 204
    assert post(port, *signer.deliver(at=now, workItemID="a", status="CLIENT_REVIEW")) == 204
    assert events(database) == [("a", "CLIENT_REVIEW"), ("a", "COMPLETED")]
    for wrong, sent in (
        (body + b" ", headers),
        (b"", headers),
        (b"{}", {}),
        signer.deliver(at=now - 3600),
        Signer("KEY-2").deliver(at=now),
        (body, {**headers, "X-Payload-Signature": "AAAA"}),
        (b"\xff" * 1000, headers),
    ):
        assert post(port, wrong, sent) == 400
    assert announce(port, 1024 * 1024 + 1, headers) == 413
    assert len(events(database)) == 2
    assert len(key_server.requests) == 1


def test_a_receiver_asks_to_send_again_while_there_are_no_keys(receiver, key_server):
    port, database = receiver
    key_server.stop()
    assert post(port, *Signer().deliver(at=time.time())) == 503
    assert not database.exists()


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_receiver_hears_of_changes_in_the_sandbox(sandbox, tmp_path, name):
    with started(name, sandbox.base_url, tmp_path) as (port, database):
        sandbox.webhook_url = f"http://127.0.0.1:{port}/webhooks"
        sandbox.set_status(0, "CLIENT_REVIEW")
        assert sandbox.wait_for_deliveries(20)
        assert [delivery.outcome for delivery in sandbox.deliveries] == ["delivered"]
        assert events(database) == [(next(iter(sandbox.work_item_ids())), "CLIENT_REVIEW")]


def test_the_page_shows_these_files():
    page = (ROOT / "docs" / "webhooks.rst").read_text(encoding="utf-8")
    for name in RECEIVERS:
        assert f".. literalinclude:: examples/{name}" in page
