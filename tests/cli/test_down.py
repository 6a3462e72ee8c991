"""`gpulaunch down`: jobs end, and their machines are seen gone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from command_lab import alive, wait_until

if TYPE_CHECKING:
    from command_lab import Lab

SAVES_ON_SIGTERM = """
import signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("by", ["name", "job"])
def test_down_ends_a_running_job(lab: Lab, by: str) -> None:
    """By name or by id; what ran is dead when the command returns, and the ending is told."""
    lab.write_job()
    view = lab.launch()
    training = lab.training_pid()
    done = lab.run("down", view[by], "--yes")

    assert done.code == 0
    assert done.out.startswith("job: cancelled (DOWN)\n")
    assert not alive(training)
    assert lab.live() == []


def test_a_training_may_save_before_it_ends(lab: Lab) -> None:
    """`down` sends SIGTERM, and the agent waits for the training."""
    lab.write_job([sys.executable, "-c", SAVES_ON_SIGTERM], grace="20s")
    lab.launch(cap="0.10")
    wait_until(lambda: lab.run("logs", "job").out == "ready\n", "the training to be ready")
    lab.down()

    log = lab.run("logs", "job").out.splitlines()

    assert (log[0], log[-1]) == ("ready", "saved")


def test_down_all_ends_every_job(lab: Lab) -> None:
    """One command and one JSON document for all of them."""
    lab.write_job()
    lab.launch()
    assert lab.run("up", "--budget", "0.05", "--yes", "--detach", "--name", "other").code == 0
    done = lab.run("down", "--all", "--yes", "--json")

    assert done.code == 0
    assert {(view["name"], view["outcome"]) for view in done.document} == {("job", "cancelled"), ("other", "cancelled")}


def test_down_twice_is_no_error(lab: Lab) -> None:
    """What is gone already is said to be gone, and costs nothing more."""
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "5", "--yes").code == 0
    before = lab.views()
    done = lab.run("down", "job", "--yes")

    assert (done.code, done.err) == (0, "job is gone already.\n")
    assert lab.views() == before


def test_two_downs_at_once_agree(lab: Lab) -> None:
    """Both wait until the machine is seen gone."""
    lab.write_job()
    lab.launch()
    both = [lab.start("down", "job", "--yes", "--json") for _ in range(2)]

    assert [(done.code, done.document[0]["outcome"]) for done in map(lab.ended, both)] == [(0, "cancelled")] * 2


def test_an_attached_launch_sees_that_its_job_was_ended(lab: Lab) -> None:
    """`up` exits 6 when somebody else ends its job."""
    lab.write_job()
    up = lab.start("up", "--budget", "0.05", "--yes")
    lab.await_state("running")
    lab.down()
    done = lab.ended(up)

    assert done.code == 6
    assert done.out.startswith("job: cancelled (DOWN)\n")


def test_an_unknown_job_is_a_usage_error(lab: Lab) -> None:
    """Exit 2, whether or not there ever was a job here."""
    assert lab.run("down", "nothing", "--yes").code == 2
    assert not lab.home.exists()
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "5", "--yes").code == 0
    done = lab.run("down", "nothing", "--yes")

    assert done.code == 2
    assert "There is no job 'nothing'." in done.err


def test_down_without_a_job_is_a_usage_error(lab: Lab) -> None:
    """Neither a name nor --all, or both of them: nothing is guessed."""
    for args in ([], ["job", "--all"]):
        done = lab.run("down", *args, "--yes")

        assert done.code == 2
        assert "gpulaunch down --all" in done.err


def test_down_all_without_jobs_is_no_error(lab: Lab) -> None:
    """Nothing to do is success, and creates nothing."""
    done = lab.run("down", "--all", "--yes", "--json")

    assert (done.code, done.document) == (0, [])
    assert not lab.home.exists()


def test_off_a_terminal_down_needs_yes(lab: Lab) -> None:
    """Nothing is ended by a script that was not meant to."""
    lab.write_job()
    lab.launch()
    done = lab.run("down", "job")

    assert done.code == 2
    assert "--yes" in done.err
    assert lab.live() == ["job"]
    lab.down()


def test_down_starts_a_guard_when_none_lives(lab: Lab) -> None:
    """The guard was killed: `down` still sees the machine gone."""
    lab.write_job()
    lab.launch()
    lab.kill_guard()
    training = lab.training_pid()
    done = lab.run("down", "job", "--yes", "--json")

    assert (done.code, done.document[0]["outcome"]) == (0, "cancelled")
    assert not alive(training)
