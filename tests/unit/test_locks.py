"""Locks that tell whether a process lives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from launcher.core import locks

if TYPE_CHECKING:
    from pathlib import Path


def test_a_lock_is_free_when_its_holder_lets_go(tmp_path: Path) -> None:
    """Held by one, refused to another, free again."""
    path = tmp_path / "lock"
    assert not locks.is_held(path)
    held = locks.hold(path)
    assert held is not None
    assert locks.is_held(path)
    assert None is locks.hold(path)
    os.close(held)
    assert not locks.is_held(path)


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no lock behind."""
    path = tmp_path / "lock"
    source = (
        f"from pathlib import Path; from launcher.core import locks; locks.hold(Path({str(path)!r})); print(1); input()"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert locks.is_held(path)
        child.kill()
        child.wait()
    assert not locks.is_held(path)


def test_somebody_who_looks_does_not_keep_the_lock_from_its_holder(tmp_path: Path) -> None:
    """Looking takes the lock for an instant; taking it in that instant still succeeds."""
    path = tmp_path / "lock"
    path.touch()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            locks.is_held(path)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    for looker in lookers:
        looker.start()
    refused = 0
    for _ in range(200):
        held = locks.hold(path)
        refused += held is None
        if held is not None:
            os.close(held)
    over.set()
    for looker in lookers:
        looker.join()
    assert 0 == refused
