"""Results of a stopped run on the command line."""

from __future__ import annotations

import json
import warnings

import pytest

from cfplatform.cli.common import Output
from cfplatform.cli.text import Column, counted
from cfplatform.cli.transfers import Upload, show_as_finished

FILES = ["slow.png", "b.png", "missing.png", "a.png"]


@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_finished_is_printed_when_the_run_is_stopped(capsys, monkeypatch, as_json):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def results():
        yield Upload("a.png", "assets/1", 7)
        yield Upload("missing.png", error="it is missing")
        yield Upload("b.png", "assets/2", 8)
        # All of them wait for the first file.
        assert capsys.readouterr().out == ""
        raise KeyboardInterrupt

    output = Output(as_json=as_json, quiet=False, debug=False)
    with pytest.raises(KeyboardInterrupt):
        show_as_finished(output, (Column("Path"),), results(), lambda result, _: (str(result.path), result.file), FILES)
    printed = capsys.readouterr().out.splitlines()
    if as_json:
        assert [json.loads(line)["file"] for line in printed] == ["b.png", "missing.png", "a.png"]
    else:
        assert printed == ["assets/2\tb.png", "assets/1\ta.png"]


def test_a_count_of_one_is_singular():
    counts = [counted(number, unit) for number in (1, 1200) for unit in ("files", "entries", "work items")]
    assert counts == ["1 file", "1 entry", "1 work item", "1,200 files", "1,200 entries", "1,200 work items"]
