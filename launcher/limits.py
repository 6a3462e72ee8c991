"""Limits above one job: what all jobs of a month may cost, and how many may live at one time. Pure.

A launch reserves its whole cap. When the job is gone, what it holds shrinks to what the ledger says it cost; an end
that was not seen counts with its upper bound. A month is a calendar month in UTC, and a job belongs to the month in
which it was created.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.errors import Exit, GpulaunchError
from launcher.core.money import CENT, usd_json, usd_text
from launcher.outcome import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from launcher.records import Job


class LimitReached(GpulaunchError):
    """One more job would pass a limit that the configuration sets."""

    exit_code = Exit.UNAVAILABLE


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What the configuration allows; None: no limit."""

    monthly_usd: Decimal | None = None
    jobs: int | None = None
    path: str = "the configuration"
    """The file that sets them."""

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self.monthly_usd is not None or self.jobs is not None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the jobs of this computer hold of the limits."""

    month: str
    """Such as `2026-11`."""
    spent_usd: Decimal
    """Jobs of the month that are gone: what they cost."""
    reserved_usd: Decimal
    """Jobs of the month that are live: their whole caps."""
    live_jobs: int
    """Now, whatever the month in which they were created."""

    @property
    def held_usd(self) -> Decimal:
        """USD that no other job of the month can have."""
        return self.spent_usd + self.reserved_usd


def month_of(at: datetime) -> tuple[datetime, datetime]:
    """The first moment of that calendar month (UTC), and the first moment of the next."""
    first = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = divmod(first.year * 12 + first.month, 12)
    return first, first.replace(year=year, month=month + 1)


def measure(jobs: Iterable[Job], at: datetime) -> Usage:
    """What these jobs hold of the limits in the month of `at`. It needs all live jobs, and all jobs of that month."""
    first, after = month_of(at)
    spent_usd = reserved_usd = Decimal(0)
    live_jobs = 0
    for job in jobs:
        live = job.state != State.GONE
        live_jobs += live
        if not first <= job.created_at < after:
            continue
        if live or job.spend_usd is None:
            reserved_usd += job.cap_usd
        else:
            spent_usd += job.spend_usd
    return Usage(month=f"{first:%Y-%m}", spent_usd=spent_usd, reserved_usd=reserved_usd, live_jobs=live_jobs)


def check(allowance: Allowance, usage: Usage, cap_usd: Decimal) -> None:
    """Refuse one more job with that cap if it passes a limit. Raises LimitReached."""
    if allowance.jobs is not None and usage.live_jobs >= allowance.jobs:
        raise LimitReached(
            f"{_jobs(usage.live_jobs)} live, and limits.jobs is {allowance.jobs}.",
            "A limit above one job stands in the way, not this job.",
            "`gpulaunch status` shows them: wait for one to end, end one with `gpulaunch down JOB`, "
            f"or change limits.jobs in {allowance.path}.",
        )
    if allowance.monthly_usd is not None and usage.held_usd + cap_usd > allowance.monthly_usd:
        left_usd = _left_usd(allowance.monthly_usd, usage)
        raise LimitReached(
            f"This job's cap is {usd_text(cap_usd)}, and {usd_text(left_usd)} is left of the "
            f"{usd_text(allowance.monthly_usd)} that limits.monthly_usd allows for {usage.month}.",
            f"Jobs of this month that are gone cost {usd_text(usage.spent_usd)}; live ones have reserved "
            f"{usd_text(usage.reserved_usd)}, their whole caps.",
            _monthly_fix(allowance, usage, left_usd),
        )


def _monthly_fix(allowance: Allowance, usage: Usage, left_usd: Decimal) -> str:
    ways = [f"launch with --budget {left_usd} or less"] if left_usd > 0 else []
    if usage.reserved_usd > 0:
        ways.append("wait for a live job to end, which frees what it did not spend (`gpulaunch status`)")
    ways.append(f"change limits.monthly_usd in {allowance.path}")
    text = ", or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


def _left_usd(monthly_usd: Decimal, usage: Usage) -> Decimal:
    """Whole cents, so that a cap of this much fits."""
    return max(monthly_usd - usage.held_usd, Decimal(0)).quantize(CENT, rounding=ROUND_FLOOR)


def _jobs(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"


def lines(allowance: Allowance, usage: Usage) -> list[str]:
    """The limits for the screen, before a launch; nothing where none is set."""
    found = []
    if allowance.monthly_usd is not None:
        found.append(
            f"{usd_text(_left_usd(allowance.monthly_usd, usage))} left of {usd_text(allowance.monthly_usd)} for "
            f"{usage.month}: {usd_text(usage.spent_usd)} spent, {usd_text(usage.reserved_usd)} reserved by live jobs"
        )
    if allowance.jobs is not None:
        found.append(f"{_jobs(usage.live_jobs)} live of {allowance.jobs} that may be")
    return found


def limits_json(allowance: Allowance, usage: Usage, cap_usd: Decimal) -> dict[str, Any]:
    """The limits as `up --dry-run --json` shows them; `allowed` says whether this job fits into them."""
    try:
        check(allowance, usage, cap_usd)
        allowed = True
    except LimitReached:
        allowed = False
    monthly_usd = allowance.monthly_usd
    return {
        "month": usage.month,
        "monthly_usd": None if monthly_usd is None else usd_json(monthly_usd),
        "spent_usd": usd_json(usage.spent_usd),
        "reserved_usd": usd_json(usage.reserved_usd),
        "left_usd": None if monthly_usd is None else usd_json(_left_usd(monthly_usd, usage)),
        "jobs": allowance.jobs,
        "live_jobs": usage.live_jobs,
        "allowed": allowed,
    }
