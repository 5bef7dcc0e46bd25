"""pytest plugin with a sandbox fixture. Every pytest run loads it, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .sandbox import Sandbox

_MARK = "cfplatform_sandbox"


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark for ``--strict-markers``."""
    config.addinivalue_line("markers", f"{_MARK}(items=500, ...): options of the cfplatform_sandbox fixture")


@pytest.fixture
def cfplatform_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A running CloudFactory sandbox. CF_API_KEY and the other variables point to it during the test.

    ``@pytest.mark.cfplatform_sandbox(items=50)`` sets options of `cfplatform.sandbox.Sandbox`. Marks on a module or
    class apply to its tests; the closest mark wins.
    """
    options: dict[str, Any] = {}
    for mark in reversed([*request.node.iter_markers(_MARK)]):
        if mark.args:
            pytest.fail(f"@pytest.mark.{_MARK} takes keyword arguments only, such as items=50.", pytrace=False)
        options.update(mark.kwargs)
    with _sandbox(options) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield sandbox


def _sandbox(options: dict[str, Any]) -> Sandbox:
    try:
        from .sandbox import Sandbox
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        pytest.fail(
            f"The fixture {_MARK} needs {missing}: pip install 'cfplatform[sandbox]'",
            pytrace=False,
        )
    try:
        return Sandbox(**options)
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.{_MARK}: {error}", pytrace=False)
