"""`gpulaunch up` under the limits of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from command_lab import Lab


def limit(lab: Lab, limits: str) -> str:
    """Write the limits into the configuration; its path."""
    path = lab.env["GPULAUNCH_CONFIG"]
    Path(path).write_text(f"limits: {limits}\n", encoding="utf-8")
    return path


def test_a_live_job_holds_its_cap_and_frees_it_when_it_is_gone(lab: Lab) -> None:
    """The second launch is refused with what to do, and accepted once the first has ended for less."""
    path = limit(lab, "{monthly_usd: 0.10}")
    lab.write_job()
    lab.launch(cap="0.08")
    refused = lab.run("up", "--budget", "0.08", "--yes", "--name", "second")

    assert refused.code == 4
    assert "$0.02 is left of the $0.10" in refused.err
    assert path in refused.err
    assert [view["name"] for view in lab.views()] == ["job"]
    lab.down()
    lab.write_job(["true"])
    assert lab.run("up", "--budget", "0.02", "--yes", "--name", "second").code == 0


def test_the_number_of_live_jobs_is_limited(lab: Lab) -> None:
    """Without a word about money."""
    limit(lab, "{jobs: 1}")
    lab.write_job()
    lab.launch()
    refused = lab.run("up", "--budget", "0.05", "--yes", "--name", "second")

    assert refused.code == 4
    assert "1 job is live, and limits.jobs is 1." in refused.err
    lab.down()


def test_a_dry_run_shows_the_limits_and_fails_as_a_launch_would(lab: Lab) -> None:
    """The plan is printed all the same, and nothing is made."""
    limit(lab, "{monthly_usd: 4, jobs: 3}")
    lab.write_job()
    fits = lab.run("up", "--budget", "3", "--dry-run")
    assert fits.code == 0
    assert "$4.00 left of $4.00" in fits.err
    assert "0 jobs are live of 3" in fits.err

    refused = lab.run("up", "--budget", "5", "--dry-run", "--json")
    assert (refused.code, refused.document["limits"]["allowed"], refused.document["cap_usd"]) == (4, False, "5.00")
    assert not lab.home.exists()


def test_without_limits_a_dry_run_speaks_of_none(lab: Lab) -> None:
    """The field is there, and empty."""
    lab.write_job()
    assert lab.run("up", "--budget", "5", "--dry-run", "--json").document["limits"] is None
