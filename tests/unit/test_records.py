"""A record survives its row: every field, to the last digit."""

from __future__ import annotations

import sqlite3
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import START, make_attempt, make_job

from launcher.outcome import State
from launcher.records import Attempt, Job, columns, from_row, to_row

VALUES: dict[str, Any] = {
    "str": "ünï 'quoted' \n",
    "int": 7,
    "float": 0.1,
    "bool": True,
    "bytes": b"\x00\xff{}",
    "Decimal": Decimal("4.000000000000000000000000001"),
    "datetime": datetime(2026, 11, 21, 12, 0, 0, 1, tzinfo=UTC),
    "State": State.RUNNING,
    "dict[str, Any]": {"nested": {"list": [1, 2.5, None, "ü"]}},
}


def through_sqlite(record: Job | Attempt) -> Job | Attempt:
    """Written to a table without types, and read back."""
    row = to_row(record)
    with sqlite3.connect(":memory:") as db:
        db.row_factory = sqlite3.Row
        db.execute(f"CREATE TABLE t ({', '.join(row)})")
        db.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        read = from_row(type(record), db.execute("SELECT * FROM t").fetchone())
    db.close()
    return read


def full(record: Job | Attempt) -> Job | Attempt:
    """The record with a value in every field."""
    filled = {field.name: VALUES[str(field.type).removesuffix(" | None")] for field in fields(record)}
    return replace(record, **filled)


@pytest.mark.parametrize("record", [make_job(), make_attempt()])
def test_a_record_with_empty_fields_comes_back(record: Job | Attempt) -> None:
    """None stays None."""
    assert record == through_sqlite(record)


@pytest.mark.parametrize("record", [make_job(), make_attempt()])
def test_a_record_with_every_field_comes_back(record: Job | Attempt) -> None:
    """A field of a new type needs a place here and in the encoding."""
    read = through_sqlite(full(record))

    assert full(record) == read
    assert [type(getattr(full(record), name)) for name in columns(type(record))] == [
        type(getattr(read, name)) for name in columns(type(record))
    ]


@given(amount=st.decimals(allow_nan=False, allow_infinity=False))
def test_money_keeps_every_digit(amount: Decimal) -> None:
    """Also those that a float would drop."""
    assert str(amount) == str(through_sqlite(make_job(cap_usd=amount)).cap_usd)  # type: ignore[union-attr]


@given(after=st.timedeltas(timedelta(0), timedelta(days=365_000)))
def test_times_keep_their_microsecond_and_their_order(after: timedelta) -> None:
    """Times are compared as text in SQL, so all have one form."""
    at = START + after
    rows = [to_row(make_job(created_at=at + timedelta(microseconds=step)))["created_at"] for step in (0, 1)]

    assert rows == sorted(set(rows))
    assert at == datetime.fromisoformat(rows[0])


def test_a_time_of_another_zone_is_written_in_utc() -> None:
    """The same moment."""
    elsewhere = START.astimezone(timezone(timedelta(hours=-8)))

    assert to_row(make_job(created_at=START)) == to_row(make_job(created_at=elsewhere))


# An attempt's age and bill


@pytest.fixture
def live() -> Attempt:
    """An attempt whose machine may exist."""
    return make_attempt(create_called=True)


def test_an_attempt_that_was_never_sent_costs_nothing() -> None:
    """However old its request is."""
    assert make_attempt(one_time_usd=Decimal(1)).cost_usd(START + timedelta(days=1)) == 0


def test_an_attempt_costs_from_its_create_call(live: Attempt) -> None:
    """A tenth of a cent per second."""
    assert Decimal("0.1") == live.cost_usd(START + timedelta(seconds=100))


def test_age_counts_from_the_create_call(live: Attempt) -> None:
    """Deadlines do, too; a clock that stands before it gives no negative age."""
    assert 100.0 == live.age_s(START + timedelta(seconds=100))
    assert 0.0 == live.age_s(START - timedelta(seconds=100))
    assert START + timedelta(seconds=3600) == live.deadline(3600.0, START + timedelta(seconds=100))


def test_time_asleep_moves_the_deadline_of_a_machine_that_counts_for_itself(live: Attempt) -> None:
    """It has lived for a minute of an hour: the other hour was slept."""
    now = START + timedelta(hours=1)
    counted = replace(live, billed_s=60.0, observed_at=now)

    assert 60.0 == counted.age_s(now)
    assert 70.0 == counted.age_s(now + timedelta(seconds=10))
    assert now + timedelta(seconds=3540) == counted.deadline(3600.0, now)
