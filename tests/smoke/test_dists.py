"""The distributions: their contents, and that each installs and runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile

import pytest

import cfplatform

from .building import ROOT, build, run

pytestmark = pytest.mark.smoke


def test_a_second_build_is_the_same_byte_for_byte(archives, tmp_path):
    before = os.umask(0o077)
    try:
        again = build(tmp_path, TZ="Asia/Tokyo", PYTHONHASHSEED="7")
    finally:
        os.umask(before)
    assert [path.name for path in again] == [path.name for path in archives]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in archives]


def test_the_wheel_holds_the_package_and_nothing_else(archives):
    _, wheel = archives
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("METADATA")]
        text = archive.read(metadata).decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cfplatform").rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cfplatform/report/templates").iterdir()}
    assert modules | templates | {"cfplatform/py.typed"} == {name for name in names if ".dist-info/" not in name}
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra)", text, re.MULTILINE)
    assert sorted(required) == ["requests", "typing-extensions", "urllib3"]
    assert "License-Expression: MIT" in text
    assert "License ::" not in text
    # An index has no other file of the repository, and nothing says here where that is published.
    assert "From a checkout of this repository, with Python 3.10 or newer (more ways)::" in text
    assert "docs/" not in text


def test_links_of_the_description_lead_to_the_repository(tmp_path):
    for name in ("setup.py", "setup.cfg", "README.rst", "cfplatform/_version.py", "cfplatform/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    settings = (tmp_path / "setup.cfg").read_text(encoding="utf-8")
    (tmp_path / "setup.cfg").write_text(settings.replace("[metadata]", "[metadata]\nurl = https://forge.example/cf/"))
    text = run(sys.executable, "setup.py", "--quiet", "--long-description", cwd=tmp_path)
    assert ".. image:: https://forge.example/cf/raw/HEAD/docs/_static/report-readme.webp" in text
    assert "`Tutorial <https://forge.example/cf/blob/HEAD/docs/quickstart.rst>`__" in text
    assert re.findall(r"(?:<|:: |target: )(?:docs/|LICENSE|CHANGELOG)", text) == []


def test_the_wheel_brings_the_command_and_the_plugin_for_pytest(archives, tmp_path):
    _, wheel = archives
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "installed"), str(wheel))
    entry_points = (
        tmp_path / "installed" / f"cfplatform-{cfplatform.__version__}.dist-info" / "entry_points.txt"
    ).read_text()
    assert "[console_scripts]\ncfplatform = cfplatform.__main__:main\n" in entry_points
    # Found by its entry point alone: nothing names the plugin here.
    fixtures = run(sys.executable, "-m", "pytest", "--fixtures", cwd=tmp_path, PYTHONPATH=str(tmp_path / "installed"))
    assert "cfplatform_sandbox -- installed/cfplatform/pytest_plugin.py" in fixtures


def test_the_sdist_holds_sources_tests_and_docs(archives):
    sdist, _ = archives
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    expected = {"setup.cfg", "setup.py", "README.rst", "CHANGELOG.md", "LICENSE", "cfplatform/py.typed"}
    assert expected <= names
    assert {"tests/conftest.py", "docs/conf.py", "docs/architecture.rst", ".ci/run", "conda.recipe/meta.yaml"} <= names
    assert {"docs/examples/notebook.ipynb", "docs/examples/ruff.toml", "docs/_static/notebook.css"} <= names
    assert {"docs/_static/site.css", "docs/cli_introduction.txt"} <= names
    assert not [name for name in names if name.endswith(".pyc") or "_build" in name]


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_a_clean_environment_can_use_it(archives, tmp_path, kind):
    archive = archives[0 if kind == "sdist" else 1]
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(archive))
    script = "import cfplatform, pathlib; print(cfplatform.__version__, pathlib.Path(cfplatform.__file__).parent)"
    version, place = run(python, "-W", "error", "-c", script, cwd=tmp_path).split(maxsplit=1)
    assert version in archive.name
    assert str(tmp_path) in place
    installed = run(python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    names = {line.split("==")[0].lower().replace("_", "-") for line in installed.splitlines()}
    of_requests = {"certifi", "charset-normalizer", "idna"}
    assert names - of_requests - {"pip", "setuptools"} == {
        "cfplatform",
        "requests",
        "typing-extensions",
        "urllib3",
    }
    done = subprocess.run([python, "-m", "cfplatform"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'cfplatform[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
