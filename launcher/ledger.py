"""What an attempt has cost, from the billing that was observed. Pure; never below the truth.

The price is the one frozen at launch. Time is rounded up the way the cloud rounds. Where the evidence of the end is
gone, the record is an upper bound and says so: `confirmed` is false.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal

from launcher.core.money import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The billing of one machine, as far as it was observed. Times are UTC, durations seconds, rates USD per hour."""

    rate_usd_per_hour: Decimal
    """The whole rate, standing part included."""
    granularity_s: Decimal
    floor_s: Decimal
    one_time_usd: Decimal
    created_at: datetime | None
    """The create call. None: nothing was ever created."""
    started_at: datetime | None = None
    """When compute started to bill, where the cloud says so; else the create call counts.

    It counts once the end is known too: until then only this computer's own times are compared with each other, since
    its clock may stand behind the cloud's.
    """
    ended_at: datetime | None = None
    """When compute stopped billing."""
    billed_s: float | None = None
    """The machine's own count, at `observed_at`, where it has one."""
    observed_at: datetime | None = None
    standing_usd_per_hour: Decimal = Decimal(0)
    gone_at: datetime | None = None
    """When the last of what was made for it was gone."""
    compute_usd: Decimal | None = None
    """What compute cost at the prices that really held, once it has ended and where the cloud tells."""
    egress_usd: Decimal = Decimal(0)


def billed_s(interval: Interval, now: datetime) -> float:
    """Seconds of compute billed until `now`, or until it ended, before rounding."""
    if interval.created_at is None:
        return 0.0
    if interval.billed_s is not None:
        running_s = 0.0
        if interval.ended_at is None and interval.observed_at is not None:
            running_s = (now - interval.observed_at).total_seconds()
        return interval.billed_s + max(running_s, 0.0)
    if interval.ended_at is None:
        return max((now - interval.created_at).total_seconds(), 0.0)
    return max((interval.ended_at - (interval.started_at or interval.created_at)).total_seconds(), 0.0)


def compute_usd(interval: Interval, now: datetime) -> Decimal:
    """Compute: whole billing units, at least the minimum charge; or what the cloud says it was, if that is less."""
    seconds = Decimal(str(round(billed_s(interval, now), 6)))
    units = (seconds / interval.granularity_s).to_integral_value(ROUND_CEILING)
    billed = max(units * interval.granularity_s, interval.floor_s)
    rate = interval.rate_usd_per_hour - interval.standing_usd_per_hour
    at_ceiling = billed * rate / SECONDS_PER_HOUR
    if interval.compute_usd is None or interval.ended_at is None:
        return at_ceiling
    return min(interval.compute_usd, at_ceiling)


def stood_s(interval: Interval, now: datetime) -> Decimal:
    """Whole seconds for which disk and address billed until `now`, or until all was gone."""
    assert interval.created_at is not None, "what was never created does not stand"
    seconds = Decimal(str(round(((interval.gone_at or now) - interval.created_at).total_seconds(), 6)))
    return max(seconds.to_integral_value(ROUND_CEILING), Decimal(0))


def cost_usd(interval: Interval, now: datetime) -> Decimal:
    """USD until `now`, or until all was gone."""
    if interval.created_at is None:
        return Decimal(0)
    standing = stood_s(interval, now) * interval.standing_usd_per_hour / SECONDS_PER_HOUR
    return compute_usd(interval, now) + standing + interval.one_time_usd + interval.egress_usd


def latest_end(interval: Interval, *, now: datetime, latest_s: float, last_seen_at: datetime | None) -> datetime:
    """The latest moment at which a machine can have been gone that was found gone at `now`.

    `latest_s` is the hard deadline plus the provider's worst lateness, in seconds after the create call. A machine that
    was seen alive after that can have lived until now.
    """
    assert interval.created_at is not None, "what was never created has no end"
    bound = interval.created_at + timedelta(seconds=latest_s)
    return now if last_seen_at is not None and last_seen_at > bound else min(now, bound)
