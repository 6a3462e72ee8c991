"""The real guard with a real journal, over HTTP against the fake, all on one virtual clock."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from gcp_server import FakeGcp
from gcp_state import Cloud

from launcher.core.clock import VirtualClock
from launcher.guard import Guard
from launcher.job import JobSpec, Resources, spec_to_json
from launcher.journal import Journal
from launcher.plan import make_plan
from launcher.records import Job
from providers.base import OfferRequest
from providers.gcp.provider import GcpProvider

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.records import Attempt

IDENTITY = "gpulaunch@proj.iam.gserviceaccount.com"


class Bench:
    """One project, one journal, one job, and guards that come and go."""

    def __init__(self, home: Path, *, identity: bool = True, **cloud: Any) -> None:
        self.home = home
        self.clock = VirtualClock()
        self.fake = FakeGcp(Cloud(self.clock, **cloud))
        self.cloud = self.fake.cloud
        self.settings = {"project": self.cloud.project, "endpoint": self.fake.url}
        if identity:
            self.settings["service_account"] = IDENTITY
        self.journal = Journal(home)
        self.new_guard()

    def new_guard(self) -> None:
        """A guard that knows nothing but the journal, as after a restart."""
        self.provider = GcpProvider(clock=self.clock, home=str(self.home), settings=self.settings)
        self.provider.poll_s, self.provider.heartbeat_s = GcpProvider.poll_s, GcpProvider.heartbeat_s
        self.writer = self.journal.writer(self.provider.account, 1)
        self.guard = Guard(self.writer, self.provider, self.clock, launcher_alive=lambda job: True)

    def launch(self, *, cap: str, spot: bool = False, **spec: Any) -> None:
        """Plan a job as `up` does, and write it down."""
        values: dict[str, Any] = {"name": "tiny", "command": ("train",), "workdir": "/work", "grace_s": 10.0}
        values |= {"path": "/work/gpulaunch.yaml", "image": "train:1", "egress_gb": Decimal(0), "store": "none"}
        job_spec = JobSpec(**(values | {"resources": Resources(spot=spot)} | spec))
        backstop = self.provider.preflight()
        offers = self.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=spot, has_image=True))
        if spot:
            offers = [offer for offer in offers if offer.spot]
        self.plan = make_plan(job_spec, offers, self.provider, backstop=backstop, cap_usd=Decimal(cap))
        job = Job(
            id="j-tiny",
            name="tiny",
            account=self.provider.account,
            provider="gcp",
            cap_usd=Decimal(cap),
            spec=spec_to_json(job_spec),
            created_at=self.clock.now(),
            settings={**self.settings, **self.provider.binding},
            offers=msgspec.json.encode([self.plan.offer, *self.plan.others]).decode(),
            layers={layer.name: layer.armed for layer in self.plan.layers},
            owner="owner-1",
        )
        self.journal.add_job(job, now=self.clock.now())

    def run(self, *, most: int = 2000) -> None:
        """Look until no job is left."""
        for _ in range(most):
            wait_s = self.guard.tick()
            if wait_s is None:
                return
            self.clock.advance(wait_s)
        raise AssertionError(f"a job still lives after {most} looks")

    def run_until_running(self) -> None:
        """Look until the training runs."""
        for _ in range(100):
            self.clock.advance(self.guard.tick() or 0.0)
            if self.attempts and self.attempts[-1].state == "running":
                return
        raise AssertionError("the training never ran")

    @property
    def job(self) -> Job:
        """The job as the journal has it."""
        return self.journal.job("j-tiny")

    @property
    def attempts(self) -> list[Attempt]:
        """Its attempts."""
        return self.journal.attempts("j-tiny")

    def spend_usd(self) -> Decimal:
        """What the ledger says."""
        now = self.clock.now()
        return sum((attempt.cost_usd(now) for attempt in self.attempts), Decimal(0))

    def close(self) -> None:
        """No request may have been one that Google would refuse."""
        self.journal.close()
        self.fake.close()
        assert self.fake.problems == []
