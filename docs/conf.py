"""Settings of the documentation; built with ``sphinx-build -n -W docs docs/_build``."""

import sys
from pathlib import Path
from types import ModuleType

from cfplatform import __version__

sys.path.append(str(Path(__file__).parent / "extensions"))

project = "cfplatform"
author = "The cfplatform authors"
copyright = "2026, the cfplatform authors"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
    "finding_codes",
    "notebook",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"cfplatform {release}"
html_static_path = ["_static"]
html_css_files = ["site.css", "notebook.css"]

# These are too large to install for the documentation. PyTorch needs empty modules with real base classes: a class that
# derives from a mock would show the arguments of the mock.
autodoc_mock_imports = ["datasets", "supervision"]
for name in ("torch", "torch.utils", "torch.utils.data"):
    sys.modules[name] = ModuleType(name)
vars(sys.modules["torch.utils.data"]).update(Dataset=object, IterableDataset=object, get_worker_info=None)

# Prompts and outputs are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_typehints = "signature"
# Longer signatures get one line per argument.
maximum_signature_line_length = 88
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Progress": "Progress", "DatetimeLike": "DatetimeLike"}
# Types of other projects (the build has no network to fetch their inventories), and aliases without a page.
# ``object`` in an annotation is the built-in, not the field of that name in responses.
suppress_warnings = ["ref.python"]
nitpick_ignore_regex = [
    ("py:.*", r"(requests|urllib3|uuid|datetime|pathlib|os|collections|typing|typing_extensions|types|threading)\b.*"),
    ("py:mod", r"(fnmatch|mimetypes|zipfile)"),
    ("py:.*", r"(Any|Path|Unpack|Self|Id|PathLike|Timeout|Query|Retries|Iterable|Iterator|Callable|Mapping|Sequence)"),
    ("py:class", r"(Progress|DatetimeLike|File|_progress\.Progress|_TimeoutType|optional)"),
    ("py:class", r"(str|int|float|bool|bytes|dict|list|tuple|None|object|BaseException|Exception|Enum)"),
    ("py:class", r"(ValueError|ConnectionError|TimeoutError|PermissionError|LookupError)"),
    ("py:class", r"(TypeAliasForwardRef|WorkItemFilters|ListOptions|DownloadOptions|config\.Timeout)"),
    ("py:class", r"(DrawOptions|Image|PIL\.Image\.Image)"),
    ("py:class", r"(Source|Names|Mapping\[str|pd\.DataFrame|cfplatform\.resources\.base\.Data)"),
    ("py:class", r"zipfile\.ZipInfo|cfplatform\.compat\.WorkItem"),
    ("py:class", r"(MakeClient|Items|dict\[\w+|(pandas|datasets|supervision)\..*|cfplatform\.coco\.\w+\.\w+)"),
]


def setup(app):
    # All errors are created with the same arguments, which only the package passes.
    app.connect("autodoc-process-signature", lambda app, what, *_: ("", None) if what == "exception" else None)
