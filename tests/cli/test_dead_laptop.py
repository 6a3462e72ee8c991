"""Guard killed, agent dead, laptop closed past the hard deadline: the cloud's own timer ends all, `status` accounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from azure_bill import PriceList
from azure_server import AzureServer
from azure_things import AT_ONCE
from azure_world import CONTRIBUTOR_RIGHTS, SUBSCRIPTION, World
from command_lab import Lab, spent
from gcp_lab import CAP, quick_cloud, up, use
from gcp_server import FakeGcp
from movable_python import CloudClock, MovablePython

from launcher.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CENT = Decimal("0.01")
WORST_LATE_S = 900.0
"""More than either cloud's timer, and what it starts, may be late."""
AZURE_CAP = "2"
ONE_HOUR_S = 3600.0


class Laptop:
    """A lab whose time, and its cloud's, can pass while the lid is closed."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.python = MovablePython(folder / "python")
        self.clock = CloudClock()
        lab.gpulaunch = self.python.gpulaunch

    def closed_for(self, seconds: float) -> None:
        """Nobody looks for so long."""
        assert self.lab.guards() == []
        self.python.sleep_through(seconds)
        self.clock.pass_time(seconds)

    def closed_past_the_deadline(self) -> dict[str, Any]:
        """The guard is killed, and the lid stays closed until the cloud must have ended all; how the job stood."""
        before = self.lab.await_state("running")
        self.lab.kill_guard()
        deadline = datetime.fromisoformat(before["hard_deadline"])
        self.closed_for((deadline - self.clock.now()).total_seconds() + WORST_LATE_S)
        return before

    def status_accounts(self) -> dict[str, Any]:
        """The lid is opened: what has been written down when the guard that `status` starts has done its work."""
        self.lab.status()
        return self.lab.await_state("gone")


@pytest.fixture
def laptop(lab: Lab, tmp_path: Path) -> Laptop:
    """One with nothing on it."""
    return Laptop(lab, tmp_path)


@pytest.fixture
def gcp(laptop: Laptop) -> Iterator[FakeGcp]:
    """A project of the laptop's, whose machines never end by themselves."""
    cloud = quick_cloud()
    cloud.clock = laptop.clock
    fake = FakeGcp(cloud)
    use(laptop.lab, fake)
    yield fake
    fake.close()
    assert fake.problems == []
    assert cloud.existing() == set()


def test_google_deletes_the_machine_and_status_accounts(laptop: Laptop, gcp: FakeGcp) -> None:
    """By the run limit of the one insert. What `status` says is the bill to the cent, and the reserve for egress.

    Nobody heard how much the machine had sent, so the whole reserve counts.
    """
    done = up(laptop.lab, "--detach")
    laptop.lab.await_state("running")
    gcp.cloud.only().agent.die(laptop.clock.now())
    before = laptop.closed_past_the_deadline()
    left = gcp.cloud.existing()
    after = laptop.status_accounts()
    [machine] = gcp.cloud.lived()
    bill_usd = gcp.bill().total_usd

    assert done.code == 0, done.err
    assert left == set()
    assert before["cloud_deadline"] == machine.ends_by_limit_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert gcp.count("compute.instances.delete") == 0
    assert (after["outcome"], after["reason"]) == ("budget_reached", "HARD_DEADLINE")
    assert bill_usd <= spent(after) <= bill_usd + egress_reserve_usd(laptop.lab) + CENT
    assert spent(after) <= Decimal(CAP)


def egress_reserve_usd(lab: Lab) -> Decimal:
    """What the journal holds for the traffic of the one machine."""
    journal = Journal(lab.home)
    try:
        [job] = journal.jobs()
        [attempt] = journal.attempts(job.id)
        return attempt.egress_usd
    finally:
        journal.close()


@pytest.fixture
def azure(laptop: Laptop) -> Iterator[AzureServer]:
    """A subscription of the laptop's, whose standing prices are the dated table's with its margin."""
    pace = replace(AT_ONCE, timer_late=30.0, group_deleted=1.0, deallocated=30.0)
    prices = PriceList(factor=Decimal("1.10"), disk_operations_usd=Decimal("0.11"))
    server = AzureServer(World(laptop.clock, pace=pace, prices=prices)).start()
    laptop.lab.env |= {**server.environment, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}
    laptop.lab.write_job(["python", "train.py"], image="example.com/train:1", local={}, egress_gb=0)
    yield server
    server.close()
    assert server.world.problems == []


def rented(laptop: Laptop, azure: AzureServer) -> None:
    """A machine whose agent has died."""
    done = laptop.lab.run("up", "--provider", "azure", "--budget", AZURE_CAP, "--yes", "--no-store", "--detach")
    assert done.code == 0, done.err
    laptop.lab.await_state("running")
    with azure.lock:
        [vm] = azure.world.machines()
        vm.silent_at = laptop.clock.now()


def left(azure: AzureServer) -> dict[str, int]:
    """What exists in the cloud."""
    with azure.lock:
        azure.world.look()
        return azure.world.left()


def test_a_logic_app_deletes_the_group_and_status_accounts(laptop: Laptop, azure: AzureServer) -> None:
    """The bill is within the cap, and so is what `status` says, which is not below it."""
    rented(laptop, azure)
    laptop.closed_past_the_deadline()
    remained = left(azure)
    after = laptop.status_accounts()
    bill_usd = azure.world.bill.total_usd(azure.world.now)

    assert remained == {}
    assert (after["outcome"], after["reason"]) == ("budget_reached", "HARD_DEADLINE")
    assert bill_usd <= spent(after) <= Decimal(AZURE_CAP)


def test_with_roles_refused_a_sweep_from_elsewhere_removes_the_rest(
    laptop: Laptop, azure: AzureServer, tmp_path: Path
) -> None:
    """Compute is given back at the deadline; twenty hours later a computer that knows nothing removes disk and address.

    Then the first laptop is opened again: it finds nothing, and says so.
    """
    azure.world.may = CONTRIBUTOR_RIGHTS
    rented(laptop, azure)
    laptop.closed_past_the_deadline()
    remained, [vm] = left(azure), azure.world.machines()
    power = vm.power
    laptop.closed_for(20 * ONE_HOUR_S)
    elsewhere = {"GPULAUNCH_HOME": str(tmp_path / "elsewhere")}
    swept = laptop.lab.run("sweep", "--provider", "azure", "--yes", "--json", env=elsewhere)
    bill_usd = azure.world.bill.total_usd(azure.world.now)
    nothing = left(azure)
    after = laptop.status_accounts()

    assert (power, remained["bills"]) == ("deallocated", 2), remained  # disk and address
    assert (swept.code, [each["action"] for each in swept.document]) == (0, ["destroyed"]), swept.err
    assert nothing == {}
    assert after["outcome"] == "budget_reached"
    assert bill_usd <= spent(after) <= Decimal(AZURE_CAP)
