"""The heartbeat line: how a machine without an inbound port tells how it is.

One line on the console: `GPULAUNCH1 <seq> <crc> {json}`. The checksum is the CRC-32 of `<seq> {json}` in hex, so that a
line torn by a full buffer, or mixed with another writer's, is passed over. Training output that reaches the console is
prefixed with `| `, so that it cannot forge one.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

MARK = "GPULAUNCH1"
OUTPUT_PREFIX = "| "
MOST_DIGITS = 18
"""Of a sequence number: Python refuses to read thousands of them, and a console may hold anything."""


def _crc(seq: int, body: str) -> str:
    return format(zlib.crc32(f"{seq} {body}".encode()), "08x")


def encode(seq: int, beat: dict[str, Any]) -> str:
    """One heartbeat as a line, without its newline."""
    body = json.dumps(beat, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return f"{MARK} {seq} {_crc(seq, body)} {body}"


def decode(line: str) -> tuple[int, dict[str, Any]] | None:
    """The sequence number and content of a heartbeat line, or None for any other or damaged line."""
    parts = line.rstrip("\r\n").split(" ", 3)
    if len(parts) != 4 or parts[0] != MARK or not parts[1].isdecimal() or len(parts[1]) > MOST_DIGITS:
        return None
    seq, crc, body = int(parts[1]), parts[2], parts[3]
    if crc != _crc(seq, body):
        return None
    try:
        beat = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return (seq, beat) if isinstance(beat, dict) else None


def latest(console: bytes) -> tuple[int, dict[str, Any]] | None:
    """The heartbeat with the highest sequence number in a console's tail."""
    found = None
    for line in console.decode("utf-8", "replace").splitlines():
        decoded = decode(line)
        if decoded is not None and (found is None or decoded[0] >= found[0]):
            found = decoded
    return found
