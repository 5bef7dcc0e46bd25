"""The command frozen by PyInstaller, with the hook in the wheel."""

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


def freeze(wheel, folder):
    """Make the application, and return its path; nothing of the environment that it was made in is left."""
    programs = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    venv.create(folder / "env")
    pip = (sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check")
    run(*pip, "install", "-q", f"{wheel}[cli,report]", "pyinstaller")
    (folder / "app.py").write_text(APP)
    run(str(programs / "pyinstaller"), "--noconfirm", "--onedir", "--noupx", "--log-level=WARN", "app.py", cwd=folder)
    (folder / "env").rename(folder / "gone")
    return str(folder / "dist" / "app" / "app")


# One test, so that it is frozen once: that takes 20 s.
def test_a_frozen_command_has_its_version_doctor_and_report(archives, sandbox, tmp_path):
    app = freeze(archives[1], tmp_path)
    assert run(app, "--version") == f"cfplatform, version {cfplatform.__version__}\n"

    lines = [line.split("\t") for line in run(app, "doctor", cwd=tmp_path, **sandbox.environment()).splitlines()]
    assert {state for _, state, *_ in lines} == {"ok"}
    found = {name: text for name, _, text, *_ in lines}
    assert found["cfplatform"] == cfplatform.__version__
    assert {"requests", "urllib3", "platform"} <= found.keys()
    bundled, others = (set(re.findall(r"\w+", names)) for names in found["extras"].split("not installed: "))
    assert bundled == {"cli", "report", "viz"}
    assert {"sandbox", "torch"} <= others

    labels = tmp_path / "labels"
    run(app, "download", str(labels), "--assets", **sandbox.environment())
    assert run(app, "report", str(labels)).strip() == str(labels / "report.html")
    page = (labels / "report.html").read_text(encoding="utf-8")
    # Six at the top, the others in the gallery.
    assert len(re.findall(r'<script type="text/plain" id="p\d+">\w|<img id="p\d+" src="data:image/', page)) == 20
    assert "<style" in page
    assert "<svg" in page
