"""A small cloud in memory that does what a test tells it, and the guard's bench: a job, a journal and that cloud.

The truth (which machines live, what they cost) is kept apart from what the provider says, so that a test can compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from makers import ACCOUNT, PROVIDER, make_job

from launcher.agent import heartbeat
from launcher.core.clock import VirtualClock
from launcher.core.money import per_second
from launcher.guard import Guard
from launcher.journal import Journal
from launcher.listener import Listener
from launcher.outcome import State
from providers.base import (
    Backstop,
    Billing,
    Intent,
    Machine,
    MachineNotFound,
    MachineState,
    Offer,
    OfferRequest,
    ProviderError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from launcher.records import Attempt, Job

DEATH_S = 2.0
"""From an accepted delete, or from the machine's own end, until nothing is left: below the worst lateness."""
BY_THE_SECOND = Billing(
    granularity_s=Decimal(1), floor_s=Decimal(0), billed_states=frozenset(MachineState), source="a test"
)


@dataclass
class Box:
    """One machine as it really is."""

    intent: Intent
    born_at: datetime
    beat: dict[str, Any] | None = None
    seq: int = 0
    deleted_at: datetime | None = None
    taken_at: datetime | None = None
    """When the cloud takes it back: a preemption."""
    last_word: dict[str, Any] | None = None
    """What the agent says then, if it gets a notice."""
    finishes_at: datetime | None = None
    silent: bool = False
    never_ran: ProviderError | None = None
    """Why it ended before it ran."""

    @property
    def id(self) -> str:
        """The name that the cloud gave it."""
        return f"m-{self.intent.token}"


@dataclass
class ScriptedProvider:
    """A provider whose every call first asks `before` and then `after`, which may raise: before or after the effect."""

    clock: VirtualClock
    training_s: float | None = None
    """How long a training takes; None: for ever."""
    deadlines_held: bool = True
    """The machine ends itself at its hard deadline."""
    delete_works: bool = True
    keeps_evidence: bool = True
    knows_the_end: bool = True
    """The evidence says when billing ended."""
    counts: bool = False
    """The machine counts its own billed seconds, as this computer does."""
    gpu: list[dict[str, Any]] | None = None
    compute_share: Decimal | None = None
    """A spot price in parts of its ceiling, as the evidence tells it."""
    hidden: bool = False
    """Listings lag: they show nothing."""
    before: Callable[[str, str], None] = lambda call, subject: None
    after: Callable[[str, str], None] = lambda call, subject: None
    boxes: dict[str, Box] = field(default_factory=dict)
    buried: dict[str, tuple[Box, datetime]] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    name: str = PROVIDER
    account: str = ACCOUNT
    billing: Billing = BY_THE_SECOND
    bills_awake_only: bool = False
    worst_lateness_s: float = 5.0
    shutdown_notice_s: float = 0.0
    poll_s: float = 10.0
    heartbeat_s: float = 10.0
    boot_timeout_s: float = 300.0
    binding: dict[str, Any] = field(default_factory=dict)
    skew_s: float = 0.0

    # The truth

    def look(self) -> None:
        """Let everything happen that was due by now."""
        now = self.clock.now()
        for box in list(self.boxes.values()):
            if box.finishes_at is not None and now >= box.finishes_at:
                box.beat = {"state": "ended", "outcome": "finished", "reason": "EXIT_0", "exit_code": 0}
            ends = [at for at in (self._ordered(box), box.taken_at, self._deadline(box)) if at is not None]
            if box.taken_at is not None and now >= box.taken_at:
                box.beat = box.last_word or box.beat
            if ends and now >= min(ends):
                self.buried[box.id] = (self.boxes.pop(box.id), min(ends))

    def _ordered(self, box: Box) -> datetime | None:
        return None if box.deleted_at is None else box.deleted_at + timedelta(seconds=DEATH_S)

    def _deadline(self, box: Box) -> datetime | None:
        return box.intent.hard_deadline + timedelta(seconds=DEATH_S) if self.deadlines_held else None

    def cost_usd(self) -> Decimal:
        """What all machines have really cost until now: seconds begun at the rate of each."""
        self.look()
        ended = [(box, died_at) for box, died_at in self.buried.values()]
        living = [(box, self.clock.now()) for box in self.boxes.values()]
        total = Decimal(0)
        for box, until in ended + living:
            lived_s = math.ceil((until - box.born_at).total_seconds() - 1e-6)
            total += lived_s * box.intent.offer.rate_usd_per_hour / 3600
        return total

    # The contract

    def preflight(self) -> Backstop:
        """There is no timer."""
        return Backstop(armed=False, what="none")

    def offers(self, request: OfferRequest) -> list[Offer]:
        """The journal holds the offers already."""
        return []

    def calls(self, offer: Offer) -> list[str]:
        """Nothing to show."""
        return []

    def create(self, intent: Intent) -> Machine:
        """Idempotent on the token; never a second machine for a job."""
        self._enter("create", intent.token)
        name = f"m-{intent.token}"
        if name in self.buried:
            raise MachineNotFound(f"{name} has lived and is gone.", machine=self._evidence(name))
        if name not in self.boxes:
            assert not [box for box in self.boxes.values() if box.intent.job == intent.job], "two machines at once"
            now = self.clock.now()
            finishes_at = None if self.training_s is None else now + timedelta(seconds=self.training_s)
            self.boxes[name] = Box(intent, now, beat={"state": "running"}, finishes_at=finishes_at)
        self.after("create", intent.token)
        return self._describe(self.boxes[name])

    def get(self, machine_id: str) -> Machine:
        """The machine, or its absence."""
        self._enter("get", machine_id)
        if machine_id not in self.boxes:
            raise MachineNotFound(f"There is no {machine_id}.", machine=self._evidence(machine_id))
        return self._describe(self.boxes[machine_id])

    def list(self, owner: str) -> list[Machine]:
        """All machines, or none where listings lag."""
        self._enter("list", owner)
        return [] if self.hidden else [self._describe(box) for box in self.boxes.values()]

    def delete(self, machine_id: str) -> None:
        """Accepted."""
        self._enter("delete", machine_id)
        box = self.boxes.get(machine_id)
        if box is not None and self.delete_works and box.deleted_at is None:
            box.deleted_at = self.clock.now()
        self.after("delete", machine_id)

    def heartbeat(self, machine_id: str) -> bytes:
        """The last line of the console, a new one at each reading of a machine that speaks."""
        self._enter("heartbeat", machine_id)
        box = self.boxes.get(machine_id) or self.buried.get(machine_id, (None, None))[0]
        if box is None or box.beat is None:
            return b""
        if not box.silent:
            box.seq += 1
        return heartbeat.encode(box.seq, box.beat).encode() + b"\n"

    def console_url(self, machine_id: str) -> str | None:
        """There is no page."""
        return None

    def _enter(self, call: str, subject: str) -> None:
        self.look()
        self.log.append((call, subject))
        self.before(call, subject)

    def _describe(self, box: Box, died_at: datetime | None = None) -> Machine:
        preempted = died_at is not None and died_at == box.taken_at
        lived_s = ((died_at or self.clock.now()) - box.born_at).total_seconds()
        return Machine(
            id=box.id,
            token=box.intent.token,
            state=MachineState.STOPPED if died_at else MachineState.RUNNING,
            region=box.intent.offer.region,
            created_at=box.born_at,
            billing_started_at=box.born_at,
            billing_ended_at=died_at if self.knows_the_end else None,
            billed_s=lived_s if self.counts else None,
            compute_usd=self._compute_usd(box, lived_s) if died_at else None,
            gpu=self.gpu,
            state_reason="PREEMPTED" if preempted else None,
            never_ran=box.never_ran,
        )

    def _compute_usd(self, box: Box, lived_s: float) -> Decimal | None:
        if self.compute_share is None:
            return None
        return self.compute_share * per_second(box.intent.offer.rate_usd_per_hour) * Decimal(lived_s)

    def _evidence(self, machine_id: str) -> Machine | None:
        found = self.buried.get(machine_id)
        return self._describe(*found) if found is not None and self.keeps_evidence else None


class Heard(Listener):
    """All that the guard has told."""

    def __init__(self) -> None:
        self.accounts: list[str] = []
        self.endings: list[tuple[str, str | None]] = []
        self.alarms: list[tuple[str | None, float]] = []

    def handed_over(self, account: str) -> None:
        """A job went there."""
        self.accounts.append(account)

    def ended(self, job: Job) -> None:
        """A job is over."""
        self.endings.append((job.id, job.outcome))

    def stuck(self, job: Job, attempt: Attempt, for_s: float) -> None:
        """Something needs a hand."""
        self.alarms.append((attempt.trouble, for_s))


class ScriptedStores:
    """What machines have left in their stores, by their tokens."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.beats: dict[str, bytes] = {}
        self.asked = 0
        """How often for a heartbeat."""

    def result(self, job: Job, attempt: Attempt) -> dict[str, Any] | None:
        """How that machine ended."""
        del job
        return self.results.get(attempt.token)

    def beat(self, job: Job, attempt: Attempt) -> bytes:
        """Its newest heartbeat."""
        del job
        self.asked += 1
        return self.beats.get(attempt.token, b"")


class Bench:
    """One journal, one scripted cloud, and guards that come and go."""

    def __init__(self, home: Path, **script: Any) -> None:
        self.home = home
        self.clock = VirtualClock()
        self.provider = ScriptedProvider(self.clock, **script)
        self.launcher_lives = True
        self.stores = ScriptedStores()
        self.heard = Heard()
        self.open()

    def open(self, journal: type[Journal] = Journal, **arguments: Any) -> Guard:
        """A new guard on a new connection, as after a restart."""
        self.journal = journal(self.home, **arguments)
        self.journal._db.execute("PRAGMA synchronous = OFF")  # here nobody pulls the plug
        self.writer = self.journal.writer(ACCOUNT, 1)
        self.guard = Guard(
            self.writer,
            self.provider,
            self.clock,
            launcher_alive=lambda job: self.launcher_lives,
            listener=self.heard,
            stores=self.stores,
        )
        return self.guard

    def restart(self, journal: type[Journal] = Journal, **arguments: Any) -> Guard:
        """The guard dies, with all that it only remembered, and another one takes over."""
        self.journal.close()
        return self.open(journal, **arguments)

    def add(self, job: Job | None = None) -> Job:
        """Write a job down, as `up` does."""
        job = job or make_job()
        self.journal.add_job(job, now=self.clock.now())
        return job

    def tick(self, count: int = 1) -> None:
        """Look so many times, with the guard's own pauses between."""
        for _ in range(count):
            wait_s = self.guard.tick()
            self.clock.advance(self.provider.poll_s if wait_s is None else wait_s)

    def run(self, *, most: int = 2000) -> None:
        """Look until no job is left."""
        for _ in range(most):
            wait_s = self.guard.tick()
            if wait_s is None:
                return
            self.clock.advance(wait_s)
        raise AssertionError(f"a job still lives after {most} looks")

    def started(self, **changes: Any) -> Box:
        """A job whose training runs, seen twice; its machine."""
        self.add(make_job(**changes))
        self.tick(2)
        assert self.attempt.state == State.RUNNING
        return self.box

    @property
    def job(self) -> Job:
        """The newest job."""
        return self.journal.jobs()[0]

    @property
    def attempt(self) -> Attempt:
        """Its last attempt."""
        return self.journal.attempts(self.job.id)[-1]

    @property
    def box(self) -> Box:
        """The one machine that lives."""
        (box,) = self.provider.boxes.values()
        return box

    def lived_s(self) -> float:
        """How long the one machine that is gone has lived."""
        ((box, died_at),) = self.provider.buried.values()
        return (died_at - box.born_at).total_seconds()

    def count(self, call: str) -> int:
        """How often the cloud was asked for that."""
        return sum(1 for made, _ in self.provider.log if made == call)

    def spend_usd(self) -> Decimal:
        """What the ledger says of all jobs."""
        now = self.clock.now()
        return sum(
            (attempt.cost_usd(now) for job in self.journal.jobs() for attempt in self.journal.attempts(job.id)),
            Decimal(0),
        )
