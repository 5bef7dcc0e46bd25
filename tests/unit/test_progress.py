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
    assert isinstance(recorder, progress.ProgressReporter)
    run(progress.reporter(recorder))
    assert recorder.calls == [("start", 3), ("downloaded", 10), ("skipped", 20), ("failed", 0), "finish"]


@pytest.mark.parametrize("total", [3, None])
def test_a_function_gets_the_count_and_the_total(total):
    calls = []
    run(progress.reporter(lambda done, all_: calls.append((done, all_))), total)
    assert calls == [(1, total), (2, total), (3, total)]


def test_a_fault_of_a_reporter_is_logged_once_and_ends_nothing(caplog):
    calls = []

    def report(done, total):
        calls.append(done)
        raise OverflowError("too many")

    run(progress.reporter(report))
    assert calls == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "The progress reporter failed and will not be called again (OverflowError)" in caplog.text


def test_ctrl_c_in_a_reporter_is_passed_on():
    def report(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(progress.reporter(report))


class Waiting(Recorder):
    def waiting(self, reason, seconds):
        self.calls.append((reason, seconds))


def test_a_reporter_is_told_what_is_waited_for_now_and_then_if_it_wants_to_know():
    recorder = Waiting()
    watch = progress.Watch(lambda: ("503 from x", 2.0), progress.reporter(recorder))
    watch()
    watch()
    assert recorder.calls == [("503 from x", 2.0)]
    progress.Watch(lambda: None, progress.reporter(recorder))()
    progress.Watch(lambda: ("503 from x", 2.0), progress.reporter(Recorder()))()
    assert len(recorder.calls) == 1


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


@pytest.mark.parametrize("counts_bytes", [False, True])
def test_the_bar_takes_an_absurd_total(counts_bytes, capfd):
    pytest.importorskip("tqdm")
    run(progress.reporter(True, counts_bytes=counts_bytes), 10**15)
    assert "0%" in capfd.readouterr().err


def test_the_bar_is_on_stderr_where_ipython_has_no_kernel(capfd):
    pytest.importorskip("tqdm")
    pytest.importorskip("IPython")
    run(progress.reporter(True))
    assert "3/3" in capfd.readouterr().err


def test_true_without_tqdm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cfplatform\[progress\]'"):
        progress.reporter(True)


@pytest.mark.parametrize("wrong", ["yes", 5, [], 0.5, object()])
def test_anything_else_is_refused(wrong):
    with pytest.raises(InvalidParameterError, match="progress must be True, a function"):
        progress.reporter(wrong)
