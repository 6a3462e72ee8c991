"""What the cloud of these tests is made of, and how long things take in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long things take, in seconds."""

    network: float = 4.0
    placed: float = 20.0
    booted: float = 40.0
    machine_deleted: float = 30.0
    group_deleted: float = 90.0
    deallocated: float = 30.0
    role_spread: float = 60.0
    principal_spread: float = 4.0
    timer_late: float = 30.0
    log_late: float = 0.0
    console_late: float = 5.0
    retry_after: str = "0"


AT_ONCE = Pace(
    network=0,
    placed=0,
    booted=0,
    machine_deleted=0,
    group_deleted=0,
    deallocated=0,
    role_spread=0,
    principal_spread=0,
    timer_late=0,
    console_late=0,
)


@dataclass
class Thing:
    """One resource. `body` is what was put; `principal` its own identity, where it has one."""

    id: str
    kind: str
    group: str
    body: dict[str, Any]
    made_at: datetime
    principal: str | None = None
    deletes_with: str | None = None
    """The machine that takes it along when it is deleted."""


@dataclass
class Vm(Thing):
    """A machine, and the agent on it."""

    power: str = ""
    provisioning: str = "Creating"
    failure: str = ""
    booted_at: datetime | None = None
    silent_at: datetime | None = None
    """When its agent died, or the machine with it."""
    finished_at: datetime | None = None

    @property
    def bills(self) -> str:
        """Its name on the bill."""
        return f"{self.id}#{self.made_at:%H%M%S%f}"


@dataclass
class Group:
    """A resource group."""

    name: str
    location: str
    tags: dict[str, str]
    deleting: bool = False
    locked: bool = False


@dataclass
class Operation:
    """A long-running operation."""

    id: str
    state: str = "InProgress"
    code: str = ""
    resource: str = ""
