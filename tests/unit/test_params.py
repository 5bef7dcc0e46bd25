from __future__ import annotations

import itertools
import operator
import uuid
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import InvalidParameterError, WorkItemStatus, params, timestamps
from tests.tools import outcome

MOMENT = datetime(2026, 7, 11, 11, 52, 37, tzinfo=timezone(timedelta(hours=5, minutes=45)))
ITEM = "c2fe4a5d-ae6e-4005-8845-d10c59218302"


class Count:
    """A whole number of another library."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


def values(query, key):
    return [value for name, value in query if name == key]


def test_without_filters_there_is_one_query_without_parameters():
    assert params.selection({}).queries() == [[]]


def test_filters_have_the_names_of_the_platform():
    chosen = params.selection(
        {
            "batch_ids": [1001, "1002"],
            "work_item_ids": [ITEM, uuid.UUID(ITEM)],
            "status": " COMPLETED ",
            "created_at_from": MOMENT,
            "updated_at_to": "2026-07-27T21:00:00Z",
        }
    )
    assert chosen.queries() == [
        [
            ("batchIds", "1001"),
            ("batchIds", "1002"),
            ("workItemIDs", ITEM),
            ("createdAtFrom", "2026-07-11T11:52:37+05:45"),
            ("updatedAtTo", "2026-07-27T21:00:00Z"),
            ("status", "COMPLETED"),
        ]
    ]


def test_status_of_the_enum_is_sent_as_its_value():
    (query,) = params.selection({"status": WorkItemStatus.CLIENT_REVIEW}).queries()
    assert query == [("status", "CLIENT_REVIEW")]
    assert type(query[0][1]) is str


@pytest.mark.parametrize("name", ["batch_ids", "work_item_ids"])
@pytest.mark.parametrize("empty", [[], (), set(), iter([])], ids=["list", "tuple", "set", "iterator"])
def test_an_empty_list_of_ids_selects_nothing(name, empty):
    assert params.selection({name: empty}).queries() == []


@pytest.mark.parametrize("name", ["batch_names", "status"])
@pytest.mark.parametrize("empty", [[], (), set(), iter([])], ids=["list", "tuple", "set", "iterator"])
def test_an_empty_list_of_names_or_statuses_selects_nothing(name, empty):
    assert params.selection({name: empty}).queries() == []


def test_batches_by_id_and_by_name_are_united():
    chosen = params.selection({"batch_ids": [1001, 1002], "batch_names": iter(["Street", "Street"])})
    assert chosen.batch_names == ["Street"]
    assert chosen.queries(["1002", "1003"]) == [[("batchIds", "1001"), ("batchIds", "1002"), ("batchIds", "1003")]]


def test_each_status_is_a_query_of_its_own():
    statuses = [WorkItemStatus.COMPLETED, " CLIENT_REVIEW ", "COMPLETED"]
    queries = params.selection({"batch_ids": range(101), "status": statuses}).queries()
    assert [values(query, "status") for query in queries] == [["COMPLETED"], ["CLIENT_REVIEW"]] * 2
    assert [len(values(query, "batchIds")) for query in queries] == [100, 100, 1, 1]


@pytest.mark.parametrize(
    ("wanted", "found", "matches"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": [0, {"b": 1}]}, {"a": [0, {"b": 1}]}, True),
        ({"a": [0, {"b": 1}]}, {"a": [False, {"b": 1}]}, False),
        ({"a": [0, {"b": 1}]}, {"a": [0, {"b": True}]}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": (1, 2)}, {"a": [1, 2]}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, False),
        ({"a": WorkItemStatus.COMPLETED}, {"a": "COMPLETED"}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": None}, None, False),
        ({"a": 1}, [], False),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, True),
    ],
)
def test_metadata_is_compared_as_json(wanted, found, matches):
    chosen = params.selection({"metadata": wanted})
    assert chosen.keep({"id": "x", "metadata": found}) is matches
    assert chosen.queries() == [[]]


def test_an_empty_list_beside_a_full_one_selects_nothing():
    assert params.selection({"batch_ids": [1], "work_item_ids": []}).queries() == []


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_many_batch_ids_are_split_without_duplicates(count, sizes):
    ids = list(range(1, count + 1))
    queries = params.selection({"batch_ids": [*ids, *ids, *map(str, ids)], "status": "COMPLETED"}).queries()
    groups = [values(query, "batchIds") for query in queries]
    assert [len(group) for group in groups] == sizes
    assert list(itertools.chain(*groups)) == [str(number) for number in ids]
    assert all(values(query, "status") == ["COMPLETED"] for query in queries)


def test_two_long_lists_are_combined_in_every_way():
    queries = params.selection({"batch_ids": range(101), "work_item_ids": (f"item-{n}" for n in range(201))}).queries()
    pairs = {
        pair for query in queries for pair in itertools.product(values(query, "batchIds"), values(query, "workItemIDs"))
    }
    assert len(queries) == 2 * 3
    assert len(pairs) == 101 * 201
    assert all(len(values(query, "workItemIDs")) <= 100 for query in queries)


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"batch_ids": "1001"}, r"pass batch_ids=\["),
        ({"batch_ids": b"1001"}, "list of IDs, not bytes"),
        ({"batch_ids": 1001}, "list of IDs, not int"),
        ({"batch_ids": {1001: "x"}}, "list of IDs, not dict"),
        ({"work_item_ids": ITEM}, r"pass work_item_ids=\["),
        ({"work_item_ids": uuid.UUID(ITEM)}, "list of IDs, not UUID"),
        ({"batch_ids": [True]}, "True is not a valid batch ID"),
        ({"batch_ids": [1.0]}, "1.0 is not a valid batch ID"),
        ({"batch_ids": [-1]}, "-1 is not a valid batch ID"),
        ({"batch_ids": [None]}, "None is not a valid batch ID"),
        ({"batch_ids": ["١"]}, "is not a valid batch ID"),
        ({"batch_ids": ["²"]}, "is not a valid batch ID"),
        ({"batch_ids": ["1e3"]}, "is not a valid batch ID"),
        ({"batch_ids": ["9" * 5000]}, "is not a valid batch ID"),
        ({"batch_ids": [10**5000]}, "is not a valid batch ID"),
        ({"work_item_ids": [""]}, "blank"),
        ({"work_item_ids": [" "]}, "blank"),
        ({"work_item_ids": ["."]}, "'.'"),
        ({"work_item_ids": [" .. "]}, "'..'"),
        ({"work_item_ids": ["a\nb"]}, "not printable"),
        ({"work_item_ids": ["a\0"]}, "not printable"),
        ({"work_item_ids": ["\ud800"]}, "not printable"),
        ({"work_item_ids": [5]}, "not int"),
        ({"work_item_ids": [None]}, "not NoneType"),
        ({"work_item_ids": [["a"]]}, "not list"),
        ({"status": ""}, "status must be a string"),
        ({"status": " "}, "status must be a string"),
        ({"status": 5}, "status must be a string"),
        ({"status": [""]}, "status must be a string"),
        ({"status": ["COMPLETED", None]}, "status must be a string"),
        ({"status": b"COMPLETED"}, "status must be a string"),
        ({"status": {"COMPLETED": 1}}, "status must be a string"),
        ({"batch_names": "Street"}, r"pass batch_names=\["),
        ({"batch_names": {"Street": 1}}, "batch_names must be a list of names, not dict"),
        ({"batch_names": 5}, "batch_names must be a list of names, not int"),
        ({"batch_names": ["Street", " "]}, "batch_names: ' ' is not a valid name"),
        ({"batch_names": [1001]}, "batch_names: 1001 is not a valid name"),
        ({"metadata": "e1"}, "metadata must be a mapping, not str"),
        ({"metadata": [("a", 1)]}, "metadata must be a mapping, not list"),
        ({"metadata": {}}, "metadata is empty"),
        ({"metadata": {1: "a"}}, "the key 1 is not a string"),
        ({"metadata": {"a": {1, 2}}}, "metadata cannot be sent as JSON"),
        ({"metadata": {"a": ["b\udcff.png"]}}, r"JSON: 'b\\udcff\.png' contains lone surrogates"),
        ({"metadata": {"\ud800": 1}}, "contains lone surrogates"),
        ({"created_at_from": datetime(2026, 7, 11)}, "created_at_from.* has no time zone"),
        ({"created_at_to": "2026-07-11T11:52:37"}, "created_at_to.* has no time zone"),
        ({"created_at_to": date(2026, 7, 11)}, "not date"),
        ({"updated_at_from": 1_760_000_000}, "updated_at_from must be a datetime .* not int"),
        ({"updated_at_from": "yesterday"}, "not a valid ISO 8601 date"),
        ({"updated_at_from": "2026-13-01T00:00:00Z"}, "not a valid ISO 8601 date"),
        ({"updated_at_from": "2026-02-30T00:00:00Z"}, "not a valid ISO 8601 date"),
        ({"updated_at_from": ""}, "not a valid ISO 8601 date"),
        (
            {"created_at_from": MOMENT, "created_at_to": MOMENT - timedelta(seconds=1)},
            "created_at_from is after",
        ),
        (
            {"updated_at_from": "2026-07-11T12:00:00Z", "updated_at_to": "2026-07-11T13:59:59+02:00"},
            "updated_at_from is after",
        ),
    ],
)
def test_a_wrong_filter_is_refused_with_its_name(filters, says):
    with pytest.raises(InvalidParameterError, match=says) as caught:
        params.selection(filters)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 700


def test_a_range_in_the_hour_that_clocks_repeat():
    zone = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 50, tzinfo=zone)
    last = datetime(2026, 10, 25, 2, 10, tzinfo=zone, fold=1)
    (query,) = params.selection({"updated_at_from": first, "updated_at_to": last}).queries()
    assert query == [("updatedAtFrom", "2026-10-25T02:50:00+02:00"), ("updatedAtTo", "2026-10-25T02:10:00+01:00")]
    with pytest.raises(InvalidParameterError, match="updated_at_from is after"):
        params.selection({"updated_at_from": last, "updated_at_to": first})


@pytest.mark.parametrize("text", ["2026-11-30 00:00:00Z", "2026-11-30T00:00Z", " 2026-11-30T00:00:00z"])
def test_a_time_is_sent_in_rfc_3339(text):
    (query,) = params.selection({"created_at_from": text}).queries()
    assert query == [("createdAtFrom", "2026-11-30T00:00:00Z")]


def test_equal_limits_of_a_period_are_allowed():
    later_spelling = MOMENT.astimezone(timezone.utc)
    (query,) = params.selection({"created_at_from": MOMENT, "created_at_to": later_spelling}).queries()
    assert [key for key, _ in query] == ["createdAtFrom", "createdAtTo"]


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), ("7", "7"), (" 007 ", "7"), (Count(7), "7"), (0, "0"), (2**63 - 1, str(2**63 - 1))]
)
def test_a_batch_id_is_a_whole_number_or_its_digits(value, text):
    assert params.batch_id("batch_id", value) == text


@pytest.mark.parametrize("value", ["a/b", "a?x", "a#f", "%2e%2e", "...", "ünï", "a b"])
def test_an_id_that_can_be_quoted_is_kept(value):
    assert params.object_id("project_id", f" {value} ") == value


@given(st.datetimes(timezones=st.timezones()))
def test_an_aware_datetime_is_sent_as_the_same_moment(moment):
    found, error = outcome(InvalidParameterError, params.date, "created_at_from", moment)
    if found is None:
        # The first and the last day of the calendar may not exist in UTC.
        assert moment.year in (1, 9999)
        assert "has no equivalent in UTC" in str(error)
        return
    kept, text = found
    assert kept is moment
    # Python calls no two moments equal where one is in an hour that clocks skip or repeat.
    assert timestamps.parse(text) - moment == timedelta(0)


@given(st.datetimes())
def test_a_datetime_without_zone_is_always_refused(moment):
    with pytest.raises(InvalidParameterError, match="no time zone"):
        params.date("created_at_from", moment)
    with pytest.raises(InvalidParameterError, match="no time zone"):
        params.date("created_at_from", moment.isoformat())


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.booleans(), st.lists(st.text())))
def test_whatever_is_given_as_an_id_is_safe_or_refused(value):
    for check in (params.object_id, params.batch_id):
        text, error = outcome(InvalidParameterError, check, "id", value)
        if text is None:
            assert str(error).startswith("id")
        else:
            assert text == text.strip()
            assert text.isprintable()
            assert text not in ("", ".", "..")


@pytest.mark.parametrize("value", [0, 101, -1, True, False, "20", 20.0, None, pytest.param(10**5000, id="huge")])
def test_a_page_size_outside_of_the_limits_is_refused(value):
    with pytest.raises(InvalidParameterError, match="page_size must be an integer from 1 to 100"):
        params.page_size(value)


@pytest.mark.parametrize("value", [1, 20, 100])
def test_a_page_size_within_the_limits_is_kept(value):
    assert params.page_size(value) == value


@pytest.mark.parametrize("value", [-1, True, "5", 1.5, pytest.param(-(10**5000), id="huge")])
def test_a_wrong_maximum_is_refused(value):
    with pytest.raises(InvalidParameterError, match="limit must be"):
        params.limit(value)
    with pytest.raises(InvalidParameterError, match="max_items must be"):
        params.limit(None, value)


@pytest.mark.parametrize("value", [None, 0, 1, 10**9])
def test_a_maximum_is_kept(value):
    assert params.limit(value) == params.limit(None, value) == value


def test_a_maximum_is_given_under_one_name():
    with pytest.raises(InvalidParameterError, match="limit and max_items are the same option: pass only limit"):
        params.limit(1, 1)


@pytest.mark.parametrize("value", ["", 0, 5, b"x", ["x"]])
def test_a_wrong_cursor_is_refused(value):
    with pytest.raises(InvalidParameterError, match="cursor must be"):
        params.cursor(value)


@pytest.mark.parametrize("value", [None, "x", " "])
def test_a_cursor_is_kept_as_it_is(value):
    assert params.cursor(value) == value


@pytest.mark.parametrize(
    ("name", "hint"),
    [("batch_id", "Did you mean 'batch_ids'?"), ("zzz", "Valid names: batch_ids, batch_names, work_item_ids, status")],
)
def test_an_unknown_keyword_is_refused_as_python_does_and_with_a_hint(name, hint):
    with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
        params.check_names("get_work_items", ["status", name], params.FILTER_NAMES)
    assert hint in str(caught.value)
    assert name in str(caught.value)


@given(st.lists(st.text(max_size=3)), st.integers(1, 20))
def test_chunks_are_full_but_the_last_and_lose_nothing(texts, size):
    parts = list(params.chunks(texts, size))
    assert list(itertools.chain(*parts)) == texts
    assert all(len(part) == size for part in parts[:-1])
    assert all(map(operator.truth, parts))
