"""The journal: what may be written, by whom, and what is read back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from makers import ACCOUNT, START, make_attempt, make_job

from launcher.core.clock import VirtualClock
from launcher.core.errors import Exit, NameInUse, UsageError
from launcher.journal import Journal, ReplacedError, Writer
from launcher.limits import Allowance, LimitReached
from launcher.outcome import TRANSITIONS, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launcher.records import Attempt, Job

STATES = sorted(TRANSITIONS)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    made = Journal(tmp_path)
    yield made
    made.close()


@pytest.fixture
def writer(journal: Journal) -> Writer:
    """The guard's hand."""
    return journal.writer(ACCOUNT, 1)


def add(journal: Journal, name: str = "tiny", **changes: object) -> Job:
    """Write a job down."""
    job = make_job(name, **changes)
    journal.add_job(job, now=START)
    return job


def put(writer: Writer, state: State, job: Job, number: int = 1, **changes: object) -> Attempt:
    """An attempt in that state, reached from nothing."""
    return writer.save(make_attempt(number, job=job.id, state=state, **changes), now=START)


def close(writer: Writer, job: Job) -> Job:
    """The job is gone."""
    return writer.close_job(replace(job, outcome="finished"), now=START, spend_usd=Decimal(1))


# Jobs


def test_a_job_is_read_back_as_it_was_written(journal: Journal) -> None:
    """By its id and by its name."""
    job = add(journal)

    assert job == journal.job(job.id) == journal.find("tiny") == journal.find(job.id)
    assert [job] == journal.jobs() == journal.jobs(live=True, account=ACCOUNT)
    assert [] == journal.jobs(live=False) == journal.jobs(account="other")


def test_two_live_jobs_cannot_share_a_name(journal: Journal) -> None:
    """The second is refused, and told which commands help."""
    add(journal)

    with pytest.raises(NameInUse, match="gpulaunch down tiny") as refused:
        journal.add_job(replace(make_job(), id="j-2"), now=START)

    assert Exit.USAGE == refused.value.exit_code
    assert ["j-tiny"] == [job.id for job in journal.jobs()]


def test_a_name_is_free_again_when_its_job_is_gone(journal: Journal, writer: Writer) -> None:
    """The name then means the newer one, and the live one first."""
    close(writer, add(journal))
    newer = replace(make_job(), id="j-2", created_at=START - timedelta(hours=1))
    journal.add_job(newer, now=START)

    assert "j-2" == journal.find("tiny").id
    close(writer, newer)
    assert "j-tiny" == journal.find("tiny").id


@pytest.mark.parametrize("name", ["o'clock", 'a"b', "two\nlines", "$(reboot)", "x" * 300, "'; DROP TABLE jobs; --"])
def test_a_strange_name_is_only_text(journal: Journal, name: str) -> None:
    """It is found again, and nothing else happens."""
    assert add(journal, name) == journal.find(name)


def test_a_job_that_is_not_there_is_an_error(journal: Journal) -> None:
    """With the command that lists them all; a long name is cut."""
    with pytest.raises(UsageError, match="status --all") as refused:
        journal.find("x" * 300)
    assert len(str(refused.value)) < 150
    with pytest.raises(KeyError):
        journal.job("j-none")


def test_jobs_are_listed_newest_first(journal: Journal) -> None:
    """As many as asked for."""
    for number, name in enumerate(["old", "middle", "new"]):
        add(journal, name, created_at=START + timedelta(hours=number))

    assert ["new", "middle", "old"] == [job.name for job in journal.jobs()]
    assert ["new"] == [job.name for job in journal.jobs(limit=1)]


def test_a_job_beyond_the_limits_is_not_written(journal: Journal) -> None:
    """Whole caps are reserved: two of five dollars do not fit into eight."""
    allowance = Allowance(monthly_usd=Decimal(8))
    journal.add_job(make_job("one"), now=START, allowance=allowance)

    with pytest.raises(LimitReached):
        journal.add_job(make_job("two"), now=START, allowance=allowance)

    assert ["one"] == [job.name for job in journal.jobs()]


def test_what_a_gone_job_did_not_spend_is_free_again(journal: Journal, writer: Writer) -> None:
    """It holds the dollar that it cost."""
    close(writer, add(journal))

    assert (Decimal(1), Decimal(0), 0) == (
        journal.usage(START).spent_usd,
        journal.usage(START).reserved_usd,
        journal.usage(START).live_jobs,
    )


# Requests


def test_a_job_is_cancelled_once(journal: Journal) -> None:
    """The second request changes nothing, and leaves no event."""
    job = add(journal)

    assert journal.request_cancel(job.id, now=START, by="down")
    assert not journal.request_cancel(job.id, now=START + timedelta(seconds=1), by="down")
    assert START == journal.job(job.id).cancel_at
    assert ["planned", "cancel_requested"] == [event.kind for event in journal.events(job.id)]


def test_what_is_gone_cannot_be_cancelled(journal: Journal, writer: Writer) -> None:
    """There is nothing left to end."""
    job = close(writer, add(journal))

    assert not journal.request_cancel(job.id, now=START, by="down")


def test_a_request_to_cancel_survives_what_the_guard_writes(journal: Journal, writer: Writer) -> None:
    """The guard holds a job that it read before: it must not write the request away."""
    job = add(journal)
    journal.request_cancel(job.id, now=START, by="down")
    writer.save(make_attempt(), now=START, job=replace(job, accepted_at=START))

    assert START == journal.job(job.id).cancel_at
    assert START == journal.job(job.id).accepted_at


# Transitions


@pytest.mark.parametrize("after", STATES)
@pytest.mark.parametrize("before", STATES)
def test_only_the_transitions_of_the_table_are_written(
    journal: Journal, writer: Writer, before: State, after: State
) -> None:
    """Everything else is refused, and leaves no trace."""
    job = add(journal)
    attempt = put(writer, before, job)

    if after == before or after in TRANSITIONS[before]:
        writer.save(replace(attempt, state=after), now=START, kind="moved")
        expected = after
    else:
        with pytest.raises(ValueError, match="is no transition"):
            writer.save(replace(attempt, state=after), now=START, kind="moved")
        expected = before

    assert expected == journal.attempts(job.id)[0].state
    assert (expected == after) == ("moved" in [event.kind for event in journal.events(job.id)])


def test_a_job_has_the_state_of_its_attempt_and_waits_between_two(journal: Journal, writer: Writer) -> None:
    """It is gone only when it is closed."""
    job = add(journal)
    attempt = put(writer, State.CREATING, job)
    assert State.CREATING == journal.job(job.id).state

    writer.save(replace(attempt, state=State.GONE), now=START)
    assert State.WAITING == journal.job(job.id).state

    close(writer, job)
    assert (State.GONE, "finished", Decimal(1)) == (
        journal.job(job.id).state,
        journal.job(job.id).outcome,
        journal.job(job.id).spend_usd,
    )


@pytest.mark.parametrize("state", [state for state in STATES if state != State.GONE])
def test_a_job_with_a_machine_that_was_not_seen_gone_cannot_be_closed(
    journal: Journal, writer: Writer, state: State
) -> None:
    """Nothing is written down as gone that was not seen gone."""
    job = add(journal)
    put(writer, state, job)

    with pytest.raises(ValueError, match="not seen gone"):
        close(writer, job)
    assert State.GONE != journal.job(job.id).state


def test_attempts_are_listed_oldest_first_and_live_ones_by_account(journal: Journal, writer: Writer) -> None:
    """A guard looks at its own."""
    job = add(journal)
    put(writer, State.GONE, job, 1)
    second = put(writer, State.RUNNING, job, 2)

    assert [1, 2] == [attempt.number for attempt in journal.attempts(job.id)]
    assert ([second], []) == (journal.live_attempts(ACCOUNT), journal.live_attempts("other"))
    assert [ACCOUNT] == journal.live_accounts()


def test_a_failed_write_leaves_nothing(journal: Journal, writer: Writer) -> None:
    """An attempt and its event are one transaction."""
    job = add(journal)

    with pytest.raises(TypeError):
        writer.save(make_attempt(), now=START, kind="event", facts={"not json": object()})

    assert [] == journal.attempts(job.id)
    put(writer, State.PLANNED, job)


# Events


def test_events_are_read_from_where_one_stopped(journal: Journal, writer: Writer) -> None:
    """Each with its facts, in the order in which they happened."""
    job = add(journal)
    writer.note(job.id, 1, now=START, kind="note", facts={"text": "ü"})
    planned, note = journal.events(job.id)

    assert ("planned", {"cap_usd": "5", "provider": "local"}) == (planned.kind, planned.data)
    assert (job.id, 1, START, "note", {"text": "ü"}) == (note.job, note.attempt, note.at, note.kind, note.data)
    assert [note] == journal.events(job.id, after=planned.seq)
    assert [] == journal.events("other")


# One writer


def test_a_guard_that_was_replaced_writes_nothing(journal: Journal, writer: Writer) -> None:
    """Each of its ways to write is closed, and nothing of what it wrote is left."""
    job = add(journal)
    attempt = put(writer, State.RUNNING, job)
    successor = journal.writer(ACCOUNT, 2)

    for effect in (
        writer.check,
        writer.ticked,
        lambda: writer.save(replace(attempt, state=State.GONE), now=START),
        lambda: close(writer, job),
        lambda: writer.note(job.id, None, now=START, kind="note", facts={}),
    ):
        with pytest.raises(ReplacedError):
            effect()

    successor.check()
    assert [State.RUNNING] == [attempt.state for attempt in journal.attempts(job.id)]
    assert ["planned"] == [event.kind for event in journal.events(job.id)]


def test_guards_of_two_accounts_do_not_replace_each_other(journal: Journal, writer: Writer) -> None:
    """There is one for each."""
    other = journal.writer("aws/1", 2)
    other.ticked()

    writer.check()
    assert ((1, 0), (1, 1), (0, 0)) == (journal.ticks(ACCOUNT), journal.ticks("aws/1"), journal.ticks("gcp/1"))


def test_a_writer_of_an_account_that_the_journal_does_not_know_is_replaced(journal: Journal) -> None:
    """A journal that was kept aside takes its guard with it."""
    with pytest.raises(ReplacedError):
        Writer(journal, "aws/1", 1).check()


# Time


def test_all_processes_of_a_boot_agree_on_the_time(journal: Journal, tmp_path: Path) -> None:
    """Also those that start after the wall clock was stepped, as long as a job lives."""
    inner = VirtualClock()
    first = journal.clock(inner)
    add(journal)
    inner.step(-7200)
    other = Journal(tmp_path)

    assert first.now() == other.clock(inner).now()
    other.close()


def test_while_no_job_lives_the_wall_clock_is_read_anew(journal: Journal) -> None:
    """A correction is then welcome."""
    inner = VirtualClock()
    journal.clock(inner)
    inner.step(-7200)

    assert inner.now() == journal.clock(inner).now()


def test_after_a_reboot_the_anchor_is_renewed(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock has started anew."""
    inner = VirtualClock()
    journal.clock(inner)
    add(journal)
    inner.step(500)
    monkeypatch.setattr("launcher.journal.boot_id", lambda: "another boot")

    assert inner.now() == journal.clock(inner).now()
    inner.step(-500)
    assert inner.now() + timedelta(seconds=500) == journal.clock(inner).now()
