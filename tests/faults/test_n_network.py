"""Group N: connections that are refused, closed, reset, or very slow."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest
import urllib3

from cfplatform import (
    APIConnectionError,
    APITimeoutError,
    ConfigurationError,
    IncompleteDownloadError,
    InvalidResponseError,
    NotFoundError,
    TransportError,
)
from tests.faults.tools import parts, tree
from tests.http.scripted import Answer, ScriptedServer, raw, said
from tests.tools import KEY, load

OK = said({"ok": True})
DOCUMENT = b'{"images": [], "annotations": [], "categories": []}'
CHUNKED = "Transfer-Encoding: chunked"


def get(client):
    return client.request("GET", "/x").json()


# --- N1, N2


def test_n01_refused_connections_are_tried_again_after_growing_random_waits(serve, connect, monkeypatch):
    server = serve(OK, listen=False)
    waits = []

    def wait(low, high):
        waits.append((low, high))
        if len(waits) == 2:
            server.listen()
        return 0

    monkeypatch.setattr("random.uniform", wait)
    assert get(connect(server)) == {"ok": True}
    assert waits == [(0, 0.5), (0, 1.0)]
    assert len(server.requests) == 1


def test_n02_a_connection_closed_before_any_byte_is_replaced(serve, connect):
    server = serve(Answer(end="close"), Answer(end="close"), OK)
    assert get(connect(server)) == {"ok": True}
    assert len(server.requests) == server.connections == 3


@pytest.mark.parametrize("end", ["close", "reset"])
def test_n02_what_might_be_done_twice_is_not_repeated(serve, connect, end):
    server = serve(Answer(end=end), OK)
    with pytest.raises(APIConnectionError, match="POST .*The connection was lost"):
        connect(server).request("POST", "/x", json={})
    assert len(server.requests) == 1


# --- N3, N4, N5


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
        b"HTTP/1.1 200 OK\r\nnot a header\r\nContent-Length: %d\r\n\r\n%s" % (len(DOCUMENT), DOCUMENT),
    ],
    ids=["status", "mid", "first", "malformed"],
)
def test_n03_close_inside_headers(serve, connect, fetch, head):
    server = serve(Answer(head, end="close"), raw(200, DOCUMENT))
    assert fetch(server) == DOCUMENT
    assert len(server.requests) == 2
    with pytest.raises(TransportError):
        fetch(serve(default=Answer(head, end="close")))
    if b"not a header" not in head:
        # The API proves an answer by parsing it, whatever its headers.
        api = serve(Answer(head, end="close"), said({"items": [{"id": "a"}]}))
        assert [item.id for item in connect(api).get_work_items()] == ["a"]
        assert len(api.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Answer(raw(200, DOCUMENT[:20], f"Content-Length: {len(DOCUMENT)}"), end="reset"),
        Answer(raw(200, b"x" * 1000, "Content-Length: 2000"), end="close"),
        Answer(raw(200, b"a\r\n0123456789\r\n", CHUNKED), end="close"),
        Answer(raw(200, b"a\r\n01234", CHUNKED), end="reset"),
    ],
    ids=["reset", "short", "unended", "cut"],
)
def test_n04_a_cut_body_is_asked_for_again_and_never_accepted(serve, fetch, fault):
    server = serve(fault, fault, raw(200, DOCUMENT))
    assert fetch(server) == DOCUMENT
    assert len(server.requests) == 3
    with pytest.raises((IncompleteDownloadError, APIConnectionError)):
        fetch(serve(default=fault), retries=1)


def test_n04_files_are_exact_and_the_bytes_are_counted_once(sandbox, tmp_path):
    sandbox.truncate_next(7, path="/storage/*")
    sandbox.reset_next(3, path="/storage/*")
    # On a busy machine all ten may meet the same item.
    with sandbox.client(retries=10) as client:
        summary = client.download_project(destination=tmp_path)
    files = tree(tmp_path)
    assert (summary.successful, len(files), parts(tmp_path)) == (20, 20, [])
    assert summary.bytes == sum(map(len, files.values()))
    assert sandbox.counts["storage"] == 30


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("asked", [False, True], ids=["idle", "when asked"])
def test_n05_a_kept_connection_that_ends_at_reuse_is_replaced(serve, connect, end, asked):
    server = serve(OK, Answer(end=end), OK) if asked else serve(Answer(OK, end=end), OK)
    client = connect(server)
    get(client)
    if not asked:
        time.sleep(0.1)
    assert get(client) == {"ok": True}
    assert server.connections == 2


# --- N6

DRIPS = {
    "headers": Answer(b"HTTP/1.1 200 OK\r\nX-Slow: ", endless=b"x", pace=0.05),
    "status": Answer(b"", endless=b"H", pace=0.05),
    "continue": Answer(b"", endless=b"HTTP/1.1 100 Continue\r\n\r\n", pace=0.05),
    "body": Answer(raw(200, b"", "Content-Length: 100000"), endless=b"{", pace=0.05),
    "chunks": Answer(raw(200, b"", CHUNKED), endless=b"1\r\n{\r\n", pace=0.05),
    "chunk": Answer(raw(200, b"fffff\r\n", CHUNKED), endless=b"{", pace=0.05),
    "chunk size": Answer(raw(200, b"1;", CHUNKED), endless=b"x", pace=0.05),
    "trailers": Answer(raw(200, b"2\r\n{}\r\n0\r\n", CHUNKED), endless=b"X-T: 1\r\n", pace=0.05),
    "trailer": Answer(raw(200, b"2\r\n{}\r\n0\r\nX-T: ", CHUNKED), endless=b"x", pace=0.05),
}
FLOODS = {
    "continue": Answer(b"", endless=b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    "continue with headers": Answer(b"", endless=b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n" * 50),
    "trailers": Answer(raw(200, b"2\r\n{}\r\n0\r\n", CHUNKED), endless=b"X-T: 1\r\n" * 50),
    "line": Answer(b"HTTP/1.1 200 OK\r\nX: ", endless=b"x" * 4096),
    "headers": Answer(b"HTTP/1.1 200 OK\r\n", endless=b"X: 1\r\n" * 50),
    "chunk size": Answer(raw(200, b"1;", CHUNKED), endless=b"x" * 4096),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
@pytest.mark.parametrize("storage", [False, True], ids=["api", "storage"])
def test_n06_a_drip_ends_in_a_timeout(serve, connect, drip, storage):
    server = serve(default=drip)
    client = connect(server, timeout=(5, 0.2), retries=0)
    began = time.monotonic()
    with pytest.raises(APITimeoutError, match="No response in time"):
        load(client, f"{server.origin}/o") if storage else get(client)
    # Twice the read timeout at the most, and the rest for a busy machine.
    assert 0.2 <= time.monotonic() - began < 5
    assert len(server.requests) <= 1


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("storage", [False, True], ids=["api", "storage"])
def test_n06_lines_without_end_are_not_read_for_ever_however_fast_they_come(serve, connect, flood, storage):
    server = serve(default=flood)
    client = connect(server, timeout=(5, 30), retries=0)
    began = time.monotonic()
    with pytest.raises(APIConnectionError, match="The connection was lost"):
        load(client, f"{server.origin}/o") if storage else get(client)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("name", ["headers", "continue", "body", "trailers"])
def test_n06_after_a_drip_another_attempt_is_made(serve, connect, name):
    api, storage = serve(DRIPS[name], default=OK), serve(DRIPS[name], default=raw(200, DOCUMENT))
    client = connect(api, timeout=(5, 0.4))
    assert load(client, f"{storage.origin}/o") == DOCUMENT
    assert get(client) == {"ok": True}
    assert all(len(server.requests) >= 2 for server in (api, storage))


def test_n06_a_slow_body_that_gets_on_is_read_to_its_end(serve, fetch):
    # 8 KB/s, for twice as long as the read timeout.
    server = serve(Answer(raw(200, b"", f"Content-Length: {400 * 30}"), endless=b"y" * 400, pace=0.05))
    began = time.monotonic()
    assert fetch(server, timeout=(5, 0.7), retries=0) == b"y" * 400 * 30
    assert time.monotonic() - began > 1.4


def test_n06_many_small_chunks_and_some_trailers_are_no_flood(serve, fetch):
    body = b"".join(b"1\r\n%c\r\n" % (97 + number % 26) for number in range(5000))
    end = b"0\r\n" + b"X-T: 1\r\n" * 50 + b"\r\n"
    server = serve(raw(200, body + end, CHUNKED), raw(200, DOCUMENT))
    assert len(fetch(server, retries=0)) == 5000


def test_n06_the_tunnel_of_a_proxy_is_bounded_too(serve, connect):
    proxy = serve(default=Answer(b"HTTP/1.0 200 Connection established\r\nX: ", endless=b"x", pace=0.05))
    client = connect("https://api.invalid/v1", proxies={"https": proxy.origin}, timeout=0.2, retries=0)
    began = time.monotonic()
    with pytest.raises(TransportError):
        get(client)
    assert time.monotonic() - began < 5


# --- N7


def named(monkeypatch, addresses, wait=0.0):
    """Let the name ``localhost`` have these addresses; return the event that ends a slow lookup."""
    known = socket.getaddrinfo
    ended = threading.Event()

    def look_up(host, port, *args, **kwargs):
        if host not in ("localhost", b"localhost"):
            return known(host, port, *args, **kwargs)
        ended.wait(wait)
        return [
            (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, number or port))
            for family, address, number in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return ended


@pytest.fixture
def dead():
    """The port of a host that is there no more: it answers to no attempt to connect."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            # Fills the queue of those who wait to be accepted; what comes after that is dropped.
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            probe.connect(listener.getsockname())
            pytest.skip("this system accepts connections beyond the queue")
        yield listener.getsockname()[1]


def test_n07_a_slow_name_lookup_is_not_waited_for(serve, connect, monkeypatch):
    server = serve(default=OK)
    ended = named(monkeypatch, [(socket.AF_INET, "127.0.0.1", None)], wait=20)
    client = connect(f"http://localhost:{server.port}/api/v1", timeout=(0.3, 5), retries=0)
    began = time.monotonic()
    with pytest.raises(APITimeoutError, match="No response in time"):
        get(client)
    assert 0.3 <= time.monotonic() - began < 5
    ended.set()
    assert get(client) == {"ok": True}


def test_n07_three_dead_addresses_share_one_connect_timeout(connect, monkeypatch, dead):
    named(monkeypatch, [(socket.AF_INET, "127.0.0.1", dead)] * 3)
    client = connect(f"http://localhost:{dead}/api/v1", timeout=(0.9, 5), retries=0)
    began = time.monotonic()
    with pytest.raises(APITimeoutError):
        get(client)
    # Each for itself would be 2.7 s.
    assert 0.8 <= time.monotonic() - began < 2.4


def test_n07_a_name_without_an_address_is_told_as_such(connect):
    with pytest.raises(APIConnectionError, match="host name could not be resolved"):
        get(connect("https://api.invalid/v1", retries=1))


# --- N8, N9


class SecureServer(ScriptedServer):
    """Speaks TLS with a given certificate."""

    def __init__(self, certificate, *answers, **options):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        super().__init__(*answers, **options)
        self.secure = self.origin.replace("http:", "https:")

    def _serve(self, connection, number):
        connection.settimeout(10)
        with contextlib.suppress(OSError), connection:
            secured = self._context.wrap_socket(connection, server_side=True)
            super()._serve(secured, number)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Certificates that nobody vouches for: of this machine, and of another host."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name, alternative in (("own", "IP:127.0.0.1"), ("foreign", "DNS:other.example")):
        made[name] = (str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
            + ["-addext", f"subjectAltName={alternative}", "-out", made[name][0], "-keyout", made[name][1]],
            check=True,
            capture_output=True,
        )
    return made


@pytest.fixture
def secure(certificates):
    """Start servers that speak TLS; all are stopped when the test ends."""
    with contextlib.ExitStack() as stack:

        def make(name, *answers, **options):
            server = SecureServer(certificates[name], *answers, **options)
            stack.callback(server.stop)
            return server

        yield make


@pytest.mark.parametrize("fault", ["untrusted", "wrong host"])
def test_n08_a_certificate_that_does_not_hold_is_one_handshake_and_a_hint(secure, connect, certificates, fault):
    name = "own" if fault == "untrusted" else "foreign"
    verify = None if fault == "untrusted" else certificates["foreign"][0]
    for call in (
        lambda client, _: get(client),
        lambda client, _: client.request("POST", "/x", json={}),
        load,
    ):
        server = secure(name, default=OK)
        with pytest.raises(APIConnectionError, match="TLS connection failed: certificate verify failed") as caught:
            call(connect(f"{server.secure}/api/v1", verify=verify), server.secure)
        assert "pass verify='path/to/ca.pem' or set REQUESTS_CA_BUNDLE" in str(caught.value)
        assert server.connections == 1
        assert server.requests == []


def test_n09_a_bundle_of_the_caller_wins_over_the_environment(secure, connect, certificates, monkeypatch):
    server = secure("own", default=OK)
    base_url = f"{server.secure}/api/v1"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates["foreign"][0])
    assert get(connect(base_url, verify=certificates["own"][0])) == {"ok": True}
    with pytest.raises(APIConnectionError, match="certificate verify failed"):
        get(connect(base_url))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates["own"][0])
    assert get(connect(base_url)) == {"ok": True}
    assert load(connect(base_url), f"{server.secure}/o") == b'{"ok": true}'
    with pytest.raises(APIConnectionError, match="certificate verify failed"):
        get(connect(base_url, verify=certificates["foreign"][0]))


@pytest.mark.parametrize("bundle", [False, True])
def test_n09_unverified_connections_are_made_only_when_asked_for_and_warned_of(
    secure, connect, certificates, monkeypatch, bundle
):
    if bundle:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates["foreign"][0])
    server = secure("own", default=OK)
    with pytest.raises(APIConnectionError, match="certificate verify failed"):
        get(connect(f"{server.secure}/api/v1"))
    client = connect(f"{server.secure}/api/v1", verify=False)
    with warnings.catch_warnings(record=True) as caught:
        # The default of Python: once for each line of code.
        warnings.simplefilter("default")
        assert [get(client) for _ in range(3)] == [{"ok": True}] * 3
    assert [warning.category for warning in caught] == [urllib3.exceptions.InsecureRequestWarning]


@pytest.mark.parametrize("name", ["headers", "body", "trailers"])
def test_n06_a_drip_through_tls_ends_in_a_timeout(secure, connect, certificates, name):
    server = secure("own", default=DRIPS[name])
    client = connect(f"{server.secure}/api/v1", verify=certificates["own"][0], timeout=(5, 0.3), retries=0)
    for call in (get, lambda client: load(client, f"{server.secure}/o")):
        with pytest.raises(APITimeoutError, match="No response in time"):
            call(client)


# --- N10


def test_n10_an_https_base_goes_through_the_proxy_of_the_environment_and_shows_it_no_key(
    serve, connect, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    proxy = serve(default=raw(403))
    monkeypatch.setenv("https_proxy", proxy.origin.replace("//", "//user:SENTINELpw@"))
    with pytest.raises(APIConnectionError, match="The proxy failed") as caught:
        get(connect("https://api.invalid/v1", retries=0))
    (request,) = proxy.requests
    assert (request.method, request.target) == ("CONNECT", "api.invalid:443")
    assert request.values("Proxy-Authorization")
    assert "x-api-key" not in request.names
    assert KEY not in str(request.headers)
    for shown in (str(caught.value), repr(vars(caught.value)), caplog.text):
        assert "SENTINELpw" not in shown


def test_n10_no_proxy_is_obeyed(serve, connect, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("https_proxy", proxy.origin)
    monkeypatch.setenv("no_proxy", "other.invalid,api.invalid")
    with pytest.raises(APIConnectionError, match="could not be resolved"):
        get(connect("https://api.invalid/v1", retries=0))
    assert proxy.connections == 0


def test_n10_a_proxy_that_is_gone_is_told_without_its_password(serve, connect, caplog):
    caplog.set_level(logging.DEBUG)
    gone = serve(listen=False).origin.replace("//", "//user:SENTINELpw@")
    for base_url in ("https://api.invalid/v1", "http://127.0.0.1:9/v1"):
        with pytest.raises(APIConnectionError, match="The proxy failed") as caught:
            get(connect(base_url, proxies={"http": gone, "https": gone}, retries=1))
        assert "SENTINELpw" not in str(caught.value) + repr(vars(caught.value)) + caplog.text


def test_n10_no_clear_text_key_is_told_to_a_proxy_of_the_environment(serve, connect, monkeypatch):
    proxy = serve()
    monkeypatch.setenv("http_proxy", proxy.origin)
    with pytest.raises(ConfigurationError, match="http:// for"):
        connect("http://api.invalid/v1")
    server = serve(OK)
    assert get(connect(server)) == {"ok": True}
    assert proxy.connections == 0


# --- N11, N12, N13, N14


@pytest.mark.parametrize(
    "answer",
    [
        Answer(raw(200, b"{}", *[f"X-{number}: 1" for number in range(150)])),
        Answer(raw(200, b"{}", "X-Long: " + "x" * 70_000)),
        Answer(b"SSH-2.0-OpenSSH_9.6\r\n", end="close"),
        Answer(b"SSH-2.0-OpenSSH_9.6\r\n", end="stall"),
    ],
    ids=["150 headers", "70 KB line", "ssh", "ssh that stays"],
)
def test_n11_answers_that_are_no_http_are_a_typed_error_after_bounded_attempts(serve, connect, answer):
    for storage in (False, True):
        server = serve(default=answer)
        client = connect(server, retries=2, timeout=(5, 1))
        with pytest.raises(TransportError) as caught:
            load(client, f"{server.origin}/o") if storage else get(client)
        assert type(caught.value) in (APIConnectionError, APITimeoutError, InvalidResponseError)
        assert len(server.requests) == 3


@pytest.mark.parametrize("size", [10, 60_000, 300_000, 3_000_000])
def test_n12_errors_whose_body_nobody_reads_block_nobody(serve, connect, size):
    server = serve(*[raw(404, b"x" * size)] * 20, default=OK)
    # Two more than the workers: a pool of 4.
    client = connect(server, max_workers=2)
    for _ in range(20):
        with pytest.raises(NotFoundError):
            get(client)
    assert get(client) == {"ok": True}
    assert (server.connections == 1) == (size < 65_536)


def test_n14_a_dead_ipv6_address_does_not_hide_a_living_ipv4_one(serve, connect, monkeypatch):
    server, gone = serve(default=OK), serve(listen=False)
    named(monkeypatch, [(socket.AF_INET6, "::1", gone.port), (socket.AF_INET, "127.0.0.1", server.port)])
    client = connect(f"http://localhost:{server.port}/api/v1", retries=0)
    assert get(client) == {"ok": True}
    assert load(client, f"http://localhost:{server.port}/o") == b'{"ok": true}'


def test_n14_an_address_that_never_answers_leaves_the_next_its_share(serve, connect, monkeypatch, dead):
    server = serve(default=OK)
    named(monkeypatch, [(socket.AF_INET, "127.0.0.1", dead), (socket.AF_INET, "127.0.0.1", server.port)])
    began = time.monotonic()
    assert get(connect(f"http://localhost:{server.port}/api/v1", timeout=(1, 5), retries=0)) == {"ok": True}
    assert 0.4 <= time.monotonic() - began < 4
    assert len(server.requests) == 1
