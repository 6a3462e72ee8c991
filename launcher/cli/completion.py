"""`gpulaunch completion`: the completion script for a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from launcher.cli.screen import put
from launcher.core.errors import Exit


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> int:
    r"""Print the completion script for a shell.

    \b
    bash: eval "$(gpulaunch completion bash)"
    zsh:  eval "$(gpulaunch completion zsh)"
    fish: gpulaunch completion fish | source
    """
    from launcher.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None, "the choice above names only shells that click knows"
    put(kind(cli, {}, "gpulaunch", "_GPULAUNCH_COMPLETE").source())
    return Exit.OK
