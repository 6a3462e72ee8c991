"""The cloud's own timers: Logic Apps that call Resource Manager, and deallocations at a time."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from azure_things import Thing, Vm
from azure_world import SUBSCRIPTION

if TYPE_CHECKING:
    from azure_world import World

AUDIENCES = ("https://management.azure.com/", "https://management.azure.com")
_UNIT_S = {"Second": 1, "Minute": 60, "Hour": 3600, "Day": 86_400}
_GROUP = re.compile(
    rf"https://management\.azure\.com/subscriptions/{SUBSCRIPTION}/resourcegroups/([^/?]+)\?(.+)", re.IGNORECASE
)


def start_workflow(world: World, workflow: Thing) -> None:
    """Let a workflow's trigger fire, from its start time on."""
    [trigger] = workflow.body["properties"]["definition"]["triggers"].values()
    recurrence = trigger["recurrence"]
    begins = datetime.fromisoformat(recurrence["startTime"])
    every = timedelta(seconds=recurrence["interval"] * _UNIT_S[recurrence["frequency"]])
    while begins < world.now:  # a start in the past: its next recurrence
        begins += every

    def fire() -> None:
        if world.things.get(workflow.id.lower()) is not workflow:
            return  # it was deleted, or put anew
        world.later(every.total_seconds(), fire)
        world.bill.charge("timer", 2 * world.prices.action)
        run(world, workflow)

    world.at(begins + timedelta(seconds=world.pace.timer_late), fire)


def run(world: World, workflow: Thing) -> None:
    """One run: its one action, with its own identity."""
    [action] = workflow.body["properties"]["definition"]["actions"].values()
    inputs = action["inputs"]
    target = _GROUP.fullmatch(inputs["uri"])
    assert target is not None, inputs["uri"]
    assert (inputs["method"], inputs["authentication"]["audience"] in AUDIENCES) == ("DELETE", True)
    group = world.group_at(target[1])
    if group is not None and world.may_delete(workflow.principal, group) and not group.locked:
        world.delete_group(group)


def submit(world: World, region: str, body: dict[str, Any]) -> dict[str, Any]:
    """Note a deallocation for its time."""
    del region
    deadline = datetime.fromisoformat(body["schedule"]["deadline"])
    results = []
    for machine in body["resources"]["ids"]:
        operation = str(uuid.uuid4())
        vm = world.things.get(machine.lower())
        if not isinstance(vm, Vm):
            results.append({"resourceId": machine, "errorCode": "ResourceNotFound", "errorDetails": "no such machine"})
            continue
        world.schedules[operation] = {"machine": machine.lower(), "state": "PendingScheduling"}
        world.at(deadline + timedelta(seconds=world.pace.timer_late), lambda op=operation: _deallocate(world, op))  # type: ignore[misc]
        results.append(
            {
                "resourceId": machine,
                "operation": {
                    "operationId": operation,
                    "resourceId": machine,
                    "opType": "Deallocate",
                    "state": "PendingScheduling",
                    "deadline": body["schedule"]["deadline"],
                    "deadlineType": body["schedule"]["deadlineType"],
                },
            }
        )
    return {"description": "Deallocate Resource request", "type": "VirtualMachines", "location": "", "results": results}


def _deallocate(world: World, operation: str) -> None:
    schedule = world.schedules[operation]
    if schedule["state"] != "PendingScheduling":
        return
    vm = world.things.get(schedule["machine"])
    schedule["state"] = "Succeeded" if isinstance(vm, Vm) else "Failed"
    if isinstance(vm, Vm):
        world.deallocate(vm)


def cancel(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Take deallocations back."""
    results = []
    for operation in body["operationIds"]:
        known = world.schedules.get(operation)
        if known is not None and known["state"] == "PendingScheduling":
            known["state"] = "Cancelled"
        results.append({"resourceId": "", "errorCode": None if known else "OperationNotFound"})
    return {"results": results}
