"""What simulated worlds have brought to light, each as a world of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import misfortunes
import pytest
from launching import light_boot_data
from runner import finish
from scenario import JobPlan
from world import World

from providers.base import CapacityError, ProviderUnavailable
from providers.simulated.faults import Crash, LostReply, Refuse
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, PLAIN, Shape

JOB = "j-job"
UNARMED = replace(AWS, timer=None)


@pytest.fixture(autouse=True)
def _light_boot_data() -> Iterator[None]:
    with light_boot_data():
        yield


def make_world(shape: Shape = PLAIN, **changes: Any) -> World:
    """A world in which one job was launched just now."""
    world = World(1, shape)
    values: dict[str, Any] = {
        "name": "job",
        "start_s": 0.0,
        "cap_usd": Decimal(5),
        "spot": False,
        "resume": False,
        "regions": (),
        "grace_s": 10.0,
        "has_store": False,
        "disk_gb": 100,
        "egress_gb": Decimal(0),
        "max_duration_s": None,
        "scripts": (Script(),),
        "work_share": 0.1,
        "unpriced": False,
    }
    world.launch(JobPlan(**(values | changes)))
    return world


def outcome(world: World) -> tuple[str | None, str | None]:
    """How the job ended."""
    job = world.journal.job(JOB)
    return job.outcome, job.reason


def test_a_throttled_console_does_not_make_a_finished_job_a_lost_one() -> None:
    """How it ended is read once the console can be read, though its machine is gone by then."""
    world = make_world()
    world.pass_until(world.now_s + 300)
    world.outage(500, "console")
    finish(world)

    assert outcome(world) == ("finished", "EXIT_0")


def test_a_console_that_stays_dark_does_not_hold_up_the_end_for_ever() -> None:
    """After a time the job is closed without the training's last word."""
    world = make_world()
    world.pass_until(world.now_s + 300)
    world.outage(50_000, "console")
    finish(world)

    assert outcome(world) == ("agent_lost", "ended by itself")


def test_what_was_heard_while_nothing_could_be_written_down_is_not_forgotten() -> None:
    """The disk was full when the training finished, and the console went dark before there was room again."""
    world = make_world()
    world.pass_until(world.now_s + 300)
    world.fill_disk(full=True)
    world.pass_until(world.now_s + 1500)
    world.outage(50_000, "console")
    world.pass_until(world.now_s + 2000)
    world.fill_disk(full=False)
    finish(world)

    assert outcome(world) == ("finished", "EXIT_0")


def test_a_machine_that_lived_and_went_unseen_is_paid_for_and_heard() -> None:
    """The guard died in the create call, and came back when the machine was gone: its replay finds the evidence."""
    world = make_world()
    world.faults.once("create", Crash(after_effect=True))
    world.pass_until(world.now_s + 0.001)
    world.revive_s = world.now_s + 2000
    finish(world)
    attempts = world.journal.attempts(JOB)

    assert outcome(world) == ("finished", "EXIT_0")
    assert [attempt.confirmed for attempt in attempts] == [True]
    assert world.journal.job(JOB).spend_usd == world.cloud.bill(JOB)


@pytest.mark.parametrize("shape", [PLAIN, AWS])
def test_a_lost_reply_is_not_settled_by_an_api_that_is_down(shape: Shape) -> None:
    """Being refused at the door says nothing about the machine that an earlier call made."""
    world = make_world(shape)
    world.faults.once("create", LostReply(), *[Refuse(ProviderUnavailable)] * 10)
    finish(world)

    assert outcome(world) == ("finished", "EXIT_0")
    assert len(world.cloud.machines(JOB)) == 1


def test_no_machine_is_made_for_time_that_is_used_up() -> None:
    """A job whose time limit ran out between two machines ends there."""
    script = Script(finishes_after_s=None, preempted_after_s=595)
    world = make_world(spot=True, resume=True, max_duration_s=610.0, scripts=(script,), work_share=None)
    finish(world)

    assert outcome(world) == ("duration_reached", "MAX_DURATION")
    assert len(world.cloud.machines(JOB)) == 1


def test_a_machine_without_a_price_for_its_compute_is_passed_over() -> None:
    """That its disk has a price does not make it cheap."""
    world = make_world(AWS, unpriced=True)

    assert world.jobs[JOB].offer_plan.rate_usd_per_hour > Decimal("0.5")


def test_a_full_disk_does_not_make_the_guard_late() -> None:
    """Nothing can be written down, no timer is armed, the agent is dead: the order comes when it is due."""
    world = make_world(UNARMED, work_share=None)
    world.pass_until(world.now_s + 1000)
    misfortunes.kill_agent(world, JOB)
    world.pass_until(world.now_s + 400)
    world.fill_disk(full=True)
    finish(world)

    assert world.invariants.limits.total() == 0
    assert world.cloud.bill(JOB) <= Decimal(5)


def test_a_guard_away_for_good_is_a_limit_only_where_no_other_layer_was_left() -> None:
    """Without a timer and without an agent nothing ends the machine; it is counted, by name, and found again."""
    world = make_world(UNARMED, work_share=None)
    world.pass_until(world.now_s + 1000)
    misfortunes.kill_agent(world, JOB)
    world.kill_guard(float("inf"))
    finish(world)

    assert world.invariants.limits.total() == 1
    assert world.cloud.bill(JOB) > Decimal(5)


def test_a_machine_that_never_ran_is_a_launch_that_failed() -> None:
    """The cloud took the order, and had no machine after all: the next zone has one. Nothing is paid twice."""
    never, well = Script(runs=False), Script()
    world = make_world(AWS, work_share=0.05, scripts=(never, well))
    finish(world)
    first, second = world.journal.attempts(JOB)

    assert outcome(world) == ("finished", "EXIT_0")
    assert (first.outcome, first.reason, first.error_scope) == ("launch_failed", "InsufficientCapacity", "zone")
    assert (first.region, first.zone) != (second.region, second.zone)
    assert world.cloud.bill(JOB) <= Decimal(5)


def test_no_machine_ever_ran() -> None:
    """Each place was tried once; the job ends as a launch that failed."""
    world = make_world(AWS, work_share=0.05, scripts=(Script(runs=False),))
    finish(world)
    attempts = world.journal.attempts(JOB)

    assert outcome(world) == ("launch_failed", "InsufficientCapacity")
    assert len({(attempt.region, attempt.zone) for attempt in attempts}) == len(attempts) > 1


def test_a_region_without_capacity_does_not_end_a_launch() -> None:
    """The next one is taken, with deadlines of its own."""
    world = make_world(AWS, work_share=0.05)
    world.faults.once("create", Refuse(CapacityError, next_scope="region"))
    finish(world)

    assert outcome(world) == ("finished", "EXIT_0")
    assert len({attempt.region for attempt in world.journal.attempts(JOB)}) == 2
