"""What goes wrong between a launcher and the simulated cloud, and what is recorded of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from simulated_lab import FOR_EVER, OWNER, Lab, gone

from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    MachineState,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)
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
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, PLAIN


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
