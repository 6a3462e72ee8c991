"""kill -9 before and after every request of a guard on Google Cloud: the next guard finds what was made."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gcp_lab import quick_cloud, use
from gcp_server import FakeGcp

from launcher.journal import Journal

if TYPE_CHECKING:
    from command_lab import Lab
    from gcp_state import Instance

DRIVER = Path(__file__).with_name("gcp_crash.py")
PLACES = 40
"""A guard has about as many, from its first look until its job is gone."""


def overlapping(machines: list[Instance]) -> bool:
    """Whether two of them lived at the same time."""
    spans = sorted((each.accepted_at, each.gone_at) for each in machines)
    return any(before[1] is None or before[1] > after[0] for before, after in pairwise(spans))


@pytest.mark.timeout(300)
def test_a_guard_may_be_killed_at_any_request(lab: Lab, tmp_path: Path) -> None:
    """Whatever was under way: one machine at a time, the job finishes, nothing is left, and the ledger is not below."""
    fake = FakeGcp(quick_cloud(finishes_after_s=0.8))
    use(lab, fake)
    lives = tmp_path / "lives"
    lives.mkdir()
    argv = [sys.executable, str(DRIVER), str(lives), "1", str(PLACES)]
    try:
        driver = subprocess.run(argv, cwd=lab.work, env=lab.env, capture_output=True, text=True, timeout=240)
        jobs = {number: _ended(lives / str(number), fake) for number in range(1, PLACES + 1)}
    finally:
        fake.close()

    assert driver.returncode == 0, driver.stderr
    assert fake.cloud.existing() == set()
    assert fake.problems == []
    assert {number: problem for number, problem in jobs.items() if problem} == {}


def _ended(folder: Path, fake: FakeGcp) -> str:
    """What is wrong with how a job ended; empty when nothing is."""
    log = (folder / "log").read_text(encoding="utf-8")
    journal = Journal(folder / "home")
    [job] = journal.jobs()
    attempts = journal.attempts(job.id)
    journal.close()
    lived = [each for each in fake.cloud.lived() if each.body["labels"]["gpulaunch-job"] == job.id]
    if "Traceback" in log:
        return log
    if job.state != "gone" or job.outcome != "finished":
        return f"{job.state} {job.outcome} {job.reason}: {log}"
    if overlapping(lived) or len({each.name for each in lived}) != len(lived):
        return f"two machines: {[each.name for each in lived]}"
    if any(attempt.create_called is False and attempt.token in lived for attempt in attempts):
        return "a machine that nobody asked for"
    return ""
