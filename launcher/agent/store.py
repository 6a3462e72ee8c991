"""The user's store, as far as it is a folder: checkpoints while the training runs; log and result at the end.

    <store>/<job>/checkpoints/…          complete sets, see checkpoints.py
    <store>/<job>/<attempt>/output.log   and output.log.1
    <store>/<job>/<attempt>/result.json  last

All of it happens in threads: a store may hang, and the deadlines must hold meanwhile.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import clock
from .checkpoints import Checkpoints

RETRY_S = 10.0


class Store:
    """Does nothing when the job has no store. Its errors are notes, never more."""

    def __init__(self, orders: dict[str, Any], folder: Path, notes: dict[str, str]) -> None:
        self.folder = folder
        self.notes = notes
        self.thread: threading.Thread | None = None
        self.next_s = 0.0
        self.every_s = 0.0
        self.checkpoints: Checkpoints | None = None
        self.place: Path | None = None
        if not orders["store"]:
            return
        job = Path(orders["store"]["path"], orders["job"])
        self.place = job / str(orders["attempt"])
        if wanted := orders["checkpoints"]:
            # /workspace is the working folder's name inside a container.
            source = Path(orders["workdir"], wanted["path"].removeprefix("/workspace").lstrip("/"))
            self.checkpoints = Checkpoints(source, job / "checkpoints", wanted["keep"])
            self.every_s = self.next_s = wanted["every_s"]

    def tick(self, age_s: float) -> None:
        """Send checkpoints when it is time, unless that is still going on."""
        if self.checkpoints and age_s >= self.next_s and not self.busy():
            self.next_s = age_s + self.every_s
            self._start(checkpoints=self._periodic)

    def busy(self) -> bool:
        """Whether something is being sent."""
        return bool(self.thread and self.thread.is_alive())

    def last(self, killed_at: float | None, done: Callable[[], bool]) -> None:
        """Send the last checkpoints and the log; `done` says that time is up.

        `killed_at` is the wall time at which a training was killed that may have been writing; None otherwise.
        """

        def checkpoints() -> None:
            # Whatever still changes is written by somebody else than the training, which has ended.
            while self._save(killed_at) and killed_at is None and not done():
                time.sleep(1)

        def log() -> None:
            for name in ("output.log.1", "output.log"):
                self._send(name)

        if self.place:
            self._start(checkpoints=checkpoints, log=log)

    def result(self) -> None:
        """Send the result: the last thing that the store gets."""
        if self.place:
            self._start(result=lambda: self._send("result.json"))

    def _periodic(self) -> None:
        if self._save(clock.wall()):
            self.next_s -= max(self.every_s - RETRY_S, 0)

    def _save(self, now: float | None) -> int:
        if not self.checkpoints:
            return 0
        waiting = self.checkpoints.save(now)
        if self.checkpoints.lost:
            self.notes["store lost"] = "store: the checkpoints saved before have gone from it; saved anew"
        return waiting

    def _send(self, name: str) -> None:
        assert self.place is not None
        self.place.mkdir(parents=True, exist_ok=True)
        if (self.folder / name).exists():
            shutil.copyfile(self.folder / name, self.place / (name + ".tmp"))
            (self.place / (name + ".tmp")).replace(self.place / name)

    def _start(self, **steps: Callable[[], None]) -> None:
        def run() -> None:
            for name, work in steps.items():
                try:
                    work()
                    self.notes.pop(f"store {name}", None)
                except Exception as error:  # noqa: BLE001 - whatever a store does, the training goes on
                    self.notes[f"store {name}"] = f"store: {name}: {error}"

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
