"""The ``cfplatform`` command: each subcommand is one call of the library, and prints the result."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import click

from .._version import __version__
from .groups import LateGroup
from .options import GLOBAL, GLOBALS, SETTINGS, Option

__all__ = ["cli"]

F = TypeVar("F", bound=Callable[..., Any])


def _comparing() -> ModuleType:
    from . import comparing

    return comparing


def _converting() -> ModuleType:
    from . import converting

    return converting


def _datasets() -> ModuleType:
    from . import datasets

    return datasets


def _doctor() -> ModuleType:
    from . import doctor

    return doctor


def _exports() -> ModuleType:
    from . import exports

    return exports


def _sandbox() -> ModuleType:
    from . import sandbox

    return sandbox


def _tools() -> ModuleType:
    from . import tools

    return tools


def _transfers() -> ModuleType:
    from . import transfers

    return transfers


def _work_items() -> ModuleType:
    from . import work_items

    return work_items


#: The sections of the help, with the first sentence of the help of each command, and what imports its module.
_COMMANDS = {
    "Get annotations": {
        "download": ("Download the annotations of a project.", _transfers),
        "count": ("Count work items.", _work_items),
        "exports": ("Create, wait for and download exports.", _exports),
    },
    "Work items and assets": {
        "work-items": ("List, show and create work items.", _work_items),
        "batches": ("List, create and rename batches.", _work_items),
        "upload": ("Upload files to the storage of a space.", _transfers),
    },
    "Work with datasets": {
        "stats": ("Show dataset statistics.", _datasets),
        "validate": ("Validate COCO annotations.", _datasets),
        "report": ("Write an HTML report about a dataset, with annotated images.", _datasets),
        "compare": ("Compare two sets of annotations of the same images.", _comparing),
        "merge": ("Merge annotations into one COCO dataset.", _datasets),
        "split": ("Split annotations into COCO datasets, such as for training.", _datasets),
        "convert": ("Convert annotations to YOLO, Pascal VOC or COCO with images.", _converting),
    },
    "Tools": {
        "demo": ("Try a download with sample data.", _sandbox),
        "doctor": ("Check configuration and connectivity.", _doctor),
        "sandbox": ("Run and control a local platform.", _sandbox),
        "webhook": ("Receive and verify webhooks.", _tools),
        "request": ("Send any request to the API, and print the response body.", _tools),
        "completion": ("Print a completion script for a shell.", _tools),
    },
}


def _with_shared_options(function: F) -> F:
    for option in reversed((*SETTINGS.values(), *GLOBALS.values())):
        function = option(function)
    return function


@click.group(cls=LateGroup, late=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@_with_shared_options
@click.help_option("-h", "--help", cls=Option, section=GLOBAL, help="Show help for cfplatform or for a command.")
@click.version_option(__version__, prog_name="cfplatform", cls=Option, section=GLOBAL, help="Show the version.")
def cli(**_: Any) -> None:
    """Get finished annotations out of the CloudFactory AI Platform.

    Data is written to stdout, everything else to stderr. The exit code is 0 for success, 1 if some items or the
    platform failed, 2 if the command was wrong, 130 after Ctrl-C, and 143 after SIGTERM.

    \b
    Examples:
      cfplatform demo                try a download with sample data
      cfplatform doctor              check configuration and connectivity
      cfplatform download labels     download finished annotations
      cfplatform upload street.jpg   upload an asset to the platform
      cfplatform download --help     show all options of a command
    """
