"""`gpulaunch down`: end jobs and see their machines gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.screen import confirm, is_interactive, put_json, say, summary
from launcher.cli.state import Context, await_guard_exit, ensure_guards, open_state_if_any
from launcher.core.errors import Exit, Interrupted, UsageError
from launcher.outcome import State
from launcher.views import job_view

if TYPE_CHECKING:
    from launcher.records import Job

# How long `down` waits for machines to be seen gone; the guard goes on for ever.
PATIENCE_S = 600.0
GUARD_CHECK_S = 2.0


@click.command()
@click.argument("jobs", nargs=-1, metavar="JOB...")
@click.option("--all", "all_jobs", is_flag=True, help="Every live job.")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def down(*, jobs: tuple[str, ...], all_jobs: bool, yes: bool, as_json: bool) -> int:
    """End jobs, destroy their machines, and wait until they are seen gone.

    JOB is a name or an id. The training gets SIGTERM and what notice its machine's provider allows.
    """
    if bool(jobs) == all_jobs:
        raise UsageError("Which job?", fix="Name it: gpulaunch down JOB, or end every live job: gpulaunch down --all")
    state = open_state_if_any()
    if state is None:
        if jobs:
            raise UsageError(f"There is no job {jobs[0][:60]!r}.", "No job was ever launched here.")
        put_json([]) if as_json else say("No job is live.")
        return Exit.OK
    chosen = state.journal.jobs(live=True) if all_jobs else [state.journal.find(job) for job in jobs]
    live = [job for job in chosen if job.state != State.GONE]
    if not as_json:
        _tell_gone(chosen, all_jobs=all_jobs)
    _cancel(state, live, yes=yes)
    try:
        confirmed = _await_gone(state, [job.id for job in live])
    except KeyboardInterrupt:
        raise Interrupted("The guard goes on ending what was asked for.", fix="Follow it: gpulaunch status") from None
    if confirmed:
        await_guard_exit(state, {job.account for job in live})
    now = state.clock.now()
    views = [job_view(state.journal.job(job.id), state.journal.attempts(job.id), now) for job in chosen]
    if as_json:
        put_json(views)
    else:
        _show_ends([view for view in views if view["job"] in {job.id for job in live}])
    if not confirmed:
        say("NOT CONFIRMED GONE: something may still be billed. The guard goes on trying: gpulaunch status")
    return Exit.OK if confirmed else Exit.UNCONFIRMED


def _tell_gone(chosen: list[Job], *, all_jobs: bool) -> None:
    for job in chosen:
        if job.state == State.GONE:
            say(f"{job.name} is gone already.")
    if all_jobs and not chosen:
        say("No job is live.")


def _cancel(state: Context, live: list[Job], *, yes: bool) -> None:
    if not live:
        return
    _confirm(", ".join(job.name for job in live), yes=yes)
    for job in live:
        state.journal.request_cancel(job.id, now=state.clock.now(), by="down")


def _show_ends(views: list[dict[str, Any]]) -> None:
    for view in views:
        if view["state"] == State.GONE:
            for line in summary(view):
                click.echo(line)


def _confirm(names: str, *, yes: bool) -> None:
    if yes:
        return
    if not is_interactive():
        raise UsageError("There is no terminal to ask for a confirmation.", fix="Add --yes to end without a question.")
    confirm(f"End {names} and destroy what was made for it?", "Nothing was changed.")


def _await_gone(state: Context, job_ids: list[str]) -> bool:
    """Wait until all are gone, keeping a guard alive; False when the time is up first."""
    ends = time.monotonic() + PATIENCE_S
    check_due = 0.0
    while True:
        left = [job for job in map(state.journal.job, job_ids) if job.state != State.GONE]
        if not left:
            return True
        if time.monotonic() >= ends:
            return False
        if time.monotonic() >= check_due:
            check_due = time.monotonic() + GUARD_CHECK_S
            ensure_guards(state, {job.account for job in left})
        time.sleep(0.1)
