"""Group A: connections: threads, logs, sockets, addresses, proxies, and unusual responses."""

from __future__ import annotations

import gc
import http.server
import io
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
import urllib3

from cfplatform import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    Client,
    InvalidResponseError,
    PermissionDeniedError,
)
from tests.faults.tools import tree
from tests.http.scripted import Answer, page, raw, said
from tests.tools import KEY, load

PAGE = b"<!DOCTYPE html><html><head><title>Internet Security</title></head><body>Sorry.</body></html>"
REQUEST_TIMEOUT = b"<Error><Code>RequestTimeout</Code><Message>Your socket connection was idle.</Message></Error>"


# --- A6: no thread can be started


@pytest.mark.parametrize("allowed", [0, 1, 3])
@pytest.mark.timeout(60)
def test_a06_a_run_goes_on_with_the_threads_that_there_are(make_sandbox, tmp_path, monkeypatch, allowed):
    sandbox = make_sandbox(items=120)
    real, started = threading.Thread.start, []

    def start(thread):
        if thread.name.startswith("cfplatform") and "sandbox" not in thread.name:
            if len(started) >= allowed:
                raise RuntimeError("can't start new thread")
            started.append(thread.name)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with sandbox.client(max_workers=8) as client:
        assert client.download_project(destination=tmp_path).successful == 120
        started.clear()
        assert sum(1 for _ in client.iter_annotations()) == 120
        started.clear()
        assert all(result.ok for result in client.upload_files([io.BytesIO(b"data")] * 25))
    assert len(tree(tmp_path)) == 120
    # Nothing is asked for more often than with threads.
    assert sandbox.counts["annotations"] == 240
    assert sandbox.counts["signing"] <= 2 * (2 + 8)


# --- A11: log records of others


def test_a11_log_records_of_others_stay_as_they_are(sandbox, caplog):
    caplog.set_level("DEBUG", "urllib3.connectionpool")
    pool = urllib3.PoolManager()
    url = f"{sandbox.base_url}/mine?user=42"

    def records():
        caplog.clear()
        pool.request("GET", url)
        return [(record.msg, record.args) for record in caplog.records if "/mine" in record.getMessage()]

    before = records()
    with sandbox.client() as client:
        caplog.clear()
        next(client.get_work_items())
        ours = [record.getMessage() for record in caplog.records if "/workItems" in record.getMessage()]
        during = records()
    assert before
    assert before == during == records()
    assert ours
    assert not [text for text in ours if "limit=" in text]


# --- A13: what S3 says of an upload that stalled


def test_a13_a_transient_code_of_the_storage_is_repeated(sandbox, client):
    fault = {"headers": {"Content-Type": "application/xml"}, "body": REQUEST_TIMEOUT}
    sandbox.fail_next(400, path="/storage/*", method="PUT", **fault)
    assert client.upload_file(io.BytesIO(b"x" * 1000)).size == 1000
    assert sandbox.counts["uploads"] == 2
    sandbox.fail_next(400, path="/storage/*", **fault)
    assert next(client.get_work_items()).load()["images"]


# --- A15: sockets


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts sockets in /proc")
def test_a15_no_socket_is_left_when_a_client_is_closed(make_sandbox, tmp_path):
    def sockets():
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))

    sandbox = make_sandbox(items=150)
    sandbox.client().close()
    gc.collect()
    gc.disable()
    try:
        before = sockets()
        # Held by the threads that serve them: the other end of each connection is in this process too.
        for number in range(3):
            for item_id in itertools.islice(sandbox.work_item_ids(), 20):
                sandbox.reset_next(path=f"*/{item_id}/annotations")
                sandbox.truncate_next(path=f"/storage/*{item_id}*")
            with sandbox.client(max_workers=8) as client:
                assert client.download_project(destination=tmp_path / str(number)).failed == 0
        end = time.monotonic() + 5
        while sockets() > before and time.monotonic() < end:
            time.sleep(0.05)
        assert sockets() <= before
    finally:
        gc.enable()


# --- A16: a page of a proxy in place of a refusal


def test_a16_a_web_page_is_not_the_platforms_word_on_the_key(sandbox, client, tmp_path):
    sandbox.html_next(1, path="*/workItems", status=403, body=PAGE)
    with pytest.raises(
        APIError, match=r"an HTML page titled 'Internet Security'.*not from the platform, but from a proxy"
    ) as caught:
        client.get_work_items_count()
    assert not isinstance(caught.value, PermissionDeniedError)
    assert "key" not in str(caught.value).replace("Security", "")
    for path in ("*/annotations", "*/signedurls", "*/workItems", "*/batches"):
        sandbox.html_next(1, path=path, status=403, body=PAGE)
    assert client.download_project(destination=tmp_path).failed == 0


# --- A17: the key in local variables


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to itself")
def test_a17_no_frame_of_a_traceback_shows_the_key(serve, connect):
    client = connect(serve(default=Answer(delay=3)))
    calls = {
        "Ctrl-C while waiting": lambda: next(client.get_work_items()),
        "a refusal": lambda: connect(serve(said({}, 404))).request("GET", "/x"),
        "a wrong setting": lambda: Client(KEY, base_url="not a url"),
        "a wrong key": lambda: Client(f"{KEY} \0", base_url="https://api.example"),
        "a connection": lambda: connect(serve(listen=False), retries=0).request("GET", "/x"),
    }
    shown = {}
    for name, call in calls.items():
        if name == "Ctrl-C while waiting":
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            call()
        except BaseException as error:
            frames = traceback.TracebackException(type(error), error, error.__traceback__, capture_locals=True).stack
            shown[name] = [
                f"{f.filename}:{f.lineno}" for f in frames if __file__ != f.filename and KEY in str(f.locals)
            ]
    assert shown == dict.fromkeys(calls, [])


# --- A18: interim answers


@pytest.mark.parametrize("status", ["103 Early Hints", "102 Processing", "100 Continue"])
def test_a18_interim_answers_are_skipped(serve, connect, fetch, status):
    interim = f"HTTP/1.1 {status}\r\nLink: </style.css>\r\nContent-Length: 9999\r\n\r\n".encode()
    server = serve(interim + page("a"), interim * 3 + page("b"))
    client = connect(server)
    assert [item.id for _ in range(2) for item in client.get_work_items()] == ["a", "b"]
    assert server.connections == 1
    assert fetch(serve(interim + raw(200, b"whole"))) == b"whole"


# --- A20: slow answers through a SOCKS proxy


class Socks:
    """A SOCKS5 proxy that passes everything on."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.recv(300)
        connection.sendall(b"\5\0")
        request = connection.recv(300)
        host, port = socket.inet_ntoa(request[4:8]), struct.unpack(">H", request[8:10])[0]
        target = socket.create_connection((host, port))
        connection.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        threading.Thread(target=self._pump, args=(connection, target), daemon=True).start()
        self._pump(target, connection)

    def _pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def close(self):
        self._listener.close()


def test_a20_a_drip_through_a_socks_proxy_ends_in_time(serve, connect):
    pytest.importorskip("socks")
    proxy = Socks()
    try:
        server = serve(page("a"), default=Answer(raw(200, b"", "Content-Length: 99999"), endless=b" ", pace=0.05))
        client = connect(server, proxies={"http": proxy.url}, timeout=(1, 0.5), retries=0)
        assert [item.id for item in client.get_work_items()] == ["a"]
        began = time.monotonic()
        with pytest.raises(APITimeoutError, match="bytes a second"):
            list(client.get_work_items())
        assert time.monotonic() - began < 5
    finally:
        proxy.close()


# --- A21: private addresses


HOSTS = [
    "127.0.0.1",
    "localhost",
    "１２７.0.0.1",
    "%31%32%37.0.0.1",
    "127.0.0.1%2e",
    "0x7f000001",
    "2130706433",
    "127.1",
    "[::ffff:127.0.0.1]",
    "[::1]",
    "0",
    "inner.example",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a21_no_private_address_is_contacted_whatever_it_looks_like(connect, monkeypatch, host):
    hits = []

    class Inner(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    real = socket.getaddrinfo

    def lookup(name, *arguments, **options):
        # Stands for a public DNS that leads to an address of this network.
        return real("127.0.0.1" if name in ("inner.example", b"inner.example") else name, *arguments, **options)

    server = http.server.HTTPServer(("127.0.0.1", 0), Inner)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    url = f"http://{host}:{server.server_address[1]}/secret"
    try:
        client = connect("https://api.invalid/v1", retries=0, timeout=2)
        with pytest.raises((InvalidResponseError, APIConnectionError)):
            load(client, url)
        assert hits == []
        if host in ("127.0.0.1", "inner.example"):
            own = connect("https://api.invalid/v1", retries=0, timeout=2, allow_private_storage=True)
            load(own, url)
            assert hits == ["/secret"]
    finally:
        server.shutdown()
        server.server_close()


# --- A22: a proxy that does not speak TLS


def test_a22_a_proxy_that_speaks_plain_http_is_reported_as_that(serve, connect):
    proxy = serve(default=Answer(raw(400, b"plain http"), end="close"))
    client = connect("https://api.example/v1", proxies={"https": f"https://127.0.0.1:{proxy.port}"}, retries=0)
    with pytest.raises(
        APIConnectionError, match=r"The proxy failed: it uses plain HTTP, but its URL starts with https"
    ):
        client.request("GET", "/x")


# --- A23: items that name another project


def test_a23_the_project_that_was_asked_for_is_used_throughout(serve, connect, tmp_path):
    def answer(request):
        path = request.target.partition("?")[0].removeprefix("/api/v1")
        if path == "/projects/mine/workItems":
            items = [{"id": "a", "projectId": "other", "batchId": 1, "assetUrl": "x", "status": "COMPLETED"}]
            return said({"items": items, "meta": {"cursorNext": None}})
        if path == "/projects/mine/batches":
            return said({"items": [{"id": 1, "projectId": "other", "name": "Spring"}], "meta": {"cursorNext": None}})
        if path == "/projects/mine/workItems/a/annotations":
            return said({"workItemID": "a", "metadata": {"coco_results_url": "s3://b/spaces/s/coco_output/f.json"}})
        if path == "/spaces/s/signedurls":
            return said({"items": [{"path": "coco_output/f.json", "signedUrl": f"{server.origin}/f.json?sig=1"}]})
        if path == "/f.json":
            return said({"images": [], "annotations": [], "categories": []})
        return said({"message": f"nothing at {path}"}, 404)

    server = serve(default=Answer(answer))
    client = connect(server)
    assert client.download_project("mine", tmp_path).failed == 0
    assert list(tree(tmp_path)) == ["Spring/a.json"]
    (item,) = client.get_work_items("mine")
    assert item.project_id == "other"
    assert item.load()["images"] == []
    assert item.get_annotation().work_item_id == "a"


def test_a19_an_absurd_total_ends_no_run(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=3)
    with sandbox.client() as client:
        body = client.request("GET", f"/projects/{sandbox.project_id}/workItems", params={"limit": 100}).json()
        body["total"] = 10**400
        sandbox.replace_next(body, path="*/workItems")
        code = (
            "from cfplatform import Client; print(Client().download_project(destination='l', progress=True).successful)"
        )
        environment = {**os.environ, **sandbox.environment()}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert done.stdout == "3\n"

    assert "Traceback" not in done.stderr
