"""This computer under the contract: real processes on a real clock."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import psutil
from harness import Harness

from launcher import boot
from launcher.core.clock import SystemClock
from providers.local.provider import LocalProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

LOOK_S = 0.05
# A busy computer may take that long to start two Python processes, or to end them.
SLOW_S = 30.0


class LocalHarness(Harness):
    """A state folder of its own, whose trainings never end by themselves."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "home"
        self._work = folder / "work"
        self._work.mkdir()
        self._clock = SystemClock()
        self.provider: LocalProvider = LocalProvider(clock=self._clock, home=str(self._home), settings={})
        self.hard_after_s = 12.0
        self.up_within_s = SLOW_S
        self.gone_within_s = SLOW_S
        self.keeps_evidence = True

    def now(self) -> datetime:
        """The computer's wall clock."""
        return self._clock.now()

    def boot_data(self) -> bytes:
        """The real agent, with a training that sleeps. Its soft deadline is the hard one."""
        return boot.build(
            "local",
            {
                "job": "contract",
                "name": "contract",
                "attempt": 1,
                "command": ["sleep", "600"],
                "image": None,
                "env": {},
                "workdir": str(self._work),
                "soft_after_s": self.hard_after_s,
                "soft_outcome": "budget_reached",
                "soft_reason": "CAP",
                "hard_after_s": self.hard_after_s,
                "hard_at": None,
                "grace_s": 0.0,
                "notice_s": self.provider.shutdown_notice_s,
                "stall": {"no_output_s": None, "no_progress_s": None},
                "metrics": {},
                "early_stop": None,
                "rate_usd_per_hour": "3.60",
                "spent_usd": "0.00",
                "cap_usd": "5.00",
                "checkpoints": None,
                "store": None,
                "heartbeat_s": 1.0,
                "ending": "exit",
            },
        )

    def wait_until(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Look again and again."""
        end_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < end_s, f"waited {within_s:.0f} s for {what}"
            time.sleep(LOOK_S)

    def kill_agent(self, machine_id: str) -> None:
        """SIGKILL, once it has a training to leave behind."""
        folder = self._home / "machines" / machine_id
        for path in (folder / "training.json", folder / "agent.pid"):
            self.wait_until(lambda path=path: path.exists() and path.read_text() != "", within_s=SLOW_S, what=path.name)
        psutil.Process(int((folder / "agent.pid").read_text())).kill()

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Every living process of a machine of this harness: those with its mark, and its backstop."""
        ids = [path.name for path in self._home.glob("machines/*")]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                words = " ".join(process.cmdline())
                mark = process.environ().get("GPULAUNCH_MACHINE")
                for machine_id in ids:
                    mine = mark == machine_id or str(self._home / "machines" / machine_id) in words
                    if mine and process.status() != psutil.STATUS_ZOMBIE:
                        yield machine_id, process

    def existing(self) -> set[str]:
        """The machines that have a living process."""
        return {machine_id for machine_id, _ in self._processes()}

    def close(self) -> None:
        """SIGKILL to all."""
        while found := list(self._processes()):
            for _, process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        for child in self.provider._children:
            child.wait()
