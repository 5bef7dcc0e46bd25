"""Daily work on the command line: times as people write them, ids from a file, limits, watching, profiles."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from tests.functional.shell import run


@pytest.fixture
def world(make_sandbox):
    """25 work items in 2 batches, 5 of them in review."""
    return make_sandbox(items=25, batch_names=["Street scenes", "Night drive"], in_review=0.2)


def sent(sandbox, name):
    """What the listings of work items had under a name."""
    queries = [request.query for request in sandbox.requests if request.route == "work_items"]
    return [value for query in queries for key, value in query if key == name]


# --- Times ------------------------------------------------------------------------------------------------------------


def test_a_day_is_that_of_this_machine_and_the_note_says_so(world):
    done = run("count", "--created-from", "2025-03-03", "--created-to", "2025-03-03", sandbox=world, TZ="UTC")
    assert (done.returncode, done.stdout) == (0, "20\n")
    assert done.stderr.splitlines() == [
        f"--created-from '2025-03-03' is {sent(world, 'createdAtFrom')[0]} in this machine's time zone.",
        f"--created-to '2025-03-03' is {sent(world, 'createdAtTo')[0]} in this machine's time zone.",
    ]
    assert sent(world, "createdAtTo")[0].startswith("2025-03-03T23:59:59.999999")
    done = run("count", "--created-from", "2025-03-03", "--quiet", sandbox=world)
    assert (done.returncode, done.stderr) == (0, "")


def test_times_with_a_zone_are_sent_in_rfc_3339_without_a_note(world):
    times = ["--updated-from", "2025-01-01 00:00:00+0000", "--updated-to", "2030-01-01 00:00Z"]
    done = run("count", *times, sandbox=world)
    assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")
    assert (sent(world, "updatedAtFrom"), sent(world, "updatedAtTo")) == (
        ["2025-01-01T00:00:00+00:00"],
        ["2030-01-01T00:00:00Z"],
    )


@pytest.mark.parametrize(("ago", "seconds"), [("30m", 1800), ("3h", 10_800), ("2d", 172_800), ("1w", 604_800)])
def test_a_time_ago_is_sent_as_a_moment(world, ago, seconds):
    done = run("count", "--updated-from", ago, sandbox=world)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    (since,) = sent(world, "updatedAtFrom")
    age = datetime.now(timezone.utc) - datetime.fromisoformat(since.replace("Z", "+00:00"))
    assert since.endswith("Z")
    assert seconds <= age.total_seconds() < seconds + 60
