"""Group H: wrong responses."""

from __future__ import annotations

import email.utils
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
import requests

from cfplatform import (
    APIError,
    AuthenticationError,
    BadRequestError,
    CFPlatformError,
    ConflictError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from tests.faults.tools import tree, wait_until
from tests.http.scripted import Answer, raw, said
from tests.tools import KEY, SIGNATURE

OK = said({"ok": True})
DOCUMENT = b'{"images": [], "annotations": [], "categories": []}'
SIGNED = said({"items": [{"path": "f.json", "signedUrl": "https://storage.example/o"}]})
CHUNKED = "Transfer-Encoding: chunked"
ENDLESS = b"1000\r\n" + b"x" * 4096 + b"\r\n"


def busy(status=503, *headers):
    return said({"message": "busy"}, status, *headers)


# --- H1


@pytest.mark.parametrize("status", [500, 502, 503, 504, *range(520, 528), 408, 425])
def test_h01_a_passing_fault_is_repeated_for_the_api_and_for_the_storage(serve, connect, fetch, status):
    api, storage = serve(busy(status), busy(status), OK), serve(busy(status), busy(status), raw(200, DOCUMENT))
    assert connect(api).request("GET", "/x").json() == {"ok": True}
    assert fetch(storage) == DOCUMENT
    assert [len(server.requests) for server in (api, storage)] == [3, 3]


@pytest.mark.parametrize("status", [501, 505])
def test_h01_a_fault_that_will_stay_is_not_repeated(serve, connect, fetch, status):
    api, storage = serve(busy(status), OK), serve(busy(status), OK)
    for call in (lambda: connect(api).request("GET", "/x"), lambda: fetch(storage)):
        with pytest.raises(ServerError) as caught:
            call()
        assert caught.value.status_code == status
    assert [len(server.requests) for server in (api, storage)] == [1, 1]


# --- H2


def test_h02_all_workers_wait_for_the_pause_that_one_was_told(serve, connect):
    server = serve(busy(429, "Retry-After: 0.7"), default=OK)
    # One repeat each: a worker that had tried in the pause would have none left.
    client = connect(server, retries=1)
    with ThreadPoolExecutor(17) as pool:
        first = pool.submit(client.request, "GET", "/first")
        while not server.requests:
            time.sleep(0.001)
        time.sleep(0.1)
        others = [pool.submit(client.request, "GET", f"/{number}") for number in range(16)]
        assert {future.result().status_code for future in [first, *others]} == {200}
    refused, *later = server.requests
    assert len(later) == 17
    assert all(each.at - refused.at >= 0.7 for each in later)


def test_h02_requests_that_were_under_way_when_the_pause_began_are_repeated_after_it(serve, connect):
    server = serve(*[Answer(busy(429, "Retry-After: 0.5"), delay=0.4)] * 16, default=OK)
    client = connect(server, retries=1)
    together = threading.Barrier(16)

    def ask(number):
        together.wait()
        return client.request("GET", f"/{number}")

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(server.requests) == 32
    assert min(each.at for each in server.requests[16:]) - server.requests[0].at >= 0.9


# --- H3, H4, H5


@pytest.mark.parametrize("value", ["-1", "soon", "", "9" * 5000, "Fri, 31 Dec 99999 23:59:59 GMT", "inf", "0x5"])
def test_h03_an_unreadable_wait_is_no_reason_not_to_repeat(serve, connect, fetch, value):
    api = serve(busy(503, f"Retry-After: {value}"), OK)
    storage = serve(busy(429, f"Retry-After: {value}"), raw(200, DOCUMENT))
    assert connect(api).request("GET", "/x").json() == {"ok": True}
    assert fetch(storage) == DOCUMENT
    assert [len(server.requests) for server in (api, storage)] == [2, 2]


def test_h03_a_decimal_wait_is_kept(serve, connect):
    server = serve(busy(503, "Retry-After: 0.4"), OK)
    connect(server).request("GET", "/x")
    first, second = server.requests
    assert second.at - first.at >= 0.4


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitError), (503, ServerError)])
def test_h04_a_day_is_not_waited_but_told(serve, connect, fetch, status, error):
    api, storage = serve(busy(status, "Retry-After: 86400"), OK), serve(busy(status, "Retry-After: 86400"), OK)
    for call in (lambda: connect(api).request("GET", "/x"), lambda: fetch(storage)):
        with pytest.raises(error, match="says to wait 86,400 s") as caught:
            call()
        assert getattr(caught.value, "retry_after", 86400.0) == 86400.0
    assert [len(server.requests) for server in (api, storage)] == [1, 1]


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
@pytest.mark.parametrize("answer", [busy(429, "Retry-After: 50"), busy(500, "Retry-After: 50")])
def test_h04_ctrl_c_ends_a_wait_at_once(serve, connect, answer):
    server = serve(default=answer)
    began = time.monotonic()
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        connect(server).request("GET", "/x")
    assert time.monotonic() - began < 10
    assert len(server.requests) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_h05_a_date_means_the_clock_of_the_server(serve, connect, hours):
    there = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=hours)
    date, until = (email.utils.format_datetime(there + timedelta(seconds=more), usegmt=True) for more in (0, 1))
    server = serve(busy(503, f"Date: {date}", f"Retry-After: {until}"), OK)
    connect(server).request("GET", "/x")
    first, second = server.requests
    # Read with the local clock it would be no wait at all, or an hour, which is refused.
    assert second.at - first.at >= 1


# --- H6, H7, H8


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, BadRequestError), (404, NotFoundError), (409, ConflictError), (410, APIError), (422, BadRequestError)],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_h06_a_refusal_is_asked_for_once(serve, connect, status, error, method):
    server = serve(said({"message": "No."}, status), OK)
    with pytest.raises(error, match="No") as caught:
        connect(server).request(method, "/x")
    assert type(caught.value) is error
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (403, PermissionDeniedError)])
def test_h07_a_key_that_ends_in_the_middle_ends_the_run_and_what_is_done_stays_done(
    make_sandbox, tmp_path, status, error
):
    sandbox = make_sandbox(items=300, batches=2)
    sandbox.latency = 0.005
    workers = 4

    def end_the_key():
        wait_until(lambda: sandbox.counts["storage"] >= 50)
        sandbox.fail_next(status, times=None, path="/api/*")

    ending = threading.Thread(target=end_the_key)
    with sandbox.client(max_workers=workers) as client:
        ending.start()
        with pytest.raises(error) as caught:
            client.download_project(destination=tmp_path)
        ending.join()
        assert caught.value.status_code == status
        refused = [each for each in sandbox.requests if each.status == status]
        # The listing and the signing run beside the workers.
        assert len(refused) <= workers + 2
        finished = len(tree(tmp_path))
        assert finished > 0
        sandbox.clear_faults()
        again = client.download_project(destination=tmp_path)
    assert again.failed == 0
    assert again.skipped == finished
    assert again.successful == 300 - finished


def test_h08_one_annotation_that_is_gone_fails_alone(sandbox, client, tmp_path):
    gone = list(sandbox.work_item_ids())[7]
    sandbox.fail_next(404, times=None, path=f"*{gone}/annotations")
    summary = client.download_project(destination=tmp_path)
    (failure,) = summary.failures
    assert (failure.item_id, type(failure.error)) == (gone, NotFoundError)
    assert (summary.successful, summary.failed) == (19, 1)
    assert len(tree(tmp_path)) == 19


# --- H9, H10, H11


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_h09_no_redirect_takes_the_key_along_and_netrc_adds_nothing(
    serve, connect, fetch, tmp_path, monkeypatch, status, method
):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login LOGIN password PASSWORD\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    foreign = serve(default=OK)
    redirect = raw(status, b"moved", f"Location: {foreign.origin}/x?X-Amz-Signature={SIGNATURE}")
    api, storage = serve(redirect, redirect), serve(redirect, raw(200, DOCUMENT))
    with requests.Session() as session:
        for own in (None, session):
            with pytest.raises(InvalidResponseError, match="redirect") as caught:
                connect(api, session=own).request(method, "/x", json={"a": 1} if method == "POST" else None)
            assert SIGNATURE not in str(caught.value)
    with pytest.raises(InvalidResponseError, match="redirect"):
        fetch(storage)
    assert foreign.connections == 0
    for request in (*api.requests, *storage.requests):
        assert not {"authorization", "cookie"} & request.names
    assert all("x-api-key" not in request.names for request in storage.requests)


@pytest.mark.parametrize(
    "answer",
    [
        raw(302, b"", "Location: http://[::1"),
        raw(302, b"", "Location: \xff\xfe"),
        raw(302, b"", "Location: http://h:port/"),
        raw(302),
        Answer(raw(302, b"", CHUNKED, "Location: http://127.0.0.1:9/"), endless=ENDLESS),
        Answer(raw(302, b"", "Content-Length: 99999999999", "Location: /x"), endless=b"x" * 4096),
        Answer(raw(302, b"12", "Content-Length: 9999", "Location: /x"), end="stall"),
    ],
)
def test_h10_a_redirect_to_garbage_or_with_an_endless_body_is_a_typed_error(serve, connect, fetch, answer):
    began = time.monotonic()
    for call in (
        lambda: connect(serve(default=answer)).request("GET", "/x"),
        lambda: fetch(serve(default=answer)),
    ):
        with pytest.raises(InvalidResponseError, match="redirect"):
            call()
    # Nothing of the body was waited for, the timeout being 5 s.
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("status", [301, 307])
def test_h11_a_storage_that_redirects_is_not_followed_anywhere(serve, fetch, status):
    for target in ("https://127.0.0.1:9/o", "http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "/o2"):
        server = serve(raw(status, b"moved", f"Location: {target}?X-Amz-Signature={SIGNATURE}"), raw(200, DOCUMENT))
        with pytest.raises(InvalidResponseError, match="a signed URL is valid for one location only") as caught:
            fetch(server)
        assert caught.value.status_code == status
        assert SIGNATURE not in str(caught.value)
        assert len(server.requests) == 1


# --- H12, H13, H14


@pytest.mark.parametrize("framing", [CHUNKED, "Content-Length: 99999999999"])
def test_h12_an_endless_error_body_is_read_to_a_bound_and_repeated_on_a_new_connection(serve, connect, fetch, framing):
    endless = Answer(raw(503, b"", framing), endless=ENDLESS)
    api, storage = serve(endless, endless, OK), serve(endless, endless, raw(200, DOCUMENT))
    assert connect(api).request("GET", "/x").json() == {"ok": True}
    assert fetch(storage) == DOCUMENT
    for server in (api, storage):
        assert len(server.requests) == server.connections == 3


def test_h12_an_error_body_that_drips_does_not_hold_anybody_up(serve, connect, fetch):
    drip = Answer(raw(503, b"", "Content-Length: 60000"), endless=b"x", pace=0.05)
    api, storage = serve(drip, default=OK), serve(drip, default=raw(200, DOCUMENT))
    assert connect(api, timeout=(5, 0.4)).request("GET", "/x").json() == {"ok": True}
    assert fetch(storage, timeout=(5, 0.4)) == DOCUMENT
    with pytest.raises(ServerError, match="failed with status 503: x"):
        connect(serve(drip), timeout=(5, 0.4), retries=0).request("GET", "/x")


@pytest.mark.parametrize(
    "body",
    [b"<html><title>Sign in</title></html>", b"", b"null", b"\xff\xfe", DOCUMENT[:-1]],
    ids=["html", "empty", "null", "binary", "cut"],
)
def test_h13_what_is_not_a_document_is_not_stored(sandbox, client, tmp_path, body):
    item = list(sandbox.work_item_ids())[3]
    sandbox.replace_next(body, content_type="text/html", times=None, path=f"/storage/*{item}*")
    summary = client.download_project(destination=tmp_path)
    (failure,) = summary.failures
    assert failure.item_id == item
    assert isinstance(failure.error, CFPlatformError)
    assert str(failure.error).isprintable()
    shown = body.decode("utf-8", "replace")
    assert f"Its content type is text/html; charset=utf-8 and it starts with {shown[:60]!r}." in str(failure.error)
    assert not [name for name in tree(tmp_path) if item in name]
    # Requested again, since a proxy may have interfered.
    assert 2 <= len([each for each in sandbox.requests if each.route == "storage" and item in each.path]) <= 6


@pytest.mark.parametrize("status", [203, 204, 206])
def test_h13_a_success_of_another_kind_is_not_taken_for_a_file(serve, fetch, status):
    answer = raw(status, b"" if status == 204 else DOCUMENT, "Content-Range: bytes 0-50/51")
    server = serve(answer, answer, raw(200, DOCUMENT))
    with pytest.raises(InvalidResponseError, match=f"status {status} instead of 200"):
        fetch(server)
    assert len(server.requests) == 2


def test_h13_a_web_page_that_came_once_is_got_over(sandbox, client, tmp_path):
    sandbox.html_next(1, path="/storage/*")
    assert client.download_project(destination=tmp_path).successful == 20


def test_h14_of_a_huge_error_body_only_the_start_is_told_and_never_the_key(serve, connect):
    text = f"bad key {KEY} for https://h/o?X-Amz-Signature={SIGNATURE} ".encode()
    server = serve(default=raw(400, text * 150_000))
    with pytest.raises(BadRequestError, match="bad key") as caught:
        connect(server).request("GET", "/x")
    error = caught.value
    assert len(str(error)) < 800
    assert len(error.response.text) <= 65536
    for shown in (str(error), repr(error), error.response.text, json.dumps(dict(error.response.headers))):
        assert KEY not in shown
        assert SIGNATURE not in shown
    assert len(server.requests) == 1


# --- H15, H16


@pytest.mark.parametrize("status", [402, 418, 451, 499])
def test_h16_an_unknown_refusal_fails_once_and_keeps_what_was_said(serve, connect, fetch, status):
    answer = said({"message": "Odd.", "extra": [1]}, status)
    api, storage = serve(answer, OK), serve(answer, OK)
    for call in (lambda: connect(api).request("GET", "/x"), lambda: fetch(storage)):
        with pytest.raises(APIError, match="Odd") as caught:
            call()
        assert type(caught.value) is APIError
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.text) == {"message": "Odd.", "extra": [1]}
    assert [len(server.requests) for server in (api, storage)] == [1, 1]
