"""The real journal in memory, that can die before and after each write, or find its disk full."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core.errors import StateError
from launcher.journal import Journal
from launcher.journal_file import _migrate
from providers.simulated.faults import SimulatedCrash

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES = ("events", "attempts", "jobs", "guards", "meta")


def empty_database() -> sqlite3.Connection:
    """A journal's database in memory, with the real tables and nothing in them."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.row_factory = sqlite3.Row
    _migrate(database)
    return database


class CrashingJournal(Journal):
    """The journal's own code on a database in memory.

    A process that dies inside a transaction leaves nothing of it: the rollback of the real code does the same here.
    """

    def __init__(self, database: sqlite3.Connection, seed: int | str, injected: Counter[str]) -> None:
        self.home = Path("/nowhere")
        self._db = database
        for table in _TABLES:
            database.execute(f"DELETE FROM {table}")
        self._random = random.Random(f"journal {seed}")
        self._injected = injected
        self.crash_share = 0.0
        """The probability that a write is the process's last act, before it or after it."""
        self.disk_is_full = False

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        fate = self._random.random() if self.crash_share else 1.0
        if fate < self.crash_share / 2:
            self._die("before")
        if self.disk_is_full:
            self._injected["DiskFull"] += 1
            raise StateError("The state folder cannot be used: the disk is full.")
        with super()._transaction() as database:
            yield database
        if self.crash_share / 2 <= fate < self.crash_share:
            self._die("after")

    def _die(self, when: str) -> None:
        self._injected[f"CrashAtWrite:{when}"] += 1
        raise SimulatedCrash(when)
