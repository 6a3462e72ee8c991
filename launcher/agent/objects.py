"""A bucket from the machine's side: objects by their paths below the store, whole or not there at all.

A big file goes in parts, several side by side, so that memory stays bounded whatever its size. `s3` and `blob` say how
each cloud is spoken to; https://cloud.google.com/storage/docs/xml-api/overview is why there are not three.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .web import Web

PART_BYTES = 8 << 20
MOST_PARTS = 10_000
"""Of one object, on S3 and Google's store; Azure allows 50,000."""
LINES = 4
READ_BYTES = 1 << 20

_AWKWARD = re.compile("[\0-\x1f\x7f#%\\\\\udc80-\udcff]")

Version = tuple[int, int]
"""Size and time of change (ns): a file that has both unchanged is taken as unchanged."""


def version(of: os.stat_result) -> Version:
    """The version that a look at a file tells."""
    return of.st_size, of.st_mtime_ns


def stored_name(path: str) -> str:
    """The name of a file in the store, which not every bucket could hold as it is: such characters become `%XX`."""
    return _AWKWARD.sub(lambda found: f"%{os.fsencode(found[0])[0]:02X}", path)


def md5(data: bytes) -> str:
    """The checksum by which all three refuse a body that did not arrive as it was sent (Content-MD5)."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def side_by_side(work: Callable[[int, Any], Any], items: Iterable[Any]) -> list[Any]:
    """`work(number, item)` for each, a few at the same time; the results in order. Raises the first error.

    The threads are daemons: one that hangs keeps nobody from ending.
    """
    tasks: queue.Queue[tuple[int, Any] | None] = queue.Queue(1)
    results: dict[int, Any] = {}
    errors: list[Exception] = []
    threads = [threading.Thread(target=_line, args=(work, tasks, results, errors), daemon=True) for _ in range(LINES)]
    for thread in threads:
        thread.start()
    try:
        for task in enumerate(items, 1):
            tasks.put(task)
            if errors:
                break
    finally:
        for _ in threads:
            tasks.put(None)
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in sorted(results)]


def _line(work: Callable[[int, Any], Any], tasks: Any, results: dict[int, Any], errors: list[Exception]) -> None:
    while (task := tasks.get()) is not None:
        if not errors:
            try:
                results[task[0]] = work(*task)
            except Exception as error:  # noqa: BLE001 - the caller raises it
                errors.append(error)


class Objects:
    """One bucket. Every method raises OSError: FileNotFoundError, PermissionError, or another."""

    readable = True
    web: Web

    # What each cloud says in its own way.

    def put(self, path: str, data: bytes) -> None:
        """Write a small object."""
        raise NotImplementedError

    def claim(self, path: str) -> None:
        """Write an empty object that is not there yet. Raises FileExistsError."""
        raise NotImplementedError

    def begin(self, path: str) -> str:
        """Begin an object in parts; what names it until it is finished."""
        raise NotImplementedError

    def part(self, path: str, upload: str, number: int, data: bytes) -> str:
        """Send one part; what names it."""
        raise NotImplementedError

    def finish(self, path: str, upload: str, parts: list[str]) -> None:
        """Make the object of its parts."""
        raise NotImplementedError

    def abort(self, path: str, upload: str) -> None:
        """Take back the parts of an object that will not be."""
        raise NotImplementedError

    def get(self, path: str, start: int = 0, size: int = 0) -> bytes:
        """An object, or `size` bytes of it."""
        raise NotImplementedError

    def below(self, path: str) -> list[str]:
        """The paths of all objects below this one, relative to it."""
        raise NotImplementedError

    def remove(self, path: str) -> None:
        """Remove an object, should it be there."""
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """Bytes that were sent so far."""
        return self.web.sent

    # What is the same for all.

    def send(self, path: str, source: Path) -> dict[str, Any] | None:
        """Send one file; its size, time and checksum, or None if it changed meanwhile."""
        digest = hashlib.sha256()
        with source.open("rb") as file:
            before = version(os.fstat(file.fileno()))
            read = _parts(file, before[0], digest)
            if before[0] <= PART_BYTES:
                self.put(path, b"".join(read))
            else:
                self._send_parts(path, read)
            if version(os.fstat(file.fileno())) != before:
                return None
        return {"size": before[0], "mtime_ns": before[1], "sha256": digest.hexdigest()}

    def _send_parts(self, path: str, parts: Iterable[bytes]) -> None:
        upload = self.begin(path)
        try:
            self.finish(path, upload, side_by_side(lambda n, data: self.part(path, upload, n, data), parts))
        except Exception:
            with contextlib.suppress(OSError):
                self.abort(path, upload)
            raise

    def fetch(self, path: str, target: Path, size: int, progress: Callable[[int], None] = lambda _: None) -> str:
        """Bring an object of that size into a new file; its checksum (SHA-256), in hex."""
        digest = hashlib.sha256()
        with target.open("w+b") as file:

            def bring(_: int, start: int) -> None:
                wanted = min(PART_BYTES, size - start)
                data = self.get(path, start, wanted)
                if len(data) != wanted:
                    raise OSError(f"{path} is shorter than it should be")
                os.pwrite(file.fileno(), data, start)
                progress(wanted)

            side_by_side(bring, range(0, size, PART_BYTES))
            while data := file.read(READ_BYTES):
                digest.update(data)
        return digest.hexdigest()


def _parts(file: BinaryIO, size: int, digest: Any) -> Iterator[bytes]:
    """The first `size` bytes of a file, part by part; fewer if it has become shorter."""
    most = max(PART_BYTES, -(-size // MOST_PARTS))
    while size > 0 and (data := file.read(min(most, size))):
        size -= len(data)
        digest.update(data)
        yield data


def open_objects(store: dict[str, Any]) -> Objects:
    """The bucket that the orders name."""
    if store["kind"] == "blob":
        from .blob import Blob

        return Blob(store)
    from . import s3

    kind: Any = s3.Post if store.get("post") else {"s3": s3.S3, "gcs": s3.Gcs}[store["kind"]]
    opened: Objects = kind(store)
    return opened
