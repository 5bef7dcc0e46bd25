"""``cfplatform completion``."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from ..console import Output
from .common import with_output

SHELLS = ("bash", "fish", "zsh")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@with_output
def completion(output: Output, shell: str) -> None:
    """Print a script that completes commands in a shell.

    With it the Tab key completes commands, options, their values and names of files. Bash needs version 4.4 or newer.

    \b
    Examples:
      cfplatform completion fish > ~/.config/fish/completions/cfplatform.fish
      eval "$(cfplatform completion bash)"     in ~/.bashrc
      eval "$(cfplatform completion zsh)"      in ~/.zshrc, below compinit
    """
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell) or ShellComplete
    # That of the class for bash would start a bash to see its version, which need not be the one of the reader.
    script = ShellComplete.source(kind(root.command, {}, "cfplatform", "_CFPLATFORM_COMPLETE"))
    if output.as_json:
        output.json_line({"shell": shell, "script": script})
        return
    for line in script.strip().splitlines():
        output.line(line)
