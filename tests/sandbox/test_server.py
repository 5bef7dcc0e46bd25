"""Starting and stopping, arguments, and no output or log."""

from __future__ import annotations

import http.client
import logging
import socket
import subprocess
import sys
import threading
import time

import pytest

from cfplatform.sandbox import Sandbox

from .conftest import Wire


def test_port_is_known_before_the_start():
    sandbox = Sandbox(items=1)
    assert sandbox.base_url.startswith("http://127.0.0.1:")
    assert sandbox.base_url.endswith("/api/v1")
    assert repr(sandbox) == f"<Sandbox {sandbox.base_url} stopped, 1 items>"
    with sandbox:
        assert "running" in repr(sandbox)
        with pytest.raises(RuntimeError, match="already running"):
            sandbox.start()
    sandbox.stop()


def test_stop_and_start_again(make_wire):
    wire = make_wire(3)
    wire.sandbox.update_work_item(0, status="CLIENT_REVIEW")
    url = wire.sandbox.base_url
    wire.sandbox.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        wire.batches()
    wire.sandbox.start()
    assert wire.sandbox.base_url == url
    assert wire.work_items(status="CLIENT_REVIEW").json["total"] == 1


def test_stop_is_quick_with_open_and_busy_connections():
    sandbox = Sandbox(items=3).start()
    idle, busy = Wire(sandbox), Wire(sandbox)
    idle.batches()
    sandbox.latency = 60
    failures = []

    def ask():
        try:
            busy.batches()
        except (http.client.HTTPException, OSError) as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while sandbox.in_flight == 0:
        time.sleep(0.001)
    begin = time.perf_counter()
    sandbox.stop()
    assert time.perf_counter() - begin < 1
    thread.join(5)
    assert len(failures) == 1
    assert sandbox.in_flight == 0
    idle.connection.close()


def test_start_and_stop_leave_no_threads():
    before = threading.active_count()
    begin = time.perf_counter()
    for _ in range(20):
        with Sandbox(items=1) as sandbox:
            wire = Wire(sandbox)
            assert wire.batches().status == 200
            wire.connection.close()
    assert time.perf_counter() - begin < 2
    assert threading.active_count() == before


def test_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            Sandbox(items=1, port=taken.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.invalid", "fe80::1", "", "[::1]"])  # noqa: S104 - refused
def test_other_hosts_are_refused(host):
    with pytest.raises(ValueError, match="loopback"):
        Sandbox(items=1, host=host)


def test_localhost():
    with Sandbox(items=1, host="localhost") as sandbox:
        assert sandbox.base_url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    "options",
    [
        {"items": -1},
        {"items": 2**32 + 1},
        {"batches": -1},
        {"batches": 1, "batch_names": ["a", "b"]},
        {"unbatched": 501},
        {"in_review": 1.1},
        {"latency": -1},
        {"url_lifetime": -1},
        {"export_seconds": -1},
        {"export_url_lifetime": -1},
        {"page_size_default": 0},
        {"page_size_default": 101},
        {"cursor_style": "kebab"},
        {"overlap": -1},
    ],
)
def test_impossible_arguments(options):
    with pytest.raises(ValueError, match=next(iter(reversed(options)))):
        Sandbox(**options)


def test_many_connections_at_once(make_wire):
    wire = make_wire(200)
    ids = list(wire.sandbox.work_item_ids())
    statuses = []

    def ask(part):
        other = Wire(wire.sandbox)
        statuses.extend(other.annotation(item_id).status for item_id in part)
        other.connection.close()

    threads = [threading.Thread(target=ask, args=(ids[first::40],)) for first in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 200
    assert wire.sandbox.counts["annotations"] == len(wire.sandbox.requests) == 200
    assert wire.sandbox.connections == 40


def test_silence(make_wire, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    wire = make_wire(3)
    wire.batches()
    wire.sandbox.truncate_next()
    with pytest.raises(http.client.IncompleteRead):
        wire.batches()
    with socket.create_connection(("127.0.0.1", wire.connection.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    wire.sandbox.stop()
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    assert capfd.readouterr() == ("", "")


def test_an_unused_sandbox_does_not_keep_the_process():
    code = "from cfplatform.sandbox import Sandbox; Sandbox(items=1).start(); print('done')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as taken:
            taken.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
def test_ipv6(tmp_path):
    with Sandbox(items=3, host="::1") as sandbox, sandbox.client() as client:
        assert sandbox.base_url.startswith("http://[::1]:")
        sandbox.reset_next(path="*/annotations")
        assert client.download_project(destination=tmp_path).successful == 3
        sandbox.outage(600, "refused")
        sandbox.clear_faults()
        assert len(list(client.get_work_items())) == 3
