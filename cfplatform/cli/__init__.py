"""The ``cfplatform`` command: each subcommand is one call of the library, and prints the result."""

from __future__ import annotations

from types import ModuleType

import click

from .._version import __version__
from .groups import LateGroup

__all__ = ["cli"]


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


#: The first sentence of the help of each command, and what imports its module.
_COMMANDS = {
    "batches": ("List, create and rename batches.", _work_items),
    "compare": ("Compare two sets of labels of the same images.", _comparing),
    "completion": ("Print a completion script for a shell.", _tools),
    "convert": ("Convert annotations to YOLO, Pascal VOC or COCO with images.", _converting),
    "count": ("Count work items.", _work_items),
    "demo": ("Try a download with sample data.", _sandbox),
    "doctor": ("Check configuration and connectivity.", _doctor),
    "download": ("Download the annotations of a project.", _transfers),
    "exports": ("Create, wait for and download exports.", _exports),
    "merge": ("Merge annotations into one COCO dataset.", _datasets),
    "report": ("Write an HTML report about a dataset, with annotated images.", _datasets),
    "request": ("Send any request to the API, and print the response body.", _tools),
    "sandbox": ("Run and control a local platform.", _sandbox),
    "split": ("Split annotations into COCO datasets, such as for training.", _datasets),
    "stats": ("Show dataset statistics.", _datasets),
    "upload": ("Upload files to the storage of a space.", _transfers),
    "validate": ("Validate COCO annotations.", _datasets),
    "webhook": ("Receive and check deliveries of webhooks.", _tools),
    "work-items": ("List, show and create work items.", _work_items),
}


@click.group(cls=LateGroup, late=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cfplatform")
def cli() -> None:
    """Get finished annotations out of the CloudFactory AI Platform.

    The key and the IDs come from CF_API_KEY, CF_PROJECT_ID and CF_SPACE_ID, or from options of each command.
    Data is written to stdout, everything else to stderr. The exit code is 0 for success, 1 if some items or the
    platform failed, 2 if the command was wrong, 130 after Ctrl-C, and 143 after SIGTERM.

    \b
    Examples:
      cfplatform demo                try a download with sample data
      cfplatform doctor              check what is missing, and what to do
      cfplatform download labels     download finished annotations, or new ones
      cfplatform upload street.jpg   upload an asset to the platform
      cfplatform download --help     show all options of a command
    """
