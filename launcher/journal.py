"""The journal: durable state of jobs, attempts, intents and events.

Commands write requests (a new job, a wish to end one). Everything else is written by the guard of the job's account,
through a `Writer` whose generation is checked in every transaction: a guard that was replaced cannot write. No
network call happens inside a transaction.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from launcher.core.clock import AnchoredClock, Clock, boot_id
from launcher.core.errors import GpulaunchError, NameInUse, UsageError
from launcher.journal_file import explained, open_journal
from launcher.limits import Allowance, Usage, check, measure, month_of
from launcher.outcome import TRANSITIONS, State
from launcher.records import Attempt, Event, Job, columns, from_row, to_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping
    from pathlib import Path


class ReplacedError(GpulaunchError):
    """Another guard has taken over this account: this one must stop without touching anything."""


def _insert(verb: str, table: str, record: type[Job] | type[Attempt]) -> str:
    names = columns(record)
    marks = ", ".join(f":{name}" for name in names)
    return f"{verb} INTO {table} ({', '.join(names)}) VALUES ({marks})"


_INSERT_JOB = _insert("INSERT", "jobs", Job)
_SAVE_ATTEMPT = _insert("INSERT OR REPLACE", "attempts", Attempt)


class Journal:
    """The journal of one state folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._db = open_journal(home)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with explained(self.home):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with explained(self.home):
            return self._db.execute(sql, values).fetchall()

    # Reading

    def jobs(self, *, live: bool | None = None, account: str | None = None, limit: int = -1) -> list[Job]:
        """Jobs, newest first: all, or only those that are (not) live, or of one account."""
        where = ["1"]
        values: list[Any] = []
        if live is not None:
            where.append("state != 'gone'" if live else "state = 'gone'")
        if account is not None:
            where.append("account = ?")
            values.append(account)
        sql = f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY created_at DESC LIMIT ?"  # noqa: S608
        return [from_row(Job, row) for row in self._rows(sql, *values, limit)]

    def job(self, job_id: str) -> Job:
        """The job with this id. Raises KeyError."""
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows:
            raise KeyError(job_id)
        return from_row(Job, rows[0])

    def find(self, name_or_id: str) -> Job:
        """The job with this id, or the newest with this name. Raises UsageError when there is none."""
        rows = self._rows(
            "SELECT * FROM jobs WHERE id = ?1 OR name = ?1 ORDER BY state = 'gone', created_at DESC LIMIT 1", name_or_id
        )
        if not rows:
            raise UsageError(f"There is no job {name_or_id[:60]!r}.", fix="gpulaunch status --all lists them.")
        return from_row(Job, rows[0])

    def attempts(self, job_id: str) -> list[Attempt]:
        """The attempts of a job, oldest first."""
        rows = self._rows("SELECT * FROM attempts WHERE job = ? ORDER BY number", job_id)
        return [from_row(Attempt, row) for row in rows]

    def live_attempts(self, account: str) -> list[Attempt]:
        """Every attempt of this account that was not seen gone."""
        rows = self._rows("SELECT * FROM attempts WHERE account = ? AND state != 'gone' ORDER BY job", account)
        return [from_row(Attempt, row) for row in rows]

    def live_accounts(self) -> list[str]:
        """The accounts that have a live job."""
        return [row[0] for row in self._rows("SELECT DISTINCT account FROM jobs WHERE state != 'gone' ORDER BY 1")]

    def events(self, job_id: str, after: int = 0) -> list[Event]:
        """What happened to a job since the event with number `after`."""
        rows = self._rows("SELECT * FROM events WHERE job = ? AND seq > ? ORDER BY seq", job_id, after)
        return [
            Event(
                row["seq"],
                row["job"],
                row["attempt"],
                datetime.fromisoformat(row["at"]),
                row["kind"],
                json.loads(row["data"]),
            )
            for row in rows
        ]

    def ticks(self, account: str) -> tuple[int, int]:
        """The generation of this account's guard and how often it has looked at everything."""
        rows = self._rows("SELECT generation, ticked FROM guards WHERE account = ?", account)
        return (rows[0]["generation"], rows[0]["ticked"]) if rows else (0, 0)

    def usage(self, at: datetime) -> Usage:
        """What the jobs here hold of the limits above one job, in the month of `at`."""
        first, after = (bound.isoformat(timespec="microseconds") for bound in month_of(at))
        sql = "SELECT * FROM jobs WHERE state != 'gone' OR (created_at >= ? AND created_at < ?)"
        return measure([from_row(Job, row) for row in self._rows(sql, first, after)], at)

    # Requests, which any command may write

    def add_job(self, job: Job, *, now: datetime, allowance: Allowance | None = None) -> None:
        """Write down a new job, still without a machine: from here on its cap is reserved.

        Raises NameInUse, and LimitReached when the job does not fit into what the configuration allows.
        """
        with self._transaction() as db:
            row = db.execute("SELECT id FROM jobs WHERE name = ? AND state != 'gone'", (job.name,)).fetchone()
            if row is not None:
                raise NameInUse(
                    f"A job named {job.name!r} is live already ({row['id']}).",
                    "Two live jobs cannot share a name.",
                    f"Follow it with `gpulaunch status {job.name}`, end it with `gpulaunch down {job.name}`, "
                    "or choose another name with --name.",
                )
            if allowance is not None and allowance.is_set:
                check(allowance, self.usage(job.created_at), job.cap_usd)
            db.execute(_INSERT_JOB, to_row(job))
            _add_event(db, job.id, None, now, "planned", {"cap_usd": str(job.cap_usd), "provider": job.provider})

    def request_cancel(self, job_id: str, *, now: datetime, by: str) -> bool:
        """Ask for a job to be torn down. False when it is gone already or was asked before."""
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET cancel_at = ? WHERE id = ? AND state != 'gone' AND cancel_at IS NULL",
                (now.isoformat(), job_id),
            ).rowcount
            if changed:
                _add_event(db, job_id, None, now, "cancel_requested", {"by": by})
            return changed == 1

    # Time

    def clock(self, inner: Clock) -> Clock:
        """A clock that all processes of this boot agree on, and that a step of the wall clock does not move.

        Its anchor is renewed after a reboot, and while no job is live.
        """
        boot = boot_id()
        live = self._rows("SELECT 1 FROM jobs WHERE state != 'gone' LIMIT 1")
        kept = self._rows("SELECT value FROM meta WHERE key = 'clock'") if live else []
        if kept:
            anchor = json.loads(kept[0]["value"])
            if anchor["boot"] == boot:
                return AnchoredClock(inner, (datetime.fromisoformat(anchor["at"]), anchor["monotonic"]))
        clock = AnchoredClock(inner)
        with self._transaction() as db:
            at, monotonic = clock.anchor
            value = json.dumps({"boot": boot, "at": at.isoformat(), "monotonic": monotonic})
            db.execute("INSERT OR REPLACE INTO meta VALUES ('clock', ?)", (value,))
            return clock

    def writer(self, account: str, pid: int) -> Writer:
        """Take over this account as its guard: from now on no earlier guard can write."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO guards (account, generation, pid) VALUES (?1, 1, ?2) "
                "ON CONFLICT (account) DO UPDATE SET generation = generation + 1, pid = ?2, ticked = 0",
                (account, pid),
            )
            row = db.execute("SELECT generation FROM guards WHERE account = ?", (account,)).fetchone()
        return Writer(self, account, row["generation"])


class Writer:
    """What the guard of one account writes, as long as no other guard has taken over."""

    def __init__(self, journal: Journal, account: str, generation: int) -> None:
        self.journal = journal
        self.account = account
        self.generation = generation

    @contextmanager
    def _owned(self) -> Iterator[sqlite3.Connection]:
        with self.journal._transaction() as db:
            self._check(db.execute("SELECT generation FROM guards WHERE account = ?", (self.account,)).fetchone())
            yield db

    def _check(self, row: Any) -> None:
        if row is None or row["generation"] != self.generation:
            raise ReplacedError("Another guard watches this account now.", "There is one guard per account.")

    def check(self) -> None:
        """Raise ReplacedError unless this guard is still the one. Called before each effect."""
        self._check(
            next(iter(self.journal._rows("SELECT generation FROM guards WHERE account = ?", self.account)), None)
        )

    def save(
        self,
        attempt: Attempt,
        *,
        now: datetime,
        kind: str = "",
        job: Job | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Attempt:
        """Write an attempt, its job's state, and an event if `kind` names one, in one transaction.

        Raises ValueError for a transition that the table of states does not hold.
        """
        with self._owned() as db:
            row = db.execute(
                "SELECT state FROM attempts WHERE job = ? AND number = ?", (attempt.job, attempt.number)
            ).fetchone()
            before = State(row["state"]) if row is not None else attempt.state
            if attempt.state != before and attempt.state not in TRANSITIONS[before]:
                raise ValueError(f"attempt {attempt.token}: {before} to {attempt.state} is no transition")
            db.execute(_SAVE_ATTEMPT, to_row(attempt))
            if job is None:
                state = State.WAITING if attempt.state == State.GONE else attempt.state
                db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, attempt.job))
            else:
                _update_job(db, job)
            if kind:
                _add_event(db, attempt.job, attempt.number, now, kind, facts or {})
        return attempt

    def close_job(self, job: Job, *, now: datetime, spend_usd: Decimal) -> Job:
        """Write a job down as gone, with its outcome and what it cost: what it had reserved beyond that is free."""
        gone = replace(job, state=State.GONE, ended_at=now, spend_usd=spend_usd)
        with self._owned() as db:
            live = db.execute("SELECT 1 FROM attempts WHERE job = ? AND state != 'gone'", (job.id,)).fetchone()
            if live is not None:
                raise ValueError(f"job {job.id} has a machine that was not seen gone")
            _update_job(db, gone)
            _add_event(
                db, job.id, None, now, "ended", {"outcome": job.outcome, "reason": job.reason, "spend": str(spend_usd)}
            )
        return gone

    def hand_over(self, job: Job, to: Job, *, now: datetime) -> None:
        """Give a job that has no machine to the guard of another provider's account: from here on it writes."""
        with self._owned() as db:
            live = db.execute("SELECT 1 FROM attempts WHERE job = ? AND state != 'gone'", (job.id,)).fetchone()
            if live is not None:
                raise ValueError(f"job {job.id} has a machine that was not seen gone")
            db.execute(
                "UPDATE jobs SET account = :account, provider = :provider, settings = :settings, "
                "elsewhere = :elsewhere, offers = :offers WHERE id = :id",
                to_row(to),
            )
            _add_event(db, job.id, None, now, "moved", {"from": job.provider, "to": to.provider})

    def note(self, job_id: str, number: int | None, *, now: datetime, kind: str, facts: Mapping[str, Any]) -> None:
        """Write an event alone."""
        with self._owned() as db:
            _add_event(db, job_id, number, now, kind, facts)

    def ticked(self) -> None:
        """Say that everything was looked at once more."""
        with self._owned() as db:
            db.execute("UPDATE guards SET ticked = ticked + 1 WHERE account = ?", (self.account,))


def _update_job(db: sqlite3.Connection, job: Job) -> None:
    # A request to cancel is written by others: it is never overwritten from here.
    db.execute(
        "UPDATE jobs SET state = :state, outcome = :outcome, reason = :reason, exit_code = :exit_code, "
        "ended_at = :ended_at, accepted_at = :accepted_at, spend_usd = :spend_usd WHERE id = :id",
        to_row(job),
    )


def _add_event(
    db: sqlite3.Connection, job_id: str, attempt: int | None, at: datetime, kind: str, data: Mapping[str, Any]
) -> None:
    db.execute(
        "INSERT INTO events (job, attempt, at, kind, data) VALUES (?, ?, ?, ?, ?)",
        (job_id, attempt, at.isoformat(), kind, json.dumps(dict(data), separators=(",", ":"))),
    )
