"""Sizes of images in a report."""

from __future__ import annotations

import pytest

from cfplatform.report import thumbnails


@pytest.mark.parametrize(("count", "side"), [(1, 640), (200, 640), (201, 480), (3000, 320), (3001, 240), (50_000, 240)])
def test_the_more_images_the_smaller_they_are(count, side):
    assert thumbnails.side_for(count) == side
