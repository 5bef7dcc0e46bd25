"""Public names, methods and the order of parameters do not change."""

from __future__ import annotations

from pathlib import Path

from tests.meta.surface import names

#: Listed by ``python -m tests.meta.surface`` before the modules of the package were moved.
KEPT = Path(__file__).with_name("public_names.txt").read_text(encoding="utf-8").split("\n")[:-1]
NOW = dict(line.partition("(")[::2] for line in names())


def missing(before, now):
    """Parameters that are gone, or that stand in another order."""
    rest = iter(now)
    return [name for name in before if name not in rest]


def lost(line):
    """What is gone of a public name: itself, or some of its parameters."""
    path, _, parameters = line.partition("(")
    module = path.rsplit(".", 1)[0]
    if path in NOW:
        return missing(parameters.rstrip(")").split(", "), NOW[path].rstrip(")").split(", "))
    # Nothing is known of an extra that is not installed.
    return [path] if any(name.startswith(module) for name in NOW) else []


def test_nothing_public_goes():
    assert {line: gone for line in KEPT if (gone := lost(line))} == {}


def test_a_parameter_that_goes_or_moves_is_noticed():
    assert missing(["a", "b"], ["a", "new", "b"]) == []
    assert missing(["a", "b"], ["b", "a"]) == ["b"]
    assert missing(["a", "b"], ["a"]) == ["b"]
