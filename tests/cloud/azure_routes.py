"""Which operation a request is: method and path to what carries it out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from azure_replies import Reply, error
from azure_replies_groups import GroupReplies
from azure_replies_resources import ResourceReplies
from azure_replies_subscription import SubscriptionReplies
from azure_world import SUBSCRIPTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure_faults import Rule
    from azure_world import World

SUB = f"/subscriptions/{SUBSCRIPTION}"
GROUP = rf"{SUB}/resourcegroups/(?P<group>[^/]+)"
IN_GROUP = rf"{GROUP}/providers/Microsoft"
IN_SUB = rf"{SUB}/providers/Microsoft"
PLACE = r"locations/(?P<region>\w+)"
STORAGE = r"storageAccounts/[^/]+(/blobServices/default/containers/[^/]+)?"


class Routes(GroupReplies, SubscriptionReplies, ResourceReplies):
    """Every operation that gpulaunch uses."""

    def __init__(self, world: World, base: str) -> None:
        super().__init__(world, base)
        table: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            ("GET", rf"{SUB}/operations/(?P<id>[^/]+)", self._operation),
            ("GET", rf"{SUB}/resourcegroups", self._list_groups),
            ("GET", GROUP, self._get_group),
            ("PUT", GROUP, self._put_group),
            ("PATCH", GROUP, self._patch_group),
            ("DELETE", GROUP, self._delete_group),
            ("GET", rf"{GROUP}/resources", self._list_resources),
            ("GET", rf"{SUB}/providers/(?P<namespace>[\w.]+)", self._registration),
            ("GET", rf"{IN_SUB}.Authorization/permissions", self._permissions),
            ("PUT", r"(?P<scope>/.+)/providers/Microsoft.Authorization/roleAssignments/(?P<name>[^/]+)", self._assign),
            ("PUT", r".+/providers/Microsoft.Authorization/roleDefinitions/(?P<name>[^/]+)", self._define_role),
            ("PUT", rf"{IN_GROUP}.Network/virtualNetworks/[^/]+", self._put_network),
            ("GET", rf"{IN_GROUP}.Network/virtualNetworks/[^/]+", self._get_thing),
            ("PUT", rf"{IN_GROUP}.Logic/workflows/[^/]+", self._put_workflow),
            ("PUT", rf"{IN_GROUP}.Compute/virtualMachines/[^/]+", self._put_machine),
            ("GET", rf"{IN_GROUP}.Compute/virtualMachines/[^/]+", self._get_machine),
            ("GET", rf"{IN_SUB}.Compute/virtualMachines", self._list_machines),
            ("POST", rf"{IN_GROUP}.Compute/virtualMachines/[^/]+/retrieveBootDiagnosticsData", self._console),
            ("GET", rf"{IN_SUB}.Compute/skus", self._sizes),
            ("GET", rf"{IN_SUB}.Compute/{PLACE}/usages", self._usages),
            ("POST", rf"{IN_SUB}.ComputeSchedule/{PLACE}/virtualMachinesSubmitDeallocate", self._submit),
            ("POST", rf"{IN_SUB}.ComputeSchedule/{PLACE}/virtualMachinesCancelOperations", self._cancel),
            ("GET", rf"{IN_SUB}.Insights/eventtypes/management/values", self._log),
            ("PUT", rf"{IN_GROUP}.Storage/{STORAGE}", self._put_plain),
            ("GET", rf"{IN_GROUP}.Storage/storageAccounts/[^/]+", self._get_thing),
            ("PUT", rf"{IN_GROUP}.ManagedIdentity/userAssignedIdentities/[^/]+", self._put_identity),
        )
        self._table = [(method, re.compile(path, re.IGNORECASE), do) for method, path, do in table]

    def answer(self, method: str, url: str, headers: Any, body: Any, fault: Rule | None) -> Reply:
        """Carry a request out."""
        path = urlsplit(url).path
        query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        for verb, pattern, do in self._table:
            match = pattern.fullmatch(path)
            if verb == method and match:
                found = {"path": path, "query": query, "headers": headers, "body": body, "fault": fault}
                return do(**match.groupdict(), **found)
        return error(404, "InvalidResourceType", f"nobody answers {method} {path}")

    def _operation(self, id: str, **_: Any) -> Reply:  # noqa: A002 - the name in the path
        operation = self._world.operations.get(id)
        if operation is None:
            return error(404, "OperationNotFound")
        found: dict[str, Any] = {"status": operation.state, "id": id}
        if operation.code:
            found["error"] = {"code": operation.code, "message": "the operation failed, as the test asked"}
        return 200, {"Retry-After": self._world.pace.retry_after}, found
