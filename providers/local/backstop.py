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
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core.clock import SystemClock
from providers.base import ProviderUnavailable
from providers.local import gpu, processes
from providers.local.folder import Folder
from providers.local.machine import LocalMachine

if TYPE_CHECKING:
    from launcher.core.clock import Clock

LOOK_S = 0.2
GPU_LOOK_S = 5.0


class Backstop:
    """Watches one machine until nothing of it lives."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._machine = LocalMachine(folder, clock)

    def run(self) -> None:
        """Start the agent and stay until the machine is gone."""
        hard_after_s = float(self._machine.record["hard_after_s"])
        if self._machine.age_s() < hard_after_s and self._folder.delete_ordered_s() is None:
            try:
                self._start_agent()
            except OSError:  # its locks say that there is none: the guard will see that, and delete the machine
                traceback.print_exc()
        # In a thread: a driver that hangs must not hold up the deadline.
        threading.Thread(target=self._measure_gpu, daemon=True).start()
        while True:
            try:
                if self._look(hard_after_s):
                    return
            except Exception:  # noqa: BLE001 - a fault (a full disk, a vanished process) must not end the watch
                traceback.print_exc()
            self._clock.sleep(max(min(LOOK_S, hard_after_s - self._machine.age_s()), 0.01))

    def _look(self, hard_after_s: float) -> bool:
        """Do what is due; True once the machine is gone and its end is written down."""
        _reap()
        agent_lives = self._machine.agent_pid() is not None
        if self._machine.age_s() >= hard_after_s:
            self._machine.kill()
        elif self._folder.delete_ordered_s() is not None:
            self._machine.shut_down()
        elif not agent_lives and (self._folder.path / "result.json").exists():
            self._machine.kill()  # the agent has ended the run: what it left behind is not the training any more
        if agent_lives or not self._is_dead():
            return False
        self._machine.record_end(billed_s=self._machine.age_s(), exact=True)
        return True

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

    def _measure_gpu(self) -> None:
        """A reading now and then, for as long as the driver and the disk allow."""
        try:
            meter = gpu.open_meter()
            while meter is not None:
                self._folder.write_gpu(meter.read(self._clock.awake()))
                self._clock.sleep(GPU_LOOK_S)
        except Exception as error:  # noqa: BLE001 - readings are a courtesy; whatever ends them is told in the log
            print(f"GPU readings end: {error}", file=sys.stderr, flush=True)


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
