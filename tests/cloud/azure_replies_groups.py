"""Resource groups."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azure_replies import Replies, Reply, error
from azure_things import Group
from azure_world import SUBSCRIPTION

if TYPE_CHECKING:
    from azure_faults import Rule

PAGE = 2
"""Groups in a page of their listing: small, so that paging is used."""


class GroupReplies(Replies):
    """Make, find, list, tag and delete them."""

    def _described(self, group: Group) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group.name}",
            "name": group.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": group.location,
            "tags": group.tags,
            "properties": {"provisioningState": "Deleting" if group.deleting else "Succeeded"},
        }

    def _list_groups(self, query: dict[str, str], **_: Any) -> Reply:
        found = list(self._world.groups.values())
        wanted = re.fullmatch(r"tagName eq '([^']+)' and tagValue eq '([^']+)'", query.get("$filter", ""))
        if wanted:
            found = [group for group in found if group.tags.get(wanted[1]) == wanted[2]]
        page = int(query.get("$skiptoken", "0"))
        reply: dict[str, Any] = {"value": [self._described(group) for group in found[page : page + PAGE]]}
        if found[page + PAGE :]:
            asked = "&".join(
                f"{name}={value.replace(' ', '%20')}" for name, value in query.items() if name != "$skiptoken"
            )
            reply["nextLink"] = (
                f"{self._base}/subscriptions/{SUBSCRIPTION}/resourcegroups?{asked}&$skiptoken={page + PAGE}"
            )
        return 200, {}, reply

    def _get_group(self, group: str, **_: Any) -> Reply:
        found = self._world.group_at(group)
        return (200, {}, self._described(found)) if found else error(404, "ResourceGroupNotFound")

    def _put_group(self, group: str, body: dict[str, Any], **_: Any) -> Reply:
        found = self._world.group_at(group)
        if found is not None and found.deleting:
            return error(409, "ResourceGroupBeingDeleted")
        if found is not None and found.location != body["location"]:
            return error(409, "InvalidResourceGroupLocation")
        made = Group(group, body["location"], dict(body.get("tags") or {}))
        self._world.groups[group.lower()] = made
        resource = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}"
        self._world.note("Microsoft.Resources/subscriptions/resourcegroups/write", resource, group)
        return (200 if found else 201), {}, self._described(made)

    def _patch_group(self, group: str, body: dict[str, Any], **_: Any) -> Reply:
        found = self._world.group_at(group)
        if found is None:
            return error(404, "ResourceGroupNotFound")
        found.tags = dict(body.get("tags", found.tags))
        return 200, {}, self._described(found)

    def _delete_group(self, group: str, fault: Rule | None, **_: Any) -> Reply:
        found = self._world.group_at(group)
        if found is None:
            return error(404, "ResourceGroupNotFound")
        if found.locked:
            return error(409, "ScopeLocked", f"The scope {group} cannot perform delete operation: it is locked.")
        self._world.delete_group(found, hangs=fault is not None and fault.kind == "hang")
        url = f"{self._base}/subscriptions/{SUBSCRIPTION}/operationresults/none?api-version=2024-01-01"
        return 202, {"Location": url, "Retry-After": self._world.pace.retry_after}, None

    def _list_resources(self, group: str, **_: Any) -> Reply:
        found = [
            {"id": thing.id, "name": thing.id.rpartition("/")[2], "type": thing.kind, "location": "eastus"}
            for thing in self._world.inside(group)
        ]
        return 200, {}, {"value": found}
