"""The wall clock jumps by hours in mid-run: no job ends early, and none passes its cap."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from command_lab import SMALL_CAP, spent
from movable_python import MovablePython

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from command_lab import Lab

SMALL_CAP_USED = Decimal("0.0065")


def test_a_jump_of_the_wall_clock_moves_no_deadline(new_lab: Callable[[], Lab], tmp_path: Path) -> None:
    """Two hours on and two hours back, under one guard and under one that takes over after the jump, side by side."""
    cases = {}
    for seconds in (7200, -7200):
        python = MovablePython(tmp_path / f"python{seconds}")
        for replaced in (False, True):
            lab = new_lab()
            lab.gpulaunch = python.gpulaunch
            lab.write_job()
            cases[seconds, replaced] = lab, python, lab.start("up", "--budget", SMALL_CAP, "--yes", "--detach")
    before = {case: lab.await_state("running") for case, (lab, _, _) in cases.items()}
    for (seconds, replaced), (lab, python, up) in cases.items():
        assert lab.ended(up).code == 0
        if replaced:
            lab.kill_guard()
        python.jump(seconds)
    for case, (lab, _, _) in cases.items():
        after = lab.status()
        assert (after["state"], after["started_at"]) == ("running", before[case]["started_at"]), case
    for case, (lab, _, _) in cases.items():
        view = lab.await_state("gone")
        assert (view["outcome"], view["spend_confirmed"]) == ("budget_reached", True), case
        assert SMALL_CAP_USED <= spent(view) <= Decimal(SMALL_CAP), case


def test_the_jump_reaches_every_process(lab: Lab, tmp_path: Path) -> None:
    """The test above tests something: a job that is launched after the jump has the other time."""
    python = MovablePython(tmp_path / "python")
    lab.gpulaunch = python.gpulaunch
    lab.write_job(["true"])
    python.jump(-365 * 86400)
    view = lab.run("up", "--budget", "5", "--yes", "--json").document
    year = view["created_at"][:4]
    result = (lab.machine() / "result.json").read_text()

    assert view["outcome"] == "finished"
    assert f'"started_at": "{year}' in result
    assert view["ended_at"][:4] == year
