"""Exactly what is asked of Azure, and in which words."""

from __future__ import annotations

import base64
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from azure_bench import Bench
from azure_checker import problems_with
from azure_things import AT_ONCE, Thing
from azure_world import CONTRIBUTOR_RIGHTS, SUBSCRIPTION

from launcher import launch
from providers.azure.requests import IMAGE
from providers.base import (
    AuthError,
    InvalidRequest,
    MachineState,
    OfferRequest,
    QuotaError,
    StoreRequest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azure_things import Vm

SUB = f"/subscriptions/{SUBSCRIPTION}"
GROUP = "/resourcegroups/gpulaunch-j-0123456789-1"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """One launcher and one cloud."""
    made = Bench(tmp_path / "home")
    yield made
    made.close()


def asked(bench: Bench, since: int) -> list[str]:
    """The requests since then: `G` is the attempt's group. Looks at operations are left out, repeats told once."""
    found: list[str] = []
    for method, url, _ in bench.world.requests[since:]:
        path = url.partition("?")[0].removeprefix(SUB).lower().replace(GROUP, "G").replace("/providers/microsoft", "")
        if "/roleassignments/" in path:
            path = path.rpartition("/")[0]
        line = f"{method} {path}"
        if "/operations/" not in path and line not in found[-1:]:
            found.append(line)
    return found


def test_a_launch_makes_exactly_these_calls(bench: Bench) -> None:
    """Everything that ends the machine but its own role is there before the machine, and each thing is put once."""
    bench.world.pace = replace(AT_ONCE, placed=20.0)
    bench.add()
    before = len(bench.world.requests)
    bench.provider.create(launch.thaw(bench.guard._creation.next_attempt(bench.job, [])))
    calls = asked(bench, before)
    machine = calls.index("PUT G.compute/virtualmachines/machine")

    assert ["GET G", "PUT G"] == calls[:2]
    assert sorted(calls[2:machine]) == [  # network and timer beside each other
        "GET G.network/virtualnetworks/network",
        "PUT G.authorization/roleassignments",
        "PUT G.logic/workflows/deadline",
        "PUT G.network/virtualnetworks/network",
    ]
    assert calls[machine:] == [
        "PUT G.compute/virtualmachines/machine",
        "GET G.compute/virtualmachines/machine",
        "PUT G.authorization/roleassignments",
    ]


def test_a_dry_run_names_what_is_put(bench: Bench) -> None:
    """One line for each thing, in order."""
    [offer, *_] = bench.offers()
    before = len(bench.world.requests)

    assert [
        "PUT /resourceGroups/gpulaunch-JOB-N in eastus, zone 1",
        "PUT /resourceGroups/gpulaunch-JOB-N/…/virtualNetworks/network",
        "PUT /resourceGroups/gpulaunch-JOB-N/…/workflows/deadline: deletes this group at the deadline",
        "PUT /resourceGroups/gpulaunch-JOB-N/…/roleAssignments/…: the timer may delete this group",
        (
            "PUT /resourceGroups/gpulaunch-JOB-N/…/virtualMachines/machine: Standard_NC4as_T4_v3, disk, interface, "
            "address; create-only"
        ),
        "PUT /resourceGroups/gpulaunch-JOB-N/…/roleAssignments/…: the machine may delete this group",
    ] == bench.provider.calls(offer)
    assert before == len(bench.world.requests)


def test_the_machine_is_as_it_must_be(bench: Bench) -> None:
    """Everything goes with it, nothing lets anyone in, no secret travels, and the driver is not refused."""
    vm = bench.started()
    properties = vm.body["properties"]
    [interface] = properties["networkProfile"]["networkInterfaceConfigurations"]
    [inside] = interface["properties"]["ipConfigurations"]
    address = inside["properties"]["publicIPAddressConfiguration"]
    key = properties["osProfile"]["linuxConfiguration"]["ssh"]["publicKeys"][0]["keyData"]
    network = next(thing for thing in bench.world.things.values() if thing.kind.endswith("virtualNetworks"))
    publisher, offer, sku, version = IMAGE.split(":")

    assert {"type": "SystemAssigned"} == vm.body["identity"]
    assert ["1"] == vm.body["zones"]
    assert {"securityType": "Standard"} == properties["securityProfile"]
    assert {"bootDiagnostics": {"enabled": True}} == properties["diagnosticsProfile"]
    assert {
        "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": version},
        "osDisk": {
            "createOption": "FromImage",
            "deleteOption": "Delete",
            "diskSizeGB": 100,
            "managedDisk": {"storageAccountType": "StandardSSD_LRS"},
        },
    } == properties["storageProfile"]
    assert ("Delete", "Delete") == (interface["properties"]["deleteOption"], address["properties"]["deleteOption"])
    assert {"name": "Standard", "tier": "Regional"} == address["sku"]
    assert "networkSecurityGroup" not in str(network.body)
    assert key.startswith("ssh-ed25519 ")
    assert base64.b64decode(properties["osProfile"]["customData"])[:2] == b"\x1f\x8b"  # boot data, gzipped
    assert "priority" not in properties


def test_no_two_machines_share_a_key(bench: Bench) -> None:
    """Its private half is forgotten before the request is sent."""
    from providers.azure.requests import throw_away_key

    assert throw_away_key() != throw_away_key()
    assert not any(bench.folder.rglob("*key*"))


def test_the_timer_deletes_its_own_group_from_the_hard_deadline_on(bench: Bench) -> None:
    """With an identity of its own, and again until it is gone together with what it deletes."""
    bench.started()
    workflow = next(thing for thing in bench.world.things.values() if thing.kind.endswith("workflows"))
    definition = workflow.body["properties"]["definition"]
    intent = msgspec.json.decode(bench.attempt.intent)

    assert {
        "frequency": "Minute",
        "interval": 5,
        "startTime": intent["hard_deadline"][:19] + "Z",
        "timeZone": "UTC",
    } == definition["triggers"]["deadline"]["recurrence"]
    assert "DELETE" == definition["actions"]["delete"]["inputs"]["method"]
    assert definition["actions"]["delete"]["inputs"]["uri"] == (
        f"https://management.azure.com{SUB}/resourcegroups/gpulaunch-j-0123456789-1?api-version=2021-04-01"
        "&forceDeletionTypes=Microsoft.Compute/virtualMachines"
    )
    assert {"type": "ManagedServiceIdentity", "audience": "https://management.azure.com/"} == (
        definition["actions"]["delete"]["inputs"]["authentication"]
    )


def test_roles_are_assigned_on_the_one_group_and_never_above(bench: Bench) -> None:
    """To the timer and to the machine, and to nobody else."""
    vm = bench.started()
    workflow = next(thing for thing in bench.world.things.values() if thing.kind.endswith("workflows"))
    roles = bench.world.roles.values()

    assert {f"{SUB}{GROUP}".lower()} == {role["scope"] for role in roles}
    assert {vm.principal, workflow.principal} == {role["principal"] for role in roles}


def test_the_role_that_init_made_is_used_where_it_is_configured(bench: Bench) -> None:
    """It holds one right: to delete the group."""
    made = f"{SUB}/providers/Microsoft.Authorization/roleDefinitions/11111111-2222-3333-4444-555555555555"
    bench.world.role_definitions["11111111-2222-3333-4444-555555555555"] = [
        "Microsoft.Resources/subscriptions/resourceGroups/delete"
    ]
    bench.provider._settings["role"] = made
    bench.world.finishes_after_s = 100.0
    bench.add()
    bench.run()

    assert {} == bench.left()
    assigned = [body for _, url, body in bench.world.requests if "roleAssignments" in url]
    assert {made} == {body["properties"]["roleDefinitionId"] for body in assigned}


def test_a_listing_pages_fully(bench: Bench) -> None:
    """The cloud's pages hold two groups each."""
    bench.add()
    bench.guard.tick()
    [group] = bench.world.groups.values()
    for number in range(2, 6):
        bench.world.groups[f"g{number}"] = type(group)(f"gpulaunch-x-{number}", "eastus", dict(group.tags))

    assert 5 == len(bench.provider.list("owner-1"))
    assert [] == bench.provider.list("owner-2")


def test_a_group_that_is_being_filled_is_pending_and_never_stopped(bench: Bench) -> None:
    """What is stopped is deleted: a listing that was taken during a launch must not end it."""
    bench.world.faults.add("refuse", method="PUT", path="virtualMachines", status=503, code="ServiceUnavailable")
    bench.add()
    bench.guard.tick()

    assert [MachineState.PENDING] == [machine.state for machine in bench.provider.list("owner-1")]


# Before a launch


def test_regions_without_quota_or_access_are_left_out(bench: Bench) -> None:
    """Asked first, so that no launch is lost on them; the family is matched however it is spelled."""
    bench.world.quota = {"eastus": 0, "centralus": 3}
    bench.world.restricted = {"eastus2"}
    regions = {offer.region for offer in bench.offers()}

    assert {"northcentralus", "southcentralus", "westus"} == regions


def test_the_next_handful_of_regions_is_asked_when_the_first_has_nothing(bench: Bench) -> None:
    """Six are asked at a time; the answers are kept for a while."""
    cheap = ("eastus", "centralus", "eastus2", "northcentralus", "southcentralus", "westus")
    bench.world.quota = dict.fromkeys(cheap, 0)
    first = {offer.region for offer in bench.offers()}
    before = len(bench.world.requests)
    bench.offers()
    sizes = [url for _, url, _ in bench.world.requests[before:] if "/skus" in url]

    assert {"westus2", "westus3"} == first
    assert [] == sizes


def test_a_subscription_without_quota_is_told_so(bench: Bench) -> None:
    """With the way out."""
    bench.world.quota = dict.fromkeys(
        ("eastus", "centralus", "eastus2", "northcentralus", "southcentralus", "westus", "westus2", "westus3"), 0
    )
    with pytest.raises(QuotaError) as caught:
        bench.offers()

    assert "QuotaExceeded" == caught.value.code
    assert "Quotas" in caught.value.fix


def test_spot_has_a_quota_of_its_own(bench: Bench) -> None:
    """lowPriorityCores; the bid is passed as the highest price."""
    offers = bench.offers(spot=True)

    assert {True, False} == {offer.spot for offer in offers}
    assert offers[0].spot
    assert Decimal("0.0627") == offers[0].parts[0].expected_usd_per_hour


@pytest.mark.parametrize("namespace", ["Microsoft.Compute", "Microsoft.Network", "Microsoft.Logic"])
def test_what_is_not_registered_is_named_with_the_command(bench: Bench, namespace: str) -> None:
    """Before any money is spent."""
    bench.world.unregistered = {namespace}
    with pytest.raises(AuthError) as caught:
        bench.provider.preflight()

    assert f"Run: az provider register --namespace {namespace}" == caught.value.fix


def test_a_login_that_may_not_make_groups_is_refused(bench: Bench) -> None:
    """A reader, for example."""
    bench.world.may = [{"actions": ["*/read"], "notActions": []}]
    with pytest.raises(AuthError) as caught:
        bench.provider.preflight()

    assert "Contributor" in caught.value.fix


def test_the_plan_says_what_is_armed_where_roles_are_refused(bench: Bench) -> None:
    """And keeps a day of disk and address inside the cap."""
    bench.world.may = CONTRIBUTOR_RIGHTS
    backstop = bench.provider.preflight()
    [offer, *_] = bench.offers()
    kept = offer.one_time[-1]

    assert backstop.armed
    assert "ComputeSchedule" in backstop.what
    assert "Role Based Access Control Administrator" in backstop.fix
    assert kept.usd == (offer.standing_usd_per_hour * 24).quantize(Decimal("0.000001"), rounding=ROUND_CEILING)


# The store


@pytest.mark.parametrize("url", ["s3://bucket/jobs", "gs://bucket/jobs", "/a/folder"])
def test_a_store_elsewhere_is_refused_with_the_way_out(bench: Bench, url: str) -> None:
    """A machine on Azure has no credential for another cloud."""
    with pytest.raises(InvalidRequest) as caught:
        bench.provider.machine_store(
            StoreRequest(url=url, job="j-1", until=bench.clock.now(), region="eastus", archive=None)
        )

    assert "gpulaunch init azure --apply" in caught.value.fix


def test_a_store_needs_the_identity_that_init_made(bench: Bench) -> None:
    """And then the machine carries it beside its own."""
    request = StoreRequest(url="az://jobs/mine", job="j-1", until=bench.clock.now(), region="eastus")
    with pytest.raises(AuthError):
        bench.provider.machine_store(request)
    identity = f"{SUB}/resourceGroups/gpulaunch/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x"
    bench.provider._settings |= {"storage_account": "acct", "identity": identity, "identity_client_id": "c-1"}
    store = bench.provider.machine_store(request)
    vm: Vm = bench.started()

    assert {"kind": "blob", "account": "acct", "container": "jobs", "prefix": "mine", "client_id": "c-1"} == store
    assert {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {identity: {}}} == vm.body["identity"]


def test_a_machine_is_told_where_its_store_is(bench: Bench) -> None:
    """Uploads to it are free in that region."""
    home = f"{SUB}/resourceGroups/gpulaunch/providers"
    identity = f"{home}/Microsoft.ManagedIdentity/userAssignedIdentities/x"
    bench.provider._settings |= {"storage_account": "acct", "identity": identity, "identity_client_id": "c-1"}
    account = f"{home}/Microsoft.Storage/storageAccounts/acct"
    thing = Thing(account, "Microsoft.Storage/storageAccounts", "gpulaunch", {"location": "East US"}, bench.clock.now())
    bench.world.things[account.lower()] = thing
    request = StoreRequest(url="az://jobs/mine", job="j-1", until=bench.clock.now(), region="eastus")

    assert bench.provider.machine_store(request)["region"] == "eastus"


# The checker itself


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"properties": {"hardware_profile": {}}}, "properties.hardware_profile: unknown"),
        ({"location": None}, "location: expected string"),
        ({"tags": {"a": 1}}, "tags.a: expected string"),
        ({"properties": {"priority": "Cheap"}}, "properties.priority: 'Cheap' is none of"),
        ({"properties": {"osProfile": {"customData": "not base64!"}}}, "properties.osProfile.customData: not base64"),
        ({"properties": {"evictionPolicy": "Delete"}}, "properties.evictionPolicy: for spot machines only"),
    ],
)
def test_the_checker_finds_what_is_wrong(bench: Bench, change: dict[str, Any], problem: str) -> None:
    """A fake that accepts anything would prove nothing."""
    vm = bench.started()
    url = f"{vm.id}?api-version=2026-04-01"
    properties = {**vm.body["properties"], **change.get("properties", {})}
    wrong = {**vm.body, **change, "properties": properties}

    assert [] == problems_with("PUT", url, vm.body)
    assert any(problem in found for found in problems_with("PUT", url, wrong))


@pytest.mark.parametrize(
    ("method", "url", "problem"),
    [
        ("PUT", f"{SUB}/resourcegroups/g?api-version=2099-01-01", "newer than the newest known"),
        ("GET", f"{SUB}/resourcegroups/g", "query api-version"),
        ("GET", f"{SUB}/resourcegroups/g?api-version=2025-04-01&expand=x", "query expand: unknown"),
        ("POST", f"{SUB}/resourcegroups/g?api-version=2025-04-01", "there is no operation"),
    ],
)
def test_the_checker_knows_paths_versions_and_queries(method: str, url: str, problem: str) -> None:
    """A misspelled address is found too."""
    body = {"location": "eastus"} if method == "PUT" else None

    assert any(problem in found for found in problems_with(method, url, body))


def test_offers_ask_for_a_disk_that_the_image_fits_on(bench: Bench) -> None:
    """Smaller disks are priced, and made, as the smallest that does."""
    bench.provider.preflight()
    small = bench.provider.offers(OfferRequest(gpu="T4", disk_gb=10, spot=False))
    whole = bench.provider.offers(OfferRequest(gpu="T4", disk_gb=64, spot=False))

    assert whole[0].parts == small[0].parts
