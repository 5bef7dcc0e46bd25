"""``cfplatform stats`` and ``cfplatform validate``: on a terminal, in a pipe, as JSON; without a key."""

from __future__ import annotations

import copy
import json
import re
import warnings

import pytest
from PIL import Image

from cfplatform.cli import cli
from cfplatform.coco import stats, validate
from tests.cli_page import reference
from tests.functional.shell import ESCAPE, HOSTILE, json_lines, on_terminal, shown
from tests.functional.test_cli_json import check
from tests.unit.odd_documents import EVERYTHING


def put(folder, name, document):
    (folder / "Street scenes").mkdir(parents=True, exist_ok=True)
    (folder / "Street scenes" / f"{name}.json").write_text(json.dumps(document))


@pytest.fixture
def good(tmp_path):
    """A folder without findings."""
    put(tmp_path / "good", "a", EVERYTHING)
    return tmp_path / "good"


@pytest.fixture
def odd(tmp_path):
    """A folder with one warning."""
    folder = tmp_path / "odd"
    put(folder, "a", EVERYTHING)
    document = copy.deepcopy(EVERYTHING)
    document["annotations"][0]["area"] = 7
    put(folder, "b", document)
    return folder


@pytest.fixture
def bad(odd):
    """The same with errors in two documents, one with a malicious name, and a file that is not a document."""
    document = copy.deepcopy(EVERYTHING)
    document["categories"][0]["name"] = HOSTILE
    for annotation in document["annotations"][:3]:
        annotation["category_id"] = HOSTILE
    put(odd, "c", document)
    put(odd, "d", document)
    put(odd, "e", [])
    return odd


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process; return its exit code and what it wrote to stdout and stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli(list(map(str, arguments)), prog_name="cfplatform")
        return ended.value.code, *capsys.readouterr()

    return command


# --- stats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 120])
def test_stats_on_a_terminal_are_tables(bad, columns):
    code, screen = on_terminal("stats", bad, columns=columns)
    text = shown(screen)
    assert code == 1
    assert re.findall(r"^  (\w[\w ]+?) +(\d+)$", text, re.MULTILINE) == [
        ("Documents", "4"),
        ("Unreadable", "1"),
        ("Images", "8"),
        ("Empty images", "0"),
        ("Annotations", "24"),
        ("Crowds", "4"),
    ]
    assert re.search(r"^tree +12 +50\.0% +8 +2\.4 *$", text, re.MULTILINE)
    assert re.search(r"^Street scenes +4 +8 +0 +24 *$", text, re.MULTILINE)
    assert re.search(r"^small +16 +66\.7% *$", text, re.MULTILINE)
    assert re.search(r"^8 to 16 +4 +16\.7% *$", text, re.MULTILINE)
    assert "[red]" in text
    assert "\x07" not in text
    assert max(len(line) for line in text.split("Error:")[0].splitlines() if "━" not in line) <= columns
    assert re.search(
        r"^Error: 1 file could not be read\.\n  .*e\.json: .*top level is a JSON array", text, re.MULTILINE
    )


def test_stats_into_a_pipe_are_lines(run, good):
    code, out, err = run("stats", good)
    assert (code, err.splitlines()[0]) == (0, "Reading 1 document")
    rows = [line.split("\t") for line in out.splitlines()]
    assert ["total", "annotations", "6"] in rows
    assert ["class", "tree", "4", "2", "2.4"] in rows
    assert ["batch", "Street scenes", "1", "2", "6", "0"] in rows
    assert ["kind", "panoptic", "1"] in rows
    assert ["size", "small", "4"] in rows
    assert ["side", "8", "1"] in rows
    assert ESCAPE not in out


def test_stats_as_json_are_what_the_library_says(run, bad):
    code, out, _ = run("stats", bad, "--json")
    (value,) = json_lines(out)
    figures, of_class, of_batch = reference.LINES["stats"]
    check(figures, value)
    check(of_class, value["categories"]["tree"])
    check(of_batch, value["batches"]["Street scenes"])
    assert value == stats(bad, on_error=lambda finding: None).as_dict()
    assert code == 1


def test_many_unreadable_files_are_not_all_named(run, tmp_path):
    for number in range(12):
        put(tmp_path, f"{number:02}", None)
    code, _, err = run("stats", tmp_path, "--quiet")
    assert code == 1
    lines = err.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("Error: 12 files could not be read.", "  and 2 more", 12)


# --- validate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 120])
def test_findings_on_a_terminal_are_grouped_by_code(bad, columns):
    code, screen = on_terminal("validate", bad, "--limit", 2, columns=columns)
    text = shown(screen)
    assert code == 1
    _, ids, unreadable, areas, counts = text.split("\n\n")
    places = [f"{bad}/Street scenes/c.json /annotations/{index}/category_id" for index in range(2)]
    assert ids.splitlines()[0] == "error dangling-category-id"
    assert ids.splitlines()[1::2] == [f"  {place}" for place in places]
    assert ids.splitlines()[2].startswith("    There is no category 'Ev\\x1b[31mil")
    assert unreadable.splitlines()[:2] == ["error unreadable", f"  {bad}/Street scenes/e.json"]
    assert areas.splitlines()[0] == "warning area-mismatch"
    assert [line.split() for line in counts.splitlines()] == [
        ["Severity", "Code", "Findings", "Documents"],
        ["error", "dangling-category-id", "6", "2"],
        ["error", "unreadable", "1", "1"],
        ["warning", "area-mismatch", "1", "1"],
        ["Error:", "7", "errors", "and", "1", "warning."],
    ]


@pytest.mark.parametrize(
    ("folder", "options", "code", "said"),
    [
        ("good", [], 0, "No problems found."),
        ("good", ["--strict"], 0, "No problems found."),
        ("odd", [], 0, "1 warning."),
        ("odd", ["--strict"], 1, "Error: 1 warning."),
        ("odd", ["--strict", "--errors-only"], 0, "No problems found."),
        ("bad", [], 1, "Error: 7 errors and 1 warning."),
        ("bad", ["--errors-only"], 1, "Error: 7 errors."),
    ],
)
def test_the_exit_code_shows_whether_there_are_errors(request, run, folder, options, code, said):
    found, out, err = run("validate", request.getfixturevalue(folder), *options)
    assert (found, err.splitlines()[-1]) == (code, said)
    assert len(out.splitlines()) == sum(map(int, re.findall(r"\d+", said)))


def test_findings_into_a_pipe_are_lines(run, bad):
    rows = [line.split("\t") for line in run("validate", bad, "--quiet")[1].splitlines()]
    path = str(bad / "Street scenes" / "b.json")
    message = "The area is 7, but the segmentation has 100."
    assert rows[0] == ["warning", "area-mismatch", path, "/annotations/0/area", message]
    assert [len(row) for row in rows] == [5] * 8


def test_findings_as_json_are_what_the_library_says(run, bad):
    values = json_lines(run("validate", bad, "--json")[1])
    assert values == [finding.as_dict() for finding in validate(bad)]
    for value in values:
        check(reference.LINES["validate"][0], value)


def test_quiet_says_nothing_but_errors(run, good, odd):
    assert run("validate", good, "--quiet") == (0, "", "")
    assert run("validate", odd, "--quiet")[2] == ""


def test_lines_on_a_terminal_do_not_run_into_a_bar(odd):
    code, screen = on_terminal("validate", odd, "--json")
    assert code == 0
    first, last = screen.splitlines()
    assert (json.loads(first)["code"], last) == ("area-mismatch", "1 warning.")


def test_validate_compares_the_images_of_a_folder(run, good, tmp_path):
    for name, size in (("a.png", (40, 30)), ("b.png", (80, 60))):
        Image.new("RGB", size).save(tmp_path / name)
    found, out, _ = run("validate", good, "--images-from", tmp_path)
    (row,) = (line.split("\t") for line in out.splitlines())
    assert (found, row[:2], row[3]) == (1, ["error", "size-mismatch"], "/images/1")
    assert row[4] == "The image file is 80 x 60, not 40 x 30; annotations are scaled to it."
    (tmp_path / "b.png").unlink()
    assert "missing-image" in run("validate", good, "--images-from", tmp_path)[1]
    found, _, err = run("validate", good, "--images-from", tmp_path / "none")
    assert (found, "--images-from" in err) == (2, True)


@pytest.mark.parametrize("command", ["stats", "validate"])
def test_what_is_no_source_is_a_wrong_command(run, command, tmp_path):
    missing = tmp_path / "nothing"
    assert run(command, missing) == (2, "", f"Error: SOURCE '{missing}' is neither a folder nor a file.\n")
    code, _, err = run(command, tmp_path)
    assert code == 2
    assert "contains no labels" in err


@pytest.mark.parametrize("command", ["stats", "validate"])
def test_a_file_is_a_source_too(run, command, good):
    assert run(command, good / "Street scenes" / "a.json", "--json")[0] == 0
