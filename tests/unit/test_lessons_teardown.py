"""What went wrong in other tools, and must not here: ends that were not real, and what was left behind.

Each test has the name of the report that it comes from.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from scripted import Bench
from simulated_lab import OWNER, Lab
from test_lessons import CLOUDS, DOWN, HOUR_S, Rented, cancel, exit_of, failing, fine

from launcher.core.errors import Exit
from launcher.launch import thaw
from launcher.outcome import State
from launcher.sweep import destroy, judge, list_all
from providers.base import (
    MachineNotFound,
    make_tags,
)
from providers.simulated.faults import (
    HangingDelete,
    StuckTeardown,
)
from providers.simulated.script import Script
from providers.simulated.shapes import AZURE, Shape

if TYPE_CHECKING:
    from pathlib import Path


WEEK_H = 7 * 24


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud whose machines never end by themselves: only the guard is left."""
    return Bench(tmp_path, deadlines_held=False)


def test_dstack_1551_marked_terminated_after_a_network_loss(bench: Bench) -> None:
    """A machine was called terminated because the network was lost; here gone is said only after "not found"."""
    bench.started()

    def network_is_lost(call: str, subject: str) -> None:
        if call == "delete":
            bench.provider.before = failing(DOWN)
            raise DOWN

    bench.provider.after = network_is_lost
    cancel(bench)
    for _ in range(WEEK_H):
        bench.guard.tick()
        bench.clock.advance(HOUR_S)
        assert (State.DELETING, Exit.UNCONFIRMED) == (bench.attempt.state, exit_of(bench))

    bench.provider.before = bench.provider.after = fine
    bench.run()
    assert (State.GONE, ("get", "m-j-tiny-1")) == (bench.attempt.state, bench.provider.log[-2])


def test_dstack_termination_py_gives_up_after_15_minutes(bench: Bench) -> None:
    """After failed deletes the record said TERMINATED; here it is `deleting`, told, and tried again for ever."""
    bench.started()
    bench.provider.before = failing(DOWN, "delete")
    cancel(bench)
    for hours in range(WEEK_H):
        bench.guard.tick()
        bench.clock.advance(HOUR_S)
        assert (State.DELETING, hours + 1) == (bench.attempt.state, bench.attempt.deletes)
        assert Exit.UNCONFIRMED == exit_of(bench)

    bench.provider.before = fine
    bench.run()
    assert ({}, State.GONE) == (bench.provider.boxes, bench.attempt.state)


def test_dstack_termination_py_trouble_is_told_as_long_as_it_lasts(bench: Bench) -> None:
    """While deletes fail, `status` says why, after every one of them."""
    bench.started()
    bench.provider.before = failing(DOWN, "delete")
    cancel(bench)
    for _ in range(10):
        bench.guard.tick()
        bench.clock.advance(HOUR_S)
        assert str(DOWN) == bench.attempt.trouble


def test_dstack_3031_skypilot_632_1783_delete_of_what_is_deleted(bench: Bench) -> None:
    """Deleting what was deleted failed; here "not found" is success, in the call, in the guard and in a sweep."""
    lab = Lab(AZURE)
    machine_id = lab.start()
    listed = lab.provider.get(machine_id)
    lab.provider.delete(machine_id)
    lab.run_until_gone(machine_id)
    lab.provider.delete(machine_id)
    found = judge("cloud", listed, owner=OWNER, now=lab.clock.now(), known=())
    assert ["destroyed"] == [each.action for each in destroy([found], {"cloud": lab.provider}, lab.clock)]

    box = bench.started()

    def somebody_was_faster(call: str, subject: str) -> None:
        if call == "delete":
            box.taken_at = bench.clock.now()
            raise MachineNotFound("There is no such machine.")

    bench.provider.before = somebody_was_faster
    cancel(bench)
    bench.run()
    assert ("cancelled", State.GONE, None) == (bench.job.outcome, bench.attempt.state, bench.attempt.trouble)


@pytest.mark.parametrize("shape", CLOUDS, ids=lambda shape: shape.name)
def test_skypilot_426_3688_ray_55392_orphaned_dependents(tmp_path: Path, shape: Shape) -> None:
    """Addresses, disks and network cards were left behind; here all is tagged, and gone means that they are gone."""
    rented = Rented(tmp_path, shape)
    rented.launch()
    rented.reach(State.RUNNING)
    (existing,) = rented.cloud.existing()
    assert (set(shape.things), thaw(rented.attempt()).tags) == (set(existing.things), existing.tags)

    rented.lab.faults.every("delete", StuckTeardown(HOUR_S))
    rented.down()
    machine, outlived = rented.machine(), 0
    while rented.tick() and machine.left():
        assert State.DELETING == rented.attempt().state
        outlived += machine.compute[-1][1] is not None
    rented.run()

    assert outlived > 0
    assert ([], State.GONE) == (rented.cloud.existing(), rented.attempt().state)


def test_skypilot_509_azure_machines_left_after_down(tmp_path: Path) -> None:
    """`down` came back before Azure had deleted; here a job's own group is awaited, and no other is touched."""
    rented = Rented(tmp_path, AZURE)
    rented.launch("a", cap="2")
    rented.launch("b", cap="2")
    rented.reach(State.RUNNING, "a")
    rented.reach(State.RUNNING, "b")
    rented.lab.faults.once("delete", HangingDelete(900))
    rented.down("a")
    rented.tick()
    while "group" in rented.machine("a").left():
        assert (State.DELETING, State.DELETING) == (rented.job("a").state, rented.attempt("a").state)
        rented.tick()
    rented.reach(State.GONE, "a")

    assert ["j-b"] == [each.job for each in rented.cloud.existing()]
    assert set(AZURE.things) == set(rented.machine("b").left())


def test_tpi_task_delete_downloads_first(bench: Bench) -> None:
    """Teardown collected results first and broke on an error; here the delete comes first, whatever else fails."""
    bench.started()
    bench.provider.before = failing(DOWN, "list", "get", "heartbeat")
    cancel(bench)
    bench.guard.tick()
    assert (1, State.DELETING) == (bench.count("delete"), bench.attempt.state)

    bench.provider.before = failing(DOWN, "heartbeat")
    bench.run()
    assert ("cancelled", {}) == (bench.job.outcome, bench.provider.boxes)


def test_cml_1138_649_tpi_227_machines_up_for_weeks(tmp_path: Path) -> None:
    """Machines were found weeks later; here a sweep from another computer reads the deadline from their tags."""
    rented = Rented(tmp_path, replace(AZURE, timer=None), Script(boots=False))
    rented.launch()
    rented.tick()
    rented.journal.close()  # the laptop is lost; agent and timer have failed

    def look() -> list[Any]:
        listed, failed = list_all({"cloud": rented.provider}, OWNER, rented.clock)
        assert {} == failed
        return [judge("cloud", each, owner=OWNER, now=rented.clock.now(), known=()) for each in listed["cloud"]]

    rented.clock.advance(HOUR_S)
    assert [False] == [found.past_deadline for found in look()]
    rented.clock.advance(21 * 24 * HOUR_S)
    due = [found for found in look() if found.past_deadline]
    assert [("j-tiny", Decimal(1))] == [(found.job, found.cap_usd) for found in due]
    assert ["destroyed"] == [found.action for found in destroy(due, {"cloud": rented.provider}, rented.clock)]
    assert [] == rented.cloud.existing()


@pytest.mark.parametrize("shape", CLOUDS, ids=lambda shape: shape.name)
def test_ray_6207_down_stops_instead_of_terminates(tmp_path: Path, shape: Shape) -> None:
    """`down` only stopped machines, whose disks billed on; here nothing of it costs anything afterwards."""
    rented = Rented(tmp_path, shape)
    rented.launch()
    rented.reach(State.RUNNING)
    rented.down()
    rented.run()
    paid_usd = rented.cloud.bill()
    rented.clock.advance(30 * 24 * HOUR_S)

    assert ((), []) == (rented.machine().left(), rented.cloud.existing())
    assert paid_usd == rented.cloud.bill() <= rented.job().cap_usd


def test_ray_pr_61811_teardown_deleted_a_shared_identity(tmp_path: Path) -> None:
    """A teardown deleted what others used too; here only what carries this job's tags goes."""
    rented = Rented(tmp_path, AZURE)
    rented.launch("a")
    rented.launch("b")
    theirs = make_tags(job="c", attempt=1, owner="owner-2", cap_usd=Decimal(5), hard_deadline=rented.clock.now())
    other = rented.lab.start(token="c-1", hard_after_s=1e6, owner="owner-2", tags=theirs)
    rented.reach(State.RUNNING, "a")
    rented.reach(State.RUNNING, "b")
    rented.down("a")
    rented.reach(State.GONE, "a")

    seen = judge("cloud", rented.provider.get(other), owner=OWNER, now=rented.clock.now(), known=())
    assert ("OTHER_OWNER", False, False) == (seen.reason, seen.past_deadline, seen.is_unknown)
    listed, _ = list_all({"cloud": rented.provider}, OWNER, rented.clock)
    assert ["j-b-1"] == [machine.token for machine in listed["cloud"]]
    assert {"j-b": AZURE.things, "c": AZURE.things} == {each.job: each.things for each in rented.cloud.existing()}
