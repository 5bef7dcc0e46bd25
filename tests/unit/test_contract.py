"""Values in a report of ``doctor --contract``, and its sentences compared with the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cfplatform.cli import contract, reading

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.rst").read_text(encoding="utf-8")


def test_the_page_has_the_sentence_of_every_check():
    listed = re.findall(r"^(\S.*)\n   (\S.*)$", PAGE.partition("\nCheck the protocol\n")[2], re.MULTILINE)
    written = [(name, sentence.replace("``", "")) for name, sentence in listed if not name.startswith("..")]
    assert written == [(name, sentence) for name, sentence, _ in contract.CHECKS]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "integer"),
        (1.0, "number"),
        ([], "array"),
        ({}, "object"),
        ("", "empty text"),
        ("fea6d9c0-5592-4c57-a02a-b83196e71ed9", "uuid"),
        ("2025-03-03T06:00:00Z", "time with Z"),
        ("2025-03-03T06:00:00.123+05:45", "time with offset"),
        ("2025-03-03T06:00:00", "time without zone"),
        ("https://example.com/a", "http URL"),
        ("s3://bucket/a", "storage path"),
        ("jane@example.com", "e-mail"),
        ("1001", "digits"),
        ("IN_REVIEW", "word"),
        ("assets/a", "path"),
        ("Jane Doe", "text"),
    ],
)
def test_kinds(value, found):
    assert reading.kind(value) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (
            "spaces/fea6d9c0-5592-4c57-a02a-b83196e71ed9/coco_output/0c92c123-fdb3-4f9f-88c1-e614270bff8f.json",
            "spaces/<uuid>/coco_output/<uuid>.json",
        ),
        ("Jane Doe/1001.json", "<name>/<number>.json"),
        ("Default/Jane.dcm", "Default/<name>"),
        ("annotations.json", "annotations.json"),
        ("jane.doe.json", "<name>.json"),
        ("jane", "<name>"),
    ],
)
def test_layouts(path, found):
    assert reading.layout(path) == found


@given(st.text())
@example("spaces")
@example("JANE.json")
def test_a_layout_is_made_of_known_words_only(path):
    known = {"spaces", "coco_output", "assets", "exports", "Default", "annotations.json", "annotations.csv", ""}
    for part in reading.layout(path).split("/"):
        assert part in known or re.fullmatch(r"<(name|uuid|number)>(\.(?i:json|csv|txt|jpe?g|png|zip))?", part)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("X-Amz-Expires=900&X-Amz-Signature=s", ("X-Amz-Expires", 900)),
        ("X-Goog-Expires=3600", ("X-Goog-Expires", 3600)),
        ("Expires=1700000890&Signature=s", ("Expires", 900)),
        ("se=2023-11-14T22%3A28%3A20Z&sig=s", ("se", 900)),
        ("Expires=never", None),
        ("", None),
    ],
)
def test_lifetimes_of_signed_urls(query, found):
    assert contract.lifetime(f"https://storage.example.com/a?{query}", 1_700_000_000.0) == found


def test_the_number_of_requests_is_limited(sandbox, client, monkeypatch):
    monkeypatch.setattr(reading, "MAX_REQUESTS", 5)
    found = list(contract.findings(reading.Platform(client, client)))
    assert len(sandbox.requests) == 5
    assert len(found) == len(contract.CHECKS)
    assert found[-5].seen == ("not seen", "the limit on requests or time was reached", {})


def test_the_time_is_limited(sandbox, client, monkeypatch):
    platform = reading.Platform(client, client)
    checks = contract.findings(platform)
    next(checks)
    sent = len(sandbox.requests)
    monkeypatch.setattr(platform, "_end", 0)
    assert {each.seen.result for each in checks} >= {"not seen"}
    assert len(sandbox.requests) == sent


def test_what_is_too_large_is_not_read(sandbox, client, monkeypatch):
    client.create_export("of many").wait()
    monkeypatch.setattr(contract, "MAX_DIRECTORY", 100)
    for module in (contract, reading):
        monkeypatch.setattr(module, "MAX_DOCUMENT", 100)
    found = {each.check: each.seen for each in contract.findings(reading.Platform(client, client))}
    assert found["archive layout"].words == "the directory of the archive is larger than 1 MiB"
    assert found["document"].result == found["asset_url"].result == "not seen"
    assert found["length"] == ("confirmed", "sent", {})


def test_an_archive_that_is_none(sandbox, client, tmp_path):
    (tmp_path / "export.zip").write_bytes(b"not a zip")
    sandbox.add_export(tmp_path / "export.zip")
    found = {each.check: each.seen for each in contract.findings(reading.Platform(client, client))}
    assert found["archive layout"][:2] == ("not seen", "the object is not a zip archive")
