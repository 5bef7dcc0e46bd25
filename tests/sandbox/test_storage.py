"""The object store: content, validators, ranges, expiry, and rejected requests."""

from __future__ import annotations

import hashlib
import time
import xml.etree.ElementTree as ET
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest


def error(answer):
    """Return the code and the message of an answer in XML."""
    assert answer.headers["content-type"] == "application/xml"
    root = ET.fromstring(answer.body)  # noqa: S314 - written by the sandbox itself
    assert root.tag == "Error"
    return root.findtext("Code"), root.findtext("Message")


def test_document(wire):
    answer = wire.send("GET", wire.sign_document(3))
    assert answer.status == 200
    assert answer.body == wire.sandbox.document(3)
    headers = answer.headers
    assert headers["content-type"] == "application/json"
    assert headers["etag"] == f'"{hashlib.md5(answer.body).hexdigest()}"'  # noqa: S324 - as S3 makes it
    assert headers["content-length"] == str(len(answer.body))
    assert headers["accept-ranges"] == "bytes"
    assert parsedate_to_datetime(headers["last-modified"]).year == 2025


def test_asset(wire):
    item = wire.sandbox.work_item(4)
    answer = wire.send("GET", wire.sign(item["assetUrl"])[0])
    assert answer.headers["content-type"] == "image/png"
    assert answer.body == wire.sandbox.asset(item["id"])
    assert answer.body.startswith(b"\x89PNG")


def test_head(wire):
    url = wire.sign_document()
    head, get = wire.send("HEAD", url), wire.send("GET", url)
    assert head.status == 200
    assert head.body == b""
    for name in ("content-length", "etag", "content-type", "last-modified"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("0-0", slice(0, 1)),
        ("10-19", slice(10, 20)),
        ("100-", slice(100, None)),
        ("-7", slice(-7, None)),
        ("5-999999", slice(5, None)),
        ("-999999", slice(0, None)),
    ],
)
def test_ranges(wire, asked, part):
    body = wire.sandbox.document(0)
    answer = wire.send("GET", wire.sign_document(), Range=f"bytes={asked}")
    assert answer.status == 206
    assert answer.body == body[part]
    start, stop, _ = part.indices(len(body))
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(body)}"


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=9-3", "bytes=0-1,5-6", "items=0-1", "bytes=a-b"])
def test_ranges_that_are_ignored(wire, asked):
    answer = wire.send("GET", wire.sign_document(), Range=asked)
    assert (answer.status, answer.body) == (200, wire.sandbox.document(0))


def test_range_behind_the_end(wire):
    size = len(wire.sandbox.document(0))
    for asked in (f"bytes={size}-", "bytes=-0"):
        answer = wire.send("GET", wire.sign_document(), Range=asked)
        assert answer.status == 416
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert error(answer)[0] == "InvalidRange"


def test_if_range(wire):
    url = wire.sign_document()
    headers = wire.send("HEAD", url).headers
    for validator in (headers["etag"], headers["last-modified"]):
        assert wire.send("GET", url, Range="bytes=5-", If_Range=validator).status == 206
    answer = wire.send("GET", url, Range="bytes=5-", If_Range='"other"')
    assert (answer.status, answer.body) == (200, wire.sandbox.document(0))
    wire.sandbox.update_work_item(0)
    answer = wire.send("GET", url, Range="bytes=5-", If_Range=headers["etag"])
    assert (answer.status, answer.body) == (200, wire.sandbox.document(0))
    assert answer.headers["last-modified"] != headers["last-modified"]


def test_if_none_match(wire):
    url = wire.sign_document()
    etag = wire.send("HEAD", url).headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        answer = wire.send("GET", url, If_None_Match=known)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert wire.send("GET", url, If_None_Match='"x"').status == 200


def test_unsigned_and_tampered(wire):
    first, second = wire.sign_document(0), wire.sign_document(1)
    assert error(wire.send("GET", first.split("?")[0])) == ("AccessDenied", "Access Denied")
    swapped = first.split("?")[0] + "?" + second.split("?")[1]
    longer = first.replace("X-Amz-Expires=900", "X-Amz-Expires=9000")
    for url in (swapped, longer, first[:-1] + ("0" if first[-1] != "0" else "1"), first + "é".encode().hex()):
        answer = wire.send("GET", url)
        assert answer.status == 403
        assert error(answer)[0] == "SignatureDoesNotMatch"


def test_expiry(make_wire):
    wire = make_wire(2, url_lifetime=1)
    url = wire.sign_document()
    assert wire.send("GET", url).status == 200
    time.sleep(1.01)
    answer = wire.send("GET", url)
    assert answer.status == 403
    assert error(answer) == ("AccessDenied", "Request has expired")
    assert wire.send("GET", wire.sign_document()).status == 200


def test_expiry_without_waiting(wire):
    url = wire.sign_document()
    wire.sandbox.expire_urls()
    assert error(wire.send("GET", url)) == ("AccessDenied", "Request has expired")
    assert wire.send("GET", wire.sign_document()).status == 200
    wire.sandbox.expire_after(0)
    assert wire.sandbox.url_lifetime == 0
    assert wire.send("GET", wire.sign_document()).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "coco_output/c2fe4a5d-ae6e-4005-8845-d10c59218302.json",
        "coco_output/x.txt",
        "assets/x",
        "a b/é?#&.json",
    ],
)
def test_unknown_objects_are_signed_but_missing(wire, path):
    url = wire.sign(path)[0]
    assert quote(path) in url
    answer = wire.send("GET", url)
    assert answer.status == 404
    assert error(answer)[0] == "NoSuchKey"


def test_unfinished_and_deleted_items_have_no_document(wire):
    document, asset = wire.sign_document(5), wire.sign(wire.sandbox.work_item(5)["assetUrl"])[0]
    wire.sandbox.update_work_item(5, status="CLIENT_REVIEW")
    assert (wire.send("GET", document).status, wire.send("GET", asset).status) == (404, 200)
    wire.sandbox.delete_work_item(5)
    assert (wire.send("GET", document).status, wire.send("GET", asset).status) == (404, 404)


@pytest.mark.parametrize("leak", [{"X_API_Key": "anything"}, {"Authorization": "Basic eDp5"}])
def test_leaked_credentials_are_refused_and_counted(wire, leak):
    url = wire.sign_document()
    assert wire.sandbox.leaks == 0
    answer = wire.send("GET", url, **leak)
    assert answer.status == 400
    assert error(answer)[0] == "InvalidArgument"
    wire.sandbox.fail_next(503, path="/storage/*")
    wire.send("GET", url, **leak)
    assert wire.sandbox.leaks == 2


def test_other_buckets_and_methods(wire):
    assert wire.send("GET", "/storage/other/key").status == 404
    assert wire.send("DELETE", wire.sign_document()).status == 405
