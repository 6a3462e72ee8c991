"""What is known of a machine that is gone: from Azure's activity log, and from our own last looks.

The log keeps every change of a subscription for 90 days ("Azure Monitor activity log", learn.microsoft.com), and tells
of one after 3 to 20 minutes. It is also what proves that a token has been used: Resource Manager itself forgets a group
with its deletion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from providers.azure.machine import NOT_BILLED, console_url, describe, is_deleting, power_of
from providers.azure.requests import token_of
from providers.base import Machine, MachineState, ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from providers.azure.client import Arm

LOG_LAG_S = 1200.0
KEPT = timedelta(days=89)
# A last look older than this says little about when billing ended: what the ledger then uses is an upper bound.
FRESH_S = 35.0
_WRITE = "microsoft.compute/virtualmachines/write"
_ENDS = (
    "microsoft.compute/virtualmachines/delete",
    "microsoft.compute/virtualmachines/deallocate/action",
    "microsoft.compute/virtualmachines/evictspotvm/action",
)
_EVICTED = _ENDS[2]
_GROUP_DELETE = "microsoft.resources/subscriptions/resourcegroups/delete"


@dataclass(frozen=True, kw_only=True)
class Life:
    """What the log tells of one group. Times are of this computer's clock."""

    made_at: datetime | None = None
    """When its virtual machine was asked for; None: never, as far as the log knows."""
    ended_at: datetime | None = None
    """When its virtual machine was gone or deallocated, at the latest."""
    evicted: bool = False


def life_of(arm: Arm, group: str, *, since: datetime | None = None) -> Life:
    """Read the log."""
    now = arm.clock.now()
    start = arm.cloud_time(max((since or now - KEPT) - timedelta(minutes=5), now - KEPT))
    end = arm.cloud_time(now + timedelta(minutes=5))
    query = {
        "api-version": "2015-04-01",
        "$filter": (
            f"eventTimestamp ge '{_text(start)}' and eventTimestamp le '{_text(end)}' "
            f"and resourceGroupName eq '{group}'"
        ),
        "$select": "eventTimestamp,operationName,status",
    }
    rows = arm.pages("/providers/Microsoft.Insights/eventtypes/management/values", "read the activity log", **query)
    return _life(sorted(_events(arm, rows)))


def _life(events: list[tuple[datetime, str, str]]) -> Life:
    life = Life()
    for at, operation, status in events:
        over = status == "succeeded"
        if operation == _WRITE and status != "failed" and life.made_at is None:
            life = replace(life, made_at=at)
        elif operation == _WRITE and status == "failed":
            life = Life()  # it was never placed
        elif operation in _ENDS and over and life.ended_at is None:
            life = replace(life, ended_at=at, evicted=operation == _EVICTED)
        elif operation == _GROUP_DELETE and over and life.ended_at is None:
            life = replace(life, ended_at=at)
    return life


def _events(arm: Arm, rows: list[Mapping[str, Any]]) -> Iterator[tuple[datetime, str, str]]:
    for row in rows:
        at = arm.local_time(row.get("eventTimestamp"))
        if at is not None:
            yield at, _value(row, "operationName").lower(), _value(row, "status").lower()


def _value(row: Mapping[str, Any], name: str) -> str:
    found = row.get(name) or {}
    return str(found.get("value", "") if isinstance(found, dict) else found)


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class _Sighting:
    machine: Machine
    seen_s: float
    """When it was last seen to bill, by the monotonic clock."""
    ended_at: datetime | None = None


class Sightings:
    """What this process has seen of each machine: enough to say when billing ended, had it looked often enough."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self._seen: dict[str, _Sighting] = {}

    def describe(self, group: Mapping[str, Any], virtual_machine: Mapping[str, Any] | None) -> Machine:
        """The machine of a group as it is now, with what earlier looks knew of it. Remembers this look.

        A group without a machine is either half-made or what an eviction left: we have seen the machine, or the log
        has. Until one of them says so it is half-made.
        """
        name = str(group["name"])
        lived = False
        if virtual_machine is None and not is_deleting(group):
            lived = self.knows(name) or self._told_ended(name)
        return self._note(describe(self._arm, group, virtual_machine, lived=lived), virtual_machine)

    def _told_ended(self, name: str) -> bool:
        try:
            return life_of(self._arm, name).ended_at is not None
        except ProviderError:  # it is asked again at the next look
            return False

    def _note(self, machine: Machine, virtual_machine: Mapping[str, Any] | None) -> Machine:
        bills = virtual_machine is not None and power_of(virtual_machine) not in NOT_BILLED
        now_s = self._arm.clock.monotonic()
        before = self._seen.get(machine.id)
        if bills:
            self._seen[machine.id] = _Sighting(machine, now_s)
            return machine
        if before is None:
            return machine
        if before.ended_at is None and now_s - before.seen_s <= FRESH_S:
            before.ended_at = self._arm.clock.now()
        known = before.machine
        return replace_times(machine, known, before.ended_at)

    def gone(self, machine_id: str) -> Machine | None:
        """The evidence of a machine that is gone now, if it was watched closely."""
        before = self._seen.get(machine_id)
        if before is None:
            return None
        if before.ended_at is None and self._arm.clock.monotonic() - before.seen_s <= FRESH_S:
            before.ended_at = self._arm.clock.now()
        if before.ended_at is None:
            return None
        return replace_times(before.machine, before.machine, before.ended_at)

    def knows(self, machine_id: str) -> bool:
        """Whether it was ever seen to bill."""
        return machine_id in self._seen


def replace_times(machine: Machine, known: Machine, ended_at: datetime | None) -> Machine:
    """A machine that no longer bills, with the beginning that was known and the end that was seen."""
    return msgspec.structs.replace(
        machine,
        state=MachineState.STOPPED if machine.state != MachineState.STOPPING else machine.state,
        created_at=known.created_at,
        billing_started_at=known.billing_started_at,
        billing_ended_at=ended_at,
    )


def evidence(arm: Arm, group: str, life: Life, *, region: str) -> Machine | None:
    """The log's word about a machine that is gone."""
    if life.made_at is None or life.ended_at is None:
        return None
    return Machine(
        id=group,
        token=token_of(group),
        state=MachineState.STOPPED,
        region=region,
        created_at=life.made_at,
        billing_started_at=life.made_at,
        billing_ended_at=life.ended_at,
        state_reason="PREEMPTED" if life.evicted else None,
        console_url=console_url(arm, group),
    )
