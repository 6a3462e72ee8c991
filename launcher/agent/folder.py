"""A store that is a folder: complete sets of checkpoints in it, and other files.

A file that did not change since the last set is linked to it, not copied.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import files
from .objects import READ_BYTES, version

MANIFEST = "manifest.json"


def complete_sets(sets: Path) -> list[int]:
    """The numbers of the complete sets, oldest first."""
    return sorted(int(path.parent.name) for path in sets.glob(f"*/{MANIFEST}") if path.parent.name.isdecimal())


def _copy(source: Path, target: Path) -> dict[str, Any] | None:
    """Copy one file; what the manifest says of it, or None if it changed or went meanwhile."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, files.open_private(target) as writing:
        before = version(os.fstat(reading.fileno()))
        left = before[0]  # a file may grow faster than it is copied
        while left and (data := reading.read(min(left, READ_BYTES))):
            left -= len(data)
            digest.update(data)
            files.write(writing, data)
        os.fsync(writing.fileno())
        if version(os.fstat(reading.fileno())) != before:
            target.unlink()
            return None
    return {"size": before[0], "mtime_ns": before[1], "sha256": digest.hexdigest()}


class FolderSets:
    """The sets of one job. Every method raises OSError."""

    def __init__(self, sets: Path) -> None:
        self.sets = sets.resolve()
        self.without: Path | None = self.sets
        """What is not to be looked at for checkpoints."""
        self.note = ""

    def numbers(self) -> list[int]:
        """Of all sets, complete or not."""
        return [int(path.name) for path in self.sets.glob("*") if path.name.isdecimal()]

    def complete(self) -> list[int]:
        """Of the complete sets, oldest first."""
        return complete_sets(self.sets)

    def files(self, n: int) -> dict[str, Any]:
        """What a set's manifest says of its files, by their paths. Raises ValueError, KeyError for a damaged one."""
        found: dict[str, Any] = json.loads((self.sets / str(n) / MANIFEST).read_bytes())["files"]
        return found

    def begin(self, n: int) -> None:
        """Make a set's folder: the number is then ours. Raises FileExistsError."""
        self.sets.mkdir(parents=True, exist_ok=True)
        (self.sets / str(n)).mkdir()

    def send(self, n: int, name: str, source: Path) -> dict[str, Any] | None:
        """Bring a file; what the manifest says of it, or None if it changed meanwhile."""
        target = self._path(n, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        return _copy(source, target)

    def reuse(self, n: int, name: str, known: dict[str, Any], old: int) -> dict[str, Any]:
        """Take a file over from an older set."""
        target = self._path(n, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self._path(old, name), target)
        except OSError:  # a file system without links
            copied = _copy(self._path(old, name), target)
            assert copied is not None, "nobody writes to a set"
        return known

    def finish(self, n: int, names: Iterable[str], manifest: bytes) -> None:
        """Write the manifest: the set is complete."""
        for name in names:  # a store that went away and came back holds the newest ones only
            self._path(n, name).stat()
        files.replace(self.sets / str(n) / MANIFEST, manifest)

    def abandon(self, n: int) -> None:
        """Remove a set that was not finished."""
        shutil.rmtree(self.sets / str(n), ignore_errors=True)

    def forget(self, keep: int) -> None:
        """Remove all but the newest sets, each one's manifest first, so that a part of a set never looks complete."""
        for n in self.complete()[:-keep]:
            (self.sets / str(n) / MANIFEST).unlink()
        kept = self.complete()
        for n in self.numbers():
            if n not in kept:
                self.abandon(n)

    def _path(self, n: int, name: str) -> Path:
        return self.sets / str(n) / "files" / name


class Folder:
    """The other files of a job, by their paths below its folder."""

    sent = 0

    def __init__(self, root: Path) -> None:
        self.root = root

    def send(self, path: str, source: Path) -> None:
        """Bring one file, which a reader sees whole or not at all."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".tmp")
        shutil.copyfile(source, part)
        part.replace(target)
