"""A simulated cloud with its clock, for the tests of that cloud."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.agent import heartbeat
from launcher.core.clock import VirtualClock
from providers.base import Intent, MachineNotFound, MachineState, Offer, OfferRequest, make_tags
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.faults import Faults
from providers.simulated.offers import offers
from providers.simulated.provider import SimulatedProvider
from providers.simulated.script import Script
from providers.simulated.shapes import PLAIN, Shape

if TYPE_CHECKING:
    from collections.abc import Callable


OWNER = "owner-1"
FOR_EVER = Script(finishes_after_s=None)
MOMENT_S = 0.001


class Lab:
    """A cloud, its clock, and a provider on it."""

    def __init__(
        self,
        shape: Shape = PLAIN,
        script: Script | Callable[[Intent], Script] = FOR_EVER,
        *,
        seed: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.start_s = self.clock.monotonic()
        self.cloud = SimulatedCloud(
            self.clock, shape=shape, encode=heartbeat.encode, script=script, seed=seed, faults=faults
        )
        self.faults = self.cloud.faults
        self.provider = SimulatedProvider(clock=self.clock, home="", settings={"cloud": self.cloud})

    def intent(self, token: str = "job-1-1", *, hard_after_s: float = 7200.0, **changes: Any) -> Intent:
        """A frozen request for the first offer, made now."""
        spot = changes.pop("spot", False)
        regions = changes.pop("regions", ())
        request = OfferRequest(gpu="T4", disk_gb=100, spot=spot, regions=regions)
        now = self.clock.now()
        deadline = now + timedelta(seconds=hard_after_s)
        job = token.rpartition("-")[0]
        fields: dict[str, Any] = {
            "job": job,
            "name": "test",
            "attempt": 1,
            "token": token,
            "owner": OWNER,
            "account": self.provider.account,
            "offer": self.cloud_offers(request)[0],
            "created_at": now,
            "hard_after_s": hard_after_s,
            "hard_deadline": deadline,
            "tags": make_tags(job=job, attempt=1, owner=OWNER, cap_usd=Decimal(5), hard_deadline=deadline),
            "disk_gb": 100,
            "boot_data": b"",
        }
        return Intent(**(fields | changes))

    def cloud_offers(self, request: OfferRequest) -> list[Offer]:
        """Offers without a call that faults could meet."""
        return offers(self.cloud, request)

    def start(self, **changes: Any) -> str:
        """A machine, accepted now; its id."""
        return self.provider.create(self.intent(**changes)).id

    def run_until(self, at_s: float) -> None:
        """Go to that many seconds after the beginning, exactly."""
        self.clock.advance(self.start_s + at_s - self.clock.monotonic())
        self.cloud.settle()

    def step(self) -> bool:
        """Go to the next thing that happens by itself; False when nothing will."""
        next_s = self.cloud.next_event_s()
        if next_s is None:
            return False
        self.clock.advance(max(next_s - self.clock.monotonic(), 0.0))
        self.cloud.settle()
        return True

    def run_until_gone(self, machine_id: str) -> float:
        """Go on until nothing is left of it; the seconds since the beginning."""
        while any(machine.id == machine_id for machine in self.cloud.existing()):
            assert self.step(), f"{machine_id} never goes"
        return self.clock.monotonic() - self.start_s

    def run_until_state(self, machine_id: str, state: MachineState) -> float:
        """Go on until it is in that state; the seconds since the beginning."""
        while self.provider.get(machine_id).state is not state:
            assert self.step(), f"{machine_id} is never {state}"
        return self.clock.monotonic() - self.start_s

    def beat(self, machine_id: str) -> dict[str, Any]:
        """The newest heartbeat's content."""
        found = heartbeat.latest(self.provider.heartbeat(machine_id))
        assert found is not None
        return found[1]


def gone(lab: Lab, machine_id: str) -> bool:
    """The provider says that it is gone."""
    try:
        lab.provider.get(machine_id)
    except MachineNotFound:
        return True
    return False
