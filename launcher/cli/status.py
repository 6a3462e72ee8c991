"""`gpulaunch status`: where jobs stand. Reads the journal only: no network, no SDK."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.screen import ending, energy_line, metric_line, money, put, put_json, say, table
from launcher.cli.state import Context, await_first_look, ensure_guards, open_state_if_any
from launcher.core.errors import Exit, UsageError
from launcher.outcome import State
from launcher.report.forecast_text import forecast_remark, other_notes
from launcher.views import job_exit_code, job_view

if TYPE_CHECKING:
    from launcher.records import Job

# Without --all: live jobs, and those that ended within a day, the newest of them.
RECENT = timedelta(days=1)
MOST_RECENT = 10


@click.command()
@click.argument("job", required=False)
@click.option("--watch", is_flag=True, help="Go on showing it, each second, until no job is live. Ctrl-C leaves.")
@click.option("--all", "all_jobs", is_flag=True, help="Every job that was ever launched here.")
@click.option("--exit-status", is_flag=True, help="Exit with the job's own code (8 while it runs).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status(*, job: str | None, watch: bool, all_jobs: bool, exit_status: bool, as_json: bool) -> int:
    """Tell where jobs stand, and what they have cost.

    JOB is a name or an id; without it, live jobs and those that ended within a day are shown. With --watch this is a
    live table on a terminal, and elsewhere a line for each change; with --json, one document in each line.
    """
    if exit_status and job is None:
        raise UsageError("--exit-status is about one job.", fix="Name it: gpulaunch status JOB --exit-status")
    state = open_state_if_any()
    if state is None:
        if job is not None:
            raise UsageError(f"There is no job {job[:60]!r}.", "No job was ever launched here.", "gpulaunch up")
        put_json([]) if as_json else say("No job was ever launched here. Launch one: gpulaunch up --budget 5")
        return Exit.OK
    revive_guards(state)
    chosen = state.journal.find(job).id if job is not None else None

    def select() -> list[Job]:
        return _selected(state, all_jobs=all_jobs) if chosen is None else [state.journal.job(chosen)]

    jobs = select()
    if watch and jobs:
        from launcher.cli.watch import watch as go_on_showing

        go_on_showing(state, select, as_json=as_json)
        jobs = select()
    else:
        _show_once(state, jobs, one=job is not None, as_json=as_json)
    return job_exit_code(jobs[0], state.journal.attempts(jobs[0].id)) if exit_status else Exit.OK


def _show_once(state: Context, jobs: list[Job], *, one: bool, as_json: bool) -> None:
    now = state.clock.now()
    attempts = {job.id: state.journal.attempts(job.id) for job in jobs}
    views = [job_view(job, attempts[job.id], now) for job in jobs]
    if as_json:
        put_json(views)
    else:
        _show(views, {job.id: forecast_remark(job, attempts[job.id], now) for job in jobs}, one=one)


def revive_guards(state: Context) -> None:
    """Start a guard for every live job that has none, and give it a moment to look at everything once."""
    started = ensure_guards(state, state.journal.live_accounts())
    if started:
        await_first_look(state, started)


def _selected(state: Context, *, all_jobs: bool) -> list[Job]:
    if all_jobs:
        return state.journal.jobs()
    since = state.clock.now() - RECENT
    ended = state.journal.jobs(live=False, limit=MOST_RECENT)
    return state.journal.jobs(live=True) + [job for job in ended if (job.ended_at or job.created_at) >= since]


def _show(views: list[dict[str, Any]], forecasts: dict[str, str], *, one: bool) -> None:
    if not views:
        say("No job is live, and none ended within a day. Earlier ones: gpulaunch status --all")
        return
    header = ("JOB", "STATE", "PROVIDER", "$/H", "SPENT", "CAP", "ENDS BY", "METRIC")
    for line in table(header, [_row(view) for view in views]):
        put(line)
    for view in views:
        for text in _remarks(view, forecasts[view["job"]], one=one):
            put(text)


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    live = view["state"] != State.GONE
    spent = money(view["spend_usd"]) + ("" if view["spend_confirmed"] or live else " at most")
    return (
        view["name"],
        view["state"] if live else ending(view),
        view["provider"],
        money(view["rate_usd_per_hour"]) if view["rate_usd_per_hour"] else "",
        spent,
        money(view["cap_usd"]),
        (view["soft_deadline"] or "") if live else "",
        metric_line(view, most=1),
    )


def _remarks(view: dict[str, Any], forecast: str, *, one: bool) -> list[str]:
    notes = [*other_notes(view["notes"]), forecast] if forecast else view["notes"]
    remarks = [f"{view['name']}: {note}" for note in notes]
    if view["trouble"]:
        remarks.append(f"{view['name']}: {view['trouble']}")
    if view["state"] == State.DELETING:
        remarks.append(f"{view['name']}: NOT CONFIRMED GONE YET; something may still be billed. It is being retried.")
    taken = energy_line(view)
    # What is assumed follows from the rate; what was measured is news.
    if taken and (one or view["temperature"] or view["energy"]["measured"]):
        remarks.append(f"{view['name']}: {taken}")
    if one and view["log_path"]:
        remarks.append(f"log: gpulaunch logs {view['name']}   machine: {view['machine_id']}   id: {view['job']}")
    return remarks
