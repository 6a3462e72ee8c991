"""What lies in a resource group: networks, workflows, machines and their serial logs, and what `init` makes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import azure_timers
from azure_replies import Replies, Reply, error
from azure_things import Group, Thing, Vm
from azure_world import SUBSCRIPTION

if TYPE_CHECKING:
    from azure_faults import Rule


class ResourceReplies(Replies):
    """Make and find them."""

    def _put_network(self, group: str, path: str, body: dict[str, Any], **_: Any) -> Reply:
        living = self.living_group(group)
        if not isinstance(living, Group):
            return living
        world = self._world
        known = path.lower() in world.things
        kind = "Microsoft.Network/virtualNetworks"
        world.things[path.lower()] = Thing(path, kind, group.lower(), body, world.now)
        operation = world.operation(world.pace.network, lambda _: None, resource=path)
        return self.accepted(200 if known else 201, operation, self._thing_body(path, "Updating"))

    def _thing_body(self, path: str, state: str = "Succeeded") -> dict[str, Any]:
        thing = self._world.things[path.lower()]
        properties = {**thing.body.get("properties", {}), "provisioningState": state}
        return {
            **thing.body,
            "id": thing.id,
            "name": thing.id.rpartition("/")[2],
            "type": thing.kind,
            "properties": properties,
        }

    def _get_thing(self, path: str, **_: Any) -> Reply:
        return (
            (200, {}, self._thing_body(path)) if path.lower() in self._world.things else error(404, "ResourceNotFound")
        )

    def _put_workflow(self, group: str, path: str, body: dict[str, Any], **_: Any) -> Reply:
        living = self.living_group(group)
        if not isinstance(living, Group):
            return living
        world = self._world
        known = world.things.get(path.lower())
        principal = known.principal if known else str(uuid.uuid4())
        made_at = known.made_at if known else world.now
        workflow = Thing(path, "Microsoft.Logic/workflows", group.lower(), body, made_at, principal)
        world.things[path.lower()] = workflow
        azure_timers.start_workflow(world, workflow)
        identity = {"type": "SystemAssigned", "principalId": principal, "tenantId": SUBSCRIPTION}
        return (200 if known else 201), {}, {**self._thing_body(path), "identity": identity}

    def _put_machine(
        self, group: str, path: str, headers: Any, body: dict[str, Any], fault: Rule | None, **_: Any
    ) -> Reply:
        living = self.living_group(group)
        if not isinstance(living, Group):
            return living
        world = self._world
        if path.lower() in world.things:
            if headers.get("If-None-Match") == "*":
                return error(412, "PreconditionFailed", "the resource exists")
            world.problems.append("a machine was changed by a PUT that was not create-only")
        [interface] = body["properties"]["networkProfile"]["networkInterfaceConfigurations"]
        subnet = interface["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"]
        if subnet.lower().partition("/subnets/")[0] not in world.things:
            return error(400, "InvalidResourceReference", f"{subnet} was not found")
        code = fault.code if fault is not None and fault.kind == "fail" else ""
        vm, operation = world.make_machine(path, living, body, fails_with=code)
        return self.accepted(201, operation, self._machine_body(vm))

    def _machine_body(self, vm: Vm) -> dict[str, Any]:
        statuses = [{"code": f"ProvisioningState/{vm.provisioning.lower()}", "level": "Info"}]
        if vm.failure:
            statuses = [{"code": f"ProvisioningState/failed/{vm.failure}", "level": "Error"}]
        if vm.power:
            statuses.append({"code": f"PowerState/{vm.power}", "level": "Info"})
        wanted = {key: value for key, value in vm.body["properties"].items() if key != "osProfile"}
        properties = {
            **wanted,
            "provisioningState": vm.provisioning,
            "timeCreated": vm.made_at.strftime("%Y-%m-%dT%H:%M:%S.%f0+00:00"),
            "instanceView": {"statuses": statuses},
        }
        identity = {**vm.body["identity"], "principalId": vm.principal, "tenantId": SUBSCRIPTION}
        return {
            **vm.body,
            "id": vm.id,
            "name": vm.id.rpartition("/")[2],
            "type": vm.kind,
            "identity": identity,
            "properties": properties,
        }

    def _get_machine(self, path: str, query: dict[str, str], **_: Any) -> Reply:
        vm = self._world.things.get(path.lower())
        if not isinstance(vm, Vm):
            return error(404, "ResourceNotFound")
        found = self._machine_body(vm)
        if query.get("$expand") != "instanceView":
            del found["properties"]["instanceView"]
        return 200, {}, found

    def _list_machines(self, query: dict[str, str], **_: Any) -> Reply:
        found = [self._machine_body(vm) for vm in self._world.machines()]
        for each in found:
            each["id"] = each["id"].upper()  # as this listing really does
            if query.get("statusonly") != "true":
                del each["properties"]["instanceView"]
        return 200, {}, {"value": found}

    def _console(self, path: str, **_: Any) -> Reply:
        machine = path.rpartition("/")[0].lower()
        vm = self._world.things.get(machine)
        if not isinstance(vm, Vm):
            return error(404, "ResourceNotFound")
        return 200, {}, {"serialConsoleLogBlobUri": f"{self._base}/serial{machine}?sig=secret"}

    def _submit(self, region: str, body: dict[str, Any], **_: Any) -> Reply:
        return 200, {}, azure_timers.submit(self._world, region, body)

    def _cancel(self, body: dict[str, Any], **_: Any) -> Reply:
        return 200, {}, azure_timers.cancel(self._world, body)

    # What `init` makes

    def _put_plain(self, group: str, path: str, body: dict[str, Any], **_: Any) -> Reply:
        living = self.living_group(group)
        if not isinstance(living, Group):
            return living
        kind = "Microsoft.Storage/" + ("containers" if "/containers/" in path else "storageAccounts")
        self._world.things[path.lower()] = Thing(path, kind, group.lower(), body, self._world.now)
        return 201, {}, self._thing_body(path)

    def _put_identity(self, group: str, path: str, body: dict[str, Any], **_: Any) -> Reply:
        living = self.living_group(group)
        if not isinstance(living, Group):
            return living
        world = self._world
        known = world.things.get(path.lower())
        principal = (known.principal if known else None) or str(uuid.uuid4())
        kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
        world.things[path.lower()] = Thing(
            path, kind, group.lower(), body, known.made_at if known else world.now, principal
        )
        found = self._thing_body(path)
        found["properties"] |= {"principalId": principal, "clientId": str(uuid.uuid5(uuid.NAMESPACE_URL, path))}
        return 201, {}, found
