"""Again, after a preemption: the next machine has what is left of the cap and of the time limit."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import make_job, make_offer, make_spec
from scripted import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud."""
    return Bench(tmp_path)


def resumable(**changes: Any) -> Any:
    """A spot job that goes on elsewhere."""
    return make_job(spec=make_spec(resume=True, **changes), offers=[make_offer("r1", "a"), make_offer("r1", "b")])


def preempt(bench: Bench) -> None:
    """The cloud takes the machine back now."""
    bench.box.taken_at = bench.clock.now()


def test_a_preempted_job_goes_on_with_what_is_left_of_the_cap(bench: Bench) -> None:
    """One cap over all its machines."""
    bench.add(resumable())
    bench.tick(100)
    preempt(bench)
    bench.tick(2)

    first, second = bench.journal.attempts("j-tiny")
    spent = first.cost_usd(bench.clock.now())
    assert ("preempted", True, 2) == (first.outcome, first.confirmed, second.number)
    assert spent > 0
    assert second.hard_after_s == pytest.approx(
        first.hard_after_s - float(spent / first.rate_usd_per_hour * 3600), abs=1
    )
    assert first.started_at == bench.provider.buried["m-j-tiny-1"][0].born_at


def test_a_preempted_job_that_cannot_resume_ends(bench: Bench) -> None:
    """And says why."""
    bench.started()
    preempt(bench)
    bench.run()

    assert ("preempted", "PREEMPTED", 1) == (bench.job.outcome, bench.job.reason, bench.count("create"))


def test_a_preempted_job_without_money_for_another_machine_ends_as_preempted(bench: Bench) -> None:
    """What is left of the cap buys nothing more: it ends as its last machine did."""
    bench.add(resumable())
    bench.tick(2)
    while bench.clock.now() < bench.attempt.deadline(bench.attempt.hard_after_s - 12, bench.clock.now()):
        bench.tick()
    preempt(bench)
    bench.run()

    assert ("preempted", 1) == (bench.job.outcome, bench.count("create"))
    assert bench.provider.cost_usd() <= bench.spend_usd() <= bench.job.cap_usd


def test_a_machine_that_would_only_boot_before_the_time_limit_is_not_made(bench: Bench) -> None:
    """What is left of the time limit is shorter than a boot: the limit ends the job."""
    slow = [make_offer("r1", zone, boot_s=60.0) for zone in ("a", "b")]
    bench.add(make_job(spec=make_spec(resume=True, max_duration_s=3600.0), offers=slow))
    bench.tick(2)
    while bench.attempt.age_s(bench.clock.now()) < 3560:
        bench.tick()
    preempt(bench)
    bench.run()

    assert ("duration_reached", "MAX_DURATION", 1) == (bench.job.outcome, bench.job.reason, bench.count("create"))


def test_time_used_before_counts_towards_the_time_limit(bench: Bench) -> None:
    """An hour's job that was taken after half an hour has half an hour left."""
    bench.add(resumable(max_duration_s=3600.0))
    bench.tick(180)
    preempt(bench)
    bench.tick(2)

    first, second = bench.journal.attempts("j-tiny")
    assert second.limit_outcome == "duration_reached"
    assert second.soft_after_s == pytest.approx(3600 - first.age_s(first.ended_at or first.created_at), abs=1)


def test_what_a_ceiling_left_of_the_cap_is_not_lost(bench: Bench) -> None:
    """Spot at half of its ceiling: the next machine gets the other half, and so on until it buys nothing more."""
    offers = [make_offer("r1", "a", spot=True, boot_s=60.0)]
    bench.provider.compute_share = Decimal("0.5")
    bench.add(make_job(spec=make_spec(resume=True), offers=offers))
    bench.run()

    attempts = bench.journal.attempts("j-tiny")
    caps = [attempt.hard_after_s for attempt in attempts]
    assert ("budget_reached", {"budget_reached"}) == (bench.job.outcome, {attempt.outcome for attempt in attempts})
    assert len(caps) > 2
    assert [pytest.approx(before / 2, rel=0.05) for before in caps[:-1]] == caps[1:]
    assert Decimal("4.7") < bench.spend_usd() <= bench.job.cap_usd


def test_on_demand_nothing_is_left_to_go_on_with(bench: Bench) -> None:
    """Its deadline was computed from what it costs."""
    bench.add(resumable())
    bench.run()

    assert ("budget_reached", 1) == (bench.job.outcome, bench.count("create"))
