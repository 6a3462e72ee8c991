"""Azure: one virtual machine with a T4 for each attempt, alone in a resource group of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.clock import Clock
from providers.azure import backstop, credentials
from providers.azure.client import Arm, as_json, raw
from providers.azure.console import Consoles
from providers.azure.history import Sightings, evidence, life_of
from providers.azure.launch import Launch, delete_group, find_group, find_machine
from providers.azure.machine import console_url, is_deleting
from providers.azure.offers import Market
from providers.azure.requests import MACHINE, NETWORK, TAG_TIMER, TIMER
from providers.azure.rights import Rights
from providers.azure.store import machine_store, region_of
from providers.base import (
    TAG_OWNER,
    AuthError,
    Backstop,
    Billing,
    Intent,
    Machine,
    MachineNotFound,
    MachineState,
    Offer,
    OfferRequest,
    Provider,
    ProviderError,
    ProviderUnavailable,
    StoreRequest,
)

# From the order until nothing is left of a group with one machine. Azure promises no time; 2 to 8 minutes is what
# `providers/simulated` assumes, and the cap is computed with the longest.
DELETE_S = 480.0
# A deletion that takes longer is named, with what is left, each time louder.
HUNG_S = 900.0
POLL_S = 15.0
HEARTBEAT_S = 60.0
# A cloud on this computer has no limit of calls, and nobody wants to wait for it.
POLL_HERE_S = 0.5
_REGISTERED = ("Microsoft.Compute", "Microsoft.Network")
_TIMERS = ("Microsoft.Logic", "Microsoft.ComputeSchedule")
"""The true timer, and the one where roles cannot be assigned."""


class AzureProvider:
    """providers.base.Provider over Azure Resource Manager. A machine's id is its resource group's name.

    Raises AuthError when no subscription is known, InvalidRequest for an endpoint that is not on this computer.
    """

    name = "azure"
    billing = Billing(
        granularity_s=Decimal(1),
        floor_s=Decimal(0),
        billed_states=frozenset(
            {MachineState.PENDING, MachineState.RUNNING, MachineState.STOPPING, MachineState.STOPPED}
        ),
        source="Azure, states and billing status: Starting, Running, Stopping and Stopped bill until deallocated",
    )
    bills_awake_only = False
    worst_lateness_s = backstop.TIMER_LATENESS_S + DELETE_S + 1.0
    shutdown_notice_s = 0.0
    boot_timeout_s = 900.0

    def __init__(self, *, clock: Clock, home: str, settings: Mapping[str, Any]) -> None:
        environ = os.environ
        endpoint = credentials.endpoint(environ, settings)
        subscription = credentials.subscription(environ, settings)
        source = credentials.source(environ, settings)
        self.account = f"azure/{subscription}/{source}/{(endpoint or '-').removeprefix('http://')}"
        self.binding: dict[str, Any] = {"subscription": subscription, "credentials": source}
        if endpoint:
            self.binding["endpoint"] = endpoint
        self.poll_s = POLL_HERE_S if endpoint else POLL_S
        self.heartbeat_s = POLL_HERE_S if endpoint else HEARTBEAT_S
        self._clock = clock
        self._settings = dict(settings)
        self.skew_s = 0.0
        self._arm = Arm(clock, subscription=subscription, source=source, endpoint=endpoint, on_skew=self._note_skew)
        self._sightings = Sightings(self._arm)
        self._consoles = Consoles(self._arm)
        self._market = Market(self._arm, home, prices=settings.get("prices_endpoint"))
        self._rights = Rights(self._arm, home)
        self._launch = Launch(self._arm, self._sightings, roles_refused=self._rights.note_refusal)
        self._doomed_since: dict[str, float] = {}

    def _note_skew(self, skew_s: float) -> None:
        self.skew_s = skew_s

    # Before a launch

    def preflight(self) -> Backstop:
        """Check the login, its rights and what is registered; say which timer will be armed. Raises AuthError."""
        asked = (*_REGISTERED, *_TIMERS)
        with ThreadPoolExecutor(max_workers=len(asked) + 1, thread_name_prefix="azure") as pool:
            listed = pool.submit(self._rights.ask)
            states = dict(zip(asked, pool.map(self._registration, asked), strict=True))
            listed.result()
        missing = self._rights.missing()
        if missing:
            raise AuthError(
                f"This login may not make what a job needs in the subscription {self._arm.subscription}.",
                f"The right {missing} is missing.",
                "Ask an owner of the subscription for the role Contributor.",
                code="AuthorizationFailed",
            )
        by_logic_app = self._rights.may_assign()
        for namespace in (*_REGISTERED, _TIMERS[0] if by_logic_app else _TIMERS[1]):
            if states[namespace] != "Registered":
                raise AuthError(
                    f"The resource provider {namespace} is not registered in the subscription.",
                    "Azure registers each once, when asked to.",
                    f"Run: az provider register --namespace {namespace}",
                    code="MissingSubscriptionRegistration",
                )
        return backstop.by_logic_app() if by_logic_app else backstop.by_deallocation("this login may not assign roles")

    def _registration(self, namespace: str) -> str:
        with self._arm.asking(f"say whether {namespace} is registered"):
            return str(self._arm.resources.providers.get(namespace, cls=raw).get("registrationState"))

    def offers(self, request: OfferRequest) -> list[Offer]:
        """Every machine that would do, priced, where size and quota allow it. Creates nothing."""
        return self._market.offers(request, by_deallocation=not self._rights.may_assign())

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """The store as the agent's orders name it. Raises InvalidRequest, AuthError."""
        store = machine_store(request, self._settings, os.environ)
        region = region_of(store["account"], str(self._settings["identity"]), self._arm)
        return {**store, "region": region} if region else store

    def calls(self, offer: Offer) -> list[str]:
        """What `create` would call for this offer, in order."""
        group = "/resourceGroups/gpulaunch-JOB-N"
        where = offer.region + (f", zone {offer.zone}" if offer.zone else "")
        machine = (
            f"PUT {group}/…/virtualMachines/{MACHINE}: {offer.instance_type}, disk, interface, address; create-only"
        )
        calls = [f"PUT {group} in {where}", f"PUT {group}/…/virtualNetworks/{NETWORK}"]
        if backstop.is_by_deallocation(offer):
            return [*calls, machine, "POST Microsoft.ComputeSchedule virtualMachinesSubmitDeallocate at the deadline"]
        role = "PUT {group}/…/roleAssignments/…: the {who} may delete this group"
        timer = f"PUT {group}/…/workflows/{TIMER}: deletes this group at the deadline"
        return [*calls, timer, role.format(group=group, who="timer"), machine, role.format(group=group, who="machine")]

    # The machine

    def create(self, intent: Intent) -> Machine:
        """Make the machine with its timer armed, or return the one that this token made already."""
        return self._launch.create(intent, {**self._settings, **intent.settings})

    def get(self, machine_id: str) -> Machine:
        """The machine as it is now. Raises MachineNotFound once its resource group is gone, and all with it."""
        group = find_group(self._arm, machine_id)
        if group is None:
            raise self._gone(machine_id)
        found = find_machine(self._arm, machine_id)
        return self._sightings.describe(group, found)

    def _gone(self, machine_id: str) -> MachineNotFound:
        """What is left of a machine: the activity log's word, or ours where the log does not tell yet."""
        seen = self._sightings.gone(machine_id)
        self._doomed_since.pop(machine_id, None)
        try:
            life = life_of(self._arm, machine_id, since=None if seen is None else seen.created_at)
            told = evidence(self._arm, machine_id, life, region="" if seen is None else seen.region)
        except ProviderError:  # it is gone whatever the log says
            told = None
        return MachineNotFound(
            f"The resource group {machine_id} is gone.", machine=told or seen, code="ResourceGroupNotFound"
        )

    def list(self, owner: str) -> list[Machine]:
        """Every group with this owner's tag, and its machine. Pages fully, or raises."""
        with self._arm.asking("list resource groups"):
            tagged = f"tagName eq '{TAG_OWNER}' and tagValue eq '{owner}'"
            groups = [as_json(each) for each in self._arm.resources.resource_groups.list(filter=tagged)]
        if not groups:
            return []
        with self._arm.asking("list machines"):
            rows = [as_json(each) for each in self._arm.compute.virtual_machines.list_all(status_only="true")]
        found = {_group_of(row["id"]): row for row in rows}
        machines = []
        for group in groups:
            # A listing may be behind: what it does not show is looked for by name.
            machine = found.get(group["name"].lower()) or find_machine(self._arm, group["name"])
            machines.append(self._sightings.describe(group, machine))
        return machines

    def delete(self, machine_id: str) -> None:
        """Order the resource group deleted. Raises what stands in the way: a lock, a deletion that hangs."""
        group = find_group(self._arm, machine_id)
        if group is None:
            return
        delete_group(self._arm, machine_id)
        operation = (group.get("tags") or {}).get(TAG_TIMER)
        since_s = self._doomed_since.get(machine_id)
        if since_s is None:
            self._doomed_since[machine_id] = self._clock.monotonic()
            if operation:
                self._cancel(str(group["location"]), operation)
        elif is_deleting(group):
            self._name_what_hangs(machine_id, self._clock.monotonic() - since_s)

    def _cancel(self, region: str, operation: str) -> None:
        """Its machine goes anyway, and then the deallocation finds nothing: no reason to hold up a deletion."""
        try:
            backstop.cancel_deallocation(self._arm, region, operation)
        except ProviderError:
            return

    def _name_what_hangs(self, machine_id: str, for_s: float) -> None:
        if for_s < HUNG_S:
            return
        with self._arm.asking("list what is left"):
            rows = self._arm.resources.resources.list_by_resource_group(machine_id)
            left = sorted(as_json(each)["type"].rpartition("/")[2] for each in rows)
        raise ProviderUnavailable(
            f"The resource group {machine_id} has been deleting for {int(for_s // 300) * 5} minutes.",
            f"Still there: {', '.join(left) or 'the group alone'}. It may still bill.",
            f"Look at it: az resource list --resource-group {machine_id}, and {console_url(self._arm, machine_id)}",
            code="DeletionHangs",
        )

    def heartbeat(self, machine_id: str) -> bytes:
        """The tail of the serial log, or nothing. After the machine's end: the last that was read."""
        return self._consoles.tail(machine_id)

    def console_url(self, machine_id: str) -> str | None:
        """The group's page in the portal."""
        return console_url(self._arm, machine_id)

    def close(self) -> None:
        """Close the connections."""
        self._arm.close()


def _group_of(resource_id: str) -> str:
    """The resource group in an id; Azure writes it in any case."""
    parts = resource_id.lower().split("/")
    return parts[parts.index("resourcegroups") + 1]


if TYPE_CHECKING:

    def _conforms(provider: AzureProvider) -> Provider:
        return provider
