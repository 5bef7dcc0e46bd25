"""Outages: faults that hit every request for some seconds."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time

import pytest
import requests

from cfplatform.sandbox import Sandbox

from .conftest import Wire

#: Longer than any test takes, for outages that a test ends itself.
LONG = 600
#: Seconds that a call which changes outages must not take: it would have waited for its timeout.
QUICK = 5
KINDS = ("work_items", "annotations", "batches", "signing", "storage", "uploads", "exports", "assets", "jwks", "other")
#: Seconds within which a busy machine does what it should do at once.
SOON = 15


def until(condition, message):
    """Wait until something holds."""
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.02)


def answers(sandbox):
    """Tell whether the port accepts a new connection and the API answers on it."""
    wire = Wire(sandbox)
    try:
        return wire.batches().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        wire.connection.close()


# --- Time -------------------------------------------------------------------------------------------------------------


def test_an_outage_ends_by_itself(wire):
    begin = time.monotonic()
    wire.sandbox.outage(0.3, 503)
    until(lambda: wire.batches().status == 200, "the outage does not end")
    assert time.monotonic() - begin >= 0.3
    # How many there were depends on the machine.
    assert {request.status for request in wire.sandbox.requests[:-1]} <= {503}


def test_an_outage_begins_later(wire):
    begin = time.monotonic()
    wire.sandbox.outage(LONG, 503, after=0.5)
    first = wire.batches().status
    # On a machine that was too busy for half a second, it may have begun.
    assert first == 200 or time.monotonic() - begin >= 0.5
    until(lambda: wire.batches().status == 503, "the outage does not begin")
    assert time.monotonic() - begin >= 0.5


def test_several_outages(wire):
    wire.sandbox.outage(0.3, 503)
    wire.sandbox.outage(LONG, 502, at="annotations")
    wire.sandbox.outage(LONG, 504, at="batches", after=LONG)
    assert wire.annotation("x").status in (502, 503)
    until(lambda: wire.batches().status == 200, "the first outage does not end")
    assert wire.annotation("x").status == 502


# --- What happens to a request ----------------------------------------------------------------------------------------


def test_the_usual_status_and_body(wire):
    wire.sandbox.outage(LONG)
    answer = wire.batches()
    assert (answer.status, answer.json["message"]) == (500, "a planned fault")
    wire.sandbox.clear_faults()
    url = wire.sign_document()
    wire.sandbox.outage(LONG, 503)
    assert b"<Code>SlowDown</Code>" in wire.send("GET", url).body


def test_headers_and_body(wire):
    wire.sandbox.outage(LONG, 429, headers={"Retry-After": 5, "X-Word": "é"}, body={"wait": "a bit"})
    for _ in range(3):
        answer = wire.batches()
        assert (answer.status, answer.json) == (429, {"wait": "a bit"})
        assert (answer.headers["retry-after"], answer.headers["x-word"]) == ("5", "é")
    assert [request.status for request in wire.sandbox.requests] == [429] * 3
    assert wire.sandbox.counts["batches"] == 3


@pytest.mark.parametrize(("status", "error"), [("reset", ConnectionResetError), ("close", http.client.BadStatusLine)])
def test_no_answer(wire, status, error):
    wire.sandbox.outage(LONG, status)
    for _ in range(2):
        with pytest.raises(error) as caught:
            wire.batches()
        # Python has one error for both: a connection that is closed is no BadStatusLine if it was reset.
        assert isinstance(caught.value, http.client.BadStatusLine) == (status == "close")
    wire.sandbox.clear_faults()
    assert wire.batches().status == 200
    assert [request.status for request in wire.sandbox.requests] == [0, 0, 200]
    assert wire.sandbox.counts["batches"] == 3


def test_an_outage_goes_before_other_faults(wire):
    begin = time.monotonic()
    wire.sandbox.fail_next(418)
    wire.sandbox.outage(0.3, 503)
    until(lambda: wire.batches().status == 418, "the other fault was used up")
    assert time.monotonic() - begin >= 0.3
    assert wire.batches().status == 200


def test_control_is_not_hit(wire):
    wire.sandbox.outage(LONG, "reset")
    assert wire.control("GET", "").status == 200


# --- Endpoints --------------------------------------------------------------------------------------------------------


def statuses(wire, url):
    """Ask each endpoint once."""
    space = f"/spaces/{wire.sandbox.space_id}"
    upload = wire.api("GET", f"{space}/signedurls")
    found = {
        "work_items": wire.work_items(),
        "batches": wire.batches(),
        "annotations": wire.annotation(next(wire.sandbox.work_item_ids())),
        "signing": wire.api("POST", f"{space}/signedurls", {"paths": ["a"]}),
        "storage": wire.send("GET", url),
        "uploads": wire.send("PUT", url),
        "exports": wire.api("GET", f"{space}/exports"),
        "assets": wire.send("GET", "/public/assets/x"),
        "jwks": wire.send("GET", "/api/.well-known/jwks.json"),
        "other": wire.send("GET", "/nothing"),
    }
    assert (upload.status == 599) == (found["signing"].status == 599)
    return {name for name, answer in found.items() if answer.status == 599}


@pytest.mark.parametrize(
    ("at", "hit"),
    [
        *((kind, {kind}) for kind in KINDS if kind != "storage"),
        ("storage", {"storage", "uploads"}),
        ("signedurls", {"signing"}),
        (("annotations",), {"annotations"}),
        (["work_items", "batches"], {"work_items", "batches"}),
        ({"exports", "signedurls"}, {"exports", "signing"}),
        ((), set(KINDS)),
    ],
)
def test_endpoints(wire, at, hit):
    url = wire.sign_document()
    wire.sandbox.outage(LONG, 599, at=at)
    assert statuses(wire, url) == hit


# --- Refused connections ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["usual", "asyncio"])
def any_loop(request, monkeypatch):
    """Serve with the usual event loop, and with that of the standard library where it is another one."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)


def test_refused_connections(any_loop, make_wire):
    wire = make_wire(3)
    idle = Wire(wire.sandbox)
    assert wire.batches().status == idle.batches().status == 200
    wire.sandbox.outage(LONG, "refused")
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        idle.batches()
    with pytest.raises(ConnectionRefusedError):
        idle.batches()
    url = f"{wire.sandbox.base_url}/projects/{wire.sandbox.project_id}/batches"
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=10)
    wire.sandbox.clear_faults()
    response = requests.get(url, headers={"X-API-Key": wire.sandbox.api_key}, timeout=10)
    assert (response.status_code, wire.sandbox.counts["batches"]) == (200, 3)
    idle.connection.close()


def test_the_port_comes_back(any_loop, make_wire):
    wire = make_wire(3)
    begin = time.monotonic()
    wire.sandbox.outage(0.3, "refused")
    until(lambda: answers(wire.sandbox), "the port does not come back")
    assert time.monotonic() - begin >= 0.3


def test_requests_under_way_are_cut(any_loop, make_wire):
    wire = make_wire(3, latency=LONG)
    failures = []

    def ask():
        try:
            wire.batches()
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: wire.sandbox.in_flight, "the request does not arrive")
    wire.sandbox.outage(LONG, "refused")
    thread.join(SOON)
    assert [type(error) for error in failures] == [ConnectionResetError]


def test_refused_later(make_wire):
    wire = make_wire(3)
    begin = time.monotonic()
    wire.sandbox.outage(LONG, "refused", after=0.3)

    def is_refused():
        try:
            return not answers(wire.sandbox)
        except ConnectionResetError:
            # It was in the port's queue when the port closed; the next one is refused.
            return False

    until(is_refused, "the port does not refuse")
    assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize("end", ["clear_faults", "reset"])
def test_a_refused_outage_is_ended(any_loop, make_wire, end):
    wire = make_wire(3)
    for _ in range(3):
        wire.sandbox.outage(LONG, "refused")
        assert not answers(wire.sandbox)
        getattr(wire.sandbox, end)()
        # The port is back when the call returns.
        assert answers(wire.sandbox)


def test_nobody_else_is_given_the_port(make_wire):
    wire = make_wire(3)
    port = wire.connection.port
    wire.sandbox.outage(LONG, "refused")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


def test_stop_while_connections_are_refused(any_loop):
    threads = threading.active_count()
    sandbox = Sandbox(items=3).start()
    wire = Wire(sandbox)
    assert wire.batches().status == 200
    sandbox.outage(LONG, "refused")
    begin = time.monotonic()
    sandbox.stop()
    assert time.monotonic() - begin < QUICK
    assert threading.active_count() == threads
    wire.connection.close()
    with Sandbox(items=1, port=wire.connection.port) as other:
        assert answers(other)
    # The outage is part of the state that a stopped sandbox keeps.
    with sandbox:
        assert not answers(sandbox)
        sandbox.clear_faults()
        assert answers(sandbox)
    # One that is stopped has nothing to wait for.
    begin = time.monotonic()
    sandbox.outage(LONG, "refused")
    sandbox.clear_faults()
    assert time.monotonic() - begin < QUICK


def test_an_outage_before_the_start():
    sandbox = Sandbox(items=3)
    begin = time.monotonic()
    sandbox.outage(0.3, "refused")
    with sandbox:
        until(lambda: answers(sandbox), "the port does not open")
        assert time.monotonic() - begin >= 0.3


def test_threads_may_plan_and_end_outages_at_once(make_wire):
    wire = make_wire(3)

    def work():
        for _ in range(5):
            wire.sandbox.outage(LONG, "refused")
            wire.sandbox.clear_faults()

    threads = [threading.Thread(target=work) for _ in range(4)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # No call waited for its timeout.
    assert time.monotonic() - begin < QUICK
    assert answers(wire.sandbox)


# --- Bad input --------------------------------------------------------------------------------------------------------

IMPOSSIBLE = [
    ({"seconds": 0}, "seconds"),
    ({"seconds": -1}, "seconds"),
    ({"seconds": float("nan")}, "seconds"),
    ({"seconds": float("inf")}, "seconds"),
    ({"seconds": 10**400}, "seconds"),
    ({"seconds": "5"}, "seconds"),
    ({"seconds": True}, "seconds"),
    ({"seconds": None}, "seconds"),
    ({"after": -0.1}, "after"),
    ({"after": float("nan")}, "after"),
    ({"after": None}, "after"),
    ({"status": 399}, "status"),
    ({"status": 600}, "status"),
    ({"status": 200}, "status"),
    ({"status": True}, "status"),
    ({"status": "503"}, "status"),
    ({"status": "down"}, "from 400 to 599 or one of reset, close, refused, not 'down'"),
    ({"status": ["reset"]}, "status"),
    ({"at": "annotation"}, r"work_items, annotations, .*signedurls.*, not 'annotation'"),
    ({"at": ["batches", "x"]}, "at must be among the endpoints"),
    ({"at": ""}, "at must be among the endpoints"),
    ({"at": 5}, "at must be among the endpoints"),
    ({"at": [None]}, "at must be among the endpoints"),
    ({"at": "batches", "status": "refused"}, "at must be empty"),
    ({"status": "reset", "headers": {"Retry-After": "5"}}, "headers and body"),
    ({"status": "refused", "body": "x"}, "headers and body"),
    ({"headers": ["Retry-After"]}, "headers must be a mapping"),
    ({"headers": {"Retry After": "5"}}, "headers cannot contain 'Retry After'"),
    ({"headers": {"X": "a\nb"}}, "headers cannot contain 'X'"),
    ({"headers": {"X": "\u20ac"}}, "headers cannot contain 'X'"),
    ({"headers": {"X": None}}, "headers cannot contain 'X'"),
]


@pytest.mark.parametrize(("options", "message"), IMPOSSIBLE)
def test_impossible_outages(wire, options, message):
    with pytest.raises(ValueError, match=message):
        wire.sandbox.outage(**{"seconds": LONG, **options})
    assert wire.batches().status == 200


# --- The control API --------------------------------------------------------------------------------------------------


def test_outages_over_http(wire):
    plan = {"seconds": LONG, "status": 503, "at": ["batches"], "headers": {"Retry-After": "5"}, "body": {"a": 1}}
    answer = wire.control("POST", "/outages", plan)
    assert (answer.status, {**answer.json, "body": plan["body"]}) == (200, {**plan, "after": 0})
    answer = wire.batches()
    assert (answer.status, answer.headers["retry-after"], answer.json) == (503, "5", {"a": 1})
    assert wire.work_items().status == 200
    assert wire.control("DELETE", "/faults").status == 204
    assert wire.batches().status == 200
    assert wire.control("POST", "/outages", {"seconds": LONG}).json["status"] == 500
    assert wire.batches().status == 500
    assert wire.control("POST", "/reset").status == 204
    assert wire.batches().status == 200


def test_a_refused_outage_over_http_is_confirmed_first(any_loop, make_wire):
    wire = make_wire(3)
    for _ in range(5):
        assert wire.control("POST", "/outages", {"seconds": 0.3, "status": "refused"}).status == 200
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            wire.batches()
        until(lambda: answers(wire.sandbox), "the port does not come back")
    wire.control("POST", "/outages", {"seconds": LONG, "status": "refused", "after": LONG})
    assert wire.control("DELETE", "/faults").status == 204
    assert answers(wire.sandbox)


@pytest.mark.parametrize(("options", "message"), IMPOSSIBLE)
def test_impossible_outages_over_http(wire, options, message):
    answer = wire.control("POST", "/outages", {"seconds": LONG, **options})
    assert answer.status == 400
    assert wire.batches().status == 200


@pytest.mark.parametrize("plan", [[], {}, {"status": 503}, {"seconds": 1, "when": 5}, "x", None])
def test_what_is_no_outage(wire, plan):
    answer = wire.control("POST", "/outages", plan)
    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert "outage" in answer.json["message"]
    assert wire.control("GET", "/outages").status == 405
