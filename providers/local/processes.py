"""The processes that are a machine: found by their mark, by their parents, and by their group.

Each of them carries `GPULAUNCH_MACHINE=<id>` in its environment, unless it cleared it; then it is still a descendant of
the agent or of the backstop, because both adopt orphans where the system lets them (Linux, prctl(2)
PR_SET_CHILD_SUBREAPER). A process that cleared its environment and left its group after both were killed is not found;
on macOS none that did both is.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "GPULAUNCH_MACHINE"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
DOCKER_TIMEOUT_S = 20.0


def adopt_orphans() -> None:
    """Make this process the parent of every orphan among its descendants, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def members(machine_id: str, *, agent: int | None, backstop: int | None) -> list[psutil.Process]:
    """The living processes of a machine: those with its mark, and the descendants of its agent and backstop.

    The backstop itself is not among them: it goes when the last of them is gone.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if process.environ().get(MARK) == machine_id:
                found[process.pid] = process
    for root in (agent, backstop):
        with contextlib.suppress(psutil.NoSuchProcess):
            if root is not None:
                found.update({child.pid: child for child in psutil.Process(root).children(recursive=True)})
    return [process for pid, process in found.items() if pid != backstop and _lives(process)]


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each that still is the process it was (psutil compares its start)."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)


def container_runs(name: str) -> bool:
    """Whether the container of that name exists. Raises OSError or subprocess.SubprocessError when docker is mute."""
    answer = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"name=^/{name}$"],
        capture_output=True,
        timeout=DOCKER_TIMEOUT_S,
        check=True,
    )
    return bool(answer.stdout.strip())


def remove_container(name: str) -> None:
    """Kill and remove the container of that name. Removing what is gone is success."""
    subprocess.run(["docker", "rm", "--force", name], capture_output=True, timeout=DOCKER_TIMEOUT_S, check=False)
