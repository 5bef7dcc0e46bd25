from __future__ import annotations

import pytest


@pytest.fixture
def environment(sandbox, monkeypatch):
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(client, tmp_path):
    client.download_project(destination=tmp_path / "labels", assets=True).raise_for_failures()
    return tmp_path / "labels"
