from __future__ import annotations

import contextlib
import time
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


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("2026-11-30 00:00:00Z", "2026-11-30T00:00:00Z"),
        ("2026-11-30T00:00:00+0000", "2026-11-30T00:00:00+00:00"),
        (" 2026-11-30 11:52 +0545\n", "2026-11-30T11:52:00+05:45"),
        ("2026-11-30T00:00:00,123456789z", "2026-11-30T00:00:00.123456789Z"),
        ("2026-11-30T00:00:00-05:00", "2026-11-30T00:00:00-05:00"),
    ],
)
def test_times_are_sent_in_one_spelling(text, spelled):
    assert timestamps.rfc3339(text) == spelled
    assert timestamps.parse(text) == timestamps.parse(spelled)


@pytest.fixture
def zone(monkeypatch):
    """Set the zone of this machine."""
    if not hasattr(time, "tzset"):
        pytest.skip("the zone of this machine cannot be set")

    def set_to(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_to
    monkeypatch.undo()
    time.tzset()


#: Just after midnight of 30 November in Berlin, where it is the 29th in UTC.
NIGHT = datetime(2026, 11, 29, 23, 30, 15, 999, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-11-30", "2026-11-30T00:00:00+01:00", "2026-11-30T23:59:59.999999+01:00"),
        ("2026-07-01", "2026-07-01T00:00:00+02:00", "2026-07-01T23:59:59.999999+02:00"),
        ("today", "2026-11-30T00:00:00+01:00", "2026-11-30T23:59:59.999999+01:00"),
        (" Yesterday ", "2026-11-29T00:00:00+01:00", "2026-11-29T23:59:59.999999+01:00"),
        ("2026-11-30 14:00", "2026-11-30T14:00:00+01:00", "2026-11-30T14:00:00+01:00"),
        ("2026-07-01T14:00:00.5", "2026-07-01T14:00:00.500000+02:00", "2026-07-01T14:00:00.500000+02:00"),
        # An hour that is there twice, and one that is not there: the wider range.
        ("2026-10-25 02:30", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"),
        ("2026-03-29 02:30", "2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"),
    ],
)
def test_days_and_times_without_a_zone_are_in_that_of_this_machine(zone, text, start, end):
    zone("Europe/Berlin")
    assert timestamps.from_person(text, now=NIGHT) == (start, True)
    assert timestamps.from_person(text, now=NIGHT, is_end=True) == (end, True)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("90s", "2026-11-29T23:28:45Z"),
        ("30m", "2026-11-29T23:00:15Z"),
        ("3h", "2026-11-29T20:30:15Z"),
        ("2 D", "2026-11-27T23:30:15Z"),
        ("1w", "2026-11-22T23:30:15Z"),
        ("2026-11-30 00:00:00+0000", "2026-11-30T00:00:00+00:00"),
    ],
)
def test_other_times_are_the_same_everywhere(zone, text, spelled):
    zone("Asia/Kathmandu")
    for is_end in (False, True):
        assert timestamps.from_person(text, now=NIGHT, is_end=is_end) == (spelled, False)


@pytest.mark.parametrize("text", ["", "now", "tomorrow", "2", "d", "-2d", "1.5h", "2026-13-01", "99999w 1d", "٢d"])
def test_what_nobody_can_read_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - a plain one is what the callers translate
        timestamps.from_person(text, now=NIGHT)


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "99999w"])
def test_days_at_the_ends_of_the_calendar_never_end_in_another_error(zone, text):
    for name in ("Europe/Berlin", "America/Lima"):
        zone(name)
        for is_end in (False, True):
            with contextlib.suppress(ValueError):
                assert timestamps.parse(timestamps.from_person(text, now=NIGHT, is_end=is_end)[0]).tzinfo
