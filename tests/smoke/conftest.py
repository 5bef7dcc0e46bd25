"""The distributions, built once for all tests."""

from __future__ import annotations

import pytest

from .building import build


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """The sdist, and the wheel that is built out of it."""
    return build(tmp_path_factory.mktemp("archives"))
