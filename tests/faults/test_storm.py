"""A server that never recovers; tests/unit/test_storm.py has faults of all kinds among valid responses."""

from __future__ import annotations

import time

import pytest

from cfplatform import OutageError, ServerError
from tests.faults.tools import parts, tree


@pytest.mark.parametrize("where", ["*/annotations", "*/signedurls", "/storage/*"])
def test_storm_that_never_ends_costs_a_bounded_number_of_requests(make_sandbox, tmp_path, where):
    sandbox = make_sandbox(items=500, batches=2)
    sandbox.fail_next(503, times=None, path=where)
    began = time.monotonic()
    with (
        sandbox.client(max_workers=16, patience=3) as client,
        pytest.raises(OutageError, match="503 Service Unavailable"),
    ):
        client.download_project(destination=tmp_path)
    elapsed = time.monotonic() - began
    kind = {"*/annotations": "annotations", "*/signedurls": "signing", "/storage/*": "storage"}[where]
    asked = sandbox.counts[kind]
    print(f"\nalways 503 at {where}: {asked} requests for 500 items in {elapsed:.1f} s")
    # The attempts of each worker until the outage is noticed, and then probes after 0, 1 and 2 seconds.
    assert asked <= 16 * 6 + 4
    assert tree(tmp_path) == {}
    assert parts(tmp_path) == []
    assert 3 <= elapsed < 15


def test_storm_that_is_there_from_the_start_is_one_error(make_sandbox, tmp_path):
    sandbox = make_sandbox(items=500, batches=2)
    sandbox.fail_next(503, times=None)
    with sandbox.client(max_workers=16) as client:
        with pytest.raises(ServerError):
            client.download_project(destination=tmp_path, patience=0)
        assert len(sandbox.requests) == 6
        with pytest.raises(OutageError):
            client.download_project(destination=tmp_path, patience=2)
        assert len(sandbox.requests) <= 6 + 6 + 3
