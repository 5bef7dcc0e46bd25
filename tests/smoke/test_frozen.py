"""An application that PyInstaller makes of the command, with the hook that the wheel brings."""

from __future__ import annotations

import os
import re
import sys
import venv

import pytest

import cfplatform

from .building import run

pytestmark = pytest.mark.smoke

# As docs/configuration.rst tells it.
APP = "from cfplatform.__main__ import main\n\nmain()\n"


@pytest.fixture(scope="module")
def frozen(archives, tmp_path_factory):
    """Runs the application; nothing of the environment that it was made in is left."""
    folder = tmp_path_factory.mktemp("frozen")
    programs = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    venv.create(folder / "env")
    pip = (sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check")
    run(*pip, "install", "-q", f"{archives[1]}[cli,report]", "pyinstaller")
    (folder / "app.py").write_text(APP)
    run(str(programs / "pyinstaller"), "--noconfirm", "--onedir", "--noupx", "--log-level=WARN", "app.py", cwd=folder)
    (folder / "env").rename(folder / "gone")

    def call(*arguments, **variables):
        return run(str(folder / "dist" / "app" / "app"), *arguments, cwd=folder, **variables)

    return call


def test_it_says_its_version(frozen):
    assert frozen("--version") == f"cfplatform, version {cfplatform.__version__}\n"


def test_doctor_finds_the_versions_and_the_extras_of_the_bundle(frozen, sandbox):
    lines = [line.split("\t") for line in frozen("doctor", **sandbox.environment()).splitlines()]
    assert {state for _, state, *_ in lines} == {"ok"}
    found = {name: text for name, _, text, *_ in lines}
    assert found["cfplatform"] == cfplatform.__version__
    assert {"requests", "urllib3", "platform"} <= found.keys()
    bundled, others = found["extras"].split("(not installed: ")
    assert {"cli", "report", "viz"} == set(bundled.strip().split(", "))
    assert {"sandbox", "torch"} <= set(others.rstrip(")").split(", "))


def test_report_has_its_templates_charts_and_images(frozen, sandbox, tmp_path):
    frozen("download", str(tmp_path), "--assets", **sandbox.environment())
    page = tmp_path / "report.html"
    assert frozen("report", str(tmp_path)).strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r'<script type="text/plain" id="p\d+">\w', text)) == 20
    assert "<style" in text
    assert "<svg" in text
