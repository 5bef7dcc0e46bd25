"""Fixtures that several modules share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests


@pytest.fixture(params=["its own session", "a session of the user"])
def options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Options of a client with its own session, and with a session of the user."""
    with requests.Session() as session:
        yield {} if request.param == "its own session" else {"session": session}
