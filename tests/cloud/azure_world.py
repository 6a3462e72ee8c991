"""What exists in the cloud of these tests, and what happens to it as its clock moves: Azure in memory.

Everything that takes time is an event with its own moment, so that it happens then, whenever somebody looks next. The
same world lives on a virtual clock in this process, and on the real one behind a process of its own.
"""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure_bill import Bill, PriceList
from azure_faults import Faults
from azure_things import Group, Operation, Pace, Thing, Vm

from launcher.agent import heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.core.clock import Clock

SUBSCRIPTION = "12345678-1234-1234-1234-123456789abc"
SIZE = "Standard_NC4as_T4_v3"
BEAT_S = 15.0
AGENT_AGAIN_S = 30.0
OWNER_RIGHTS = [{"actions": ["*"], "notActions": []}]
# The built-in role Contributor.
CONTRIBUTOR_RIGHTS = [
    {
        "actions": ["*"],
        "notActions": [
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
    }
]


@dataclass
class World:
    """The whole cloud. Every call comes in under a lock of the server, with `look` called first."""

    clock: Clock
    pace: Pace = field(default_factory=Pace)
    prices: PriceList = field(default_factory=PriceList)
    finishes_after_s: float | None = None
    """How long a training takes; None: for ever."""
    may: list[dict[str, Any]] = field(default_factory=lambda: OWNER_RIGHTS)
    may_truly_assign: bool | None = None
    """What Azure does, where that differs from its list of rights."""
    quota: dict[str, int] = field(default_factory=dict)
    """Cores by region; 24 elsewhere."""
    restricted: set[str] = field(default_factory=set)
    zones: dict[str, list[str]] = field(default_factory=lambda: {"eastus": ["1", "2"]})
    unregistered: set[str] = field(default_factory=set)
    groups: dict[str, Group] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    role_definitions: dict[str, list[str]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    consoles: dict[str, Vm] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    bill: Bill = field(default_factory=Bill)
    faults: Faults = field(default_factory=Faults)
    problems: list[str] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._at: datetime | None = None

    # Time

    @property
    def now(self) -> datetime:
        """The moment that is being lived."""
        return self._at or self.clock.now()

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Let something happen that many seconds from now."""
        heapq.heappush(self._events, (self.now + timedelta(seconds=seconds), next(self._numbers), do))

    def at(self, moment: datetime, do: Callable[[], None]) -> None:
        """Let something happen at a moment."""
        self.later((moment - self.now).total_seconds(), do)

    def look(self) -> None:
        """Let everything happen that was due by now, in its order and at its time."""
        now = self.clock.now()
        while self._events and self._events[0][0] <= now:
            self._at, _, do = heapq.heappop(self._events)
            do()
        self._at = None

    # Operations

    def operation(self, seconds: float, done: Callable[[Operation], None], *, resource: str = "") -> Operation:
        """Begin a long-running operation that ends after so many seconds; `done` may make it fail."""
        made = Operation(str(uuid.uuid4()), resource=resource)
        self.operations[made.id] = made

        def end() -> None:
            made.state = "Succeeded"
            done(made)

        self.later(seconds, end)
        return made

    def note(self, operation: str, resource: str, group: str, status: str = "Succeeded") -> None:
        """Write a line of the activity log."""
        self.log.append(
            {
                "eventTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%S.%f0Z"),
                "at": self.now,
                "operationName": {"value": operation, "localizedValue": operation},
                "status": {"value": status, "localizedValue": status},
                "resourceId": resource,
                "group": group.lower(),
            }
        )

    # Groups

    def group_at(self, name: str) -> Group | None:
        """A group by its name, in any case."""
        return self.groups.get(name.lower())

    def inside(self, group: str) -> list[Thing]:
        """What lies in a group."""
        return [thing for thing in self.things.values() if thing.group == group.lower()]

    def delete_group(self, group: Group, *, hangs: bool = False) -> None:
        """Order a group deleted: first its machines end, then all the rest is gone at one time."""
        if group.deleting:
            return
        group.deleting = True
        resource = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group.name}"
        self.note("Microsoft.Resources/subscriptions/resourcegroups/delete", resource, group.name, "Accepted")
        if hangs:
            return
        for vm in [thing for thing in self.inside(group.name) if isinstance(thing, Vm)]:
            self.later(self.pace.machine_deleted, lambda vm=vm: self.end_machine(vm))  # type: ignore[misc]
        self.later(self.pace.group_deleted, lambda: self._group_gone(group, resource))

    def _group_gone(self, group: Group, resource: str) -> None:
        for thing in self.inside(group.name):
            if isinstance(thing, Vm):
                self.end_machine(thing)
            self.remove(thing)
        self.roles = {id_: role for id_, role in self.roles.items() if not id_.startswith(f"{resource.lower()}/")}
        self.groups.pop(group.name.lower(), None)
        self.note("Microsoft.Resources/subscriptions/resourcegroups/delete", resource, group.name)

    def remove(self, thing: Thing) -> None:
        """A thing is gone; it bills no further, and its identity with it."""
        self.things.pop(thing.id.lower(), None)
        for kind in ("disk", "address"):
            self.bill.stop(kind, f"{thing.id}#{thing.made_at:%H%M%S%f}", self.now)

    # Machines

    def make_machine(
        self, resource: str, group: Group, body: dict[str, Any], *, fails_with: str
    ) -> tuple[Vm, Operation]:
        """Begin to make a machine with its disk, interface and address, which bill from now on."""
        properties = body["properties"]
        vm = Vm(resource, "Microsoft.Compute/virtualMachines", group.name.lower(), body, self.now, str(uuid.uuid4()))
        self.things[resource.lower()] = vm
        self.note("Microsoft.Compute/virtualMachines/write", resource, group.name, "Accepted")
        parent = resource.partition("/providers/")[0]
        disk = properties["storageProfile"]["osDisk"]
        [interface] = properties["networkProfile"]["networkInterfaceConfigurations"]
        [inside] = interface["properties"]["ipConfigurations"]
        address = inside["properties"]["publicIPAddressConfiguration"]
        around = (
            ("Microsoft.Compute/disks", "disk", disk, "disk", self.prices.disk(disk["diskSizeGB"])),
            ("Microsoft.Network/networkInterfaces", interface["name"], interface["properties"], "", None),
            (
                "Microsoft.Network/publicIPAddresses",
                address["name"],
                address["properties"],
                "address",
                self.prices.address,
            ),
        )
        for kind, name, described, charged, usd in around:
            follows = vm.id.lower() if described.get("deleteOption") == "Delete" else None
            thing = Thing(
                f"{parent}/providers/{kind}/{name}", kind, vm.group, described, self.now, deletes_with=follows
            )
            self.things[thing.id.lower()] = thing
            if usd is not None:
                self.bill.start(charged, f"{thing.id}#{thing.made_at:%H%M%S%f}", usd, self.now)
        operation = self.operation(
            self.pace.placed, lambda op: self._placed(vm, group, op, fails_with), resource=resource
        )
        return vm, operation

    def _placed(self, vm: Vm, group: Group, operation: Operation, fails_with: str) -> None:
        if vm.id.lower() not in self.things:
            operation.state, operation.code = "Failed", "OperationPreempted"
            return
        if fails_with:
            vm.provisioning, vm.failure = "Failed", fails_with
            operation.state, operation.code = "Failed", fails_with
            self.note("Microsoft.Compute/virtualMachines/write", vm.id, group.name, "Failed")
            return
        vm.provisioning, vm.power = "Succeeded", "running"
        self.note("Microsoft.Compute/virtualMachines/write", vm.id, group.name)
        spot = vm.body["properties"].get("priority") == "Spot"
        self.bill.start("compute", vm.bills, self.prices.spot if spot else self.prices.on_demand, self.now)
        if self.prices.disk_operations_usd:
            self.bill.charge("disk operations", self.prices.disk_operations_usd)
        self.later(self.pace.booted, lambda: self._booted(vm, group))

    def end_machine(self, vm: Vm) -> None:
        """A machine is gone, with what goes along."""
        if vm.id.lower() not in self.things:
            return
        self._stops_billing(vm)
        self.remove(vm)
        for thing in list(self.things.values()):
            if thing.deletes_with == vm.id.lower():
                self.remove(thing)
        self.note("Microsoft.Compute/virtualMachines/delete", vm.id, vm.group)

    def _stops_billing(self, vm: Vm) -> None:
        vm.silent_at = vm.silent_at or self.now
        self.bill.stop("compute", vm.bills, self.now)

    def evict(self, vm: Vm) -> None:
        """The cloud takes a spot machine back."""
        self.note("Microsoft.Compute/virtualMachines/evictSpotVM/action", vm.id, vm.group)
        self.end_machine(vm)

    def power_off(self, vm: Vm) -> None:
        """The guest switches itself off: stopped, allocated, billed."""
        vm.power = "stopped"
        vm.silent_at = vm.silent_at or self.now

    def deallocate(self, vm: Vm) -> None:
        """Compute is given back; disk and address stay."""
        if vm.id.lower() not in self.things:
            return
        vm.power = "deallocating"
        self._stops_billing(vm)
        self.note("Microsoft.Compute/virtualMachines/deallocate/action", vm.id, vm.group)
        self.later(self.pace.deallocated, lambda: setattr(vm, "power", "deallocated"))

    # The agent on a machine

    def _booted(self, vm: Vm, group: Group) -> None:
        if vm.silent_at is not None:
            return
        vm.booted_at = self.now
        self.consoles[vm.id.lower()] = vm
        deadline = datetime.strptime(group.tags["gpulaunch-deadline"] + "+0000", "%Y%m%dt%H%M%Sz%z")
        if self.finishes_after_s is not None:
            finished = self.now + timedelta(seconds=self.finishes_after_s)
            if finished < deadline:
                self.at(finished, lambda: self._agent_ends(vm, finished=True))
        self.at(max(deadline, self.now), lambda: self._agent_ends(vm, finished=False))

    def _agent_ends(self, vm: Vm, *, finished: bool) -> None:
        """The agent deletes its own group with the machine's identity, again until it dies."""
        if vm.silent_at is not None or vm.id.lower() not in self.things:
            return
        if finished:
            vm.finished_at = vm.finished_at or self.now
        group = self.groups[vm.group]
        if self.may_delete(vm.principal, group) and not group.locked:
            self.delete_group(group)
        else:
            self.later(AGENT_AGAIN_S, lambda: self._agent_ends(vm, finished=False))

    def console_of(self, vm: Vm) -> bytes:
        """The serial log: boot messages, and a heartbeat every few seconds."""
        assert vm.booted_at is not None
        until = min(vm.silent_at or self.now, self.now - timedelta(seconds=self.pace.console_late))
        if until < vm.booted_at:
            return b""
        count = int((until - vm.booted_at).total_seconds() // BEAT_S) + 1
        lines = []
        for number in range(max(1, count - 200), count + 1):
            at = vm.booted_at + timedelta(seconds=(number - 1) * BEAT_S)
            ended = vm.finished_at is not None and at >= vm.finished_at
            lines.append(heartbeat.encode(number, _ENDED if ended else {"state": "running", "egress_bytes": 0}))
        if vm.finished_at is not None and vm.finished_at <= until:
            lines.append(heartbeat.encode(count + 1, _ENDED))
        return ("\n".join(lines) + "\n").encode()

    # Rights

    def may_delete(self, principal: str | None, group: Group) -> bool:
        """Whether an identity's role to delete that group is there, and has spread."""
        scope = f"/subscriptions/{SUBSCRIPTION}/resourcegroups/{group.name}".lower()
        for role in self.roles.values():
            spread = (self.now - role["at"]).total_seconds() >= self.pace.role_spread
            right = "Microsoft.Resources/subscriptions/resourceGroups/delete"
            granted = self.role_definitions.get(role["role"], ["*"])
            if (
                role["principal"] == principal
                and role["scope"] == scope
                and spread
                and ("*" in granted or right in granted)
            ):
                return True
        return False

    # What is left

    def left(self) -> dict[str, int]:
        """How many of each kind exist, and what else could go on: all that must be zero after a teardown."""
        found = Counter(thing.kind.rpartition("/")[2] for thing in self.things.values())
        found["resourceGroups"] = len(self.groups)
        found["roleAssignments"] = len(self.roles)
        found["schedules"] = sum(1 for each in self.schedules.values() if each["state"] == "PendingScheduling")
        found["bills"] = len(self.bill.running())
        return {kind: count for kind, count in found.items() if count}

    def machines(self) -> list[Vm]:
        """Every virtual machine."""
        return [thing for thing in self.things.values() if isinstance(thing, Vm)]


_ENDED = {"state": "ended", "outcome": "finished", "reason": "EXIT_0", "exit_code": 0, "egress_bytes": 0}
