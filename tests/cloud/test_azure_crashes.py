"""kill -9 at every request to Azure, before it is sent and after it was carried out: another guard puts it right."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from azure_bench import azure_provider, make_job
from azure_doomed import live
from azure_server import AzureServer
from azure_things import AT_ONCE
from azure_world import CONTRIBUTOR_RIGHTS, OWNER_RIGHTS, World

from launcher.core.clock import SystemClock
from launcher.journal import Journal
from providers.base import OfferRequest

if TYPE_CHECKING:
    from pathlib import Path

AT_ONE_TIME = 3
MOST_REQUESTS = 80
# The SDKs are imported once, and each process that is to die is a copy.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["azure_doomed", "azure.mgmt.compute", "azure.mgmt.network", "azure.mgmt.logic"])
BOUND_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Where guards die: before the request is carried out or after, at which methods, in which world."""

    kind: str
    method: str
    least: int
    """Requests that there must be, at least."""
    may: list[dict[str, Any]] = field(default_factory=lambda: OWNER_RIGHTS)
    fails_with: str = ""
    may_stay: str = ""


def crash(folder: Path, walk: Walk, number: int) -> bool:
    """One life of a job whose first guard dies at its request `number`; False when it had fewer of them."""
    clock = SystemClock()
    server = AzureServer(World(clock, pace=AT_ONCE, may=walk.may)).start()
    provider = azure_provider(server.url, clock, folder)
    try:
        provider.preflight()
        offers = provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=False))
        journal = Journal(folder)
        journal.add_job(make_job(provider, offers, now=clock.now()), now=clock.now())
        journal.close()
        if walk.fails_with:
            server.world.faults.add("fail", method="PUT", path="virtualMachines", code=walk.fails_with)
        died = _first_guard_died(server, folder, walk, number)
        live(server.url, folder, os.getpid())
        _assert_right(server, folder, walk)
    finally:
        provider.close()
        server.close()
    return died


def _first_guard_died(server: AzureServer, folder: Path, walk: Walk, number: int) -> bool:
    go = PROCESSES.Event()
    guard = PROCESSES.Process(target=live, args=(server.url, folder, 1, go))
    guard.start()
    with server.lock:
        rule = server.world.faults.add(walk.kind, method=walk.method, skip=number, pid=guard.pid)
    go.set()
    guard.join(BOUND_S)
    assert guard.exitcode in (0, -signal.SIGKILL), guard.exitcode
    died = guard.exitcode != 0
    guard.close()
    rule.times = 0
    return died


def _assert_right(server: AzureServer, folder: Path, walk: Walk) -> None:
    """Nothing is left, nothing was there twice, and the ledger is not below the bill."""
    with server.lock:
        server.world.look()
        now = server.world.clock.now()
        journal = Journal(folder)
        try:
            [job] = journal.jobs()
            spend_usd = sum(attempt.cost_usd(now) for attempt in journal.attempts(job.id))
        finally:
            journal.close()
        left = server.world.left()
        assert {kind: number for kind, number in left.items() if kind != walk.may_stay} == {}
        assert server.world.problems == []
        assert spend_usd >= server.world.bill.total_usd(now)
        machines = [what for kind, what in server.world.bill.lines if kind == "compute"]
        assert len(machines) <= 1, machines


WALKS = {
    "before": Walk(kind="kill", method=".*", least=15),
    "after": Walk(kind="kill_after", method="PUT|DELETE", least=6),
    "no capacity": Walk(kind="kill_after", method="PUT|DELETE", fails_with="AllocationFailed", least=6),
    # A deallocation that was accepted by a process that died before it noted its number cannot be taken back. At its
    # time it finds no machine.
    "roles refused": Walk(
        kind="kill_after", method="PUT|DELETE|POST|PATCH", may=CONTRIBUTOR_RIGHTS, may_stay="schedules", least=6
    ),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", WALKS)
def test_a_guard_may_be_killed_at_any_request(tmp_path: Path, name: str) -> None:
    """From the first look at the group until it is seen gone."""
    walk = WALKS[name]
    numbers = count()
    died = [True]
    lives = 0
    with ThreadPoolExecutor(AT_ONE_TIME) as pool:
        while all(died):
            batch = [next(numbers) for _ in range(AT_ONE_TIME)]
            doing = [pool.submit(crash, tmp_path / f"{number}", walk, number) for number in batch]
            died = [each.result() for each in doing]
            lives += sum(died)
            assert lives < MOST_REQUESTS, "the guard's requests have no end"

    assert walk.least <= lives
