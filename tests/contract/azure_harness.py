"""Azure under the contract: the real SDKs over HTTP, and a cloud in this process on a virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azure_bench import azure_provider
from azure_server import AzureServer
from azure_world import World
from harness import Harness

from launcher.core.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

STEP_S = 5.0


class AzureHarness(Harness):
    """A fresh subscription whose trainings never end by themselves. Waiting moves its clock by seconds at a time."""

    def __init__(self, folder: Path) -> None:
        self._clock = VirtualClock()
        self._world = World(self._clock)
        self._server = AzureServer(self._world).start()
        self.provider = azure_provider(self._server.url, self._clock, folder)
        self.hard_after_s = 900.0
        self.up_within_s = 120.0
        self.gone_within_s = 180.0
        self.keeps_evidence = True

    def now(self) -> datetime:
        """The virtual wall clock."""
        return self._clock.now()

    def boot_data(self) -> bytes:
        """Nothing boots, so nothing is needed."""
        return b"#cloud-config\n"

    def wait_until(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Move the clock on by steps."""
        end_s = self._clock.monotonic() + within_s
        while not condition():
            assert self._clock.monotonic() < end_s, f"waited {within_s:.0f} s for {what}"
            self._clock.advance(min(STEP_S, end_s - self._clock.monotonic()))

    def kill_agent(self, machine_id: str) -> None:
        """Silence the agent of the cloud's machine."""
        with self._server.lock:
            self._world.look()
            for vm in self._world.machines():
                if vm.group == machine_id.lower():
                    vm.silent_at = self._world.now

    def existing(self) -> set[str]:
        """The groups that the cloud itself knows."""
        with self._server.lock:
            self._world.look()
            return {group.name for group in self._world.groups.values()}

    def close(self) -> None:
        """Every request was as Microsoft describes it."""
        self.provider.close()
        self._server.close()
        assert self._world.problems == []
