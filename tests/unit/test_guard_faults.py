"""Faults on our own side: another guard, a bug, a full disk. None of them stops what is due from ending."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from makers import make_job
from scripted import Bench

from launcher.core.errors import JournalDamaged, StateError
from launcher.journal import Journal, ReplacedError
from launcher.outcome import State
from providers.base import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOWN = ProviderUnavailable("The API does not answer.")
HOUR_S = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud whose machines never end by themselves: only the guard is left."""
    return Bench(tmp_path, deadlines_held=False)


def failing(error: Exception, *calls: str) -> Callable[[str, str], None]:
    """A script in which these calls fail."""

    def script(call: str, subject: str) -> None:
        if call in calls:
            raise error

    return script


def fine(call: str, subject: str) -> None:
    """A script in which every call works."""


def cancel(bench: Bench) -> None:
    """Somebody types `gpulaunch down`."""
    assert bench.journal.request_cancel(bench.job.id, now=bench.clock.now(), by="a test")


def test_a_replaced_guard_touches_nothing(bench: Bench) -> None:
    """Another guard has taken over: this one stops before its next effect."""
    bench.started()
    cancel(bench)
    old = bench.guard
    bench.journal.writer(bench.writer.account, 2)
    before = (bench.count("delete"), bench.count("create"))

    with pytest.raises(ReplacedError):
        old.tick()
    with pytest.raises(ReplacedError):
        old.run()

    assert before == (bench.count("delete"), bench.count("create"))
    assert State.RUNNING == bench.attempt.state


def test_a_replaced_guard_makes_nothing(bench: Bench) -> None:
    """Not even what it had planned."""
    bench.add()
    bench.journal.writer(bench.writer.account, 2)

    with pytest.raises(ReplacedError):
        bench.guard.tick()

    assert {} == bench.provider.boxes


@pytest.mark.parametrize("call", ["get", "create", "delete"])
def test_a_fault_with_one_job_does_not_stop_the_others(bench: Bench, call: str) -> None:
    """It is told in that job's events, and the others are watched on."""
    bench.provider.training_s = 300.0
    bench.provider.hidden = True

    def script(called: str, subject: str) -> None:
        if called == call and "bad" in subject:
            raise ZeroDivisionError("a fault of our own")

    bench.provider.before = script
    bench.add(make_job("bad"))
    bench.add(make_job("good"))
    for _ in range(100):
        bench.tick()

    good, bad = bench.journal.find("good"), bench.journal.find("bad")
    assert ("finished", State.GONE) == (good.outcome, good.state)
    assert State.GONE != bad.state
    told = [event.data["error"] for event in bench.journal.events(bad.id) if event.data.get("error")]
    assert "ZeroDivisionError" in told[0]


def test_a_fault_in_looking_at_a_machine_does_not_hold_up_its_end(bench: Bench) -> None:
    """What cannot be looked at is ordered destroyed at its deadline all the same."""
    bench.started()
    bench.provider.before = failing(ZeroDivisionError("a fault of our own"), "list", "get")
    bench.clock.advance(12 * HOUR_S)
    bench.guard.tick()

    assert bench.box.deleted_at is not None
    assert State.DELETING == bench.job.state


def test_a_fault_in_the_listing_stops_no_watch(bench: Bench) -> None:
    """Each machine is then asked for by its name."""
    bench.started()
    bench.provider.before = failing(ZeroDivisionError("a fault of our own"), "list")
    bench.run()

    assert "budget_reached" == bench.job.outcome
    assert bench.provider.cost_usd() <= bench.job.cap_usd


def test_a_console_that_makes_the_reader_stumble_does_not_hold_up_the_deadline(bench: Bench) -> None:
    """Whatever the reader of a console raises is told, and the deadline is met."""
    bench.started()
    bench.provider.heartbeat = lambda machine_id: None  # type: ignore[assignment, method-assign, return-value]
    bench.run()

    assert "budget_reached" == bench.job.outcome
    assert bench.provider.cost_usd() <= bench.job.cap_usd


def test_a_job_that_cannot_be_ended_is_not_tried_in_a_tight_loop(bench: Bench) -> None:
    """Its deadline has passed, and a fault of our own stands in the way: the looks keep their usual pause."""
    bench.started()
    bench.provider.before = failing(ZeroDivisionError("a fault of our own"), "list", "get")
    bench.clock.suspend(12 * HOUR_S)

    assert bench.provider.poll_s == bench.guard.tick()


class FullDisk(Journal):
    """A journal whose disk can fill up: nothing more can be written, what is there can be read."""

    full = False

    def _transaction(self) -> Any:
        if self.full:
            raise StateError("The state folder cannot be used: database or disk is full.")
        return super()._transaction()


def test_a_full_disk_does_not_stop_a_delete(bench: Bench) -> None:
    """The order never waits for the journal; what could not be written is written when there is room again."""
    bench.restart(FullDisk)
    bench.started()
    bench.journal.full = True  # type: ignore[attr-defined]
    bench.clock.advance(6 * HOUR_S)
    with pytest.raises(StateError):
        bench.guard.tick()
    assert bench.box.deleted_at is not None

    bench.journal.full = False  # type: ignore[attr-defined]
    bench.run()
    assert ("budget_reached", {}) == (bench.job.outcome, bench.provider.boxes)


def test_a_guard_lives_through_a_full_disk(bench: Bench) -> None:
    """It goes on looking, with its usual pauses, and ends what is due."""
    bench.restart(FullDisk)
    bench.started()
    bench.journal.full = True  # type: ignore[attr-defined]
    orders = []

    def script(call: str, subject: str) -> None:
        if call == "delete":
            orders.append(bench.clock.monotonic())
            bench.journal.full = len(orders) < 5  # type: ignore[attr-defined]

    bench.provider.before = script
    bench.provider.delete_works = False
    bench.provider.after = lambda call, subject: setattr(bench.provider, "delete_works", len(orders) >= 5)
    bench.guard.run()

    assert "budget_reached" == bench.job.outcome
    assert all(later - earlier >= bench.provider.poll_s for earlier, later in itertools.pairwise(orders))


def test_a_full_disk_blocks_a_create(bench: Bench) -> None:
    """Nothing is made that was not written down first."""
    bench.restart(FullDisk)
    bench.add()
    bench.journal.full = True  # type: ignore[attr-defined]
    with pytest.raises(StateError):
        bench.guard.tick()

    assert 0 == bench.count("create")


def test_a_delete_that_fails_while_the_disk_is_full_is_tried_again(bench: Bench) -> None:
    """Two troubles at once."""
    bench.restart(FullDisk)
    bench.started()
    bench.journal.full = True  # type: ignore[attr-defined]
    bench.provider.before = failing(DOWN, "delete")
    bench.clock.advance(6 * HOUR_S)
    with pytest.raises(StateError):
        bench.guard.tick()

    bench.provider.before = fine
    bench.journal.full = False  # type: ignore[attr-defined]
    bench.run()
    assert ("budget_reached", {}) == (bench.job.outcome, bench.provider.boxes)


def test_a_damaged_journal_ends_the_guard_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was moved aside: what this guard would write now would go into another job's journal."""
    bench.started()
    damage = JournalDamaged("The journal was damaged.")

    def damaged(job_id: str) -> None:
        raise damage

    monkeypatch.setattr(bench.journal, "attempts", damaged)
    ticked = bench.journal.ticks(bench.writer.account)

    with pytest.raises(JournalDamaged):
        bench.guard.run()
    assert ticked == bench.journal.ticks(bench.writer.account)


def test_a_job_that_ends_while_a_note_of_it_cannot_be_written_is_still_watched(bench: Bench) -> None:
    """A fault of our own and a full disk at once are told on the console, and the next look comes."""
    bench.restart(FullDisk)
    bench.started()
    bench.journal.full = True  # type: ignore[attr-defined]
    bench.provider.before = failing(ZeroDivisionError("a fault of our own"), "get")
    bench.provider.hidden = True
    with pytest.raises(StateError):
        bench.guard.tick()

    bench.journal.full = False  # type: ignore[attr-defined]
    bench.provider.before = fine
    bench.tick()
    assert State.RUNNING == bench.attempt.state
