"""Parsing of ``Retry-After``."""

from __future__ import annotations

import email.utils
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
import urllib3

from cfplatform.http import retry


def answered(**headers):
    return urllib3.HTTPHeaderDict({name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        (" 2 ", 2.0),
        ("1.5", 1.5),
        ("86400", 86400.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1,5", None),
        ("1e3", None),
        ("٣", None),
        ("inf", None),
        ("nan", None),
        ("9" * 5000, None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Wed, 32 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_only_readable_waits_are_obeyed(value, seconds):
    assert retry.retry_after(answered(Retry_After=value)) == seconds


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_date_is_compared_with_the_clock_of_the_server(hours):
    there = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(hours=hours)
    headers = {name: email.utils.format_datetime(when, usegmt=True) for name, when in
               (("Date", there), ("Retry_After", there + timedelta(seconds=7)))}  # fmt: skip
    assert retry.retry_after(answered(**headers)) == 7.0


def test_a_date_that_has_passed_means_at_once():
    assert retry.retry_after(answered(Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")) == 0.0


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
@pytest.mark.parametrize("form", ["Wed, 21 Oct 2026 07:28:07 -0000", "Wed Oct 21 07:28:07 2026"])
def test_a_date_without_zone_means_utc(monkeypatch, form):
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        seconds = retry.retry_after(answered(Retry_After=form, Date="Wed, 21 Oct 2026 07:28:00 GMT"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert seconds == 7.0


def test_a_context_is_stopped_from_outside():
    stop, own = threading.Event(), threading.Event()
    with retry.stopped_by(stop):
        for run in (retry.SINGLE, retry.Run(stop=own)):
            run.ensure_running()
        assert (retry.SINGLE.stop, retry.Run(stop=own).stop) == (stop, own)
        threading.Timer(0.05, stop.set).start()
        with pytest.raises(retry.Interrupted):
            retry.SINGLE.sleep(60)
        for run in (retry.SINGLE, retry.Run(stop=own)):
            with pytest.raises(retry.Interrupted):
                run.ensure_running()
    retry.SINGLE.ensure_running()
