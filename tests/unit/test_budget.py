"""The arithmetic of the cap: the bill never passes it, and no useful second is given away."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from launcher.budget import LEAST_USEFUL_S, Deadlines, Terms, affordable_s, deadlines, smallest_cap
from launcher.core.errors import CapTooSmall
from launcher.core.money import CENT
from launcher.outcome import Outcome

MICROSECOND = Fraction(1, 1_000_000)

PLAIN = Terms(
    rate_usd_per_hour=Decimal("3.6"),
    one_time_usd=Decimal(0),
    egress_usd=Decimal(0),
    granularity_s=Decimal(1),
    floor_s=Decimal(60),
    worst_lateness_s=90.0,
    boot_s=120.0,
    grace_s=60.0,
    upload_reserve_s=60.0,
)


def money(low: str, high: str, places: int = 6) -> st.SearchStrategy[Decimal]:
    """Dollars of that many decimals."""
    return st.decimals(Decimal(low), Decimal(high), places=places, allow_nan=False)


def seconds(high: float) -> st.SearchStrategy[float]:
    """Times as people and clouds give them: to a millisecond."""
    return st.integers(0, round(high * 1000)).map(lambda ms: ms / 1000)


def rates() -> st.SearchStrategy[Decimal]:
    """Dollars per hour: list prices, and sums with a monthly price divided by its hours, which never end."""
    monthly = st.builds(lambda hourly, per_month: hourly + 100 * per_month / 730, money("0", "5"), money("0.01", "1"))
    return st.one_of(money("0.001", "40"), monthly)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """Any machine, any cloud's way of rounding."""
    return Terms(
        rate_usd_per_hour=draw(rates()),
        one_time_usd=draw(money("0", "0.5")),
        egress_usd=draw(money("0", "0.5")),
        granularity_s=draw(st.sampled_from([Decimal(text) for text in ("0.001", "1", "7", "60", "3600")])),
        floor_s=draw(st.sampled_from([Decimal(0), Decimal(10), Decimal(60), Decimal(600)])),
        worst_lateness_s=draw(seconds(1800)),
        boot_s=draw(seconds(900)),
        grace_s=draw(seconds(600)),
        upload_reserve_s=draw(seconds(600)),
    )


def bill_usd(lived_s: float, spent_usd: Decimal, terms: Terms) -> Fraction:
    """The whole bill, exactly, for a machine that lived that long: whole units begun, at least the minimum charge.

    A microsecond is below what any cloud measures.
    """
    granularity = Fraction(terms.granularity_s)
    units = math.ceil((Fraction(lived_s) - MICROSECOND) / granularity)
    billed_s = max(units * granularity, Fraction(terms.floor_s))
    fixed = Fraction(spent_usd) + Fraction(terms.one_time_usd) + Fraction(terms.egress_usd)
    return billed_s * Fraction(terms.rate_usd_per_hour) / 3600 + fixed


def fits(cap_usd: Decimal, spent_usd: Decimal, terms: Terms) -> Deadlines | None:
    """The deadlines under this cap, or None where it is too small."""
    try:
        return deadlines(cap_usd, terms, spent_usd=spent_usd)
    except CapTooSmall:
        return None


@given(cap_usd=money("0.01", "500"), spent_usd=money("0", "10", places=9), terms=terms())
def test_a_machine_that_dies_as_late_as_it_can_costs_at_most_the_cap(
    cap_usd: Decimal, spent_usd: Decimal, terms: Terms
) -> None:
    """The promise: hard deadline, worst lateness, rounding, minimum charge and all that is committed fit the cap."""
    ends = fits(cap_usd, spent_usd, terms)
    assume(ends is not None)
    assert ends is not None

    assert bill_usd(ends.hard_after_s + terms.worst_lateness_s, spent_usd, terms) <= Fraction(cap_usd)
    assert spent_usd + terms.one_time_usd + terms.egress_usd == ends.committed_usd
    assert Outcome.BUDGET_REACHED == ends.outcome


@given(cap_usd=money("0.01", "500"), spent_usd=money("0", "10", places=9), terms=terms())
def test_no_more_than_one_billing_unit_of_the_cap_is_given_away(
    cap_usd: Decimal, spent_usd: Decimal, terms: Terms
) -> None:
    """A job that is stopped long before its cap is a defect as well."""
    lived_s = affordable_s(cap_usd, spent_usd, terms) + terms.worst_lateness_s + float(terms.granularity_s) + 2e-6
    cheapest = terms.rate_usd_per_hour * terms.floor_s / 3600 + spent_usd + terms.one_time_usd + terms.egress_usd
    assume(cheapest <= cap_usd)

    assert bill_usd(lived_s, spent_usd, terms) > Fraction(cap_usd)


@given(cap_usd=money("0.01", "500"), terms=terms())
def test_the_training_has_its_grace_and_its_upload_before_the_machine_must_die(cap_usd: Decimal, terms: Terms) -> None:
    """And it may train at least as long as the machine takes to boot, since less is waste."""
    ends = fits(cap_usd, Decimal(0), terms)
    assume(ends is not None)
    assert ends is not None

    tail_s = ends.hard_after_s - ends.soft_after_s
    assert tail_s == pytest.approx(terms.grace_s + terms.upload_reserve_s, abs=1e-6)
    assert ends.soft_after_s - terms.boot_s >= max(LEAST_USEFUL_S, terms.boot_s) - 2e-6


@given(spent_usd=money("0", "10", places=9), terms=terms())
def test_the_smallest_cap_works_and_a_cent_less_does_not(spent_usd: Decimal, terms: Terms) -> None:
    """A user who types the cap that the error names is not refused again, and is not asked for more than needed."""
    smallest = smallest_cap(spent_usd, terms)

    assert fits(smallest, spent_usd, terms) is not None
    assert fits(smallest - CENT, spent_usd, terms) is None


@given(cap_usd=money("0.01", "2"), spent_usd=money("0", "2", places=9), terms=terms())
def test_a_refusal_names_that_cap(cap_usd: Decimal, spent_usd: Decimal, terms: Terms) -> None:
    """As a flag that can be copied."""
    assume(fits(cap_usd, spent_usd, terms) is None)

    with pytest.raises(CapTooSmall) as refused:
        deadlines(cap_usd, terms, spent_usd=spent_usd)

    assert refused.value.fix.endswith(f"--budget {smallest_cap(spent_usd, terms)}.")


@given(cap_usd=money("0.01", "500"), spent_usd=money("0", "10"), terms=terms(), more_usd=money("0", "10"))
def test_more_money_never_means_less_time(
    cap_usd: Decimal, spent_usd: Decimal, terms: Terms, more_usd: Decimal
) -> None:
    """And more spent before never means more time."""
    time_s = max(affordable_s(cap_usd, spent_usd, terms), 0.0)

    assert max(affordable_s(cap_usd + more_usd, spent_usd, terms), 0.0) >= time_s
    assert max(affordable_s(cap_usd, spent_usd + more_usd, terms), 0.0) <= time_s


def test_five_dollars_on_a_t4() -> None:
    """By hand: 5.00 - 0.05 pays 49 whole minutes at 6.00 an hour; two for lateness, two for the tail."""
    t4 = replace(
        PLAIN,
        rate_usd_per_hour=Decimal(6),
        one_time_usd=Decimal("0.05"),
        granularity_s=Decimal(60),
        worst_lateness_s=120.0,
    )

    assert deadlines(Decimal(5), t4) == Deadlines(
        soft_after_s=2700.0,
        hard_after_s=2820.0,
        outcome=Outcome.BUDGET_REACHED,
        committed_usd=Decimal("0.05"),
    )


def test_a_shorter_time_limit_ends_the_job_first() -> None:
    """The training stops at the user's own limit, and the machine one tail later, long before the cap."""
    ends = deadlines(Decimal(50), PLAIN, left_duration_s=1800.0)

    assert (1800.0, 1920.0, Outcome.DURATION_REACHED) == (ends.soft_after_s, ends.hard_after_s, ends.outcome)


def test_a_longer_time_limit_changes_nothing() -> None:
    """The cap is met first."""
    assert deadlines(Decimal(5), PLAIN) == deadlines(Decimal(5), PLAIN, left_duration_s=1e6)


def test_a_time_limit_that_is_used_up_leaves_no_time() -> None:
    """A job that resumes after its limit has passed stops as soon as it starts; no deadline lies in the past."""
    ends = deadlines(Decimal(50), PLAIN, left_duration_s=-5.0)

    assert (0.0, 120.0, Outcome.DURATION_REACHED) == (ends.soft_after_s, ends.hard_after_s, ends.outcome)


def test_a_minimum_charge_above_the_cap_is_refused() -> None:
    """Ten minutes are billed whatever happens, so a cap for nine buys nothing."""
    charged = replace(PLAIN, floor_s=Decimal(600), worst_lateness_s=0.0, boot_s=1.0, grace_s=0.0, upload_reserve_s=0.0)

    assert affordable_s(Decimal("0.54"), Decimal(0), charged) < 0
    assert affordable_s(Decimal("0.60"), Decimal(0), charged) == 600.0
    assert smallest_cap(Decimal(0), charged) == Decimal("0.60")


def test_a_cap_that_is_spent_already_buys_nothing() -> None:
    """Earlier attempts count."""
    with pytest.raises(CapTooSmall, match=r"with \$5\.00 spent before"):
        deadlines(Decimal(5), PLAIN, spent_usd=Decimal(5))


def test_the_largest_cap_at_the_smallest_price_is_still_a_date() -> None:
    """A million dollars at a hundredth of a cent per hour is longer than any calendar holds."""
    cheap = replace(PLAIN, rate_usd_per_hour=Decimal("0.0001"))

    assert deadlines(Decimal(1_000_000), cheap).hard_after_s < 1000 * 365 * 86_400.0


def test_a_price_that_never_ends_is_not_rounded_in_favour_of_time() -> None:
    """Seven seconds cost a trifle more than the cap here, in the 28th digit: they are not bought."""
    endless = (Decimal(3600) / 7).next_plus()
    machine = replace(PLAIN, rate_usd_per_hour=endless, floor_s=Decimal(0), worst_lateness_s=0.0)

    assert affordable_s(Decimal(1), Decimal(0), machine) == 6.0
