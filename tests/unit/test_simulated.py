"""The simulated cloud: its manners, its bill, and its faults."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from launcher.agent import heartbeat
from launcher.core.clock import SystemClock, VirtualClock
from providers import registry
from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Intent,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    OfferRequest,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
    make_tags,
)
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.faults import (
    Crash,
    Delayed,
    Duplicated,
    Faults,
    HangingDelete,
    LostReply,
    Refuse,
    SimulatedCrash,
    Slow,
    Stale,
    StuckTeardown,
)
from providers.simulated.market import SpotMarket
from providers.simulated.provider import SimulatedProvider
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, PLAIN, SHAPES, Shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.base import Provider

OWNER = "owner-1"
FOR_EVER = Script(finishes_after_s=None)
MOMENT_S = 0.001


class Lab:
    """A cloud, its clock, and a provider on it."""

    def __init__(
        self,
        shape: Shape = PLAIN,
        script: Script | Callable[[Intent], Script] = FOR_EVER,
        *,
        seed: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.start_s = self.clock.monotonic()
        self.cloud = SimulatedCloud(
            self.clock, shape=shape, encode=heartbeat.encode, script=script, seed=seed, faults=faults
        )
        self.faults = self.cloud.faults
        self.provider = SimulatedProvider(clock=self.clock, home="", settings={"cloud": self.cloud})

    def intent(self, token: str = "job-1-1", *, hard_after_s: float = 7200.0, **changes: Any) -> Intent:
        """A frozen request for the first offer, made now."""
        spot = changes.pop("spot", False)
        regions = changes.pop("regions", ())
        request = OfferRequest(gpu="T4", disk_gb=100, spot=spot, regions=regions)
        now = self.clock.now()
        deadline = now + timedelta(seconds=hard_after_s)
        job = token.rpartition("-")[0]
        fields: dict[str, Any] = {
            "job": job,
            "name": "test",
            "attempt": 1,
            "token": token,
            "owner": OWNER,
            "account": self.provider.account,
            "offer": next(iter(self.cloud_offers(request))),
            "created_at": now,
            "hard_after_s": hard_after_s,
            "hard_deadline": deadline,
            "tags": make_tags(job=job, attempt=1, owner=OWNER, cap_usd=Decimal(5), hard_deadline=deadline),
            "disk_gb": 100,
            "boot_data": b"",
        }
        return Intent(**(fields | changes))

    def cloud_offers(self, request: OfferRequest) -> list[Any]:
        """Offers without a call that faults could meet."""
        from providers.simulated.offers import offers

        return offers(self.cloud, request)

    def start(self, **changes: Any) -> str:
        """A machine, accepted now; its id."""
        return self.provider.create(self.intent(**changes)).id

    def run_until(self, at_s: float) -> None:
        """Go to that many seconds after the beginning, exactly."""
        self.clock.advance(self.start_s + at_s - self.clock.monotonic())
        self.cloud.settle()

    def step(self) -> bool:
        """Go to the next thing that happens by itself; False when nothing will."""
        next_s = self.cloud.next_event_s()
        if next_s is None:
            return False
        self.clock.advance(max(next_s - self.clock.monotonic(), 0.0))
        self.cloud.settle()
        return True

    def run_until_gone(self, machine_id: str) -> float:
        """Go on until nothing is left of it; the seconds since the beginning."""
        while any(machine.id == machine_id for machine in self.cloud.existing()):
            assert self.step(), f"{machine_id} never goes"
        return self.clock.monotonic() - self.start_s

    def run_until_state(self, machine_id: str, state: MachineState) -> float:
        """Go on until it is in that state; the seconds since the beginning."""
        while self.provider.get(machine_id).state is not state:
            assert self.step(), f"{machine_id} is never {state}"
        return self.clock.monotonic() - self.start_s

    def beat(self, machine_id: str) -> dict[str, Any]:
        """The newest heartbeat's content."""
        found = heartbeat.latest(self.provider.heartbeat(machine_id))
        assert found is not None
        return found[1]


def gone(lab: Lab, machine_id: str) -> bool:
    """The provider says that it is gone."""
    try:
        lab.provider.get(machine_id)
    except MachineNotFound:
        return True
    return False


# The provider as the launcher finds it


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


# A machine's life


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


# The shapes keep what they declare

_TROUBLES = (
    FOR_EVER,
    Script(boots=False),
    replace(FOR_EVER, agent_dies_after_s=30),
    replace(FOR_EVER, network_cut_s=(60, 10_000)),
    Script(finishes_after_s=100),
    replace(FOR_EVER, preempted_after_s=300),
)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_nothing_is_left_after_the_deadline_and_the_worst_lateness(shape: Shape) -> None:
    """With no guard at all, whatever becomes of the agent. A listing or an address alone counts as something."""
    hard_after_s = 1800.0
    late = [
        lab.run_until_gone(lab.start(hard_after_s=hard_after_s)) - hard_after_s
        for seed, script in itertools.product(range(40), _TROUBLES)
        for lab in [Lab(shape, script, seed=seed)]
    ]

    assert max(late) <= shape.worst_lateness_s


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_bill_at_the_end_is_below_the_rate_for_deadline_and_lateness(shape: Shape) -> None:
    """This is what the arithmetic of the cap counts on, for on demand and for spot at its ceiling."""
    hard_after_s = 1800.0
    for seed, spot in itertools.product(range(40), (False, True)):
        lab = Lab(shape, replace(FOR_EVER, agent_dies_after_s=0), seed=seed)
        intent = lab.intent(hard_after_s=hard_after_s, spot=spot)
        lab.run_until_gone(lab.provider.create(intent).id)
        seconds = Decimal(str(hard_after_s + shape.worst_lateness_s))
        assert lab.cloud.bill() <= intent.offer.rate_usd_per_hour * seconds / 3600 + intent.offer.one_time_usd


def test_the_worst_lateness_is_the_sum_of_what_the_cloud_may_waste() -> None:
    """Timer, teardown and rounding; and the wait to run where the timer counts from there."""
    assert {shape.name: shape.worst_lateness_s for shape in SHAPES.values()} == {
        "plain": 0 + 5 + 1,
        "aws": 60 + 90 + 1,
        "gcp": 30 + 30 + 120 + 1,
        "azure": 120 + 480 + 1,
    }


def test_a_cloud_without_a_timer_says_so() -> None:
    """And then nothing ends a machine whose agent is dead."""
    lab = Lab(replace(AWS, timer=None), replace(FOR_EVER, agent_dies_after_s=0))
    machine_id = lab.start(hard_after_s=600)
    while lab.step():
        pass

    assert not lab.provider.preflight().armed
    assert lab.provider.preflight().fix
    assert lab.provider.get(machine_id).state is MachineState.RUNNING


@pytest.mark.parametrize(
    ("shape", "state", "left"),
    [
        (PLAIN, None, None),
        (AWS, MachineState.STOPPED, ("timer",)),
        (GCP, MachineState.STOPPED, ("disk", "nic")),
        (AZURE, MachineState.STOPPED, ("disk", "nic", "address", "timer", "role", "group")),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_is_left_of_a_machine_that_was_switched_off(
    shape: Shape, state: MachineState | None, left: tuple[str, ...] | None
) -> None:
    """Only a `delete` is left to do, and it leaves nothing."""
    lab = Lab(shape)
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.cloud.power_off(machine_id)
    lab.clock.advance(shape.delete_s.most)
    found = [(machine.state, machine.things) for machine in lab.cloud.existing()]

    assert found == ([] if state is None else [(state, left)])
    lab.provider.delete(machine_id)
    lab.clock.advance(shape.delete_s.most)
    assert lab.cloud.existing() == []


def test_a_switched_off_machine_on_azure_goes_on_billing() -> None:
    """Stopped is not deallocated."""
    lab = Lab(AZURE)
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.cloud.power_off(machine_id)
    before = lab.cloud.bill_lines(machine_id)["compute"]
    lab.clock.advance(3600)

    assert lab.cloud.bill_lines(machine_id)["compute"] - before == Decimal("0.526")


def test_a_switched_off_machine_on_gcp_bills_its_disk_and_escapes_its_timer() -> None:
    """The run-time limit does not reach a stopped machine."""
    lab = Lab(GCP)
    machine_id = lab.start(hard_after_s=600)
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.cloud.power_off(machine_id)
    before = lab.cloud.bill_lines(machine_id)
    lab.clock.advance(36_000)
    after = lab.cloud.bill_lines(machine_id)

    assert after["compute"] == before["compute"]
    assert after["address"] == before["address"]
    assert after["disk"] - before["disk"] == 10 * 100 * Decimal("0.10") / 730


def test_a_preempted_machine_on_azure_leaves_its_group_behind() -> None:
    """The address goes on billing until the group is deleted; compute does not."""
    lab = Lab(AZURE)
    machine_id = lab.start(spot=True)
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.cloud.preempt(machine_id)
    lab.run_until_state(machine_id, MachineState.STOPPED)
    [left] = lab.cloud.existing()
    before = lab.cloud.bill_lines(machine_id)
    lab.clock.advance(3600)
    after = lab.cloud.bill_lines(machine_id)

    assert left.things == ("nic", "address", "timer", "role", "group")
    assert (after["compute"], after["disk"]) == (before["compute"], before["disk"])
    assert after["address"] - before["address"] == Decimal("0.005")
    assert lab.provider.get(machine_id).state_reason == "preempted"


# The bill


def test_the_bill_of_a_plain_machine() -> None:
    """Running from 5 s to 110 s at 3.60 USD per hour, a tenth of a cent each second."""
    lab = Lab(PLAIN, Script(finishes_after_s=100))
    machine_id = lab.start()
    lab.run_until_gone(machine_id)

    assert lab.cloud.bill_lines(machine_id) == {"compute": Decimal("0.105")}
    assert lab.cloud.bill("job-1") == Decimal("0.105")
    assert lab.cloud.bill("job-2") == 0


def test_a_begun_second_is_billed_whole() -> None:
    """Rounding goes up to the granularity, and not beyond for the noise of binary fractions."""
    lab = Lab(PLAIN)
    lab.start()
    lab.run_until(5 + 1.1)
    assert lab.cloud.bill() == Decimal("0.002")
    lab.run_until(5 + 2)
    assert lab.cloud.bill() == Decimal("0.002")


@pytest.mark.parametrize(("shape", "least_s"), [(AWS, 60), (GCP, 60)])
def test_the_first_minute_is_billed_whole(shape: Shape, least_s: int) -> None:
    """A machine that ran for a second costs its minimum."""
    lab = Lab(shape)
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.RUNNING)
    on_demand = shape.items[0].on_demand

    assert lab.cloud.bill_lines(machine_id)["compute"] == on_demand * least_s / 3600


def test_a_machine_deleted_before_it_ran_costs_its_disk_only() -> None:
    """No compute where pending is free; disk and address from the first second."""
    lab = Lab(AWS)
    machine_id = lab.start()
    lab.clock.advance(10)
    lab.provider.delete(machine_id)
    gone_s = lab.run_until_gone(machine_id)
    lines = lab.cloud.bill_lines(machine_id)
    seconds = int(-(-gone_s // 1))

    assert lines["compute"] == 0
    assert lines["disk"] == 100 * Decimal("0.08") / 730 * seconds / 3600
    assert lines["address"] == Decimal("0.005") * seconds / 3600
    assert lines["timer"] == Decimal("0.000001")


@pytest.mark.parametrize(("shape", "billed"), [(AWS, False), (GCP, True), (AZURE, True)])
def test_whether_the_end_itself_is_billed(shape: Shape, billed: bool) -> None:
    """Between the order to delete and the end, compute bills on some clouds."""
    lab = Lab(shape)
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.clock.advance(600)
    lab.provider.delete(machine_id)
    before = lab.cloud.bill_lines(machine_id)["compute"]
    lab.run_until_gone(machine_id)

    assert (lab.cloud.bill_lines(machine_id)["compute"] > before) == billed


def test_egress_is_billed() -> None:
    """What left the cloud has its own line."""
    lab = Lab(AWS, replace(FOR_EVER, egress_gb=Decimal(2)))
    machine_id = lab.start()
    lab.clock.advance(600)

    assert lab.cloud.bill_lines(machine_id)["egress"] == Decimal("0.18")


def test_the_bill_of_a_machine_that_is_gone_is_final() -> None:
    """Time adds nothing to it."""
    lab = Lab(AZURE, Script(finishes_after_s=100))
    lab.run_until_gone(lab.start())
    final = lab.cloud.bill()
    lab.clock.advance(864_000)

    assert lab.cloud.bill() == final


def test_the_evidence_agrees_with_the_bill() -> None:
    """What the provider tells about the end of billing is what the cloud has billed as compute."""
    lab = Lab(AWS, Script(finishes_after_s=100))
    machine_id = lab.start()
    lab.run_until_gone(machine_id)
    with pytest.raises(MachineNotFound) as caught:
        lab.provider.get(machine_id)
    evidence = caught.value.machine

    assert evidence is not None
    assert evidence.billing_started_at is not None
    assert evidence.billing_ended_at is not None
    seconds = (evidence.billing_ended_at - evidence.billing_started_at).total_seconds()
    billed_s = lab.cloud.bill_lines(machine_id)["compute"] * 3600 / Decimal("0.526")
    assert billed_s == math.ceil(seconds)


def test_evidence_is_forgotten_after_a_while() -> None:
    """Then the launcher must take its upper bound."""
    lab = Lab(AWS, Script(finishes_after_s=100))
    machine_id = lab.start()
    lab.run_until_gone(machine_id)
    lab.clock.advance(AWS.evidence_s + 1)
    with pytest.raises(MachineNotFound) as caught:
        lab.provider.get(machine_id)

    assert caught.value.machine is None
    assert lab.provider.heartbeat(machine_id) == b""


# The spot market


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
    assert lab.provider.get(machine_id).state_reason == "preempted"
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


# Faults


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (AuthError, None),
        (QuotaError, "region"),
        (CapacityError, "zone"),
        (CapacityError, "region"),
        (CapacityError, "provider"),
        (RateLimited, None),
        (ProviderUnavailable, None),
        (InvalidRequest, None),
    ],
)
def test_a_refused_create_makes_nothing(error: type[Any], scope: str | None) -> None:
    """The error is typed, and says where another attempt may succeed."""
    lab = Lab()
    intent = lab.intent()
    lab.faults.once("create", Refuse(error, code="CloudCode", next_scope=scope))
    with pytest.raises(error) as caught:
        lab.provider.create(intent)

    assert (caught.value.code, caught.value.next_scope) == ("CloudCode", scope)
    assert caught.value.what
    assert caught.value.why
    assert caught.value.fix
    assert lab.cloud.existing() == []
    assert lab.provider.create(intent).state is MachineState.PENDING


def test_a_create_whose_reply_is_lost_is_settled_by_replay() -> None:
    """The machine exists, the caller does not know; the same token finds it."""
    lab = Lab()
    intent = lab.intent()
    lab.faults.once("create", LostReply())
    with pytest.raises(AmbiguousOutcome):
        lab.provider.create(intent)
    [existing] = lab.cloud.existing()

    assert lab.provider.create(intent).id == existing.id
    assert len(lab.cloud.existing()) == 1


def test_other_lost_replies_can_be_repeated() -> None:
    """The delete was accepted all the same."""
    lab = Lab()
    machine_id = lab.start()
    lab.faults.once("delete", LostReply())
    with pytest.raises(ProviderUnavailable):
        lab.provider.delete(machine_id)

    assert lab.provider.get(machine_id).state is MachineState.STOPPING


def test_a_delayed_machine_appears_later() -> None:
    """Until then it is nowhere, and a replay says that its fate is still open."""
    lab = Lab()
    intent = lab.intent()
    lab.faults.once("create", Delayed(60))
    with pytest.raises(AmbiguousOutcome):
        lab.provider.create(intent)
    lab.run_until(59)
    assert lab.provider.list(OWNER) == []
    assert lab.cloud.bill() == 0
    with pytest.raises(AmbiguousOutcome) as caught:
        lab.provider.create(intent)
    assert caught.value.code == "OperationInProgress"
    lab.run_until(60)

    assert [machine.id for machine in lab.provider.list(OWNER)] == [lab.provider.create(intent).id]


def test_a_request_delivered_twice_makes_one_machine() -> None:
    """The token tells the second from another request."""
    lab = Lab()
    lab.faults.once("create", Duplicated())
    machine_id = lab.start()

    assert [machine.id for machine in lab.cloud.existing()] == [machine_id]


def test_between_create_and_its_timer_a_lost_reply_leaves_no_timer() -> None:
    """On AWS the timer is a call of its own: the replay arms it."""
    lab = Lab(AWS)
    intent = lab.intent()
    lab.faults.once("create", LostReply())
    with pytest.raises(AmbiguousOutcome):
        lab.provider.create(intent)
    assert lab.cloud.existing()[0].things == ("disk", "nic", "address")
    lab.faults.once("arm", Refuse(RateLimited))
    with pytest.raises(AmbiguousOutcome, match="timer"):
        lab.provider.create(intent)
    machine = lab.provider.create(intent)

    assert machine.deadline_at == intent.created_at + timedelta(seconds=intent.hard_after_s)
    assert lab.cloud.existing()[0].things == ("disk", "nic", "address", "timer")


def test_a_machine_that_vanishes_before_its_timer_is_armed_was_made() -> None:
    """Create returns it; the next look says that it is gone."""
    lab = Lab(AWS)
    intent = lab.intent()
    lab.faults.once("arm", Slow(10_000))
    lab.cloud.script = FOR_EVER
    machine = lab.provider.create(intent)

    assert machine.state is MachineState.PENDING
    assert gone(lab, machine.id)


def test_a_late_replay_gains_no_time() -> None:
    """The deadline counts from the frozen request's own time, whenever it arrives."""
    lab = Lab(AZURE, replace(FOR_EVER, agent_dies_after_s=0))
    intent = lab.intent(hard_after_s=3600)
    lab.faults.once("create", Refuse(ProviderUnavailable))
    with pytest.raises(ProviderUnavailable):
        lab.provider.create(intent)
    lab.run_until(1800)
    machine = lab.provider.create(intent)

    assert machine.deadline_at == intent.created_at + timedelta(seconds=3600)
    assert lab.run_until_gone(machine.id) <= 3600 + AZURE.worst_lateness_s


def test_a_hanging_delete_is_accepted_and_does_nothing_for_a_while() -> None:
    """Repeating it drives the teardown on."""
    lab = Lab()
    machine_id = lab.start()
    lab.run_until(20)
    lab.faults.once("delete", HangingDelete(600), HangingDelete(300))
    lab.provider.delete(machine_id)
    lab.provider.delete(machine_id)
    lab.run_until(319)
    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    lab.run_until(320)

    assert lab.provider.get(machine_id).state is MachineState.STOPPING


def test_a_stuck_teardown_is_not_gone_while_a_disk_is_left() -> None:
    """Compute bills no longer; disk and address do, and `get` still finds the machine."""
    lab = Lab(GCP)
    machine_id = lab.start()
    lab.run_until_state(machine_id, MachineState.RUNNING)
    lab.faults.once("delete", StuckTeardown(7200))
    lab.provider.delete(machine_id)
    lab.clock.advance(GCP.delete_s.most)
    before = lab.cloud.bill_lines(machine_id)
    lab.clock.advance(3600)
    after = lab.cloud.bill_lines(machine_id)

    assert lab.provider.get(machine_id).state is MachineState.STOPPING
    assert lab.cloud.existing()[0].things == ("disk", "nic", "address")
    assert after["compute"] == before["compute"]
    assert after["address"] - before["address"] == Decimal("0.005")
    lab.clock.advance(3600)
    assert gone(lab, machine_id)


def test_listings_lag() -> None:
    """A new machine is not listed yet, and one that is gone is listed still."""
    lab = Lab(AWS, Script(finishes_after_s=None))
    machine_id = lab.start()
    assert lab.provider.list(OWNER) == []
    lab.clock.advance(AWS.list_lag_s)
    assert [machine.id for machine in lab.provider.list(OWNER)] == [machine_id]
    lab.provider.delete(machine_id)
    lab.run_until_gone(machine_id)

    assert gone(lab, machine_id)
    assert [machine.id for machine in lab.provider.list(OWNER)] == [machine_id]
    lab.clock.advance(AWS.list_lag_s)
    assert lab.provider.list(OWNER) == []


def test_a_stale_answer_shows_the_past() -> None:
    """A machine that is gone looks alive for a while; one that is new is never falsely gone."""
    lab = Lab()
    machine_id = lab.start()
    lab.faults.once("get", Stale(60))
    assert lab.provider.get(machine_id).state is MachineState.PENDING
    lab.run_until(100)
    lab.provider.delete(machine_id)
    lab.run_until(110)
    lab.faults.once("get", Stale(60))
    lab.faults.once("list", Stale(60))
    stale = lab.provider.get(machine_id)

    assert (stale.state, stale.billing_ended_at) == (MachineState.RUNNING, None)
    assert [machine.id for machine in lab.provider.list(OWNER)] == [machine_id]
    assert lab.provider.list(OWNER) == []
    assert gone(lab, machine_id)


def test_the_api_can_be_down_for_a_time() -> None:
    """Every call fails in it, machines live on, and afterwards all is as before."""
    lab = Lab(PLAIN, Script(finishes_after_s=100))
    machine_id = lab.start()
    lab.faults.down(lab.start_s + 50, lab.start_s + 3650)
    lab.run_until(60)
    calls = (
        lab.provider.preflight,
        lambda: lab.provider.get(machine_id),
        lambda: lab.provider.list(OWNER),
        lambda: lab.provider.delete(machine_id),
        lambda: lab.provider.heartbeat(machine_id),
    )
    for call in calls:
        with pytest.raises(ProviderUnavailable):
            call()
    lab.run_until(3650)

    assert gone(lab, machine_id)
    assert lab.faults.injected["Refuse:ProviderUnavailable"] == len(calls)


@pytest.mark.parametrize(("after_effect", "machines"), [(False, 0), (True, 1)])
def test_the_caller_can_die_on_either_side_of_the_effect(after_effect: bool, machines: int) -> None:
    """No `except Exception` can swallow it, and the replay makes it one machine in both cases."""
    lab = Lab()
    intent = lab.intent()
    lab.faults.once("create", Crash(after_effect=after_effect))
    with pytest.raises(SimulatedCrash):
        lab.provider.create(intent)

    assert len(lab.cloud.existing()) == machines
    assert not issubclass(SimulatedCrash, Exception)
    lab.provider.create(intent)
    assert len(lab.cloud.existing()) == 1


def test_a_slow_call_takes_time() -> None:
    """The world goes on meanwhile."""
    lab = Lab()
    machine_id = lab.start()
    lab.faults.once("get", Slow(30))

    assert lab.provider.get(machine_id).state is MachineState.RUNNING
    assert lab.clock.monotonic() - lab.start_s == 30


def test_a_rule_meets_the_calls_it_names() -> None:
    """Here every call about one machine fails, and others do not."""
    lab = Lab()
    first, second = lab.start(token="job-1-1"), lab.start(token="job-2-1")
    lab.faults.every("*", Refuse(RateLimited), lambda call: call.about == first)

    assert lab.provider.get(second).id == second
    with pytest.raises(RateLimited):
        lab.provider.get(first)
    lab.faults.clear()
    assert lab.provider.get(first).id == first


def test_rates_follow_the_seed() -> None:
    """The same seed meets the same calls with the same faults, about as often as it says."""

    def failures(seed: int) -> list[bool]:
        lab = Lab(faults=Faults(seed))
        lab.faults.rate("get", Refuse(RateLimited), 0.2)
        machine_id = lab.start()
        found = []
        for _ in range(500):
            try:
                lab.provider.get(machine_id)
                found.append(False)
            except RateLimited:
                found.append(True)
        assert lab.faults.injected == {"Refuse:RateLimited": sum(found)}
        return found

    assert failures(1) == failures(1)
    assert failures(1) != failures(2)
    assert 50 < sum(failures(1)) < 150


def test_calls_are_recorded() -> None:
    """Name, what about, and when; those that failed too."""
    lab = Lab()
    machine_id = lab.start()
    lab.run_until(7)
    lab.faults.once("delete", Refuse(RateLimited))
    with pytest.raises(RateLimited):
        lab.provider.delete(machine_id)

    assert [(call.at_s - lab.start_s, call.name, call.about) for call in lab.cloud.calls] == [
        (0.0, "create", "job-1-1"),
        (7.0, "delete", machine_id),
    ]


def test_a_listing_is_one_call_for_each_page() -> None:
    """Calls grow with pages, not with machines; a page that fails fails the listing."""
    lab = Lab(replace(PLAIN, page_size=10))
    for number in range(25):
        lab.start(token=f"job-{number}-1")
    listed = lab.provider.list(OWNER)

    assert len({machine.id for machine in listed}) == len(listed) == 25
    assert lab.cloud.call_counts["list"] == 3
    lab.faults.every("list", Refuse(RateLimited), lambda call: call.about.endswith("from 20"))
    with pytest.raises(RateLimited):
        lab.provider.list(OWNER)


def test_a_request_for_what_is_not_sold_is_refused() -> None:
    """A wrong zone or type makes nothing, and the error names what there is."""
    lab = Lab(AWS)
    offer = lab.intent().offer
    with pytest.raises(InvalidRequest, match="us-east-1"):
        lab.provider.create(lab.intent(offer=msgspec.structs.replace(offer, zone="us-east-1z")))

    assert lab.cloud.existing() == []
