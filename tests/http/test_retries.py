"""Retries: which requests, how often, and after which wait."""

from __future__ import annotations

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter

from cfplatform import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from tests.http.scripted import Answer, page, raw, said
from tests.tools import load

OK = said({"ok": True})


def busy(status=503, *headers):
    return said({"message": "busy"}, status, *headers)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 527])
def test_a_passing_fault_is_repeated(serve, connect, status):
    server = serve(busy(status), busy(status), OK)
    assert connect(server).request("GET", "/x").json() == {"ok": True}
    assert len(server.requests) == 3
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, APIError),
        (418, APIError),
        (422, BadRequestError),
        (501, ServerError),
        (505, ServerError),
    ],
)
def test_a_lasting_fault_is_not_repeated(serve, connect, status, error):
    server = serve(said({"message": "No.", "code": "c"}, status, "X-Request-ID: r-1"), OK)
    with pytest.raises(APIError) as caught:
        connect(server).request("GET", "/x")
    assert type(caught.value) is error
    assert (caught.value.status_code, caught.value.request_id) == (status, "r-1")
    assert f"GET {server.base_url}/x failed with status {status}: No. [c]." in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (500, ServerError), (503, ServerError)])
@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_fault_that_lasts_ends_after_the_allowed_repeats(serve, connect, status, error, retries):
    server = serve(default=busy(status))
    with pytest.raises(error, match="busy"):
        connect(server, retries=retries).request("GET", "/x")
    assert len(server.requests) == retries + 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "fault", [busy(), Answer(end="close"), Answer(end="reset"), Answer(b"HTTP/1.1 20", end="close")]
)
def test_a_request_that_changes_something_is_not_repeated(serve, connect, method, fault):
    server = serve(fault, OK)
    with pytest.raises((ServerError, APIConnectionError)):
        connect(server).request(method, "/x", json={})
    assert len(server.requests) == 1


def test_a_post_whose_broken_answer_came_is_not_repeated(serve, connect):
    server = serve(Answer(raw(200, b'{"id":', "Content-Length: 50"), end="close"), OK)
    with pytest.raises(APIConnectionError):
        connect(server).request("POST", "/x", json={})
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Answer(end="close"),
        Answer(end="reset"),
        Answer(b"HTTP/1.1 200 OK\r\nContent-Le", end="close"),
        Answer(b"HTTP/1.1 200 OK\r\n", end="close"),
        Answer(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", end="close"),
        Answer(b"SSH-2.0-OpenSSH_9.6\r\n", end="close"),
        Answer(raw(200, b'{"items"', "Content-Length: 100"), end="close"),
        Answer(raw(200, b'{"items"', "Content-Length: 100"), end="reset"),
        Answer(raw(200, b'9\r\n{"items":\r\n', "Transfer-Encoding: chunked"), end="close"),
        Answer(raw(200, b"zz\r\n{}\r\n", "Transfer-Encoding: chunked"), end="close"),
        Answer(raw(200, b"\x1f\x8b\x08\x00cut", "Content-Encoding: gzip")),
        Answer(raw(200, b"not gzip at all", "Content-Encoding: gzip")),
        Answer(raw(200, b"\x0b\x02\x80", "Content-Encoding: br")),
        Answer(raw(200, b"<html><title>Sign in</title></html>", "Content-Type: text/html")),
        Answer(raw(200, b'{"items": [{"id"')),
        Answer(raw(200, b"")),
        Answer(raw(204)),
        Answer(raw(200, b'{"items": [NaN]}')),
        Answer(raw(200, b"[" * 100_000)),
        Answer(raw(200, b'{"items": [], "n": ' + b"9" * 5000 + b"}")),
        Answer(raw(200, b'{"items": "\xff"}')),
        Answer(raw(200, b"x" * 10, *[f"X-{number}: 1" for number in range(150)])),
        Answer(raw(200, b"x" * 10, "X-Long: " + "x" * 70_000)),
    ],
)
def test_a_page_that_breaks_is_asked_for_again(serve, connect, fault):
    server = serve(fault, page("a"))
    assert [item.id for item in connect(server).get_work_items()] == ["a"]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>Sign in</html>", r"not valid JSON \(text/html, 20 bytes, starts with '<html>Sign in</html>'\)"),
        (b'{"items": [', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\x1b[2J\xff", "not valid JSON"),
    ],
)
def test_an_answer_that_stays_wrong_is_repeated_once_and_shown(serve, connect, body, says):
    server = serve(default=raw(200, body, "Content-Type: text/html"))
    with pytest.raises(InvalidResponseError, match=says) as caught:
        list(connect(server).get_work_items())
    assert len(server.requests) == 2
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith(f"GET {server.base_url}/projects/p/workItems: ")


@pytest.mark.parametrize("body", [{}, {"items": None}, {"message": "x"}, 5, "x", None])
def test_a_page_without_items_is_an_error_at_once(serve, connect, body):
    server = serve(default=said(body))
    with pytest.raises(InvalidResponseError, match="Page 1 of the listing has no list of items"):
        list(connect(server).get_work_items())
    assert len(server.requests) == 1


def test_a_byte_order_mark_does_no_harm(serve, connect):
    server = serve(raw(200, b'\xef\xbb\xbf{"items": [{"id": "a"}]}', "Content-Type: application/json"))
    assert [item.id for item in connect(server).get_work_items()] == ["a"]


def test_an_answer_larger_than_the_limit_is_not_read(serve, connect):
    endless = Answer(raw(200, b"", "Transfer-Encoding: chunked"), endless=b"10000\r\n" + b" " * 65536 + b"\r\n")
    server = serve(default=endless)
    with pytest.raises(InvalidResponseError, match=f"larger than the limit of {64 * 1024 * 1024:,} bytes"):
        list(connect(server).get_work_items())
    assert len(server.requests) == 2


def test_an_endless_error_body_is_read_to_a_bound_only(serve, connect):
    endless = Answer(raw(503, b"", "Transfer-Encoding: chunked"), endless=b"1000\r\n" + b"x" * 4096 + b"\r\n")
    server = serve(endless, endless, OK)
    assert connect(server).request("GET", "/x").json() == {"ok": True}
    server.plan(*[endless] * 2)
    with pytest.raises(ServerError, match="xxx"):
        connect(server, retries=0).request("GET", "/x")


def test_the_words_of_a_broken_error_answer_are_kept(serve, connect):
    server = serve(Answer(raw(500, b'{"message": "half a', "Content-Length: 1000"), end="close"))
    with pytest.raises(ServerError, match='failed with status 500: {"message": "half a'):
        connect(server, retries=0).request("GET", "/x")


def test_error_bodies_may_be_compressed(serve, connect):
    server = serve(raw(404, gzip.compress(b'{"message": "Nothing here"}'), "Content-Encoding: gzip"))
    with pytest.raises(NotFoundError, match="failed with status 404: Nothing here"):
        connect(server).request("GET", "/x")


def test_refused_connections_are_tried_again(serve, connect):
    server = serve(OK, listen=False)
    later = threading.Timer(0.1, server.listen)
    later.start()
    try:
        assert connect(server, retries=20).request("POST", "/x", json={}).json() == {"ok": True}
    finally:
        later.join()
    assert len(server.requests) == 1


def test_a_connection_that_stays_refused_is_a_typed_error(serve, connect):
    server = serve(listen=False)
    with pytest.raises(APIConnectionError, match="Could not connect: Connection refused. Check the base URL"):
        connect(server, retries=2).request("GET", "/x")


def test_a_host_without_an_address_is_a_typed_error(connect):
    with pytest.raises(APIConnectionError, match="host name could not be resolved"):
        connect("https://api.invalid/v1", retries=1).request("GET", "/x")


def test_a_failed_handshake_is_not_repeated(serve, connect):
    server = serve(Answer(raw(400, b"plain http"), end="close"))
    with pytest.raises(APIConnectionError, match="The server does not use TLS: it responded in plain text"):
        connect(server.base_url.replace("http://", "https://")).request("GET", "/x")
    assert server.connections == 1


def test_a_kept_connection_that_the_server_closed_is_replaced(serve, connect):
    server = serve(Answer(OK, end="close"), OK)
    client = connect(server)
    client.request("GET", "/x")
    time.sleep(0.05)
    assert client.request("POST", "/x", json={}).json() == {"ok": True}
    assert server.connections == 2


# --- Retry-After


@pytest.mark.parametrize("value", ["0", "-1", "soon", "", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "0.01"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_no_retry_after_keeps_a_request_from_being_repeated(serve, connect, value, status):
    server = serve(busy(status, f"Retry-After: {value}"), OK)
    assert connect(server).request("GET", "/x").json() == {"ok": True}
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_wait_that_is_asked_for_is_kept(serve, connect, status):
    server = serve(busy(status, "Retry-After: 0.3"), OK)
    connect(server).request("GET", "/x")
    first, second = server.requests
    assert 0.3 <= second.at - first.at < 0.6


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (503, ServerError)])
def test_a_wait_that_is_too_long_is_reported_and_not_kept(serve, connect, status, error):
    server = serve(busy(status, "Retry-After: 86400"), OK)
    began = time.monotonic()
    with pytest.raises(error, match="says to wait 86,400 s") as caught:
        connect(server).request("GET", "/x")
    assert time.monotonic() - began < 1
    assert len(server.requests) == 1
    if status == 429:
        assert caught.value.retry_after == 86400.0


# --- Policies and sessions of the caller


def test_a_policy_of_the_caller_is_obeyed(serve, connect):
    policy = urllib3.Retry(total=3, status_forcelist=[404], allowed_methods=["POST"], backoff_factor=0)
    server = serve(*[raw(404)] * 2, OK, *[raw(503)] * 2)
    client = connect(server, retries=policy)
    assert client.request("POST", "/x", json={}).json() == {"ok": True}
    with pytest.raises(ServerError):
        client.request("GET", "/x")
    assert len(server.requests) == 4


def test_a_policy_of_the_caller_still_gives_our_errors_with_the_words_of_the_server(serve, connect):
    policy = urllib3.Retry(total=2, status_forcelist=[503], backoff_factor=0)
    server = serve(default=busy())
    with pytest.raises(ServerError, match="busy"):
        connect(server, retries=policy).request("GET", "/x")
    assert len(server.requests) == 3


def test_a_policy_of_the_caller_counts_broken_bodies_too(serve, connect):
    cut = Answer(raw(200, b"{", "Content-Length: 9"), end="close")
    server = serve(default=cut)
    with pytest.raises(APIConnectionError):
        list(connect(server, retries=urllib3.Retry(total=2, backoff_factor=0)).get_work_items())
    assert len(server.requests) == 3


@pytest.mark.parametrize("value", [-1, 21, True, 1.5, "3", object()])
def test_wrong_retries_are_refused(connect, value):
    with pytest.raises(ConfigurationError, match="retries must be an integer from 0 to 20, or a urllib3.Retry"):
        connect("https://api.invalid", retries=value)


def test_faults_before_and_after_the_headers_share_one_budget(serve, connect):
    cut = Answer(raw(200, b"{", "Content-Length: 9"), end="close")
    server = serve(busy(), cut, busy(), cut, busy(), cut, OK)
    with pytest.raises((APIConnectionError, ServerError)):
        list(connect(server, retries=4).get_work_items())
    assert len(server.requests) == 5


def test_a_session_of_the_caller_gets_the_calls_and_stays_as_it_was(serve, connect, fetch):
    server = serve(OK, raw(200, b"x"), OK, OK)
    with requests.Session() as session:
        session.headers["X-Own"] = "1"
        before = (dict(session.headers), session.auth, dict(session.adapters), session.trust_env, len(session.cookies))
        client = connect(server, session=session)
        client.request("GET", "/x")
        load(client, f"{server.origin}/o")
        client.close()
        after = (dict(session.headers), session.auth, dict(session.adapters), session.trust_env, len(session.cookies))
        assert after == before
        # It is open still, and does not know the key.
        session.get(f"{server.base_url}/own")
    api, storage, own = server.requests
    assert api.values("X-Own") == ["1"]
    assert api.values("X-API-Key")
    assert not {"x-own", "x-api-key"} & storage.names
    assert "x-api-key" not in own.names


def test_requests_through_a_session_of_the_caller_are_repeated_with_nothing_mounted_on_it(serve, connect):
    cut = Answer(raw(200, b"{", "Content-Length: 9"), end="close")
    server = serve(busy(), Answer(end="reset"), OK, busy(), cut, page("a"))
    with requests.Session() as session:
        adapters = dict(session.adapters)
        client = connect(server, session=session, retries=2)
        assert client.request("GET", "/x").json() == {"ok": True}
        assert [item.id for item in client.get_work_items()] == ["a"]
        assert session.adapters == adapters
    assert len(server.requests) == 6


def test_a_session_of_the_caller_does_not_make_more_repeats_than_were_asked_for(serve, connect):
    server = serve(default=busy())
    with requests.Session() as session:
        client = connect(server, session=session, retries=3)
        with pytest.raises(ServerError, match="busy"):
            client.request("GET", "/x")
        with pytest.raises(ServerError, match="busy"):
            client.request("POST", "/x", json={})
        assert client.request("GET", "/x", check=False).status_code == 503
    assert len(server.requests) == 4 + 1 + 4


def test_a_policy_of_the_caller_holds_for_a_session_of_the_caller(serve, connect):
    policy = urllib3.Retry(total=1, status_forcelist=[404], allowed_methods=["POST"], backoff_factor=0)
    server = serve(raw(404), OK, raw(503))
    with requests.Session() as session:
        client = connect(server, session=session, retries=policy)
        assert client.request("POST", "/x", json={}).json() == {"ok": True}
        with pytest.raises(ServerError):
            client.request("GET", "/x")
    assert len(server.requests) == 3


def test_an_adapter_of_the_caller_that_repeats_is_left_to_it(serve, connect):
    server = serve(busy(), busy(), OK, *[busy()] * 3)
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)))
        client = connect(server, session=session)
        assert client.request("GET", "/x").json() == {"ok": True}
        # Given up by the Retry, which keeps the status and nothing else.
        with pytest.raises(ServerError, match="failed with status 503") as caught:
            client.request("GET", "/x")
        assert caught.value.status_code == 503
        with pytest.raises(ConfigurationError, match="retries cannot be used"):
            connect(server, session=session, retries=2)
    assert len(server.requests) == 6


def test_a_hook_that_raises_for_the_status_changes_no_error(serve, connect):
    server = serve(default=said({"message": "Really not."}, 404))
    with requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: response.raise_for_status())
        with pytest.raises(NotFoundError, match=r"failed with status 404: Really not\."):
            connect(server, session=session).request("GET", "/x")
    assert len(server.requests) == 1


@pytest.mark.parametrize("session", ["x", object(), requests, requests.Session])
def test_what_is_no_session_is_refused(connect, session):
    with pytest.raises(ConfigurationError, match=r"session must be a requests\.Session"):
        connect("https://api.invalid", session=session)


# --- Together


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_that_one_is_asked_for_holds_all_back(serve, connect, status):
    server = serve(busy(status, "Retry-After: 0.8"), default=OK)
    client = connect(server)
    with ThreadPoolExecutor(17) as pool:
        first = pool.submit(client.request, "GET", "/first")
        while not server.requests:
            time.sleep(0.001)
        time.sleep(0.1)
        others = [pool.submit(client.request, "GET", f"/{number}") for number in range(16)]
        assert {future.result().status_code for future in [first, *others]} == {200}
    refused, *later = server.requests
    assert len(later) == 17
    assert all(0.8 <= request.at - refused.at < 1.3 for request in later)


def test_a_request_in_its_own_backoff_keeps_to_a_pause_that_begins_meanwhile(serve, connect, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: 0.2)
    server = serve(busy(500), busy(429, "Retry-After: 0.6"), default=OK)
    client = connect(server)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.request, "GET", "/first")
        while not server.requests:
            time.sleep(0.001)
        second = pool.submit(client.request, "GET", "/second")
        assert {first.result().status_code, second.result().status_code} == {200}
    _, paused, *later = server.requests
    assert len(later) == 2
    assert all(request.at - paused.at >= 0.6 for request in later)


def test_random_waits_grow_up_to_a_bound(serve, connect, monkeypatch):
    ceilings = []
    monkeypatch.setattr("random.uniform", lambda low, high: ceilings.append((low, high)) or 0)
    with pytest.raises(ServerError):
        connect(serve(default=busy()), retries=8).request("GET", "/x")
    assert ceilings == [(0, each) for each in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0)]
