"""A launcher and a cloud on one virtual clock: the real guard, journal and provider, and Azure in small behind HTTP."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from azure_server import AzureServer
from azure_world import SUBSCRIPTION, World

from launcher.core.clock import VirtualClock
from launcher.guard import Guard
from launcher.job import JobSpec, spec_to_json
from launcher.journal import Journal
from launcher.outcome import State
from launcher.records import Job
from providers.azure.provider import HEARTBEAT_S, POLL_S, AzureProvider
from providers.base import OfferRequest

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from azure_things import Vm

    from launcher.core.clock import Clock
    from launcher.records import Attempt
    from providers.base import Offer

OWNER = "owner-1"
STEP_S = 60.0


def azure_provider(url: str, clock: Clock, folder: Path, **settings: str) -> AzureProvider:
    """The provider, told where its cloud is by settings alone."""
    bound = {"subscription": SUBSCRIPTION, "endpoint": url, "prices_endpoint": f"{url}/prices"}
    return AzureProvider(clock=clock, home=str(folder), settings={**bound, **settings})


def make_job(
    provider: AzureProvider, offers: list[Offer], *, now: datetime, cap_usd: Decimal = Decimal(5), **spec: Any
) -> Job:
    """A job that was just asked for."""
    fields = {
        "name": "job",
        "command": ("train",),
        "image": "example.com/train:1",
        "workdir": "/work",
        "path": "/work/gpulaunch.yaml",
        "budget_usd": cap_usd,
        "egress_gb": Decimal(0),
        "store": "none",
        "grace_s": 60.0,
    }
    return Job(
        id="j-0123456789",
        name="job",
        account=provider.account,
        provider="azure",
        cap_usd=cap_usd,
        spec=spec_to_json(JobSpec(**(fields | spec))),
        created_at=now,
        settings=dict(provider.binding),
        offers=msgspec.json.encode(offers).decode(),
        layers={},
        owner=OWNER,
    )


class Bench:
    """One subscription, one state folder, and guards that come and go."""

    def __init__(self, folder: Path, **world: Any) -> None:
        self.folder = folder
        self.clock = VirtualClock()
        self.world = World(self.clock, **world)
        self.server = AzureServer(self.world).start()
        self._providers: list[AzureProvider] = []
        self.provider = self.another_provider(folder)
        # As in a real subscription, where calls are counted.
        self.provider.poll_s, self.provider.heartbeat_s = POLL_S, HEARTBEAT_S
        self.open()

    def another_provider(self, folder: Path) -> AzureProvider:
        """Another computer with the same login."""
        self._providers.append(azure_provider(self.server.url, self.clock, folder))
        return self._providers[-1]

    def open(self) -> None:
        """A guard on the journal."""
        self.journal = Journal(self.folder)
        self.journal._db.execute("PRAGMA synchronous = OFF")  # here nobody pulls the plug
        self.guard = Guard(
            self.journal.writer(self.provider.account, 1), self.provider, self.clock, launcher_alive=lambda _: True
        )

    def close(self) -> None:
        """Every request was as Microsoft describes it, and none carried a credential."""
        self.journal.close()
        for provider in self._providers:
            provider.close()
        self.server.close()
        assert self.world.problems == []

    def offers(self, *, spot: bool = False) -> list[Offer]:
        """What is on offer, after a look at the rights."""
        self.provider.preflight()
        return self.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=spot))

    def add(self, *, cap_usd: str = "5", spot: bool = False, **spec: Any) -> Job:
        """Write a job down, as `up` does."""
        offers = [offer for offer in self.offers(spot=spot) if offer.spot == spot]
        job = make_job(self.provider, offers, cap_usd=Decimal(cap_usd), now=self.clock.now(), **spec)
        self.journal.add_job(job, now=self.clock.now())
        return job

    def started(self, **how: Any) -> Vm:
        """A job whose training runs; its machine."""
        self.add(**how)
        self.tick_until(lambda: self.attempt.state == State.RUNNING)
        [vm] = self.world.machines()
        return vm

    def tick(self) -> None:
        """One look of the guard, and its pause."""
        wait_s = self.guard.tick()
        self.clock.advance(self.provider.poll_s if wait_s is None else wait_s)

    def tick_until(self, condition: Any, *, most: int = 3000) -> None:
        """Look until it holds."""
        for _ in range(most):
            self.tick()
            if condition():
                return
        raise AssertionError(f"still not so after {most} looks: {self.job}")

    def run(self) -> None:
        """Look until the job is gone."""
        self.tick_until(lambda: self.job.state == State.GONE)

    def pass_time(self, seconds: float) -> None:
        """Let time pass with nobody looking: no guard, no laptop."""
        end_s = self.clock.monotonic() + seconds
        while (left_s := end_s - self.clock.monotonic()) > 0:
            self.clock.advance(min(STEP_S, left_s))
            self.look()

    def look(self) -> None:
        """Let what was due in the cloud happen."""
        with self.server.lock:
            self.world.look()

    def cancel(self) -> None:
        """`gpulaunch down`."""
        self.journal.request_cancel(self.job.id, now=self.clock.now(), by="down")

    @property
    def job(self) -> Job:
        """The newest job."""
        return self.journal.jobs()[0]

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts."""
        return self.journal.attempts(self.job.id)

    @property
    def attempt(self) -> Attempt:
        """The last of them."""
        return self.attempts[-1]

    def spend_usd(self) -> Decimal:
        """What the ledger says."""
        now = self.clock.now()
        return sum((attempt.cost_usd(now) for attempt in self.attempts), Decimal(0))

    def bill_usd(self) -> Decimal:
        """What the cloud charges."""
        self.look()
        return self.world.bill.total_usd(self.clock.now())

    def left(self) -> dict[str, int]:
        """What exists in the cloud."""
        self.look()
        return self.world.left()

    def until_hard_deadline_s(self) -> float:
        """Seconds until the machine must start to die."""
        end = self.attempt.created_at + timedelta(seconds=self.attempt.hard_after_s)
        return (end - self.clock.now()).total_seconds()
