"""The fake's own bill, by Google's rules, and our ledger: they agree to the cent, however a job ends."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from gcp_bench import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CENT = Decimal("0.01")
HALF_AN_HOUR = "0.30"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes projects, and looks at all that they were asked when the test is over."""
    made: list[Bench] = []

    def make(**how: object) -> Bench:
        made.append(Bench(tmp_path, **how))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def assert_agrees(bench: Bench, *, watched: bool = True) -> None:
    """Nothing is left, the ledger is never below the bill nor a cent above it, and both are within the cap.

    A guard that did not watch the end cannot know when the disk went, so it says that it is not sure of that. Where an
    agent died before it could say what it had sent, the whole reserve for that counts.
    """
    bill = bench.fake.bill().total_usd
    untold = [each for each in bench.attempts if (each.beat or {}).get("state") != "ended"]
    reserve = sum((each.egress_usd for each in untold), Decimal(0))

    assert bench.cloud.existing() == set()
    assert bill <= bench.spend_usd() <= bill + reserve + CENT
    assert bench.spend_usd() <= bench.job.cap_usd
    assert {attempt.confirmed for attempt in bench.attempts} == {watched}


def test_a_job_that_finishes(bench: Callable[..., Bench]) -> None:
    """The machine deletes itself; the guard reads its last word before it is gone."""
    here = bench(finishes_after_s=400.0)
    here.launch(cap=HALF_AN_HOUR)
    here.run()

    assert (here.job.outcome, here.job.exit_code) == ("finished", 0)
    assert_agrees(here)


def test_a_machine_without_identity_is_deleted_by_the_guard(bench: Callable[..., Bench]) -> None:
    """It can only switch itself off, and its disk bills on until the guard sees it stopped: a hundredth of a cent."""
    here = bench(identity=False, finishes_after_s=400.0)
    here.launch(cap=HALF_AN_HOUR)
    here.run()
    [machine] = here.cloud.lived()

    assert machine.off_at is not None
    assert here.job.outcome == "finished"
    assert_agrees(here, watched=False)


def test_a_job_that_meets_its_cap(bench: Callable[..., Bench]) -> None:
    """A training without end is ended; the bill never passes the cap, and most of what is open was used."""
    here = bench()
    here.launch(cap=HALF_AN_HOUR)
    here.run()
    share = here.spend_usd() / (here.job.cap_usd - here.plan.terms.egress_usd)

    assert here.job.outcome == "budget_reached"
    assert share > Decimal("0.75")
    assert_agrees(here)


def test_the_cloud_ends_what_nobody_watches(bench: Callable[..., Bench]) -> None:
    """Guard and agent are dead: Compute Engine deletes the machine at its deadline, and the next guard accounts for it.

    That guard comes within the hour for which Google keeps its operations, and knows the machine by the journal alone.
    """
    here = bench()
    here.launch(cap=HALF_AN_HOUR)
    here.run_until_running()
    machine = here.cloud.only()
    machine.agent.die(here.clock.now())
    here.clock.advance(here.plan.deadlines.hard_after_s + here.provider.worst_lateness_s)
    gone = here.cloud.existing() == set()
    here.new_guard()
    here.run()

    assert gone
    assert (here.job.outcome, here.job.reason) == ("budget_reached", "HARD_DEADLINE")
    assert_agrees(here, watched=False)


def test_nearly_all_of_a_cap_is_used(bench: Callable[..., Bench]) -> None:
    """Five dollars less what is reserved for egress, on demand, a minute of grace: an early end is a defect too."""
    here = bench()
    here.launch(cap="5", grace_s=60.0)
    rate = here.plan.rate_usd_per_hour
    open_usd = Decimal(5) - here.plan.terms.egress_usd
    share = Decimal(str(here.plan.deadlines.soft_after_s)) * rate / 3600 / open_usd

    assert Decimal("0.98") <= share < 1


def test_a_preempted_job_goes_on_with_what_is_left(bench: Callable[..., Bench]) -> None:
    """One cap for all attempts: the second machine has what the first one left, never the whole."""
    here = bench()
    here.cloud.faults.add("preempt", seconds=500.0)
    here.launch(cap=HALF_AN_HOUR, spot=True, resume=True)
    here.run()
    first, second = here.attempts[:2]
    last = here.attempts[-1]

    assert first.outcome == "preempted"
    assert second.hard_after_s < first.hard_after_s
    assert (here.job.outcome, last.state) == ("budget_reached", "gone")
    assert_agrees(here)


def test_a_spot_machine_whose_price_is_not_proven_counts_at_its_ceiling(bench: Callable[..., Bench]) -> None:
    """A price that came into force after the machine's start says nothing of the time before."""
    here = bench(finishes_after_s=400.0)
    here.launch(cap=HALF_AN_HOUR, spot=True)
    here.fake.prices.spot_since = "2026-11-21T12:03:00Z"
    here.run()

    assert here.spend_usd() > here.fake.bill().total_usd
    assert [attempt.confirmed for attempt in here.attempts] == [False]


def test_a_disk_that_was_left_is_found_and_deleted(bench: Callable[..., Bench]) -> None:
    """The machine is gone and its disk is not: it is not called gone, and the disk is deleted."""
    here = bench(keeps_disks=True, finishes_after_s=400.0)
    here.launch(cap=HALF_AN_HOUR)
    here.run()

    assert here.fake.count("compute.disks.delete") > 0
    assert here.job.outcome == "finished"
    assert here.cloud.existing() == set()
    assert here.spend_usd() >= here.fake.bill().total_usd
