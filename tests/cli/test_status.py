"""`gpulaunch status`: where jobs stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from test_up import FIELDS

if TYPE_CHECKING:
    from command_lab import Lab


def test_without_any_job_status_says_so_and_creates_nothing(lab: Lab) -> None:
    """Looking leaves no trace."""
    assert lab.run("status", "--json").document == []
    done = lab.run("status")

    assert (done.code, done.out) == (0, "")
    assert "No job was ever launched here." in done.err
    assert not lab.home.exists()


def test_an_unknown_job_is_a_usage_error(lab: Lab) -> None:
    """Exit 2, whether or not there ever was a job here."""
    assert lab.run("status", "nothing").code == 2
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "5", "--yes").code == 0
    done = lab.run("status", "nothing", "--json")

    assert (done.code, done.out) == (2, "")
    assert "There is no job 'nothing'." in done.err


def test_status_shows_a_live_job(lab: Lab) -> None:
    """In the table, alone, and as JSON with every promised field."""
    lab.write_job()
    lab.launch()
    table = lab.run("status").out.splitlines()
    view = lab.status()

    assert table[0].split()[:3] == ["JOB", "STATE", "PROVIDER"]
    assert table[1].split()[:3] == ["job", "running", "local"]
    assert f"id: {view['job']}" in lab.run("status", "job").out
    assert set(view) >= FIELDS
    assert (view["state"], view["outcome"], view["provider"], view["spend_confirmed"]) == (
        "running",
        None,
        "local",
        False,
    )
    assert view["soft_deadline"] <= view["hard_deadline"]
    lab.down()


def test_exit_status_tells_a_script_how_a_job_stands(lab: Lab) -> None:
    """8 while it is live, then the job's own code; without the flag, 0."""
    lab.write_job()
    lab.launch()
    assert lab.run("status", "job", "--exit-status").code == 8
    lab.down()

    assert lab.run("status", "job", "--exit-status").code == 6
    assert lab.run("status", "job").code == 0
    assert lab.run("status", "--exit-status").code == 2


def test_all_shows_every_job(lab: Lab) -> None:
    """A name can be used again when its job is gone: `status NAME` then means the newest, `--all` shows each."""
    for command in (["false"], ["true"]):
        lab.write_job(command)
        lab.run("up", "--budget", "5", "--yes")
    every = lab.run("status", "--all", "--json").document

    assert [view["outcome"] for view in every] == ["finished", "failed"]
    assert lab.status()["outcome"] == "finished"
    assert lab.status(every[1]["job"])["outcome"] == "failed"


def test_status_gives_a_live_job_its_guard_back(lab: Lab) -> None:
    """A job without a guard gets one from whoever looks."""
    lab.write_job()
    lab.launch()
    lab.kill_guard()
    assert lab.guards() == []

    assert lab.status()["state"] == "running"
    assert len(lab.guards()) == 1
    lab.down()
