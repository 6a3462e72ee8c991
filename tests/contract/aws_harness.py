"""AWS under the contract: the real SDK over HTTP against the cloud in small, on a virtual clock.

No machine boots: this harness plays the agents. They are heard half a minute after the launch, and end their machines
at the deadline of the tags. Schedules fire as the clock moves.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec
from aws_cloud import REGIONS, the_cloud
from harness import Harness

from launcher.agent.heartbeat import encode
from launcher.core.clock import SystemClock, VirtualClock
from providers.aws.provider import AwsProvider
from providers.base import Intent, MachineNotFound, read_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

STEP_S = 15.0
BOOTS_S = 30.0
BEATS_S = 15.0
ROLE = "arn:aws:iam::123456789012:role/gpulaunch-scheduler"


class AwsHarness(Harness):
    """An account of its own, as far as a test can see. Waiting moves the clock by a quarter of a minute at a time."""

    def __init__(self, folder: Path) -> None:
        self._clock = VirtualClock(SystemClock().now())
        self.cloud = the_cloud()
        self.cloud.clear()
        self.cloud.now = self._clock.now
        self.cloud.regions = REGIONS[:2]  # an account that uses no more: each region costs calls
        self._settings = {"scheduler_role_arn": ROLE}
        self._born: dict[str, datetime] = {}
        self._silent: set[str] = set()
        with mock.patch.dict(os.environ, self.cloud.variables() | {"HOME": str(folder)}):
            self.provider: AwsProvider = AwsProvider(clock=self._clock, home=str(folder), settings=self._settings)
            self.provider.preflight()
        self.hard_after_s = 300.0
        self.up_within_s = BOOTS_S + STEP_S
        self.gone_within_s = 60.0
        self.keeps_evidence = True

    def now(self) -> datetime:
        """The virtual wall clock, which is the cloud's too."""
        return self._clock.now()

    def boot_data(self) -> bytes:
        """Nothing boots."""
        return b"#cloud-config"

    def intent(self, token: str = "job-1-1", **how: Any) -> Intent:
        """A frozen request with the role for its timer."""
        return msgspec.structs.replace(super().intent(token, **how), settings=self._settings)

    def wait_until(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Move the clock on by steps, and let the machines live meanwhile."""
        end_s = self._clock.monotonic() + within_s
        while not condition():
            assert self._clock.monotonic() < end_s, f"waited {within_s:.0f} s for {what}"
            self._clock.advance(min(STEP_S, end_s - self._clock.monotonic()))
            self._live()

    def _live(self) -> None:
        """What the machines and their timers do until now."""
        for instance in self.cloud.alive():
            born = self._born.setdefault(instance, self.now())
            deadline = read_tags({tag["key"]: tag["value"] for tag in self._tags(instance)}).hard_deadline
            assert deadline is not None
            if instance in self._silent:
                continue
            beats = int(((self.now() - born).total_seconds() - BOOTS_S) // BEATS_S) + 2
            lines = (encode(number, {"state": "running"}) for number in range(1, beats + 1))
            self.cloud.put_console(instance, "".join(f"{line}\n" for line in lines))
            if self.now() >= deadline:
                self.cloud.power_off(instance)
        self.cloud.fire_schedules()

    def _tags(self, instance: str) -> list[dict[str, str]]:
        return list(self.cloud.instances()[instance].get_tags())

    def kill_agent(self, machine_id: str) -> None:
        """Its console says nothing new, and nobody ends it from inside."""
        self._silent.add(machine_id.partition("/")[2])

    def existing(self) -> set[str]:
        """Every machine of which something is left, as the cloud itself knows."""
        if not self.cloud.left():
            return set()
        return {f"{self.cloud.region_of(instance)}/{instance}" for instance in self.cloud.alive()} or {"leftovers"}

    def is_gone(self, machine_id: str) -> bool:
        """Like a guard, order it destroyed again while something is left of it."""
        try:
            self.provider.get(machine_id)
        except MachineNotFound:
            return True
        if machine_id.partition("/")[2] not in self.cloud.alive():
            self.provider.delete(machine_id)
        return False

    def close(self) -> None:
        """Leave the cloud as it was."""
        self.cloud.clear()
        self.cloud.regions = REGIONS
