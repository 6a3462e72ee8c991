"""What the cloud says of a machine, or of what is left of one, in our words. Pure over the SDK's objects."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from providers.base import Machine, MachineState
from providers.gcp.backstop import SPOT_SHUTDOWN_S, deadline_of
from providers.gcp.client import Place, moment
from providers.gcp.requests import token_of

if TYPE_CHECKING:
    from datetime import datetime

# compute/docs/instances/instance-life-cycle
_STATES = {
    "PROVISIONING": MachineState.PENDING,
    "STAGING": MachineState.PENDING,
    "RUNNING": MachineState.RUNNING,
    "REPAIRING": MachineState.RUNNING,
    "SUSPENDING": MachineState.RUNNING,
    "PENDING_STOP": MachineState.STOPPING,
    "STOPPING": MachineState.STOPPING,
    "DEPROVISIONING": MachineState.STOPPING,
}
PREEMPTED = "compute.instances.preempted"
DEADLINE = "compute.instances.deferredDelete"
SWITCHED_OFF = frozenset({"compute.instances.guestTerminate", "compute.instances.deferredStop", "stop"})
_ENDINGS = frozenset({"delete", DEADLINE, PREEMPTED}) | SWITCHED_OFF


def describe(instance: Any, skew_s: float, *, project: str) -> Machine:
    """A machine that exists. Times are moved onto this computer's clock."""
    place = Place(instance.zone.rpartition("/")[2], instance.name)
    state = _STATES.get(instance.status, MachineState.STOPPED)
    return Machine(
        id=place.id,
        token=token_of(place.name),
        state=state,
        region=place.region,
        created_at=_here(moment(instance.creation_timestamp), skew_s),
        billing_started_at=_started(instance, state, skew_s),
        deadline_at=_maybe(deadline_of(instance), skew_s),
        tags=dict(instance.labels),
        console_url=console_url(place, project),
    )


def describe_disk(disk: Any, ended: Machine | None, skew_s: float) -> Machine:
    """What is left of a machine: a disk that bills. `ended`: what is known of the machine's own end."""
    place = Place(disk.zone.rpartition("/")[2], disk.name)
    if ended is not None:
        return msgspec.structs.replace(ended, state=MachineState.STOPPED, tags=dict(disk.labels))
    return Machine(
        id=place.id,
        token=token_of(place.name),
        state=MachineState.STOPPED,
        region=place.region,
        created_at=_here(moment(disk.creation_timestamp), skew_s),
        tags=dict(disk.labels),
        state_reason="DISK_LEFT",
    )


def evidence(place: Place, operations: list[Any], seen: Machine | None, skew_s: float) -> Machine | None:
    """How a machine that is not there any more has ended, by what was done to it; None where nothing is known.

    `seen` is the machine as it was last seen by this process: it knows to the second when it started.
    """
    done = [each for each in operations if is_done(each) and not each.error.errors]
    made = next((each for each in done if each.operation_type == "insert"), None)
    ends = [each for each in done if each.operation_type in _ENDINGS]
    if made is None and not ends and seen is None:
        return None
    first = made or (ends[0] if ends else None)
    created_at = seen.created_at if seen else _here(moment(first.insert_time if first else ""), skew_s)
    started_at = seen.billing_started_at if seen else None
    if started_at is None and made is not None:
        started_at = _here(moment(made.start_time or made.insert_time), skew_s)
    return Machine(
        id=place.id,
        token=token_of(place.name),
        state=MachineState.STOPPED,
        region=place.region,
        created_at=created_at,
        billing_started_at=started_at,
        billing_ended_at=_maybe(_compute_ended(ends), skew_s),
        deadline_at=seen.deadline_at if seen else None,
        tags=seen.tags if seen else {},
        state_reason=ending(operations),
    )


def is_done(operation: Any) -> bool:
    """Whether an operation is over, well or badly."""
    return bool(operation.status.name == "DONE")


def insert_of(operations: list[Any]) -> Any:
    """The insert that made a machine, else one that is under way, else one that failed; None when there was none."""
    inserts = [each for each in operations if each.operation_type == "insert"]
    well = [each for each in inserts if not each.error.errors]
    return next((each for each in well if is_done(each)), None) or next(iter([*well, *reversed(inserts)]), None)


def is_pending(instance: Any) -> bool:
    """Whether it is not placed yet."""
    return _STATES.get(instance.status) == MachineState.PENDING


def ending(operations: list[Any]) -> str | None:
    """Why a machine has ended, if the cloud ended it."""
    types = {each.operation_type for each in operations}
    if PREEMPTED in types:
        return "PREEMPTED"
    if DEADLINE in types:
        return "MAX_RUN_DURATION"
    return "SWITCHED_OFF" if types & SWITCHED_OFF else None


def console_url(place: Place, project: str) -> str:
    """Its page in Google's console."""
    return (
        f"https://console.cloud.google.com/compute/instancesDetail/zones/{place.zone}/instances/{place.name}"
        f"?project={project}"
    )


def _compute_ended(ends: list[Any]) -> datetime | None:
    """When compute stopped billing: when it was switched off, else when the last ending was done with.

    A preemption is written down when it begins; without a later word it counts with the notice that the machine got.
    """
    off = [each for each in ends if each.operation_type in SWITCHED_OFF]
    times = [at for each in off or ends if (at := moment(each.end_time)) is not None]
    if not times:
        return None
    if off:
        return min(times)
    only_taken = all(each.operation_type == PREEMPTED for each in ends)
    return max(times) + timedelta(seconds=SPOT_SHUTDOWN_S if only_taken else 0.0)


def _started(instance: Any, state: MachineState, skew_s: float) -> datetime | None:
    """From when it bills: its last start, once it has one."""
    return None if state == MachineState.PENDING else _maybe(moment(instance.last_start_timestamp), skew_s)


def _maybe(at: datetime | None, skew_s: float) -> datetime | None:
    return None if at is None else at + timedelta(seconds=skew_s)


def _here(at: datetime | None, skew_s: float) -> datetime:
    assert at is not None, "everything that was made has a time"
    return at + timedelta(seconds=skew_s)
