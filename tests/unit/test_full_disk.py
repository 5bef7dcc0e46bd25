"""A file that does not fit on the disk."""

from __future__ import annotations

import pytest

from cfplatform import DestinationError
from cfplatform.destination import local
from tests.faults.tools import parts


def test_the_error_tells_how_much_was_needed(disk):
    place, _ = disk
    root = local.prepare_destination(place / "labels")
    part = local.Destination(root).part()
    space = r"No space left.* \([\d,]+ bytes are free, the next write needs [1-9][\d,]*\)"
    with pytest.raises(DestinationError, match=space):
        part.write(b"x" * 2_000_000)
    part.discard()
    assert parts(root) == []
