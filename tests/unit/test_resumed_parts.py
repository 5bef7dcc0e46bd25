"""Parts of archives that a process of another time left behind."""

from __future__ import annotations

import os

from cfplatform.destination import local
from tests.faults.test_r_ranges import check, cut, download, store

__all__ = ["download", "store"]


def test_a_part_of_an_earlier_process_with_the_same_number_is_taken_up(store, connect, download, tmp_path):
    # As in a container that was started again: same host name, same number.
    cut(store, tmp_path, connect)
    (free,) = (tmp_path / ".cfplatform" / "resume").iterdir()
    host, pid, mark = local.unique_name().split("-")
    assert pid == str(os.getpid())
    free.rename(free.with_suffix(f".{host}-{pid}-{'0' * len(mark)}"))
    # Beside the part of another process that is gone, which nobody needs any more.
    free.with_suffix(f".{host}-999999999-{mark}").mkdir()
    download(store, tmp_path)
    check(tmp_path)
    assert len(store.gets) == 1
