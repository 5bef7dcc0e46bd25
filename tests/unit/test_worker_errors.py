"""An error that ends a run in a worker."""

from __future__ import annotations

import contextlib
import sqlite3
import traceback

from cfplatform import CFPlatformError
from cfplatform.destination import state as state_file
from tests.faults.test_x_secrets import QUERY, STORAGE_FAULTS, check
from tests.faults.tools import store_at
from tests.tools import KEY, outcome


def test_an_error_of_a_worker_that_ends_the_run_has_no_frames_of_the_worker(
    serve, make_sandbox, tmp_path, loud, capfd, monkeypatch
):
    monkeypatch.setattr(state_file, "LOCK_WAIT", 0.1)
    sandbox = make_sandbox(items=50, batches=1, api_key=KEY)
    store_at(sandbox, serve(default=STORAGE_FAULTS["right"]).origin, QUERY)
    with sandbox.client(max_workers=2) as client:
        results = client.iter_downloads(client.get_work_items(), tmp_path)
        assert next(results).outcome == "downloaded"
        found = [path for path in (tmp_path / ".cfplatform").iterdir() if path.is_file()]
        (database,) = [path for path in found if path.read_bytes().startswith(b"SQLite format 3")]
        with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
            # Nobody else can write, so the worker that has fetched a document cannot remember it.
            other.execute("BEGIN IMMEDIATE")
            _, error = outcome(CFPlatformError, lambda: list(results))
    assert error is not None
    assert "_receive" not in "".join(traceback.format_exception(error))
    check([error], loud, capfd, tmp_path)
