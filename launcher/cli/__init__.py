"""The commands. A lazy group: `--help` imports none of them, and each imports only what it needs."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from launcher.core.errors import Exit, GpulaunchError, Interrupted
from launcher.core.version import VERSION

# name: (module, one line of help). The function has the module's name.
COMMANDS = {
    "up": ("launcher.cli.up", "Launch a training job under a hard cap in dollars."),
    "status": ("launcher.cli.status", "Tell where jobs stand, and what they have cost."),
    "logs": ("launcher.cli.logs", "Show what a training prints."),
    "pull": ("launcher.cli.pull", "Fetch a job's last checkpoint, log and result."),
    "report": ("launcher.cli.report", "Tell what a job did and what it cost, as a page or as data."),
    "down": ("launcher.cli.down", "End jobs and destroy their machines."),
    "sweep": ("launcher.cli.sweep", "Destroy what is past its deadline, from any computer."),
    "guard": ("launcher.cli.guard", "Watch live jobs in the foreground (systemd, cron)."),
    "init": ("launcher.cli.init", "Write a job file to start from."),
    "prices": ("launcher.cli.prices", "List what machines cost, cheapest first."),
    "estimate": ("launcher.cli.estimate", "Tell what a training will cost, and where it fits."),
    "completion": ("launcher.cli.completion", "Print the completion script for a shell."),
}


class _ReaderGoneError(Exception):
    """Whoever read our output has gone. Under its own name: click would end with exit code 1."""


class LazyGroup(click.Group):
    """A group that knows its commands by name, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a user meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess at what a misspelt name meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from error

    def invoke(self, ctx: click.Context) -> object:
        """As click does; `gpulaunch logs JOB | head` is no error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGoneError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table above."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"gpulaunch {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    r"""Rent a GPU for one training job, under a hard cap in dollars, and leave nothing behind.

    \b
    gpulaunch init                 write a job file
    gpulaunch up --budget 5        launch it; the bill never passes $5.00
    gpulaunch status               where it stands
    """


def main() -> None:
    """Run a command; turn what went wrong into words and an exit code."""
    try:
        code = cli.main(standalone_mode=False, prog_name="gpulaunch")
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = Exit.INTERRUPTED
    except GpulaunchError as error:
        _tell(error)
        code = error.exit_code
    except _ReaderGoneError:
        # What is still in the buffer would be an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.OK
    except Exception as error:  # noqa: BLE001 - the last resort: a user sees a sentence, and where the details are
        code = _tell_bug(error)
    sys.exit(code if isinstance(code, int) else Exit.OK)


def _tell(error: GpulaunchError) -> None:
    click.echo(error.what if isinstance(error, Interrupted) else f"Error: {error.what}", err=True)
    for line in (error.why, error.fix):
        if line:
            click.echo(f"  {line}", err=True)


def _tell_bug(error: Exception) -> Exit:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="gpulaunch-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    click.echo(f"Error: gpulaunch met a bug: {type(error).__name__}: {error}", err=True)
    click.echo(f"  The details are in {file.name}; please report them.", err=True)
    click.echo("  Live jobs keep their deadlines. `gpulaunch status` shows them.", err=True)
    return Exit.UNEXPECTED
