"""One world from its seed: draw it, let everything in it happen, and hold it against the invariants."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import misfortunes
from invariants import ViolationError
from launching import light_boot_data
from scenario import FOR_EVER_S, HOUR_S, Event, Scenario, draw
from world import World

if TYPE_CHECKING:
    import sqlite3

# After the last deadline, long enough that a teardown which the cloud delays is over too.
AFTERWARDS_S = 30 * HOUR_S
# A guard that is there for good ends everything within this, or never.
MOST_ROUNDS = 60


@dataclass
class Result:
    """What one run showed."""

    seed: int
    violation: str | None = None
    looks: int = 0
    steps: int = 0
    jobs: int = 0
    refused: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    worst_share: Decimal = Decimal(0)
    usable: list[tuple[str, float]] = field(default_factory=list)
    """(shape, usable share) of each job on demand at $5 that met its cap."""


def run(seed: int, *, database: sqlite3.Connection | None = None, say: Callable[[str], None] | None = None) -> Result:
    """Live through the world of this seed. A broken invariant, and any exception, is in `violation`."""
    scenario = draw(seed)
    result = Result(seed)
    world = World(
        seed,
        scenario.shape,
        poll_s=scenario.poll_s,
        skew_s=scenario.skew_s,
        database=database,
        pause_s=_pauses(scenario),
        say=say,
    )
    with light_boot_data():
        try:
            _live(world, scenario)
        except Exception as error:
            result.violation = f"{type(error).__name__}: {error}"
            world.tell(f"VIOLATION: {error}")
            if say is not None and not isinstance(error, ViolationError):
                raise
    _sum_up(world, scenario, result)
    return result


def _pauses(scenario: Scenario) -> Callable[[], float]:
    pauses = iter(scenario.pauses_s)
    return lambda: next(pauses, scenario.pauses_s[-1])


def _live(world: World, scenario: Scenario) -> None:
    for call, fault, share in scenario.rates:
        world.faults.rate(call, fault, share)
    armed = "armed" if scenario.shape.timer is not None else "not armed"
    world.tell(f"{scenario.shape.name}, timer {armed}, skew {scenario.skew_s:.0f} s")
    world.tell(f"faults {scenario.rates}, a crash in {scenario.crash_share:.0%} of writes")
    queue = _Queue()
    for index, plan in enumerate(scenario.jobs):
        queue.add(world.now_s + plan.start_s, lambda index=index: _up(world, scenario, index, queue))
    world.journal.crash_share = scenario.crash_share
    while queue.waits:
        at_s, happen = queue.pop()
        world.pass_until(max(at_s, world.now_s))
        happen()
    finish(world)


class _Queue:
    """What will happen, by time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add(self, at_s: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at_s, self._count, happen))

    @property
    def waits(self) -> bool:
        return bool(self._heap)

    def pop(self) -> tuple[float, Callable[[], None]]:
        at_s, _, happen = heapq.heappop(self._heap)
        return at_s, happen


def _up(world: World, scenario: Scenario, index: int, queue: _Queue) -> None:
    launched = world.launch(scenario.jobs[index])
    if launched is None:
        return
    ends = launched.offer_plan.deadlines
    work = scenario.jobs[index].work_share
    anchors = {
        "start": 0.0,
        "soft": ends.soft_after_s,
        "hard": ends.hard_after_s,
        "done": launched.offer_plan.offer.boot_s + ends.soft_after_s * (work if work is not None else 0.5),
    }
    for event in scenario.events:
        if event.job == index:
            at_s = world.now_s + max(anchors[event.anchor] + event.offset_s, 0.0)
            queue.add(at_s, lambda event=event: _happen(world, event, launched.job.id, queue))


def _happen(world: World, event: Event, job_id: str, queue: _Queue) -> None:
    def fill_disk() -> None:
        world.fill_disk(full=True)
        queue.add(world.now_s + event.amount, lambda: world.fill_disk(full=False))

    happenings: dict[str, Callable[[], None]] = {
        "kill guard": lambda: world.kill_guard(event.amount),
        "suspend": lambda: world.suspend(event.amount),
        "step": lambda: world.step_wall_clock(event.amount),
        "outage": lambda: world.outage(event.amount, event.about),
        "down": lambda: _without_crash(world, lambda: world.down(job_id)),
        "kill agent": lambda: misfortunes.kill_agent(world, job_id),
        "preempt": lambda: misfortunes.preempt(world, job_id),
        "spot price": lambda: misfortunes.move_spot_price(world, job_id, event.amount),
        "disk full": fill_disk,
        "launcher dies": lambda: world.launcher_dies(job_id),
        "power off": lambda: misfortunes.power_off(world, job_id),
    }
    happenings[event.name]()


def _without_crash(world: World, command: Callable[[], None]) -> None:
    """A command of the user's that is not to die, nor to find a full disk."""
    share, full = world.journal.crash_share, world.journal.disk_is_full
    world.journal.crash_share, world.journal.disk_is_full = 0.0, False
    command()
    world.journal.crash_share, world.journal.disk_is_full = share, full


def finish(world: World) -> None:
    """Let all deadlines pass; then nothing goes wrong any more, a guard is there, and everything must end."""
    while (end_s := _last_deadline_s(world)) > world.now_s:
        world.pass_until(end_s)
    world.faults.clear()
    world.journal.crash_share, world.journal.disk_is_full = 0.0, False
    world.tell("from here on nothing goes wrong")
    rounds = 0
    while world.journal.jobs(live=True):
        rounds += 1
        assert rounds <= MOST_ROUNDS, "with a guard and without faults it does not end"
        world.pass_until(max(world.now_s, world.awake_s))
        world.start_guard()
        world.pass_until(world.now_s + 2 * HOUR_S)
        world.pass_until(max(_last_deadline_s(world), world.now_s))
    world.check_end()


def _last_deadline_s(world: World) -> float:
    """When the last machine must be gone, and what the cloud may delay is over."""
    live = [(world.invariants.made_s(each) + each.hard_after_s) for each in world.invariants.live_attempts()]
    machines = [machine for job_id in world.jobs for machine in world.cloud.machines(job_id) if machine.gone_s is None]
    if not live and not machines and not world.journal.jobs(live=True):
        return -math.inf
    later = [max(at_s + AFTERWARDS_S, 0.0) for at_s in live]
    if world.guard is None and world.revive_s < FOR_EVER_S:
        later.append(world.revive_s + 1.0)
    return max(later, default=-math.inf)


def _sum_up(world: World, scenario: Scenario, result: Result) -> None:
    result.looks, result.steps = world.looks, world.steps
    result.jobs, result.refused = len(world.jobs), world.refused
    result.injected = world.faults.injected
    result.limits = world.invariants.limits
    result.worst_share = world.invariants.worst_share
    for job_id in world.jobs:
        result.outcomes[str(world.journal.job(job_id).outcome)] += 1
    if result.violation is None:
        result.usable = world.invariants.usable_shares()
