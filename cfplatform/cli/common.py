"""What commands share: options on the connection, on filters and on output; cells of rows."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, Protocol, TypeVar

import click
from click.core import ParameterSource

from .. import http, params
from ..client import Client
from ..console import Look, Output

F = TypeVar("F", bound=Callable[..., Any])
#: Values of options, under the names that the library has for them.
Options = dict[str, Any]


class Decorator(Protocol):
    """Something that adds options to a command."""

    def __call__(self, function: F, /) -> F:
        """Return the command with them."""
        ...


def _unless_from_environment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Leave variables to the library, which reads the same ones and names them in its errors."""
    source = context.get_parameter_source(parameter.name or "")
    return None if source is ParameterSource.ENVIRONMENT else value


_setting = functools.partial(click.option, show_envvar=True, callback=_unless_from_environment)
_time = functools.partial(click.option, metavar="TIME")
#: An option whose default is shown.
usual = functools.partial(click.option, show_default=True)


class Seconds(click.FloatRange):
    """A time in seconds; that of click takes "nan" and "inf" for numbers in its range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        seconds: float = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


#: How long a run waits for an outage to end.
with_patience = usual(
    "--patience",
    type=Seconds(0),
    metavar="SECONDS",
    default=int(http.DEFAULT_PATIENCE),
    help="Seconds to wait for an outage to end.",
)

_CONNECTION = {
    "api_key": _setting("--api-key", envvar="CF_API_KEY", help="The API key; in the variable nobody else can see it."),
    "base_url": _setting("--base-url", envvar="CF_PLATFORM_BASE_URL", help="The API, if not the production one."),
    "project_id": _setting("--project-id", envvar="CF_PROJECT_ID", help="The project."),
    "space_id": _setting("--space-id", envvar="CF_SPACE_ID", help="The space; found by itself if omitted."),
}
_SPACE = {**_CONNECTION, "space_id": _setting("--space-id", envvar="CF_SPACE_ID", help="The space.")}
_DATES = {
    "created_at_from": _time("--created-from", "created_at_from", help="Only items created at this time or later."),
    "created_at_to": _time("--created-to", "created_at_to", help="Only items created at this time or before."),
    "updated_at_from": _time("--updated-from", "updated_at_from", help="Only items changed at this time or later."),
    "updated_at_to": _time("--updated-to", "updated_at_to", help="Only items changed at this time or before."),
}
_FILTERS = {
    "batch_ids": click.option("--batch-id", "batch_ids", type=int, multiple=True, help="Only this batch; repeatable."),
    "batch_names": click.option("--batch-name", "batch_names", multiple=True, help="Only this batch; repeatable."),
    "work_item_ids": click.option("--work-item-id", "work_item_ids", multiple=True, help="Only this item; repeatable."),
    "status": usual("--status", default="COMPLETED", help='Only this status; "any" for every one.'),
    **_DATES,
}
_OUTPUT = {
    "as_json": click.option("--json", "as_json", is_flag=True, help="Write JSON lines to stdout, and nothing else."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Only data and errors: no progress, no decoration."),
    "debug": click.option("--debug", is_flag=True, help="Show tracebacks and a log of all requests on stderr."),
}


def _gathering(parameter: str, options: dict[str, Callable[[Any], Any]]) -> Decorator:
    """Add options to a command, which gets their values as one dict."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            gathered = {name: values.pop(name) for name in options}
            return function(**{parameter: gathered}, **values)

        for option in reversed(options.values()):
            command = option(command)
        return command  # type: ignore[return-value]

    return decorate


def with_output(function: Callable[..., int | None]) -> Callable[..., None]:
    """Add the options on output; the command runs inside of it and returns the exit code."""

    @_gathering("options", _OUTPUT)
    @functools.wraps(function)
    def command(options: dict[str, bool], **values: Any) -> None:
        output = Output(**options)
        click.get_current_context().exit(output.run(lambda: function(output=output, **values)))

    return command


def connected(*settings: str) -> Decorator:
    """Add the named options of :class:`~cfplatform.Client`."""
    known = _CONNECTION if "project_id" in settings else _SPACE
    return _gathering("connection", {name: known[name] for name in settings})


with_connection: Decorator = connected("api_key", "base_url", "project_id", "space_id")
with_project: Decorator = connected("api_key", "base_url", "project_id")
with_space: Decorator = connected("api_key", "base_url", "space_id")
with_filters: Decorator = _gathering("filters", _FILTERS)
with_dates: Decorator = _gathering("dates", _DATES)


@contextlib.contextmanager
def opened(output: Output, connection: Options, **settings: Any) -> Iterator[Client]:
    """Open a client, and show on stderr when it waits for the platform."""
    with Client(**connection, **settings) as client:
        calls = client._calls
        with output.watching(Look(calls.trouble, calls.unanswered)):
            yield client


def resolved(client: Client, filters: Options) -> Options:
    """Return filters as the library takes them: batch names looked up, and what was not given as ``None``."""
    batches = [*filters["batch_ids"], *(client.get_batch(name=name).id for name in filters["batch_names"])]
    given = {**filters, "batch_ids": batches or None, "work_item_ids": filters["work_item_ids"] or None}
    if filters["status"].strip().lower() == "any":
        given["status"] = None
    return {name: given[name] for name in params.FILTER_NAMES}


def given(**options: Any) -> Options:
    """Return the options that were given; the library has a default for each of the others."""
    return {name: value for name, value in options.items() if value is not None}


def text(value: object) -> str:
    """Return the cell for a value."""
    return "-" if value is None else str(value)


def moment(value: datetime | None, in_table: bool) -> str:
    """Return the cell for a time, in UTC."""
    if value is None:
        return "-"
    utc = value.astimezone(timezone.utc).replace(tzinfo=None)
    return f"{utc:%Y-%m-%d %H:%M}" if in_table else f"{utc.isoformat(timespec='milliseconds')}Z"
