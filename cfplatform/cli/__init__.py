"""The ``cfplatform`` command: each subcommand is one call of the library, and the printing of what it returned."""

from __future__ import annotations

import click

from .._version import __version__
from .groups import LateGroup

__all__ = ["cli"]


def _batches() -> click.Command:
    from .batches import batches

    return batches


def _completion() -> click.Command:
    from .completion import completion

    return completion


def _count() -> click.Command:
    from .work_items import count

    return count


def _demo() -> click.Command:
    from .sandbox import demo

    return demo


def _doctor() -> click.Command:
    from .doctor import doctor

    return doctor


def _download() -> click.Command:
    from .downloading import download

    return download


def _exports() -> click.Command:
    from .exports import exports

    return exports


def _merge() -> click.Command:
    from .merging import merge

    return merge


def _report() -> click.Command:
    from .report import report

    return report


def _request() -> click.Command:
    from .request import request

    return request


def _sandbox() -> click.Command:
    from .sandbox import sandbox

    return sandbox


def _split() -> click.Command:
    from .merging import split

    return split


def _stats() -> click.Command:
    from .stats import stats

    return stats


def _upload() -> click.Command:
    from .uploading import upload

    return upload


def _validate() -> click.Command:
    from .validate import validate

    return validate


def _webhook() -> click.Command:
    from .webhook import webhook

    return webhook


def _work_items() -> click.Command:
    from .work_items import work_items

    return work_items


#: Each command, what the list of commands says of it (the first sentence of its help), and what loads it.
_COMMANDS = {
    "batches": ("List, create and rename batches.", _batches),
    "completion": ("Print a script that completes commands in a shell.", _completion),
    "count": ("Count work items.", _count),
    "demo": ("See a download at work, without an account.", _demo),
    "doctor": ("Check the settings and the way to the platform.", _doctor),
    "download": ("Download labels into a folder, or to a store.", _download),
    "exports": ("Make, wait for and download exports.", _exports),
    "merge": ("Join labels into one COCO dataset.", _merge),
    "report": ("Write one page about labels, with pictures.", _report),
    "request": ("Send any request to the API, and print the body of the answer.", _request),
    "sandbox": ("Run a platform on this machine, and change what it holds.", _sandbox),
    "split": ("Divide labels into COCO datasets, such as for training.", _split),
    "stats": ("Count what is in labels.", _stats),
    "upload": ("Upload files to the storage of the space.", _upload),
    "validate": ("Find what is wrong with labels, and where.", _validate),
    "webhook": ("Check deliveries of webhooks.", _webhook),
    "work-items": ("List, show and create work items.", _work_items),
}


@click.group(cls=LateGroup, late=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cfplatform")
def cli() -> None:
    """Get finished labels out of the CloudFactory AI Platform.

    The key and the ids come from CF_API_KEY, CF_PROJECT_ID and CF_SPACE_ID, or from options of each command.
    Data is written to stdout, everything else to stderr. The exit code is 0 if all went well, 1 if some items or the
    platform failed, 2 if the command was wrong, and 130 after Ctrl-C.

    \b
    Examples:
      cfplatform demo                see it work, without an account
      cfplatform doctor              see what is missing, and what to do
      cfplatform download labels     fetch all finished labels, or what is new
      cfplatform upload street.jpg   bring an asset to the platform
      cfplatform download --help     show all options of a command
    """
