"""The same seed gives the same data."""

from __future__ import annotations

from cfplatform.sandbox import Sandbox


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
