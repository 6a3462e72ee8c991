"""The sweep: what carries our tag and is past its deadline is destroyed, from any computer with credentials.

It needs no local state: job, cap and deadline are read from each machine's tags. It is the last of the four layers,
for the day on which the launching computer is lost.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import tenacity

from launcher.core.clock import rfc3339
from launcher.core.errors import Exit
from launcher.core.money import usd_json
from providers.base import Machine, MachineNotFound, ProviderError, read_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from launcher.core.clock import Clock
    from launcher.core.errors import GpulaunchError
    from providers.base import Provider

# A listing that fails for the moment is tried again this long, then the provider is reported.
LIST_PATIENCE_S = 30.0
# A machine that was ordered destroyed is asked for this long, then it is reported as not confirmed.
GONE_PATIENCE_S = 600.0
LONGEST_WAIT_S = 30.0


class Action(StrEnum):
    """What came of a machine."""

    LEFT = "left"
    WOULD_DESTROY = "would_destroy"
    DESTROYED = "destroyed"
    NOT_CONFIRMED = "not_confirmed"


class Reason(StrEnum):
    """Why: what the machine is to us. A delete that was refused has the cloud's own code instead."""

    PAST_DEADLINE = "PAST_DEADLINE"
    WITHIN_DEADLINE = "WITHIN_DEADLINE"
    UNREADABLE_DEADLINE = "UNREADABLE_DEADLINE"
    OTHER_OWNER = "OTHER_OWNER"
    STILL_THERE = "STILL_THERE"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One machine, what its tags say, and what came of it."""

    provider: str
    machine: Machine
    job: str | None
    attempt: int | None
    cap_usd: Decimal | None
    deadline: datetime | None
    """The cloud's own, where it says one, else the tag's; None: there is none that can be read."""
    past_deadline: bool
    known: bool
    """A live job in this computer's journal answers for it."""
    reason: str
    action: Action = Action.LEFT
    error: ProviderError | None = None
    """What stood in the way of destroying it."""

    @property
    def is_unknown(self) -> bool:
        """Only a person can tell whether it is still wanted: it is ours, not due, and no job here knows it."""
        return not self.known and not self.past_deadline and self.reason != Reason.OTHER_OWNER


def list_all(
    providers: Mapping[str, Provider], owner: str, clock: Clock
) -> tuple[dict[str, list[Machine]], dict[str, GpulaunchError]]:
    """This owner's machines by provider, and why a provider could not be asked. One failing never stops the others."""
    machines: dict[str, list[Machine]] = {}
    failed: dict[str, GpulaunchError] = {}
    for name, provider in providers.items():
        retrying = tenacity.Retrying(
            stop=_until(clock, LIST_PATIENCE_S),
            wait=tenacity.wait_exponential(max=LONGEST_WAIT_S),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, ProviderError) and error.retry),
            sleep=clock.sleep,
            reraise=True,
        )
        try:
            machines[name] = retrying(provider.list, owner)
        except ProviderError as error:
            failed[name] = error
    return machines, failed


def judge(provider: str, machine: Machine, *, owner: str, now: datetime, known: Collection[str]) -> Found:
    """What a machine is to us. `known` holds the tokens and ids of the machines that live jobs here answer for."""
    tags = read_tags(machine.tags)
    deadline = machine.deadline_at or tags.hard_deadline
    ours = tags.owner == owner
    past = ours and deadline is not None and now >= deadline
    if not ours:
        reason = Reason.OTHER_OWNER
    elif deadline is None:
        reason = Reason.UNREADABLE_DEADLINE
    else:
        reason = Reason.PAST_DEADLINE if past else Reason.WITHIN_DEADLINE
    return Found(
        provider=provider,
        machine=machine,
        job=tags.job,
        attempt=tags.attempt,
        cap_usd=tags.cap_usd,
        deadline=deadline,
        past_deadline=past,
        known=machine.token in known or machine.id in known,
        reason=reason,
    )


def destroy(
    doomed: Sequence[Found],
    providers: Mapping[str, Provider],
    clock: Clock,
    *,
    patience_s: float = GONE_PATIENCE_S,
    tell: Callable[[Found], None] = lambda _: None,
) -> list[Found]:
    """Order each destroyed, and again until it is seen gone; all are ordered before any is waited for.

    Returns them in order, with what came of each: `destroyed` only where the cloud said that it is gone. An interrupt
    ends the waiting, not the teardown. `tell` is given each as its fate is settled.
    """
    fates = [replace(each, action=Action.NOT_CONFIRMED) for each in doomed]
    left = list(range(len(fates)))

    def drive() -> bool:
        """One step for each that is left. True while there is more to do."""
        for index in left.copy():
            fates[index] = found = _drive(fates[index], providers[fates[index].provider])
            if found.action == Action.DESTROYED or (found.error is not None and not found.error.retry):
                left.remove(index)
                tell(found)
        return bool(left)

    retrying = tenacity.Retrying(
        stop=_until(clock, patience_s),
        wait=tenacity.wait_exponential(max=LONGEST_WAIT_S),
        retry=tenacity.retry_if_result(bool),
        sleep=clock.sleep,
        retry_error_callback=lambda _: True,
    )
    with contextlib.suppress(KeyboardInterrupt):  # what is left is told as not confirmed
        retrying(drive)
    for index in left:
        tell(fates[index])
    return fates


def _drive(found: Found, provider: Provider) -> Found:
    """Order one machine destroyed and look whether it is gone."""
    try:
        provider.delete(found.machine.id)
        provider.get(found.machine.id)
    except MachineNotFound:
        return replace(found, action=Action.DESTROYED, error=None)
    except ProviderError as error:
        return replace(found, error=error)
    return replace(found, error=None)


def _until(clock: Clock, patience_s: float) -> Callable[[Any], bool]:
    """Stop when that many seconds of our own clock have passed: tenacity's own reads the system's."""
    ends_s = clock.monotonic() + patience_s
    return lambda _: clock.monotonic() >= ends_s


def exit_code(found: Sequence[Found], failed: Mapping[str, GpulaunchError]) -> Exit:
    """9 when something was not confirmed gone; else the code of the first provider that could not be asked, or 0."""
    if any(each.action == Action.NOT_CONFIRMED for each in found):
        return Exit.UNCONFIRMED
    return next((error.exit_code for error in failed.values()), Exit.OK)


def sweep_json(found: Found) -> dict[str, Any]:
    """One machine as `sweep --json` prints it. docs/sweep.md describes each field; fields are only added."""
    code = found.reason
    if found.action == Action.NOT_CONFIRMED:
        code = Reason.STILL_THERE if found.error is None else found.error.code
    return {
        "provider": found.provider,
        "machine_id": found.machine.id,
        "job": found.job,
        "attempt": found.attempt,
        "cap_usd": None if found.cap_usd is None else usd_json(found.cap_usd),
        "deadline": None if found.deadline is None else rfc3339(found.deadline),
        "state": str(found.machine.state),
        "past_deadline": found.past_deadline,
        "known": found.known,
        "action": str(found.action),
        "reason": str(code),
    }
