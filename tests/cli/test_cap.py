"""The cap holds: with every layer alive, and with each of them killed."""

from __future__ import annotations

import json
import signal
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import psutil
from command_lab import NEVER, SMALL_CAP, alive, spent, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import Any

    from command_lab import Lab

# SMALL_CAP pays for 8.5 s; two of them are kept for the machine's own ending.
SMALL_CAP_USED = Decimal("0.0065")

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""

# In the order in which they are killed. Where `up` lives on, it starts another guard; where it does not, nobody does.
VICTIMS = [
    ("up",),
    ("guard",),
    ("backstop",),
    ("up", "guard"),
    ("up", "guard", "agent"),
    ("up", "guard", "backstop"),
]

# A child in the group, one in a session of its own, and one that also left its parent and cleared its environment.
FORKS = """
import json, os, subprocess, sys, time
sleep = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"]
pids = [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    stray = subprocess.Popen(sleep, env={}, start_new_session=True)
    os.write(writer, str(stray.pid).encode())
    os._exit(0)
os.wait()
pids.append(int(os.read(reader, 20)))
with open("pids.new", "w") as file:
    json.dump(pids, file)
os.rename("pids.new", "pids")
time.sleep(600)
"""


def assert_within_small_cap(view: dict[str, Any], *, confirmed: bool = True) -> None:
    """The job ended by its cap, neither later nor much sooner; without its backstop nobody saw the exact end."""
    assert (view["state"], view["outcome"]) == ("gone", "budget_reached")
    assert SMALL_CAP_USED <= spent(view) <= Decimal(SMALL_CAP)
    assert view["spend_confirmed"] is confirmed


def kill(victim: str, lab: Lab, up: subprocess.Popen[str]) -> None:
    """SIGKILL to one of the processes that a job has."""
    if victim == "up":
        up.kill()
        up.wait()
    elif victim == "guard":
        lab.kill_guard()
    else:
        psutil.Process(lab.agent_pid() if victim == "agent" else lab.backstop_pid()).kill()


def await_end(lab: Lab) -> None:
    """Wait until no process of this home lives. No guard is needed for it, nor started."""
    wait_until(lambda: not lab.processes(), "the last process to end")


def test_a_job_that_does_not_end_is_ended_by_its_cap(new_lab: Callable[[], Lab]) -> None:
    """Exit 7 and 75 to 100 % of the cap, whether the training obeys SIGTERM or is killed after its grace."""
    labs = [new_lab(), new_lab()]
    for lab, command in zip(labs, (NEVER, [sys.executable, "-c", IGNORES_SIGTERM]), strict=True):
        lab.write_job(command, grace="2s")
    started = [lab.start("up", "--budget", "0.02", "--yes", "--json") for lab in labs]
    trainings = [wait_until(lab.started_training_pid, "the training to start") for lab in labs]
    for lab, up in zip(labs, started, strict=True):
        done = lab.ended(up)

        assert done.code == 7
        assert (done.document["outcome"], done.document["spend_confirmed"]) == ("budget_reached", True)
        assert Decimal("0.015") <= spent(done.document) <= Decimal("0.02")
    assert [pid for pid in trainings if alive(pid)] == []


def test_any_one_layer_alone_holds_the_cap(new_lab: Callable[[], Lab]) -> None:
    """Whatever is killed by SIGKILL in mid-run, what is left ends the job by its cap, and accounts for it rightly.

    The cases run side by side, each in a home of its own.
    """
    cases = {victims: new_lab() for victims in VICTIMS}
    attached = {}
    for victims, lab in cases.items():
        lab.write_job([sys.executable, "-c", FORKS])
        attached[victims] = lab.start("up", "--budget", SMALL_CAP, "--yes", "--json")
    for victims, lab in cases.items():
        wait_until((lab.work / "pids").exists, "the training's children to run")
        for victim in victims:
            kill(victim, lab, attached[victims])
    for victims, lab in cases.items():
        if "up" in victims:
            await_end(lab)
        done = lab.ended(attached[victims])
        pids = json.loads((lab.work / "pids").read_text())

        assert done.code == (-signal.SIGKILL if "up" in victims else 7), victims
        assert_within_small_cap(lab.status(), confirmed="backstop" not in victims)
        assert [pid for pid in pids if alive(pid)] == [], victims
        assert len(pids) == 3


def test_the_guard_ends_a_job_whose_agent_was_killed(lab: Lab) -> None:
    """A training without an agent is not left to run: exit 5, `agent_lost`, its processes gone."""
    lab.write_job()
    up = lab.start("up", "--budget", "5", "--yes", "--json")
    lab.await_state("running")
    training = lab.training_pid()
    psutil.Process(lab.agent_pid()).kill()
    done = lab.ended(up)

    assert done.code == 5
    assert (done.document["outcome"], done.document["reason"]) == ("agent_lost", "AGENT_DEAD")
    assert done.document["spend_confirmed"] is True
    assert not alive(training)


def test_a_closed_terminal_changes_nothing(lab: Lab) -> None:
    """Hang-up reaches `up` and what shares its session, and the job goes on to its own end."""
    lab.write_job()
    terminal = lab.terminal("up", "--budget", SMALL_CAP, "--yes")
    lab.await_state("running")
    terminal.close()
    wait_until(lambda: terminal.process.poll() is not None, "`up` to end with its terminal")
    lab.await_state("gone")

    assert terminal.process.returncode == -signal.SIGHUP
    assert_within_small_cap(lab.status())


def test_children_that_try_to_escape_end_with_a_training_that_ends(lab: Lab) -> None:
    """The run is over when its main process is."""
    lab.write_job([sys.executable, "-c", FORKS.replace("time.sleep(600)\n", "")])
    done = lab.run("up", "--budget", "5", "--yes", "--json")
    pids = json.loads((lab.work / "pids").read_text())

    assert (done.code, done.document["outcome"]) == (0, "finished")
    assert [pid for pid in pids if alive(pid)] == []
