"""The console: a bounded file of heartbeats and, on a rented machine, the serial port that the cloud lets us read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import clock, files, heartbeat

LIMIT_BYTES = 1 << 20
KEPT_BYTES = LIMIT_BYTES // 2
SERIAL_S = 1.0
"""A serial port that takes nothing for so long is given up for this time."""
SHOWN_BYTES_PER_S = 256
SHOWN_BYTES = 4096
"""Of the training's output: the cloud keeps the newest 64 KB of the port, and the heartbeats must be among them."""


class Console:
    """Appends one line for each heartbeat. What cannot be written becomes a note."""

    def __init__(self, folder: Path, notes: dict[str, str], ports: Sequence[str] = ()) -> None:
        self.path = folder / "console.log"
        self.notes = notes
        self.ports = ports
        self.torn = False
        self.shown_at = clock.awake()
        self.room = float(SHOWN_BYTES)
        self.seq = 0
        if ports and self.path.exists():  # an agent that was started again counts on
            last = heartbeat.latest(self.path.read_bytes()[-KEPT_BYTES:])
            self.seq = last[0] if last else 0

    def beat(self, beat: dict[str, Any]) -> None:
        """Write one heartbeat. Raises ValueError for one that JSON cannot hold."""
        self.seq += 1
        line = heartbeat.encode(self.seq, beat).encode() + b"\n"
        self._send(b"\n" + line)  # the port is shared with the kernel, which may be in the middle of a line
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

    def show(self, lines: list[str]) -> None:
        """Let some of the training's output be seen at the serial port, each line so that it cannot be a heartbeat."""
        if not self.ports:
            return
        now = clock.awake()
        self.room = min(self.room + (now - self.shown_at) * SHOWN_BYTES_PER_S, SHOWN_BYTES)
        self.shown_at = now
        for line in lines:
            # As Python would write it: no character that ends a line, moves a cursor or is not ASCII is left.
            shown = heartbeat.OUTPUT_PREFIX + ascii(line)[1:-1] + "\n"
            if len(shown) > self.room:
                return
            self.room -= len(shown)
            self._send(shown.encode())

    def _send(self, data: bytes) -> None:
        """To the first port that takes it."""
        why = ""
        for port in self.ports:
            try:
                file = os.open(port, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
                try:
                    _write(file, data)
                finally:
                    os.close(file)
                self.notes.pop("port", None)
                return
            except OSError as error:
                why = f"{port}: {error.strerror}"
        if why:
            self.notes["port"] = why


def _write(file: int, data: bytes) -> None:
    """All of it, unless the port hangs. Raises OSError."""
    until = clock.awake() + SERIAL_S
    while data:
        try:
            data = data[os.write(file, data) :]
        except BlockingIOError:
            if clock.awake() > until:
                raise
            time.sleep(0.01)
