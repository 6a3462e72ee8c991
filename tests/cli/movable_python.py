"""A Python whose clocks a test can move, and a clock for the clouds of these tests that moves along.

Every process of gpulaunch runs on the Python that `up` ran on, so all of them see one time.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

from launcher.core.clock import SystemClock

REPOSITORY = Path(__file__).parents[2]

# Loaded by every process of that Python as it starts. A jump leaves alone the clocks that count from boot, as a step
# of the wall clock does; a computer that slept has moved all of them but the one that counts the time awake.
MOVED = """
import time
from datetime import timedelta
from pathlib import Path
from launcher.core.clock import SystemClock

now, monotonic, wall = SystemClock.now, SystemClock.monotonic, time.time

def moved():
    try:
        return [float(part) for part in Path(__file__).with_name("moved").read_text().split()]
    except FileNotFoundError:
        return [0.0, 0.0]

SystemClock.now = lambda self: now(self) + timedelta(seconds=sum(moved()))
SystemClock.monotonic = lambda self: monotonic(self) + moved()[1]
time.time = lambda: wall() + sum(moved())
"""


class MovablePython:
    """A Python in a folder of its own, and its clocks."""

    def __init__(self, folder: Path) -> None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self._packages = folder / "lib" / version / "site-packages"
        self._packages.mkdir(parents=True)
        (folder / "bin").mkdir()
        self.path = folder / "bin" / "python"
        self.path.symlink_to(Path(sys.executable).resolve())
        base = Path(sys.base_prefix, "bin")
        (folder / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n")
        (self._packages / "moved_clock.py").write_text(MOVED)
        paths = [str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]
        (self._packages / "moved_clock.pth").write_text("\n".join([*paths, "import moved_clock"]) + "\n")
        self._jumped_s = self._slept_s = 0.0

    @property
    def gpulaunch(self) -> list[str]:
        """The command, on this Python."""
        return [str(self.path), "-m", "launcher.cli"]

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._move(seconds, 0.0)

    def sleep_through(self, seconds: float) -> None:
        """Let the computer sleep for that long."""
        self._move(0.0, seconds)

    def _move(self, jumped_s: float, slept_s: float) -> None:
        self._jumped_s += jumped_s
        self._slept_s += slept_s
        part = self._packages / "moved.part"
        part.write_text(f"{self._jumped_s} {self._slept_s}")
        part.replace(self._packages / "moved")


class CloudClock(SystemClock):
    """This computer's clock, moved on by a test."""

    def __init__(self) -> None:
        self._passed_s = 0.0

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return super().now() + timedelta(seconds=self._passed_s)

    def pass_time(self, seconds: float) -> None:
        """Let that much time pass."""
        self._passed_s += seconds
