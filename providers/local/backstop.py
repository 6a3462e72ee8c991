"""The backstop of a local machine: a process of its own, armed at creation, that outlives agent and guard.

It starts the agent, kills the machine at the hard deadline, drives a deletion that was
ordered, and writes down the end once it has seen everything dead. Run as `python -m providers.local.backstop FOLDER`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core.clock import SystemClock
from providers.base import ProviderUnavailable
from providers.local import processes
from providers.local.folder import Folder
from providers.local.machine import LocalMachine

if TYPE_CHECKING:
    from launcher.core.clock import Clock

LOOK_S = 0.2


class Backstop:
    """Watches one machine until nothing of it lives."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._machine = LocalMachine(folder, clock)
        self._agent: int | None = None

    def run(self) -> None:
        """Start the agent and stay until the machine is gone."""
        hard_after_s = float(self._machine.record["hard_after_s"])
        if self._machine.age_s() < hard_after_s and self._folder.delete_ordered_s() is None:
            self._start_agent()
        while True:
            _reap()
            age_s = self._machine.age_s()
            agent_lives = self._machine.agent_pid() is not None
            if age_s >= hard_after_s:
                self._machine.kill()
            elif self._folder.delete_ordered_s() is not None:
                self._machine.shut_down()
            elif not agent_lives and (self._folder.path / "result.json").exists():
                self._machine.kill()  # the agent has ended the run: what it left behind is not the training any more
            if not agent_lives and self._is_dead():
                self._machine.record_end(billed_s=self._machine.age_s(), exact=True)
                return
            self._clock.sleep(max(min(LOOK_S, hard_after_s - self._machine.age_s()), 0.01))

    def _is_dead(self) -> bool:
        try:
            return self._machine.is_dead()
        except ProviderUnavailable as error:
            print(error, file=sys.stderr, flush=True)
            return False

    def _start_agent(self) -> None:
        if not self._folder.claim_start():
            return
        lock = self._folder.hold("agent.lock")
        if lock is None:
            return
        record = self._machine.record
        environment = {
            **record["environment"],
            processes.MARK: self._folder.id,
            "GPULAUNCH_ORIGIN_AWAKE": repr(record["born_awake"]),
        }
        with (self._folder.path / "agent.log").open("ab") as log:
            agent = subprocess.Popen(
                [sys.executable, "-I", str(self._folder.path / "boot.py"), "agent"],
                cwd=self._folder.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self._folder.write_agent_pid(agent.pid)
        os.close(lock)  # the agent holds it now
        agent.returncode = 0  # reaped by _reap, with every orphan


def _reap() -> None:
    """Collect every child that has died: the agent, and the orphans that were adopted."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Guard the machine of the folder named on the command line, unless another backstop does."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    folder = Folder(Path(sys.argv[1]))
    lock = folder.hold("backstop.lock")
    if lock is None:
        return
    (folder.path / "backstop.pid").write_text(str(os.getpid()), encoding="ascii")
    processes.adopt_orphans()
    Backstop(folder, SystemClock()).run()


if __name__ == "__main__":
    main()
