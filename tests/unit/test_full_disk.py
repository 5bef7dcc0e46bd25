"""A file that finds no room."""

from __future__ import annotations

import pytest

from cfplatform.destination import local
from tests.faults.tools import parts


def test_the_error_tells_how_much_was_needed(disk):
    place, _ = disk
    root = local.prepare_destination(place / "labels")
    part = local.PartFile(root)
    with pytest.raises(OSError, match=r"No space left.* \(\d+ bytes are free, [1-9]\d* more are needed\)") as caught:
        part.write(b"x" * 2_000_000)
    part.discard()
    assert local.stops_everything(caught.value)
    assert parts(root) == []
