"""What must hold in a simulated world at every step, computed from the cloud's own truth and never from our sums."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import limits

from launcher.core.money import CENT
from launcher.outcome import State
from launcher.views import spend_usd
from providers.base import TAG_ATTEMPT, MachineState
from providers.simulated.faults import Delayed, HangingDelete, StuckTeardown

if TYPE_CHECKING:
    from world import Launched, World

    from launcher.records import Attempt, Job
    from providers.simulated.machine import SimMachine

# Sums of fractions of a second in binary floats differ in digits beyond this.
DUST_USD = Decimal("0.000001")
DUST_S = 0.001
# A guard looks at a deadline when it is due; all its looks of that moment are over by then.
GUARD_LATENESS_S = 1.0


class ViolationError(AssertionError):
    """An invariant is broken."""


class Invariants:
    """Holds one world against what was promised."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._attempts: dict[str, list[Attempt]] = {}
        self.worst_share = Decimal(0)
        """The largest bill so far, as a share of its cap."""
        self.limits: Counter[str] = Counter()
        """Machines that met a limit, by its name."""
        self._excused: set[tuple[str, str]] = set()
        self._made_s: dict[str, float] = {}

    # What the journal says, as it was read last

    def live_attempts(self) -> list[Attempt]:
        """Attempts that were not seen gone."""
        return [each for attempts in self._attempts.values() for each in attempts if each.state != State.GONE]

    def machine_of(self, attempt: Attempt) -> SimMachine | None:
        """The machine that was made for an attempt, in truth."""
        return self._world.cloud.machine_of(attempt.token)

    def made_s(self, attempt: Attempt) -> float:
        """When the request of an attempt was frozen, on the cloud's axis."""
        if attempt.token not in self._made_s:
            now_s, now = self._world.now_s, self._world.clock.now()
            self._made_s[attempt.token] = now_s - (now - attempt.created_at).total_seconds()
        return self._made_s[attempt.token]

    # The checks

    def check(self) -> None:
        """Hold everything against everything. Raises ViolationError."""
        world = self._world
        world.cloud.settle()
        for job_id, launched in world.jobs.items():
            self._attempts[job_id] = world.journal.attempts(job_id)
            for attempt in self._attempts[job_id][-1:]:
                self.made_s(attempt)
            for machine in world.cloud.machines(job_id):
                if machine.state is not None:
                    self._check_known(job_id, int(machine.intent.tags[TAG_ATTEMPT]), machine.id)
                    self._check_lateness(machine, world.now_s)
                    self._check_guard_in_time(machine)
            self._check_money(launched)

    def _check_money(self, launched: Launched) -> None:
        """The bill never passes the cap, and the ledger is never below the bill."""
        world, attempts = self._world, self._attempts[launched.job.id]
        bill = world.cloud.bill(launched.job.id)
        share = bill / launched.job.cap_usd
        if bill > launched.job.cap_usd + DUST_USD:
            self._require(
                self._is_excused(launched), f"{launched.job.id}: the bill is {bill:.6f}, the cap {launched.job.cap_usd}"
            )
        else:
            self.worst_share = max(self.worst_share, share)
        spend = spend_usd(attempts, world.clock.now())
        if spend < bill - DUST_USD:
            # Found gone by a guard that had not seen it for long, it is taken to have met its deadline.
            exact = all(attempt.confirmed for attempt in attempts) and spend < bill - CENT / 10
            self._require(
                self._is_excused(launched) and not exact,
                f"{launched.job.id}: the ledger says {spend:.6f}, the bill {bill:.6f}",
            )

    def _is_excused(self, launched: Launched) -> bool:
        """A machine of this job was late, and a limit says why."""
        world = self._world
        late = [each for each in world.cloud.machines(launched.job.id) if self._end_s(each) > self.hard_s(each)]
        return any(self._excuse(machine) for machine in late)

    def _end_s(self, machine: SimMachine) -> float:
        return self._world.now_s if machine.gone_s is None else machine.gone_s

    def _check_known(self, job_id: str, number: int, machine_id: str) -> None:
        """Nothing exists that the journal does not know as live."""
        known = [each for each in self._attempts.get(job_id, []) if each.number == number]
        self._require(bool(known), f"{machine_id} exists, and the journal does not know attempt {number} of {job_id}")
        self._require(known[0].state != State.GONE, f"{machine_id} exists, and the journal says that it is gone")
        self._require(
            known[0].state != State.PLANNED, f"{machine_id} exists, and the journal does not know of its create call"
        )

    def _check_lateness(self, machine: SimMachine, end_s: float) -> None:
        """Nothing exists after its hard deadline and what its cloud is late at worst."""
        latest_s = self.latest_s(machine)
        if end_s > latest_s + DUST_S:
            self._require(
                self._excuse(machine) is not None,
                f"{machine.id} exists {end_s - latest_s:.1f} s after its hard deadline and the declared lateness",
            )

    def _check_guard_in_time(self, machine: SimMachine) -> None:
        """A guard that nothing hinders has ordered the delete at the hard deadline, whatever agent and timer do."""
        world = self._world
        if machine.state is MachineState.STOPPING:
            return
        attempt = self.attempt_of(machine)
        if attempt.state == State.CREATING:  # found by the next replay of its create call
            return
        hard_s = max(self.made_s(attempt) + attempt.hard_after_s, machine.created_s)
        if world.now_s <= hard_s + GUARD_LATENESS_S:
            return
        if not self._guard_was_hindered(hard_s - world.provider.poll_s, world.now_s):
            late_s = world.now_s - hard_s
            ordered = attempt.deletes > 0
            self._require(ordered, f"{machine.id} is {late_s:.1f} s past its deadline, and no guard ordered its end")

    def hard_s(self, machine: SimMachine) -> float:
        """The hard deadline, on the cloud's axis.

        It counts from the frozen request. A duration counts from the moment when the machine is made, since nothing is
        billed before; so does a request from the future, where the caller's clock is ahead, until that time has come.
        """
        attempt = self.attempt_of(machine)
        made_s = self.made_s(attempt)
        timer = self._world.cloud.shape.timer
        armed_s = machine.things.get("timer", (machine.created_s, None))[0]
        ahead_s = max(self._world.jobs[machine.intent.job].skew_s, 0.0)
        from_s = max(made_s, min(made_s + ahead_s, max(armed_s, machine.created_s)))
        if timer is not None and timer.counts_from_running:
            from_s = max(from_s, machine.created_s)
        return from_s + attempt.hard_after_s

    def attempt_of(self, machine: SimMachine) -> Attempt:
        """What the journal says of it. Raises StopIteration for a machine that it does not know."""
        return next(each for each in self._attempts[machine.intent.job] if each.token == machine.intent.token)

    def latest_s(self, machine: SimMachine) -> float:
        """When nothing of it may be left, on the cloud's axis.

        A machine that a late create has brought forth just before its deadline, and that no timer of the cloud ends,
        can end itself once it has booted: what it costs until then is less than what was planned for.
        """
        shape = self._world.cloud.shape
        from_s = machine.created_s
        if not self._was_armed(machine):
            from_s += shape.pending_s.most + shape.boot_s.most
        return max(self.hard_s(machine), from_s) + shape.worst_lateness_s

    # Limits

    def _excuse(self, machine: SimMachine) -> str | None:
        """The limit that explains why a machine is late, if one does; it is counted once."""
        found = self._limit(machine)
        if found is not None and (machine.id, found) not in self._excused:
            self._excused.add((machine.id, found))
            self.limits[found] += 1
            self._world.tell(f"a limit: {machine.id}: {found}")
        return found

    def _limit(self, machine: SimMachine) -> str | None:
        world = self._world
        held = [fault for call, fault in world.faults.met if call.about == machine.id and call.name == "delete"]
        if any(isinstance(fault, HangingDelete | StuckTeardown) for fault in held):
            return limits.CLOUD_KEEPS_IT
        if self._is_left_alone(machine):
            timer = world.cloud.shape.timer
            if not self._was_armed(machine):
                return limits.NO_LAYER_LEFT
            if timer is not None and not timer.ends_stopped and machine.state_reason == "switched off":
                return limits.SWITCHED_OFF
        return None

    def _was_armed(self, machine: SimMachine) -> bool:
        """The cloud's timer was armed before the deadline."""
        timer = self._world.cloud.shape.timer
        if timer is None or not timer.armed_apart:
            return timer is not None
        armed_s = machine.things.get("timer", (math.inf, None))[0]
        return armed_s <= self.hard_s(machine)

    def _is_left_alone(self, machine: SimMachine) -> bool:
        """The agent could not end it, and the guard could not either at the time when it was due."""
        world = self._world
        hard_s = self.hard_s(machine)
        agent = machine.agent
        if agent is not None and agent.ended_s <= hard_s and machine.state_reason != "switched off":
            return False
        return self._guard_was_hindered(hard_s - world.provider.poll_s, machine.gone_s or world.now_s)

    def _guard_was_hindered(self, from_s: float, until_s: float) -> bool:
        """It was dead or asleep, or one of its calls met a fault."""
        world = self._world
        away = any(since_s < until_s and from_s < back_s for since_s, back_s in world.absent)
        return away or any(from_s <= call.at_s <= until_s for call, _ in world.faults.met)

    # At the end

    def check_end(self) -> None:
        """A guard was there until it had no more to do. Raises ViolationError."""
        world = self._world
        self.check()
        self._require(not world.cloud.existing(), f"left behind: {world.cloud.existing()}")
        self._require("Traceback" not in world.guard_said(), f"the guard met a bug:\n{world.guard_said()[-3000:]}")
        for job_id, launched in world.jobs.items():
            job = world.journal.job(job_id)
            self._require(job.state == State.GONE, f"{job_id} is {job.state} at the end")
            for machine in world.cloud.machines(job_id):
                if machine.gone_s is not None:
                    self._check_lateness(machine, machine.gone_s)
            self._check_ledger(job, launched)
            self._check_outcome(job, launched)

    def _check_ledger(self, job: Job, launched: Launched) -> None:
        """Confirmed means to the cent."""
        world, attempts = self._world, self._attempts[job.id]
        bill = world.cloud.bill(job.id)
        spend = spend_usd(attempts, world.clock.now())
        self._require(job.spend_usd == spend, f"{job.id} was closed with {job.spend_usd}, the ledger says {spend}")
        if all(attempt.confirmed for attempt in attempts):
            unsure_usd = max(CENT, len(attempts) * CENT / 10)
            what = f"{job.id}: confirmed, and the ledger says {spend:.6f}, the bill {bill:.6f}"
            self._require(spend - bill < unsure_usd, what)

    def _check_outcome(self, job: Job, launched: Launched) -> None:
        """No job is stopped earlier than the policy says, and none that did well is told to have done otherwise."""
        world = self._world
        for machine in world.cloud.machines(job.id):
            self._check_not_early(job, launched, machine)
        if job.outcome == "finished":
            agents = [each.agent for each in world.cloud.machines(job.id)]
            done = any(agent is not None and agent.outcome == "finished" for agent in agents)
            self._require(done, f"{job.id} is told to have finished, and has not")

    def _check_not_early(self, job: Job, launched: Launched, machine: SimMachine) -> None:
        """A machine that nothing befell lives until its training is done, or until its soft deadline."""
        attempt = self.attempt_of(machine)
        ended_s = next((at_s for at_s, state in machine.history if state is MachineState.STOPPING), None)
        if ended_s is None or self._has_an_excuse(launched, machine):
            return
        agent = machine.agent
        early_s = max(-launched.skew_s, 0.0)
        soft_s = self.made_s(attempt) + attempt.soft_after_s - early_s
        if agent is None and ended_s >= soft_s - DUST_S:  # made late, by the replay of a call whose fate was unknown
            return
        self._require(agent is not None, f"{machine.id} was ended before its agent was up")
        assert agent is not None
        done_s = agent.up_s + (machine.script.finishes_after_s or math.inf)
        self._require(
            ended_s >= min(soft_s, done_s) - DUST_S,
            f"{machine.id} was ended at {ended_s:.1f}, {min(soft_s, done_s) - ended_s:.1f} s too early",
        )
        if (unknown := self._why_unknown(machine)) is not None:
            self.limits[unknown] += 1
            return
        if attempt.outcome in ("budget_reached", "duration_reached"):
            self._require(ended_s >= soft_s - DUST_S, f"{machine.id}: {attempt.outcome} before the soft deadline")
        if done_s < soft_s and machine.script.exit_code == 0 and attempt.outcome != "finished":
            self._require(False, f"{machine.id} finished, and the journal says {attempt.outcome}")

    def _why_unknown(self, machine: SimMachine) -> str | None:
        """The limit for which nobody can know how the training ended, if one applies."""
        world = self._world
        if machine.gone_s is None:
            return None
        attempt = self.attempt_of(machine)
        seen_at = attempt.observed_at or attempt.created_at
        seen_s = self.made_s(attempt) + (seen_at - attempt.created_at).total_seconds()
        if seen_s - machine.gone_s > world.cloud.shape.evidence_s:
            return limits.FORGOTTEN
        met = {call for call, _ in world.faults.met}
        read = [call for call in world.cloud.calls if call.name == "console" and call.about == machine.id]
        heard = any(call.at_s >= machine.gone_s and call not in met for call in read)
        return None if heard else limits.UNREADABLE

    def _has_an_excuse(self, launched: Launched, machine: SimMachine) -> bool:
        """Something befell it that ends a machine by the policy's own rules."""
        script = machine.script
        cut = script.network_cut_s
        delayed = any(
            isinstance(fault, Delayed) and call.about == machine.intent.token for call, fault in self._world.faults.met
        )
        return (
            bool(launched.excuses)
            or launched.cancelled
            or not script.boots
            or not script.runs
            or script.agent_dies_after_s is not None
            or machine.state_reason == "PREEMPTED"
            or (cut is not None and cut[1] - cut[0] > 300)
            or (cut is not None and cut[0] < 120)
            or (machine.agent is not None and machine.agent.cut_s[0] <= machine.agent.ended_s < machine.agent.cut_s[1])
            or delayed
        )

    def usable_shares(self) -> list[tuple[str, float]]:
        """(shape, share of the cap that was usable time) of each job on demand at $5 that met its cap."""
        world, found = self._world, []
        for job_id, launched in world.jobs.items():
            machines = world.cloud.machines(job_id)
            if launched.plan.spot or launched.job.cap_usd != 5 or launched.plan.grace_s != 60 or len(machines) != 1:
                continue
            attempt = self._attempts[job_id][-1]
            if attempt.outcome == "budget_reached" and attempt.reason == "CAP" and machines[0].compute:
                terms = launched.offer_plan.terms
                usable_s = self.made_s(attempt) + attempt.soft_after_s - machines[0].compute[0][0]
                left_usd = float(launched.job.cap_usd - terms.one_time_usd - terms.egress_usd)
                found.append((world.cloud.shape.name, usable_s / 3600 * float(terms.rate_usd_per_hour) / left_usd))
        return found

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise ViolationError(what)
