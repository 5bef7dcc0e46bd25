"""Group I: arguments are rejected before any request, or are unambiguous."""

from __future__ import annotations

import math
import uuid
import warnings
from datetime import date, datetime, timezone

import pytest

from cfplatform import Client, ConfigurationError, InvalidParameterError
from tests.faults.tools import page, tree

KEY = "cf-key-SENTINEL"
ITEM = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


@pytest.mark.parametrize("bad", ["", " ", ".", "..", " .. ", "a\nb", "a\0b", "\u202eb", 5, True, b"x", 1.5, []])
def test_i01_ids_that_are_none_are_refused_before_any_request(sandbox, client, tmp_path, bad):
    calls = [
        lambda: client.get_work_items(bad),
        lambda: client.get_work_item(bad),
        lambda: client.get_annotation(bad),
        lambda: client.get_annotation(ITEM, bad),
        lambda: client.get_batches(bad),
        lambda: client.get_work_items(work_item_ids=[bad]),
        lambda: client.download_project(bad, tmp_path / "out"),
        lambda: client.download_project(destination=tmp_path / "out", space_id=bad),
        lambda: Client(KEY, base_url=sandbox.base_url, project_id=bad),
    ]
    for call in calls:
        with pytest.raises((InvalidParameterError, ConfigurationError)):
            call()
    with pytest.raises(InvalidParameterError):
        client.get_work_item(None)
    assert sandbox.requests == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("odd", ["a/b", "a?x=1", "a#f", "%2e%2e", "a b", "../../x", "é"])
def test_i01_ids_with_odd_characters_stay_one_part_of_the_path(sandbox, client, odd):
    # The sandbox sees the decoded path: no such id, and never another route.
    with pytest.raises(Exception, match="404"):
        client.get_annotation(odd)
    (request,) = sandbox.requests
    assert request.path == f"/api/v1/projects/{sandbox.project_id}/workItems/{odd}/annotations"
    assert request.query == [("format", "coco")]


def test_i01_uuids_are_ids_and_whole_numbers_are_ids_of_batches_only(sandbox, client):
    item = next(sandbox.work_item_ids())
    assert client.get_work_item(uuid.UUID(item)).id == item
    assert client.get_batch(1001) == client.get_batch("1001")
    for bad in (True, -1, 1.5, "x", "", None, 10**30):
        with pytest.raises(InvalidParameterError):
            client.get_work_items(batch_ids=[bad])


@pytest.mark.parametrize("bad", [f"{KEY} x", f"{KEY}\nX: y", f"{KEY}\0", f"{KEY}\u2019", f"\ufeff{KEY}", KEY * 100])
def test_i02_a_key_that_cannot_be_one_is_refused_and_never_shown(bad):
    with pytest.raises(ConfigurationError) as caught:
        Client(bad)
    assert "SENTINEL" not in f"{caught.value!r} {caught.value} {caught.value.args}"


@pytest.mark.parametrize("bad", ["", " ", None, b"bytes", 5])
def test_i02_no_key_at_all_is_refused(bad):
    with pytest.raises(ConfigurationError):
        Client(bad)


def test_i02_a_line_end_around_the_key_is_removed_with_a_warning(sandbox):
    with pytest.warns(UserWarning, match="leading or trailing whitespace") as caught:
        client = Client(f"{sandbox.api_key}\n", base_url=sandbox.base_url, project_id=sandbox.project_id)
    with client:
        assert client.get_work_items_count() == 20
    assert sandbox.api_key not in str(caught[0].message)


@pytest.mark.parametrize(
    "bad",
    [
        "http://api.example.com/v1",
        "https://user:pw@api.example.com/v1",
        "https://api.example.com/v1?x=1",
        "https://api.example.com/v1#f",
        "api.example.com/v1",
        "ftp://api.example.com",
        "https://",
        "https://[::1",
        "https://api.example.com:port",
        "https://a b",
        5,
    ],
)
def test_i03_a_base_url_that_is_unsafe_or_none_is_refused(bad):
    with pytest.raises(ConfigurationError) as caught:
        Client(KEY, base_url=bad)
    assert "pw@" not in str(caught.value)


def test_i03_a_slash_at_the_end_does_not_matter(sandbox):
    with Client(sandbox.api_key, base_url=f" {sandbox.base_url}// ", project_id=sandbox.project_id) as client:
        assert client.get_work_items_count() == 20


@pytest.mark.parametrize("bad", [0, 101, -1, True, "20", 1.0, None, math.nan, 10**6])
def test_i04_page_sizes_out_of_range_are_refused(sandbox, client, bad):
    with pytest.raises(InvalidParameterError):
        client.get_work_items(page_size=bad)
    assert sandbox.requests == []


@pytest.mark.parametrize("bad", [0, -1, 10**6, True, "4", 2.0])
def test_i04_numbers_of_workers_out_of_range_are_refused(sandbox, client, tmp_path, bad):
    with pytest.raises(ConfigurationError):
        Client(KEY, max_workers=bad)
    with pytest.raises((ConfigurationError, InvalidParameterError)):
        client.download_project(destination=tmp_path / "out", max_workers=bad)
    assert sandbox.requests == []


@pytest.mark.parametrize("bad", [0, -1, None, math.nan, math.inf, True, "5", (1, None), (1, 2, 3), 1e9])
def test_i04_timeouts_that_are_none_are_refused(bad):
    with pytest.raises(ConfigurationError):
        Client(KEY, timeout=bad)


@pytest.mark.parametrize("bad", ["123", b"123", 123, {"1001": 1}])
def test_i05_one_id_where_a_list_is_meant_is_refused(sandbox, client, bad):
    for name in ("batch_ids", "work_item_ids"):
        with pytest.raises(InvalidParameterError, match=name):
            client.get_work_items(**{name: bad})
    assert sandbox.requests == []


def test_i05_more_than_100_ids_are_split(make_sandbox):
    sandbox = make_sandbox(items=300, batches=150)
    with sandbox.client() as client:
        batches = [batch.id for batch in client.get_batches()]
        sandbox.clear_requests()
        assert len(list(client.get_work_items(batch_ids=batches[:101]))) == 202
        many = [*sandbox.work_item_ids(), *(str(uuid.UUID(int=number)) for number in range(4_700))]
        assert len(list(client.get_work_items(work_item_ids=many))) == 300
    sizes = [
        sum(name in ("batchIds", "workItemIDs") for name, _ in request.query)
        for request in sandbox.requests
        if "cursor" not in dict(request.query)
    ]
    assert sizes == [100, 1, *[100] * 50]


@pytest.mark.parametrize(
    "bad", [datetime(2026, 7, 1), date(2026, 7, 1), "yesterday", "2026-07-01", "2026-13-01T00:00:00Z", 5, ""]
)
def test_i06_a_time_without_zone_or_meaning_is_refused(sandbox, client, bad):
    with pytest.raises(InvalidParameterError, match="created_at_from"):
        client.get_work_items(created_at_from=bad)
    assert sandbox.requests == []


def test_i06_an_aware_time_and_its_text_mean_the_same(sandbox, client):
    moment = datetime(2020, 1, 1, tzinfo=timezone.utc)
    for value in (moment, moment.isoformat(), "2020-01-01T00:00:00Z"):
        assert len(list(client.get_work_items(created_at_from=value))) == 20


def test_i07_unknown_values_and_fields_are_kept(sandbox, client, tmp_path):
    item = next(sandbox.work_item_ids())
    sandbox.patch_work_item_json(item, {"status": "QUITE_NEW", "assetType": "hologram", "new": {"a": [1]}})
    first = next(client.get_work_items())
    assert (first.status, first.asset_type) == ("QUITE_NEW", "hologram")
    assert first.as_dict()["new"] == {"a": [1]}
    assert list(client.get_work_items(status="OF_TOMORROW")) == []
    sandbox.replace_next(page([item], new=[None], status=None), path="*/workItems")
    assert client.download_project(destination=tmp_path).successful == 1


@pytest.mark.parametrize("bad", ["", "  ", None, 5, b"out", "a\0b"])
def test_i08_what_is_no_folder_is_refused(sandbox, client, bad):
    with pytest.raises(InvalidParameterError, match="destination"):
        client.download_project(destination=bad)
    assert sandbox.requests == []


def test_i08_a_file_is_refused_and_the_home_folder_is_understood(sandbox, client, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(InvalidParameterError, match="is a file"):
        client.download_project(destination="~/file")
    assert sandbox.requests == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.download_project(destination="~/labels").successful == 20
    assert len(tree(tmp_path / "labels")) == 20
    assert (tmp_path / "file").read_bytes() == b"precious"
