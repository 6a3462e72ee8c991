"""What Azure says of an attempt, as one Machine: its resource group, and the virtual machine inside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from providers.azure.requests import MADE_FORMAT, OWN_TAGS, TAG_MADE, TAG_SPOT, token_of
from providers.base import Machine, MachineState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.azure.client import Arm

# "States and billing status of Azure Virtual Machines" (learn.microsoft.com): what is stopped from inside is allocated,
# and bills; what is deallocated does not.
_POWER = {
    "starting": MachineState.PENDING,
    "running": MachineState.RUNNING,
    "stopping": MachineState.STOPPING,
    "stopped": MachineState.STOPPED,
    "deallocating": MachineState.STOPPING,
    "deallocated": MachineState.STOPPED,
}
NOT_BILLED = frozenset({"deallocating", "deallocated"})


def describe(arm: Arm, group: Mapping[str, Any], machine: Mapping[str, Any] | None, *, lived: bool = False) -> Machine:
    """The machine of a group; `machine` is the reply about the virtual machine, None where there is none.

    Without one the group is half-made, or its machine has `lived` and is gone: only that is an end.
    """
    all_tags: dict[str, str] = dict(group.get("tags") or {})
    properties = (machine or {}).get("properties", {})
    power = power_of(machine)
    made_at = arm.local_time(properties.get("timeCreated"))
    doomed = is_deleting(group)
    reason = None
    if lived and machine is None and not doomed:
        # evictionPolicy Delete: a spot machine that is taken back is deleted, and what is around it stays.
        reason = "PREEMPTED" if all_tags.get(TAG_SPOT) == "yes" else "VM_GONE"
    return Machine(
        id=str(group["name"]),
        token=token_of(str(group["name"])),
        state=MachineState.STOPPING if doomed else _state(machine, power, lived=lived),
        region=str(group["location"]),
        created_at=made_at or _made_at(arm, all_tags),
        billing_started_at=made_at,
        tags={name: value for name, value in all_tags.items() if name not in OWN_TAGS},
        state_reason=reason,
        console_url=console_url(arm, str(group["name"])),
    )


def is_deleting(group: Mapping[str, Any]) -> bool:
    """Whether the group was ordered deleted."""
    return str((group.get("properties") or {}).get("provisioningState", "")).lower() in ("deleting", "deprovisioning")


def power_of(machine: Mapping[str, Any] | None) -> str:
    """`running`, `stopped`, …; empty while Azure says nothing of it."""
    return next((code.partition("/")[2] for code in _codes(machine) if code.startswith("PowerState/")), "")


def failure_of(machine: Mapping[str, Any]) -> str | None:
    """Why a machine could not be made: the code inside `ProvisioningState/failed/CODE`; empty where none is given."""
    if machine.get("properties", {}).get("provisioningState") != "Failed":
        return None
    failed = (code for code in _codes(machine) if code.startswith("ProvisioningState/failed/"))
    return next((code.rpartition("/")[2] for code in failed), "")


def _codes(machine: Mapping[str, Any] | None) -> list[str]:
    view = (machine or {}).get("properties", {}).get("instanceView") or {}
    return [str(status.get("code", "")) for status in view.get("statuses") or []]


def _state(machine: Mapping[str, Any] | None, power: str, *, lived: bool) -> MachineState:
    if machine is None:
        return MachineState.STOPPED if lived else MachineState.PENDING
    doing = machine.get("properties", {}).get("provisioningState")
    if doing == "Deleting":
        return MachineState.STOPPING
    return _POWER.get(power, MachineState.PENDING)


def _made_at(arm: Arm, tags: Mapping[str, str]) -> datetime:
    """When the attempt was made, by its tag; that tag is of the launcher's clock."""
    try:
        return datetime.strptime(tags.get(TAG_MADE, ""), MADE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return arm.clock.now()


def console_url(arm: Arm, group: str) -> str:
    """The page of the group in Azure's portal."""
    return f"https://portal.azure.com/#@/resource/subscriptions/{arm.subscription}/resourceGroups/{group}/overview"
