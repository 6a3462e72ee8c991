"""What the journal keeps of a job and of each attempt, and how a row holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from launcher.ledger import Interval, cost_usd
from launcher.outcome import State

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One job: what was asked for, and how it ended."""

    id: str
    name: str
    account: str
    provider: str
    cap_usd: Decimal
    spec: str
    """The job file as it was validated, as JSON."""
    created_at: datetime
    state: State = State.PLANNED
    outcome: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    """The training's own exit code, where it ended by itself."""
    ended_at: datetime | None = None
    cancel_at: datetime | None = None
    """When somebody asked for it to be torn down."""
    accepted_at: datetime | None = None
    """When the first machine was accepted: from then on the guard may go on without the `up` that asked."""
    settings: dict[str, Any] | None = None
    """The provider's own settings for this job."""
    elsewhere: dict[str, Any] | None = None
    """The other providers that it may move to: name to `{"account": …, "settings": …}`."""
    offers: str = "[]"
    """The offers of the plan, in the order in which they are tried, as JSON."""
    layers: dict[str, Any] | None = None
    """Which layers the plan armed: name to whether."""
    owner: str = ""
    spend_usd: Decimal | None = None
    """What it cost, once it is gone: the ledger's word, which is never below the truth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One machine booted for a job: its terms, its billing, and what was seen of it."""

    job: str
    number: int
    state: State
    account: str
    token: str
    intent: bytes
    """The whole frozen request, as JSON; written before `create` is called."""
    provider: str
    region: str
    zone: str | None
    instance_type: str
    spot: bool
    rate_usd_per_hour: Decimal
    standing_usd_per_hour: Decimal
    one_time_usd: Decimal
    granularity_s: Decimal
    floor_s: Decimal
    lateness_s: float
    created_at: datetime
    """Taken just before the first create call. Deadlines count from it."""
    soft_after_s: float
    hard_after_s: float
    limit_outcome: str
    """Which limit the deadlines come from: budget_reached or duration_reached."""
    create_called: bool = False
    machine_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    gone_at: datetime | None = None
    billed_s: float | None = None
    observed_at: datetime | None = None
    """When the machine was last seen, and `billed_s` read."""
    compute_usd: Decimal | None = None
    egress_usd: Decimal = Decimal(0)
    """For what leaves the cloud: the whole reserve, until the machine's agent has told what really left."""
    confirmed: bool = False
    """The machine was seen gone, and the end of its billing is evidence, not an upper bound."""
    outcome: str | None = None
    reason: str | None = None
    error_kind: str | None = None
    """The class of the provider's error, where a create failed."""
    error_scope: str | None = None
    """Where another attempt may succeed after that error: zone, region, provider, or nowhere (None)."""
    beat: dict[str, Any] | None = None
    beat_seq: int = -1
    log_path: str | None = None
    console_url: str | None = None
    trouble: str | None = None
    """What stands in the way now, for the user."""
    deletes: int = 0
    cloud_deadline_at: datetime | None = None
    """When the cloud itself will delete the machine, where it says so."""

    def interval(self) -> Interval:
        """The billing of this attempt, as the ledger reads it."""
        return Interval(
            rate_usd_per_hour=self.rate_usd_per_hour,
            standing_usd_per_hour=self.standing_usd_per_hour,
            granularity_s=self.granularity_s,
            floor_s=self.floor_s,
            one_time_usd=self.one_time_usd,
            created_at=self.created_at if self.create_called else None,
            started_at=self.started_at,
            ended_at=self.ended_at,
            billed_s=self.billed_s,
            observed_at=self.observed_at,
            gone_at=self.gone_at,
            compute_usd=self.compute_usd,
            egress_usd=self.egress_usd,
        )

    def cost_usd(self, now: datetime) -> Decimal:
        """USD until now, or until it ended."""
        return cost_usd(self.interval(), now)

    def age_s(self, now: datetime) -> float:
        """Seconds that count towards the deadlines: the machine's own count where it has one."""
        if self.billed_s is not None and self.observed_at is not None:
            return self.billed_s + max((now - self.observed_at).total_seconds(), 0.0)
        return max((now - self.created_at).total_seconds(), 0.0)

    def deadline(self, after_s: float, now: datetime) -> datetime:
        """The time that lies `after_s` seconds after billing started, suspended time left out where it is free."""
        return now + timedelta(seconds=after_s - self.age_s(now))


class Event(NamedTuple):
    """One thing that happened to a job: `kind` names it, `data` holds its facts (never a secret)."""

    seq: int
    job: str
    attempt: int | None
    at: datetime
    kind: str
    data: dict[str, Any]


Record = TypeVar("Record", Job, Attempt)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    return value


_DECODERS = {
    "datetime": datetime.fromisoformat,
    "Decimal": Decimal,
    "bool": bool,
    "State": State,
    "dict[str, Any]": json.loads,
}


def _decoder(annotation: Any) -> Any:
    return _DECODERS.get(str(annotation).removesuffix(" | None"))


_COLUMNS = {record: {field.name: _decoder(field.type) for field in fields(record)} for record in (Job, Attempt)}


def columns(record: type[Job] | type[Attempt]) -> list[str]:
    """The names of a record's columns, in order."""
    return list(_COLUMNS[record])


def to_row(record: Job | Attempt) -> dict[str, Any]:
    """A record as values that SQLite stores: money and times as text."""
    return {name: _encode(getattr(record, name)) for name in _COLUMNS[type(record)]}


def from_row(record: type[Record], row: sqlite3.Row) -> Record:
    """A record from its row."""
    values: dict[str, Any] = {}
    for name, decode in _COLUMNS[record].items():
        value = row[name]
        values[name] = decode(value) if decode is not None and value is not None else value
    return record(**values)
