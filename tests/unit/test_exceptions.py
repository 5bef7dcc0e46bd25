from __future__ import annotations

import copy
import inspect
import json
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import exceptions
from cfplatform.exceptions import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    CFPlatformError,
    ConfigurationError,
    ConflictError,
    DestinationBusyError,
    DownloadError,
    ErrorResponse,
    IncompleteDownloadError,
    InvalidParameterError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnsafePathError,
    error_from_response,
    server_words,
)

KEY = "cf-SECRET-KEY"
CLASSES = [cls for _, cls in inspect.getmembers(exceptions, inspect.isclass) if issubclass(cls, CFPlatformError)]
PARENTS = {
    CFPlatformError: (Exception,),
    ConfigurationError: (CFPlatformError, ValueError),
    InvalidParameterError: (CFPlatformError, ValueError),
    TransportError: (CFPlatformError,),
    APIConnectionError: (TransportError, ConnectionError),
    APITimeoutError: (TransportError, TimeoutError),
    InvalidResponseError: (TransportError, ValueError),
    APIError: (CFPlatformError,),
    BadRequestError: (APIError,),
    AuthenticationError: (APIError,),
    PermissionDeniedError: (APIError, PermissionError),
    NotFoundError: (APIError, LookupError),
    ConflictError: (APIError,),
    RateLimitError: (APIError,),
    ServerError: (APIError,),
    DownloadError: (CFPlatformError,),
    UnsafePathError: (DownloadError,),
    IncompleteDownloadError: (DownloadError,),
    DestinationBusyError: (DownloadError,),
}


def failed(status=500, body=b"", content_type="application/json", **headers):
    return error_from_response(
        status,
        method="GET",
        url="https://user:pw@api.example/projects/p?sig=SIGNATURE#top",
        headers={"Content-Type": content_type, **headers},
        body=body,
        secret=KEY,
    )


def test_every_class_of_the_tree_is_known_here():
    assert {cls for cls in CLASSES if cls in PARENTS} == set(PARENTS)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_is_also_the_builtin_that_fits(cls):
    for parent in PARENTS.get(cls, (CFPlatformError,)):
        assert issubclass(cls, parent)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("move", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])  # noqa: S301
def test_an_error_keeps_everything_when_it_travels(cls, move):
    error = cls(
        "what happened",
        method="GET",
        url="https://api.example/x",
        status_code=418,
        request_id="r-1",
        response=ErrorResponse(418, {"x": "y"}, "text"),
        parameter="max_workers",
        hint="what to do",
    )
    error.cursor = "c"
    if isinstance(error, RateLimitError):
        error.retry_after = 1.5
    moved = move(error)
    assert type(moved) is cls
    assert vars(moved) == vars(error)
    assert (str(moved), moved.args, moved.message) == ("what happened what to do", ("what happened",), "what happened")
    assert moved.response.headers == {"x": "y"}


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_can_be_raised_with_a_message_only_or_nothing(cls):
    for error in (cls(), cls("x")):
        assert str(error) == error.message
        attributes = ("method", "url", "status_code", "request_id", "code", "response", "cursor", "parameter", "hint")
        assert [getattr(error, name) for name in attributes] == [None] * len(attributes)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_survives_the_state_file(cls):
    error = cls(
        "words",
        method="GET",
        url="https://api.example/x?sig=1",
        status_code=404,
        request_id="r",
        code="c-1",
        hint="advice",
    )
    data = json.loads(json.dumps(exceptions.to_dict(error)))
    again = exceptions.from_dict(data)
    assert type(again) is cls
    assert exceptions.to_dict(again) == data
    assert str(again) == str(error) == "words advice"
    assert again.code == "c-1"
    assert "sig" not in json.dumps(data)


@pytest.mark.parametrize("data", [{}, {"type": "Exception"}, {"type": "os"}, {"type": None}, {"type": "ErrorResponse"}])
def test_an_error_of_an_unknown_type_becomes_the_base_class(data):
    assert type(exceptions.from_dict({"message": "m", **data})) is CFPlatformError


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, APIError),
        (409, ConflictError),
        (410, APIError),
        (418, APIError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (501, ServerError),
        (599, ServerError),
    ],
)
def test_a_status_has_its_class_and_the_error_tells_all_of_it(status, cls):
    error = failed(status, b'{"message": "No.", "code": "c-1"}', **{"X-Request-ID": "r-7"})
    assert type(error) is cls
    assert str(error).startswith(f"GET https://api.example/projects/p failed with status {status}: No. [c-1]. ")
    assert error.message.endswith(": No. [c-1]. (request ID r-7)")
    assert str(error) == (f"{error.message} {error.hint}" if error.hint else error.message)
    assert (error.method, error.url) == ("GET", "https://api.example/projects/p")
    assert (error.status_code, error.request_id, error.code) == (status, "r-7", "c-1")
    assert error.response.headers["x-request-id"] == "r-7"


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b'{"message": "Project not found"}', "application/json", "Project not found"),
        (b'{"message": "x", "code": "not_found"}', "", "x [not_found]"),
        (b'{"message": "", "error": "Denied"}', "", "Denied"),
        (b'{"error": {"message": "inner", "code": "e1"}}', "", "inner [e1]"),
        (b'{"detail": "d"}', "", "d"),
        (b'{"title": "t"}', "", "t"),
        (b'[{"message": "first"}, {"message": "second"}]', "", "first"),
        (b'{"message": ["not", "text"], "detail": "d"}', "", "d"),
        (b"Annotation not found\n", "text/plain", "Annotation not found"),
        (b"<html><head><title>502\nBad Gateway</title></head>", "text/html", "an HTML page titled '502\\nBad Gateway'"),
        (b"no tags at all", "text/html", "an HTML page"),
        (b"<!DOCTYPE html>", "", "an HTML page"),
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            "application/xml",
            "AccessDenied: Request has expired",
        ),
        (b"", "", "no message from the server"),
        (b"  \n", "text/html", "no message from the server"),
        (b"[]", "", "[]"),
        (b'{"message": "cut o', "application/json", '{"message": "cut o'),
        (b'{"code": 5}', "", '{"code": 5}'),
        (b"\xff\xfe", "", "\ufffd\ufffd"),
        (b"[" * 60_000, "", "[[["),
        (b'{"a": ' + b"9" * 5000 + b"}", "", '{"a": 999'),
        (b"\x1b[2Jgone\x00", "", "\ufffd[2Jgone\ufffd"),
        (b"line\r\n\r\n  line", "", "line line"),
    ],
)
def test_the_words_of_the_server_are_found_in_any_body(body, content_type, words):
    message = str(failed(500, body, content_type))
    assert f"failed with status 500: {words}" in message
    assert message.isprintable()
    assert len(message) < 800


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"message": "x", "code": "not_found"}', "not_found"),
        (b' {"error": {"message": "inner", "code": "e1"}, "code": "outer"}', "e1"),
        (b'[{"code": "first"}]', "first"),
        (b'{"code": 40401}', "40401"),
        (b'{"code": "a\\u001bb"}', "a\ufffdb"),
        (b'{"code": ""}', None),
        (b'{"code": true}', None),
        (b'{"code": {"a": 1}}', None),
        (b'{"error": "e1"}', None),
        (b'"code"', None),
        (b"[]", None),
        (b"[1]", None),
        (b'{"code": "cut', None),
        (b"[" * 60_000, None),
        (b"<Error><Code>AccessDenied</Code></Error>", None),
        (b"", None),
    ],
)
def test_the_code_of_the_server_is_that_of_its_json(body, code):
    assert failed(404, body).code == code


@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)), st.text())
def test_words_are_found_or_not_but_never_break(text, content_type):
    words = server_words(text, content_type)
    assert len(words) <= exceptions.MAX_MESSAGE_LENGTH
    assert words.isprintable()


@given(st.dictionaries(st.sampled_from(["message", "error", "detail", "title", "code"]), st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["message", "code"]), inner),
)))  # fmt: skip
def test_a_json_body_of_any_shape_gives_a_message(body):
    message = str(failed(400, json.dumps(body).encode()))
    assert message.startswith("GET https://api.example/projects/p failed with status 400: ")
    assert message.isprintable()


@pytest.mark.parametrize(
    "text",
    ["?" * 65_536, "?a" * 30_000, "<title" * 10_000, "<title>" * 9_000, "sig" * 20_000, "=?" * 30_000, "<" * 65_536],
)
def test_no_body_makes_reading_it_slow(text):
    began = time.perf_counter()
    failed(500, text.encode(), "text/html")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"message": "bad URL https://s.example/o?X-Amz-Signature=SIGNATURE&x=1"}',
        b'{"message": "https://s.example/o?a=1&X-Amz-Credential=SIGNATURE%2F2026"}',
        b"<a href='https://s.example/o?sig=SIGNATURE'>",
        b"X-Amz-Signature: SIGNATURE",
        b'{"Signature": "SIGNATURE"}',
        b"X-Amz-Security-Token=SIGNATURE",
        b"x-api-key: SIGNATURE",
        b"you sent cf-SECRET-KEY",
    ],
)
def test_no_part_of_an_error_shows_a_signature_or_the_key(body):
    error = failed(403, body, **{"Location": "https://s.example/o?sig=SIGNATURE", "X-Echo": KEY, "X-Request-ID": KEY})
    everything = repr(vars(error)) + str(error) + repr(error) + repr(error.args)
    assert "SIGNATURE" not in everything
    assert "SECRET" not in everything
    assert "pw@" not in everything


def test_the_copy_of_the_answer_is_bounded():
    error = failed(500, b"x" * 200_000)
    assert len(error.response.text) == 65_536


def test_a_request_id_cannot_move_the_cursor_of_a_terminal():
    error = failed(500, b"x", **{"X-Request-ID": "r\x1b[2J"})
    assert str(error).isprintable()
    assert error.request_id == "r\ufffd[2J"


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.0, "to wait 2 s"), (0.5, "to wait 0.5 s"), (86400.0, "to wait 86,400 s")]
)
def test_a_rate_limit_carries_the_wait(seconds, text):
    error = error_from_response(429, method="GET", url="https://h/x", headers={}, retry_after=seconds)
    assert error.retry_after == seconds
    assert text in str(error)


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://h/p?a=b", "https://h/p"),
        ("https://h/p#f", "https://h/p"),
        ("https://u:p@h/p@q", "https://h/p@q"),
        ("//u@h/p?x", "//h/p"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, bare):
    assert exceptions.blank_url(url) == bare
