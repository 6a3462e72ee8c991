"""What the training prints: all of it to a bounded log, its lines to whoever watches.

One pipe takes stdout and stderr. Two things must not happen: that a quiet training costs CPU because each line wakes
us, and that a loud one is slowed because we sleep while its pipe is full. So after each read we rest for as long as it
would take to fill a quarter of the pipe, at most `REST_S`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import sys
import time
from pathlib import Path

from . import clock, files

READ_BYTES = 1 << 20
LINE_BYTES = 1 << 16
REST_S = 0.2
LINES_PER_S = 5000
"""More lines than that are logged, but not read for metrics."""
F_SETPIPE_SZ = 1031  # Linux, fcntl(2)


class Output:
    """The output of one training, through one pipe at a time."""

    def __init__(self, folder: Path, limit_bytes: int, notes: dict[str, str]) -> None:
        self.path = folder / "output.log"
        self.limit_bytes = limit_bytes
        self.notes = notes
        self.log = files.open_private(self.path)
        self.size = os.fstat(self.log.fileno()).st_size
        self.bytes = 0
        self.last_at = self.read_at = clock.awake()
        self.reader = -1
        self.rest = b""
        self.rate = 0.0
        self.allowed = float(LINES_PER_S)
        self.unread = 0

    def open(self) -> int:
        """A new pipe; returns the end to write to, which the caller closes once a child has it."""
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.quarter = 1 << 14
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # the user's pipes are many and large: it works, with more turns
                self.quarter = fcntl.fcntl(writer, F_SETPIPE_SZ, READ_BYTES) // 4
        self.last_at = clock.awake()
        return writer

    def quiet_s(self) -> float:
        """Seconds since the last byte."""
        return clock.awake() - self.last_at

    def read(self, wait_s: float) -> list[str]:
        """Wait that long for output, log it, rest, return its whole lines. At the end of the pipe just wait."""
        if self.reader < 0:
            time.sleep(wait_s)
            return []
        if not select.select([self.reader], [], [], wait_s)[0]:
            return []
        data = os.read(self.reader, READ_BYTES)
        now = clock.awake()
        passed_s, self.read_at = now - self.read_at, now
        if not data:
            os.close(self.reader)
            self.reader, data = -1, b"\n"  # the last line may have no end
            return self._lines(data, passed_s)
        self.last_at = now
        self.bytes += len(data)
        self.rate = (self.rate + len(data) / max(passed_s, 1e-6)) / 2
        self.write(data)
        lines = self._lines(data, passed_s)
        time.sleep(min(wait_s, REST_S, self.quarter / self.rate))
        return lines

    def _lines(self, data: bytes, passed_s: float) -> list[str]:
        self.allowed = min(self.allowed + passed_s * LINES_PER_S, LINES_PER_S)
        allowed = int(self.allowed)
        # The newest lines are split off, and only as many as are allowed: memory stays bounded in any flood.
        parts = (self.rest + data.replace(b"\r", b"\n")).rsplit(b"\n", allowed + 1)
        self.rest = parts.pop()[:LINE_BYTES]
        if len(parts) > allowed:
            self.unread += parts.pop(0).count(b"\n") + 1
            self.notes["flood"] = f"{self.unread} lines came too fast to be read for metrics; the log has them"
        self.allowed -= len(parts)
        return [part[:LINE_BYTES].decode("utf-8", "replace") for part in parts if part]

    def write(self, data: bytes) -> None:
        """Put bytes in the log; the one before is kept when it is full. A disk that refuses is a note."""
        try:
            if self.size and self.size + len(data) > self.limit_bytes:
                self.path.replace(self.path.with_name("output.log.1"))
                new = files.open_private(self.path)
                self.log.close()
                self.log, self.size = new, 0
            self.size += len(data)
            files.write(self.log, data)
        except OSError as error:
            self.notes["log"] = f"output.log: {error.strerror}: it misses a part of the output"
