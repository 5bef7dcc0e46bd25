"""The ``cfplatform`` command: each subcommand is one call of the library, and the printing of what it returned."""

from __future__ import annotations

import click

from .. import __version__
from .batches import batches
from .downloading import download
from .exports import exports
from .request import request
from .sandbox import demo, sandbox
from .uploading import upload
from .webhook import webhook
from .work_items import count, work_items

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cfplatform")
def cli() -> None:
    """Get finished labels out of the CloudFactory AI Platform.

    The key and the ids come from CF_API_KEY, CF_PROJECT_ID and CF_SPACE_ID, or from options of each command.
    Data is written to stdout, everything else to stderr. The exit code is 0 if all went well, 1 if some items or the
    platform failed, 2 if the command was wrong, and 130 after Ctrl-C.

    \b
    Examples:
      cfplatform demo                see it work, without an account
      cfplatform download labels     fetch all finished labels, or what is new
      cfplatform upload street.jpg   bring an asset to the platform
      cfplatform download --help     show all options of a command
    """


for _command in (batches, count, demo, download, exports, request, sandbox, upload, webhook, work_items):
    cli.add_command(_command)
