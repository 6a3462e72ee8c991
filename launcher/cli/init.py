"""`gpulaunch init`: writes a job file to start from, or prints the job file's JSON Schema."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from secrets import token_hex

import click

from launcher.core.errors import UsageError
from launcher.owner import owner_name
from providers import registry


@click.command()
@click.argument("cloud", required=False, type=click.Choice(registry.clouds()))
@click.option("--apply", "applied", is_flag=True, help="With a cloud: make it, instead of printing it.")
@click.option("--schema", is_flag=True, help="Print the job file's JSON Schema instead.")
def init(cloud: str | None, applied: bool, schema: bool) -> None:
    """Write a commented gpulaunch.yaml into this folder, or make once what a CLOUD needs.

    With a cloud it prints the roles, the machine's identity and the bucket, with least rights; --apply makes them and
    writes their names into the configuration.
    """
    from launcher.job import JOB_FILE, json_schema

    if applied and cloud is None:
        raise UsageError("--apply needs a cloud.", fix=f"gpulaunch init {registry.clouds()[0]} --apply")
    if cloud is not None:
        _init_cloud(cloud, applied=applied)
        return
    if schema:
        click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return
    write_new(Path(JOB_FILE), starter())
    click.echo(f"Wrote {JOB_FILE}. Change `command` in it to yours, then: gpulaunch up --budget 5", err=True)


def _init_cloud(cloud: str, *, applied: bool) -> None:
    """Print what a cloud needs, or make it and write it down in the configuration."""
    from launcher.cli.screen import say
    from launcher.config import cloud_settings, config_path, load_config
    from launcher.config_edit import with_section
    from launcher.core.clock import SystemClock

    config = load_config(os.environ)
    account = registry.account(cloud, clock=SystemClock(), settings=cloud_settings(cloud, config), store=config.store)
    if not applied:
        click.echo(account.document())
        say(f"Nothing was made. To make it: gpulaunch init {cloud} --apply")
        return
    made = account.apply(say)
    path = config_path(os.environ)
    store = made.pop("store", None)
    top = {"owner": config.owner or owner_name(), **({"store": store} if store and not config.store else {})}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    replace_private(path, with_section(text, cloud, made, top))
    say(f"Wrote the section {cloud!r} of {path}. Next: gpulaunch up --budget 5 --provider {cloud}")


def replace_private(path: Path, content: str) -> None:
    """Write a file whole, readable by this user only."""
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
