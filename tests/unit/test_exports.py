from __future__ import annotations

import copy
import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import (
    ConflictError,
    Export,
    ExportContent,
    ExportFormat,
    ExportStatus,
    ExportTimeoutError,
    InvalidParameterError,
)
from cfplatform.transfer import exports
from tests.faults.stores import SPACE
from tests.faults.test_exports import CONFLICT, OLD, listing, verbs
from tests.http.scripted import Answer
from tests.tools import outcome

EXPORT = {
    "exportId": "e-1",
    "name": "Nightly",
    "status": "COMPLETED",
    "format": "COCO_JSON",
    "content": "ANNOTATION",
    "createdBy": "somebody@example.com",
    "createdAt": "2026-07-11T11:52:37+05:45",
    "downloadUrl": "https://storage.example/o?X-Amz-Signature=0123",
    "error": None,
    "newField": {"kept": True},
}
PROPERTIES = [name for name in dir(Export) if isinstance(getattr(Export, name), property)]
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def body(name="Nightly", **options):
    given = {"format": "COCO_JSON", "content": None, "project_ids": None, "batch_ids": None, "dates": {}, **options}
    return exports.request_body(name, **given)


# --- The resource ------------------------------------------------------------------------------------------------


def test_an_export_names_its_fields():
    export = Export(EXPORT, parent_id="s-1")
    assert (export.id, export.name, export.space_id) == ("e-1", "Nightly", "s-1")
    assert (export.status, export.format, export.content) == ("COMPLETED", "COCO_JSON", "ANNOTATION")
    assert export.created_at.isoformat() == EXPORT["createdAt"]
    assert (export.created_by, export.error) == ("somebody@example.com", None)
    assert export.download_url == EXPORT["downloadUrl"]
    assert export.as_dict() == EXPORT
    assert export.as_dict() is not EXPORT
    assert export.is_final


def test_either_spelling_of_its_id_will_do():
    assert Export({"id": "e-2"}).id == "e-2"
    assert Export({"exportId": "e-3", "id": "other"}).id == "e-3"


@pytest.mark.parametrize(
    ("status", "final"),
    [("PENDING", False), ("IN_PROGRESS", False), ("COMPLETED", True), ("FAILED", True), ("NEW", False), (None, False)],
)
def test_what_is_final(status, final):
    assert Export({"exportId": "e", "status": status}).is_final is final


def test_members_of_enums_are_texts():
    for member in (*ExportStatus, *ExportFormat, *ExportContent):
        assert member == member.value == str(member) == f"{member}"
        assert json.dumps(member) == f'"{member.value}"'


@given(
    st.fixed_dictionaries({"exportId": st.text(min_size=1)}, optional={key: ODD for key in EXPORT if key != "exportId"})
)
def test_an_odd_field_never_costs_the_export(data):
    export = Export(data)
    for name in PROPERTIES:
        getattr(export, name)
    for text in (repr(export), str(export)):
        assert "X-Amz-Signature" not in text
    copied = pickle.loads(pickle.dumps(export))  # noqa: S301 - just made here
    assert copied == export == copy.deepcopy(export)


# --- What is asked for -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10**18), min_size=1, max_size=150))
def test_ids_are_sent_once_in_their_order(ids):
    unique = list(dict.fromkeys(ids))
    sent, refusal = outcome(InvalidParameterError, lambda: body(batch_ids=ids))
    if len(unique) > exports.MAX_BATCHES:
        assert f"has {len(unique)} ids" in str(refusal)
    else:
        assert sent["batchIds"] == unique


@pytest.mark.parametrize("count", [1, exports.MAX_PROJECTS, exports.MAX_PROJECTS + 1])
def test_projects_up_to_the_limit(count):
    ids = [f"p-{number}" for number in range(count)]
    sent, refusal = outcome(InvalidParameterError, lambda: body(project_ids=iter(ids)))
    assert (refusal is not None) == (count > exports.MAX_PROJECTS)
    assert sent is None or sent["projectIds"] == ids


@pytest.mark.parametrize("kind", ["COCO_JSON", "JSON", "CSV"])
@pytest.mark.parametrize("content", [None, "ANNOTATION", "INFERENCE", "ASSET_METADATA"])
def test_which_content_comes_in_which_format(kind, content):
    sent, refusal = outcome(InvalidParameterError, lambda: body(format=kind, content=content))
    assert (refusal is None) == (kind != "COCO_JSON" or content in (None, "ANNOTATION"))
    if sent is not None:
        assert sent == {"name": "Nightly", "format": kind, **({"content": content} if content else {})}


def test_members_of_enums_are_sent_as_plain_texts():
    sent = body(format=ExportFormat.CSV, content=ExportContent.INFERENCE)
    assert [type(sent[key]) for key in ("format", "content")] == [str, str]


@given(
    name=ODD,
    format=ODD | st.sampled_from(["COCO_JSON", "JSON", "CSV"]),
    content=ODD | st.sampled_from(["ANNOTATION", "INFERENCE"]),
    project_ids=ODD | st.lists(st.text()),
    batch_ids=ODD | st.lists(st.integers()),
    date=ODD | st.datetimes(),
)
def test_anything_is_sent_as_json_or_refused_in_our_own_words(name, format, content, project_ids, batch_ids, date):
    sent, refusal = outcome(
        InvalidParameterError,
        lambda: body(
            name,
            format=format,
            content=content,
            project_ids=project_ids,
            batch_ids=batch_ids,
            dates={"created_at_from": date},
        ),
    )
    assert (sent is None) != (refusal is None)
    if sent is not None:
        assert json.loads(json.dumps(sent, allow_nan=False)) == sent
        assert sent["name"].strip()
        assert sent.get("projectIds") != []
        assert sent.get("batchIds") != []


def test_a_range_of_dates_that_holds_nothing_is_refused():
    with pytest.raises(InvalidParameterError):
        body(dates={"updated_at_from": "2026-02-01T00:00:00Z", "updated_at_to": "2026-01-01T00:00:00Z"})


@pytest.mark.parametrize("value", ["COCO_JSON", ExportFormat.JSON, None])
def test_a_filter_of_the_listing(sandbox, client, value):
    assert list(client.get_exports(format=value)) == []
    (request,) = sandbox.requests
    assert ("format=" in request.query_string) == (value is not None)
    assert (
        value is None or f"format={value.value if isinstance(value, ExportFormat) else value}" in request.query_string
    )


@pytest.mark.parametrize("value", ["coco_json", "", 5, ["JSON"]])
def test_a_wrong_filter_of_the_listing(client, value):
    with pytest.raises(InvalidParameterError, match="format must be one of"):
        client.get_exports(format=value)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "5", None, True, 1 << 80, 1 + 0j])
def test_seconds_must_be_a_number_that_can_be_waited(value):
    with pytest.raises(InvalidParameterError, match="timeout must be 0 or more seconds"):
        exports._seconds("timeout", value)


@given(st.floats(0, 366 * 86400) | st.integers(0, 366 * 86400))
def test_seconds_are_any_number(value):
    assert exports._seconds("timeout", value) == value


def test_the_usual_waits():
    assert (exports.FIRST_POLL, exports.POLL_INTERVAL, exports.WAIT_TIMEOUT) == (1.0, 5.0, 3600.0)


def test_looks_become_rarer_up_to_the_interval(sandbox, client, monkeypatch):
    monkeypatch.setattr(exports, "FIRST_POLL", 0.05)
    sandbox.export_seconds = 600
    export = client.create_export("Nightly")
    sandbox.clear_requests()
    with pytest.raises(ExportTimeoutError):
        export.wait(timeout=1.0, poll_interval=0.1)
    times = [request.time for request in sandbox.requests]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    expected = [0.05, 0.065, 0.0845, 0.1, 0.1]
    assert all(gap >= least - 0.005 for gap, least in zip(gaps, expected, strict=False))
    # Fewer on a busy machine, never more.
    assert 4 <= len(times) <= 13


def test_conflicts_that_are_about_nothing_end(serve, connect, monkeypatch):
    monkeypatch.setattr(exports, "FIRST_POLL", 0.01)
    server = serve(default=Answer(lambda request: CONFLICT if request.method == "POST" else listing(OLD)))
    with pytest.raises(ConflictError, match="one at a time"):
        connect(server).create_export("Nightly", SPACE, wait_for_running=True, timeout=60)
    assert verbs(server).count("POST") == exports.MAX_UNSEEN_CONFLICTS
