"""The guard: the reconcile loop, and the only place where decisions meet clouds.

Every effect is idempotent and is written down before it is done, so that a guard killed at any instruction is
replaced by one that goes on from the journal. Nothing is written down as gone that was not seen gone.
"""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import Event as Flag
from typing import TYPE_CHECKING

from launcher import launch
from launcher.agent_word import AgentWord, NoStores
from launcher.core.errors import JournalDamaged, StateError
from launcher.core.money import CENT, per_second
from launcher.creation import Creation
from launcher.guard_log import say
from launcher.journal import ReplacedError, Writer
from launcher.ledger import latest_end
from launcher.listener import Listener
from launcher.outcome import Outcome, State
from launcher.patience import Patience
from launcher.policy import MOST_ATTEMPTS, Decision, View, decide
from providers.base import MachineNotFound, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from launcher.agent_word import Stores
    from launcher.core.clock import Clock
    from launcher.records import Attempt, Job
    from providers.base import Machine, Provider

# A heartbeat that changes no state is written down at most this often.
SAVE_BEAT_S = 5.0
# An unconfirmed delete is repeated before waiting for it has cost this much.
DELETE_AGAIN_USD = Decimal("0.001")
# An attempt known this well is confirmed: a job is then known to the cent, however many attempts it had.
CONFIRMED_USD = CENT / (2 * MOST_ATTEMPTS)
# As the clouds bill what leaves them.
BYTES_PER_GB = 10**9
# What is stuck this long is told to people.
ALARM_S = 600.0


class Guard:
    """Watches the jobs of one account, and ends what is due."""

    def __init__(
        self,
        writer: Writer,
        provider: Provider,
        clock: Clock,
        *,
        launcher_alive: Callable[[str], bool],
        listener: Listener | None = None,
        stores: Stores | None = None,
        wake: Flag | None = None,
    ) -> None:
        self._writer = writer
        self._journal = writer.journal
        self._provider = provider
        self._clock = clock
        self._patience = Patience(clock, provider.poll_s)
        self._listener = listener or Listener()
        self._word = AgentWord(provider, clock, self._patience, stores or NoStores())
        self._creation = Creation(writer, provider, clock, self._patience, launcher_alive, self._listener)
        self._wake = wake or Flag()
        self._stopped = False
        self._hurries = False  # the next offer waits to be tried: nothing is gained by waiting for it

    def stop(self) -> None:
        """End `run` after the look that is under way. The machines go on under their own deadlines."""
        self._stopped = True
        self._wake.set()

    def run(self) -> None:
        """Watch until no job is left. Raises ReplacedError when another guard takes over, JournalDamaged."""
        while not self._stopped:
            try:
                wait_s = self.tick()
            except JournalDamaged:
                raise
            except StateError as error:  # a full disk: what can be done without writing was done; again, soon
                say("journal", error)
                wait_s = self._provider.poll_s
                with contextlib.suppress(StateError):  # it cannot even be read
                    wait_s = self._next_look_s()
            if wait_s is None:
                return
            self._clock.sleep(wait_s, self._wake)
            if not self._stopped:
                self._wake.clear()

    def tick(self) -> float | None:
        """Look at every live job once and do what is due.

        Returns the seconds until the next look, or None when no job is live.
        """
        jobs = self._journal.jobs(live=True, account=self._writer.account)
        if not jobs:
            return None
        self._hurries = False
        has_machines = any(job.state not in (State.PLANNED, State.WAITING) for job in jobs)
        seen = self._list(jobs[0].owner) if has_machines else {}
        for job in jobs:
            self._guarded_step(job, seen)
        self._writer.ticked()
        over = not self._journal.jobs(live=True, account=self._writer.account, limit=1)
        if over:
            return None
        return 0.0 if self._hurries else self._next_look_s()

    def _guarded_step(self, job: Job, seen: dict[str, Machine]) -> None:
        """One failing job never keeps the others from being watched."""
        try:
            self._step(job, seen)
        except (ReplacedError, JournalDamaged):
            raise
        except StateError as error:
            say(job.name, error)
        except Exception as error:  # noqa: BLE001 - a bug met with one job must not stop the others; it is told
            traceback.print_exc()
            with contextlib.suppress(StateError):
                facts = {"error": repr(error)}
                self._writer.note(job.id, None, now=self._clock.now(), kind="guard_error", facts=facts)

    def _step(self, job: Job, seen: dict[str, Machine]) -> None:
        attempts = self._journal.attempts(job.id)
        current = self._creation.retire_if_stale(attempts[-1]) if attempts else None
        if current is None or current.state == State.GONE:
            current = self._creation.next_attempt(job, [*attempts[:-1], current] if current else [])
        if current is not None and current.state in (State.PLANNED, State.CREATING):
            current = self._creation.create(job, current)
            seen = {}  # the listing is older than what a replay may have found: it may show the machine half-made
            self._hurries |= current is None and self._journal.attempts(job.id)[-1].state == State.GONE
        if current is not None:
            self._watch(job, current, seen)

    def _list(self, owner: str) -> dict[str, Machine]:
        """This owner's machines by id, in one call. Empty when the cloud could not be asked: each is then asked for."""
        try:
            return {machine.id: machine for machine in self._provider.list(owner)}
        except Exception as error:  # noqa: BLE001 - a bug met while listing must not stop the watch either; it is told
            say("list", error)
            return {}

    # Watching

    def _watch(self, job: Job, before: Attempt, seen: dict[str, Machine]) -> None:
        assert before.machine_id is not None, "an attempt that is watched has a machine"
        machine = seen.get(before.machine_id) if before.state != State.DELETING else None
        evidence: Machine | None = None
        gone = False
        trouble = None
        try:
            machine = machine or self._provider.get(before.machine_id)
        except MachineNotFound as error:
            gone, evidence = True, error.machine
        except Exception as error:  # noqa: BLE001 - not even a bug may keep a due machine from being deleted; it is told
            trouble = str(error) if isinstance(error, ProviderError) else f"the provider met a bug: {error!r}"
        now = self._clock.now()
        attempt = before
        if gone:
            attempt = _closed(self._word.last(job, before), evidence, now)
        elif machine is not None:
            attempt = _observed(before, machine, now)
        if not gone and attempt.age_s(now) < attempt.hard_after_s:  # what is due is ended first; its console can wait
            attempt = self._word.newest(job, attempt)
        attempt = replace(attempt, trouble=trouble)
        seen_gpu = machine or evidence
        if seen_gpu is not None and seen_gpu.gpu is not None:
            attempt = replace(attempt, beat={**(attempt.beat or {}), "gpu": seen_gpu.gpu})
        if gone and self._word.awaits_last(attempt):
            return
        decision = decide(self._view(job, attempt, machine or evidence, gone=gone))
        attempt = _as_launch(attempt, machine or evidence, decision)
        if decision.action == "gone":
            self._record_gone(job, attempt, decision)
        elif decision.action == "destroy":
            self._destroy(before, attempt, decision)
            self._alarm(job, attempt)
        else:
            self._keep(before, replace(attempt, state=decision.state))
            self._alarm(job, attempt)

    def _view(self, job: Job, attempt: Attempt, machine: Machine | None, *, gone: bool) -> View:
        return View(
            state=attempt.state,
            age_s=attempt.age_s(attempt.ended_at or self._clock.now()),
            hard_after_s=attempt.hard_after_s,
            limit_outcome=attempt.limit_outcome,
            cancel=job.cancel_at is not None,
            machine=machine.state if machine is not None else None,
            gone=gone,
            state_reason=machine.state_reason if machine is not None else None,
            never_ran=machine.never_ran.code if machine is not None and machine.never_ran is not None else None,
            beat=attempt.beat,
            silent_s=self._patience.of(attempt.token).silent_s,
            boot_timeout_s=self._provider.boot_timeout_s,
            outcome=attempt.outcome,
            reason=attempt.reason,
        )

    def _keep(self, before: Attempt, after: Attempt) -> None:
        """Write down what has changed."""
        waiting = self._patience.of(after.token)
        now_s = self._clock.monotonic()
        facts = {"error": after.trouble} if after.trouble else {}
        if after.state != before.state:
            self._writer.save(after, now=self._clock.now(), kind=str(after.state), facts=facts)
        elif after.trouble != before.trouble:
            self._writer.save(after, now=self._clock.now(), kind="trouble" if after.trouble else "well", facts=facts)
        elif after.beat_seq != before.beat_seq and now_s - waiting.saved_at >= SAVE_BEAT_S:
            self._writer.save(after, now=self._clock.now())
        else:
            return
        waiting.saved_at, waiting.beat = now_s, None

    def _alarm(self, job: Job, attempt: Attempt) -> None:
        """Tell of a machine that is not seen gone, or cannot be looked at: after ten minutes, and less often later."""
        waiting = self._patience.of(attempt.token)
        if attempt.trouble is None and attempt.state != State.DELETING:
            waiting.alarm_from = None
            return
        now_s = self._clock.monotonic()
        if waiting.alarm_from is None:
            waiting.alarm_from, waiting.alarm_after_s = now_s, ALARM_S
        elif now_s - waiting.alarm_from >= waiting.alarm_after_s:
            waiting.alarm_after_s *= 2
            self._listener.stuck(job, attempt, now_s - waiting.alarm_from)

    # Ending

    def _destroy(self, before: Attempt, attempt: Attempt, decision: Decision) -> None:
        """Order the machine destroyed; again, until it is seen gone. The order never waits for the journal's disk."""
        first = before.state != State.DELETING
        if not first and not self._patience.is_due(attempt.token):
            return
        doomed = replace(
            attempt,
            state=State.DELETING,
            outcome=decision.outcome,
            reason=decision.reason,
            deletes=attempt.deletes + 1,
            trouble=attempt.trouble or before.trouble,  # it lasts until a delete is accepted
        )
        facts = {"outcome": doomed.outcome, "reason": doomed.reason}
        unwritten: StateError | None = None
        try:
            self._writer.save(doomed, now=self._clock.now(), kind="deleting" if first else "", facts=facts)
        except StateError as error:
            unwritten = error
        if first:
            self._patience.settled(doomed.token)
        longest_s = float(DELETE_AGAIN_USD / per_second(doomed.rate_usd_per_hour))
        try:
            self._provider.delete(str(doomed.machine_id))
        except ProviderError as error:
            self._patience.tried(doomed.token, failed=True, longest_s=longest_s)
            self._keep(doomed, replace(doomed, trouble=str(error)))
        else:
            self._patience.tried(doomed.token, failed=False, longest_s=longest_s)
            self._keep(doomed, replace(doomed, trouble=attempt.trouble))
        if unwritten is not None:
            raise unwritten

    def _record_gone(self, job: Job, closed: Attempt, decision: Decision) -> None:
        """Seen gone: write the attempt down with its outcome, and go on to the next one, or close the job."""
        now = self._clock.now()
        trouble = closed.trouble if closed.error_kind else None  # a failed launch says why; all other is over
        closed = replace(closed, state=State.GONE, outcome=decision.outcome, reason=decision.reason, trouble=trouble)
        ended = replace(job, state=State.WAITING, exit_code=(closed.beat or {}).get("exit_code"))
        facts = {"outcome": closed.outcome, "reason": closed.reason, "confirmed": closed.confirmed}
        if trouble is not None:
            facts["error"] = trouble
        self._writer.save(closed, now=now, kind="gone", job=ended, facts=facts)
        self._patience.forget(closed.token)
        self._creation.next_attempt(ended, self._journal.attempts(job.id))

    def _next_look_s(self) -> float:
        """Until the next look: the usual cadence, or sooner when a deadline falls before it."""
        now = self._clock.now()
        wait_s = self._provider.poll_s
        for attempt in self._journal.live_attempts(self._writer.account):
            if attempt.state in (State.BOOTING, State.RUNNING, State.STOPPING):
                left_s = attempt.hard_after_s - attempt.age_s(now)
                if left_s > 0:  # what is overdue was acted upon just now, and must not make a tight loop
                    wait_s = min(wait_s, max(left_s, 0.05))
        return wait_s


def _observed(attempt: Attempt, machine: Machine, now: datetime) -> Attempt:
    """The attempt with what the cloud says of a machine that exists."""
    return replace(
        attempt,
        started_at=machine.billing_started_at or attempt.started_at,
        billed_s=machine.billed_s,
        observed_at=now,
    )


def _as_launch(attempt: Attempt, seen: Machine | None, decision: Decision) -> Attempt:
    """The attempt as a launch that failed, where its machine ended before it ran: the next offer is tried then."""
    failure = seen.never_ran if seen is not None else None
    if failure is None or decision.outcome != Outcome.LAUNCH_FAILED:
        return attempt
    return replace(attempt, error_kind=type(failure).__name__, error_scope=failure.next_scope, trouble=str(failure))


def _closed(attempt: Attempt, evidence: Machine | None, now: datetime) -> Attempt:
    """The attempt of a machine that was seen gone, its billing closed: by the evidence of its end, where there is some.

    Without any it is closed by an upper bound. It is confirmed when what it cost is known to the cent: when its compute
    ended, at which price, and that nothing else can have billed much: what stood before and after, what left the cloud.
    """
    latest_s = attempt.hard_after_s + attempt.lateness_s
    gone_at = latest_end(attempt.interval(), now=now, latest_s=latest_s, last_seen_at=attempt.observed_at)
    counted_usd = _counted_egress_usd(attempt)
    started_at, compute_usd, confirmed = None, None, False
    if evidence is not None and evidence.billing_ended_at is not None:
        started_at = evidence.billing_started_at or attempt.started_at
        ended_at, billed_s, compute_usd = evidence.billing_ended_at, evidence.billed_s, evidence.compute_usd
        # What is around the machine goes within the lateness, unless it was seen later.
        gone_at = min(max(gone_at, ended_at + timedelta(seconds=attempt.lateness_s)), now)
        unsure_s = (now - ended_at).total_seconds() + (evidence.created_at - attempt.created_at).total_seconds()
        unsure_usd = Decimal(max(unsure_s, 0.0)) * per_second(attempt.standing_usd_per_hour)
        unsure_usd += attempt.egress_usd if counted_usd is None else 0
        confirmed = unsure_usd < CONFIRMED_USD and (compute_usd is not None or not attempt.spot)
    elif evidence is not None and evidence.billed_s is not None:
        ended_at, billed_s = gone_at, evidence.billed_s
    else:
        # Seen alive later than its deadline, it may have billed until it was seen gone.
        seen_s = attempt.billed_s
        ended_at, billed_s = gone_at, None if seen_s is None else min(attempt.age_s(now), max(latest_s, seen_s))
    return replace(
        attempt,
        started_at=started_at,
        ended_at=ended_at,
        gone_at=max(gone_at, ended_at),
        billed_s=billed_s,
        observed_at=now,
        compute_usd=compute_usd,
        egress_usd=attempt.egress_usd if counted_usd is None else counted_usd,
        confirmed=confirmed,
    )


def _counted_egress_usd(attempt: Attempt) -> Decimal | None:
    """What left the machine, where its agent counted it until the end; else None: the whole reserve counts as spent."""
    beat = attempt.beat or {}
    counted = beat.get("egress_bytes")
    if beat.get("state") != "ended" or not isinstance(counted, int):
        return None
    return Decimal(counted) / BYTES_PER_GB * launch.thaw(attempt).offer.egress_usd_per_gb
