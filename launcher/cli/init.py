"""`gpulaunch init`: writes a job file to start from, or prints the job file's JSON Schema."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from secrets import token_hex

import click

from launcher.core.errors import UsageError


@click.command()
@click.option("--schema", is_flag=True, help="Print the job file's JSON Schema instead.")
def init(schema: bool) -> None:
    """Write a commented gpulaunch.yaml into this folder."""
    from launcher.job import JOB_FILE, json_schema

    if schema:
        click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    write_new(Path(JOB_FILE), starter())
    click.echo(f"Wrote {JOB_FILE}. Change `command` in it to yours, then: gpulaunch up --budget 5", err=True)


def starter() -> str:
    """The commented job file to start from."""
    from importlib.resources import files

    return (files("templates") / "jobs" / "starter.yaml").read_text(encoding="utf-8")


def write_new(path: Path, content: str) -> None:
    """Write a file that does not exist yet, whole or not at all.

    Raises UsageError when something has that name already, or when the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _move_without_overwriting(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(
            f"{path} exists already.",
            "It may hold work of yours, so it is left as it is.",
            f"To start anew: mv {path} {path}.old && gpulaunch init",
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written.", f"{error.strerror or error}.", "Check the folder's rights and its free space."
        ) from error


def _move_without_overwriting(source: Path, target: Path) -> None:
    """A link, unlike a rename, fails when the name is taken. Some file systems have none (exFAT): look, then rename."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if os.path.lexists(target):
            raise FileExistsError(target) from error
        source.rename(target)
