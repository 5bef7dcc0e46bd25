from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cfplatform import naming

#: Pieces that names are broken with.
PIECES = st.sampled_from(
    [*'./\\:*?"<>|-~ \t\n\0\x1b\x7f', "..", "CON", "nul", "com1", "LPT9", "é", "e\u0301", "\u202e", "\u200b", "\ud800"]
)
NAMES = st.one_of(st.text(max_size=300), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=12).map("".join))
HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "...",
    "../../evil",
    "..\\..\\evil",
    "/etc/passwd",
    "C:\\x",
    "C:",
    "\\\\host\\share",
    "//host/share",
    "a/../../b",
    "~",
    "~root",
    "-rf",
    "--help",
    "-.",
    "- .x",
    "-.-",
    "~.~.",
    ". -x",
    ".hidden",
    ".cfplatform",
    "a.",
    "a ",
    "a\0b",
    "a\nb",
    "\x1b[31m",
    "\u202egnp.exe",
    "\u200b",
    "\ufeff",
    "\ud800",
    "CON",
    "con",
    "Con.txt",
    "nul.json",
    "NUL .x",
    "aux.",
    "COM1",
    "com\N{SUPERSCRIPT TWO}.tar.gz",
    "LPT9:",
    "CONIN$",
    "x" * 201,
    "x" * 5000,
    "é" * 128,
    "\N{GRINNING FACE}" * 60,
    " " * 300 + "x",
    "x" * 199 + ".é",
]


def official_name(name):
    """The official client's naming."""
    return re.sub(r'[\\/:*?"<>|]', "_", name.strip())


def is_safe(name):
    """Tell whether every file system takes a name, written down independently of the code."""
    stem = name.split(".")[0].rstrip().upper()
    devices = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    devices |= {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
    return (
        name not in ("", ".", "..")
        and not set('\\/:*?"<>|') & set(name)
        and all(unicodedata.category(ch)[0] != "C" for ch in name)
        and name.strip(" .") == name.rstrip(" .").lstrip(" ") == name
        and name[0] not in "-~."
        and len(name.encode()) <= 120
        and stem not in devices
    )


@given(NAMES)
def test_any_text_gives_a_safe_name(name):
    assert is_safe(naming.safe_name(name))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_inside_and_is_readable(tmp_path, name):
    safe = naming.safe_name(name)
    assert is_safe(safe)
    assert (tmp_path / f"{safe}.json").resolve().parent == tmp_path.resolve()
    (tmp_path / f"{safe}.json").write_bytes(b"{}")
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{safe}.json"]


@given(NAMES)
def test_a_safe_name_is_the_official_one_and_is_kept(name):
    official = official_name(name)
    if is_safe(official) and official.isprintable():
        assert naming.safe_name(name) == official
    assert naming.safe_name(naming.safe_name(name)) == naming.safe_name(name)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Batch/With\\Special:Chars*?", "Batch_With_Special_Chars__"),
        ("  Default ", "Default"),
        ("Läuse 2026 (Nord)", "Läuse 2026 (Nord)"),
        ("a.b.c", "a.b.c"),
        ("CONSOLE", "CONSOLE"),
        ("COM10", "COM10"),
        ("c2fe4a5d-ae6e-4005-8845-d10c59218302", "c2fe4a5d-ae6e-4005-8845-d10c59218302"),
        ("x" * 120, "x" * 120),
        ("..", "unnamed~e6fc5bb9"),
    ],
)
def test_names_are_those_that_were_promised(name, safe):
    assert naming.safe_name(name) == safe


@given(NAMES, NAMES)
def test_different_unsafe_names_stay_different(first, second):
    assume(first != second)
    assume(not is_safe(official_name(first)) or not is_safe(official_name(second)))
    assert naming.safe_name(first) != naming.safe_name(second)


def test_all_hostile_names_get_names_of_their_own():
    # All that is safe once it is cleaned may meet others, as with the official client.
    names = [name for name in HOSTILE if not is_safe(official_name(name))]
    assert len(names) > 30
    assert len({naming.safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("first", "second"),
    [("A", "a"), ("é", "e\u0301"), ("Straße", "STRASSE"), ("Ω", "\N{OHM SIGN}"), ("ÉCOLE", "e\u0301cole"), ("ﬀ", "FF")],
)
def test_names_that_some_file_system_takes_for_the_same_share_a_key(first, second):
    assert naming.collision_key(first) == naming.collision_key(second)


@given(st.text())
def test_the_key_does_not_depend_on_how_accents_are_composed(name):
    key = naming.collision_key(name)
    assert naming.collision_key(unicodedata.normalize("NFD", name)) == key
    assert naming.collision_key(unicodedata.normalize("NFC", name)) == key


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("a b", "a_b"), ("a", "á"), ("1", "\N{SUPERSCRIPT ONE}")])
def test_names_that_differ_everywhere_have_different_keys(first, second):
    assert naming.collision_key(first) != naming.collision_key(second)


@pytest.mark.parametrize(
    ("path", "extension"),
    [
        ("coco_output/f.json", ".json"),
        ("coco_output/f.JSON", ".JSON"),
        ("f.tar.gz", ".tar.gz"),
        ("f", ".json"),
        ("f.", ".json"),
        ("dir.x/f", ".json"),
        ("f.abcdefghi", ".abcdefghi"),
        ("f.abcdefghij", ".json"),
        ("f.a/b", ".json"),
        ("f.a:b", ".json"),
        ("f.a\\b", ".json"),
        ("f.a b", ".json"),
        ("f.\n", ".json"),
        ("f.json\n", ".json"),
        ("f.é", ".json"),
        (".json", ".json"),
        ("..", ".json"),
        ("", ".json"),
    ],
)
def test_only_a_plain_extension_is_kept(path, extension):
    assert naming.extension(path) == extension
