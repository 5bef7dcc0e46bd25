"""Text in notebooks: shown completely, never as markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cfplatform import (
    Annotation,
    Batch,
    CreateResult,
    DownloadedItem,
    DownloadResult,
    Export,
    ServerError,
    UploadedFile,
    WorkItem,
)
from cfplatform import UploadResult as Upload
from cfplatform.coco import Finding
from cfplatform.resources.base import MAX_TEXT, table, table_of

HOSTILE = "<script>alert('1')</script>&amp;\"\u202e\x07"
SHOWN = "<script>alert('1')</script>&amp;\"\ufffd\ufffd"
SIGNED = "https://store.example/x?X-Amz-Signature=SENTINEL"


class Reader(HTMLParser):
    """What a browser makes of it."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def read(value):
    """Return the texts of a table, after checking that any theme shows it and that it loads and runs nothing."""
    reader = Reader(value._repr_html_() if not isinstance(value, str) else value)
    assert reader.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert set(reader.attributes) <= {("style", "text-align: left")}
    return reader.texts


@pytest.mark.parametrize(
    "value",
    [
        Batch({"id": 1, "name": HOSTILE}),
        WorkItem({"id": HOSTILE, "status": HOSTILE}),
        Annotation({"id": "1", "metadata": {"coco_results_url": HOSTILE}}),
        Export({"exportId": "1", "name": HOSTILE, "error": HOSTILE}),
        DownloadResult(HOSTILE, None, Path(HOSTILE), "downloaded"),
        DownloadResult("1", None, None, "failed", error=ServerError(HOSTILE)),
        DownloadedItem("p", "i", None, None, f"s3://b/{HOSTILE}"),
        UploadedFile("p", 1, "image/png", HOSTILE),
        Upload(HOSTILE, error=ServerError(HOSTILE)),
        CreateResult(HOSTILE, error=ServerError(HOSTILE)),
        Finding("bad-box", "error", HOSTILE),
        table(HOSTILE, [(HOSTILE, HOSTILE)]),
        table_of(HOSTILE, [Batch({"id": 1, "name": HOSTILE}), Batch({"id": 2, "name": "b"})], 2),
        table(HOSTILE, [[HOSTILE, HOSTILE, None]], [HOSTILE, HOSTILE, HOSTILE]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_text_holds_is_shown_and_not_run(value):
    assert SHOWN in "".join(read(value))


@pytest.mark.parametrize(
    "value",
    [
        WorkItem({"id": "1", "assetUrl": SIGNED, "resultUrl": SIGNED, "metadata": {"callbackUrl": SIGNED}}),
        Annotation({"id": "1", "metadata": {"coco_results_url": SIGNED}}),
        Export({"exportId": "1", "downloadUrl": SIGNED, "error": f"no room at {SIGNED}"}),
        CreateResult(SIGNED, WorkItem({"id": "1", "assetUrl": SIGNED})),
        UploadedFile(SIGNED, 1, "image/png", None),
        DownloadResult("1", None, None, "downloaded", object_url=SIGNED),
        Finding("bad-box", "error", SIGNED, path=SIGNED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_address_with_a_signature_is_shown(value):
    assert "SENTINEL" not in value._repr_html_()


def test_values_that_are_missing_have_no_row():
    assert read(Batch({"id": 7, "name": "Autumn", "totalCount": 3})) == ["Batch", "id", "7", "name", "Autumn"] + [
        "total_count",
        "3",
    ]


def test_times_are_shown_to_the_second():
    assert read(WorkItem({"id": "1", "createdAt": "2025-03-03T06:15:47.688Z"}))[-1] == "2025-03-03 06:15:47+00:00"


def test_many_are_shown_with_the_columns_that_have_values():
    batches = [Batch({"id": 1}), Batch({"id": 2, "name": "Autumn"})]
    assert read(table_of("2", batches, 2)) == ["2", "id", "name", "1", "2", "Autumn"]
    assert read(table_of("1", batches[:1], 1)) == ["1", "id", "1"]
    assert read(table_of("none", [], 0)) == ["none"]


def test_a_text_without_end_does_not_make_a_page():
    (caption, name, value) = read(table("t", [("n", "x" * 10_000)]))
    assert (caption, name, len(value), value[-1]) == ("t", "n", MAX_TEXT, "…")


def test_a_download_is_shown_with_its_failures(client, sandbox, tmp_path):
    sandbox.fail_next(404, times=12, path="*/annotations")
    summary = client.download_project(destination=tmp_path / "labels", max_workers=1)
    assert summary.failed == 12
    texts = read(summary)
    for name, value in (("total_items", "20"), ("failed", "12"), ("destination", str(tmp_path / "labels"))):
        assert texts[texts.index(name) + 1] == value
    assert re.fullmatch(r"\d+\.\d s", texts[texts.index("elapsed") + 1])
    failures = [result.item_id for result in summary.failures]
    assert [text for text in texts if text in failures] == failures[:10]
    assert texts.count("failed") == 11
    assert "and 2 more" in texts
    assert any("404" in text for text in texts)

    outcomes = [text for text in read(summary.results) if text in ("failed", "downloaded")]
    assert outcomes == [result.outcome for result in summary.results][:10]
    assert "and 10 more" in read(summary.results)


def test_a_summary_is_shown_also_when_its_results_are_gone(client, sandbox, tmp_path):
    sandbox.fail_next(404, path="*/annotations")
    summary = client.download_project(destination=tmp_path / "labels")
    (tmp_path / "labels").rename(tmp_path / "elsewhere")
    texts = read(summary)
    assert texts[texts.index("failed") + 1] == "1"
    assert "Failures" not in texts


def test_a_summary_without_failures_is_one_table(client, tmp_path):
    html = client.download_project(destination=tmp_path / "labels")._repr_html_()
    assert html.count("<table>") == 1
