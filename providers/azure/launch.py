"""One `create` from an empty subscription to a placed machine with its timer armed, and the way back.

    group -> (network, beside it the timer with its role) -> machine -> its role
                                                                     or the deallocation, where roles are refused

Every step is a PUT by name, so a replay repeats what is there and makes what is missing. The timer is armed before the
machine, so with a Logic App there is no moment at which something bills without one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from providers.azure import backstop, errors
from providers.azure.client import POLL_S, Arm, raw
from providers.azure.history import LOG_LAG_S, Sightings, evidence, life_of
from providers.azure.machine import failure_of, is_deleting, power_of
from providers.azure.requests import (
    MACHINE,
    NETWORK,
    TAG_REQUEST,
    TAG_TIMER,
    digest,
    group_body,
    group_name,
    machine_body,
    network_body,
)
from providers.base import (
    AmbiguousOutcome,
    AuthError,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    ProviderError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from providers.base import Intent, Machine

NETWORK_S = 120.0
PLACED_S = 600.0
"""Capacity is told within the operation, usually within a minute; its end is the end of the boot."""
UNDONE_S = 600.0
# A request younger than this, which this process has not sent before, is new: no machine is made and deleted as fast.
NEW_S = 30.0


class Launch:
    """Makes machines. It remembers which requests for a machine this process has sent, by token."""

    def __init__(self, arm: Arm, sightings: Sightings, *, roles_refused: Callable[[], None]) -> None:
        self._arm = arm
        self._sightings = sightings
        self._roles_refused = roles_refused
        self._sent: set[str] = set()

    def create(self, intent: Intent, settings: Mapping[str, Any]) -> Machine:
        """Make the machine, or find the one that this token made. Raises as `Provider.create` promises."""
        name = group_name(intent.token)
        group = find_group(self._arm, name)
        if group is None:
            self._refuse_a_second_life(intent, name)
            _refuse_what_is_due(self._arm, intent)
        elif (group.get("tags") or {}).get(TAG_REQUEST) != digest(intent):
            raise InvalidRequest(
                f"The resource group {name} was made for another request.",
                "A token serves one request only.",
                "Start the job again.",
                code="IdempotentParameterMismatch",
            )
        elif is_deleting(group):
            return self._ending(name, group)
        try:
            return self._make(intent, settings, name, group)
        except ProviderError as error:
            raise self._undone(intent, name, error) from error

    # What was before

    def _refuse_a_second_life(self, intent: Intent, name: str) -> None:
        """Nothing is there. Either nothing ever was, or it has lived: then nothing more is made."""
        arm = self._arm
        age_s = (arm.clock.now() - intent.created_at).total_seconds()
        if intent.token not in self._sent and 0 <= age_s < NEW_S:
            return
        life = life_of(arm, name, since=intent.created_at)
        known = evidence(arm, name, life, region=intent.offer.region) or self._sightings.gone(name)
        if known is not None or life.made_at is not None or self._sightings.knows(name):
            raise MachineNotFound(
                f"The machine of {intent.token} has lived and is gone.",
                machine=known,
                code="IdempotentInstanceTerminated",
            )
        if age_s < LOG_LAG_S:
            raise AmbiguousOutcome(
                f"Whether a machine was made for {intent.token} is not known yet.",
                "Azure's activity log, the only witness of what is gone, is up to 20 minutes behind.",
                "It is asked again.",
                code="HistoryNotTold",
            )

    def _ending(self, name: str, group: Mapping[str, Any]) -> Machine:
        """The group is being deleted: with a machine in it, it is watched to its end; else nothing lives."""
        found = find_machine(self._arm, name)
        if found is None and not self._sightings.knows(name):
            raise AmbiguousOutcome(
                f"The resource group {name} is being deleted.",
                "",
                "It is looked at again.",
                code="ResourceGroupBeingDeleted",
            )
        return self._sightings.describe(group, found)

    # The way there

    def _make(self, intent: Intent, settings: Mapping[str, Any], name: str, group: Mapping[str, Any] | None) -> Machine:
        arm = self._arm
        found = None if group is None else find_machine(arm, name)
        if group is None:
            with arm.asking("make a resource group"):
                group = arm.resources.resource_groups.create_or_update(name, group_body(intent), cls=raw)
        elif found is None:
            left = self._sightings.describe(group, None)
            if left.state == MachineState.STOPPED:  # its machine was made and is gone: another would be a second life
                return left
        if found is None:
            _refuse_what_is_due(arm, intent)
        self._surround(intent, settings, name, with_network=found is None)
        if found is None:
            self._place(intent, settings, name)
        found = self._await_placed(name)
        self._arm_machine(intent, settings, name, found, group)
        return self._sightings.describe(group, found)

    def _surround(self, intent: Intent, settings: Mapping[str, Any], name: str, *, with_network: bool) -> None:
        """The network, and beside it the timer: neither needs the other."""
        works: list[Callable[[], None]] = []
        if with_network:
            works.append(lambda: self._network(intent, name))
        if not backstop.is_by_deallocation(intent.offer):
            works.append(lambda: self._timer(intent, settings, name))
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="azure") as pool:
            doing = [pool.submit(work) for work in works]
        for done in doing:  # both are over: nothing is still being made when one has failed
            done.result()

    def _network(self, intent: Intent, name: str) -> None:
        arm = self._arm
        with arm.asking("make a network"):
            arm.network.virtual_networks.begin_create_or_update(
                name, NETWORK, network_body(intent), cls=raw, polling=arm.following(within_s=NETWORK_S)
            ).result()

    def _timer(self, intent: Intent, settings: Mapping[str, Any], name: str) -> None:
        with self._telling_of_refused_roles():
            backstop.arm_timer(
                self._arm,
                intent.offer.region,
                intent.tags,
                group=name,
                at=intent.hard_deadline,
                role=settings.get("role"),
            )

    def _place(self, intent: Intent, settings: Mapping[str, Any], name: str) -> None:
        """Ask for the machine, create-only. That it is there already is an earlier call's success."""
        arm = self._arm
        self._sent.add(intent.token)
        body = machine_body(intent, settings, subscription=arm.subscription)
        try:
            with arm.asking("make the machine"):
                from azure.core import MatchConditions

                arm.compute.virtual_machines.begin_create_or_update(
                    name,
                    MACHINE,
                    body,
                    match_condition=MatchConditions.IfMissing,
                    cls=raw,
                    polling=arm.following(within_s=PLACED_S, enough=lambda: _runs(find_machine(arm, name))),
                ).result()
        except ProviderError as error:
            if error.code not in errors.EXISTS and error.code != "Http412":
                raise

    def _await_placed(self, name: str) -> dict[str, Any]:
        """The machine, once it has a place. Raises its failure."""
        clock = self._arm.clock
        ends_s = clock.monotonic() + PLACED_S
        while True:
            found = find_machine(self._arm, name)
            if found is None:
                raise AmbiguousOutcome(f"The machine in {name} is not there (yet).", "", "It is looked at again.")
            failure = failure_of(found)
            if failure is not None:
                raise errors.from_code(failure or "ProvisioningFailed", doing="place the machine", why=failure)
            if _runs(found) or found.get("properties", {}).get("provisioningState") == "Succeeded":
                return found
            if clock.monotonic() >= ends_s:
                raise AmbiguousOutcome(f"The machine in {name} has no place yet.", "", "It is looked at again.")
            clock.sleep(POLL_S)

    def _arm_machine(
        self, intent: Intent, settings: Mapping[str, Any], name: str, found: Mapping[str, Any], group: Mapping[str, Any]
    ) -> None:
        """The machine's own right to end itself, or the deallocation."""
        arm = self._arm
        if not backstop.is_by_deallocation(intent.offer):
            with self._telling_of_refused_roles():
                principal = found["identity"]["principalId"]
                backstop.assign(arm, name, what=MACHINE, principal=principal, role=settings.get("role"))
        elif TAG_TIMER not in (group.get("tags") or {}):
            operation = backstop.arm_deallocation(arm, intent.offer.region, group=name, at=intent.hard_deadline)
            tags = {**group_body(intent)["tags"], TAG_TIMER: operation}
            with arm.asking("tag the resource group"):
                arm.resources.resource_groups.update(name, {"tags": tags}, cls=raw)

    @contextmanager
    def _telling_of_refused_roles(self) -> Iterator[None]:
        try:
            yield
        except AuthError as error:
            if error.code not in ("AuthorizationFailed", "DenyAssignmentAuthorizationFailed"):
                raise
            self._roles_refused()
            raise AuthError(
                error.what,
                error.why,
                "Launch again: it is then planned without, with ComputeSchedule as the timer.",
                code=error.code,
                next_scope=error.next_scope,
            ) from error

    # The way back

    def _undone(self, intent: Intent, name: str, error: ProviderError) -> ProviderError:
        """What to raise for a launch that failed half-way: its own error once nothing is left, else the unknown."""
        unknown = AmbiguousOutcome(
            f"The launch of {intent.token} stopped half-way.", str(error), "It is gone on with.", code=error.code
        )
        if error.retry or isinstance(error, MachineNotFound):
            return unknown
        try:
            delete_group(self._arm, name)
            ends_s = self._arm.clock.monotonic() + UNDONE_S
            while find_group(self._arm, name) is not None:
                if self._arm.clock.monotonic() >= ends_s:
                    return unknown
                self._arm.clock.sleep(POLL_S)
        except ProviderError:
            return unknown
        self._sent.discard(intent.token)
        return error


def _refuse_what_is_due(arm: Arm, intent: Intent) -> None:
    """A backstop could only be armed in the past."""
    if arm.cloud_time(arm.clock.now()) >= intent.hard_deadline:
        raise InvalidRequest(
            f"The hard deadline of {intent.token} has passed.",
            "No timer can be armed in the past.",
            "Start the job again.",
            code="DeadlinePassed",
        )


def _runs(machine: Mapping[str, Any] | None) -> bool:
    return power_of(machine) == "running"


def find_group(arm: Arm, name: str) -> dict[str, Any] | None:
    """The resource group, or None when there is none."""
    try:
        with arm.asking("look at a resource group"):
            found: dict[str, Any] = arm.resources.resource_groups.get(name, cls=raw)
    except MachineNotFound:
        return None
    return found


def find_machine(arm: Arm, group: str) -> dict[str, Any] | None:
    """The virtual machine of a group with what it does now, or None when there is none."""
    try:
        with arm.asking("look at the machine"):
            found: dict[str, Any] = arm.compute.virtual_machines.get(group, MACHINE, expand="instanceView", cls=raw)
    except MachineNotFound:
        return None
    return found


def delete_group(arm: Arm, name: str) -> None:
    """Order a group deleted, compute first of all. One that is being deleted, or is gone, is success."""
    try:
        with arm.asking("delete a resource group"):
            arm.resources.resource_groups.begin_delete(name, force_deletion_types=backstop.FORCED, polling=False)
    except MachineNotFound:
        return
    except ProviderError as error:
        if error.code != "ResourceGroupBeingDeleted":
            raise
