"""How ``cfplatform doctor`` compares versions."""

from __future__ import annotations

import pytest

from cfplatform.cli import doctor


@pytest.mark.parametrize(
    ("version", "wanted", "is_enough"),
    [
        ("2.33.0", ">=2.33", True),
        ("2.33", ">=2.33.0", True),
        ("2.9", ">=2.10", False),
        ("2.10.0rc1", ">=2.10", True),
        ("3.0", "<3,>=2.7.0", False),
        ("2.8.0", "<3,>=2.7.0", True),
        ("2024.2.0.post1", ">=2024.2", True),
        ("0.3.0", "==0.3.0", True),
        ("0.3.1", "==0.3.0", False),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_as_numbers(monkeypatch, tmp_path, version, wanted, is_enough):
    metadata = tmp_path / "a_library.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: a-library\nVersion: {version}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert (doctor._problem("a-library", wanted) is None) == is_enough
