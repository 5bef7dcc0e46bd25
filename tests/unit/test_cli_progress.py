from __future__ import annotations

import io
import time

import pytest

from cfplatform.cli import progress, terminal
from cfplatform.cli.progress import ARCHIVE, DOWNLOAD, WAIT, LineReporter
from cfplatform.cli.terminal import BarReporter, SpinnerReporter

OUTAGE = ("503 Service Unavailable from https://api.example.com", "retrying in 8 s")
LINE = ": ".join(OUTAGE)


EVERY_TEN_SECONDS = ["0:00:10", "0:00:20", "0:00:30", "0:00:40", "0:00:50", "0:01:00"]


class Screen:
    """What shows a wait, written down."""

    def __init__(self):
        self.calls = []
        self.ticks = 0

    def show_wait(self, reason, action):
        self.calls.append((reason, action))

    def end_wait(self):
        self.calls.append("end")

    def tick(self, *, is_calling):
        self.ticks += 1


def watched(looks):
    """What is shown after each of some looks."""
    screen = Screen()
    watcher = progress.Watcher(lambda: None, lambda: None, lambda: screen)
    shown = []
    for found in looks:
        watcher._take(found)
        shown.append(screen.calls[:])
        screen.calls.clear()
    return shown


def checks(trouble, unanswered):
    """A function that checks the calls of a client once."""
    return progress.Watcher(trouble, unanswered, Screen)._check


# --- When a wait is shown ----------------------------------------------------------------------------------


def test_a_wait_is_shown_from_the_second_look_until_it_was_gone_for_three():
    assert watched([None, OUTAGE, OUTAGE, OUTAGE, None, None, None, None]) == [
        *([], [], [OUTAGE], [OUTAGE]),
        *([], [], ["end"], []),
    ]


def test_a_server_that_fails_now_and_then_is_not_talked_about():
    assert watched([OUTAGE, None, OUTAGE, None, None, OUTAGE, None]) == [[]] * 7


def test_a_wait_that_is_interrupted_for_a_moment_goes_on():
    shown = watched([OUTAGE, OUTAGE, None, None, OUTAGE, OUTAGE])
    assert shown == [[], [OUTAGE], [], [], [OUTAGE], [OUTAGE]]


def test_a_reason_counts_when_it_is_found_twice():
    other = ("502 Bad Gateway from https://api.example.com", "retrying now")
    kept = (OUTAGE[0], "retrying now")
    assert watched([OUTAGE, OUTAGE, other, OUTAGE, other, other]) == [[], [OUTAGE], [kept], [OUTAGE], [kept], [other]]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "retrying now"),
        (0.1, "retrying in 1 s"),
        (8, "retrying in 8 s"),
        (100, "retrying in 100 s"),
        (600, "retrying in 10 min"),
        (86_400, "retrying in 24 h"),
        (1e15, "retrying in 277,777,777,778 h"),
    ],
)
def test_the_next_attempt_is_said_in_units_for_people(seconds, words):
    assert checks(lambda: ("reason", seconds), lambda: None)() == ("reason", words)


def test_no_answer_is_a_problem_after_a_while():
    silence = iter([0.4, 0.9, 1.6, 2.1])
    look = checks(lambda: None, lambda: ("https://api.example.com", next(silence)))
    problem = "No response yet from https://api.example.com"
    assert [look() for _ in range(4)] == [None, None, (problem, "waiting for 2 s"), (problem, "waiting for 3 s")]


def test_a_server_that_was_only_slow_has_more_time_the_next_time():
    silence = iter([3.9, 0.0, 3.9, 7.9, 0.2, 7.9, 15.9])
    look = checks(lambda: None, lambda: ("https://api.example.com", next(silence)))
    assert [look() is not None for _ in range(7)] == [True, False, False, True, False, False, True]


def test_nothing_is_asked_and_nothing_is_wrong():
    assert checks(lambda: None, lambda: None)() is None


# --- Lines -------------------------------------------------------------------------------------------------


def test_lines_are_written_for_changes_only():
    stream = io.StringIO()
    reporter = LineReporter(stream)
    reporter.show_wait(*OUTAGE)
    reporter.show_wait(OUTAGE[0], "retrying now")
    reporter.start(1204)
    reporter.advance("downloaded", 10)
    reporter.show_wait(*OUTAGE)
    reporter.show_wait("502 Bad Gateway", "retrying now")
    reporter.end_wait()
    reporter.end_wait()
    assert stream.getvalue().splitlines() == [
        LINE,
        "Resumed",
        "Downloading 1,204 items",
        f"{LINE}, 1 of 1,204 items done",
        "502 Bad Gateway: retrying now, 1 of 1,204 items done",
        "Resumed, 1 of 1,204 items done",
    ]


@pytest.mark.parametrize(("outcome", "resumed"), [("downloaded", True), ("failed", False)])
def test_work_that_is_done_before_the_next_look_was_resumed(outcome, resumed):
    stream = io.StringIO()
    reporter = LineReporter(stream)
    reporter.start(1)
    reporter.show_wait(*OUTAGE)
    reporter.advance(outcome, 10)
    reporter.finish()
    assert ("Resumed, 1 of 1 item done" in stream.getvalue().splitlines()) == resumed


def test_a_reason_cannot_drive_a_terminal():
    stream = io.StringIO()
    LineReporter(stream).show_wait("\x1b[31mred\x07", "retrying now")
    bar = io.StringIO()
    reporter = BarReporter(bar)
    reporter.show_wait("\x1b]0;pwned\x07", "retrying now")
    reporter.close()
    assert "\x1b" not in stream.getvalue()
    assert "\x1b]" not in bar.getvalue()


def test_time_passes_in_a_pipe(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def after(seconds, action):
        clock[0] += seconds
        action()
        return stream.getvalue().splitlines()

    stream = io.StringIO()
    reporter = LineReporter(stream)
    assert after(2, reporter.tick) == []
    assert after(1, reporter.tick) == ["Waiting for the platform, 0:00:03"]
    assert len(after(9, reporter.tick)) == 1
    assert after(1, reporter.tick)[1:] == ["Waiting for the platform, 0:00:13"]
    reporter.start(4)
    for outcome in ("downloaded", "skipped", "failed"):
        reporter.advance(outcome, 10)
    assert len(after(9, reporter.tick)) == 3
    assert after(1, reporter.tick)[3:] == ["3 of 4 items (1 unchanged, 1 failed), 10 B, 0.3 items/s, 0:00:10"]
    waits = lambda: reporter.show_wait(*OUTAGE)  # noqa: E731
    assert after(0, waits)[4:] == [f"{LINE}, 2 of 4 items done"]
    assert len(after(9, waits)) == 5
    assert after(1, waits)[5:] == [f"{LINE}, 0:00:10 so far, 2 of 4 items done"]
    assert reporter.stopped.endswith(" Finished so far: 2 of 4 items (1 unchanged, 1 failed).")


def test_an_export_that_takes_long_is_said_to_be_running(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    reporter = progress.StateReporter(stream, WAIT)
    reporter.start(None)
    reporter.advance("PENDING", 0)
    for _ in range(65):
        clock[0] += 1
        # Between two polls no call is under way.
        reporter.tick(is_calling=False)
    assert stream.getvalue().splitlines() == [
        "The export is PENDING.",
        *(f"The export is PENDING, {elapsed}" for elapsed in EVERY_TEN_SECONDS),
    ]


def test_the_platform_is_not_ticked_while_a_wait_is_shown():
    screen = Screen()
    watcher = progress.Watcher(lambda: None, lambda: None, lambda: screen)
    ticks = []
    for found in [None, OUTAGE, OUTAGE, None, None, None, None]:
        watcher._take(found)
        ticks.append(screen.ticks)
    assert ticks == [1, 1, 1, 1, 1, 2, 3]


# --- Moving displays ---------------------------------------------------------------------------------------


def test_a_bar_that_never_began_leaves_nothing():
    stream = io.StringIO()
    reporter = BarReporter(stream)
    reporter.show_wait(*OUTAGE)
    assert "503 Service Unavailable" in stream.getvalue()
    reporter.finish()
    # The line is erased, and the cursor is where it was.
    assert "503" not in stream.getvalue()[stream.getvalue().rindex("\x1b[2K") :]


def test_a_spinner_shows_a_wait_and_takes_it_away():
    stream = io.StringIO()
    reporter = SpinnerReporter(stream, WAIT)
    reporter.start(None)
    reporter.show_wait(*OUTAGE)
    reporter.advance("PROCESSING", 0)
    reporter.finish()
    assert "PROCESSING" in stream.getvalue()
    assert "503" not in stream.getvalue()[stream.getvalue().rindex("PROCESSING") :]


#: The largest that the library passes on: of a listing, and of an object.
@pytest.mark.parametrize("total", [0, 10**15, 10**18], ids=["none", "items", "bytes"])
@pytest.mark.parametrize("work", [DOWNLOAD, ARCHIVE], ids=["items", "bytes"])
@pytest.mark.parametrize("kind", [BarReporter, LineReporter])
def test_a_total_may_be_absurd(kind, work, total):
    reporter = kind(io.StringIO(), work)
    reporter.start(total)
    for _ in range(3):
        # So that there is a rate, and by it the time that is left.
        time.sleep(terminal.BAR_INTERVAL * 1.2)
        reporter.advance("downloaded", 1)
    reporter.finish()
    assert reporter.counted.startswith("3 ")


@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_shows_the_time_that_has_passed(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = io.StringIO()
    reporter = BarReporter(stream)
    reporter._created -= 3
    reporter.tick()
    assert "Waiting for the platform, 0:00:03" in stream.getvalue()
    reporter.start(3)
    # Nothing is finished, and rich draws again.
    time.sleep(1.2)
    reporter.advance("downloaded", 10)
    reporter.finish()
    assert "0:00:01" in stream.getvalue()
    assert "Waiting" not in stream.getvalue()[stream.getvalue().rindex("1/3") - 100 :]


def test_no_time_is_estimated_while_there_is_an_outage(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    stream = io.StringIO()
    reporter = BarReporter(stream)
    reporter.start(1000)
    for _ in range(3):
        time.sleep(terminal.BAR_INTERVAL * 1.2)
        reporter.advance("downloaded", 10)
    time.sleep(0.2)
    assert " left" in stream.getvalue()
    reporter.show_wait(*OUTAGE)
    time.sleep(0.3)
    assert " left" not in stream.getvalue()[stream.getvalue().rindex("503 Service") - 300 :]
    reporter.finish()
