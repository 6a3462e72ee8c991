"""The training's log in a bucket, while it grows: chunk after chunk, below `<attempt>/log/`.

    <store>/<job>/<attempt>/log/000001    the first bytes, and so on

What is sent is bounded. A training that prints faster than its log can be sent loses a part of it, which is said there.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from . import files
from .objects import Objects

CHUNK_BYTES = 4 << 20
MOST_BYTES = 256 << 20
TAIL_BYTES = 1 << 20
"""Of a log that is longer than that: what is sent of its end."""
GAP = b"\n[gpulaunch: a part of the log was not sent: it is too long, or came too fast]\n"


class LogChunks:
    """Sends what is new. Where it stands is kept on the disk, for an agent that is started again."""

    def __init__(self, objects: Objects, root: str, log: Path) -> None:
        self.objects = objects
        self.root = root
        self.log = log
        self.state = log.with_name("log-chunks.json")
        self.at: dict[str, Any] = {"n": 0, "inode": 0, "offset": 0, "sent": 0}
        with contextlib.suppress(OSError, ValueError):
            self.at |= json.loads(self.state.read_bytes())

    def send(self, last: bool) -> None:
        """Send what is new; the end of a log that is too long comes when it is the last. Raises OSError."""
        older = self.log.with_name(self.log.name + ".1")
        if self.at["inode"] and _inode(self.log) != self.at["inode"]:
            if _inode(older) == self.at["inode"]:
                self._send_file(older)
            else:
                self._put(GAP)
            self.at |= {"inode": 0, "offset": 0}
        if self.log.exists():
            self._send_file(self.log)
        if last and self.at["sent"] >= MOST_BYTES:
            with self.log.open("rb") as file:
                start = max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0)
                if start > self.at["offset"]:
                    file.seek(start)
                    self._put(GAP + file.read(TAIL_BYTES))

    def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            self.at["inode"] = os.fstat(file.fileno()).st_ino
            while self.at["sent"] < MOST_BYTES and (data := _read(file, self.at["offset"])):
                self._put(data)
                self.at["offset"] += len(data)
                files.replace(self.state, json.dumps(self.at).encode())

    def _put(self, data: bytes) -> None:
        self.objects.put(f"{self.root}/{self.at['n'] + 1:06d}", data)
        self.at["n"] += 1
        self.at["sent"] += len(data)


def _read(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.read(CHUNK_BYTES)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
