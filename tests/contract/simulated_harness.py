"""The simulated cloud under the contract, in one of its shapes, on a virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import Harness

from launcher.agent.heartbeat import encode
from launcher.core.clock import VirtualClock
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.provider import SimulatedProvider
from providers.simulated.script import Script
from providers.simulated.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

STEP_S = 1.0


class SimulatedHarness(Harness):
    """A fresh cloud whose trainings never end by themselves. Waiting moves its clock by a second at a time."""

    def __init__(self, folder: Path, shape_name: str) -> None:
        shape = SHAPES[shape_name]
        self._clock = VirtualClock()
        self._cloud = SimulatedCloud(self._clock, shape=shape, encode=encode, script=Script(finishes_after_s=None))
        self.provider = SimulatedProvider(clock=self._clock, home=str(folder), settings={"cloud": self._cloud})
        self.hard_after_s = 900.0
        self.up_within_s = shape.pending_s.most + shape.boot_s.most + shape.console_lag_s + STEP_S
        self.gone_within_s = shape.delete_s.most + shape.list_lag_s + STEP_S
        self.keeps_evidence = True

    def now(self) -> datetime:
        """The virtual wall clock."""
        return self._clock.now()

    def boot_data(self) -> bytes:
        """Nothing boots, so nothing is needed."""
        return b""

    def wait_until(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Move the clock on by steps."""
        end_s = self._clock.monotonic() + within_s
        while not condition():
            assert self._clock.monotonic() < end_s, f"waited {within_s:.0f} s for {what}"
            self._clock.advance(min(STEP_S, end_s - self._clock.monotonic()))

    def kill_agent(self, machine_id: str) -> None:
        """Silence the simulated agent."""
        self._cloud.kill_agent(machine_id)

    def existing(self) -> set[str]:
        """What the cloud itself knows to exist."""
        return {machine.id for machine in self._cloud.existing()}

    def close(self) -> None:
        """Its memory is all there was."""
