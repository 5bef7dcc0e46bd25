from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import InvalidResponseError, documents
from tests.tools import outcome

BLANKS = st.one_of(st.text(" \t\r\n", max_size=3), st.just(" \n" * 40))
TRICKS = ["info", "asset_url", '"info": {', "\\", '"', "}", "]", "{[,", "x" * 70, '\\"' * 40, '"{' * 40, "\\" * 61]
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(TRICKS))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)


class Pairs(list):
    """A JSON object as a list of pairs, since names may be repeated."""


def objects(values, names=TEXTS, max_size=5):
    return st.lists(st.tuples(names, values), max_size=max_size).map(Pairs)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | objects(inner), max_leaves=12)
INFOS = st.one_of(VALUES, objects(VALUES, st.one_of(TEXTS, st.sampled_from(["asset_url", "year"]))))
MEMBERS = st.one_of(st.tuples(TEXTS, VALUES), st.tuples(st.just("info"), INFOS))
URLS = st.one_of(st.none(), st.text(max_size=20), st.just('s3://b/"x"\\y'))


def spell(draw, text):
    """Write a string in one of the ways that JSON has."""
    how = draw(st.sampled_from(["plain", "ascii", "escaped"]))
    if how == "escaped":
        units = text.encode("utf-16-be", "surrogatepass")
        return b'"' + b"".join(b"\\u%02x%02X" % (units[i], units[i + 1]) for i in range(0, len(units), 2)) + b'"'
    try:
        return json.dumps(text, ensure_ascii=how == "ascii").encode()
    except UnicodeEncodeError:
        return json.dumps(text).encode()


def spell_value(draw, value):
    def blank():
        return draw(BLANKS).encode()

    if isinstance(value, Pairs):
        members = [
            blank() + spell(draw, name) + blank() + b":" + blank() + spell_value(draw, inner) + blank()
            for name, inner in value
        ]
        return b"{" + (b",".join(members) or blank()) + b"}"
    if isinstance(value, list):
        return b"[" + (b",".join(blank() + spell_value(draw, inner) + blank() for inner in value) or blank()) + b"]"
    return spell(draw, value) if isinstance(value, str) else json.dumps(value).encode()


@st.composite
def spelled(draw):
    """A document in random spelling, and where the value of its ``info`` stands, if it has one."""
    text = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + draw(BLANKS).encode() + b"{"
    span = None
    for number, (name, value) in enumerate(draw(st.lists(MEMBERS, max_size=6))):
        text += (b"," if number else b"") + draw(BLANKS).encode() + spell(draw, name) + draw(BLANKS).encode() + b":"
        text += draw(BLANKS).encode()
        start = len(text)
        text += spell_value(draw, value)
        if name == "info":
            span = (start, len(text))
        text += draw(BLANKS).encode()
    return text + b"}" + draw(BLANKS).encode(), span


@given(spelled(), URLS)
def test_setting_the_asset_url_changes_that_and_nothing_else(case, url):
    document, span = case
    before = json.loads(document.decode("utf-8-sig"))
    edited = documents.set_asset_url(document, url)
    info = before.get("info")
    assert documents.parse(edited) == {
        **before,
        "info": {**(info if isinstance(info, dict) else {}), "asset_url": url or ""},
    }
    start, end = span or [document.index(b"{") + 1] * 2
    assert edited.startswith(document[:start])
    assert edited.endswith(document[end:])


@given(spelled(), URLS)
def test_setting_it_again_changes_nothing(case, url):
    once = documents.set_asset_url(case[0], url)
    assert documents.set_asset_url(once, url) == once


@pytest.mark.parametrize(
    ("document", "edited"),
    [
        (b"{}", b'{"info": {"asset_url": "u"}}'),
        (b'{ "a":1 }', b'{"info": {"asset_url": "u"},  "a":1 }'),
        (b'{"info":{}}', b'{"info":{"asset_url": "u"}}'),
        (b'{"info":{ }}', b'{"info":{"asset_url": "u" }}'),
        (b'{"info":{"year":1.10}}', b'{"info":{"asset_url": "u", "year":1.10}}'),
        (b'{"info":{"asset_url" : "old" }}', b'{"info":{"asset_url" : "u" }}'),
        (b'{"info":{"asset_url":{"a":[1]}}}', b'{"info":{"asset_url":"u"}}'),
        (b'{"info":null}', b'{"info":{"asset_url": "u"}}'),
        (b'{"info":[1, {"asset_url":2}], "a":1}', b'{"info":{"asset_url": "u"}, "a":1}'),
        (b'{"info":"x,}"}', b'{"info":{"asset_url": "u"}}'),
        (b'{"info":{"a":1},"info":{"b":2}}', b'{"info":{"a":1},"info":{"asset_url": "u", "b":2}}'),
        (b'{"info":{"a":1},"\\u0069nfo":{"b":2}}', b'{"info":{"a":1},"\\u0069nfo":{"asset_url": "u", "b":2}}'),
        (b'{"info":{"asset_url":1,"asset\\u005furl":2}}', b'{"info":{"asset_url":1,"asset\\u005furl":"u"}}'),
        (b'{"x":{"info":{}},"y":"info"}', b'{"info": {"asset_url": "u"}, "x":{"info":{}},"y":"info"}'),
        (b'{"a\\\\":"\\\\\\"{","info":{}}', b'{"a\\\\":"\\\\\\"{","info":{"asset_url": "u"}}'),
        (b'\xef\xbb\xbf{"info":{}}\r\n', b'\xef\xbb\xbf{"info":{"asset_url": "u"}}\r\n'),
        (b'{"info":{"r":1E400,"n":NaN}}', b'{"info":{"asset_url": "u", "r":1E400,"n":NaN}}'),
    ],
)
def test_the_edit_is_the_smallest_one(document, edited):
    assert documents.set_asset_url(document, "u") == edited


def test_no_asset_url_is_written_as_an_empty_text():
    assert documents.set_asset_url(b'{"info": {}}', None) == b'{"info": {"asset_url": ""}}'


@pytest.mark.parametrize(
    ("document", "data"),
    [
        (b"{}", {}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b' \r\n{"a": "\xc3\xa9"}\n', {"a": "é"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_a_whole_object_is_a_document(document, data):
    assert documents.parse(document) == data


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b"{", "not one complete JSON object"),
        (b'{"a": 1', "not one complete JSON object"),
        (b'{"a": 1}}', "Extra data"),
        (b'{"a": 1}{"a": 1}', "Extra data"),
        (b"[]", "the top level is a JSON array"),
        (b"null", "the top level is a JSON null"),
        (b"true", "the top level is a JSON boolean"),
        (b"1.5", "the top level is a JSON number"),
        (b'"x"', "the top level is a JSON string"),
        (b"<!DOCTYPE html><title>Sign in</title>", "looks like an HTML page"),
        (b"\n <HTML>", "looks like an HTML page"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "not one complete JSON object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' * 200_000, "nested too deeply"),
    ],
)
def test_anything_else_is_refused_with_the_reason(document, says):
    for read in (documents.parse, functools.partial(documents.set_asset_url, asset_url="u")):
        with pytest.raises(InvalidResponseError, match=says) as caught:
            read(document)
        assert len(str(caught.value)) < 400


def test_a_number_with_thousands_of_digits_is_refused_or_kept_but_never_breaks():
    digits = "9" * 5000
    parsed, error = outcome(InvalidResponseError, documents.parse, f'{{"a": {digits}}}'.encode())
    assert "digits" in str(error) if parsed is None else parsed["a"] == 10**5000 - 1


PARTS = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", '"info"', '"asset_url"', '"', "\\", " ", "1", "-", "nul", "\ufeff", "\0"]
)


@given(st.one_of(st.binary(max_size=40), st.lists(PARTS, max_size=20).map(lambda parts: "".join(parts).encode())))
def test_any_bytes_are_parsed_or_refused(document):
    parsed, error = outcome(InvalidResponseError, documents.parse, document)
    assert isinstance(parsed, dict) or str(error).startswith("The document is not")
    edited, second = outcome(InvalidResponseError, documents.set_asset_url, document, "u")
    assert str(second) == str(error)
    assert error or documents.parse(edited)["info"]["asset_url"] == "u"


@given(spelled(), st.data())
def test_a_document_that_lacks_a_byte_or_has_one_too_many_is_refused_by_the_edit_too(case, data):
    document, _ = case
    at = data.draw(st.integers(0, len(document)))
    broken = document[:at] + data.draw(st.sampled_from([b"", b",", b"}", b'"', b"\\", b"\xff"])) + document[at + 1 :]
    _, error = outcome(InvalidResponseError, documents.parse, broken)
    _, second = outcome(InvalidResponseError, documents.set_asset_url, broken, "u")
    assert str(second) == str(error)


@pytest.mark.parametrize(("head", "tail"), [(b"{", b"}"), (b'\xef\xbb\xbf \n{"a"', b'"}\n '), (b"\t{", b"}\r\n")])
def test_the_ends_of_an_object_are_accepted(head, tail):
    assert documents.check_ends(head, tail) is None


@pytest.mark.parametrize(
    ("head", "tail"), [(b"[", b"}"), (b"{", b"]"), (b"", b""), (b"{", b"},"), (b"<html>", b"</html>"), (b"{", b"\0")]
)
def test_the_ends_of_anything_else_are_refused(head, tail):
    with pytest.raises(InvalidResponseError, match="not one complete JSON object"):
        documents.check_ends(head, tail)
