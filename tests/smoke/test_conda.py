"""The conda package, converted from the wheel, and the recipe to build it."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jinja2
import pytest
import yaml
from conda_package_streaming import package_streaming

import cfplatform

from .building import ROOT, run

pytestmark = pytest.mark.smoke

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
#: What setup.cfg asks for, with the names that conda has for it.
RUN = {
    "python" + SETUP["options"]["python_requires"],
    *(
        line.replace("typing-extensions", "typing_extensions")
        for line in SETUP["options"]["install_requires"].split("\n")
        if line
    ),
}


def normal(requirement):
    """A requirement without spaces, its bounds in order."""
    name = requirement.replace(" ", "")
    place = min(name.find(sign) for sign in "<>=" if sign in name)
    return name[:place], tuple(sorted(name[place:].split(",")))


@pytest.fixture(scope="module")
def package(archives, tmp_path_factory):
    """The files of the package by their paths."""
    folder = tmp_path_factory.mktemp("conda")
    tool = Path(sys.executable).with_name("whl2conda")
    run(str(tool), "convert", str(archives[1]), "--root", str(ROOT), "--out-dir", str(folder), "--batch", "--yes")
    (made,) = folder.glob("cfplatform-*.conda")
    return {
        member.name: archive.extractfile(member).read()
        for component in ("pkg", "info")
        for archive, member in package_streaming.stream_conda_component(str(made), component=component)
        if member.isfile()
    }


@pytest.fixture
def recipe():
    """The recipe as conda reads it."""
    text = (ROOT / "conda.recipe" / "meta.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(jinja2.Environment(autoescape=False).from_string(text).render(PYTHON="python"))  # noqa: S701


def test_the_recipe_says_what_setup_cfg_says(recipe):
    assert str(recipe["package"]["version"]) == cfplatform.__version__
    assert recipe["package"]["name"] == SETUP["metadata"]["name"]
    assert {normal(each) for each in recipe["requirements"]["run"]} == {normal(each) for each in RUN}
    needed = re.search(r"^requires = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    for line in ast.literal_eval(needed):
        assert line.replace(">=", " >=") in recipe["requirements"]["host"]
    assert recipe["build"]["entry_points"] == [SETUP["options.entry_points"]["console_scripts"].strip()]
    assert recipe["about"]["license"] == SETUP["metadata"]["license_expression"]
    assert recipe["about"]["summary"] == SETUP["metadata"]["description"]


def test_the_recipe_keeps_the_rules_of_conda_forge(recipe):
    """Those of CFEP 25 and of its linter that concern this recipe."""
    order = ["package", "source", "build", "requirements", "test", "about", "extra"]
    assert list(recipe) == [name for name in order if name in recipe]
    assert (recipe["build"]["noarch"], recipe["build"]["number"]) == ("python", 0)
    for option in ("-m pip install .", "--no-deps", "--no-build-isolation"):
        assert option in recipe["build"]["script"]
    # The oldest Python is the one to build and to test with.
    oldest = SETUP["options"]["python_requires"].removeprefix(">=")
    for section in (recipe["requirements"]["host"], recipe["test"]["requires"]):
        assert f"python {oldest}" in section
    assert f"python >={oldest}" in recipe["requirements"]["run"]
    # A single space between name and bounds, and none in the bounds.
    for section in (*recipe["requirements"].values(), recipe["test"]["requires"]):
        assert all(re.fullmatch(r"[a-z0-9_-]+( [<>=.,0-9]+)?", each) for each in section)
    assert (ROOT / recipe["about"]["license_file"]).is_file()
    # Nobody maintains it before somebody said so.
    assert "extra" not in recipe


def test_the_recipe_tests_what_it_installs(recipe):
    assert "cfplatform" in recipe["test"]["imports"]
    for module in recipe["test"]["imports"]:
        importlib.import_module(module)
    assert recipe["test"]["commands"] == ["pip check", "cfplatform --version"]
    # What the command needs, with the bounds of its extra.
    for line in SETUP["options.extras_require"]["cli"].strip().splitlines():
        assert normal(line.partition(";")[0].strip()) in {
            normal(each) for each in recipe["test"]["requires"] if ">" in each
        }


def test_its_metadata(package):
    index = yaml.safe_load(package["info/index.json"])
    assert (index["name"], index["version"]) == ("cfplatform", cfplatform.__version__)
    assert (index["noarch"], index["subdir"], index["license"]) == ("python", "noarch", "MIT")
    assert {normal(each) for each in index["depends"]} == {normal(each) for each in RUN}
    link = yaml.safe_load(package["info/link.json"])
    assert link["noarch"] == {"type": "python", "entry_points": ["cfplatform=cfplatform.__main__:main"]}


def test_it_holds_what_the_wheel_holds(package, archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        modules = {f"site-packages/{name}": wheel.read(name) for name in wheel.namelist() if "dist-info" not in name}
    held = {name: data for name, data in package.items() if not name.startswith("info/")}
    assert {name: data for name, data in held.items() if "dist-info" not in name} == modules
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in held)
    assert sorted(package["info/files"].decode().split()) == sorted(held)


def test_it_runs_in_a_prefix(package, tmp_path):
    """Files go where conda links those of noarch packages; its dependencies are installed by the names it gives."""
    prefix = tmp_path / "prefix"
    venv.create(prefix)
    python = str(prefix / ("Scripts" if os.name == "nt" else "bin") / "python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for name, data in package.items():
        if name.startswith("site-packages/"):
            target = site / name.removeprefix("site-packages/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    depends = [each for each in yaml.safe_load(package["info/index.json"])["depends"] if not each.startswith("python ")]
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "-q", *depends)
    run(*pip, "check")
    script = "import cfplatform; print(cfplatform.__version__, cfplatform.Client.__name__, cfplatform.__file__)"
    version, client, place = run(python, "-W", "error", "-c", script, cwd=tmp_path).split(maxsplit=2)
    assert (version, client) == (cfplatform.__version__, "Client")
    assert place.startswith(str(prefix))
    done = subprocess.run([python, "-m", "cfplatform"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, "pip install 'cfplatform[cli]'" in done.stderr) == (2, True)
