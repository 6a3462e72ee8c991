"""Which processes are ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from agent_harness import wait_until

from launcher.agent import processes
from launcher.agent.processes import Process

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_both_tables_agree_on_a_child() -> None:
    """ps(1), for systems without /proc, tells the same parent and group."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as child:
        by_proc, by_ps = processes.proc_table()[child.pid], processes.ps_table()[child.pid]
        child.kill()

    assert by_proc[:2] == by_ps[:2] == (os.getpid(), child.pid)


@linux
def test_zombies_are_not_alive() -> None:
    """A dead child that nobody has collected needs no more killing."""
    with subprocess.Popen(["true"]) as child:
        wait_until(lambda: processes.read(child.pid) is None)
        listed = child.pid in processes.ps_table()

    assert not listed


def test_ours_are_the_descendants_and_never_the_ancestors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker in an ancestor's environment, or in our own, makes neither a target."""
    me = os.getpid()
    table = {
        1: Process(0, 1, "0"),
        50: Process(1, 50, "1"),
        me: Process(50, me, "2"),
        me + 1: Process(me, me + 1, "3"),
        me + 2: Process(me + 1, me + 2, "4"),
        me + 3: Process(1, me + 3, "5"),
        me + 4: Process(1, me + 4, "6"),
    }
    monkeypatch.setattr(processes, "proc_table", lambda: table)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(processes, "_marked", lambda pid: pid in (50, me, me + 3))

    assert set(processes.ours()) == {me + 1, me + 2, me + 3}


@linux
def test_a_number_that_was_given_to_a_stranger_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the signal a process may end, and another get its number."""
    with subprocess.Popen(["sleep", "600"]) as stranger:
        stale = Process(os.getpid(), stranger.pid, "1")
        monkeypatch.setattr(processes, "ours", lambda group=0: {stranger.pid: stale})
        count = processes.send(signal.SIGKILL)
        lives = processes.read(stranger.pid) is not None
        stranger.kill()

    assert (count, lives) == (1, True)
