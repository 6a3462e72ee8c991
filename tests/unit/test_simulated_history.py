"""What the simulated cloud tells afterwards: the price of spot compute, and of machines that are gone."""

from __future__ import annotations

from decimal import Decimal

import pytest
from simulated_lab import Lab

from providers.base import MachineNotFound
from providers.simulated.market import SpotMarket
from providers.simulated.shapes import AWS, AZURE, GCP, PLAIN, Shape


def evidence_of_a_spot_machine(shape: Shape) -> tuple[Lab, MachineNotFound, str]:
    """A spot machine that lived for some hours of a moving price."""
    lab = Lab(shape, seed=4)
    machine_id = lab.start(spot=True, hard_after_s=40_000)
    lab.run_until(12_345.678)
    lab.provider.delete(machine_id)
    lab.run_until_gone(machine_id)
    with pytest.raises(MachineNotFound) as caught:
        lab.provider.get(machine_id)
    return lab, caught.value, machine_id


@pytest.mark.parametrize("shape", [PLAIN, AWS, AZURE])
def test_published_prices_give_what_compute_cost(shape: Shape) -> None:
    """Worked out from the history of prices, it is what the cloud bills, to a hundredth of a cent."""
    lab, gone, machine_id = evidence_of_a_spot_machine(shape)

    assert gone.machine is not None
    assert gone.machine.compute_usd is not None
    assert abs(gone.machine.compute_usd - lab.cloud.bill_lines(machine_id)["compute"]) < Decimal("0.0001")


def test_a_cloud_that_publishes_no_prices_tells_none() -> None:
    """Then the ceiling counts."""
    _, gone, _ = evidence_of_a_spot_machine(GCP)

    assert gone.machine is not None
    assert gone.machine.compute_usd is None


def test_a_replay_for_a_machine_that_is_gone_says_how_it_ended() -> None:
    """For an hour; after that only that it is gone."""
    lab = Lab(PLAIN)
    intent = lab.intent(hard_after_s=600)
    machine_id = lab.provider.create(intent).id
    lab.run_until_gone(machine_id)
    with pytest.raises(MachineNotFound) as soon:
        lab.provider.create(intent)
    lab.clock.advance(3601)
    with pytest.raises(MachineNotFound) as late:
        lab.provider.create(intent)

    assert soon.value.code == late.value.code == "IdempotentInstanceTerminated"
    assert soon.value.machine is not None
    assert soon.value.machine.id == machine_id
    assert late.value.machine is None


def test_a_market_knows_when_a_price_is_above_a_bid() -> None:
    """The first such moment, or that there was none until the end of the time asked about."""
    market = SpotMarket(Decimal(1), Decimal(3), start_s=0, step_s=3600, swing=0.5, seed="a")
    above_s = market.next_above_s(0, Decimal("1.2"), 1e6)

    assert above_s is not None
    assert market.usd_per_hour(above_s) > Decimal("1.2")
    assert market.usd_per_hour(above_s - 1) <= Decimal("1.2")
    assert market.next_above_s(above_s, Decimal("1.2"), 1e6) == above_s
    assert (market.next_above_s(0, Decimal(3), 50_000) or 0) >= 50_000


def test_a_fixed_price_never_rises_above_a_bid() -> None:
    """Nothing more will happen, so there is no moment to name."""
    market = SpotMarket(Decimal(1), Decimal(3), start_s=0, step_s=3600, swing=0.5, seed="a")
    market.fix(100, Decimal(2))

    assert market.next_above_s(200, Decimal(2), 1e6) is None
