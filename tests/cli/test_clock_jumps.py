"""The wall clock jumps by hours in mid-run: no job ends early, and none passes its cap."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from command_lab import SMALL_CAP, spent

if TYPE_CHECKING:
    from collections.abc import Callable

    from command_lab import Lab

REPOSITORY = Path(__file__).parents[2]
SMALL_CAP_USED = Decimal("0.0065")

# Loaded by every process of that Python as it starts. The clocks that count from boot are left alone, as a step of the
# wall clock leaves them.
WALL_JUMP = """
import time
from datetime import timedelta
from pathlib import Path
from launcher.core.clock import SystemClock

now, wall = SystemClock.now, time.time

def offset():
    try:
        return float(Path(__file__).with_name("offset").read_text())
    except (FileNotFoundError, ValueError):
        return 0.0

SystemClock.now = lambda self: now(self) + timedelta(seconds=offset())
time.time = lambda: wall() + offset()
"""


class JumpingPython:
    """A Python whose wall clock a test can set; guard, backstop and agent all run on the one that `up` ran on."""

    def __init__(self, folder: Path) -> None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._packages = folder / "lib" / version / "site-packages"
        self._packages.mkdir(parents=True)
        (folder / "bin").mkdir()
        self.path = folder / "bin" / "python"
        self.path.symlink_to(Path(sys.executable).resolve())
        base = Path(sys.base_prefix, "bin")
        (folder / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n")
        (self._packages / "wall_jump.py").write_text(WALL_JUMP)
        paths = [str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]
        (self._packages / "jump.pth").write_text("\n".join([*paths, "import wall_jump"]) + "\n")

    def jump(self, seconds: int) -> None:
        """Set the wall clock forward, or back."""
        part = self._packages / "offset.part"
        part.write_text(str(seconds))
        part.replace(self._packages / "offset")


def test_a_jump_of_the_wall_clock_moves_no_deadline(new_lab: Callable[[], Lab], tmp_path: Path) -> None:
    """Two hours on and two hours back, under one guard and under one that takes over after the jump, side by side."""
    cases = {}
    for seconds in (7200, -7200):
        python = JumpingPython(tmp_path / f"python{seconds}")
        for replaced in (False, True):
            lab = new_lab()
            lab.gpulaunch = [str(python.path), "-m", "launcher.cli"]
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
    python = JumpingPython(tmp_path / "python")
    lab.gpulaunch = [str(python.path), "-m", "launcher.cli"]
    lab.write_job(["true"])
    python.jump(-365 * 86400)
    view = lab.run("up", "--budget", "5", "--yes", "--json").document
    year = view["created_at"][:4]
    result = (lab.machine() / "result.json").read_text()

    assert view["outcome"] == "finished"
    assert f'"started_at": "{year}' in result
    assert view["ended_at"][:4] == year
