"""The seed decides everything, and ids carry what they were made from."""

from __future__ import annotations

import pytest

from cfplatform.sandbox import Sandbox, timestamps
from cfplatform.sandbox.catalogue import EvenPattern
from cfplatform.sandbox.ids import Identifiers, is_uuid


def snapshot(**options):
    sandbox = Sandbox(items=20, **options)
    sandbox.stop()
    return {
        "key": sandbox.api_key,
        "ids": (sandbox.project_id, sandbox.space_id),
        "items": [sandbox.work_item(index) for index in range(20)],
        "documents": [sandbox.document(index) for index in range(20)],
        "assets": [sandbox.asset(index) for index in range(5)],
    }


def test_same_seed_same_bytes():
    assert snapshot(seed=7) == snapshot(seed=7)


def test_other_seed_other_world():
    one, other = snapshot(seed=7), snapshot(seed=8)
    for name in ("key", "ids", "documents", "assets"):
        assert one[name] != other[name]
    assert not {item["id"] for item in one["items"]} & {item["id"] for item in other["items"]}


def test_size_does_not_change_what_is_there():
    small, large = Sandbox(items=10, seed=1), Sandbox(items=1000, seed=1)
    small.stop()
    large.stop()
    assert list(small.work_item_ids()) == list(large.work_item_ids(0, 10))
    assert small.document(9) == large.document(9)


def test_key_is_usable_in_a_header():
    key = snapshot()["key"]
    assert len(key) >= 16
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


@pytest.mark.parametrize("index", [0, 1, 2, 4095, 1_000_000, 2**32 - 1])
def test_ids_are_invertible(index):
    ids = Identifiers(5)
    text = ids.encode("item", index)
    assert is_uuid(text)
    assert text[14] == "4"
    assert text[19] in "89ab"
    assert ids.decode("item", text) == ids.decode("item", text.upper()) == index
    assert ids.decode("asset", text) is None
    assert Identifiers(6).decode("item", text) is None


def test_forged_ids_are_not_accepted():
    ids = Identifiers(5)
    text = ids.encode("item", 77)
    for forged in (
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        text.replace("-", ""),
        "",
        "zz",
        text + "0",
        " " + text,
    ):
        assert ids.decode("item", forged) is None


def test_ids_are_unique_and_look_random():
    ids = Identifiers(0)
    texts = [ids.encode("item", index) for index in range(5000)]
    assert len(set(texts)) == 5000
    assert len({text[:2] for text in texts}) == 256
    assert texts != sorted(texts)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("phase", [0, 123_456_789, 2**32 - 1])
def test_even_pattern(fraction, phase):
    pattern = EvenPattern(fraction, phase)
    other = pattern.complement()
    marked = [index for index in range(500) if index in pattern]
    assert abs(len(marked) - 500 * fraction) <= 1
    assert [index for index in range(500) if index in other] == sorted(set(range(500)) - set(marked))
    for span in (range(500), range(13, 14), range(100, 350), range(7, 7)):
        for each in (pattern, other):
            inside = [index for index in span if index in each]
            assert list(each.walk(span, backwards=False)) == inside
            assert list(each.walk(span, backwards=True)) == inside[::-1]
            assert each.rank(span.stop) - each.rank(span.start) == len(inside)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2025-03-03T06:00:00Z", "2025-03-03T06:00:00Z"),
        ("2025-03-03t06:00:00.5z", "2025-03-03T06:00:00.500Z"),
        ("2025-03-03T06:00:00.123456789Z", "2025-03-03T06:00:00.123456Z"),
        ("2026-07-11T11:52:37+05:45", "2026-07-11T06:07:37Z"),
        ("1969-12-31T20:00:00-04:30", "1970-01-01T00:30:00Z"),
    ],
)
def test_timestamps(text, written):
    assert timestamps.render(timestamps.parse(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-03-03",
        "2025-03-03T06:00Z",
        "2025-02-30T06:00:00Z",
        "2025-03-03T06:00:00",
        "٢025-03-03T06:00:00Z",
    ],
)
def test_bad_timestamps(text):
    with pytest.raises(ValueError, match=r"RFC 3339|out of range"):
        timestamps.parse(text)
