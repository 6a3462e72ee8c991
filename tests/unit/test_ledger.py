"""What an attempt has cost: never below the truth, and an upper bound where the evidence is gone."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from makers import START

from launcher.ledger import Interval, billed_s, cost_usd, latest_end

PLAIN = Interval(
    rate_usd_per_hour=Decimal("3.6"),
    granularity_s=Decimal(1),
    floor_s=Decimal(60),
    one_time_usd=Decimal("0.01"),
    created_at=START,
)
NOTHING = Decimal(0)


def at(seconds: float) -> datetime:
    """So many seconds after the create call."""
    return START + timedelta(seconds=seconds)


def usd(low: str, high: str) -> st.SearchStrategy[Decimal]:
    """Dollars to a micro-dollar."""
    return st.decimals(Decimal(low), Decimal(high), places=6, allow_nan=False)


def times(high: int = 100_000) -> st.SearchStrategy[float]:
    """Seconds to a millisecond."""
    return st.integers(0, high * 1000).map(lambda ms: ms / 1000)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    """Any billing of a machine that exists."""
    standing = draw(usd("0", "1"))
    return Interval(
        rate_usd_per_hour=standing + draw(usd("0.001", "40")),
        standing_usd_per_hour=standing,
        granularity_s=draw(st.sampled_from([Decimal(text) for text in ("0.001", "1", "60", "3600")])),
        floor_s=draw(st.sampled_from([NOTHING, Decimal(60), Decimal(600)])),
        one_time_usd=draw(usd("0", "1")),
        egress_usd=draw(usd("0", "1")),
        created_at=START,
        started_at=draw(st.none() | times(600).map(at)),
    )


def truth_usd(interval: Interval, started_s: float, ended_s: float, gone_s: float) -> Fraction:
    """What the cloud charges, exactly: compute in whole units begun, what stands to the second, the rest once."""
    granularity = Fraction(interval.granularity_s)
    lived_s = max(Fraction(ended_s) - Fraction(started_s), Fraction(0))
    charged_s = max(math.floor(lived_s / granularity) * granularity, Fraction(interval.floor_s))
    compute = Fraction(interval.rate_usd_per_hour - interval.standing_usd_per_hour)
    hourly = charged_s * compute + Fraction(gone_s) * Fraction(interval.standing_usd_per_hour)
    return hourly / 3600 + Fraction(interval.one_time_usd) + Fraction(interval.egress_usd)


def almost(amount: Fraction) -> Fraction:
    """Less a millionth of a micro-dollar: the last digits of a float and of a quotient are not money."""
    return amount - Fraction(1, 10**12)


def test_what_was_never_created_costs_nothing() -> None:
    """Not even its timers."""
    nothing = replace(PLAIN, created_at=None)

    assert (0.0, NOTHING) == (billed_s(nothing, at(1e6)), cost_usd(nothing, at(1e6)))


def test_a_bill_by_hand() -> None:
    """100.2 seconds at a tenth of a cent are 101, and a cent for the timer."""
    assert Decimal("0.111") == cost_usd(replace(PLAIN, ended_at=at(100.2), gone_at=at(100.2)), at(5000))


def test_the_minimum_charge_is_a_floor_not_an_addition() -> None:
    """A second costs a minute; two minutes cost two."""
    assert Decimal("0.07") == cost_usd(PLAIN, at(1))
    assert Decimal("0.13") == cost_usd(PLAIN, at(120))


def test_billing_starts_when_the_cloud_says_so() -> None:
    """That is settled once billing has ended; until then, and where the cloud says nothing, the create call counts."""
    started = replace(PLAIN, started_at=at(30))

    assert 100.0 == billed_s(started, at(100))
    assert 70.0 == billed_s(replace(started, ended_at=at(100)), at(9000))
    assert 100.0 == billed_s(replace(PLAIN, ended_at=at(100)), at(9000))


def test_a_machine_that_counts_for_itself_is_believed() -> None:
    """A suspended laptop pays nothing; after the last reading, time counts as if it were awake."""
    counted = replace(PLAIN, billed_s=50.0, observed_at=at(1000))

    assert 50.0 == billed_s(counted, at(1000))
    assert 60.0 == billed_s(counted, at(1010))
    assert 50.0 == billed_s(counted, at(900))
    assert 50.0 == billed_s(replace(counted, ended_at=at(1000)), at(9000))


def test_what_stands_beside_the_machine_bills_until_all_is_gone() -> None:
    """Disk and address go on while the machine is stopped and taken down; compute does not."""
    stands = replace(
        PLAIN,
        rate_usd_per_hour=Decimal("4.6"),
        standing_usd_per_hour=Decimal(1),
        started_at=at(100),
        ended_at=at(200),
        gone_at=at(3600),
    )

    assert Decimal("0.1") + 1 + Decimal("0.01") == cost_usd(stands, at(9000))


def test_the_price_that_really_held_counts_when_it_is_less() -> None:
    """A spot machine below its bid; while it lives, and where the figure is above the ceiling, the ceiling counts."""
    ended = replace(PLAIN, ended_at=at(1000), gone_at=at(1000))

    assert Decimal("0.41") == cost_usd(replace(ended, compute_usd=Decimal("0.4")), at(9000))
    assert Decimal("1.01") == cost_usd(replace(ended, compute_usd=Decimal(2)), at(9000))
    assert Decimal("1.01") == cost_usd(replace(PLAIN, compute_usd=Decimal("0.4")), at(1000))


@given(interval=intervals(), earlier_s=times(), later_s=times())
def test_cost_never_falls(interval: Interval, earlier_s: float, later_s: float) -> None:
    """Time only adds to it."""
    earlier_s, later_s = sorted((earlier_s, later_s))

    assert cost_usd(interval, at(earlier_s)) <= cost_usd(interval, at(later_s))


@given(interval=intervals(), lived_s=times())
def test_cost_is_never_below_the_truth(interval: Interval, lived_s: float) -> None:
    """Seconds at the rate, the minimum charge, and all that is charged once."""
    started_s = (interval.started_at - START).total_seconds() if interval.started_at else 0.0

    assert Fraction(cost_usd(interval, at(lived_s))) >= almost(truth_usd(interval, started_s, lived_s, lived_s))


@given(interval=intervals(), ended_s=times(), after_s=times())
def test_a_closed_bill_does_not_grow(interval: Interval, ended_s: float, after_s: float) -> None:
    """However late one looks."""
    closed = replace(interval, ended_at=at(ended_s), gone_at=at(ended_s))

    assert cost_usd(closed, at(ended_s)) == cost_usd(closed, at(ended_s + after_s))


@given(interval=intervals(), latest_s=times(), ended_s=times(), found_after_s=times())
def test_an_end_that_nobody_saw_is_bounded_from_above(
    interval: Interval, latest_s: float, ended_s: float, found_after_s: float
) -> None:
    """It died at some time before its deadline and before it was found gone: the bound costs at least as much."""
    ended_s = min(ended_s, latest_s)
    end = latest_end(interval, now=at(ended_s + found_after_s), latest_s=latest_s, last_seen_at=None)
    bound = replace(interval, ended_at=end, gone_at=end)
    truth = replace(interval, ended_at=at(ended_s), gone_at=at(ended_s))

    assert at(ended_s) <= end <= at(latest_s)
    assert cost_usd(truth, at(1e6)) <= cost_usd(bound, at(1e6))


def test_a_machine_that_was_seen_alive_past_its_bound_may_have_lived_until_now() -> None:
    """The bound was wrong then, and is not used."""
    seen = {"now": at(9000), "latest_s": 3600.0}

    assert at(9000) == latest_end(PLAIN, **seen, last_seen_at=at(3601))
    assert at(3600) == latest_end(PLAIN, **seen, last_seen_at=at(3600))
