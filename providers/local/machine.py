"""A local machine's life: its age, its end, and the proof that it is gone. Used by the provider and the backstop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING

from launcher.core.clock import boot_id
from providers.base import ProviderUnavailable
from providers.local import processes

if TYPE_CHECKING:
    import psutil

    from launcher.core.clock import Clock
    from providers.local.folder import Folder

# A machine without an agent gets this long between SIGTERM and SIGKILL: nothing is left that could save its work.
ORPHAN_NOTICE_S = 3.0
# The shutdown signal of a `delete`: how long the agent may take to end the training and save.
NOTICE_S = 30.0


class LocalMachine:
    """One machine on this computer."""

    def __init__(self, folder: Folder, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock
        self.record = folder.record()
        self._told = False

    def age_s(self) -> float:
        """Seconds that this machine has lived, time asleep left out."""
        return max(self._clock.awake() - float(self.record["born_awake"]), 0.0)

    def is_of_this_boot(self) -> bool:
        """Whether this computer has not been restarted since: no process survives that."""
        return bool(self.record["boot"] == boot_id())

    def agent_pid(self) -> int | None:
        """The agent's pid, while it lives."""
        return self.folder.agent_pid()

    def backstop_lives(self) -> bool:
        """Whether the backstop lives."""
        return self.folder.is_held("backstop.lock")

    def members(self) -> list[psutil.Process]:
        """The living processes of the machine, without its backstop."""
        agent, backstop = self.agent_pid(), self._backstop_pid()
        found = processes.members(self.folder.id, agent=agent, backstop=backstop)
        # The agent dies first: it must not take the death of its training for the training's own end.
        return sorted(found, key=lambda process: process.pid != agent)

    def _backstop_pid(self) -> int | None:
        if not self.backstop_lives():
            return None
        text = self.folder.tail("backstop.pid", 20)  # it takes its lock first, then writes its pid
        return int(text) if text else None

    def has_container(self) -> bool:
        """Whether the training's container exists. Raises ProviderUnavailable when docker does not answer."""
        name = self.record.get("container")
        if not name:
            return False
        try:
            return processes.container_runs(name)
        except (OSError, subprocess.SubprocessError) as error:
            raise ProviderUnavailable(
                f"Docker does not say whether the container {name} is gone: {error}.",
                "Its end must be seen before the job can be called ended.",
                "Start docker, or remove the container by hand.",
            ) from error

    def shut_down(self) -> None:
        """Drive the machine's end one step on: SIGTERM at first, SIGKILL after the notice or at the hard deadline."""
        ordered_s = self.folder.delete_ordered_s()
        age_s = self.age_s()
        agent = self.agent_pid()
        notice_s = NOTICE_S if agent is not None else ORPHAN_NOTICE_S
        if age_s >= self.record["hard_after_s"] or (ordered_s is not None and age_s >= ordered_s + notice_s):
            self.kill()
        elif not self._told:
            self._told = True
            if agent is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(agent, signal.SIGTERM)
            else:
                processes.send(self.members(), signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to every process of the machine but its backstop, and the container removed.

        A backstop that somebody stopped goes on, so that it can write down the end and leave.
        """
        processes.send(self.members(), signal.SIGKILL)
        backstop = self._backstop_pid()
        if backstop is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(backstop, signal.SIGCONT)
        if self.record.get("container"):
            processes.remove_container(self.record["container"])

    def is_dead(self) -> bool:
        """Whether nothing of the machine but its backstop lives."""
        return self.agent_pid() is None and not self.members() and not self.has_container()

    def record_end(self, *, billed_s: float, exact: bool) -> None:
        """Write down that the machine is gone, and what it billed. Raises OSError when the disk refuses."""
        self.folder.write_ended({"billed_s": round(billed_s, 3), "exact": exact, "at": self._clock.now().isoformat()})
