"""How a page of items is divided for queries of the state."""

from __future__ import annotations

import pytest

from cfplatform import InvalidParameterError, WorkItem
from cfplatform.transfer import downloads


def items(*batches):
    return [WorkItem({"id": str(n), "batchId": batch}, None, "p") for n, batch in enumerate(batches)]


def sizes(page):
    return [(group[0].batch_id, len(group)) for group in downloads._groups(page)]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ([], []),
        (items(1, 1, 2, 1, None, None), [(1, 2), (2, 1), (1, 1), (None, 2)]),
        # A platform may send more than a hundred in an answer; a statement of SQLite has a limit.
        (items(*[1] * 250, 2), [(1, 100), (1, 100), (1, 50), (2, 1)]),
    ],
)
def test_a_page_is_cut_by_batch_and_by_size(page, expected):
    assert sizes(page) == expected


def test_what_came_before_something_else_is_kept():
    groups = downloads._groups([*items(1, 1), "item"])
    assert len(next(groups)) == 2
    with pytest.raises(InvalidParameterError, match="WorkItem objects, not str"):
        next(groups)
