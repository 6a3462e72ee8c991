"""The processes that are ours to end: the training, its children, and those that tried to leave.

Linux: the agent is made their reaper (prctl(2), PR_SET_CHILD_SUBREAPER), so that an orphan, even one with a session of
its own, becomes a child of the agent and never of init. What was started through another daemon is known by the marker
that it inherited in its environment. Elsewhere: descendants, and the training's process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from . import clock

PR_SET_CHILD_SUBREAPER = 36
MARKER = "GPULAUNCH_MACHINE"

children: dict[int, subprocess.Popen[Any]] = {}
"""Those started by us: `reap` sets their `returncode`, nobody else waits for them."""


class Process(NamedTuple):
    """A line of the process table. `start` tells a process from a later one with the same number."""

    parent: int
    group: int
    start: str


def adopt_orphans() -> bool:
    """Make every orphan among our descendants a child of ours. Says whether the system can."""
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        return not ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError):
        return False


def spawn(argv: list[str], **how: Any) -> subprocess.Popen[Any]:
    """Start a child that `reap` will look after. Raises OSError."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **how)
    children[child.pid] = child
    return child


def reap() -> None:
    """Collect every child that has ended, adopted ones too, and note how ours did."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            child = children.pop(ended[0], None)
            if child:
                child.returncode = os.waitstatus_to_exitcode(ended[1])


def read(pid: int | str) -> Process | None:
    """One living process, from Linux's /proc (proc_pid_stat(5)); None when it has ended."""
    try:
        # The name stands in parentheses and may itself hold any character.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else Process(int(fields[1]), int(fields[2]), fields[19])


def proc_table() -> dict[int, Process]:
    """Every living process, on Linux."""
    return {int(path.name): process for path in Path("/proc").glob("[0-9]*") if (process := read(path.name))}


def ps_table() -> dict[int, Process]:
    """Every living process, elsewhere (ps(1) as POSIX has it)."""
    found = {}
    with subprocess.Popen(["ps", "-axo", "pid=,ppid=,pgid=,stat="], stdout=subprocess.PIPE, text=True) as ps:
        for pid, parent, group, state in (line.split()[:4] for line in ps.stdout or ()):
            if state[0] != "Z" and int(pid) != ps.pid:
                found[int(pid)] = Process(int(parent), int(group), "")
    return found


def _line(pid: int, all_: dict[int, Process]) -> list[int]:
    """The process and its ancestors, as far as they are known."""
    line = [pid]
    while line[-1] in all_ and all_[line[-1]].parent not in line:
        line.append(all_[line[-1]].parent)
    return line


def _marked(pid: int) -> bool:
    mark = os.environ.get(MARKER)
    try:
        return bool(mark) and f"{MARKER}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # it has ended, or it is another user's


def ours(group: int = 0) -> dict[int, Process]:
    """Every living process that is ours to end; never this one, nor one that it descends from."""
    all_, me = proc_table() if sys.platform == "linux" else ps_table(), os.getpid()
    above = _line(me, all_)
    return {
        pid: process
        for pid, process in all_.items()
        if pid not in above
        and (me in _line(pid, all_) or (_marked(pid) if sys.platform == "linux" else process.group == group))
    }


def send(signal_number: int, group: int = 0) -> int:
    """Signal every process that is ours; returns how many there are."""
    found = ours(group)
    for pid, process in found.items():
        # The number may have gone to a stranger since the table was read.
        if sys.platform != "linux" or read(pid) == process:
            with contextlib.suppress(OSError):  # it has just ended, or is another user's: then it stays counted
                os.kill(pid, signal_number)
    return len(found)


def kill_all(limit_s: float, group: int = 0) -> bool:
    """SIGKILL all that is ours until none is left, or the time is up; says whether none is left."""
    until = clock.awake() + limit_s
    empty = 0
    # Reading the table takes a moment, in which a child can pass from a dying parent to us unseen: twice empty counts.
    while empty < 2:
        reap()
        empty = 0 if send(signal.SIGKILL, group) else empty + 1
        if clock.awake() > until:
            return False
        time.sleep(0.01)
    return True
