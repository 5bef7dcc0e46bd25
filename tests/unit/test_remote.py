"""URLs of stores, and the parts of what is sent to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfplatform.destination import places, remote


def test_parts_grow_so_that_ten_thousand_hold_any_object():
    part = remote.ObjectPart(remote.RemotePlace("s3://bucket/labels", Path()), "a/b")
    for size in (0, 1 << 30, 1 << 40):
        part.expect(size)
        assert part._block * 10_000 > size


@pytest.mark.parametrize(
    "path", ["C:\\labels", "C:/labels", "c://labels", "a:b", "labels", "s3:/labels", "x/s3://y", 5]
)
def test_what_is_no_url(path):
    assert places.remote_url(path) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [("S3://bucket/labels//", "s3://bucket/labels"), ("abfs://box@account.host/x", None), ("memory://", None)],
)
def test_what_is_a_url(url, expected):
    assert places.remote_url(url) == (expected or url)
