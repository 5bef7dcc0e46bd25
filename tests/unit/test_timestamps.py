from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfplatform import timestamps

KATHMANDU = timezone(timedelta(hours=5, minutes=45))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-11T11:52:37+05:45", datetime(2026, 7, 11, 11, 52, 37, tzinfo=KATHMANDU)),
        ("2026-07-11T11:52:37+0545", datetime(2026, 7, 11, 11, 52, 37, tzinfo=KATHMANDU)),
        ("2026-07-11 11:52:37 +05:45", datetime(2026, 7, 11, 11, 52, 37, tzinfo=KATHMANDU)),
        ("2026-07-27T21:00:00Z", datetime(2026, 7, 27, 21, tzinfo=timezone.utc)),
        ("2026-07-27T21:00:00z", datetime(2026, 7, 27, 21, tzinfo=timezone.utc)),
        ("2026-07-27T21:00Z", datetime(2026, 7, 27, 21, tzinfo=timezone.utc)),
        (" 2026-07-27T21:00:00Z\n", datetime(2026, 7, 27, 21, tzinfo=timezone.utc)),
        ("2026-07-27T21:00:00.5Z", datetime(2026, 7, 27, 21, 0, 0, 500_000, tzinfo=timezone.utc)),
        ("2026-07-27T21:00:00,5Z", datetime(2026, 7, 27, 21, 0, 0, 500_000, tzinfo=timezone.utc)),
        ("2026-07-27T21:00:00.123456789Z", datetime(2026, 7, 27, 21, 0, 0, 123_456, tzinfo=timezone.utc)),
        ("2026-07-27T21:00:00-00:00", datetime(2026, 7, 27, 21, tzinfo=timezone.utc)),
        ("2026-07-27T21:00:00", datetime(2026, 7, 27, 21)),
    ],
)
def test_reads_what_the_platform_and_people_write(text, moment):
    parsed = timestamps.parse(text)
    assert parsed == moment
    assert (parsed.tzinfo is None) == (moment.tzinfo is None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-07-11",
        "2026-07-11T",
        "2026-7-11T11:52:37Z",
        "2026-07-11T11Z",
        "2026-07-11T11:52.5Z",
        "2026-07-11T24:00:00Z",
        "2026-07-11T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-07-11T11:52:37+24:00",
        "2026-07-11T11:52:37+05",
        "2026-07-11T11:52:37 UTC",
        "2026-07-11T11:52:37Zjunk",
        "2026-07-11T11:52:37.Z",
        "2026-07-11T11:52:37\0Z",
        "٢٠٢٦-07-11T11:52:37Z",
        "20260711T115237Z",
        "2026-07-11T11:52:37Z" * 1000,
    ],
)
def test_refuses_what_names_no_moment(text):
    with pytest.raises(ValueError):  # noqa: PT011 - a plain one is what the callers translate
        timestamps.parse(text)
    assert timestamps.parse_or_none(text) is None


@given(st.datetimes(timezones=st.none() | st.sampled_from([timezone.utc, KATHMANDU, timezone(-timedelta(hours=11))])))
def test_what_python_writes_is_read_back(moment):
    assert timestamps.parse(moment.isoformat()) == moment
    assert timestamps.parse(moment.isoformat(sep=" ")) == moment


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text())))
def test_whatever_a_server_sends_gives_a_time_or_nothing(value):
    found = timestamps.parse_or_none(value)
    assert found is None or isinstance(found, datetime)


@pytest.mark.parametrize("value", [None, 0, 1.5, True, [], {}, b"2026-07-27T21:00:00Z"])
def test_what_is_no_text_is_no_time(value):
    assert timestamps.parse_or_none(value) is None
