"""The simulated cloud as a provider: what it sells, and the life of its machines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from simulated_lab import FOR_EVER, MOMENT_S, Lab, gone

from launcher.agent import heartbeat
from launcher.core.clock import SystemClock, VirtualClock
from providers import registry
from providers.base import InvalidRequest, MachineState, OfferRequest
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.provider import SimulatedProvider
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, PLAIN, SHAPES, Shape

if TYPE_CHECKING:
    from providers.base import Provider


def test_the_registry_makes_it() -> None:
    """It is loaded by name, like every provider, and satisfies the protocol."""
    cloud = SimulatedCloud(VirtualClock(), shape=PLAIN, encode=heartbeat.encode)
    provider: Provider = registry.load("simulated", clock=VirtualClock(), home="", settings={"cloud": cloud})

    assert isinstance(provider, SimulatedProvider)
    assert provider.worst_lateness_s == PLAIN.worst_lateness_s


def test_without_a_cloud_it_says_what_is_missing() -> None:
    """No command can reach a cloud that lives in another process's memory."""
    with pytest.raises(InvalidRequest, match="no cloud"):
        SimulatedProvider(clock=SystemClock(), home="", settings={})


def test_a_gpu_that_is_not_sold_is_refused() -> None:
    """The error names those that are."""
    with pytest.raises(InvalidRequest, match="T4"):
        Lab().provider.offers(OfferRequest(gpu="H100", disk_gb=100, spot=False))


def test_a_region_without_a_spot_price_has_no_spot_offer() -> None:
    """An unknown price is refused, never zero."""
    request = OfferRequest(gpu="T4", disk_gb=100, spot=True, regions=("swedencentral",))

    assert Lab(AZURE).provider.offers(request) == []


def test_the_rate_of_an_offer_has_all_its_parts() -> None:
    """Compute, disk and address each have a line; the sum is what an hour costs at its worst."""
    offer = Lab(AWS).intent().offer

    assert [part.name for part in offer.parts] == ["compute", "disk", "ipv4"]
    assert offer.rate_usd_per_hour == Decimal("0.526") + 100 * Decimal("0.08") / 730 + Decimal("0.005")


def test_azure_bills_whole_disk_tiers() -> None:
    """100 GB is billed as 128, and 129 as twice that."""
    parts = {
        disk_gb: Lab(AZURE).provider.offers(OfferRequest(gpu="T4", disk_gb=disk_gb, spot=False))[0].parts[1]
        for disk_gb in (64, 100, 128, 129)
    }

    assert [part.worst_usd_per_hour * 730 for part in parts.values()] == pytest.approx(
        [Decimal("4.80"), Decimal("9.60"), Decimal("9.60"), Decimal("19.20")]
    )


@pytest.mark.parametrize(
    ("shape", "share"), [(AWS, Decimal("1.25")), (AZURE, Decimal("1.25")), (PLAIN, Decimal("1.25"))]
)
def test_the_ceiling_of_a_spot_offer_is_its_bid(shape: Shape, share: Decimal) -> None:
    """A quarter above today's price, and never above on demand."""
    lab = Lab(shape)
    for offer in lab.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=True)):
        compute = offer.parts[0]
        item = next(item for item in shape.items if item.region == offer.region)
        assert compute.worst_usd_per_hour == min(compute.expected_usd_per_hour * share, item.on_demand)


def test_where_there_is_no_bid_the_ceiling_is_the_price_on_demand() -> None:
    """Nothing else bounds what a spot machine may cost there."""
    for offer in Lab(GCP).provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=True)):
        item = next(item for item in GCP.items if item.region == offer.region)
        assert offer.parts[0].worst_usd_per_hour == item.on_demand


def test_the_states_of_a_machine_that_finishes() -> None:
    """Pending, running with heartbeats, and gone by its own hand; each at its time."""
    lab = Lab(PLAIN, Script(finishes_after_s=100))
    machine_id = lab.start()

    assert lab.provider.get(machine_id).state is MachineState.PENDING
    assert lab.provider.heartbeat(machine_id) == b""
    lab.run_until(5)
    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    lab.run_until(10)
    assert lab.beat(machine_id)["state"] == "booting"
    lab.run_until(50)
    assert lab.beat(machine_id) == {
        "state": "running",
        "age_s": 35.0,
        "output_bytes": 3000,
        "output_age_s": 0.0,
        "notes": [],
    }
    lab.run_until(110)
    assert lab.provider.get(machine_id).state is MachineState.STOPPING
    assert (lab.beat(machine_id)["outcome"], lab.beat(machine_id)["exit_code"]) == ("finished", 0)
    lab.run_until(115)
    assert gone(lab, machine_id)


@pytest.mark.parametrize(
    ("script", "settings", "outcome", "reason"),
    [
        (Script(finishes_after_s=60), {}, "finished", "EXIT_0"),
        (Script(finishes_after_s=60, exit_code=3), {}, "failed", "EXIT_3"),
        (FOR_EVER, {"soft_after_s": 300}, "budget_reached", "CAP"),
        (
            FOR_EVER,
            {"soft_after_s": 300, "soft_outcome": "duration_reached", "soft_reason": "MAX_DURATION"},
            "duration_reached",
            "MAX_DURATION",
        ),
        (FOR_EVER, {}, "budget_reached", "HARD_DEADLINE"),
    ],
)
def test_the_last_heartbeat_says_how_it_ended(
    script: Script, settings: dict[str, Any], outcome: str, reason: str
) -> None:
    """The guard reads the outcome there, also a while after the machine is gone."""
    lab = Lab(PLAIN, script)
    machine_id = lab.start(hard_after_s=600, settings=settings)
    lab.run_until_gone(machine_id)

    assert (lab.beat(machine_id)["outcome"], lab.beat(machine_id)["reason"]) == (outcome, reason)


@pytest.mark.parametrize(("stops_in_s", "ends_s", "exit_code"), [(10.0, 310.0, 0), (500.0, 330.0, 137)])
def test_a_training_that_ignores_sigterm_is_killed_after_its_grace(
    stops_in_s: float, ends_s: float, exit_code: int
) -> None:
    """The soft deadline is at 300 s, the grace is 30 s."""
    lab = Lab(PLAIN, replace(FOR_EVER, stops_in_s=stops_in_s))
    machine_id = lab.start(settings={"soft_after_s": 300, "grace_s": 30})
    lab.run_until(300)
    assert lab.beat(machine_id)["state"] == "stopping"
    lab.run_until(ends_s - MOMENT_S)
    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    lab.run_until(ends_s)

    assert lab.provider.get(machine_id).state is MachineState.STOPPING
    assert lab.beat(machine_id)["exit_code"] == exit_code


def test_orders_may_come_from_elsewhere_than_the_settings() -> None:
    """Whoever knows the boot data tells the cloud how to read the agent's orders."""
    clock = VirtualClock()
    cloud = SimulatedCloud(
        clock, shape=PLAIN, encode=heartbeat.encode, script=FOR_EVER, orders=lambda intent: {"soft_after_s": 50.0}
    )
    cloud.create(Lab().intent())
    clock.advance(57)

    assert [machine.state for machine in cloud.existing()] == [MachineState.STOPPING]


def test_a_machine_that_never_boots_bills_until_its_timer() -> None:
    """No heartbeat ever comes."""
    lab = Lab(PLAIN, Script(boots=False))
    machine_id = lab.start(hard_after_s=600)
    lab.run_until(599)

    assert lab.provider.heartbeat(machine_id) == b""
    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    assert lab.run_until_gone(machine_id) == 605
    assert lab.faults.injected["NeverBoots"] == 1


def test_a_dead_agent_is_silent_and_ends_nothing() -> None:
    """Its last heartbeat stays the last, and the training's end frees nothing."""
    lab = Lab(PLAIN, Script(finishes_after_s=200, agent_dies_after_s=100))
    machine_id = lab.start(hard_after_s=600)
    lab.run_until(300)

    assert lab.beat(machine_id)["age_s"] == 95.0
    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    assert lab.run_until_gone(machine_id) == 605


def test_heartbeats_are_lost_while_the_network_is_cut() -> None:
    """They go on afterwards with their numbers."""
    lab = Lab(PLAIN, replace(FOR_EVER, network_cut_s=(45, 135)))
    machine_id = lab.start()
    lab.run_until(10 + 134)
    cut = heartbeat.latest(lab.provider.heartbeat(machine_id))
    lab.run_until(10 + 150)
    back = heartbeat.latest(lab.provider.heartbeat(machine_id))

    assert cut is not None
    assert back is not None
    assert (cut[0], cut[1]["age_s"]) == (1, 35.0)
    assert (back[0], back[1]["age_s"]) == (5, 155.0)


@pytest.mark.parametrize(("shape", "waits"), [(AWS, False), (GCP, True), (AZURE, True)])
def test_a_machine_that_ends_itself_through_the_api_needs_the_network(shape: Shape, waits: bool) -> None:
    """Switching off needs none; the others wait until it is back, since switched off they would go on billing."""
    lab = Lab(shape, Script(finishes_after_s=100, network_cut_s=(50, 1000)))
    machine_id = lab.start()
    up_s = lab.run_until_state(machine_id, MachineState.RUNNING)
    while lab.provider.heartbeat(machine_id) == b"":
        lab.clock.advance(1)
    ends_s = lab.run_until_state(machine_id, MachineState.STOPPING)

    assert (ends_s - up_s > 1000) == waits


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_deleted_machine_tells_that_it_was_shut_down(shape: Shape) -> None:
    """Where the cloud gives notice, the agent's last word is that it was taken; else there is none."""
    lab = Lab(shape, replace(FOR_EVER, stops_in_s=3))
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.RUNNING)
    while lab.provider.heartbeat(machine_id) == b"":
        lab.clock.advance(1)
    lab.provider.delete(machine_id)
    lab.run_until_gone(machine_id)

    assert lab.beat(machine_id).get("reason") == ("SHUTDOWN_SIGNAL" if shape.shutdown_notice_s else None)


def test_an_agent_can_be_killed_before_it_is_up() -> None:
    """It never says a word."""
    lab = Lab(PLAIN, Script(finishes_after_s=100))
    machine_id = lab.start(hard_after_s=600)
    lab.cloud.kill_agent(machine_id)

    assert lab.run_until_gone(machine_id) == 605
    assert lab.provider.heartbeat(machine_id) == b""


def test_a_script_says_what_heartbeats_tell_besides() -> None:
    """Metrics, progress, or whatever a test needs."""
    lab = Lab(PLAIN, replace(FOR_EVER, metrics=lambda age_s: {"metrics": {"loss": {"value": 100 - age_s}}}))
    machine_id = lab.start()
    lab.run_until(10 + 60)

    assert lab.beat(machine_id)["metrics"] == {"loss": {"value": 40.0}}


def test_a_delete_drives_on_what_is_ending() -> None:
    """The timer that a self-ended machine would leave on AWS goes with it when the delete comes in time."""
    lab = Lab(AWS, Script(finishes_after_s=100))
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.STOPPING)
    lab.provider.delete(machine_id)
    lab.clock.advance(AWS.delete_s.most)

    assert lab.cloud.existing() == []


def test_a_stepped_wall_clock_moves_nothing() -> None:
    """The cloud lives on its own time."""
    lab = Lab(PLAIN, FOR_EVER)
    machine_id = lab.start(hard_after_s=600)
    lab.clock.step(-86_400)
    lab.run_until(599)
    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    lab.clock.step(2 * 86_400)

    assert lab.clock.now() - lab.cloud.now() == timedelta(days=1)
    assert lab.run_until_gone(machine_id) == 605


def test_machines_go_on_while_the_launcher_sleeps() -> None:
    """A closed laptop stops nothing: all that was due has happened in order when it opens."""
    lab = Lab(PLAIN, Script(finishes_after_s=100))
    machine_id = lab.start()
    lab.clock.suspend(36_000)

    assert gone(lab, machine_id)
    assert lab.cloud.bill() == Decimal("0.105")


def test_the_same_seed_gives_the_same_cloud() -> None:
    """Another seed gives another."""

    def lives(seed: int) -> list[float]:
        lab = Lab(AZURE, FOR_EVER, seed=seed)
        return [lab.run_until_gone(lab.start(token=f"job-{n}-1", hard_after_s=900)) for n in range(3)]

    assert lives(7) == lives(7)
    assert lives(7) != lives(8)
