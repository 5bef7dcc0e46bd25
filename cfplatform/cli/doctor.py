"""``cfplatform doctor``."""

from __future__ import annotations

import click

from ..console import FAILED, Output
from . import checks
from .common import Options, with_connection, with_output
from .groups import completing


@click.command()
@click.argument("destination", default=".", shell_complete=completing("dir"))
@with_connection
@with_output
def doctor(output: Output, connection: Options, destination: str) -> int:
    """Check the settings and the way to the platform.

    Looks at versions, key, base URL, ids, proxy and certificate authorities, sends the platform one small request,
    compares the clock with the platform's, and writes into DESTINATION (this folder if omitted) a file that is gone at
    once. Each check is ok, a warning, or failed, and then says what to do. The exit code is 1 if any failed. The key is
    never printed.

    On a terminal it is a table; into a pipe tab-separated lines of check, status, what was found and advice; with
    --json one object a line.

    \b
    Examples:
      cfplatform doctor
      cfplatform doctor labels
      cfplatform doctor --json | jq -r 'select(.status != "ok") | .advice'
    """
    done = list(checks.all_checks(output, connection, destination))
    if output.tables:
        output.checks([(each.status, each.check, each.found, each.advice) for each in done])
    elif output.as_json:
        for each in done:
            output.json_line(each.as_dict())
    else:
        for each in done:
            output.row((each.check, each.status, each.found, each.advice or ""))
    failed = [each.check for each in done if each.status == checks.FAILED]
    if failed:
        output.error(f"{len(failed)} of {len(done)} checks failed: {', '.join(failed)}.")
        return FAILED
    output.note("No check failed.")
    return 0
