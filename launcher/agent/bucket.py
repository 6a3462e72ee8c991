"""Complete sets of checkpoints in a bucket.

There are no links there: the manifest says in which set's folder a file lies that did not change (`"set": 3`), and what
any kept manifest names is kept. What was sent for a set that was not finished is used by the next.

A bucket that can only be written (a form) is remembered on the machine's own disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import files
from .objects import Objects, stored_name, version

MANIFEST = "manifest.json"
NUMBERS = 100_000
"""Of the sets that one machine may make where it cannot see those of another: the newest machine's are the highest."""


class BucketSets:
    """The sets of one job, below `root` in the bucket. Every method raises OSError."""

    without = None

    def __init__(self, objects: Objects, root: str, attempt: int, memory: Path) -> None:
        self.objects = objects
        self.root = root
        self.memory = memory
        self.first = attempt * NUMBERS
        self.sent: dict[str, dict[str, Any]] = {}
        """What was sent since the last complete set, by its name."""
        self.read: dict[int, dict[str, Any]] = {}
        self.note = ""

    def numbers(self) -> list[int]:
        """Of all sets, complete or not."""
        if not self.objects.readable:
            return [self.first, *self._remembered()]
        return [n for key in self.objects.below(self.root) if (n := _number(key)) >= 0]

    def complete(self) -> list[int]:
        """Of the complete sets, oldest first."""
        if not self.objects.readable:
            return sorted(self._remembered())
        return _complete(self.objects.below(self.root))

    def files(self, n: int) -> dict[str, Any]:
        """What the manifest of a set says of its files, by their paths; those that have gone are left out."""
        if not self.objects.readable:
            return self._remembered()[n]
        there = set(self.objects.below(self.root))
        found = self._manifest(n)
        return {path: known for path, known in found.items() if _key(n, stored_name(path), known) in there}

    def _manifest(self, n: int) -> dict[str, Any]:
        if n not in self.read:
            self.read[n] = json.loads(self.objects.get(f"{self.root}/{n}/{MANIFEST}"))["files"]
        return self.read[n]

    def _remembered(self) -> dict[int, dict[str, Any]]:
        try:
            found = json.loads(self.memory.read_bytes())
        except (OSError, ValueError):
            return {}
        return {found["n"]: found["files"]}

    def begin(self, n: int) -> None:
        """Claim the number: it is then ours. Raises FileExistsError."""
        if self.objects.readable:
            self.objects.claim(f"{self.root}/{n}/claim")

    def send(self, n: int, name: str, source: Path) -> dict[str, Any] | None:
        """Bring a file; what the manifest says of it, or None if it changed meanwhile."""
        known = self.sent.get(name)
        if known and (known["size"], known["mtime_ns"]) == version(source.stat()):
            return known
        made = self.objects.send(f"{self.root}/{n}/files/{name}", source)
        if made is None:
            return None
        self.sent[name] = {**made, "set": n}
        return self.sent[name]

    def reuse(self, n: int, name: str, known: dict[str, Any], old: int) -> dict[str, Any]:
        """Name a file where an older set has it."""
        del n, name
        return {**known, "set": known.get("set", old)}

    def finish(self, n: int, names: Iterable[str], manifest: bytes) -> None:
        """Write the manifest: the set is complete."""
        del names
        self.objects.put(f"{self.root}/{n}/{MANIFEST}", manifest)
        if not self.objects.readable:
            files.replace(self.memory, manifest)
        self.sent = {}

    def abandon(self, n: int) -> None:
        """What was sent is of use to the next set."""

    def forget(self, keep: int) -> None:
        """Remove what only old sets are made of, their manifests first. A grant that forbids it is a note."""
        if not self.objects.readable:
            return
        keys = self.objects.below(self.root)
        kept = _complete(keys)[-keep:]
        if not kept:
            return
        used = {f"{n}/{MANIFEST}" for n in kept}
        for n in kept:
            try:
                used |= {_key(n, stored_name(path), known) for path, known in self._manifest(n).items()}
            except (ValueError, KeyError):
                return  # damaged by somebody else: what it names is not known
        self.read = {n: found for n, found in self.read.items() if n in kept}
        # A newer set may be another machine's, which is just being made.
        old = [key for key in keys if 0 <= _number(key) < kept[-1] and key not in used]
        try:
            for key in sorted(old, key=lambda key: not key.endswith(f"/{MANIFEST}")):
                self.objects.remove(f"{self.root}/{key}")
            self.note = ""
        except PermissionError:
            self.note = "old checkpoints stay in the store: this machine may not remove them"


def _number(key: str) -> int:
    """The number of the set that a key is of; -1 for what is none of ours."""
    n = key.partition("/")[0]
    return int(n) if n.isdecimal() else -1


def _complete(keys: list[str]) -> list[int]:
    return sorted(_number(key) for key in keys if key == f"{_number(key)}/{MANIFEST}")


def _key(n: int, name: str, known: dict[str, Any]) -> str:
    return f"{known.get('set', n)}/files/{name}"
