"""What belongs to the subscription: rights, roles, sizes, quotas, the activity log."""

from __future__ import annotations

import re
from typing import Any

from azure_replies import Replies, Reply, error
from azure_world import SIZE, SUBSCRIPTION


class SubscriptionReplies(Replies):
    """What may be done, and what was."""

    def _registration(self, namespace: str, **_: Any) -> Reply:
        state = "NotRegistered" if namespace in self._world.unregistered else "Registered"
        return 200, {}, {"namespace": namespace, "registrationState": state, "resourceTypes": []}

    def _permissions(self, **_: Any) -> Reply:
        return 200, {}, {"value": self._world.may}

    def _may_assign(self) -> bool:
        truly = self._world.may_truly_assign
        return all(not each["notActions"] for each in self._world.may) if truly is None else truly

    def _assign(self, scope: str, name: str, path: str, body: dict[str, Any], **_: Any) -> Reply:
        world = self._world
        if not self._may_assign():
            return error(403, "AuthorizationFailed", "does not have authorization to perform roleAssignments/write")
        parts = body["properties"]
        owner = next((thing for thing in world.things.values() if thing.principal == parts["principalId"]), None)
        age_s = None if owner is None else (world.now - owner.made_at).total_seconds()
        if age_s is None or age_s < world.pace.principal_spread:
            return error(400, "PrincipalNotFound", "the principal does not exist in the directory")
        group = re.fullmatch(rf"/subscriptions/{SUBSCRIPTION}/resourcegroups/([^/]+)(/.+)?", scope, re.IGNORECASE)
        if group is None or world.group_at(group[1]) is None:
            return error(404, "ResourceGroupNotFound")
        role = {
            "scope": scope.lower(),
            "principal": parts["principalId"],
            "role": parts["roleDefinitionId"].rpartition("/")[2],
            "at": world.now,
        }
        known = world.roles.get(path.lower())
        if known is not None and known["principal"] != role["principal"]:
            return error(409, "RoleAssignmentUpdateNotPermitted")
        world.roles[path.lower()] = known or role
        return (200 if known else 201), {}, {"id": path, "name": name, "properties": parts}

    def _define_role(self, name: str, path: str, body: dict[str, Any], **_: Any) -> Reply:
        if not self._may_assign():
            return error(403, "AuthorizationFailed")
        self._world.role_definitions[name] = body["properties"]["permissions"][0]["actions"]
        return 201, {}, {"id": path, "name": name, **body}

    def _sizes(self, query: dict[str, str], **_: Any) -> Reply:
        wanted = re.fullmatch(r"location eq '(\w+)'", query["$filter"])
        assert wanted is not None
        region = wanted[1]
        blocked = [
            {
                "type": "Location",
                "reasonCode": "NotAvailableForSubscription",
                "restrictionInfo": {"locations": [region]},
            }
        ]
        row = {
            "resourceType": "virtualMachines",
            "name": SIZE,
            "family": "standardNCASv3_T4Family",
            "locations": [region],
            "locationInfo": [{"location": region, "zones": self._world.zones.get(region, [])}],
            "capabilities": [{"name": "vCPUs", "value": "4"}],
            "restrictions": blocked if region in self._world.restricted else [],
        }
        other = {**row, "name": "Standard_D2s_v5", "family": "standardDSv5Family"}
        return 200, {}, {"value": [other, row]}

    def _usages(self, region: str, **_: Any) -> Reply:
        limit = self._world.quota.get(region, 24)

        def usage(name: str, value: int) -> dict[str, Any]:
            return {"unit": "Count", "currentValue": 0, "limit": value, "name": {"value": name, "localizedValue": name}}

        names = {"cores": 100, "lowPriorityCores": limit, "Standard NCASv3_T4 Family": limit}
        return 200, {}, {"value": [usage(name, value) for name, value in names.items()]}

    def _log(self, query: dict[str, str], **_: Any) -> Reply:
        wanted = re.fullmatch(
            r"eventTimestamp ge '([^']+)' and eventTimestamp le '([^']+)' and resourceGroupName eq '([^']+)'",
            query["$filter"],
        )
        assert wanted is not None, query["$filter"]
        world = self._world
        rows = [
            {name: row[name] for name in ("eventTimestamp", "operationName", "status")}
            for row in world.log
            if row["group"] == wanted[3].lower()
            and wanted[1] <= row["eventTimestamp"] <= wanted[2]
            and (world.now - row["at"]).total_seconds() >= world.pace.log_late
        ]
        return 200, {}, {"value": rows[::-1]}  # the newest first
