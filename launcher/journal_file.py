"""The journal's file: SQLite, opened so that a `kill -9` at any instruction is survivable.

WAL with synchronous=FULL. A file that is damaged is moved aside and never overwritten. A network file system is
refused, because SQLite's locks cannot be trusted there (sqlite.org, "How To Corrupt An SQLite Database File").
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.core.clock import SystemClock
from launcher.core.errors import JournalDamaged, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_NAME = "journal.db"
BUSY_S = 10.0

# Each entry brings the file from version N to N + 1. Entries are added, never changed.
MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE guards (
        account TEXT PRIMARY KEY, generation INTEGER NOT NULL, pid INTEGER, ticked INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, account TEXT NOT NULL, provider TEXT NOT NULL, cap_usd TEXT NOT NULL,
        spec TEXT NOT NULL, created_at TEXT NOT NULL, state TEXT NOT NULL, outcome TEXT, reason TEXT,
        exit_code INTEGER, ended_at TEXT, cancel_at TEXT, accepted_at TEXT, settings TEXT, elsewhere TEXT,
        offers TEXT NOT NULL, layers TEXT, owner TEXT NOT NULL, spend_usd TEXT
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX one_live_job_per_name ON jobs (name) WHERE state != 'gone';
    CREATE INDEX jobs_live ON jobs (account) WHERE state != 'gone';
    CREATE INDEX jobs_by_age ON jobs (created_at);
    CREATE INDEX jobs_by_name ON jobs (name, created_at);
    CREATE TABLE attempts (
        job TEXT NOT NULL REFERENCES jobs (id), number INTEGER NOT NULL, state TEXT NOT NULL, account TEXT NOT NULL,
        token TEXT NOT NULL UNIQUE, intent BLOB NOT NULL, provider TEXT NOT NULL, region TEXT NOT NULL, zone TEXT,
        instance_type TEXT NOT NULL, spot INTEGER NOT NULL, rate_usd_per_hour TEXT NOT NULL,
        standing_usd_per_hour TEXT NOT NULL, one_time_usd TEXT NOT NULL, granularity_s TEXT NOT NULL,
        floor_s TEXT NOT NULL, lateness_s REAL NOT NULL,
        created_at TEXT NOT NULL, soft_after_s REAL NOT NULL, hard_after_s REAL NOT NULL, limit_outcome TEXT NOT NULL,
        create_called INTEGER NOT NULL, machine_id TEXT, started_at TEXT, ended_at TEXT, gone_at TEXT,
        billed_s REAL, observed_at TEXT, compute_usd TEXT, egress_usd TEXT NOT NULL, confirmed INTEGER NOT NULL,
        outcome TEXT, reason TEXT,
        error_kind TEXT, error_scope TEXT,
        beat TEXT, beat_seq INTEGER NOT NULL, log_path TEXT, console_url TEXT, trouble TEXT, deletes INTEGER NOT NULL,
        PRIMARY KEY (job, number)
    );
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, attempt INTEGER, at TEXT NOT NULL,
        kind TEXT NOT NULL, data TEXT NOT NULL
    );
    CREATE INDEX events_by_job ON events (job, seq);
    """,
    "ALTER TABLE attempts ADD COLUMN cloud_deadline_at TEXT;",
)

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "afs", "ceph", "glusterfs", "9p", "fuse.sshfs", "webdav", "lustre")


def open_journal(home: Path) -> sqlite3.Connection:
    """The journal in this state folder, made if there is none, brought to the current version.

    Raises StateError when the folder cannot be used, or when the file is damaged; that file is then kept aside.
    """
    path = home / FILE_NAME
    with explained(home):
        if not path.exists():
            home.mkdir(parents=True, exist_ok=True, mode=0o700)
            _refuse_network_file_system(home)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into what a user can act on. A damaged journal is moved aside."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorname", "") or ""
        if code in ("SQLITE_NOTADB", "SQLITE_CORRUPT") or code.startswith("SQLITE_CORRUPT_"):
            raise _moved_aside(home, error) from error
        if isinstance(error, sqlite3.OperationalError):
            raise StateError(
                f"The state folder {home} cannot be used: {error}.",
                "The disk may be full, or the folder may not be writable.",
                "Free some space or point GPULAUNCH_HOME at another folder, then run the command again.",
            ) from error
        raise
    except OSError as error:
        raise StateError(
            f"The state folder {home} cannot be used: {error.strerror or error}.",
            "gpulaunch must write down what it creates before it creates it.",
            "Free some space or point GPULAUNCH_HOME at another folder, then run the command again.",
        ) from error


def _moved_aside(home: Path, error: sqlite3.DatabaseError) -> JournalDamaged:
    next_step = "Run the command again: it starts with an empty journal."
    why = "Machines that it knew still end by themselves: the agent and the backstop hold their deadlines."
    if _is_sound(home / FILE_NAME):
        return JournalDamaged(f"The journal was damaged ({error}); another command has kept it aside.", why, next_step)
    stamp = SystemClock().now().strftime("%Y%m%dT%H%M%S")
    kept = home / f"{FILE_NAME}.damaged-{stamp}"
    count = 1
    while kept.exists():
        count += 1
        kept = home / f"{FILE_NAME}.damaged-{stamp}-{count}"
    for suffix in ("-wal", "-shm", ""):
        part = home / (FILE_NAME + suffix)
        with suppress(FileNotFoundError):
            part.rename(kept.with_name(kept.name + suffix))
    return JournalDamaged(f"The journal was damaged ({error}); it is kept as {kept}.", why, next_step)


def _is_sound(path: Path) -> bool:
    """Whether the file that is there now is a good one: another process may have made it since the damage was met."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)) as fresh:
            return bool(fresh.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise StateError(
            "The journal was written by a newer gpulaunch.",
            f"It has version {version}; this one reads up to {len(MIGRATIONS)}.",
            "Upgrade gpulaunch, or point GPULAUNCH_HOME at another folder.",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for script in MIGRATIONS[version:]:
            for statement in script.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _refuse_network_file_system(home: Path) -> None:
    import psutil

    here = str(home.resolve())
    mounts = [
        part for part in psutil.disk_partitions(all=True) if (here + "/").startswith(part.mountpoint.rstrip("/") + "/")
    ]
    if not mounts:
        return
    file_system = max(mounts, key=lambda part: len(part.mountpoint)).fstype
    if file_system.lower().startswith(_NETWORK_FILE_SYSTEMS):
        raise StateError(
            f"The state folder {home} is on a network file system ({file_system}).",
            "Locks cannot be trusted there, and a journal without locks can lose a machine.",
            "Point GPULAUNCH_HOME at a folder on a disk of this computer.",
        )
