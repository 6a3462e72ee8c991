"""One simulated world: the real guard, journal and plan against a simulated cloud, on a virtual clock.

What may happen to it are its methods; time passes in `pass_until` only. After everything that happens the invariants
are checked (invariants.py), and a broken one raises `ViolationError`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING

import calm
import msgspec
from crashing_journal import CrashingJournal, empty_database
from invariants import Invariants
from launching import Launched, spec_of, without_price
from recording import RecordingFaults
from scenario import JobPlan

from launcher.agent import heartbeat
from launcher.core.clock import VirtualClock
from launcher.core.errors import GpulaunchError, StateError
from launcher.guard import Guard
from launcher.job import spec_to_json
from launcher.plan import make_plan
from launcher.records import Job
from providers.base import (
    Backstop,
    Intent,
    OfferRequest,
)
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.faults import SimulatedCrash
from providers.simulated.offers import offers
from providers.simulated.provider import SimulatedProvider
from providers.simulated.script import Script

if TYPE_CHECKING:
    import sqlite3

    from launcher.core.clock import Clock
    from providers.simulated.shapes import Shape

OWNER = "owner-1"
FAR_S = math.inf
# A launcher whose clock differs more from the cloud's refuses to launch (DESIGN, section 3).
MOST_SKEW_S = 300.5
# Nothing takes longer than this, or it does not end: the cheapest machine lives for 5 days under the largest cap, and
# a guard that dies at every look is never given a pause.
MOST_LOOKS = 200_000


class World:
    """A cloud, a laptop with its clock and its journal, and at most one guard."""

    def __init__(
        self,
        seed: int,
        shape: Shape,
        *,
        poll_s: float | None = None,
        skew_s: float = 0.0,
        database: sqlite3.Connection | None = None,
        pause_s: Callable[[], float] = lambda: 5.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.wall = VirtualClock()
        self.faults = RecordingFaults(seed, lambda token: self.cloud.machine_of(token) is not None)
        self.cloud = SimulatedCloud(
            self.wall,
            shape=shape,
            encode=heartbeat.encode,
            faults=self.faults,
            script=self._script,
            orders=lambda intent: json.loads(intent.boot_data),
            seed=seed,
        )
        self.wall.step(skew_s)
        self.journal = CrashingJournal(database or empty_database(), seed, self.faults.injected)
        self.provider = SimulatedProvider(clock=self.wall, home="", settings={"cloud": self.cloud})
        self.provider.poll_s = poll_s or shape.poll_s
        self.jobs: dict[str, Launched] = {}
        self.refused = 0
        self.guard: Guard | None = None
        self.clock: Clock = self.wall
        self.look_s = FAR_S
        """When the guard looks next."""
        self.revive_s = FAR_S
        """When a dead guard is replaced; never, while nobody starts one."""
        self.awake_s = self.now_s
        """Until then the laptop sleeps."""
        self.absent: list[tuple[float, float]] = []
        """When no guard looked, or could reach the cloud: (from, until)."""
        self.outage_until_s = 0.0
        self.stirred_s = self.now_s
        """When something happened last."""
        self._happened = 0
        self.looks = 0
        self.steps = 0
        self._pause_s = pause_s
        self._say = say
        self._log = io.StringIO()
        self.invariants = Invariants(self)

    # Telling

    @property
    def now_s(self) -> float:
        """Seconds on the cloud's axis, which is the true time."""
        return self.wall.monotonic()

    def tell(self, text: str) -> None:
        """Into the trace, if anybody reads it."""
        if self._say is not None:
            self._say(f"{self.now_s - 1000:>10.1f}  {text}")

    def guard_said(self) -> str:
        """What the guard wrote into its log."""
        return self._log.getvalue()

    # What a user does

    def launch(self, plan: JobPlan) -> Launched | None:
        """Run `up`: plan, write the job down, start a guard. None where it is refused before anything is created."""
        spec = spec_of(plan)
        request = OfferRequest(
            gpu="T4", disk_gb=plan.disk_gb, spot=plan.spot, regions=plan.regions, settings={}, has_image=False
        )
        found = offers(self.cloud, request)
        if plan.unpriced:
            found = [without_price(found[0]), *found]
        try:
            made = make_plan(spec, found, self.provider, backstop=Backstop(armed=True, what=""), cap_usd=plan.cap_usd)
        except GpulaunchError as error:
            self.refused += 1
            self.tell(f"{plan.name} is refused: {error}")
            return None
        if not self._set_clock():
            return None
        job = Job(
            id=f"j-{plan.name}",
            name=plan.name,
            account=self.provider.account,
            provider=self.provider.name,
            cap_usd=made.cap_usd,
            spec=spec_to_json(spec),
            created_at=self.clock.now(),
            settings={},
            offers=msgspec.json.encode([made.offer, *made.others]).decode(),
            layers={},
            owner=OWNER,
        )
        launched = Launched(job=job, plan=plan, spec=spec, offer_plan=made, skew_s=self.skew_s)
        self.jobs[job.id] = launched
        try:
            self.journal.add_job(job, now=job.created_at)
        except (SimulatedCrash, StateError) as error:
            self.tell(f"up {plan.name} dies: {error}")
            launched.launcher_alive = False
            launched.excuses.add("launcher dies")
            if all(job.id != each.id for each in self.journal.jobs()):
                del self.jobs[job.id]
                return None
        self.tell(
            f"up {plan.name}: cap {plan.cap_usd}, {made.offer.region} spot={made.offer.spot} rate "
            f"{made.rate_usd_per_hour:.4f}, soft {made.deadlines.soft_after_s:.0f}, "
            f"hard {made.deadlines.hard_after_s:.0f}"
        )
        if self.guard is None and self.revive_s == FAR_S:
            self.revive_s = self.now_s
        self.stir()
        return launched

    def _set_clock(self) -> bool:
        """The clock of a new `up`; False when it died at it, or when the wall clock is too wrong to launch."""
        try:
            self.clock = self.journal.clock(self.wall)
        except (SimulatedCrash, StateError):
            return False
        if abs(self.skew_s) > MOST_SKEW_S:
            self.tell(f"refused: the clock is {self.skew_s:.0f} s off; the user sets it right")
            self.refused += 1
            self.wall.step(-self.wall_skew_s)
            return False
        return True

    @property
    def wall_skew_s(self) -> float:
        """How far the laptop's wall clock stands ahead of the cloud's."""
        return (self.wall.now() - self.cloud.now()).total_seconds()

    @property
    def skew_s(self) -> float:
        """How far the clock that the launcher counts by stands ahead of the cloud's."""
        return (self.clock.now() - self.cloud.now()).total_seconds()

    def down(self, job_id: str) -> None:
        """Run `down`."""
        if self.journal.request_cancel(job_id, now=self.clock.now(), by="a test"):
            self.jobs[job_id].cancelled = True
            self.tell(f"down {job_id}")
            self.stir()

    def launcher_dies(self, job_id: str) -> None:
        """The `up` of this job is killed."""
        self.jobs[job_id].launcher_alive = False
        if self.journal.job(job_id).accepted_at is None:
            self.jobs[job_id].excuses.add("launcher dies")
            self.faults.injected["LauncherDies"] += 1
        self.tell(f"the launcher of {job_id} dies")
        self.stir()

    # What befalls the laptop

    def kill_guard(self, pause_s: float) -> None:
        """Kill -9 of the guard between two looks; another is started after the pause."""
        if self.guard is not None:
            self.faults.injected["GuardKilled" if pause_s < FAR_S else "GuardGoneForEver"] += 1
            self._guard_dies(pause_s)

    def suspend(self, seconds: float) -> None:
        """Close the laptop's lid for that long."""
        self.tell(f"the laptop sleeps for {seconds:.0f} s")
        self.faults.injected["Suspend"] += 1
        self.awake_s = max(self.awake_s, self.now_s + seconds)
        self.absent.append((self.now_s, self.awake_s))
        if self.look_s < self.awake_s:
            self.look_s = self.awake_s + (self.look_s - self.now_s) % self.provider.poll_s

    def step_wall_clock(self, seconds: float) -> None:
        """The wall clock is set forward, or back."""
        self.tell(f"the wall clock steps by {seconds:.0f} s")
        self.faults.injected["WallStep"] += 1
        self.wall.step(seconds)
        self.stir()

    def fill_disk(self, *, full: bool) -> None:
        """The laptop's disk is full, or no longer."""
        self.tell(f"the disk is {'full' if full else 'free again'}")
        self.journal.disk_is_full = full
        self.stir()

    # What befalls the cloud

    def outage(self, seconds: float, name: str = "*") -> None:
        """The cloud's API, or one call of it, does not answer for that long."""
        self.tell(f"the API is down for {seconds:.0f} s ({name})")
        self.faults.injected["Outage"] += 1
        self.faults.down(self.now_s, self.now_s + seconds, name)
        self.outage_until_s = max(self.outage_until_s, self.now_s + seconds)
        self.absent.append((self.now_s, self.now_s + seconds))
        self.stir()

    def check_end(self) -> None:
        """Hold the world against what must be true once everything is over. Raises ViolationError."""
        self.invariants.check_end()

    # Time

    def stir(self) -> None:
        """Something happened: the guard looks at its usual pace again, and all is checked."""
        self.stirred_s = self.now_s
        if FAR_S > self.look_s > self.now_s + self.provider.poll_s:
            self.look_s = self.now_s + (self.look_s - self.now_s) % self.provider.poll_s
        self.check()

    def check(self) -> None:
        """Hold the world against the invariants. Raises ViolationError."""
        self.steps += 1
        self.invariants.check()

    def pass_until(self, until_s: float) -> None:
        """Let time pass: the guard looks when it is due, and the cloud goes on by itself."""
        while (at_s := self._next_s(until_s)) is not None:
            self._go_to(at_s)
            if self.now_s < self.awake_s:
                self.check()
            elif self.guard is not None and self.now_s >= self.look_s:
                self._look()
            elif self.guard is None and self.now_s >= self.revive_s:
                self._start_guard()
            else:
                self.stir()
        self._go_to(until_s)

    def _next_s(self, until_s: float) -> float | None:
        """The next moment before `until_s` at which something is to be done."""
        acts_s = self.look_s if self.guard is not None else self.revive_s
        acts_s = max(acts_s, self.awake_s) if acts_s < FAR_S else acts_s
        event_s = self.cloud.next_event_s() or FAR_S
        event_s = FAR_S if event_s <= self.now_s else event_s
        at_s = max(min(acts_s, event_s), self.now_s)
        return at_s if at_s < until_s else None

    def _go_to(self, at_s: float) -> None:
        left_s = at_s - self.now_s
        if left_s <= 0:
            return
        asleep_s = min(max(self.awake_s - self.now_s, 0.0), left_s)
        self.wall.suspend(asleep_s)
        self.wall.advance(left_s - asleep_s)
        self.cloud.settle()

    # The guard

    def is_alive(self, job_id: str) -> bool:
        """Whether the `up` of this job lives."""
        return self.jobs[job_id].launcher_alive

    def start_guard(self) -> None:
        """Start a guard now, if there is none."""
        if self.guard is None:
            self._start_guard()

    def _start_guard(self) -> None:
        self._end_absence()
        self.revive_s = FAR_S
        try:
            self.clock = self.journal.clock(self.wall)
            writer = self.journal.writer(self.provider.account, pid=1)
        except (SimulatedCrash, StateError):
            self._guard_dies(self._pause_s())
            return
        self.guard = Guard(writer, self.provider, self.clock, launcher_alive=self.is_alive)
        self.look_s = self.now_s
        self.tell("a guard starts")

    def _look(self) -> None:
        assert self.guard is not None
        self.looks += 1
        assert self.looks < MOST_LOOKS, f"it does not end: {self.journal.jobs(live=True)}"
        try:
            with redirect_stderr(self._log):
                wait_s = self.guard.tick()
        except SimulatedCrash as crash:
            self.tell(f"the guard dies at {crash}")
            self._guard_dies(self._pause_s())
            return
        except StateError:  # as its `run` does
            wait_s = self.guard._next_look_s()
        if wait_s is None:
            self.tell("the guard has no more to do")
            self.guard, self.look_s = None, FAR_S
        else:
            self.look_s = self.now_s + wait_s
        self.check()
        if self.cloud.happened != self._happened:
            self._happened, self.stirred_s = self.cloud.happened, self.now_s
        if wait_s is not None:
            self.look_s = calm.next_look_s(self, self.look_s)

    def _guard_dies(self, pause_s: float) -> None:
        self.tell(f"the guard is dead for {pause_s:.0f} s")
        self.guard, self.look_s = None, FAR_S
        self.revive_s = self.now_s + pause_s
        self.absent.append((self.now_s, FAR_S))
        self.stir()

    def _end_absence(self) -> None:
        self.absent = [(from_s, self.now_s if until_s == FAR_S else until_s) for from_s, until_s in self.absent]

    # What machines do

    def _script(self, intent: Intent) -> Script:
        launched = self.jobs[intent.job]
        scripts = launched.plan.scripts
        script = scripts[min(intent.attempt, len(scripts)) - 1]
        share = launched.plan.work_share
        soft_s = json.loads(intent.boot_data)["soft_after_s"]
        done_s = None if share is None else max(share * (soft_s - intent.offer.boot_s), 1.0)
        return replace(script, finishes_after_s=done_s)
