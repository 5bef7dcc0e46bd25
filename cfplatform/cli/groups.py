"""Commands and groups: help in sections, suggestions for a mistyped name, a default command, late imports."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import sys
from collections import UserDict
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import click
from click.shell_completion import CompletionItem

from .options import CONNECTION, GLOBAL, SECTIONS, Option, SharedOption
from .text import is_terminal, write_line

#: What precedes the examples in the help of a command.
EXAMPLES = "\b\nExamples:\n"


# --- Help -------------------------------------------------------------------------------------------------------------


class Formatter(click.HelpFormatter):
    """Writes headings in bold and names in cyan, on a terminal."""

    def _styled(self, text: str, **style: Any) -> str:
        has_colors = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
        return click.style(text, **style) if has_colors else text

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how the command is called."""
        super().write_usage(prog, args, f"{self._styled('Usage:', bold=True)} ")

    def write_heading(self, heading: str) -> None:
        """Write the heading of a section."""
        super().write_heading(self._styled(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **options: Any) -> None:
        """Write names with their descriptions."""
        super().write_dl([(self._styled(name, fg="cyan"), words) for name, words in rows], *args, **options)


class Context(click.Context):
    """The context of a command."""

    formatter_class = Formatter


class Command(click.Command):
    """A command with its options in sections; the shared ones are only named."""

    context_class = Context

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        # As for options: click names the type in errors.
        for each in self.params:
            each.type.name = each.type.name.removesuffix(" range")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; the error about a mistyped option suggests no former names."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            names = {name for each in self.params for name in each.opts}
            near = [name for name in error.possibilities or () if name in names]
            raise click.NoSuchOption(error.option_name, possibilities=near, ctx=ctx) from None

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description."""
        _write_text(self, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section."""
        _write_options(self, ctx, formatter, SECTIONS)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and the names of the shared options."""
        _write_examples(self, formatter)
        *names, last = [each.opts[0] for each in self.params if isinstance(each, SharedOption)]
        formatter.write_paragraph()
        formatter.write_text(f"It also takes {', '.join(names)} and {last}: see 'cfplatform --help'.")


command = functools.partial(click.command, cls=Command)


def _write_text(command: click.Command, formatter: click.HelpFormatter) -> None:
    formatter.write_paragraph()
    formatter.write_text(inspect.cleandoc(command.help or "").partition(EXAMPLES)[0])


def _write_examples(command: click.Command, formatter: click.HelpFormatter) -> None:
    with formatter.section("Examples"):
        for line in inspect.cleandoc(command.help or "").partition(EXAMPLES)[2].splitlines():
            formatter.write(f"{line}\n")


def _write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter, sections: Sequence[str]
) -> None:
    for title in sections:
        options = [each for each in command.params if isinstance(each, Option) and each.section == title]
        rows = [row for each in options if (row := each.get_help_record(ctx))]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


# --- Groups -----------------------------------------------------------------------------------------------------------


def _with_command_first(ctx: click.Context, args: list[str]) -> list[str]:
    """Return arguments with the name of the command before shared options: ``batches --json list``."""
    root = ctx.find_root()
    shared = {name: each for each in root.command.params if isinstance(each, SharedOption) for name in each.opts}
    place = 0
    while place < len(args) and (found := shared.get(args[place].partition("=")[0])) is not None:
        place += 1 if found.is_flag or "=" in args[place] else 2
    known = ctx.command.commands if isinstance(ctx.command, click.Group) else {}
    if 0 < place < len(args) and args[place] in known:
        return [args[place], *args[:place], *args[place + 1 :]]
    return args


class Group(click.Group):
    """Commands about one subject."""

    command_class = Command
    context_class = Context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; shared options may precede the name of the command."""
        return super().parse_args(ctx, args if ctx.parent is None else _with_command_first(ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the named command, or suggest similar ones; old versions of click do not."""
        name = args[0]
        if name not in self.commands and not (ctx.resilient_parsing or name.startswith("-")):
            typed = name.lower().replace("_", "-")
            found = " or ".join(f"'{each}'" for each in difflib.get_close_matches(typed, self.commands))
            hint = f"Did you mean {found}?" if found else f"'{ctx.command_path} --help' lists them."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description."""
        _write_text(self, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        _write_examples(self, formatter)


class DefaultGroup(Group):
    """Commands about one subject, with a default command.

    Args:
        default: The name of the default command.
        args: As for :class:`click.Group`.
        attributes: As for :class:`click.Group`.
    """

    def __init__(self, *args: Any, default: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; options before any command are those of the default command."""
        args = _with_command_first(ctx, args)
        first = args[0] if args else ""
        # While a shell completes the first word after the group, that may still become the name of a command.
        unnamed = not (args or ctx.resilient_parsing) or (first.startswith("-") and first not in ctx.help_option_names)
        return super().parse_args(ctx, [self.default, *args] if unnamed else args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands, and the options of the default command."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            known = {item.value for item in found}
            more = self.commands[self.default].shell_complete(ctx, incomplete)
            found += [item for item in more if item.value not in known]
        return found


#: Imports the module of a command, in which the command has its own name with underscores.
Loader = Callable[[], ModuleType]


class _Late(UserDict[str, click.Command]):
    """Commands by name, each imported at its first use."""

    def __init__(self, loaders: dict[str, Loader]) -> None:
        super().__init__()
        self.data = dict.fromkeys(loaders)  # type: ignore[assignment]
        self._loaders = loaders

    def __getitem__(self, name: str) -> click.Command:
        if self.data[name] is None:
            self.data[name] = getattr(self._loaders[name](), name.replace("-", "_"))
        return self.data[name]


class LateGroup(Group):
    """Commands that are imported when they are used, so that the help of the group is quick.

    Args:
        late: The sections of the list of commands; in each the name of each command, with its description and the
            loader of its module.
        attributes: As for :class:`click.Group`.
    """

    def __init__(self, *, late: dict[str, dict[str, tuple[str, Loader]]], **attributes: Any) -> None:
        loaders = {name: load for commands in late.values() for name, (_, load) in commands.items()}
        super().__init__(commands=_Late(loaders), **attributes)
        #: The descriptions of the commands, by section.
        self.sections = {
            title: {name: short for name, (short, _) in commands.items()} for title, commands in late.items()
        }

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C while an option still reads stdin stops it in the same way."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Imported late, as the commands are.
            from .errors import INTERRUPTED

            write_line(sys.stderr, "Stopped.")
            raise click.exceptions.Exit(INTERRUPTED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        width = max(len(name) for names in self.sections.values() for name in names)
        for title, names in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<{width}}", short) for name, short in names.items()])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, and the shared options."""
        self.format_commands(ctx, formatter)
        _write_options(self, ctx, formatter, (CONNECTION, GLOBAL))
