"""The guard as a process of its own: one for each account, known by a lock that the kernel frees when it dies."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core import locks
from launcher.core.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

# SQLite's write-ahead log grows to 4 MB before it is folded in; the rest is a machine's folder.
LEAST_FREE_BYTES = 8 << 20


def _path(home: Path, folder: str, name: str, suffix: str) -> Path:
    path = home / folder
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _unusable(home, error) from error
    return path / (re.sub(r"[^A-Za-z0-9_.-]", "_", name) + suffix)


def _unusable(home: Path, error: OSError) -> StateError:
    return StateError(
        f"The state folder {home} cannot be used: {error.strerror or error}.",
        fix="Free some space or point GPULAUNCH_HOME at another folder, then run the command again.",
    )


def check_room(home: Path) -> None:
    """Raise StateError unless the state folder's disk has room for what a job writes down.

    A guard without room cannot write down that it is about to create, so it would never create anything.
    """
    folder = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise StateError(
            f"The state folder {home} cannot be used: its disk has {free >> 10} KiB left.",
            f"A job needs {LEAST_FREE_BYTES >> 20} MiB for its journal and its machine's folder.",
            "Free some space or point GPULAUNCH_HOME at another folder, then run the command again.",
        )


def hold(path: Path) -> int | None:
    """Take a lock for as long as the returned descriptor is open; None when another process holds it."""
    try:
        return locks.hold(path)
    except OSError as error:
        raise _unusable(path.parent.parent, error) from error


def guard_lock(home: Path, account: str) -> Path:
    """The lock of an account's guard."""
    return _path(home, "guards", account, ".lock")


def launch_lock(home: Path, job_id: str) -> Path:
    """The lock that an `up` holds until its first machine is accepted: without it, a launch is called off."""
    return _path(home, "launches", job_id, ".lock")


def guard_lives(home: Path, account: str) -> bool:
    """Whether a guard watches this account now."""
    return locks.is_held(guard_lock(home, account))


def start_guard(home: Path, account: str, environ: Mapping[str, str]) -> None:
    """Start a guard as a detached process, unless one lives. A second one for the same account steps back at once.

    It is started without PYTHONPATH, in a session of its own: closing the terminal changes nothing.
    """
    if guard_lives(home, account):
        return
    environment = {key: value for key, value in environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment["GPULAUNCH_HOME"] = str(home)
    with _path(home, "guards", account, ".log").open("ab") as log:
        guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "launcher.cli", "guard", "--account", account],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    guard.returncode = 0  # it outlives this process: nobody here waits for it
