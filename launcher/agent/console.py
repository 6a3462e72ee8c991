"""The console on a computer that has no serial port: a bounded file of heartbeats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import files, heartbeat

LIMIT_BYTES = 1 << 20
KEPT_BYTES = LIMIT_BYTES // 2


class Console:
    """Appends one line for each heartbeat. What cannot be written becomes a note."""

    def __init__(self, folder: Path, notes: dict[str, str]) -> None:
        self.path = folder / "console.log"
        self.notes = notes
        self.seq = 0
        self.torn = False

    def beat(self, beat: dict[str, Any]) -> None:
        """Write one heartbeat. Raises ValueError for one that JSON cannot hold."""
        self.seq += 1
        line = heartbeat.encode(self.seq, beat).encode() + b"\n"
        try:
            with files.open_private(self.path) as file:
                # A full disk may have cut the last line: this one must not be glued to it.
                line = b"\n" * self.torn + line
                self.torn = True
                files.write(file, line)
                self.torn = False
                size = os.fstat(file.fileno()).st_size
            if size > LIMIT_BYTES:
                tail = self.path.read_bytes()[-KEPT_BYTES:]
                files.replace(self.path, tail[tail.index(b"\n") + 1 :])
        except OSError as error:
            self.notes["console"] = f"console.log: {error.strerror}"
