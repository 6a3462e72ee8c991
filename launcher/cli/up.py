"""`gpulaunch up`: from a job file to a machine under a cap."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from launcher import guard_process, limits, workdir
from launcher.choice import choose
from launcher.cli import follow, show_plan
from launcher.cli.screen import confirm, is_interactive, put_json, say, summary
from launcher.cli.state import Context, await_guard_exit, open_state, open_state_if_any
from launcher.config import config_path, load_config, state_home
from launcher.core.clock import SystemClock
from launcher.core.errors import Exit, UsageError
from launcher.job import find_job_file, load_job, spec_to_json, with_flags
from launcher.outcome import State
from launcher.owner import owner_hash
from launcher.plan import Plan, plan_json
from launcher.records import Job
from launcher.views import job_exit_code, job_view
from providers import registry

if TYPE_CHECKING:
    from launcher.job import JobSpec
    from launcher.jobfile.config_schema import Config


@click.command()
@click.argument("jobfile", required=False, type=click.Path(path_type=Path))
@click.option("--budget", metavar="USD", help="The hard cap for the job's whole bill, such as 5 or 4.50.")
@click.option(
    "--provider", metavar="NAME", default="auto", help=f"auto, or one of: {', '.join(registry.USER_PROVIDERS)}."
)
@click.option("--region", "regions", metavar="R", multiple=True, help="Only this region; may be given again.")
@click.option("--spot/--on-demand", "spot", default=None, help="Spot machines are cheaper and can be taken away.")
@click.option("--max-duration", metavar="TIME", help="A time limit beside the cap, such as 8h.")
@click.option("--name", metavar="N", help="The job's name.")
@click.option("--no-store", is_flag=True, help="Keep nothing: what the training writes dies with a rented machine.")
@click.option("--detach", is_flag=True, help="Return once the machine is accepted.")
@click.option("--yes", is_flag=True, help="Do not ask. Required without a terminal.")
@click.option("--dry-run", is_flag=True, help="Show the plan and every call it would make; create nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def up(
    *,
    jobfile: Path | None,
    budget: str | None,
    provider: str,
    regions: tuple[str, ...],
    spot: bool | None,
    max_duration: str | None,
    name: str | None,
    no_store: bool,
    detach: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Launch a training job under a hard cap in dollars.

    JOBFILE is by default the gpulaunch.yaml of this folder or the nearest one above.
    """
    config = load_config(os.environ)
    spec = with_flags(
        load_job(jobfile or find_job_file(Path())),
        budget=budget,
        name=name,
        max_duration=max_duration,
        spot=spot,
        regions=regions,
        providers=() if provider == "auto" else (provider,),
        store="none" if no_store else None,
    )
    launch = _prepare(spec, config)
    if dry_run:
        return _dry_run(launch, as_json=as_json)
    if not as_json or not yes:
        show_plan.show(launch.plan, launch.spec, SystemClock().now(), launch.choice.notes)
        _show_limits(launch)
    _confirm(launch, yes=yes)
    return _launch(launch, detach=detach, as_json=as_json)


class _Launch(msgspec.Struct, frozen=True, kw_only=True):
    """All that a launch needs, before anything is created."""

    spec: Any
    choice: Any
    owner: str
    allowance: limits.Allowance
    archive: Any = None
    """The packed working folder, where it is to be sent."""

    @property
    def plan(self) -> Plan:
        """The chosen machine, its deadlines and its layers."""
        plan: Plan = self.choice.plan
        return plan


def _prepare(spec: JobSpec, config: Config) -> _Launch:
    """Choose the provider, ask for offers, and plan. Creates nothing."""
    if spec.budget_usd is None:
        raise UsageError(
            "The job has no budget.",
            "Nothing is launched without a cap.",
            f"Give one with --budget 5, or write `budget: 5.00` in {spec.path}.",
        )
    choice = choose(spec, config, spec.budget_usd, environ=os.environ, home=state_home(os.environ), clock=SystemClock())
    above = config.limits
    allowance = limits.Allowance(monthly_usd=above.monthly_usd, jobs=above.jobs, path=str(config_path(os.environ)))
    spec, archive = workdir.pack(choice.spec) if choice.rents else (choice.spec, None)
    return _Launch(spec=spec, choice=choice, owner=owner_hash(config), allowance=allowance, archive=archive)


def _usage() -> limits.Usage:
    """What the jobs here hold of the limits now."""
    now = SystemClock().now()
    state = open_state_if_any()
    return limits.measure([], now) if state is None else state.journal.usage(now)


def _show_limits(launch: _Launch) -> None:
    if launch.allowance.is_set:
        for line in limits.lines(launch.allowance, _usage()):
            say(f"  limits    {line}")


def _confirm(launch: _Launch, *, yes: bool) -> None:
    """Ask, unless told not to. A launch that a limit forbids is refused before the question."""
    if yes:
        return
    if not is_interactive():
        raise UsageError(
            "There is no terminal to ask for a confirmation.", fix="Add --yes to launch without a question."
        )
    if launch.allowance.is_set:
        limits.check(launch.allowance, _usage(), launch.plan.cap_usd)
    confirm("Launch it?", "Nothing was created.")


def _dry_run(launch: _Launch, *, as_json: bool) -> int:
    plan = launch.plan
    now = SystemClock().now()
    calls = launch.choice.provider.calls(plan.offer)
    usage = _usage() if launch.allowance.is_set else None
    if as_json:
        above = None if usage is None else limits.limits_json(launch.allowance, usage, plan.cap_usd)
        sent = None if launch.spec.archive is None else msgspec.to_builtins(launch.spec.archive)
        named = {"name": launch.spec.name, "calls": calls, "limits": above, "workdir": sent}
        put_json({**plan_json(plan, now), **named})
    else:
        show_plan.show(plan, launch.spec, now, launch.choice.notes)
        _show_limits(launch)
        say("It would:")
        for number, call in enumerate(calls, 1):
            say(f"  {number}. {call}")
        say("Nothing was created.")
    if usage is not None:
        limits.check(launch.allowance, usage, plan.cap_usd)
    return Exit.OK


def _launch(launch: _Launch, *, detach: bool, as_json: bool) -> int:
    """Write the job down, start its guard, and stay until it is accepted or, attached, until it is gone."""
    guard_process.check_room(state_home(os.environ))
    state = open_state()
    plan, choice = launch.plan, launch.choice
    if launch.archive is not None:
        sent = workdir.send(launch.spec, launch.archive, choice.settings)
        say("The working folder is in the store." if sent else "The working folder is in the store already.")
    job = Job(
        id=f"j-{secrets.token_hex(5)}",
        name=launch.spec.name,
        account=choice.provider.account,
        provider=choice.provider.name,
        cap_usd=plan.cap_usd,
        spec=spec_to_json(launch.spec),
        created_at=state.clock.now(),
        settings=choice.settings,
        elsewhere=choice.elsewhere or None,
        offers=msgspec.json.encode([plan.offer, *plan.others]).decode(),
        layers={layer.name: layer.armed for layer in plan.layers},
        owner=launch.owner,
    )
    lock_path = guard_process.launch_lock(state.home, job.id)
    lock = guard_process.hold(lock_path)
    try:
        with follow.Signals(interactive=is_interactive()) as signals:
            state.journal.add_job(job, now=job.created_at, allowance=launch.allowance)
            viewer = follow.Viewer(state, job.id, signals, quiet=as_json)
            code = viewer.until_accepted()
            if code is None and not detach:
                code = viewer.until_gone()
    finally:
        if lock is not None:
            os.close(lock)
            lock_path.unlink(missing_ok=True)
    return _report(state, job.id, code, as_json=as_json)


def _report(state: Context, job_id: str, code: Exit | None, *, as_json: bool) -> int:
    """The last word: the job as it stands, and its exit code."""
    job, attempts = state.journal.job(job_id), state.journal.attempts(job_id)
    if job.state == State.GONE:
        await_guard_exit(state, [job.account])
    view = job_view(job, attempts, state.clock.now())
    if as_json:
        put_json(view)
    if job.state == State.GONE:
        if not as_json:
            for line in summary(view):
                click.echo(line)
        nothing_made = not any(attempt.create_called for attempt in attempts)
        if nothing_made and job.outcome == "cancelled":
            return Exit.INTERRUPTED
        return job_exit_code(job, attempts)
    if code is not None:
        return code
    if not as_json:
        click.echo(f"{job.name} ({job.id}) runs under its guard. Follow it: gpulaunch logs {job.name} -f")
        click.echo(f"Where it stands: gpulaunch status {job.name}   End it: gpulaunch down {job.name}")
    return Exit.OK
