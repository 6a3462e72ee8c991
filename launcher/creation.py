"""Making machines: the next attempt of a job, its frozen request, and the create call that is safe to replay."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from launcher import launch
from launcher.core.clock import rfc3339
from launcher.core.errors import GpulaunchError
from launcher.guard_log import say
from launcher.job import spec_from_json
from launcher.ledger import latest_end
from launcher.outcome import Outcome, State
from launcher.plan import make_plan, rank
from launcher.policy import goes_on, offers_left
from providers.base import AmbiguousOutcome, AuthError, Backstop, MachineNotFound, Offer, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from launcher.core.clock import Clock
    from launcher.journal import Writer
    from launcher.listener import Listener
    from launcher.patience import Patience
    from launcher.records import Attempt, Job
    from providers.base import Machine, Provider

# A create that the cloud refuses to answer is tried again this long, then the next offer is taken.
CREATE_PATIENCE_S = 120.0


# Made at import: the first use of a type by two threads at once crashes msgspec (0.22).
_OFFERS = msgspec.json.Decoder(list[Offer])


def offers_of(job: Job) -> list[Offer]:
    """The offers of the plan, in the order in which they are tried."""
    return _OFFERS.decode(job.offers)


class Creation:
    """Brings a job from one attempt to the next, and a planned attempt to a machine."""

    def __init__(
        self,
        writer: Writer,
        provider: Provider,
        clock: Clock,
        patience: Patience,
        launcher_alive: Callable[[str], bool],
        listener: Listener,
    ) -> None:
        self._writer = writer
        self._provider = provider
        self._clock = clock
        self._patience = patience
        self._launcher_alive = launcher_alive
        self._listener = listener
        # Tokens frozen by this guard, every create call of which was answered: for them nothing can exist unknown.
        self._settled: set[str] = set()

    def retire_if_stale(self, attempt: Attempt) -> Attempt:
        """A request that was frozen by a guard that died before it called the cloud: nothing was made of it.

        Its deadlines count from then, so it is not used any more.
        """
        if attempt.state == State.PLANNED and attempt.token not in self._settled:
            return self._nothing_left(attempt, outcome=None, reason="STALE")
        return attempt

    def next_attempt(self, job: Job, attempts: list[Attempt]) -> Attempt | None:
        """Freeze and write down the next machine's request, or close the job and return None."""
        now = self._clock.now()
        spec = spec_from_json(job.spec)
        made = [attempt for attempt in attempts if attempt.create_called]
        spent_usd = sum((attempt.cost_usd(now) for attempt in attempts), Decimal(0))
        ending = self._ending(job, attempts, resume=spec.resume)
        offers = [] if ending else offers_left(offers_of(job), attempts)
        if not offers:
            self._close(job, ending or _no_offer(attempts), spent_usd, now)
            return None
        best = rank(offers)[0]
        if best.provider != self._provider.name:
            self._move(job, best.provider)
            return None
        own = [offer for offer in offers if offer.provider == best.provider]
        try:
            plan = make_plan(
                spec,
                own,
                self._provider,
                backstop=Backstop(armed=True, what=""),
                cap_usd=job.cap_usd,
                spent_usd=spent_usd,
                used_s=sum(attempt.age_s(attempt.ended_at or now) for attempt in made),
            )
        except GpulaunchError as error:  # what is left of the cap buys nothing more here
            others = rank([offer for offer in offers if offer.provider != best.provider])
            if others:
                self._move(replace(job, offers=msgspec.json.encode(others).decode()), others[0].provider)
                return None
            self._close(job, _no_offer(attempts, type(error).__name__), spent_usd, now)
            return None
        if made and plan.deadlines.soft_after_s <= plan.offer.boot_s:  # another machine would boot, and end
            self._close(job, (Outcome.DURATION_REACHED, "MAX_DURATION"), spent_usd, now)
            return None
        number = attempts[-1].number + 1 if attempts else 1
        attempt = launch.freeze(
            job, spec, plan, self._provider, number=number, owner=job.owner, spent_usd=spent_usd, now=now
        )
        self._settled.add(attempt.token)
        return self._writer.save(
            attempt,
            now=now,
            kind="attempt",
            facts={
                "provider": attempt.provider,
                "region": attempt.region,
                "instance_type": attempt.instance_type,
            },
        )

    def _move(self, job: Job, provider: str) -> None:
        """Give the job, between two machines, to the guard of another provider's account."""
        there = (job.elsewhere or {})[provider]
        here = {job.provider: {"account": job.account, "settings": job.settings}}
        elsewhere = {name: place for name, place in (job.elsewhere or {}).items() if name != provider}
        moved = replace(
            job,
            account=there["account"],
            provider=provider,
            settings=there["settings"],
            elsewhere={**elsewhere, **here},
        )
        self._writer.hand_over(job, moved, now=self._clock.now())
        self._listener.handed_over(moved.account)

    def _ending(self, job: Job, attempts: list[Attempt], *, resume: bool) -> tuple[str, str] | None:
        """How the job has ended, if no further machine is to be made for it."""
        last = next((attempt for attempt in reversed(attempts) if attempt.reason != "STALE"), None)
        if last is not None and last.error_kind is None:
            made = sum(1 for attempt in attempts if attempt.create_called)
            if not goes_on(
                outcome=last.outcome,
                reason=last.reason,
                cancel=job.cancel_at is not None,
                resume=resume,
                spot=last.spot,
                attempts=made,
            ):
                return last.outcome or Outcome.LAUNCH_FAILED, last.reason or ""
        if job.cancel_at is not None:
            return Outcome.CANCELLED, "DOWN"
        if job.accepted_at is None and not self._launcher_alive(job.id):
            return Outcome.LAUNCH_FAILED, "LAUNCHER_GONE"
        return None

    def _close(self, job: Job, ending: tuple[str, str], spent_usd: Decimal, now: datetime) -> None:
        outcome, reason = ending
        closed = replace(job, outcome=outcome, reason=reason)
        self._listener.ended(self._writer.close_job(closed, now=now, spend_usd=spent_usd))

    def create(self, job: Job, attempt: Attempt) -> Attempt | None:
        """Call `create`, or replay it. Returns the attempt once there is a machine, else None.

        That the call is about to happen is written down before it happens.
        """
        if attempt.state == State.PLANNED:
            if job.cancel_at is not None:
                self._nothing_left(attempt, outcome=Outcome.CANCELLED, reason="DOWN")
                return None
            attempt = replace(attempt, state=State.CREATING, create_called=True)
            self._writer.save(attempt, now=self._clock.now(), kind="creating")
        if not self._patience.is_due(attempt.token):
            return None
        self._writer.check()
        settled = attempt.token in self._settled
        self._settled.discard(attempt.token)  # until the cloud has answered
        try:
            machine = self._provider.create(launch.thaw(attempt))
        except ProviderError as error:
            if isinstance(error, MachineNotFound) and error.machine is not None:
                # An earlier call made it, and it is gone: what it cost and how it ended is read like any other's.
                return self._accepted(job, attempt, error.machine)
            if settled and not isinstance(error, AmbiguousOutcome):
                self._settled.add(attempt.token)
            self._create_failed(job, attempt, error)
            return None
        return self._accepted(job, attempt, machine)

    def _accepted(self, job: Job, attempt: Attempt, machine: Machine) -> Attempt:
        self._patience.settled(attempt.token)
        now = self._clock.now()
        booting = replace(
            attempt,
            state=State.BOOTING,
            machine_id=machine.id,
            started_at=machine.billing_started_at,
            log_path=machine.log_path,
            console_url=machine.console_url,
            cloud_deadline_at=machine.deadline_at,
            trouble=None,
        )
        accepted = replace(job, state=State.BOOTING, accepted_at=job.accepted_at or now)
        ends = {} if machine.deadline_at is None else {"cloud_deadline": rfc3339(machine.deadline_at)}
        facts = {"machine": machine.id, **ends}
        return self._writer.save(booting, now=now, kind="accepted", job=accepted, facts=facts)

    def _create_failed(self, job: Job, attempt: Attempt, error: ProviderError) -> None:
        """Unknown fate: replay, until it is known. A typed failure: nothing was made; again, or the next offer.

        After a call whose fate is unknown, being refused at the door says nothing about that call.
        """
        settled = attempt.token in self._settled
        known = settled or not (error.retry or isinstance(error, AuthError))
        patient = self._patience.troubled_s(attempt.token) < CREATE_PATIENCE_S
        if not known or (error.retry and patient and job.cancel_at is None):
            self._patience.tried(attempt.token, failed=True)
            say(attempt.token, error)
            kind = "trouble" if attempt.trouble != str(error) else ""
            self._writer.save(
                replace(attempt, trouble=str(error)),
                now=self._clock.now(),
                kind=kind,
                facts={"error": str(error), "code": error.code},
            )
            return
        if not settled:
            attempt = self._paid_unseen(attempt)
        self._nothing_left(attempt, outcome=Outcome.LAUNCH_FAILED, reason=error.code, error=error, unseen=not settled)

    def _paid_unseen(self, attempt: Attempt) -> Attempt:
        """Nothing exists now, but a call whose fate was unknown may have made what is gone: an upper bound is owed."""
        now = self._clock.now()
        latest_s = attempt.hard_after_s + attempt.lateness_s
        ended_at = latest_end(attempt.interval(), now=now, latest_s=latest_s, last_seen_at=None)
        return replace(attempt, ended_at=ended_at, gone_at=ended_at, observed_at=now)

    def _nothing_left(
        self,
        attempt: Attempt,
        *,
        outcome: str | None,
        reason: str,
        error: ProviderError | None = None,
        unseen: bool = False,
    ) -> Attempt:
        """Record an attempt of which nothing is left; nothing was billed, unless it lived `unseen`."""
        gone = replace(
            attempt,
            state=State.GONE,
            create_called=unseen,
            confirmed=not unseen,
            outcome=outcome,
            reason=reason,
            error_kind=type(error).__name__ if error else None,
            error_scope=error.next_scope if error else None,
            trouble=str(error) if error else None,
        )
        self._patience.forget(attempt.token)
        self._settled.discard(attempt.token)
        facts = {"reason": reason, "error": str(error) if error else ""}
        return self._writer.save(gone, now=self._clock.now(), kind="not_created", facts=facts)


def _no_offer(attempts: list[Attempt], reason: str = "NO_OFFER") -> tuple[str, str]:
    """How a job ends that can have no (further) machine: as its last machine did, or as a failed launch."""
    made = [attempt for attempt in attempts if attempt.create_called and attempt.outcome]
    if made:
        return str(made[-1].outcome), made[-1].reason or ""
    failed = [attempt for attempt in attempts if attempt.error_kind is not None]
    return Outcome.LAUNCH_FAILED, (failed[-1].reason if failed else None) or reason
