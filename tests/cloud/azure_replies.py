"""What every operation of Resource Manager answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azure_things import Group, Operation
from azure_world import SUBSCRIPTION

if TYPE_CHECKING:
    from azure_world import World

Reply = tuple[int, dict[str, str], Any]


def error(status: int, code: str, message: str = "as the test asked") -> Reply:
    """An error as Resource Manager words it."""
    return status, {}, {"error": {"code": code, "message": message}}


class Replies:
    """Operations over one world. `base` is the server's own address."""

    def __init__(self, world: World, base: str) -> None:
        self._world = world
        self._base = base

    def accepted(self, status: int, operation: Operation, body: Any) -> Reply:
        """The reply that begins a long-running operation."""
        url = f"{self._base}/subscriptions/{SUBSCRIPTION}/operations/{operation.id}?api-version=2024-01-01"
        return status, {"Azure-AsyncOperation": url, "Retry-After": self._world.pace.retry_after}, body

    def living_group(self, name: str) -> Group | Reply:
        """A group into which something may be put, or why not."""
        group = self._world.group_at(name)
        if group is None:
            return error(404, "ResourceGroupNotFound")
        return error(409, "ResourceGroupBeingDeleted") if group.deleting else group
