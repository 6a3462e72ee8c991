"""The spot market of the simulated cloud."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from simulated_lab import Lab

from providers.base import CapacityError, InvalidRequest, MachineState
from providers.simulated.market import SpotMarket
from providers.simulated.shapes import AZURE, GCP, PLAIN


def market(seed: str = "a", *, swing: float = 0.12) -> SpotMarket:
    """A market around 1 USD per hour, at most 3."""
    return SpotMarket(Decimal(1), Decimal(3), start_s=0, step_s=3600, swing=swing, seed=seed)


def test_a_spot_price_moves_within_its_bounds() -> None:
    """It wanders, never below half and never above the price on demand."""
    prices = [market(swing=1.0).usd_per_hour(hour * 3600.0) for hour in range(500)]

    assert len(set(prices)) > 100
    assert min(prices) >= Decimal("0.5")
    assert max(prices) == Decimal(3)


def test_a_spot_price_depends_on_the_seed_and_not_on_who_asks() -> None:
    """Asking late gives the same history as asking all along."""
    often, once = market(), market()
    for minute in range(0, 6000, 7):
        often.usd_per_hour(minute * 60.0)

    assert [often.usd_per_hour(at) for at in range(0, 360_000, 999)] == [
        once.usd_per_hour(at) for at in range(0, 360_000, 999)
    ]
    assert market("a").usd_per_hour(9e5) != market("b").usd_per_hour(9e5)


def test_spot_is_billed_at_the_price_of_each_moment() -> None:
    """An hour at 1.80 and an hour at 2.00, both below the bid of 2.25."""
    lab = Lab(PLAIN)
    lab.cloud.fix_spot_price("here", "here-a", Decimal("1.80"))
    machine_id = lab.start(spot=True, hard_after_s=9000)
    lab.run_until(5 + 3600)
    lab.cloud.fix_spot_price("here", "here-a", Decimal("2.00"))
    lab.run_until(5 + 7200)

    assert lab.cloud.bill_lines(machine_id) == {"compute": Decimal("3.80")}


def test_a_price_above_the_bid_takes_the_machine_back() -> None:
    """And what it cost above the bid is never billed."""
    lab = Lab(PLAIN)
    lab.cloud.fix_spot_price("here", "here-a", Decimal("1.80"))
    machine_id = lab.start(spot=True)
    lab.run_until(5 + 100)
    lab.cloud.fix_spot_price("here", "here-a", Decimal("3.00"))

    assert lab.provider.get(machine_id).state is MachineState.STOPPING
    assert lab.provider.get(machine_id).state_reason == "PREEMPTED"
    lab.run_until_gone(machine_id)
    assert lab.cloud.bill() == Decimal("0.05")
    assert lab.faults.injected["Preemption"] == 1


def test_a_price_above_the_bid_refuses_the_request() -> None:
    """There is no machine for that price now; another zone may have one."""
    lab = Lab(PLAIN)
    intent = lab.intent(spot=True)
    lab.cloud.fix_spot_price("here", "here-a", Decimal("3.00"))
    with pytest.raises(CapacityError) as caught:
        lab.provider.create(intent)

    assert (caught.value.code, caught.value.next_scope) == ("SpotMaxPriceTooLow", "zone")
    assert lab.cloud.existing() == []


def test_a_region_without_a_spot_market_refuses_a_spot_request() -> None:
    """The error says what to ask for instead."""
    lab = Lab(AZURE)
    offer = lab.intent(regions=("swedencentral",)).offer
    with pytest.raises(InvalidRequest, match="on demand"):
        lab.provider.create(lab.intent(offer=msgspec.structs.replace(offer, spot=True)))


def test_where_there_is_no_bid_the_price_takes_nothing_back() -> None:
    """Such a machine pays the price, up to what it costs on demand."""
    lab = Lab(GCP)
    machine_id = lab.start(spot=True)
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.cloud.fix_spot_price("us-central1", "us-central1-a", Decimal("0.54"))

    assert lab.provider.get(machine_id).state is MachineState.RUNNING


def test_a_moving_price_takes_machines_back_by_itself() -> None:
    """Over many days some bids are outrun, and no bill is above its ceiling."""
    preempted = 0
    for seed in range(30):
        lab = Lab(replace(PLAIN, spot_swing=0.3), seed=seed)
        intent = lab.intent(spot=True, hard_after_s=200_000)
        gone_s = lab.run_until_gone(lab.provider.create(intent).id)
        preempted += lab.faults.injected["Preemption"]
        assert lab.cloud.bill() <= intent.offer.rate_usd_per_hour * Decimal(str(gone_s)) / 3600

    assert preempted > 0
