"""Options of commands: their sections and aliases, what the shell completes, and those that most commands share."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

#: Sections of the help of a command, in their order.
SELECTION, PARTS, OPTIONS, OUTPUT = "Selection", "Parts", "Options", "Output"
SECTIONS = (SELECTION, PARTS, OPTIONS, OUTPUT)
#: Sections of ``cfplatform --help``, which has the shared options.
CONNECTION, GLOBAL = "Connection options", "Global options"

_METAVARS = {"integer": "N", "float": "N", "filename": "FILE", "text": "TEXT"}


class Option(click.Option):
    """An option with a place in the help, and former names.

    Args:
        args: As for :class:`click.Option`.
        section: The section of the help.
        aliases: Former names, which still work; neither help nor completion shows them.
        attributes: As for :class:`click.Option`.
    """

    def __init__(self, *args: Any, section: str = OPTIONS, aliases: Iterable[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section
        self.aliases = list(aliases)
        # click names it in errors: "'x' is not a valid integer range".
        self.type.name = self.type.name.removesuffix(" range")
        if not self.is_flag and self.metavar is None:
            choices = getattr(self.type, "choices", None)
            self.metavar = "|".join(map(str, choices)) if choices else _METAVARS[self.type.name]

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Add the option to the parser, with its aliases."""
        shown = self.opts
        self.opts = [*shown, *self.aliases]
        super().add_to_parser(parser, ctx)
        self.opts = shown

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return names and description, with the variable and the default."""
        if self.hidden:
            return None
        names = ", ".join(sorted(self.opts, key=len))
        words = [self.help or ""]
        if self.show_envvar:
            words.append(f"[{self.envvar}]")
        if self.show_default:
            usual = ", ".join(self.default) if isinstance(self.default, list) else self.default
            words.append(f"[default: {usual}]")
        return names if self.is_flag else f"{names} {self.metavar}", "  ".join(words)


class SharedOption(Option):
    """An option that may also be given before the command."""

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:
        """Return the value given after the command, else the one given before it."""
        value, source = super().consume_value(ctx, opts)
        root, name = ctx.find_root(), str(self.name)
        if source is not ParameterSource.COMMANDLINE and root is not ctx:
            before = root.get_parameter_source(name)
            if before is ParameterSource.COMMANDLINE:
                return root.params[name], before
        return value, source


option = functools.partial(click.option, cls=Option)
#: An option whose default is shown.
usual = functools.partial(option, show_default=True)


def completing(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Let the shell complete the names of files (``file``) or folders (``dir``)."""
    return lambda context, parameter, incomplete: [CompletionItem(incomplete, type=kind)]


def values(known: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Let the shell complete one of these values."""
    # Unlike the others, bash puts a value into the line as it is, and the script of click drops one backslash.
    is_bash = os.environ.get("_CFPLATFORM_COMPLETE", "").startswith("bash")
    return [
        CompletionItem(re.sub(r"([^\w@%+=:,./-])", r"\\\\\1", value) if is_bash else value)
        for value in map(str, known)
        # A line break in a name would be another value.
        if value.startswith(incomplete) and value.isprintable()
    ]


# --- Shared options ---------------------------------------------------------------------------------------------------


def _unless_from_environment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Leave variables to the library, which reads the same ones and names them in its errors."""
    source = context.get_parameter_source(parameter.name or "")
    return None if source is ParameterSource.ENVIRONMENT else value


def _profile_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from . import profiles

    try:
        return values(profiles.names(), incomplete)
    except click.UsageError:
        return []


_shared = functools.partial(click.option, cls=SharedOption, section=CONNECTION, show_envvar=True)
_setting = functools.partial(_shared, callback=_unless_from_environment)
_output = functools.partial(click.option, cls=SharedOption, section=GLOBAL, is_flag=True)

#: The connection options, by their names in :class:`~cfplatform.Client`, and the profile.
SETTINGS = {
    "api_key": _setting(
        "--api-key",
        metavar="KEY",
        envvar="CF_API_KEY",
        help="API key. Prefer the variable: arguments are visible to other users.",
    ),
    "base_url": _setting(
        "--base-url", metavar="URL", envvar="CF_PLATFORM_BASE_URL", help="Base URL of the API (default: production)."
    ),
    "project_id": _setting("--project-id", metavar="ID", envvar="CF_PROJECT_ID", help="Project ID."),
    "space_id": _setting(
        "--space-id", metavar="ID", envvar="CF_SPACE_ID", help="Space ID (downloads detect it from the project)."
    ),
    "profile": _shared(
        "--profile",
        metavar="NAME",
        envvar="CF_PROFILE",
        shell_complete=_profile_names,
        help='Profile in the configuration file (default: "default").',
    ),
}
#: The output options.
GLOBALS = {
    "as_json": _output("--json", "as_json", help="Write only JSON lines to stdout."),
    "quiet": _output("-q", "--quiet", help="Print only data and errors."),
    "debug": _output("--debug", help="Show tracebacks and a log of all requests on stderr."),
}
