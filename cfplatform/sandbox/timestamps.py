"""Times as the sandbox keeps them: whole microseconds since 1970, in UTC."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

SECOND = 1_000_000
HOUR = 3600 * SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def parse(text: str) -> int:
    """Read an RFC 3339 date and time.

    Raises:
        ValueError: If the text is anything else, for instance a date alone or a time without an offset.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 date and time: {text!r}")
    date, time, fraction, zulu, sign, hours, minutes = match.groups()
    moment = datetime.fromisoformat(f"{date}T{time}+00:00") - _EPOCH
    if not zulu:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        moment += offset if sign == "-" else -offset
    micros = int((fraction or "").ljust(6, "0")[:6])
    return moment // timedelta(microseconds=1) + micros


def render(micros: int) -> str:
    """Write a time as RFC 3339 with ``Z``; fractions of a second appear only if there are any."""
    moment = _EPOCH + timedelta(microseconds=micros)
    precision = "microseconds" if micros % 1000 else "milliseconds" if micros % SECOND else "seconds"
    return moment.replace(tzinfo=None).isoformat(timespec=precision) + "Z"
