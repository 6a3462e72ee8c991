"""The simulated clouds keep what they declare: how late they are, what they leave, and what they bill."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from decimal import Decimal

import pytest
from simulated_lab import FOR_EVER, Lab

from providers.base import MachineNotFound, MachineState
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, PLAIN, SHAPES, Shape

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
    """With no guard at all, whatever becomes of the agent. An address or a timer alone counts as something."""
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
    assert lab.provider.get(machine_id).state_reason == "PREEMPTED"


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
