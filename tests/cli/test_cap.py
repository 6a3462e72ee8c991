"""The cap holds: with every layer alive, and with each of them killed."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import psutil
import pytest
from command_lab import NEVER, SMALL_CAP, alive, spent, wait_until

if TYPE_CHECKING:
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


def assert_within_small_cap(view: dict[str, Any], outcome: str = "budget_reached") -> None:
    """The job ended by its cap, neither later nor much sooner, and the bill is known exactly."""
    assert (view["state"], view["outcome"]) == ("gone", outcome)
    assert SMALL_CAP_USED <= spent(view) <= Decimal(SMALL_CAP)
    assert view["spend_confirmed"] is True


def await_end(lab: Lab) -> None:
    """Wait until nothing of the one machine lives, its backstop included. No guard is needed for it, nor started."""
    wait_until((lab.machine() / "ended.json").exists, "the machine's end")
    wait_until(lambda: not lab.processes(), "its last process to end")


def test_a_job_that_never_ends_is_ended_by_its_cap(lab: Lab) -> None:
    """Exit 7, a bill between 75 and 100 % of the cap, and nothing left of its processes."""
    lab.write_job(NEVER, grace="2s")
    done = lab.run("up", "--budget", "0.02", "--yes", "--json")

    assert done.code == 7
    assert (done.document["outcome"], done.document["spend_confirmed"]) == ("budget_reached", True)
    assert Decimal("0.015") <= spent(done.document) <= Decimal("0.02")
    assert lab.processes("sleep") == []


def test_an_attached_launch_replaces_a_killed_guard(lab: Lab) -> None:
    """The guard dies in mid-run: another takes over, and the job ends as it would have."""
    lab.write_job()
    up = lab.start("up", "--budget", SMALL_CAP, "--yes", "--json")
    lab.await_state("running")
    lab.kill_guard()
    done = lab.ended(up)

    assert done.code == 7
    assert_within_small_cap(done.document)


def test_without_a_guard_the_agent_holds_the_cap(lab: Lab) -> None:
    """The guard dies and nobody replaces it; the next status accounts for the job rightly."""
    lab.write_job()
    lab.launch(cap=SMALL_CAP)
    lab.kill_guard()
    await_end(lab)

    assert lab.live() == ["job"]
    assert_within_small_cap(lab.status())


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


def test_without_guard_and_agent_the_backstop_holds_the_cap(lab: Lab) -> None:
    """Both are killed; the training is dead at the hard deadline, and the next status accounts for it."""
    lab.write_job()
    lab.launch(cap=SMALL_CAP)
    training = lab.training_pid()
    lab.kill_guard()
    psutil.Process(lab.agent_pid()).kill()
    await_end(lab)

    assert not alive(training)
    assert_within_small_cap(lab.status())


def test_without_guard_and_backstop_the_agent_holds_the_cap(lab: Lab) -> None:
    """Nobody saw the exact end, so the bill is an upper bound that is said to be one, and is within the cap."""
    lab.write_job()
    lab.launch(cap=SMALL_CAP)
    lab.kill_guard()
    psutil.Process(lab.backstop_pid()).kill()
    wait_until(lambda: not lab.processes(), "the agent to end its machine")
    view = lab.status()

    assert (view["outcome"], view["spend_confirmed"]) == ("budget_reached", False)
    assert SMALL_CAP_USED <= spent(view) <= Decimal(SMALL_CAP)


def test_a_killed_launcher_changes_nothing(lab: Lab) -> None:
    """`up` is a viewer once its machine is accepted."""
    lab.write_job()
    up = lab.start("up", "--budget", SMALL_CAP, "--yes")
    lab.await_state("running")
    up.kill()
    lab.await_state("gone")

    assert_within_small_cap(lab.status())


def test_a_closed_terminal_changes_nothing(lab: Lab) -> None:
    """Hang-up reaches `up` and what shares its session, and the job goes on to its own end."""
    lab.write_job()
    terminal = lab.terminal("up", "--budget", SMALL_CAP, "--yes")
    lab.await_state("running")
    terminal.close()
    wait_until(lambda: terminal.process.poll() is not None, "`up` to end with its terminal")
    lab.await_state("gone")

    assert_within_small_cap(lab.status())


@pytest.mark.parametrize("grace", ["0s", "2s"])
def test_a_training_that_ignores_sigterm_is_killed_after_its_grace(lab: Lab, grace: str) -> None:
    """The grace lies inside the cap."""
    lab.write_job([sys.executable, "-c", IGNORES_SIGTERM], grace=grace)
    cap = "0.0105"
    done = lab.run("up", "--budget", cap, "--yes", "--json")

    assert done.code == 7
    assert (done.document["outcome"], done.document["exit_code"]) == ("budget_reached", 137)
    assert Decimal("0.0085") <= spent(done.document) <= Decimal(cap)


def test_children_that_try_to_escape_end_with_the_job(lab: Lab) -> None:
    """Another session, another parent and a cleared environment: all of them are found."""
    lab.write_job([sys.executable, "-c", FORKS])
    done = lab.run("up", "--budget", SMALL_CAP, "--yes", "--json")
    pids = json.loads((lab.work / "pids").read_text())

    assert done.code == 7
    assert len(pids) == 3
    assert [pid for pid in pids if alive(pid)] == []


def test_the_backstop_finds_children_that_try_to_escape(lab: Lab) -> None:
    """With guard and agent killed, too."""
    lab.write_job([sys.executable, "-c", FORKS])
    lab.launch(cap=SMALL_CAP)
    wait_until((lab.work / "pids").exists, "the children to run")
    lab.kill_guard()
    psutil.Process(lab.agent_pid()).kill()
    await_end(lab)
    pids = json.loads((lab.work / "pids").read_text())

    assert [pid for pid in pids if alive(pid)] == []
    assert_within_small_cap(lab.status())
