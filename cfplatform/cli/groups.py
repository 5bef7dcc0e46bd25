"""Groups of commands: suggestions for what was mistyped, a command that is meant by default, commands loaded late."""

from __future__ import annotations

import difflib
from collections import UserDict
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem


class Group(click.Group):
    """Commands about one thing."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named, or say which one was perhaps meant; the oldest click does not."""
        name = args[0]
        if name not in self.commands and not (ctx.resilient_parsing or name.startswith("-")):
            typed = name.lower().replace("_", "-")
            found = " or ".join(f"'{each}'" for each in difflib.get_close_matches(typed, self.commands))
            hint = f"Did you mean {found}?" if found else f"'{ctx.command_path} --help' lists them."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


class DefaultGroup(Group):
    """Commands about one thing, of which one is meant where none is named.

    Args:
        default: The command that is meant.
        args: As for :class:`click.Group`.
        attributes: As for :class:`click.Group`.
    """

    def __init__(self, *args: Any, default: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; options before any command are those of the default one."""
        first = args[0] if args else ""
        # Where a shell completes the first word after the group, that may become the name of a command.
        unnamed = not (args or ctx.resilient_parsing) or (first.startswith("-") and first not in ctx.help_option_names)
        return super().parse_args(ctx, [self.default, *args] if unnamed else args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands, and the options of the default one."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            known = {item.value for item in found}
            more = self.commands[self.default].shell_complete(ctx, incomplete)
            found += [item for item in more if item.value not in known]
        return found


#: What loads a command.
Loader = Callable[[], click.Command]


class _Loaded(UserDict[str, click.Command]):
    """Commands by their names, each loaded when it is first asked for."""

    def __init__(self, loaders: dict[str, Loader]) -> None:
        super().__init__()
        self.data = dict.fromkeys(loaders)  # type: ignore[assignment]
        self._loaders = loaders

    def __getitem__(self, name: str) -> click.Command:
        if self.data[name] is None:
            self.data[name] = self._loaders[name]()
        return self.data[name]


class LateGroup(Group):
    """Commands that are imported when they are used, so that the help of the group is quick.

    Args:
        late: Of each command its name, what the list of commands says of it, and what loads it.
        attributes: As for :class:`click.Group`.
    """

    def __init__(self, *, late: dict[str, tuple[str, Loader]], **attributes: Any) -> None:
        super().__init__(commands=_Loaded({name: load for name, (_, load) in late.items()}), **attributes)
        self.short = {name: short for name, (short, _) in late.items()}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.short.items()))


def completing(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Leave a value to the shell, which completes names of files (``file``) or folders (``dir``)."""
    return lambda context, parameter, incomplete: [CompletionItem(incomplete, type=kind)]
