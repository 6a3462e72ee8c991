"""Complete sets of the training's checkpoints, in the store.

    <store>/<job>/checkpoints/<n>/files/…          the files, as they lie under the checkpoints' folder
    <store>/<job>/checkpoints/<n>/manifest.json    written last: a set without it is not complete

A file that did not change since the last set is not sent again; `folder` and `bucket` say what stands in its place. A
file that is still being written is not sent half: it is left out, or stands as it was in the last set. Trainings write
one checkpoint as several files, so the files beside such a one that are about as new wait with it.

All machines of a job count on in the same row of numbers.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import clock
from .bucket import BucketSets
from .folder import FolderSets
from .objects import Version, stored_name, version

SETTLE_S = 2.0
KIN_S = 30.0


def look(source: Path, without: Path | None) -> dict[str, Version]:
    """Every plain file below a folder, by its path there; the store itself, should it lie below, is left out."""
    found = {}
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if without is None or Path(folder, name).resolve() != without]
        for name in names:
            path = Path(folder, name)
            try:
                status = path.stat()
            except OSError:
                continue  # it has gone meanwhile, or is a link to nowhere
            if stat.S_ISREG(status.st_mode):
                found[path.relative_to(source).as_posix()] = version(status)
    return found


def unsettled(found: dict[str, Version], now: float) -> set[str]:
    """The files that may still be written at that wall time, and their kin."""

    def age_s(path: str) -> float:
        # A file from the future says that a clock was set: nothing is known then, and the look while copying decides.
        age = now - found[path][1] / 1e9
        return age if age >= 0 else KIN_S

    busy = {path.rpartition("/")[0] for path in found if age_s(path) < SETTLE_S}
    return {path for path in found if path.rpartition("/")[0] in busy and age_s(path) < KIN_S}


class Checkpoints:
    """Makes sets, and remembers what was last said of them. One thread at a time."""

    def __init__(self, source: Path, sets: FolderSets | BucketSets, keep: int) -> None:
        self.source = source
        self.sets = sets
        self.keep = max(keep, 1)
        self.latest: dict[str, Any] | None = None
        self.bytes = 0
        """What lay there at the last look, all of it."""
        self.lost = False
        """Sets that were made here have gone, and others were made anew."""
        self.refused: Callable[[int], str] = lambda _: ""
        """Why so many bytes must not be sent, should that be so."""

    def save(self, now: float | None) -> int:
        """Make a set of what is new; returns how many files had to wait. Raises OSError.

        `now` is the wall time at which a file changed in the last moments counts as half-written; None when the
        training has ended well, so that all is whole.
        """
        found = look(self.source, self.sets.without)
        self.bytes = sum(size for size, _ in found.values())
        waiting = set() if now is None else unsettled(found, now)
        old_n, old = self._last()
        self.lost |= bool(self.latest and not old_n)
        fresh = {path for path in found if not _known(old.get(path), found[path])} - waiting
        if not fresh:
            return len(waiting)
        if why := self.refused(sum(found[path][0] for path in fresh)):
            raise OSError(why)
        n = max(self.sets.numbers(), default=0) + 1
        self.sets.begin(n)
        try:
            made = self._fill(n, found, fresh, waiting, (old_n, old))
            if made:
                self._finish(n, made)
        finally:
            if not (self.latest and self.latest["n"] == n):
                self.sets.abandon(n)
        self.sets.forget(self.keep)
        return len(waiting)

    def _last(self) -> tuple[int, dict[str, Any]]:
        for n in reversed(self.sets.complete()):
            try:
                return n, self.sets.files(n)
            except (ValueError, KeyError):
                continue  # damaged by somebody else: an older one will do
        return 0, {}

    def _fill(
        self,
        n: int,
        found: dict[str, Version],
        fresh: set[str],
        waiting: set[str],
        last: tuple[int, dict[str, Any]],
    ) -> dict[str, Any]:
        """Bring the files; what the manifest says of them, or nothing when no new one could be had whole."""
        made, new = {}, 0
        for path in sorted(found):
            name = stored_name(path)
            brought = None
            if path in fresh:
                try:
                    brought = self.sets.send(n, name, self.source / path)
                except FileNotFoundError:
                    if (self.source / path).exists():
                        raise  # it is the store that has gone
                    continue  # the training has removed it
                if brought:
                    new += 1
                else:
                    waiting.add(path)
            if not brought and path in last[1]:
                brought = self.sets.reuse(n, name, last[1][path], last[0])
            if brought:
                made[path] = brought
        return made if new else {}

    def _finish(self, n: int, made: dict[str, Any]) -> None:
        size = sum(file["size"] for file in made.values())
        said = {"n": n, "at": clock.rfc3339(clock.wall()), "bytes": size}
        self.sets.finish(n, map(stored_name, made), json.dumps({**said, "files": made}).encode())
        self.latest = {**said, "files": len(made)}


def _known(known: dict[str, Any] | None, version: Version) -> bool:
    return known is not None and (known["size"], known["mtime_ns"]) == version
