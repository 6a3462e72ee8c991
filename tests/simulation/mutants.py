"""Faults planted on purpose: each is a mistake that a guard like ours could well contain.

A simulation that does not find them proves nothing. Run as a program it shows at which seed each is found.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

from crashing_journal import empty_database
from runner import run

from launcher import creation, launch, plan
from launcher.budget import Terms
from launcher.core.clock import Clock
from launcher.creation import Creation
from launcher.guard import Guard
from launcher.journal import Journal
from launcher.outcome import Outcome, State
from launcher.policy import Decision, View
from launcher.records import Attempt, Job
from providers.base import AmbiguousOutcome, Offer, ProviderError, RatePart
from providers.simulated import offers
from providers.simulated.machine import SimMachine

MOST_RUNS = 10_000


@contextmanager
def record_after_create() -> Iterator[None]:
    """That `create` is about to be called is written down only once it has answered."""

    def create(self: Creation, job: Job, attempt: Attempt) -> Attempt | None:
        if not self._patience.is_due(attempt.token):
            return None
        called = replace(attempt, state=State.CREATING, create_called=True)
        try:
            machine = self._provider.create(launch.thaw(attempt))
        except ProviderError as error:
            if attempt.state == State.PLANNED:
                self._writer.save(called, now=self._clock.now(), kind="creating")
            self._create_failed(job, called, error)
            return None
        if attempt.state == State.PLANNED:
            self._writer.save(called, now=self._clock.now(), kind="creating")
        return self._accepted(job, called, machine)

    with patch.object(Creation, "create", create):
        yield


@contextmanager
def gone_on_accept() -> Iterator[None]:
    """A delete that was accepted counts as done."""
    real = Guard._destroy

    def destroy(self: Guard, before: Attempt, attempt: Attempt, decision: Decision) -> None:
        real(self, before, attempt, decision)
        now = self._clock.now()
        doomed = replace(self._journal.attempts(before.job)[-1], ended_at=now, gone_at=now)
        self._record_gone(self._journal.job(before.job), doomed, decision)

    with patch.object(Guard, "_destroy", destroy):
        yield


@contextmanager
def late_cap_check() -> Iterator[None]:
    """The hard deadline is held against the time of five minutes ago."""
    real = Attempt.age_s

    def age_s(self: Attempt, now: Any) -> float:
        return real(self, now - timedelta(minutes=5))

    with patch.object(Attempt, "age_s", age_s):
        yield


@contextmanager
def price_zero_when_unknown() -> Iterator[None]:
    """An offer whose compute has no price is taken, as if it were free."""

    def terms_for(spec: Any, offer: Offer, provider: Any) -> Terms:
        return Terms(
            rate_usd_per_hour=offer.rate_usd_per_hour or Decimal("0.001"),
            one_time_usd=offer.one_time_usd,
            egress_usd=offer.egress_usd_per_gb * spec.egress_gb,
            granularity_s=provider.billing.granularity_s,
            floor_s=provider.billing.floor_s,
            worst_lateness_s=provider.worst_lateness_s,
            boot_s=offer.boot_s,
            grace_s=spec.grace_s,
            upload_reserve_s=plan.upload_reserve_s(spec),
        )

    with patch.object(plan, "terms_for", terms_for):
        yield


@contextmanager
def deadline_lost_on_restart() -> Iterator[None]:
    """A guard that starts anew counts deadlines from its own start."""
    real_init, real_view = Guard.__init__, Guard._view
    started: dict[int, Any] = {}

    def init(self: Guard, writer: Any, provider: Any, clock: Clock, **others: Any) -> None:
        started[id(self)] = clock.now()
        real_init(self, writer, provider, clock, **others)

    def view(self: Guard, *values: Any, **named: Any) -> View:
        found = real_view(self, *values, **named)
        return replace(found, age_s=min(found.age_s, (self._clock.now() - started[id(self)]).total_seconds()))

    def next_look_s(self: Guard) -> float:
        return self._provider.poll_s

    with (
        patch.object(Guard, "__init__", init),
        patch.object(Guard, "_view", view),
        patch.object(Guard, "_next_look_s", next_look_s),
    ):
        yield


@contextmanager
def disk_left_out_of_the_rate() -> Iterator[None]:
    """The rate is compute and address; the disk is forgotten."""
    real = offers._around

    def around(item: Any, request: Any) -> Iterator[RatePart]:
        return (part for part in real(item, request) if part.name != "disk")

    with patch.object(offers, "_around", around):
        yield


@contextmanager
def attempts_each_given_the_full_cap() -> Iterator[None]:
    """What earlier attempts have cost is not taken off the cap."""
    real = plan.make_plan

    def make_plan(*values: Any, **named: Any) -> plan.Plan:
        return real(*values, **{**named, "spent_usd": Decimal(0)})

    with patch.object(creation, "make_plan", make_plan):
        yield


@contextmanager
def wall_clock_trusted_after_a_step() -> Iterator[None]:
    """Every process takes the wall clock as it stands."""

    def clock(self: Journal, inner: Clock) -> Clock:
        return inner

    with patch.object(Journal, "clock", clock):
        yield


@contextmanager
def bid_equal_to_the_whole_rate() -> Iterator[None]:
    """The bid is the rate of the machine with its disk and its address, and not its compute's ceiling."""

    def bid(self: SimMachine) -> Decimal | None:
        return self.intent.offer.rate_usd_per_hour if self.market is not None and self.shape.takes_bid else None

    with patch.object(SimMachine, "bid", property(bid)):
        yield


@contextmanager
def create_settled_by_an_empty_list() -> Iterator[None]:
    """A create whose fate is unknown counts as failed when the listing does not show its machine."""
    real = Creation._create_failed

    def create_failed(self: Creation, job: Job, attempt: Attempt, error: ProviderError) -> None:
        if isinstance(error, AmbiguousOutcome):
            try:
                shown = {machine.token for machine in self._provider.list(job.owner)}
            except ProviderError:
                shown = {attempt.token}
            if attempt.token not in shown:
                self._nothing_left(attempt, outcome=Outcome.LAUNCH_FAILED, reason=error.code, error=error)
                return
        real(self, job, attempt, error)

    with patch.object(Creation, "_create_failed", create_failed):
        yield


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    mutant.__name__.replace("_", " "): mutant
    for mutant in (
        record_after_create,
        gone_on_accept,
        late_cap_check,
        price_zero_when_unknown,
        deadline_lost_on_restart,
        disk_left_out_of_the_rate,
        attempts_each_given_the_full_cap,
        wall_clock_trusted_after_a_step,
        bid_equal_to_the_whole_rate,
        create_settled_by_an_empty_list,
    )
}


def find(name: str, seeds: range) -> tuple[int, str] | None:
    """The first of these seeds that shows the mutant, and what it broke; None: none does."""
    database = empty_database()
    with MUTANTS[name]():
        for seed in seeds:
            violation = run(seed, database=database).violation
            if violation is not None:
                return seed, violation
    return None


def main() -> int:
    """Show for each mutant at which run it is found; 1 when one is not."""
    first = int(os.environ.get("SEED") or 1)
    runs = int(os.environ.get("RUNS") or MOST_RUNS)
    missed = 0
    for name in MUTANTS:
        found = find(name, range(first, first + runs))
        if found is None:
            missed += 1
            print(f"{name}: NOT FOUND in {runs} runs", flush=True)
        else:
            print(f"{name}: run {found[0] - first + 1} (seed {found[0]}): {found[1].splitlines()[0]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
