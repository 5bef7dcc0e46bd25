"""The module table of docs/architecture.rst, compared with the imports."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cfplatform"
TABLE = {
    name: int(level)
    for level, name in re.findall(
        r"^(\d+)\s+(\w+)\s", (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8"), re.MULTILINE
    )
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(path):
    """The module of the table that a file belongs to; a package counts as one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    """Absolute dotted names that a file imports, wherever, also those that only type checkers import."""
    yield from imports_of(ast.parse(path.read_text(encoding="utf-8")), path)


def imports_at_run_time(path):
    """The same without those that only type checkers import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = [ast.Pass()]
    yield from imports_of(tree, path)


def imports_of(tree, path):
    """The same of a part of a file."""
    package = ["cfplatform", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def own(path):
    """Modules of the table, or "sandbox", that a file imports."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "cfplatform" and len(parts) > 1 and (parts[1] in TABLE or parts[1] == "sandbox"):
            yield parts[1]


def test_the_table_names_every_module():
    assert {module_of(path) for path in FILES} - {"sandbox"} == set(TABLE)


def in_files(find, but=()):
    """What a function finds in the files of the package, except for those of some modules; only where it finds any."""
    found = {str(path.relative_to(PACKAGE)): set(find(path)) for path in FILES if module_of(path) not in but}
    return {name: each for name, each in found.items() if each}


def test_arrows_point_down():
    def upwards(path):
        module = module_of(path)
        may_start_it = module in ("cli", "pytest_plugin")
        for name in own(path):
            if not may_start_it if name == "sandbox" else name != module and TABLE[name] >= TABLE[module]:
                yield name

    assert in_files(upwards, but={"sandbox"}) == {}


def test_only_one_package_speaks_http():
    def spoken(path):
        return {name.split(".")[0] for name in imports_at_run_time(path)} & {"requests", "urllib3", "httpx"}

    assert in_files(spoken, but={"http"}) == {}


def file_of(name):
    """The file that an absolute dotted name is imported from, as a dotted name in the package; "" if it is not ours."""
    parts = name.split(".")[1:] if name.startswith("cfplatform.") else []
    while parts and not (PACKAGE.joinpath(*parts).with_suffix(".py").exists() or PACKAGE.joinpath(*parts).is_dir()):
        parts.pop()
    return ".".join(parts)


def test_no_import_closes_a_circle():
    graph = {}
    for path in FILES:
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {file_of(each) for each in imports(path)} - {"", name}
    # Raises CycleError, which names the files.
    graphlib.TopologicalSorter(graph).prepare()


def test_the_sandbox_imports_nothing_of_the_sdk():
    found = {(path.name, name) for path in FILES if module_of(path) == "sandbox" for name in own(path)}
    # Sandbox.client() is the one documented exception.
    assert {entry for entry in found if entry[1] != "sandbox"} == {("sandbox.py", "client")}


def late(path):
    """Modules of the package that are imported inside a function, as absolute dotted names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        yield from (name for name in imports_of(function, path) if name.startswith("cfplatform"))


def test_only_the_edge_imports_late():
    # So that a call imports all that it needs, in the thread of its caller, before any thread is started.
    found = in_files(late, but={"client", "__main__", "cli", "sandbox", "pytest_plugin"})
    # Pillow is an extra: validating works without it, and imports it only for the first image that is here. So does
    # converting, for images whose documents do not have their size.
    images = "cfplatform.coco.images"
    expected = {"coco/validation.py": {f"{images}.stored_size"}, "coco/image_files.py": {f"{images}.read_header"}}
    assert found == expected


def test_imports_are_statements():
    # Else none of these tests would see them.
    assert in_files(lambda path: re.findall(r"import_module|__import__|LazyLoader", path.read_text("utf-8"))) == {}
