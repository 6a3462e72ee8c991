"""A Compute Engine in memory on any clock: machines, disks, operations, serial consoles, and what time does to them.

It knows what really is (what runs, what bills); what it says by its API is made from that in gcp_resources.py.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

from gcp_agent import Agent
from gcp_faults import Faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launcher.core.clock import Clock

PREEMPTED = "compute.instances.preempted"
DEADLINE = "compute.instances.deferredDelete"
SWITCHED_OFF = "compute.instances.guestTerminate"


@dataclass
class Timing:
    """How long things take, in seconds."""

    pending_s: float = 20.0
    boot_s: float = 40.0
    delete_s: float = 40.0
    timer_late_s: float = 20.0
    """From the end of max_run_duration until the end starts: the documents allow 30."""
    operations_kept_s: float = 3600.0


@dataclass
class Operation:
    """One entry of a zone's operations list."""

    number: int
    kind: str
    zone: str
    target: str
    user: str
    inserted_at: datetime
    ends_at: datetime | None = None
    request_id: str = ""
    error: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return f"operation-{self.number}"


@dataclass
class Instance:
    """A machine as it really is."""

    number: int
    zone: str
    body: dict[str, Any]
    accepted_at: datetime
    runs_at: datetime
    agent: Agent
    preempt_at: datetime | None = None
    off_at: datetime | None = None
    """When it was switched off from inside."""
    dying_at: datetime | None = None
    gone_at: datetime | None = None

    @property
    def name(self) -> str:
        """Its name, which is its disk's too."""
        return str(self.body["name"])

    @property
    def id(self) -> str:
        """As gpulaunch names it."""
        return f"{self.zone}/{self.name}"

    @property
    def spot(self) -> bool:
        """Whether the cloud may take it back."""
        return bool(self.body.get("scheduling", {}).get("provisioningModel") == "SPOT")

    @property
    def ends_by_limit_at(self) -> datetime | None:
        """When its max_run_duration is over: it counts from the moment at which the machine runs."""
        limit = self.body.get("scheduling", {}).get("maxRunDuration")
        return None if limit is None else self.runs_at + timedelta(seconds=int(limit["seconds"]))

    def runs(self, at: datetime) -> bool:
        """Whether it has started and was not switched off."""
        return at >= self.runs_at and (self.off_at is None or at < self.off_at)


@dataclass
class Disk:
    """A disk, which may outlive its machine when something goes wrong."""

    zone: str
    name: str
    body: dict[str, Any]
    accepted_at: datetime
    gone_at: datetime | None = None


@dataclass
class Cloud:
    """One project."""

    clock: Clock
    project: str = "proj"
    timing: Timing = field(default_factory=Timing)
    faults: Faults = field(default_factory=Faults)
    finishes_after_s: float | None = None
    """How long a training takes on a machine of this cloud; None: for ever."""
    quotas: dict[str, float] = field(default_factory=lambda: {"GPUS_ALL_REGIONS": 1.0})
    region_quotas: dict[str, float] = field(
        default_factory=lambda: {"NVIDIA_T4_GPUS": 1.0, "PREEMPTIBLE_NVIDIA_T4_GPUS": 1.0}
    )
    zones: tuple[str, ...] = ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f", "europe-west4-a")
    ssh_open: bool = True
    unreachable: str = ""
    """A zone that does not answer for itself in listings."""
    behind_s: float = 0.0
    """Seconds by which the cloud's clock is behind the one that it was given."""
    rules: list[dict[str, Any]] = field(default_factory=list)
    """Firewall rules that were made."""
    keeps_disks: bool = False
    """Deleting a machine leaves its disk."""
    instances: dict[tuple[str, str], Instance] = field(default_factory=dict)
    past: list[Instance] = field(default_factory=list)
    disks: dict[tuple[str, str], Disk] = field(default_factory=dict)
    past_disks: list[Disk] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1001))

    def now(self) -> datetime:
        """The cloud's own time."""
        return self.clock.now().astimezone(UTC) - timedelta(seconds=self.behind_s)

    # What time does

    def look(self) -> None:
        """Let everything happen that was due by now."""
        with self.lock:
            now = self.now()
            for instance in list(self.instances.values()):
                self._live(instance, now)
            for disk in list(self.disks.values()):
                if disk.gone_at is not None and now >= disk.gone_at:
                    self.past_disks.append(self.disks.pop((disk.zone, disk.name)))

    def _live(self, instance: Instance, now: datetime) -> None:
        if instance.dying_at is None:
            due = [(at, what) for at, what in self._ends(instance) if at is not None and at <= now]
            if due:
                self._end(instance, *min(due))
        if instance.gone_at is not None and now >= instance.gone_at:
            self._bury(instance)

    def _ends(self, instance: Instance) -> list[tuple[datetime | None, str]]:
        limit = instance.ends_by_limit_at
        late = timedelta(seconds=self.timing.timer_late_s)
        own = instance.agent.ends_at() if instance.off_at is None else None
        # A machine that is switched off does not run, so no limit to its running ends it.
        return [
            (limit + late if limit and instance.off_at is None else None, DEADLINE),
            (instance.preempt_at if instance.off_at is None else None, PREEMPTED),
            (own, "own end"),
        ]

    def _end(self, instance: Instance, at: datetime, what: str) -> None:
        if what != "own end":
            instance.agent.hear_shutdown(at)
            self.note(what, instance, at=at, ends_at=at, user="system@google.com")
            self.order_delete(instance, at=at, user="system@google.com", kind="delete" if what == PREEMPTED else "")
        elif instance.body.get("serviceAccounts"):
            self.order_delete(instance, at=at, user=instance.body["serviceAccounts"][0]["email"])
        else:
            instance.off_at = at
            self.note(SWITCHED_OFF, instance, at=at, ends_at=at, user="system@google.com")

    def _bury(self, instance: Instance) -> None:
        self.past.append(self.instances.pop((instance.zone, instance.name)))
        disk = self.disks.get((instance.zone, instance.name))
        if disk is not None and not self.keeps_disks:
            disk.gone_at = instance.gone_at
            self.past_disks.append(self.disks.pop((disk.zone, disk.name)))

    # What calls do

    def make(self, zone: str, body: dict[str, Any], request_id: str) -> Operation:
        """Accept a machine. What was asked for before by the same request id is not done again."""
        known = next((each for each in self.operations if request_id and each.request_id == request_id), None)
        if known is not None:
            return known
        now = self.now()
        slow_s = self.faults.slow_s(zone)
        runs_at = now + timedelta(seconds=self.timing.pending_s + slow_s)
        error = self.faults.operation_error(zone)
        if error is not None:
            return self._add("insert", zone, body["name"], at=now, ends_at=runs_at, request_id=request_id, error=error)
        instance = Instance(next(self._numbers), zone, body, now, runs_at, Agent.of(body, runs_at, self))
        if instance.spot and (after_s := self.faults.preempt_after_s(zone)) is not None:
            instance.preempt_at = runs_at + timedelta(seconds=after_s)
        self.instances[zone, instance.name] = instance
        [boot] = body["disks"]
        self.disks[zone, instance.name] = Disk(zone, instance.name, boot, now)
        return self._add("insert", zone, instance.name, at=now, ends_at=runs_at, request_id=request_id)

    def order_delete(self, instance: Instance, *, at: datetime, user: str, kind: str = "delete") -> Operation:
        """Begin the end of a machine; a second order changes nothing."""
        if instance.dying_at is None:
            instance.dying_at = at
            instance.gone_at = at + timedelta(seconds=self.timing.delete_s)
            instance.agent.hear_shutdown(at)
        last = self.operations[-1]
        if not kind:  # the limit's own operation is the deletion
            last.ends_at = instance.gone_at
            return last
        return self.note(kind, instance, at=at, ends_at=instance.gone_at, user=user)

    def make_rule(self, body: dict[str, Any]) -> Operation:
        """One more firewall rule."""
        self.rules.append(body)
        return self._add("insert", "", body["name"], at=self.now(), ends_at=self.now(), path="firewalls")

    def order_disk_deleted(self, disk: Disk) -> Operation:
        """Begin the end of a disk that its machine has left behind."""
        disk.gone_at = disk.gone_at or self.now() + timedelta(seconds=self.timing.delete_s)
        return self._add("delete", disk.zone, disk.name, at=self.now(), ends_at=disk.gone_at, path="disks")

    def note(
        self, kind: str, instance: Instance, *, at: datetime, ends_at: datetime | None, user: str = "me@example.com"
    ) -> Operation:
        """Write an operation down."""
        return self._add(kind, instance.zone, instance.name, at=at, ends_at=ends_at, user=user)

    def _add(
        self, kind: str, zone: str, name: str, *, at: datetime, ends_at: datetime | None, request_id: str = "",
        error: dict[str, Any] | None = None, user: str = "me@example.com", path: str = "instances",
    ) -> Operation:  # fmt: skip
        operation = Operation(
            next(self._numbers), kind, zone, f"{path}/{name}", user, at, ends_at, request_id=request_id, error=error
        )
        self.operations.append(operation)
        return operation

    def kept_operations(self) -> list[Operation]:
        """Those that are not forgotten yet."""
        now = self.now()
        kept = timedelta(seconds=self.timing.operations_kept_s)
        return [each for each in self.operations if each.ends_at is None or now - each.ends_at < kept]

    # For tests

    def existing(self) -> set[str]:
        """The ids of all machines of which anything is left: itself, its disk."""
        self.look()
        return {f"{zone}/{name}" for zone, name in (*self.instances, *self.disks)}

    def lived(self) -> list[Instance]:
        """Every machine that there was, oldest first."""
        self.look()
        return sorted((*self.past, *self.instances.values()), key=lambda each: each.number)

    def only(self) -> Instance:
        """The one machine that lives."""
        self.look()
        [instance] = self.instances.values()
        return instance
