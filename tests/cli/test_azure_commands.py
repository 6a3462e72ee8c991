"""The installed commands against Azure in small: from `up` to nothing left."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from azure_server import AzureServer
from azure_things import AT_ONCE
from azure_world import CONTRIBUTOR_RIGHTS, SUBSCRIPTION, World
from command_lab import Lab, wait_until

from launcher.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 30.0
"""For a command that waits for nothing, on a busy computer."""
UP = ("up", "--provider", "azure", "--budget", "5", "--yes", "--no-store", "--detach")


@pytest.fixture
def azure(lab: Lab) -> Iterator[AzureServer]:
    """A subscription where nothing takes time, and a lab whose commands speak to it."""
    server = AzureServer(World(SystemClock(), pace=AT_ONCE)).start()
    lab.env |= {**server.environment, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}
    lab.write_job(["python", "train.py"], image="example.com/train:1", local={}, egress_gb=0)
    yield server
    server.close()
    assert server.world.problems == []


def left(server: AzureServer) -> dict[str, int]:
    """What exists in the cloud."""
    with server.lock:
        server.world.look()
        return server.world.left()


def test_up_status_down_and_nothing_is_left(lab: Lab, azure: AzureServer) -> None:
    """No group, disk, interface, address, workflow, schedule, role assignment; the spend is at least the bill."""
    up = lab.run(*UP)
    lab.await_state("running")
    status = lab.status()
    full = left(azure)
    down = lab.run("down", "job", "--yes")
    after = lab.status()
    bill_usd = azure.world.bill.total_usd(azure.world.now)

    assert (0, 0) == (up.code, down.code), (up.err, down.err)
    assert "a Logic App deletes the resource group at the hard deadline" in up.err
    assert ("azure", "eastus", "Standard_NC4as_T4_v3") == (
        status["provider"],
        status["region"],
        status["instance_type"],
    )
    assert status["machine_id"].startswith("gpulaunch-j-")
    assert "portal.azure.com" in status["console_url"]
    assert (1, 1, 2) == (full["virtualMachines"], full["workflows"], full["roleAssignments"])
    assert ("gone", "cancelled", {}) == (after["state"], after["outcome"], left(azure))
    assert Decimal(after["spend_usd"]) >= bill_usd


def test_a_lost_reply_of_the_machines_create_makes_one_machine(lab: Lab, azure: AzureServer) -> None:
    """The guard replays the request under the same name."""
    azure.world.faults.add("lose", method="PUT", path="virtualMachines/machine$", times=2)
    up = lab.run(*UP)
    machines = len(azure.world.machines())
    lab.down()

    assert (0, 1) == (up.code, machines), up.err
    assert {} == left(azure)


def test_an_allocation_failure_moves_to_the_next_region(lab: Lab, azure: AzureServer) -> None:
    """And leaves nothing of the first."""
    azure.world.faults.add("fail", method="PUT", path="virtualMachines", code="AllocationFailed")
    up = lab.run(*UP)
    regions = {group.location for group in azure.world.groups.values()}
    view = lab.status()
    lab.down()

    assert (0, {"centralus"}, "centralus") == (up.code, regions, view["region"]), up.err
    assert {} == left(azure)


def test_a_guest_that_powered_itself_off_is_found_and_deleted(lab: Lab, azure: AzureServer) -> None:
    """Stopped is billed."""
    lab.run(*UP)
    lab.await_state("running")
    with azure.lock:
        for vm in azure.world.machines():
            azure.world.power_off(vm)
    lab.await_state("gone")

    assert {} == left(azure)
    assert "agent_lost" == lab.status()["outcome"]


def test_roles_refused_are_said_in_the_plan(lab: Lab, azure: AzureServer) -> None:
    """What is armed instead, what it leaves, and what arms the better one."""
    azure.world.may = CONTRIBUTOR_RIGHTS
    plan = lab.run("up", "--provider", "azure", "--budget", "5", "--no-store", "--dry-run", "--json")
    backstop = next(layer for layer in plan.document["layers"] if layer["name"] == "backstop")

    assert "ComputeSchedule deallocates" in backstop["what"]
    assert "Role Based Access Control Administrator" in backstop["fix"]
    assert any("a day after the deadline" in cost["name"] for cost in plan.document["one_time"])
    assert any("virtualMachinesSubmitDeallocate" in call for call in plan.document["calls"])


@pytest.mark.parametrize("named", [{}, {"AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}])
def test_without_credentials_the_fix_is_az_login_in_seconds(lab: Lab, named: dict[str, str]) -> None:
    """Exit 3, whether or not a subscription is named; nothing is waited for."""
    lab.env |= named
    lab.env["PATH"] = str(lab.user)  # no `az` here, wherever these tests run
    lab.write_job(["python", "train.py"], image="example.com/train:1", local={}, egress_gb=0)
    up = lab.ended(lab.start(*UP), bound_s=SECONDS)

    assert 3 == up.code, up.err
    assert "az login" in up.err


def test_sweep_from_elsewhere_needs_no_journal(lab: Lab, azure: AzureServer) -> None:
    """By tags alone, and only what is due."""
    lab.run(*UP)
    lab.await_state("running")
    dry = lab.run(
        "sweep", "--provider", "azure", "--dry-run", "--json", env={"GPULAUNCH_HOME": str(lab.user / "other")}
    )
    lab.down()

    assert [("azure", False, "left")] == [
        (each["provider"], each["past_deadline"], each["action"]) for each in dry.document
    ]


def test_init_prints_and_makes_what_jobs_need(lab: Lab, azure: AzureServer) -> None:
    """Storage, an identity for it and the role with one right; then the configuration knows them."""
    printed = lab.run("init", "azure")
    nothing = dict(azure.world.things)
    applied = lab.run("init", "azure", "--apply")
    again = lab.run("init", "azure", "--apply")
    config = (lab.home.parent / "config.yaml").read_text()
    kinds = {thing.kind.rpartition("/")[2] for thing in azure.world.things.values()}

    assert (0, 0, 0) == (printed.code, applied.code, again.code), (printed.err, applied.err, again.err)
    assert ({}, 6) == (nothing, printed.out.count("az rest --method put"))
    assert {"storageAccounts", "containers", "userAssignedIdentities"} == kinds
    assert [["Microsoft.Resources/subscriptions/resourceGroups/delete"]] == list(azure.world.role_definitions.values())
    for key in ("storage_account", "identity", "identity_client_id", "role", "store: az://gpulaunch/jobs"):
        assert key in config
    wait_until(lambda: not lab.processes(), "no process to be left")
