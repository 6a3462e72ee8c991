"""The guard over a scripted cloud: what is due is ended, what is unknown stays open, and no fault stops the watch."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from makers import make_job, make_offer, make_spec
from scripted import Bench

from launcher.core.errors import Exit
from launcher.outcome import State, exit_code
from providers.base import CapacityError, MachineState, ProviderUnavailable

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


# The ordinary way


def test_a_training_that_finishes_is_torn_down_and_paid(bench: Bench) -> None:
    """To the second, with the evidence of its end."""
    bench.provider.training_s = 600.0
    bench.add()
    bench.run()

    assert ("finished", "EXIT_0", 0) == (bench.job.outcome, bench.job.reason, bench.job.exit_code)
    assert (State.GONE, True) == (bench.attempt.state, bench.attempt.confirmed)
    assert bench.provider.cost_usd() == bench.spend_usd() == bench.job.spend_usd
    assert {} == bench.provider.boxes
    assert ["planned", "attempt", "creating", "accepted", "running", "deleting", "gone", "ended"] == [
        event.kind for event in bench.journal.events("j-tiny")
    ]


def test_a_training_that_never_ends_is_ended_by_the_guard_alone(bench: Bench) -> None:
    """Its agent and the cloud's timer have failed: the bill stays within the cap, and close to it."""
    bench.add()
    bench.run()

    assert ("budget_reached", "HARD_DEADLINE") == (bench.job.outcome, bench.job.reason)
    assert bench.provider.cost_usd() <= bench.spend_usd() <= bench.job.cap_usd
    assert bench.spend_usd() > bench.job.cap_usd * 98 / 100


def test_the_order_to_delete_is_written_down_first(bench: Bench) -> None:
    """With its reason, so that a guard that dies in the call is replaced by one that knows why."""
    seen = []

    def look(call: str, subject: str) -> None:
        if call == "delete":
            seen.append((bench.attempt.state, bench.attempt.outcome, bench.attempt.reason, bench.attempt.deletes))

    bench.provider.before = look
    bench.started()
    cancel(bench)
    bench.run()

    assert (State.DELETING, "cancelled", "DOWN", 1) == seen[0]


def test_run_returns_when_no_job_is_left(bench: Bench) -> None:
    """And not before."""
    bench.provider.training_s = 600.0
    bench.add()

    bench.guard.run()

    assert "finished" == bench.job.outcome
    assert bench.guard.tick() is None


def test_a_guard_that_is_told_to_stop_leaves_the_machines_alone(bench: Bench) -> None:
    """They go on under their own deadlines."""
    bench.started()
    bench.guard.stop()
    bench.guard.run()

    assert (State.RUNNING, 0) == (bench.attempt.state, bench.count("delete"))


def test_a_guard_is_stopped_between_two_looks(bench: Bench) -> None:
    """A signal comes while it works: it finishes this look and no other."""
    bench.started()
    before = bench.count("list")
    bench.provider.before = lambda call, subject: bench.guard.stop()
    bench.guard.run()

    assert before + 1 == bench.count("list")


def test_each_look_is_counted(bench: Bench) -> None:
    """`status` waits for a guard that it started to have looked once."""
    bench.started()

    assert bench.journal.ticks(bench.writer.account) == (1, 2)


def test_a_restarted_guard_goes_on(bench: Bench) -> None:
    """It knows the machine from the journal, and makes no other."""
    box = bench.started()
    bench.restart()
    bench.tick(3)

    assert (State.RUNNING, box) == (bench.attempt.state, bench.box)


def test_two_jobs_are_two_machines(bench: Bench) -> None:
    """One guard, one listing for each look, each with its own end."""
    bench.provider.training_s = 300.0
    bench.add(make_job("one"))
    bench.add(make_job("two", spec=make_spec(name="two", max_duration_s=120.0)))
    bench.run()

    assert ("finished", "duration_reached") == (bench.journal.find("one").outcome, bench.journal.find("two").outcome)


def test_heartbeats_are_written_down_now_and_then(bench: Bench) -> None:
    """`status` shows them; the disk does not get one line for each."""
    bench.provider.poll_s = bench.provider.heartbeat_s = 1.0
    bench.started()
    before = bench.attempt.beat_seq
    bench.tick(30)

    assert before < bench.attempt.beat_seq
    assert bench.box.seq - bench.attempt.beat_seq <= 6


def test_the_console_is_read_at_its_own_pace(bench: Bench) -> None:
    """Slower than the looks, but always once more when the machine is gone."""
    bench.provider.heartbeat_s = 100.0
    box = bench.started()
    bench.tick(30)
    assert 4 == bench.count("heartbeat")

    box.deleted_at = bench.clock.now()
    bench.tick(2)
    assert 5 == bench.count("heartbeat")


# Gone is what was seen gone


@pytest.mark.parametrize(
    "calls", [("list", "get"), ("list", "get", "heartbeat"), ("list", "get", "heartbeat", "delete")]
)
def test_while_the_api_is_down_nothing_is_gone(bench: Bench, calls: tuple[str, ...]) -> None:
    """A day of silence from the cloud proves nothing; when it answers again, what is due is ended."""
    bench.started()
    bench.provider.before = failing(DOWN, *calls)
    cancel(bench)
    for _ in range(200):
        bench.tick()
        assert State.DELETING == bench.attempt.state
    assert (State.DELETING, str(DOWN)) == (bench.job.state, bench.attempt.trouble)

    bench.provider.before = fine
    bench.run()
    assert ("cancelled", {}) == (bench.job.outcome, bench.provider.boxes)


def test_an_outage_does_not_hold_up_the_deadline(bench: Bench) -> None:
    """The order to delete is given although nothing can be seen."""
    bench.started()
    bench.provider.before = failing(DOWN, "list", "get", "heartbeat")
    bench.tick(600)

    assert {} == bench.provider.boxes
    assert bench.provider.cost_usd() <= bench.job.cap_usd
    assert (State.DELETING, "budget_reached") == (bench.attempt.state, bench.attempt.outcome)


def test_trouble_is_told_while_it_lasts(bench: Bench) -> None:
    """Once when it starts, once when it is over."""
    bench.started()
    bench.provider.before = failing(DOWN, "list", "get")
    bench.tick(5)
    assert str(DOWN) == bench.attempt.trouble

    bench.provider.before = fine
    bench.tick(5)
    kinds = [event.kind for event in bench.journal.events("j-tiny")]
    assert (None, 1, 1) == (bench.attempt.trouble, kinds.count("trouble"), kinds.count("well"))


def test_an_empty_listing_is_no_proof(bench: Bench) -> None:
    """Listings lag: each machine is then asked for by its name."""
    bench.started()
    bench.provider.hidden = True
    bench.tick(5)

    assert State.RUNNING == bench.attempt.state


def test_a_listing_that_shows_the_dead_does_not_keep_a_deletion_open(bench: Bench) -> None:
    """While deleting, only `get` is believed."""
    box = bench.started()
    described = bench.provider._describe(box)
    cancel(bench)
    bench.provider.list = lambda owner: [described]  # type: ignore[method-assign]
    bench.run()

    assert ("cancelled", State.GONE) == (bench.job.outcome, bench.attempt.state)


def test_a_delete_is_repeated_until_the_machine_is_not_found(bench: Bench) -> None:
    """A day later it is still `deleting`: no age turns that into gone."""
    bench.started()
    bench.provider.delete_works = False
    cancel(bench)
    since = bench.clock.monotonic()
    while bench.clock.monotonic() < since + 24 * HOUR_S:
        bench.tick()
    assert (State.DELETING, bench.count("delete")) == (bench.attempt.state, bench.attempt.deletes)

    bench.provider.delete_works = True
    bench.run()
    assert ("cancelled", {}) == (bench.job.outcome, bench.provider.boxes)


def test_the_pauses_between_deletes_grow_and_are_bounded(bench: Bench) -> None:
    """An API in trouble is not hammered, and a machine that bills is not forgotten for more than a minute."""
    ordered_at: list[float] = []

    def note(call: str, subject: str) -> None:
        if call == "delete":
            ordered_at.append(bench.clock.monotonic())
            raise DOWN

    bench.provider.before = note
    bench.add(make_job(offers=[make_offer(usd_per_hour="0.01")]))
    bench.tick(2)
    cancel(bench)
    bench.tick(120)

    pauses = [after - before for before, after in itertools.pairwise(ordered_at)]
    assert pauses == sorted(pauses)
    assert (bench.provider.poll_s, 60.0) == (pauses[0], pauses[-1])


# The bill


def test_without_evidence_of_the_end_the_bill_is_an_upper_bound(bench: Bench) -> None:
    """And says so."""
    bench.provider.keeps_evidence = False
    bench.provider.deadlines_held = True
    bench.started()
    bench.clock.suspend(12 * HOUR_S)
    bench.run()

    assert bench.provider.cost_usd() <= bench.spend_usd() <= bench.job.cap_usd
    assert not bench.attempt.confirmed


def test_a_machine_that_outlived_its_deadline_is_billed_for_it(bench: Bench) -> None:
    """All three other layers failed, the laptop slept: the ledger does not hide it behind the cap."""
    bench.provider.keeps_evidence = False
    bench.started()
    bench.clock.suspend(12 * HOUR_S)
    bench.run()

    assert bench.provider.cost_usd() > bench.job.cap_usd
    assert bench.spend_usd() >= bench.provider.cost_usd()


def test_a_machine_that_vanished_is_accounted_for(bench: Bench) -> None:
    """Somebody deleted it by hand: its own end is the end of the bill, and nobody here is to blame."""
    box = bench.started()
    bench.tick(60)
    box.deleted_at = bench.clock.now()
    bench.clock.suspend(HOUR_S)
    bench.run()

    assert ("agent_lost", "MACHINE_GONE", 0) == (bench.job.outcome, bench.job.reason, bench.count("delete"))
    assert bench.provider.cost_usd() == bench.spend_usd()


NO_CAPACITY = CapacityError("It was full.", code="Full", next_scope="zone")


def never_runs(bench: Bench, *, times: int) -> None:
    """So many machines are accepted, and end while they start."""
    left = iter(range(times))

    def script(call: str, subject: str) -> None:
        if call == "create" and next(left, None) is not None:
            box = bench.provider.boxes[f"m-{subject}"]
            box.beat, box.never_ran, box.taken_at = None, NO_CAPACITY, bench.clock.now()

    bench.provider.after = script


def test_a_machine_that_never_ran_is_a_launch_that_failed(bench: Bench) -> None:
    """The next offer is tried; that the first had none is told, and costs what the cloud took for it."""
    bench.provider.training_s = 100.0
    never_runs(bench, times=1)
    bench.add(make_job(offers=[make_offer(), make_offer(zone="b")]))
    bench.run()
    first, second = bench.journal.attempts(bench.job.id)
    [gone] = [event.data for event in bench.journal.events(bench.job.id) if event.kind == "gone" and event.attempt == 1]

    assert ("launch_failed", "Full", "CapacityError", "zone") == (
        first.outcome,
        first.reason,
        first.error_kind,
        first.error_scope,
    )
    assert ("It was full.", "It was full.") == (first.trouble, gone["error"])
    assert ("b", "finished", None) == (second.zone, bench.job.outcome, second.trouble)
    assert bench.provider.cost_usd() == bench.spend_usd()


def test_no_machine_ever_ran(bench: Bench) -> None:
    """The job ends as a launch that failed, for the cloud's own reason."""
    never_runs(bench, times=2)
    bench.add(make_job(offers=[make_offer(), make_offer(zone="b")]))
    bench.run()

    assert ("launch_failed", "Full") == (bench.job.outcome, bench.job.reason)
    assert Exit.UNAVAILABLE == exit_code("gone", bench.job.outcome, bench.job.reason, bench.attempt.error_kind)


def test_a_stopped_machine_is_deleted(bench: Bench) -> None:
    """It may bill, and will do no more work."""
    box = bench.started()
    stopped = msgspec.structs.replace(
        bench.provider._describe(box), state=MachineState.STOPPED, state_reason="AGENT_DEAD"
    )
    bench.provider.list = lambda owner: [stopped]  # type: ignore[method-assign]
    bench.tick()

    assert (State.DELETING, "AGENT_DEAD", 1) == (bench.attempt.state, bench.attempt.reason, bench.count("delete"))


@pytest.mark.parametrize("knows_the_end", [True, False])
def test_a_machine_that_counts_for_itself_is_billed_by_its_count(bench: Bench, knows_the_end: bool) -> None:
    """To the second; without the time of its end the bill is right and not confirmed."""
    bench.provider.counts, bench.provider.knows_the_end = True, knows_the_end
    bench.provider.training_s = 600.0
    bench.add()
    bench.run()

    assert ("finished", knows_the_end) == (bench.job.outcome, bench.attempt.confirmed)
    assert bench.provider.cost_usd() == bench.spend_usd()


def test_a_machine_that_counts_for_itself_and_leaves_nothing_is_bounded(bench: Bench) -> None:
    """By its last count and the time since then, up to its deadline."""
    bench.provider.counts, bench.provider.keeps_evidence = True, False
    bench.provider.training_s = 600.0
    bench.add()
    bench.run()

    assert not bench.attempt.confirmed
    assert bench.provider.cost_usd() <= bench.spend_usd() <= bench.provider.cost_usd() + Decimal("0.02")


def test_what_the_provider_reads_of_the_gpu_is_kept_with_the_heartbeat(bench: Bench) -> None:
    """Beside what the agent says."""
    bench.provider.gpu = [{"watts": 60.0}]
    bench.started()

    assert ({"state": "running", "gpu": [{"watts": 60.0}]}) == bench.attempt.beat
