"""Azure's own timers, and the rights that they need.

With the right to assign roles: a Logic App (consumption plan) in the attempt's own group. From the hard deadline on it
deletes that group, every few minutes until it is gone with the group; nothing of it runs, or costs, before. Its
identity, and the machine's, may do that on this one group and nowhere else, and the roles go with the group.

Without that right: Microsoft.ComputeSchedule deallocates the machine at the hard deadline, in the user's own name.
Compute ends; disk and address bill on until a guard or a sweep deletes the group, so a day of them is kept inside the
cap.
"""

from __future__ import annotations

import uuid
from datetime import UTC
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from providers.azure.client import PUBLIC, Arm, raw
from providers.azure.requests import MACHINE, TIMER
from providers.base import Backstop, OneTimeCost, ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from providers.base import Offer

# A recurrence trigger starts a run within its minute; the second minute is for the run itself.
TIMER_LATENESS_S = 120.0
TIMER_AGAIN_MIN = 5
GROUPS_API_VERSION = "2021-04-01"
FORCED = "Microsoft.Compute/virtualMachines"
"""What a group's deletion need not shut down in order first: compute ends at once ("Delete a VM", force delete)."""
_WORKFLOW_SCHEMA = (
    "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#"
)
# Deleting a group asks for one right alone: Microsoft.Resources/subscriptions/resourceGroups/delete ("Delete resource
# groups", learn.microsoft.com). `init` makes a role with no other; without it, Contributor on the attempt's own group.
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"
DELETE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/delete"
_NAMES = uuid.UUID("8d5b7e0c-5c35-4ab4-8f13-30b9c1c2f4a6")
# A new identity is unknown to role assignments for some seconds; without an end in sight it is a fault.
PRINCIPAL_PATIENCE_S = 120.0
PRINCIPAL_AGAIN_S = 5.0

RESERVE_H = 24
RESERVE_NAME = "disk and address for a day after the deadline"
DEALLOCATE_RETRIES = 5
DEALLOCATE_WINDOW_MIN = 60


def workflow_body(
    region: str, tags: Mapping[str, str], *, subscription: str, group: str, at: datetime
) -> dict[str, Any]:
    """A Logic App that deletes its own group from `at` on."""
    delete = {
        "type": "Http",
        "runAfter": {},
        "inputs": {
            "method": "DELETE",
            "uri": f"{PUBLIC}/subscriptions/{subscription}/resourcegroups/{group}"
            f"?api-version={GROUPS_API_VERSION}"
            f"&forceDeletionTypes={FORCED}",
            "authentication": {"type": "ManagedServiceIdentity", "audience": f"{PUBLIC}/"},
        },
        # The reply says `accepted`; to wait for the end would be to wait for its own.
        "operationOptions": "DisableAsyncPattern",
    }
    trigger = {
        "type": "Recurrence",
        "recurrence": {
            "frequency": "Minute",
            "interval": TIMER_AGAIN_MIN,
            "startTime": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "timeZone": "UTC",
        },
    }
    definition = {
        "$schema": _WORKFLOW_SCHEMA,
        "contentVersion": "1.0.0.0",
        "triggers": {"deadline": trigger},
        "actions": {"delete": delete},
    }
    return {
        "location": region,
        "tags": dict(tags),
        "identity": {"type": "SystemAssigned"},
        "properties": {"state": "Enabled", "definition": definition},
    }


def arm_timer(arm: Arm, region: str, tags: Mapping[str, str], *, group: str, at: datetime, role: str | None) -> None:
    """Make the Logic App, and give it its role. Safe to repeat."""
    body = workflow_body(region, tags, subscription=arm.subscription, group=group, at=at)
    with arm.asking("make the timer"):
        workflow = arm.logic.workflows.create_or_update(group, TIMER, body, cls=raw)
    assign(arm, group, what=TIMER, principal=workflow["identity"]["principalId"], role=role)


def assign(arm: Arm, group: str, *, what: str, principal: str, role: str | None) -> None:
    """Let an identity delete one group. Safe to repeat: the assignment's name follows from the group and from `what`.

    An identity that was made a moment ago is not known everywhere yet: asked again for a while.
    """
    scope = f"/subscriptions/{arm.subscription}/resourceGroups/{group}"
    name = str(uuid.uuid5(_NAMES, f"{arm.subscription}/{group}/{what}/{principal}"))
    body = {
        "properties": {
            "roleDefinitionId": role or role_id(arm.subscription, CONTRIBUTOR),
            "principalId": principal,
            "principalType": "ServicePrincipal",
        }
    }
    ends_s = arm.clock.monotonic() + PRINCIPAL_PATIENCE_S
    while True:
        try:
            with arm.asking("assign a role"):
                arm.authorization.role_assignments.create(scope, name, body, cls=raw)
        except ProviderError as error:
            if error.code == "RoleAssignmentExists":
                return
            if error.code != "PrincipalNotFound" or arm.clock.monotonic() >= ends_s:
                raise
            arm.clock.sleep(PRINCIPAL_AGAIN_S)
        else:
            return


def role_id(subscription: str, name: str) -> str:
    """The id of a role definition."""
    return f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{name}"


def schedule_body(machine: str, *, at: datetime, correlation: str) -> dict[str, Any]:
    """A deallocation of one machine at a time."""
    return {
        "schedule": {
            "deadline": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "timezone": "UTC",
            "deadlineType": "InitiateAt",
        },
        "executionParameters": {
            "retryPolicy": {"retryCount": DEALLOCATE_RETRIES, "retryWindowInMinutes": DEALLOCATE_WINDOW_MIN}
        },
        "resources": {"ids": [machine]},
        "correlationid": correlation,
    }


def arm_deallocation(arm: Arm, region: str, *, group: str, at: datetime) -> str:
    """Have the machine deallocated at that time; the operation's id. Raises ProviderError when it was not accepted."""
    scope = f"/subscriptions/{arm.subscription}/resourceGroups/{group}"
    machine = f"{scope}/providers/Microsoft.Compute/virtualMachines/{MACHINE}"
    body = schedule_body(machine, at=at, correlation=str(uuid.uuid5(_NAMES, group)))
    with arm.asking("arm the deallocation"):
        reply = arm.schedule.scheduled_actions.virtual_machines_submit_deallocate(region, body, cls=raw)
    [result] = reply["results"]
    operation = result.get("operation") or {}
    if result.get("errorCode") or not operation.get("operationId"):
        from providers.azure.errors import from_code

        raise from_code(
            str(result.get("errorCode") or "NoOperation"),
            doing="arm the deallocation",
            why=str(result.get("errorDetails") or ""),
        )
    return str(operation["operationId"])


def cancel_deallocation(arm: Arm, region: str, operation: str) -> None:
    """Take a deallocation back. One that is over, or whose machine is gone, is no loss."""
    body = {"operationIds": [operation], "correlationid": str(uuid.uuid5(_NAMES, operation))}
    with arm.asking("take the deallocation back"):
        arm.schedule.scheduled_actions.virtual_machines_cancel_operations(region, body, cls=raw)


# The plan's line


def by_logic_app() -> Backstop:
    """The plan's line where roles can be assigned."""
    return Backstop(armed=True, what="a Logic App deletes the resource group at the hard deadline")


def by_deallocation(why: str) -> Backstop:
    """The plan's line where they cannot."""
    return Backstop(
        armed=True,
        what=(
            f"ComputeSchedule deallocates the machine at the hard deadline ({why}). Disk and address bill on until "
            f"`gpulaunch sweep` or the guard deletes them: {RESERVE_H} hours of them are kept inside the cap. The "
            "machine cannot delete itself: it bills until then when its guard is away"
        ),
        fix=(
            "For a true delete, ask an owner for the role `Role Based Access Control Administrator` on the "
            "subscription."
        ),
        own_end=False,
        own_end_fix="The same role arms it.",
    )


def reserve(offer: Offer) -> OneTimeCost:
    """What disk and address cost from the deallocation to the sweep."""
    usd = (offer.standing_usd_per_hour * RESERVE_H).quantize(Decimal("0.000001"), rounding=ROUND_CEILING)
    return OneTimeCost(name=RESERVE_NAME, usd=usd, source=f"{RESERVE_H} hours at the offer's own worst prices")


def is_by_deallocation(offer: Offer) -> bool:
    """Which of the two backstops an offer was priced for."""
    return any(cost.name == RESERVE_NAME for cost in offer.one_time)
