"""The real guard against Azure in small: what a job costs, and that nothing outlives it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from azure_bench import OWNER, Bench
from azure_bill import PriceList
from azure_things import Pace
from azure_world import CONTRIBUTOR_RIGHTS

from launcher import sweep
from launcher.outcome import Outcome, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from launcher.records import Attempt

CENT = Decimal("0.01")
# What the offer says of disk, address and disk operations comes from the dated table, with its margin of 10 %: here
# the cloud charges just that, so that what is compared is time and state, to the cent.
AT_THE_WORST = PriceList(factor=Decimal("1.10"), disk_operations_usd=Decimal("0.11"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches, and looks back at what was asked of each."""
    made: list[Bench] = []

    def make(**world: Any) -> Bench:
        made.append(Bench(tmp_path / f"home-{len(made)}", **world))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("log_late_s", [0.0, 900.0])
def test_ledger_and_bill_agree_to_the_cent(bench: Callable[..., Bench], log_late_s: float) -> None:
    """Two hours of training: by the activity log, or where that is late by the guard's own last looks."""
    here = bench(prices=AT_THE_WORST, finishes_after_s=7200.0, pace=Pace(log_late=log_late_s))
    here.started()
    here.run()
    difference = here.spend_usd() - here.bill_usd()

    assert (Outcome.FINISHED, here.left()) == (here.job.outcome, {})
    assert Decimal(0) <= difference < CENT
    assert here.bill_usd() > Decimal("1.10")


def test_down_leaves_nothing(bench: Callable[..., Bench]) -> None:
    """No group, disk, interface, address, workflow, schedule, role assignment; and the ledger is not below the bill."""
    here = bench(prices=AT_THE_WORST)
    here.started()
    full = here.left()
    here.cancel()
    here.run()

    assert full == {
        "bills": 3,
        "disks": 1,
        "networkInterfaces": 1,
        "publicIPAddresses": 1,
        "resourceGroups": 1,
        "roleAssignments": 2,
        "virtualMachines": 1,
        "virtualNetworks": 1,
        "workflows": 1,
    }
    assert (Outcome.CANCELLED, {}) == (here.job.outcome, here.left())
    # The agent had no time to say what it had sent, so the reserve for that counts as spent.
    assert Decimal(0) <= here.spend_usd() - here.attempt.egress_usd - here.bill_usd() < CENT


def test_agent_guard_and_laptop_dead_the_logic_app_deletes_all(bench: Callable[..., Bench]) -> None:
    """At the hard deadline, by the cloud itself; the bill is within the cap, and most of the cap was of use."""
    here = bench(prices=AT_THE_WORST)
    vm = here.started(cap_usd="5")
    here.world.power_off(vm)  # as dead as can be: and it bills
    alive_s = here.until_hard_deadline_s()
    here.pass_time(alive_s - 1)
    assert here.left()["virtualMachines"] == 1
    here.pass_time(here.provider.worst_lateness_s + 1)

    assert {} == here.left()
    assert Decimal("4.80") < here.bill_usd() <= Decimal(5)


def test_a_guard_that_comes_late_reads_what_happened(bench: Callable[..., Bench]) -> None:
    """Its laptop slept through the end: the activity log tells when billing ended, and the cap was what ended it."""
    here = bench(prices=AT_THE_WORST)
    here.world.power_off(here.started(cap_usd="2"))
    here.pass_time(here.until_hard_deadline_s() + 20_000)
    here.run()

    assert (Outcome.BUDGET_REACHED, "HARD_DEADLINE") == (here.job.outcome, here.job.reason)
    assert Decimal(0) <= here.spend_usd() - here.bill_usd() < Decimal("0.05")  # standing parts, to their upper bound
    assert here.spend_usd() <= Decimal(2)


def test_with_roles_refused_compute_ends_at_the_deadline_and_a_sweep_removes_the_rest(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    """Another computer, no local state, twenty hours later: within the reserve, and the bill within the cap."""
    here = bench(prices=AT_THE_WORST, may=CONTRIBUTOR_RIGHTS)
    vm = here.started(cap_usd="5")
    here.world.power_off(vm)
    here.pass_time(here.until_hard_deadline_s() + here.provider.worst_lateness_s)
    after_deadline = here.left()
    here.pass_time(20 * 3600)
    results = sweep_elsewhere(here, tmp_path)

    assert "deallocated" == vm.power
    assert {"workflows", "roleAssignments"}.isdisjoint(after_deadline)
    assert 2 == after_deadline["bills"]  # disk and address
    assert [sweep.Action.DESTROYED] == [found.action for found in results]
    assert {} == here.left()
    assert Decimal(4) < here.bill_usd() <= Decimal(5)


def sweep_elsewhere(here: Bench, folder: Path) -> list[sweep.Found]:
    """What `gpulaunch sweep` does, on another computer."""
    providers = {"azure": here.another_provider(folder / "elsewhere")}
    machines, failed = sweep.list_all(providers, OWNER, here.clock)
    assert failed == {}
    found = [
        sweep.judge("azure", machine, owner=OWNER, now=here.clock.now(), known=()) for machine in machines["azure"]
    ]
    return sweep.destroy([each for each in found if each.past_deadline], providers, here.clock)


def test_with_roles_refused_a_job_that_is_ended_leaves_no_deallocation_behind(bench: Callable[..., Bench]) -> None:
    """The guard deletes the group, and takes the deallocation back."""
    here = bench(may=CONTRIBUTOR_RIGHTS)
    here.started()
    assert here.left()["schedules"] == 1
    here.cancel()
    here.run()

    assert {} == here.left()
    assert ["Cancelled"] == [schedule["state"] for schedule in here.world.schedules.values()]


def test_a_guest_that_powered_itself_off_is_deleted(bench: Callable[..., Bench]) -> None:
    """It is stopped, not deallocated: it bills, and does nothing more."""
    here = bench()
    here.world.power_off(here.started())
    looks = len(here.world.requests)
    here.run()

    assert (State.GONE, {}) == (here.job.state, here.left())
    assert len(here.world.requests) - looks < 60


def test_an_evicted_spot_machine_is_told_as_preempted_and_its_rest_deleted(bench: Callable[..., Bench]) -> None:
    """Azure takes machine and disk; network, timer and roles would stay."""
    here = bench()
    vm = here.started(spot=True)
    body = vm.body["properties"]
    here.world.evict(vm)
    assert here.left()["workflows"] == 1
    here.run()

    assert ("Spot", "Delete") == (body["priority"], body["evictionPolicy"])
    assert {"maxPrice": 0.07837} == body["billingProfile"]  # 1.25 times the current price, never above on demand
    assert (Outcome.PREEMPTED, {}) == (here.job.outcome, here.left())


def test_an_allocation_failure_leaves_nothing_and_the_next_region_is_used(bench: Callable[..., Bench]) -> None:
    """Group and network were made by then; the operation failed with status 200."""
    here = bench(zones={})
    here.world.faults.add("fail", method="PUT", path="virtualMachines", code="AllocationFailed")
    here.started()
    first, second = here.attempts
    [group] = here.world.groups.values()
    written = [
        row for row in here.world.log if row["operationName"]["value"].endswith(("groups/delete", "groups/write"))
    ]

    assert (State.GONE, "AllocationFailed", False) == (first.state, first.reason, first.create_called)
    assert ("eastus", "centralus") == (first.region, second.region)
    assert "centralus" == group.location
    assert ["write", "delete", "delete", "write"] == [
        row["operationName"]["value"].rpartition("/")[2] for row in written
    ]  # ordered and seen gone, before anything else is made
    assert "Succeeded" == written[2]["status"]["value"]


def test_a_full_zone_is_followed_by_the_next_zone(bench: Callable[..., Bench]) -> None:
    """ZonalAllocationFailed names the zone, not the region."""
    here = bench()
    here.world.faults.add("fail", method="PUT", path="virtualMachines", code="ZonalAllocationFailed")
    here.started()

    assert [("eastus", "1"), ("eastus", "2")] == [(attempt.region, attempt.zone) for attempt in here.attempts]


@pytest.mark.parametrize(
    ("code", "status"), [("OperationNotAllowed", 409), ("SkuNotAvailable", 409), ("QuotaExceeded", 400)]
)
def test_a_refusal_of_quota_or_size_is_followed_by_the_next_region(
    bench: Callable[..., Bench], code: str, status: int
) -> None:
    """A quota that is used up arrives as a conflict, which the SDK calls `exists`."""
    here = bench()
    here.world.faults.add("refuse", method="PUT", path="virtualMachines", code=code, status=status)
    here.started()

    assert [("eastus", code), ("centralus", None)] == [(each.region, each.reason) for each in here.attempts]
    assert 1 == here.left()["resourceGroups"]


@pytest.mark.parametrize("kind", ["lose", "drop"])
@pytest.mark.parametrize(
    "path", ["resourcegroups/[^/]+$", "virtualNetworks", "workflows", "roleAssignments", "virtualMachines/machine$"]
)
def test_a_lost_reply_makes_no_second_machine(bench: Callable[..., Bench], kind: str, path: str) -> None:
    """Of any step: whether it was carried out or not, there is one machine in the end, and nothing after it."""
    here = bench()
    here.world.faults.add(kind, method="PUT", path=path, times=2)  # once more than the SDK's own retry
    here.started()
    assert (1, 1) == (here.left()["virtualMachines"], here.left()["resourceGroups"])
    here.cancel()
    here.run()

    assert {} == here.left()
    assert 1 == len(here.attempts)


def test_too_many_requests_are_waited_for(bench: Callable[..., Bench]) -> None:
    """429 with Retry-After: the guard replays at its own pace; it never sleeps inside a call."""
    here = bench()
    here.world.faults.add(
        "refuse",
        method="PUT",
        path="virtualMachines",
        status=429,
        code="TooManyRequests",
        headers={"Retry-After": "7200"},
    )
    before_s = here.clock.monotonic()
    here.started()

    assert 1 == len(here.attempts)
    assert here.clock.monotonic() - before_s < 600


def test_a_lock_is_named_and_the_machine_never_called_gone(bench: Callable[..., Bench]) -> None:
    """Until somebody takes the lock away."""
    here = bench()
    here.started()
    [group] = here.world.groups.values()
    group.locked = True
    here.cancel()
    for _ in range(20):
        here.tick()
    stuck = here.attempt
    group.locked = False
    here.run()

    assert State.DELETING == stuck.state
    assert "lock" in str(stuck.trouble)
    assert "az lock list" in str(stuck.trouble)
    assert {} == here.left()


def test_a_deletion_that_hangs_is_named_louder_with_time(bench: Callable[..., Bench]) -> None:
    """Accepted, and not carried out: what is left is named, and since when; it is never called gone."""
    here = bench()
    vm = here.started()
    here.world.faults.add("hang", method="DELETE", path="resourcegroups", times=1)
    here.cancel()
    troubles: list[Attempt] = []
    end_s = here.clock.monotonic() + 3600
    while here.clock.monotonic() < end_s:
        here.tick()
        troubles.append(here.attempt)
    [group] = here.world.groups.values()
    group.deleting = False
    here.world.delete_group(group)
    here.run()

    said = [text for text in dict.fromkeys(str(attempt.trouble) for attempt in troubles) if "deleting for" in text]
    assert {State.DELETING} == {attempt.state for attempt in troubles}
    assert len(said) > 5
    assert "15 minutes" in said[0]
    assert "virtualMachines" in said[0]
    assert vm.id.lower() not in here.world.things
    assert {} == here.left()


def test_rights_that_azure_denies_after_all_are_told_and_leave_nothing(bench: Callable[..., Bench]) -> None:
    """The list of rights promised what a deny assignment forbids: no machine without the timer that was planned.

    The next command knows better, in another process too.
    """
    here = bench(may_truly_assign=False)
    here.add()
    here.run()
    provider = here.another_provider(here.folder)
    backstop = provider.preflight()

    assert (Outcome.LAUNCH_FAILED, "AuthorizationFailed") == (here.job.outcome, here.job.reason)
    assert (0, {}) == (here.bill_usd(), here.left())
    assert "Launch again" in str(here.attempt.trouble)
    assert "ComputeSchedule" in backstop.what
    assert any("a day after" in cost.name for cost in here.offers()[0].one_time)


def test_a_role_that_spreads_slowly_delays_the_end_and_nothing_else(bench: Callable[..., Bench]) -> None:
    """The agent is refused for minutes after a very short training; it asks again."""
    here = bench(finishes_after_s=10.0, pace=replace(Pace(), role_spread=400.0))
    here.add()
    here.run()

    assert (Outcome.FINISHED, {}) == (here.job.outcome, here.left())
