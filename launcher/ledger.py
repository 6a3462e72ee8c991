"""What an attempt has cost, from the billing that was observed. Pure; never below the truth.

The price is the one frozen at launch. Time is rounded up the way the cloud rounds. Where the evidence of the end is
gone, the record is an upper bound and says so: `confirmed` is false.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal

from launcher.core.money import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The billing of one machine, as far as it was observed. Times are UTC, durations seconds."""

    rate_usd_per_hour: Decimal
    granularity_s: Decimal
    floor_s: Decimal
    one_time_usd: Decimal
    started_at: datetime | None
    """When billing started: the create call, until the cloud reports better. None: nothing was ever created."""
    ended_at: datetime | None = None
    billed_s: float | None = None
    """The machine's own count, at `observed_at`, where it has one."""
    observed_at: datetime | None = None
    egress_usd: Decimal = Decimal(0)


def billed_s(interval: Interval, now: datetime) -> float:
    """Seconds billed until `now`, or until billing ended, before rounding."""
    if interval.started_at is None:
        return 0.0
    if interval.billed_s is not None:
        running_s = 0.0
        if interval.ended_at is None and interval.observed_at is not None:
            running_s = (now - interval.observed_at).total_seconds()
        return interval.billed_s + max(running_s, 0.0)
    return max(((interval.ended_at or now) - interval.started_at).total_seconds(), 0.0)


def cost_usd(interval: Interval, now: datetime) -> Decimal:
    """USD until `now`, or until billing ended: whole billing units, at least the minimum charge."""
    if interval.started_at is None:
        return Decimal(0)
    seconds = Decimal(str(round(billed_s(interval, now), 6)))
    units = (seconds / interval.granularity_s).to_integral_value(ROUND_CEILING)
    billed = max(units * interval.granularity_s, interval.floor_s)
    return billed * interval.rate_usd_per_hour / SECONDS_PER_HOUR + interval.one_time_usd + interval.egress_usd


def upper_bound(interval: Interval, *, now: datetime, latest_s: float) -> Interval:
    """The interval closed without evidence: it ended, at the latest, `latest_s` seconds after billing started.

    `latest_s` is the hard deadline plus the provider's worst lateness. The machine was seen gone at `now`.
    """
    return Interval(
        rate_usd_per_hour=interval.rate_usd_per_hour,
        granularity_s=interval.granularity_s,
        floor_s=interval.floor_s,
        one_time_usd=interval.one_time_usd,
        started_at=interval.started_at,
        ended_at=now,
        billed_s=min(billed_s(interval, now), latest_s),
        observed_at=now,
        egress_usd=interval.egress_usd,
    )
