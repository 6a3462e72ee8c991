"""`gpulaunch sweep`: find what carries our tag, on every provider, and destroy what is past its deadline."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from launcher.cli.screen import duration, is_interactive, put, put_json, say, table
from launcher.cli.state import open_state_if_any
from launcher.config import cloud_settings, config_path, load_config, state_home
from launcher.core.clock import SystemClock, rfc3339
from launcher.core.errors import GpulaunchError, Interrupted, StateError, UsageError
from launcher.core.money import usd_text
from launcher.owner import owner_hash
from launcher.sweep import Action, Found, Reason, destroy, exit_code, judge, list_all, sweep_json
from providers import registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from launcher.core.clock import Clock
    from launcher.jobfile.config_schema import Config
    from providers.base import Provider

# What must be typed before anything is destroyed that is not past its deadline.
WORD = "destroy"


@click.command()
@click.option(
    "--provider",
    "names",
    metavar="P",
    multiple=True,
    type=click.Choice(registry.USER_PROVIDERS),
    help=f"Only this provider ({', '.join(registry.USER_PROVIDERS)}); may be given again.",
)
@click.option("--region", "regions", metavar="R", multiple=True, help="Only this region; may be given again.")
@click.option("--unknown", is_flag=True, help="Also offer what is not due and what no job of this computer knows.")
@click.option("--dry-run", is_flag=True, help="Show what it would destroy; destroy nothing.")
@click.option("--yes", is_flag=True, help="Do not ask about what is past its deadline. Required without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def sweep(
    *, names: tuple[str, ...], regions: tuple[str, ...], unknown: bool, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Destroy what is past its deadline, from any computer with credentials.

    Needs no journal: job, cap and deadline are read from each machine's tags. Nothing else is touched, and nothing of
    another owner. Exit code 9: something could not be confirmed gone.
    """
    _refuse_blind(unknown=unknown, dry_run=dry_run, yes=yes)
    config = load_config(os.environ)
    owner = owner_hash(config)
    clock = SystemClock()
    providers = _providers(names, regions, config, clock)
    machines, failed = list_all(providers, owner, clock)
    for name, error in failed.items():
        _tell_failure(name, error)
    known = _known(needed=unknown)  # read after the listing: a machine made in between is in the journal already
    now = clock.now()
    found = [
        judge(name, machine, owner=owner, now=now, known=known)
        for name, listed in machines.items()
        for machine in listed
        if not regions or machine.region in regions
    ]
    due = [each for each in found if each.past_deadline]
    offered = [each for each in found if unknown and each.is_unknown]
    if dry_run:
        fates = [replace(each, action=Action.WOULD_DESTROY) for each in due + offered]
    else:
        doomed = _confirmed(due, offered, yes=yes, now=now)
        fates = destroy(doomed, providers, clock, tell=_tell_fate)
    results = _merged(found, fates)
    if as_json:
        put_json([sweep_json(each) for each in results])
    else:
        _show(results, now, everything=dry_run or unknown)
    if not found and not failed and not as_json:
        who = config.owner or f"this user of this computer (for another, write `owner` into {config_path(os.environ)})"
        where = f" in {', '.join(regions)}" if regions else ""
        say(f"Nothing to sweep{where}: there is no machine of {who}.")
    return exit_code(results, failed)


def _refuse_blind(*, unknown: bool, dry_run: bool, yes: bool) -> None:
    """Without a terminal: nothing without --yes, and never what is not due."""
    if dry_run or is_interactive():
        return
    if unknown:
        raise UsageError(
            "--unknown needs a terminal.",
            "On another computer every live job is unknown, so a person must look and type a word.",
            "Run it on a terminal, or add --dry-run to list what it would offer.",
        )
    if not yes:
        raise UsageError(
            "There is no terminal to ask for a confirmation.",
            fix="Add --yes to destroy what is past its deadline without a question, or --dry-run to list it.",
        )


def _providers(names: tuple[str, ...], regions: tuple[str, ...], config: Config, clock: Clock) -> dict[str, Provider]:
    """The named providers, or all that have credentials here. Raises GpulaunchError for a named one that cannot.

    Regions that are named are the only ones asked, where a provider asks each: a policy may forbid the others.
    """
    loaded: dict[str, Provider] = {}
    for name in names or _able(config):
        settings = {} if name == "local" else {**cloud_settings(name, config), "regions": regions}
        try:
            loaded[name] = registry.load(name, clock=clock, home=str(state_home(os.environ)), settings=settings)
        except GpulaunchError as error:
            if names:
                raise
            _tell_failure(name, error)
    return loaded


def _able(config: Config) -> list[str]:
    clouds = registry.clouds()
    able = [name for name in clouds if registry.has_credentials(name, os.environ, cloud_settings(name, config))]
    return ["local", *able]


def _known(*, needed: bool) -> frozenset[str]:
    """The tokens and ids of every machine that a live job of this computer answers for.

    A journal that cannot be read keeps nothing from ending that is due; it does keep `--unknown` from choosing.
    """
    try:
        state = open_state_if_any()
        if state is None:
            return frozenset()
        accounts = state.journal.live_accounts()
        attempts = [attempt for account in accounts for attempt in state.journal.live_attempts(account)]
    except StateError as error:
        if needed:
            raise
        say(f"The journal here cannot be read, and is not needed: {error}")
        return frozenset()
    return frozenset(name for attempt in attempts for name in (attempt.token, attempt.machine_id) if name)


def _confirmed(due: list[Found], offered: list[Found], *, yes: bool, now: datetime) -> list[Found]:
    """What may be destroyed, after asking a person about it."""
    doomed = []
    if due and not yes:
        _list_for_question(due, now)
        if not click.confirm(f"Destroy {_machines(due)} past the deadline?", default=True, err=True):
            raise Interrupted("Nothing was destroyed.")
    doomed += due
    if offered:
        _list_for_question(offered, now)
        say("No job of this computer knows these. A job that another computer launched may be running on them.")
        typed = click.prompt(f"Type {WORD} to destroy {_machines(offered)}", default="", show_default=False, err=True)
        if typed.strip() == WORD:
            doomed += offered
        else:
            say(f"Not destroyed: {WORD!r} was not typed.")
    return doomed


def _machines(found: Sequence[Found]) -> str:
    return "1 machine" if len(found) == 1 else f"{len(found)} machines"


def _merged(found: list[Found], fates: list[Found]) -> list[Found]:
    """Every machine once, in order, with its fate where it has one."""
    by_key = {(each.provider, each.machine.id): each for each in fates}
    return [by_key.get((each.provider, each.machine.id), each) for each in found]


# What is told


def _tell_failure(name: str, error: GpulaunchError) -> None:
    say(f"{name} was not swept: {error}")


def _tell_fate(found: Found) -> None:
    if found.action == Action.DESTROYED:
        say(f"{found.machine.id} is gone.")
    else:
        said = f" {found.error}" if found.error is not None else ""
        say(f"{found.machine.id} is NOT CONFIRMED GONE: something may still be billed.{said} Run the sweep again.")


def _list_for_question(found: list[Found], now: datetime) -> None:
    for line in table(_HEADER, [_row(each, now) for each in found]):
        say(line)


def _show(results: list[Found], now: datetime, *, everything: bool) -> None:
    """What came of each; of what was left only what a person should look at, unless all was asked for."""
    for each in results:
        if each.reason == Reason.UNREADABLE_DEADLINE and each.action == Action.LEFT:
            say(f"{each.machine.id} was left alone: its deadline cannot be read. Look at it: gpulaunch sweep --unknown")
        if each.reason == Reason.OTHER_OWNER:
            say(f"{each.machine.id} was left alone: it carries another owner's tag.")
    shown = [each for each in results if everything or each.action != Action.LEFT]
    if shown:
        for line in table(_HEADER, [_row(each, now) for each in shown]):
            put(line)
    elif results:
        live = [each for each in results if each.reason == Reason.WITHIN_DEADLINE]
        say(f"Nothing is past its deadline; {_machines(live)} within it.")


_HEADER = ("PROVIDER", "MACHINE", "JOB", "CAP", "DEADLINE", "STATE", "ACTION", "WHY")


def _row(found: Found, now: datetime) -> tuple[str, ...]:
    attempt = f" #{found.attempt}" if found.attempt is not None else ""
    return (
        found.provider,
        found.machine.id,
        f"{found.job or '?'}{attempt}",
        "?" if found.cap_usd is None else usd_text(found.cap_usd),
        "?" if found.deadline is None else rfc3339(found.deadline),
        str(found.machine.state),
        str(found.action).replace("_", " "),
        _why(found, now),
    )


def _why(found: Found, now: datetime) -> str:
    if found.reason == Reason.OTHER_OWNER:
        return "another owner's"
    if found.deadline is None:
        return "no readable deadline"
    left_s = (found.deadline - now).total_seconds()
    if found.past_deadline:
        return f"due {duration(-left_s)} ago"
    watched = "" if found.known else ", no job here knows it"
    return f"due in {duration(left_s)}{watched}"
