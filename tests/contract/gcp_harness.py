"""Compute Engine under the contract: the real SDK over HTTP against the fake, on a virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gcp_server import FakeGcp
from gcp_state import Cloud
from harness import Harness

from launcher.core.clock import VirtualClock
from providers.gcp.provider import GcpProvider

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

STEP_S = 5.0


class GcpHarness(Harness):
    """A fresh project whose trainings never end by themselves. Waiting moves its clock by some seconds at a time."""

    def __init__(self, folder: Path) -> None:
        self._clock = VirtualClock()
        self._cloud = Cloud(self._clock)
        self._cloud.quotas["GPUS_ALL_REGIONS"] = 4.0
        self._fake = FakeGcp(self._cloud)
        settings = {
            "project": self._cloud.project,
            "endpoint": self._fake.url,
            "service_account": "gpulaunch@proj.iam.gserviceaccount.com",
        }
        self.provider = GcpProvider(clock=self._clock, home=str(folder), settings=settings)
        timing = self._cloud.timing
        self.hard_after_s = 300.0
        self.up_within_s = timing.pending_s + timing.boot_s + STEP_S
        self.gone_within_s = timing.delete_s + STEP_S
        self.keeps_evidence = True

    def now(self) -> datetime:
        """The virtual wall clock."""
        return self._clock.now()

    def boot_data(self) -> bytes:
        """The fake's agent is told all that it needs by the labels."""
        return b"#!/bin/sh\n"

    def wait_until(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Move the clock on by steps."""
        end_s = self._clock.monotonic() + within_s
        while not condition():
            assert self._clock.monotonic() < end_s, f"waited {within_s:.0f} s for {what}"
            self._clock.advance(min(STEP_S, end_s - self._clock.monotonic()))

    def kill_agent(self, machine_id: str) -> None:
        """Silence the fake's agent."""
        zone, _, name = machine_id.partition("/")
        self._cloud.instances[zone, name].agent.die(self._clock.now())

    def existing(self) -> set[str]:
        """What the fake itself knows to exist."""
        return self._cloud.existing()

    def close(self) -> None:
        """No request may have been one that Google would refuse."""
        self._fake.close()
        assert self._fake.problems == []
