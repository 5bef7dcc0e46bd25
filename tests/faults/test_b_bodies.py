"""Group B: bodies that are truncated, badly framed, damaged, too large, or malformed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import sys
import zlib

import pytest

from cfplatform import (
    APIConnectionError,
    CFPlatformError,
    IncompleteDownloadError,
    InvalidResponseError,
)
from tests.faults.tools import parts, tree
from tests.http.scripted import Answer, raw

BODY = b'{"info": {"year": 2026}, "images": [], "note": "' + b"x" * 3000 + b'"}'
GZIP = "Content-Encoding: gzip"
CHUNKED = "Transfer-Encoding: chunked"


def chunked(body, end=b"0\r\n\r\n"):
    return b"%x\r\n%s\r\n" % (len(body), body) + end


def refused(download_body, answer, error):
    """Check that a download never accepts an answer, and that a right one afterwards mends it."""
    result, _ = download_body(answer)
    assert result.outcome == "failed"
    assert type(result.error) is error
    result, requests = download_body(answer, raw(200, BODY))
    assert result.outcome == "downloaded"
    assert result.path.read_bytes() == BODY
    assert requests == 2
    result.path.unlink()


def accepted(download_body, answer, expected):
    result, requests = download_body(answer)
    assert result.outcome == "downloaded", result.error
    assert result.path.read_bytes() == expected
    assert requests == 1
    result.path.unlink()


@pytest.mark.parametrize("kept", [0, len(BODY) // 2, len(BODY)])
def test_b01_a_body_whose_end_is_that_of_the_connection_is_not_accepted(download_body, kept):
    refused(download_body, Answer(raw(200, BODY[:kept], length=False), end="close"), InvalidResponseError)


@pytest.mark.parametrize("length", ["abc", "-5", "+5", "5.0", "0x10"])
def test_b02_a_length_that_is_none_is_rejected(download_body, length):
    refused(download_body, Answer(raw(200, BODY, f"Content-Length: {length}"), end="close"), InvalidResponseError)


@pytest.mark.parametrize("lengths", [["500, 600"], ["500", "600"], [f"{len(BODY)}, 5"]])
def test_b02_two_lengths_that_differ_are_rejected(download_body, lengths):
    headers = [f"Content-Length: {length}" for length in lengths]
    result, _ = download_body(Answer(raw(200, BODY, *headers), end="close"))
    assert type(result.error) is InvalidResponseError


def test_b02_the_same_length_twice_is_accepted(download_body):
    accepted(download_body, raw(200, BODY, f"Content-Length: {len(BODY)}, {len(BODY)}"), BODY)


@pytest.mark.parametrize("cut", [0, 5, 10, 20, 60, -9, -8, -4, -1])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_b03_truncated_gzip(download_body, cut, framing):
    part = gzip.compress(BODY)[:cut]
    answer = (
        raw(200, part, GZIP)
        if framing == "length"
        else raw(200, chunked(part) if part else b"0\r\n\r\n", CHUNKED, GZIP)
    )
    refused(download_body, answer, IncompleteDownloadError)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(BODY)[:-8] + b"\0\0\0\0" + gzip.compress(BODY)[-4:],
        gzip.compress(BODY)[:-4] + b"\0\0\0\0",
        BODY,
        gzip.compress(BODY) + b"junk",
        zlib.compress(BODY),
    ],
    ids=["crc", "size", "plain", "junk behind", "zlib"],
)
def test_b04_what_is_labelled_gzip_and_is_not_is_rejected(download_body, body):
    refused(download_body, raw(200, body, GZIP), InvalidResponseError)


def test_b04_two_members_are_one_body(download_body):
    accepted(download_body, raw(200, gzip.compress(BODY[:99]) + gzip.compress(BODY[99:]), GZIP), BODY)


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
def test_b05_an_encoding_that_was_not_asked_for_is_rejected(download_body, encoding):
    refused(download_body, raw(200, BODY, f"Content-Encoding: {encoding}"), InvalidResponseError)


@pytest.mark.parametrize("encoding", ["UTF-8", "binary", "none", "identity, identity", "x-identity", "aws-chunked"])
def test_b05_an_encoding_that_is_none_says_nothing_of_the_bytes(download_body, encoding):
    accepted(download_body, raw(200, BODY, f"Content-Encoding: {encoding}"), BODY)
    accepted(download_body, raw(200, gzip.compress(BODY), f"Content-Encoding: gzip,{encoding}"), BODY)
    refused(download_body, Answer(raw(200, BODY[:9], f"Content-Encoding: {encoding}")), InvalidResponseError)


def saved(sandbox, client, root, document, **options):
    """Store a document for the first item and download it; return its result."""
    sandbox.update_work_item(0, document=document)
    (item, *_) = client.get_work_items(limit=1)
    (result,) = client.iter_downloads([item], root, **options)
    assert result.error is None or isinstance(result.error, CFPlatformError)
    assert parts(root) == []
    return result


def test_b08_a_byte_order_mark_is_kept(sandbox, client, tmp_path):
    document = b'\xef\xbb\xbf{"info": {}, "images": []}'
    assert saved(sandbox, client, tmp_path, document, inject_asset_url=False).path.read_bytes() == document
    injected = saved(sandbox, client, tmp_path, document).path.read_bytes()
    assert injected.startswith(b'\xef\xbb\xbf{"info": {"asset_url": "')
    assert client.get_work_item(next(sandbox.work_item_ids())).load()["images"] == []


@pytest.mark.parametrize(
    "document",
    [
        '{"a": "é"}'.encode("utf-16"),
        '{"a": "é"}'.encode("utf-16-le"),
        '{"a": "é"}'.encode("latin-1"),
        b'{"a": "\xed\xa0\x80"}',
    ],
    ids=["utf-16", "utf-16-le", "latin-1", "surrogate"],
)
def test_b08_another_encoding_is_refused_and_never_patched_up(sandbox, client, tmp_path, document):
    result = saved(sandbox, client, tmp_path, document)
    assert isinstance(result.error, InvalidResponseError)
    assert tree(tmp_path) == {}
    with pytest.raises(InvalidResponseError):
        client.get_work_item(result.item_id).load()


def test_b09_numbers_that_are_none_are_kept_as_served_and_never_written_by_us(sandbox, client, tmp_path):
    document = b'{"images": [], "a": [NaN, Infinity, -Infinity, 1e999], "info": {"b": NaN}}'
    assert saved(sandbox, client, tmp_path, document, inject_asset_url=False).path.read_bytes() == document
    injected = saved(sandbox, client, tmp_path, document).path.read_bytes()
    # Ours is a member whose value is a text.
    assert injected.count(b"NaN") == document.count(b"NaN")
    assert injected.count(b"Infinity") == document.count(b"Infinity")


HUGE_NUMBER = b'{"a": ' + b"9" * 5000 + b"}"
DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
needs_limit = pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python reads any number")


@pytest.mark.parametrize("body", [pytest.param(HUGE_NUMBER, marks=needs_limit), DEEP], ids=["number", "nested"])
def test_b10_documents_that_no_parser_takes_fail_alone(sandbox, client, tmp_path, body):
    result = saved(sandbox, client, tmp_path, body)
    assert isinstance(result.error, InvalidResponseError)
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (19, 1)
    with pytest.raises(InvalidResponseError):
        client.get_work_item(result.item_id).load()


@pytest.mark.parametrize("body", [pytest.param(HUGE_NUMBER, marks=needs_limit), DEEP], ids=["number", "nested"])
def test_b10_pages_that_no_parser_takes_are_a_typed_error(serve, connect, body):
    with pytest.raises(InvalidResponseError, match="not valid JSON"):
        list(connect(serve(default=raw(200, body)), retries=1).get_work_items())


def test_b11_ids_keep_their_text(serve, connect):
    listing = b'{"items": [{"id": 9007199254740993}, {"id": "9007199254740993"}, {"id": "x-1"}], "meta": {}}'
    found = [item.id for item in connect(serve(raw(200, listing))).get_work_items()]
    assert found[0] == "9007199254740993"
    assert found[-1] == "x-1"


@pytest.mark.parametrize("bad", ["true", "null", '""', "1.0", "[1]", "{}"])
def test_b11_what_cannot_be_an_id_is_never_rounded_or_guessed(serve, connect, bad):
    listing = b'{"items": [{"id": %s}], "meta": {}}' % bad.encode()
    with pytest.raises(InvalidResponseError, match="has no valid ID"):
        list(connect(serve(default=raw(200, listing))).get_work_items())


def test_b11_numbers_inside_a_document_keep_their_text(sandbox, client, tmp_path):
    document = b'{"annotations": [{"id": 9007199254740993.0, "area": 1.10, "x": 1E5}], "info": {}}'
    text = saved(sandbox, client, tmp_path, document).path.read_bytes()
    assert text.startswith(document[: document.index(b'"info"')])


def test_b12_half_a_character_in_a_document_is_kept(sandbox, client, tmp_path):
    document = b'{"images": [{"file_name": "a\\ud800"}], "info": {}}'
    assert rb'"a\ud800"' in saved(sandbox, client, tmp_path, document).path.read_bytes()
    assert client.get_work_item(next(sandbox.work_item_ids())).load()["images"][0]["file_name"] == "a\ud800"


def test_b12_half_a_character_in_the_address_of_an_asset_is_written(sandbox, client, tmp_path):
    item = {**sandbox.work_item(0), "assetUrl": "assets/\ud800.png"}
    sandbox.replace_next(json.dumps({"items": [item], "meta": {}}).encode(), path="*/workItems")
    text = saved(sandbox, client, tmp_path, b'{"info": {}}').path.read_bytes()
    assert json.loads(text)["info"]["asset_url"] == "assets/\ud800.png"


def test_b12_half_a_character_in_the_name_of_a_batch_is_replaced(sandbox, client, tmp_path):
    batches = json.dumps({"items": [{"id": 1001, "name": "a\ud800"}, {"id": 1002, "name": "b"}], "meta": {}})
    sandbox.replace_next(batches.encode(), path="*/batches")
    summary = client.download_project(destination=tmp_path)
    assert (summary.successful, summary.failed) == (20, 0)
    assert all(path.encode().decode() == path for path in tree(tmp_path))


def base64_of(digest):
    return base64.b64encode(digest).decode()


def checksums(body):
    """Every header with a checksum, as a right answer with this body has it."""
    return {
        "Content-MD5": base64_of(hashlib.md5(body).digest()),  # noqa: S324 - what the storages offer
        "x-goog-hash": "crc32c=AAAAAA==,md5=" + base64_of(hashlib.md5(body).digest()),  # noqa: S324
        "x-amz-checksum-sha256": base64_of(hashlib.sha256(body).digest()),
        "x-amz-checksum-sha1": base64_of(hashlib.sha1(body).digest()),  # noqa: S324
        "x-amz-checksum-crc32": base64_of(zlib.crc32(body).to_bytes(4, "big")),
    }


@pytest.mark.parametrize("name", checksums(b""))
def test_b13_a_checksum_that_differs_is_repeated_and_never_accepted(download_body, name):
    wrong = raw(200, BODY, f"{name}: {checksums(BODY + b' ')[name]}")
    refused(download_body, wrong, IncompleteDownloadError)
    result, requests = download_body(wrong, retries=3)
    assert f"does not match its checksum in {name}" in str(result.error)
    assert requests == 4
    accepted(download_body, raw(200, BODY, f"{name}: {checksums(BODY)[name]}"), BODY)


def test_b13_checksums_are_those_of_the_bytes_as_sent(download_body):
    packed = gzip.compress(BODY)
    headers = [f"{name}: {value}" for name, value in checksums(packed).items()]
    accepted(download_body, raw(200, packed, GZIP, *headers), BODY)
    headers = [f"{name}: {value}" for name, value in checksums(packed).items() if name == "x-goog-hash"]
    # Decompressed on the way: the checksum speaks of other bytes, so it proves nothing and denies nothing.
    accepted(download_body, raw(200, BODY, "x-goog-stored-content-encoding: gzip", *headers), BODY)


def test_b13_a_checksum_sent_in_two_headers_counts(download_body):
    md5 = checksums(BODY + b" ")["Content-MD5"]
    refused(
        download_body,
        raw(200, BODY, "x-goog-hash: crc32c=AAAAAA==", f"x-goog-hash: md5={md5}"),
        IncompleteDownloadError,
    )


@pytest.mark.parametrize(
    "headers",
    [
        ['ETag: "9e107d9d372bb6826bd81d3542a419d6"'],
        ['ETag: "9e107d9d372bb6826bd81d3542a419d6-3"'],
        ["ETag: 9e107d9d372bb6826bd81d3542a419d6"],
        ['ETag: W/"9e107d9d372bb6826bd81d3542a419d6"'],
        ['ETag: "9e107d9d372bb6826bd81d3542a419d6"', "x-amz-server-side-encryption: aws:kms"],
        ["x-goog-hash: crc32c=AAAAAA=="],
        ["x-amz-checksum-crc32c: AAAAAA=="],
        ["x-amz-checksum-sha256: " + base64_of(hashlib.sha256(b"").digest()) + "-3", "x-amz-checksum-type: COMPOSITE"],
        ["x-amz-checksum-crc32: AAAAAA==-2"],
        ["Content-MD5: not base64"],
        ["Content-MD5: AAAA"],
        ["Content-MD5:"],
        ["x-goog-hash: md5="],
    ],
)
def test_b14_what_is_no_checksum_of_the_body_raises_no_alarm(download_body, headers):
    accepted(download_body, raw(200, BODY, *headers), BODY)


def test_b15_a_thousand_documents_are_stored_as_served(make_sandbox, tmp_path):
    dice = random.Random(15)
    sandbox = make_sandbox(items=1000, batches=3)
    served = {}
    for item in sandbox.work_item_ids():
        served[item] = spelled(dice)
        sandbox.update_work_item(item, document=served[item])
    with sandbox.client() as client:
        client.download_project(destination=tmp_path, inject_asset_url=False).raise_for_failures()
    found = {path.rsplit("/", 1)[1].removesuffix(".json"): content for path, content in tree(tmp_path).items()}
    assert found == served


def spelled(dice):
    """Return a JSON object in a spelling that no writer of ours has."""

    def blank():
        return dice.choice(["", " ", "\n", "\t ", "\r\n"])

    names = dice.sample(["images", "annotations", "info", "é", "\\u00e9", "licenses", "a", ""], dice.randint(0, 8))
    values = [
        "1.10",
        "1E5",
        "-0",
        "1e999",
        "9007199254740993",
        "NaN",
        '"\\u00e9é\\/"',
        "[ ]",
        '{"b" :1, "b":2}',
        "null",
    ]
    members = [f'{blank()}"{name}"{blank()}:{blank()}{dice.choice(values)}{blank()}' for name in names]
    return f"{blank()}{{{','.join(members)}{blank()}}}{blank()}".encode()


def test_b15_whatever_the_framing_the_bytes_are_those_of_the_object(download_body):
    for answer in (
        raw(200, BODY),
        raw(200, chunked(BODY), CHUNKED),
        raw(200, gzip.compress(BODY), GZIP),
        raw(200, chunked(gzip.compress(BODY)), CHUNKED, GZIP),
    ):
        accepted(download_body, answer, BODY)


def test_b01_chunks_without_an_end_are_no_body(download_body):
    refused(download_body, Answer(raw(200, chunked(BODY, end=b""), CHUNKED), end="close"), APIConnectionError)
