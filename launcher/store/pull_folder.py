"""The folder that a pull fills: whole or not at all, and never over what somebody else has put there.

What is fetched goes to a folder beside it, which takes its place in the end. That folder's name is fixed and it is
locked while it is filled, so that two pulls do not mix, and what a killed one has left is used up by the next.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "pull.json"


@contextmanager
def filled(folder: Path, job: str) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` at the end of the block, unless that raises.

    The block must write `pull.json` into it (see `write_mark`). Raises UsageError where `folder` holds anything but an
    earlier pull of the same job, and where it cannot be written.
    """
    target = folder.resolve()
    part = target.with_name(f".{target.name}.pull")
    old = target.with_name(f".{target.name}.pull-old")
    _check(target, job, folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _claim(part, folder)
        try:
            if old.exists() and not target.exists():  # one was killed between the two renames below
                old.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            yield part
            _check(target, job, folder)  # it took a while
            _replace(target, part, old)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            os.close(lock)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror or error}.",
            f"It was {error.filename}." if error.filename else "",
            "Free some space, or name another folder: gpulaunch pull JOB DIR",
        ) from error


def _replace(target: Path, part: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        part.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def write_mark(part: Path, document: dict[str, Any]) -> None:
    """Note what a folder holds: the document, and every file by its path. `job` in it says whose pull it is."""
    files = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if not path.is_dir())
    text = json.dumps({**document, "files": [*files, MARK]}, indent=2)
    with (part / MARK).open("x", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())


def _claim(part: Path, folder: Path) -> int:
    """Make the part's folder, or take over what a killed pull has left of it, emptied; returns the lock on it."""
    part.mkdir(exist_ok=True)
    lock = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), part.stat()):
            raise BlockingIOError  # another pull has just put it in its place
        for left in part.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
    except (BlockingIOError, FileNotFoundError):
        os.close(lock)
        raise UsageError(f"Another pull into {folder} is at work.", fix="Wait for it to end.") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check(target: Path, job: str, folder: Path) -> None:
    """Raise UsageError unless the folder is absent, empty, or an earlier pull of this job and nothing else."""
    another = f"Name another folder: gpulaunch pull {job} DIR"
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{folder} is a file.", fix=another)
    if Path.cwd().is_relative_to(target):
        raise UsageError(f"{folder} is the folder you are in.", "A pull puts a new folder in its place.", another)
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    if not there:
        return
    mark = _read_mark(target)
    if mark is None or mark.get("job") != job:
        whose = "is not empty" if mark is None else f"holds a pull of another job, {mark.get('name')}"
        raise UsageError(f"{folder} {whose}.", "Nothing there is overwritten.", another)
    if extra := sorted(there - set(mark.get("files", []))):
        raise UsageError(
            f"{folder} holds an earlier pull, and beside it a file that is none of it: {extra[0]!r}.",
            "Nothing there is overwritten.",
            "Move it away, or name another folder.",
        )


def _read_mark(target: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((target / MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None
