"""A fake project, a provider that speaks to it over HTTP, and frozen requests for it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gcp_server import FakeGcp
from gcp_state import Cloud

from launcher.core.clock import VirtualClock
from providers.base import Intent, OfferRequest, make_tags
from providers.gcp.provider import GcpProvider

if TYPE_CHECKING:
    from pathlib import Path

IDENTITY = "gpulaunch@proj.iam.gserviceaccount.com"
HARD_S = 3600.0


class Project:
    """A fake project, a provider that speaks to it, and intents for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = VirtualClock()
        self.fake = FakeGcp(Cloud(self.clock))
        self.cloud = self.fake.cloud
        self.provider = self.new_provider()

    def new_provider(self, **settings: Any) -> GcpProvider:
        """As in another process."""
        known = {"project": "proj", "endpoint": self.fake.url, "service_account": IDENTITY}
        return GcpProvider(clock=self.clock, home=str(self.home), settings={**known, **settings})

    def intent(self, token: str = "j-1-1", *, zone: str = "us-central1-a", spot: bool = False) -> Intent:
        """A frozen request, made now."""
        request = OfferRequest(gpu="T4", disk_gb=100, spot=spot)
        offers = [each for each in self.provider.offers(request) if (each.zone, each.spot) == (zone, spot)]
        now = self.clock.now()
        deadline = now + timedelta(seconds=HARD_S)
        self.fake.calls.clear()
        return Intent(
            job="j-1",
            name="tiny",
            attempt=1,
            token=token,
            owner="owner-1",
            account=self.provider.account,
            offer=offers[0],
            created_at=now,
            hard_after_s=HARD_S,
            hard_deadline=deadline,
            tags=make_tags(job="j-1", attempt=1, owner="owner-1", cap_usd=Decimal(5), hard_deadline=deadline),
            disk_gb=100,
            boot_data=b"#!/bin/sh\necho hello\n",
            settings={"service_account": IDENTITY},
        )

    def bury(self, machine_id: str) -> None:
        """Delete a machine, and let it go."""
        self.provider.delete(machine_id)
        self.clock.advance(self.cloud.timing.delete_s + 1)
        assert self.cloud.existing() == set()
