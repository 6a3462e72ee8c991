"""The arithmetic of the cap: from dollars to the two deadlines. Pure.

    committed     = what earlier attempts cost + the egress reserve + the one-time costs
    hard deadline = (cap - committed) / rate, whole billing units only, less the provider's worst lateness
    soft deadline = hard deadline - grace - upload reserve

All times count in seconds from the start of billing; until the cloud reports better, that is the create call.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

from launcher.core.errors import CapTooSmall
from launcher.core.money import CENT, SECONDS_PER_HOUR, usd_text
from launcher.outcome import Outcome

# A machine must be able to train at least this long, and at least as long as it takes to boot: less is waste.
LEAST_USEFUL_S = 5.0
# The reserve for the last checkpoint until its real throughput is known (DESIGN, section 4).
UPLOAD_RESERVE_S = 60.0
# No deadline lies further away, whatever the cap pays for: a date must fit the calendar, and seconds kept as a float
# must stay exact to a microsecond.
LONGEST_S = Decimal(100 * 365 * 86_400)
# Below what any cloud measures; sums of floats differ by less.
MICROSECOND = 1e-6


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What one machine costs and how late its end can be: facts of the offer and its provider."""

    rate_usd_per_hour: Decimal
    one_time_usd: Decimal
    egress_usd: Decimal
    granularity_s: Decimal
    floor_s: Decimal
    worst_lateness_s: float
    boot_s: float
    grace_s: float
    upload_reserve_s: float

    @property
    def tail_s(self) -> float:
        """Seconds between the soft and the hard deadline."""
        return self.grace_s + self.upload_reserve_s


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """When the training must stop and when the machine must die, in seconds after billing started."""

    soft_after_s: float
    hard_after_s: float
    outcome: Outcome
    """Which limit that is: BUDGET_REACHED or DURATION_REACHED."""
    committed_usd: Decimal


def _whole_units(seconds: Decimal, granularity_s: Decimal, rounding: str) -> Decimal:
    return (seconds / granularity_s).to_integral_value(rounding) * granularity_s


def _least_useful_s(terms: Terms) -> float:
    """The earliest soft deadline that is worth a machine."""
    return terms.boot_s + max(LEAST_USEFUL_S, terms.boot_s)


def affordable_s(cap_usd: Decimal, spent_usd: Decimal, terms: Terms) -> float:
    """Seconds from the start of billing that the cap pays for, ending included; negative when it pays for none."""
    with localcontext() as exact:
        exact.rounding = ROUND_FLOOR  # a quotient that never ends must not be rounded up to a whole unit
        left_usd = cap_usd - spent_usd - terms.one_time_usd - terms.egress_usd
        seconds = min(left_usd * SECONDS_PER_HOUR / terms.rate_usd_per_hour, LONGEST_S)
        if seconds < terms.floor_s:
            return -1.0
        return float(_whole_units(seconds, terms.granularity_s, ROUND_FLOOR)) - terms.worst_lateness_s


def smallest_cap(spent_usd: Decimal, terms: Terms) -> Decimal:
    """The smallest cap, in whole cents, that leaves useful time on this machine."""
    needed_s = Decimal(str(round(_least_useful_s(terms) + terms.tail_s + terms.worst_lateness_s, 6)))
    seconds = max(_whole_units(needed_s, terms.granularity_s, ROUND_CEILING), terms.floor_s)
    cost = spent_usd + terms.one_time_usd + terms.egress_usd + seconds * terms.rate_usd_per_hour / SECONDS_PER_HOUR
    return cost.quantize(CENT, rounding=ROUND_CEILING)


def deadlines(
    cap_usd: Decimal, terms: Terms, *, spent_usd: Decimal = Decimal(0), left_duration_s: float | None = None
) -> Deadlines:
    """The deadlines for one more attempt of a job that has spent `spent_usd` of its cap.

    `left_duration_s` is what is left of the job's own time limit, if it has one.
    Raises CapTooSmall, naming the smallest cap that would do, when no useful time is left.
    """
    hard_after_s = affordable_s(cap_usd, spent_usd, terms)
    soft_after_s = hard_after_s - terms.tail_s
    if soft_after_s < _least_useful_s(terms) - MICROSECOND:
        smallest = smallest_cap(spent_usd, terms)
        raise CapTooSmall(
            f"A cap of {usd_text(cap_usd)} leaves no useful time on this machine.",
            f"At {usd_text(terms.rate_usd_per_hour)} per hour, booting, the grace period, the last upload and the "
            f"machine's own ending must fit, with {usd_text(spent_usd)} spent before.",
            f"The smallest cap that works is --budget {smallest}.",
        )
    outcome = Outcome.BUDGET_REACHED
    if left_duration_s is not None and left_duration_s < soft_after_s:
        outcome = Outcome.DURATION_REACHED
        soft_after_s = max(left_duration_s, 0.0)
        hard_after_s = soft_after_s + terms.tail_s
    return Deadlines(
        soft_after_s=soft_after_s,
        hard_after_s=hard_after_s,
        outcome=outcome,
        committed_usd=spent_usd + terms.one_time_usd + terms.egress_usd,
    )
