"""Groups of commands: suggestions for a mistyped name, a default command, commands that are imported late."""

from __future__ import annotations

import difflib
import os
import re
from collections import UserDict
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import click
from click.shell_completion import CompletionItem


class Group(click.Group):
    """Commands about one subject."""

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
        first = args[0] if args else ""
        # Where a shell completes the first word after the group, that may become the name of a command.
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
        late: The name of each command, with its line in the list of commands and the loader of its module.
        attributes: As for :class:`click.Group`.
    """

    def __init__(self, *, late: dict[str, tuple[str, Loader]], **attributes: Any) -> None:
        super().__init__(commands=_Late({name: load for name, (_, load) in late.items()}), **attributes)
        self.short = {name: short for name, (short, _) in late.items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.short.items()))


def completing(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Let the shell complete the names of files (``file``) or folders (``dir``)."""
    return lambda context, parameter, incomplete: [CompletionItem(incomplete, type=kind)]


def values(known: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Let the shell complete one of some values."""
    # Unlike the others, bash puts a value into the line as it is, and the script of click drops one backslash.
    is_bash = os.environ.get("_CFPLATFORM_COMPLETE", "").startswith("bash")
    return [
        CompletionItem(re.sub(r"([^\w@%+=:,./-])", r"\\\\\1", value) if is_bash else value)
        for value in map(str, known)
        # A line break in a name would be another value.
        if value.startswith(incomplete) and value.isprintable()
    ]
