"""The key and signatures do not leak, whatever fails."""

from __future__ import annotations

import gc
import logging
import traceback
import types

import pytest
import requests
import urllib3

from cfplatform import CFPlatformError
from tests.http.scripted import Answer, raw, said
from tests.tools import KEY, SIGNATURE, load, outcome

SIGNED = f"/o?X-Amz-Credential={SIGNATURE}%2F20260101&X-Amz-Security-Token={SIGNATURE}&X-Amz-Signature={SIGNATURE}"
ECHO = f"{KEY} https://storage.example{SIGNED}"
#: The default policy respects any wait that a server asks for.
CALLERS = urllib3.Retry(1, status_forcelist=[503], backoff_factor=0, respect_retry_after_header=False)
FAULTS = {
    "closed": Answer(end="close"),
    "reset": Answer(end="reset"),
    "stalled": Answer(end="stall"),
    "no http": Answer(b"SSH-2.0\r\n", end="close"),
    "cut headers": Answer(b"HTTP/1.1 200 OK\r\nContent-Le", end="close"),
    "bad header": Answer(raw(200, b"{", "broken line", "Content-Length: 1")),
    "two lengths": Answer(raw(200, b"{}", "Content-Length: 1", "Content-Length: 2")),
    "cut": Answer(raw(200, b"{", "Content-Length: 100"), end="close"),
    "cut chunks": Answer(raw(200, b"5\r\n{\r\n", "Transfer-Encoding: chunked"), end="close"),
    "bad gzip": Answer(raw(200, b"x", "Content-Encoding: gzip")),
    "no json": Answer(raw(200, ECHO.encode())),
    "redirect": Answer(raw(302, b"", f"Location: https://storage.example{SIGNED}")),
    "bad redirect": Answer(raw(302, b"", f"Location: http://[::1{SIGNED}")),
    "400": said({"message": ECHO}, 400, f"X-Request-ID: {KEY}", f"X-Echo: {ECHO}"),
    "401": raw(401, ECHO.encode()),
    "403": raw(403, f"<Error><Code>Denied</Code><Message>{ECHO}</Message></Error>".encode()),
    "429": said({"error": ECHO}, 429, "Retry-After: 86400"),
    "500": raw(500, f"<html><title>{ECHO}</title>".encode(), "Content-Type: text/html"),
    "503": raw(503, ECHO.encode()),
}


def reachable(error):
    """Return everything that hangs on an error, without its traceback and classes."""
    found, waiting = {}, [error]
    while waiting:
        part = waiting.pop()
        if id(part) in found or isinstance(part, (type, types.ModuleType, types.TracebackType, types.FunctionType)):
            continue
        found[id(part)] = part
        if isinstance(part, BaseException):
            waiting += [part.__cause__, part.__context__, *part.args, *vars(part).values()]
        else:
            waiting += gc.get_referents(part)
    return list(found.values())


def check(error, caplog):
    parts = reachable(error)
    foreign = [part for part in parts if type(part).__module__.split(".")[0] in ("requests", "urllib3", "http", "_ssl")]
    assert foreign == []
    texts = [str(error), repr(error), repr(vars(error)), caplog.text]
    texts += [part for part in parts if isinstance(part, str)]
    texts.append("".join(traceback.format_exception(error)))
    for text in texts:
        assert KEY not in text
        assert SIGNATURE not in text


def calls(serve, connect, fetch, fault, **options):
    """Return the same fault as it meets the API, the storage and a session of the caller."""
    yield lambda: connect(serve(default=fault), **options).request("GET", SIGNED)
    yield lambda: list(connect(serve(default=fault), **options).iterate_pages(SIGNED))
    yield lambda: fetch(serve(default=fault), SIGNED, **options)
    with requests.Session() as session:
        yield lambda: list(connect(serve(default=fault), session=session, **options).iterate_pages(SIGNED))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("policy", ["ours", "callers"])
def test_no_fault_shows_a_secret(serve, connect, fetch, caplog, fault, policy):
    caplog.set_level(logging.DEBUG)
    retries = 1 if policy == "ours" else CALLERS
    failed = 0
    for call in calls(serve, connect, fetch, fault, retries=retries, timeout=0.1):
        try:
            call()
        except CFPlatformError as error:
            check(error, caplog)
            failed += 1
    # Some bodies are good enough for a raw request or an object, but not for a page.
    assert failed >= 2


def test_a_refused_connection_shows_no_secret(serve, connect, fetch, caplog):
    caplog.set_level(logging.DEBUG)
    for call in calls(lambda default: serve(listen=False), connect, fetch, None, retries=1):
        with pytest.raises(CFPlatformError) as caught:
            call()
        check(caught.value, caplog)


def test_what_urllib3_logs_is_still_useful_but_holds_no_signature(serve, fetch, caplog):
    caplog.set_level(logging.DEBUG)
    server = serve(Answer(end="close"), raw(503), raw(200, b"x", "broken line", "Content-Length: 1"), raw(200, b"x"))
    assert fetch(server, SIGNED) == b"x"
    assert "GET /o?..." in caplog.text
    assert "Retrying" in caplog.text
    assert "Failed to parse headers" in caplog.text
    assert SIGNATURE not in caplog.text
    assert all(SIGNATURE not in str(record.args) + str(record.msg) for record in caplog.records)


def test_the_library_itself_prints_nothing_and_logs_requests_without_their_query(serve, connect, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    connect(serve(default=said({}))).request("GET", "/x", params={"cursor": "secret"})
    (record,) = [record for record in caplog.records if record.name.startswith("cfplatform")]
    assert record.levelno == logging.DEBUG
    assert record.getMessage().endswith("/x: 200")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"\x1b[2J\x07 junk " + b"x" * 5000 + b"\r\n", end="close"),
        Answer(b"HTTP/1.1 2\x1b00 \x1b[2J\r\n\r\n", end="close"),
        raw(200, b"\x1b[2J", "Content-Type: text/\x1b[2J" + "x" * 5000),
        raw("500 \x1b[2J", b"\x1b[2J" * 5000, "X-Request-ID: \x1b[2J"),
        raw(302, b"", "Location: http://h/\x1b[2J" + "x" * 5000),
        raw(200, b"x", "Content-Encoding: \x1b[2J" + "x" * 5000),
        raw(200, b"x", "Content-Length: \x1b[2J" + "x" * 5000),
        raw(200, b"x", "Content-Encoding: gzip"),
    ],
)
def test_no_answer_reaches_the_terminal_unfiltered(serve, connect, fetch, answer):
    for call in calls(serve, connect, fetch, answer, retries=0, timeout=0.2):
        _, error = outcome(CFPlatformError, call)
        assert str(error).isprintable()
        assert len(str(error)) < 900


@pytest.mark.parametrize("other", [True, False])
def test_the_key_goes_to_one_origin_only(serve, connect, fetch, other):
    api, storage = serve(default=raw(200, b"{}")), serve(default=raw(200, b"x"))
    client = connect(api)
    client.request("GET", "/x")
    load(client, (storage if other else api).origin + "/o")
    holders = [request for server in (api, storage) for request in server.requests if "x-api-key" in request.names]
    assert [request.target for request in holders] == ["/api/v1/x"]
