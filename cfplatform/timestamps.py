"""Times: ISO 8601 with a time zone, as the platform writes them, and the shorter forms of the command line."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

# Strings, not compiled patterns: re compiles and caches them on first use, which keeps the import fast.
_ISO = r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?:(:\d\d)(?:[.,](\d+))?)?\s*(Z|z|[+-]\d\d:?\d\d)?"
_AGO = r"(\d{1,5}) ?([smhdw])"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS_AGO = {"today": 0, "yesterday": 1}


def parse(text: str) -> datetime:
    """Parse an ISO 8601 date and time; without a time zone the result is naive.

    Before Python 3.11, ``datetime.fromisoformat`` supports neither ``Z`` nor most fractions.

    Raises:
        ValueError: If the text is not a valid ISO 8601 date and time.
    """
    day, clock, seconds, fraction, zone = _parts(text)
    micros = fraction[:6].ljust(6, "0")
    return datetime.fromisoformat(f"{day}T{clock}{seconds}.{micros}{'+00:00' if zone == 'Z' else zone}")


def parse_or_none(value: object) -> datetime | None:
    """Parse a time from a response; return ``None`` if it is not valid."""
    if not isinstance(value, str):
        return None
    try:
        return parse(value)
    except ValueError:
        return None


def rfc3339(text: str) -> str:
    """Convert a string that :func:`parse` accepts to RFC 3339, with all digits of its fraction."""
    day, clock, seconds, fraction, zone = _parts(text)
    return f"{day}T{clock}{seconds}{'.' if fraction else ''}{fraction}{zone}"


def _parts(text: str) -> tuple[str, str, str, str, str]:
    """Return day, clock, seconds, fraction and zone in RFC 3339; the last two may be empty."""
    match = re.fullmatch(_ISO, text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"not an ISO 8601 date and time: {text!r}")
    day, clock, seconds, fraction, zone = match.groups()
    zone = (zone or "").upper()
    if len(zone) == len("+0545"):
        zone = f"{zone[:3]}:{zone[3:]}"
    return day, clock, seconds or ":00", fraction or "", zone


def from_person(text: str, *, is_end: bool = False, now: datetime | None = None) -> tuple[str, bool]:
    """Parse the start or end of a range in any form that :func:`parse` accepts, or in a shorter one.

    A date, "today" and "yesterday" mean the start of that day, or its last microsecond at the end of a range. "30m",
    "3h", "2d" and "1w" mean that long ago. Days and times without a zone are in the local time zone. If a clock change
    makes a time ambiguous or invalid, the reading that gives the wider range is used.

    Args:
        text: The time as entered.
        is_end: Whether it is the end of the range.
        now: The current time; for tests.

    Returns:
        The time in RFC 3339, and whether the local time zone was used.

    Raises:
        ValueError: If the text is in none of these forms.
    """
    now = now or datetime.now(timezone.utc)
    word = text.strip().lower()
    try:
        ago = re.fullmatch(_AGO, word, re.ASCII)
        if ago is not None:
            moment = now.astimezone(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            return _spelled(moment.replace(microsecond=0)), False
        if word in _DAYS_AGO:
            day = now.astimezone().date() - timedelta(days=_DAYS_AGO[word])
        elif re.fullmatch(r"\d{4}-\d\d-\d\d", word, re.ASCII):
            day = date.fromisoformat(word)
        else:
            moment = parse(text)
            return (_spelled(_local(moment, is_end)), True) if moment.tzinfo is None else (rfc3339(text), False)
        return _spelled(_local(datetime.combine(day, time.max if is_end else time.min), is_end)), True
    except (OverflowError, OSError):
        raise ValueError(f"out of range for the local time zone: {text!r}") from None


def _local(moment: datetime, is_end: bool) -> datetime:
    """Return a naive time in the local time zone; of two readings, the one that gives the wider range."""
    readings = [moment.replace(fold=fold).astimezone(timezone.utc) for fold in (0, 1)]
    return (max if is_end else min)(readings).astimezone()


def _spelled(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
