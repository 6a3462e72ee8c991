"""Scalars from TensorBoard event files, without TensorBoard.

A record is the length (u64), its masked CRC-32C (u32), the payload, and the payload's (tensorflow/core/lib/io/
record_writer.h). The payload is a protobuf Event (tensorflow/core/util/event.proto) that may hold a Summary
(tensorboard/compat/proto/summary.proto). A torn last record is normal while the training writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .line_formats import Row, numbers

RECORDS_A_READ = 2000
LARGEST_SCALARS = 1 << 12  # bytes: what is larger is a picture, a histogram or a graph, and is passed over unread


def masked_crc(data: bytes) -> int:
    """CRC-32C as the record format stores it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_entry(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


_CRC = [_crc_entry(byte) for byte in range(256)]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: numbers for varints, bytes for all else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        value: Any
        if key & 7 == 0:
            value, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, at = _varint(data, at)
            value = data[at : at + size]
            at += size
        yield key >> 3, value


def _tensor(data: bytes) -> float | None:
    """A tensor that is a single float or double: tensor_content, float_val or double_val."""
    fields = dict(_fields(data))
    held = fields.get(4) or fields.get(5) or fields.get(6) or b""
    layout = {(1, 4): "<f", (2, 8): "<d"}.get((fields.get(1, 0), len(held)))
    return struct.unpack(layout, held)[0] if layout else None


def _scalars(event: bytes) -> Row:
    """The scalars of one Event, with its step."""
    pairs: list[tuple[str, Any]] = []
    step = 0
    for number, value in _fields(event):
        if number == 2:
            step = value
        elif number == 5:
            for _, held in _fields(value):
                fields = dict(_fields(held))
                simple = struct.unpack("<f", fields[2])[0] if 2 in fields else _tensor(fields.get(8, b""))
                pairs.append((fields[1].decode(), simple))
    row = numbers(pairs)
    return row and {**row, "step": float(step)}


class EventFile:
    """One event file, read on from where the last read ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Row]:
        """The rows that are new: scalars of one step that follow each other are one row. Raises OSError, ValueError."""
        rows: list[Row] = []
        with self._path.open("rb") as file:
            size = file.seek(0, 2)
            for _ in range(RECORDS_A_READ):
                file.seek(self._offset)
                head = file.read(12)
                length = int.from_bytes(head[:8], "little")
                end = self._offset + length + 16
                if len(head) < 12 or (_is_sound(head) and end > size):
                    break  # torn: the rest is on its way
                data = b"" if length > LARGEST_SCALARS else file.read(length + 4)
                if not _is_sound(head) or (data and not _is_sound(data)):
                    if rows:
                        break  # these first; if it is damage, the next read says so
                    raise ValueError(f"damaged at byte {self._offset}")
                self._offset = end
                self._take(_scalars(data[:-4]), rows)
        return rows

    def _take(self, row: Row, rows: list[Row]) -> None:
        if row and self._path.parent.name == "validation":
            # Keras writes one tag for both training and validation, each in a folder of its own.
            row = {name if name == "step" else "val_" + name.removeprefix("epoch_"): row[name] for name in row}
        if rows and rows[-1].keys() & row.keys() == {"step"} and rows[-1]["step"] == row["step"]:
            rows[-1].update(row)
        elif row:
            rows.append(row)


def _is_sound(data: bytes) -> bool:
    return int.from_bytes(data[-4:], "little") == masked_crc(data[:-4])
