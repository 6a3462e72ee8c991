"""Complete sets of the training's checkpoints, in a folder of the store.

    <store>/<job>/checkpoints/<n>/files/…          the files, as they lie under the checkpoints' folder
    <store>/<job>/checkpoints/<n>/manifest.json    written last: a set without it is not complete

A file that did not change since the last set is linked to it, not copied. A file that is still being written is not
sent half: it is left out, or stands as it was in the last set. Trainings write one checkpoint as several files, so the
files beside such a one that are about as new wait with it.

All machines of a job count on in the same row of numbers. A number belongs to the one that has made its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

from . import clock, files

SETTLE_S = 2.0
KIN_S = 30.0
READ_BYTES = 1 << 20

_AWKWARD = re.compile("[\0-\x1f\x7f#%\\\\\udc80-\udcff]")

Version = tuple[int, int]
"""Size and time of change (ns): a file that has both unchanged is taken as unchanged."""


def _version(of: os.stat_result) -> Version:
    return of.st_size, of.st_mtime_ns


def stored_name(path: str) -> str:
    """The name of a file in the store, which not every bucket could hold as it is: such characters become `%XX`."""
    return _AWKWARD.sub(lambda found: f"%{os.fsencode(found[0])[0]:02X}", path)


def look(source: Path, without: Path) -> dict[str, Version]:
    """Every plain file below a folder, by its path there; the store itself, should it lie below, is left out."""
    found = {}
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if Path(folder, name).resolve() != without]
        for name in names:
            path = Path(folder, name)
            try:
                status = path.stat()
            except OSError:
                continue  # it has gone meanwhile, or is a link to nowhere
            if stat.S_ISREG(status.st_mode):
                found[path.relative_to(source).as_posix()] = _version(status)
    return found


def unsettled(found: dict[str, Version], now: float) -> set[str]:
    """The files that may still be written at that wall time, and their kin."""

    def age_s(path: str) -> float:
        # A file from the future says that a clock was set: nothing is known then, and the look while copying decides.
        age = now - found[path][1] / 1e9
        return age if age >= 0 else KIN_S

    busy = {path.rpartition("/")[0] for path in found if age_s(path) < SETTLE_S}
    return {path for path in found if path.rpartition("/")[0] in busy and age_s(path) < KIN_S}


def complete_sets(sets: Path) -> list[int]:
    """The numbers of the complete sets, oldest first."""
    return sorted(int(path.parent.name) for path in sets.glob("*/manifest.json") if path.parent.name.isdecimal())


def _copy(source: Path, target: Path) -> dict[str, Any] | None:
    """Copy one file; what the manifest says of it, or None if it changed or went meanwhile."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, files.open_private(target) as writing:
        before = _version(os.fstat(reading.fileno()))
        left = before[0]  # a file may grow faster than it is copied
        while left and (data := reading.read(min(left, READ_BYTES))):
            left -= len(data)
            digest.update(data)
            files.write(writing, data)
        os.fsync(writing.fileno())
        if _version(os.fstat(reading.fileno())) != before:
            target.unlink()
            return None
    return {"size": before[0], "mtime_ns": before[1], "sha256": digest.hexdigest()}


def _link(old: Path, new: Path, known: dict[str, Any]) -> dict[str, Any]:
    try:
        os.link(old, new)
    except OSError:  # a file system without links
        copied = _copy(old, new)
        assert copied is not None, "nobody writes to a set"
    return known


class Checkpoints:
    """Makes sets, and remembers what was last said of them. One thread at a time."""

    def __init__(self, source: Path, sets: Path, keep: int) -> None:
        self.source = source
        self.sets = sets.resolve()
        self.keep = max(keep, 1)
        self.latest: dict[str, Any] | None = None
        self.lost = False
        """Sets that were made here have gone, and others were made anew."""

    def save(self, now: float | None) -> int:
        """Make a set of what is new; returns how many files had to wait. Raises OSError.

        `now` is the wall time at which a file changed in the last moments counts as half-written; None when the
        training has ended well, so that all is whole.
        """
        found = look(self.source, self.sets)
        waiting = set() if now is None else unsettled(found, now)
        old_n, old = self._last()
        self.lost |= bool(self.latest and not old_n)
        fresh = {path for path in found if not _known(old.get(path), found[path])} - waiting
        if not fresh:
            return len(waiting)
        numbers = [int(path.name) for path in self.sets.glob("*") if path.name.isdecimal()]
        target = self.sets / str(max(numbers, default=0) + 1)
        self.sets.mkdir(parents=True, exist_ok=True)
        target.mkdir()
        try:
            made = self._fill(target / "files", found, fresh, waiting, (self.sets / str(old_n) / "files", old))
            if made:
                self._finish(target, made)
        finally:
            if not (target / "manifest.json").exists():
                shutil.rmtree(target, ignore_errors=True)
        self._forget()
        return len(waiting)

    def _last(self) -> tuple[int, dict[str, Any]]:
        for n in reversed(complete_sets(self.sets)):
            try:
                return n, json.loads((self.sets / str(n) / "manifest.json").read_bytes())["files"]
            except (ValueError, KeyError):
                continue  # damaged by somebody else: an older one will do
        return 0, {}

    def _fill(
        self,
        target: Path,
        found: dict[str, Version],
        fresh: set[str],
        waiting: set[str],
        last: tuple[Path, dict[str, Any]],
    ) -> dict[str, Any]:
        """Bring the files; what the manifest says of them, or nothing when no new one could be had whole."""
        made, new = {}, 0
        for path in sorted(found):
            name = stored_name(path)
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            copied = None
            if path in fresh:
                try:
                    copied = _copy(self.source / path, target / name)
                except FileNotFoundError:
                    if (self.source / path).exists():
                        raise  # it is the store that has gone
                    continue  # the training has removed it
                if copied:
                    new += 1
                else:
                    waiting.add(path)
            if not copied and path in last[1]:
                copied = _link(last[0] / name, target / name, last[1][path])
            if copied:
                made[path] = copied
        return made if new else {}

    def _finish(self, target: Path, made: dict[str, Any]) -> None:
        for path in made:  # a store that went away and came back holds the newest ones only
            (target / "files" / stored_name(path)).stat()
        size = sum(file["size"] for file in made.values())
        said = {"n": int(target.name), "at": clock.rfc3339(clock.wall()), "bytes": size}
        files.replace(target / "manifest.json", json.dumps({**said, "files": made}).encode())
        self.latest = {**said, "files": len(made)}

    def _forget(self) -> None:
        """Remove all but the newest sets, each one's manifest first, so that a part of a set never looks complete."""
        for n in complete_sets(self.sets)[: -self.keep]:
            (self.sets / str(n) / "manifest.json").unlink()
        kept = complete_sets(self.sets)
        for path in self.sets.glob("*"):
            if path.name.isdecimal() and int(path.name) not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _known(known: dict[str, Any] | None, version: Version) -> bool:
    return known is not None and (known["size"], known["mtime_ns"]) == version
