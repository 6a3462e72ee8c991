"""What is made around an instance: its disk, its network interface, a group of its own, its schedule.

A machine is gone when none of these is left. EC2 removes disk and interface with the instance; what it does not remove
is removed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from providers.aws.machine import MACHINE_TAG, TIMER_TAG, TOKEN_TAG, tags_of
from providers.base import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.aws.backstop import Schedules
    from providers.aws.client import Client
    from providers.aws.machine import MachineId

NOT_YET = frozenset({"DependencyViolation", "InvalidGroup.InUse", "VolumeInUse", "InvalidNetworkInterface.InUse"})
"""The instance still holds it: the next delete will do."""
GONE = frozenset(
    {
        "InvalidGroup.NotFound",
        "InvalidGroupId.Malformed",
        "InvalidVolume.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
    }
)


class Thing(NamedTuple):
    """One thing that is left."""

    kind: str
    id: str
    free: bool
    """Nothing holds it: it can be removed."""


class Remains:
    """Finds what is left of a machine, and removes it."""

    def __init__(self, client: Client, schedules: Schedules) -> None:
        self._client = client
        self._schedules = schedules

    def left(self, machine: MachineId, row: dict[str, Any] | None, *, armed: bool) -> list[Thing]:
        """Everything that is left, asked at one time. `row` is the instance's own, while EC2 still knows it.

        `armed`: a schedule is looked for although the row does not speak of one.
        """
        tags = tags_of(row or {})
        token = [{"Name": f"tag:{TOKEN_TAG}", "Values": [tags.get(TOKEN_TAG, "")]}]
        attached = [{"Name": "attachment.instance-id", "Values": [machine.instance]}]
        made_for = [{"Name": f"tag:{MACHINE_TAG}", "Values": [machine.instance]}]
        asks: list[Callable[[], list[Thing]]] = [
            lambda: self._volumes(machine, token if row else attached),
            lambda: self._interfaces(machine, token if row else attached),
            lambda: self._groups(machine, token if row else made_for),
        ]
        if TIMER_TAG in tags or (armed and row is None):
            asks.append(lambda: self._schedule(machine))
        return [thing for found in self._client.at_once(lambda ask: ask(), asks) for thing in found]

    def clear(self, machine: MachineId, things: list[Thing]) -> None:
        """Remove what nothing holds any more. One that fails never keeps the others; then its error is raised."""
        failed: list[ProviderError] = []
        for thing in things:
            try:
                self._remove(machine, thing)
            except ProviderError as error:
                if error.code not in GONE | NOT_YET:
                    failed.append(error)
        if failed:
            raise failed[0]

    def _remove(self, machine: MachineId, thing: Thing) -> None:
        region = machine.region
        if not thing.free:
            return
        if thing.kind == "volume":
            self._client.call(region, "ec2.delete_volume", VolumeId=thing.id)
        elif thing.kind == "network interface":
            self._client.call(region, "ec2.delete_network_interface", NetworkInterfaceId=thing.id)
        elif thing.kind == "security group":
            self._client.call(region, "ec2.delete_security_group", GroupId=thing.id)
        else:
            self._schedules.disarm(machine)

    def _volumes(self, machine: MachineId, filters: list[dict[str, Any]]) -> list[Thing]:
        rows = self._client.pages(machine.region, "ec2.describe_volumes", "Volumes", Filters=filters)
        left = [row for row in rows if row["State"] != "deleted"]
        return [Thing("volume", row["VolumeId"], row["State"] in ("available", "error")) for row in left]

    def _interfaces(self, machine: MachineId, filters: list[dict[str, Any]]) -> list[Thing]:
        key = "NetworkInterfaces"
        rows = self._client.pages(machine.region, "ec2.describe_network_interfaces", key, Filters=filters)
        return [Thing("network interface", row["NetworkInterfaceId"], row["Status"] == "available") for row in rows]

    def _groups(self, machine: MachineId, filters: list[dict[str, Any]]) -> list[Thing]:
        key = "SecurityGroups"
        rows = self._client.pages(machine.region, "ec2.describe_security_groups", key, Filters=filters)
        return [Thing("security group", row["GroupId"], free=True) for row in rows]

    def _schedule(self, machine: MachineId) -> list[Thing]:
        return [Thing("schedule", machine.instance, free=True)] if self._schedules.exists(machine) else []
