"""What happens in one simulated world, drawn from a seed: jobs, machines, and what goes wrong with them. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal

from providers.base import AuthError, CapacityError, InvalidRequest, ProviderUnavailable, QuotaError, RateLimited
from providers.simulated.faults import (
    Crash,
    Delayed,
    Duplicated,
    Fault,
    HangingDelete,
    LostReply,
    Refuse,
    Slow,
    Stale,
    StuckTeardown,
)
from providers.simulated.script import Script
from providers.simulated.shapes import AWS, AZURE, GCP, PLAIN, Shape

MINUTE_S = 60.0
HOUR_S = 3600.0
FOR_EVER_S = float("inf")

ANY_CALL = ("create", "arm", "get", "list", "delete", "console")


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """One job as its user asks for it, and what its machines will do."""

    name: str
    start_s: float
    cap_usd: Decimal
    spot: bool
    resume: bool
    regions: tuple[str, ...]
    grace_s: float
    has_store: bool
    disk_gb: int
    egress_gb: Decimal
    max_duration_s: float | None
    scripts: tuple[Script, ...]
    """One for each attempt; the last one for all that follow."""
    work_share: float | None
    """The training ends after this share of the time until the soft deadline; None: never."""
    unpriced: bool
    """The price list has a machine without a price for its compute."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens once, counted from a point in a job's life."""

    job: int
    anchor: str
    """start, soft, hard, or done (when the training would be done)."""
    offset_s: float
    name: str
    amount: float = 0.0
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One world."""

    seed: int
    shape: Shape
    poll_s: float
    skew_s: float
    jobs: tuple[JobPlan, ...]
    events: tuple[Event, ...] = ()
    rates: tuple[tuple[str, Fault, float], ...] = ()
    """(call, fault, probability of each call)."""
    crash_share: float = 0.0
    """The probability that a write of the journal is the guard's last act."""
    pauses_s: tuple[float, ...] = (5.0,)
    """How long the guard stays dead after its first, second, … death; the last one for all that follow."""


def draw(seed: int) -> Scenario:
    """The world of this seed."""
    dice = random.Random(f"scenario {seed}")
    shape = _shape(dice)
    jobs = tuple(draw_job(dice, shape, number) for number in range(dice.choices((1, 2, 3), (80, 14, 6))[0]))
    late = random.Random(f"late failures {seed}")
    quiet = dice.random() < 0.25
    return Scenario(
        seed=seed,
        shape=shape,
        poll_s=dice.choices((shape.poll_s, 30.0, 60.0), (30, 30, 40))[0],
        skew_s=dice.choices((0.0, dice.uniform(-30, 30), dice.uniform(-300, 300)), (70, 20, 10))[0],
        jobs=tuple(_some_never_run(late, job) for job in jobs),
        events=_events(dice, jobs, 0 if quiet else dice.choices((0, 1, 2, 3, 4), (20, 30, 25, 15, 10))[0]),
        rates=() if quiet else _rates(dice),
        crash_share=0.0 if quiet or dice.random() < 0.7 else dice.choice((0.02, 0.1, 0.3)),
        pauses_s=(*(_pause(dice) for _ in range(12)), 5.0),
    )


def _shape(dice: random.Random) -> Shape:
    shape = dice.choices((PLAIN, AWS, GCP, AZURE), (10, 35, 25, 30))[0]
    if shape is not GCP and dice.random() < 0.2:  # the user has not armed the backstop: the plan said so
        shape = replace(shape, timer=None, things=tuple(name for name in shape.things if name not in ("timer", "role")))
    return shape


def draw_job(dice: random.Random, shape: Shape, number: int) -> JobPlan:
    """A job for a cloud of this shape, and what its machines will do."""
    spot = dice.random() < 0.4
    regions = sorted({item.region for item in shape.items if item.spot is not None or not spot})
    work_share = None if dice.random() < 0.25 else dice.choice((dice.uniform(0.0, 0.3), dice.uniform(0.0, 1.3), 0.99))
    egress_gb = Decimal(dice.choices((0, 1, 5), (50, 40, 10))[0])
    scripts = tuple(_script(dice, spot=spot, egress_gb=egress_gb) for _ in range(dice.choices((1, 3), (60, 40))[0]))
    return JobPlan(
        name=f"job-{number}",
        start_s=0.0 if number == 0 else dice.choice((0.0, dice.uniform(0, 600), dice.uniform(0, 6 * HOUR_S))),
        cap_usd=Decimal(dice.choice(("0.3", "0.5", "1", "2", "5", "5", "5", "10", "20"))),
        spot=spot,
        resume=dice.random() < 0.6,
        regions=() if dice.random() < 0.5 else (dice.choice(regions),),
        grace_s=dice.choice((0.0, 10.0, 60.0, 60.0, 300.0)),
        has_store=dice.random() < 0.7,
        disk_gb=dice.choice((50, 100, 100, 500)),
        egress_gb=egress_gb,
        max_duration_s=dice.uniform(600, 12 * HOUR_S) if dice.random() < 0.25 else None,
        scripts=scripts,
        work_share=work_share,
        unpriced=dice.random() < 0.05,
    )


def _script(dice: random.Random, *, spot: bool, egress_gb: Decimal) -> Script:
    """The life of one machine; when its work is done is filled in once the soft deadline is known."""
    fate = dice.choices(("well", "fails", "never boots", "dies", "cut"), (68, 8, 4, 12, 8))[0]
    cut_s = dice.choice((dice.uniform(0, 5 * MINUTE_S), dice.uniform(0, 10 * HOUR_S)))
    return Script(
        boots=fate != "never boots",
        exit_code=dice.choice((1, 137)) if fate == "fails" else 0,
        stops_in_s=dice.choice((0.5, 5.0, 40.0, 1e9)),
        agent_dies_after_s=_some_time(dice) if fate == "dies" else None,
        network_cut_s=(cut_s, cut_s + dice.choice((60.0, 400.0, HOUR_S, 6 * HOUR_S))) if fate == "cut" else None,
        preempted_after_s=_some_time(dice) if spot and dice.random() < 0.3 else None,
        egress_gb=egress_gb if dice.random() < 0.5 else egress_gb / 2,
    )


def _some_never_run(dice: random.Random, job: JobPlan) -> JobPlan:
    """The job, some machines of which are accepted, and end for want of capacity while they start."""
    share = dice.choices((0.0, 0.4, 1.0), (92, 6, 2))[0]
    return replace(job, scripts=tuple(replace(each, runs=dice.random() >= share) for each in job.scripts))


def _some_time(dice: random.Random) -> float:
    return dice.choice((dice.uniform(0, 5 * MINUTE_S), dice.uniform(0, 2 * HOUR_S), dice.uniform(0, 12 * HOUR_S)))


def _pause(dice: random.Random) -> float:
    pauses = (dice.uniform(0, 30), dice.uniform(0, 900), dice.uniform(0, 8 * HOUR_S), FOR_EVER_S)
    return dice.choices(pauses, (55, 20, 15, 10))[0]


_HARMLESS: tuple[Fault, ...] = (
    LostReply(),
    Refuse(RateLimited),
    Refuse(ProviderUnavailable),
    Slow(3.0),
    Crash(after_effect=False),
    Crash(after_effect=True),
)


def _rates(dice: random.Random) -> tuple[tuple[str, Fault, float], ...]:
    """Faults that any call may meet, and those of single calls."""
    found: list[tuple[str, Fault, float]] = []
    for _ in range(dice.choices((0, 1, 2, 3), (30, 35, 20, 15))[0]):
        call = dice.choice((*ANY_CALL, "*"))
        found.append((call, dice.choice(_HARMLESS), dice.choice((0.01, 0.05, 0.3))))
    if dice.random() < 0.15:
        found.append((dice.choice(("list", "get")), Stale(dice.choice((5.0, 60.0, 600.0))), dice.choice((0.05, 0.3))))
    if dice.random() < 0.2:
        found.append(("create", dice.choice((Delayed(dice.choice((5.0, 60.0, 400.0))), Duplicated())), 0.5))
    if dice.random() < 0.2:
        found.append(("create", _refusal(dice), dice.choice((0.2, 0.6))))
    if dice.random() < 0.12:
        slow_s = dice.choice((30.0, 300.0, HOUR_S, 12 * HOUR_S))
        found.append(("delete", dice.choice((HangingDelete(slow_s), StuckTeardown(slow_s))), dice.choice((0.2, 0.7))))
    return tuple(found)


def _refusal(dice: random.Random) -> Fault:
    return dice.choice(
        (
            Refuse(CapacityError, next_scope="zone"),
            Refuse(CapacityError, next_scope="region"),
            Refuse(QuotaError, next_scope="region"),
            Refuse(AuthError),
            Refuse(InvalidRequest, next_scope="provider"),
        )
    )


_ANCHORS = ("start", "start", "done", "soft", "hard")


def _events(dice: random.Random, jobs: tuple[JobPlan, ...], count: int) -> tuple[Event, ...]:
    return tuple(_event(dice, dice.randrange(len(jobs)), jobs) for _ in range(count))


def _event(dice: random.Random, job: int, jobs: tuple[JobPlan, ...]) -> Event:
    kinds = {
        "kill guard": 18,
        "suspend": 15,
        "step": 15,
        "outage": 15,
        "down": 8,
        "kill agent": 8,
        "preempt": 6 if jobs[job].spot else 0,
        "spot price": 25 if jobs[job].spot else 0,
        "disk full": 6,
        "launcher dies": 6,
        "power off": 2,
    }
    name = dice.choices(list(kinds), list(kinds.values()))[0]
    long_s = dice.choice((dice.uniform(1, 120), dice.uniform(60, HOUR_S), dice.uniform(HOUR_S, 14 * HOUR_S)))
    amount = long_s
    if name == "step":
        amount = dice.choice((-1, 1)) * long_s
    elif name == "spot price":
        amount = dice.choice((0.8, 1.0, 1.02, 1.05, 1.1, 1.2, 1.5))
    elif name == "kill guard":
        amount = _pause(dice)
    anchor = dice.choice(_ANCHORS)
    near_s = dice.choice((dice.uniform(0, 60), dice.uniform(0, 600), dice.uniform(0, 2 * HOUR_S)))
    sign = 1 if anchor == "start" else dice.choice((-1, -1, 1))
    if name == "launcher dies":
        anchor, near_s, sign = "start", dice.uniform(0, 200), 1
    about = dice.choice(("*", "*", *ANY_CALL)) if name == "outage" else ""
    return Event(job=job, anchor=anchor, offset_s=sign * near_s, name=name, amount=amount, about=about)
