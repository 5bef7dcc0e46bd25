from __future__ import annotations

import pytest

from cfplatform.destination.remote import chunk_size, remote_url


@pytest.mark.parametrize(
    "path", ["C:\\labels", "C:/labels", "c://labels", "a:b", "labels", "s3:/labels", "x/s3://y", 5]
)
def test_what_is_not_a_url(path):
    assert remote_url(path) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [("S3://bucket/labels//", "s3://bucket/labels"), ("abfs://box@account.host/x", None), ("memory://", None)],
)
def test_what_is_a_url(url, expected):
    assert remote_url(url) == (expected or url)


@pytest.mark.parametrize("size", [0, 1, 1 << 30, 1 << 36, 1 << 40])
def test_parts_grow_so_that_ten_thousand_hold_any_object(size):
    assert 9_000 * chunk_size(size) >= size
    assert chunk_size(size) % (256 << 10) == 0
