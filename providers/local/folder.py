"""A machine's folder: what it is made from, who lives in it, and how it ended.

machine.json   the frozen request, and when this boot of this computer made it
boot.py        the boot data
backstop.lock  held by the backstop while it lives       agent.lock  held by the agent while it lives
agent.pid      the agent's pid, trusted only while agent.lock is held
pulse          seconds billed so far, renewed by the backstop
delete         somebody ordered the machine destroyed, and when
ended.json     how long it lived: written when the last of its processes was seen dead
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.core import locks

if TYPE_CHECKING:
    from collections.abc import Iterator


class Folder:
    """One machine's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    def exists(self) -> bool:
        """Whether such a machine was ever made."""
        return (self.path / "machine.json").exists()

    def make(self, record: dict[str, Any], boot_data: bytes) -> None:
        """Write the folder; `machine.json` comes last, so that a folder with it is whole."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self.path / "boot.py", boot_data)
        _write(self.path / "machine.json", json.dumps(record).encode())

    def record(self) -> dict[str, Any]:
        """What `make` was given."""
        return _read(self.path / "machine.json") or {}

    def started(self) -> bool:
        """Whether the agent was started."""
        return (self.path / "agent.pid").exists()

    def claim_start(self) -> bool:
        """True once in a machine's life: the agent is started at most once."""
        try:
            os.close(os.open(self.path / "agent.pid", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True

    def write_agent_pid(self, pid: int) -> None:
        """Remember the agent's pid."""
        _write(self.path / "agent.pid", str(pid).encode())

    def agent_pid(self) -> int | None:
        """The agent's pid while the agent lives, else None."""
        if not self.is_held("agent.lock"):
            return None
        text = (self.path / "agent.pid").read_text(encoding="ascii").strip()
        return int(text) if text else None

    def is_held(self, lock: str) -> bool:
        """Whether a living process holds that lock."""
        return locks.is_held(self.path / lock)

    def hold(self, lock: str) -> int | None:
        """Take that lock for as long as the returned descriptor is open; None when another process has it."""
        return locks.hold(self.path / lock)

    def write_gpu(self, readings: dict[str, float]) -> None:
        """Remember what the GPU did so far."""
        _write(self.path / "gpu.json", json.dumps(readings).encode())

    def gpu(self) -> dict[str, float] | None:
        """What the GPU did so far, where it can be read."""
        return _read(self.path / "gpu.json")

    def order_delete(self, billed_s: float) -> None:
        """Write down that the machine is to be destroyed; the first order counts."""
        if not (self.path / "delete").exists():
            _write(self.path / "delete", f"{billed_s:.3f}".encode())

    def delete_ordered_s(self) -> float | None:
        """The age of the machine when its destruction was ordered, or None."""
        try:
            return float((self.path / "delete").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def write_ended(self, ended: dict[str, Any]) -> None:
        """Write down the end; the first word counts."""
        if self.ended() is None:
            _write(self.path / "ended.json", json.dumps(ended).encode())

    def ended(self) -> dict[str, Any] | None:
        """How the machine ended, once all of it was seen dead."""
        return _read(self.path / "ended.json")

    def tail(self, name: str, most: int) -> bytes:
        """The last bytes of a file in the folder; empty when there is none."""
        try:
            with (self.path / name).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - most, 0))
                return file.read(most)
        except FileNotFoundError:
            return b""


def _write(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a crash, meets the old content or the new, never half."""
    with _beside(path) as beside:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None
