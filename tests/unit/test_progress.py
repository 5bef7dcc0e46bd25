from __future__ import annotations

import io
import sys

import pytest

from cfplatform import ConfigurationError, InvalidParameterError, progress


class Recorder:
    def __init__(self):
        self.calls = []

    def start(self, total):
        self.calls.append(("start", total))

    def advance(self, outcome, size):
        self.calls.append((outcome, size))

    def finish(self):
        self.calls.append("finish")


def run(reporter, total=3):
    reporter.start(total)
    reporter.advance("downloaded", 10)
    reporter.advance("skipped", 20)
    reporter.advance("failed", 0)
    reporter.finish()


@pytest.mark.parametrize("nothing", [None, False])
def test_nothing_is_reported_unless_asked_for(nothing, capfd):
    run(progress.reporter(nothing))
    assert capfd.readouterr() == ("", "")


def test_a_reporter_is_used_as_it_is():
    recorder = Recorder()
    assert progress.reporter(recorder) is recorder
    assert isinstance(recorder, progress.ProgressReporter)
    run(recorder)
    assert recorder.calls == [("start", 3), ("downloaded", 10), ("skipped", 20), ("failed", 0), "finish"]


@pytest.mark.parametrize("total", [3, None])
def test_a_function_gets_the_count_and_the_total(total):
    calls = []
    run(progress.reporter(lambda done, all_: calls.append((done, all_))), total)
    assert calls == [(1, total), (2, total), (3, total)]


def test_an_exception_of_a_function_is_not_swallowed():
    reporter = progress.reporter(lambda done, total: 1 / 0)
    reporter.start(1)
    with pytest.raises(ZeroDivisionError):
        reporter.advance("downloaded", 1)


def test_true_shows_a_bar(monkeypatch):
    pytest.importorskip("tqdm")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    run(progress.reporter(True))
    shown = stream.getvalue()
    assert "3/3" in shown
    assert "skipped=1" in shown
    assert "failed=1" in shown


def test_a_bar_that_was_never_started_can_be_finished():
    pytest.importorskip("tqdm")
    assert progress.TqdmReporter().finish() is None


def test_true_without_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cfplatform\[progress\]'"):
        progress.reporter(True)


@pytest.mark.parametrize("wrong", ["yes", 5, [], 0.5, object()])
def test_anything_else_is_refused(wrong):
    with pytest.raises(InvalidParameterError, match="progress must be True, a function"):
        progress.reporter(wrong)
