"""The user's store: checkpoints while the training runs; log and result at the end.

    <store>/<job>/checkpoints/…          complete sets, see checkpoints.py
    <store>/<job>/<attempt>/output.log   and output.log.1; in a bucket in chunks, see log_chunks.py
    <store>/<job>/<attempt>/heartbeat    in a bucket: the console's newest line, with the log
    <store>/<job>/<attempt>/result.json  last

All of it happens in threads: a store may hang, and the deadlines must hold meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import clock
from .bucket import BucketSets
from .checkpoints import Checkpoints
from .egress import Egress
from .folder import Folder, FolderSets
from .log_chunks import LogChunks
from .objects import Objects, open_objects

RETRY_S = 10.0
LOG_S = 30.0


class Store:
    """Does nothing when the job has no store. Its errors are notes, never more."""

    def __init__(self, orders: dict[str, Any], folder: Path, notes: dict[str, str], egress: Egress) -> None:
        self.folder = folder
        self.notes = notes
        self.egress = egress
        self.thread: threading.Thread | None = None
        self.log_thread: threading.Thread | None = None
        self.next_s = self.next_log_s = 0.0
        self.every_s = 0.0
        self.checkpoints: Checkpoints | None = None
        self.chunks: LogChunks | None = None
        self.place: Folder | Objects | None = None
        where, job, attempt = orders["store"], orders["job"], orders["attempt"]
        if not where:
            return
        sets: FolderSets | BucketSets
        if where["kind"] == "folder":
            self.root = str(attempt)
            self.place = Folder(Path(where["path"], job))
            sets = FolderSets(self.place.root / "checkpoints")
        else:
            self.root = f"{job}/{attempt}"
            self.place = open_objects(where)
            self.chunks = LogChunks(self.place, f"{self.root}/log", folder / "output.log")
            sets = BucketSets(self.place, f"{job}/checkpoints", attempt, folder / "sets.json")
        if wanted := orders["checkpoints"]:
            self.checkpoints = Checkpoints(checkpoints_folder(orders), sets, wanted["keep"])
            self.every_s = self.next_s = wanted["every_s"]

    def tick(self, age_s: float) -> None:
        """Send checkpoints and log when it is time, unless that is still going on."""
        if self.place is None:
            return
        if self.checkpoints and age_s >= self.next_s and not self.busy():
            self.next_s = age_s + self.every_s
            self.thread = self._start(checkpoints=self._periodic)
        if self.chunks and age_s >= self.next_log_s and not (self.log_thread and self.log_thread.is_alive()):
            self.next_log_s = age_s + LOG_S
            self.log_thread = self._start(beat=self._send_beat, log=lambda: self._send_log(last=False))

    @property
    def sent(self) -> int:
        """Bytes that were sent so far."""
        return self.place.sent if self.place else 0

    @property
    def kept(self) -> int:
        """Bytes that the last checkpoint may need."""
        return self.checkpoints.bytes if self.checkpoints else 0

    def busy(self) -> bool:
        """Whether something is being sent that is to be waited for."""
        return bool(self.thread and self.thread.is_alive())

    def last(self, killed_at: float | None, done: Callable[[], bool]) -> None:
        """Send the last checkpoints and the log; `done` says that time is up.

        `killed_at` is the wall time at which a training was killed that may have been writing; None otherwise.
        """

        def checkpoints() -> None:
            # Whatever still changes is written by somebody else than the training, which has ended.
            while self._save(killed_at, periodic=False) and killed_at is None and not done():
                time.sleep(1)

        def log() -> None:
            if self.log_thread:
                self.log_thread.join()
            self._send_log(last=True)

        if self.place:
            self.thread = self._start(checkpoints=checkpoints, log=log)

    def result(self) -> None:
        """Send the result: the last thing that the store gets."""
        if self.place:
            self.thread = self._start(result=lambda: self._send("result.json"))

    def _periodic(self) -> None:
        if self._save(clock.wall(), periodic=True):
            self.next_s -= max(self.every_s - RETRY_S, 0)

    def _save(self, now: float | None, periodic: bool) -> int:
        if not self.checkpoints:
            return 0
        self.checkpoints.refused = lambda size: self.egress.refused(size, periodic)
        waiting = self.checkpoints.save(now)
        if self.checkpoints.lost:
            self.notes["store lost"] = "store: the checkpoints saved before have gone from it; saved anew"
        if note := self.checkpoints.sets.note:
            self.notes["store keep"] = f"store: {note}"
        return waiting

    def _send_log(self, last: bool) -> None:
        if self.chunks is None:
            for name in ("output.log.1", "output.log"):
                self._send(name)
        elif not self.egress.refused(1 << 22, periodic=True):
            self.chunks.send(last)

    def _send_beat(self) -> None:
        assert self.chunks is not None
        line = (self.folder / "console.log").read_bytes().split(b"\n")[-2:][0]
        if not self.egress.refused(len(line), periodic=True):
            self.chunks.objects.put(f"{self.root}/heartbeat", line)

    def _send(self, name: str) -> None:
        assert self.place is not None
        if (self.folder / name).exists():
            self.place.send(f"{self.root}/{name}", self.folder / name)

    def _start(self, **steps: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            for name, work in steps.items():
                try:
                    work()
                    self.notes.pop(f"store {name}", None)
                except Exception as error:  # noqa: BLE001 - whatever a store does, the training goes on
                    self.notes[f"store {name}"] = f"store: {name}: {error}"

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


def checkpoints_folder(orders: dict[str, Any]) -> Path:
    """Where the training saves; /workspace is the working folder's name inside a container."""
    return Path(orders["workdir"], orders["checkpoints"]["path"].removeprefix("/workspace").lstrip("/"))
