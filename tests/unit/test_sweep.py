"""What a sweep finds, what it destroys, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from simulated_lab import OWNER, Lab

from launcher.core.clock import VirtualClock, boot_id
from launcher.core.errors import Exit
from launcher.sweep import (
    GONE_PATIENCE_S,
    LONGEST_WAIT_S,
    Action,
    Found,
    destroy,
    exit_code,
    judge,
    list_all,
    sweep_json,
)
from providers.base import (
    TAG_ATTEMPT,
    TAG_CAP,
    TAG_DEADLINE,
    TAG_JOB,
    TAG_OWNER,
    AuthError,
    Machine,
    MachineState,
    ProviderUnavailable,
    RateLimited,
    make_tags,
    read_tags,
)
from providers.local.folder import Folder
from providers.local.provider import LocalProvider
from providers.simulated.faults import HangingDelete, LostReply, Refuse
from providers.simulated.script import Script
from providers.simulated.shapes import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
# A cloud without a timer, and machines whose agent never comes up: nothing but a sweep ends them.
NO_TIMER = replace(PLAIN, timer=None)
SILENT = Script(boots=False)
DUE_S = 3600.0


@pytest.fixture
def lab() -> Lab:
    """A cloud on which nothing ends by itself."""
    return Lab(NO_TIMER, SILENT)


def tags(**changes: str) -> dict[str, str]:
    """The tags of a machine that is due an hour after the start."""
    deadline = START + timedelta(seconds=DUE_S)
    return make_tags(job="j-1", attempt=2, owner=OWNER, cap_usd=Decimal("4.5"), hard_deadline=deadline) | changes


def machine(**changes: Any) -> Machine:
    """A machine as a cloud lists it."""
    fields: dict[str, Any] = {
        "id": "m-1",
        "token": "j-1-2",
        "state": MachineState.RUNNING,
        "region": "r1",
        "created_at": START,
        "tags": tags(),
    }
    return Machine(**(fields | changes))


def judged(after_s: float, known: frozenset[str] = frozenset(), **changes: Any) -> Found:
    """What that machine is to us, so many seconds after the start."""
    return judge("cloud", machine(**changes), owner=OWNER, now=START + timedelta(seconds=after_s), known=known)


def look(lab: Lab) -> list[Found]:
    """What there is of ours."""
    listed, failed = list_all({"cloud": lab.provider}, OWNER, lab.clock)
    assert failed == {}
    now = lab.clock.now()
    return [judge("cloud", each, owner=OWNER, now=now, known=()) for each in listed["cloud"]]


def sweep(lab: Lab, tell: Callable[[Found], None] = lambda _: None) -> list[Found]:
    """Destroy what is due."""
    due = [each for each in look(lab) if each.past_deadline]
    return destroy(due, {"cloud": lab.provider}, lab.clock, tell=tell)


def existing(lab: Lab) -> set[str]:
    """The jobs of which anything is left, as the cloud itself knows."""
    return {each.job for each in lab.cloud.existing()}


# Tags


def test_tags_are_read_as_they_were_written() -> None:
    """Job, attempt, cap and deadline survive the way through a cloud's labels."""
    read = read_tags(tags())
    assert read.job == "j-1"
    assert read.attempt == 2
    assert read.owner == OWNER
    assert read.cap_usd == Decimal("4.5")
    assert read.hard_deadline == START + timedelta(seconds=DUE_S)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "20261121t130000", "2026-11-21t13:00:00z", "20261121T130000Z", "2026112t130000z", "20261301t000000z"],
)
def test_a_deadline_in_any_other_form_is_not_read(text: str) -> None:
    """A guess could destroy a machine that is not due."""
    assert read_tags(tags(**{TAG_DEADLINE: text})).hard_deadline is None


@pytest.mark.parametrize("text", ["", "-5", "5.0", "5_000", "٣", "1e3", "9" * 30])
def test_a_number_in_any_other_form_is_not_read(text: str) -> None:
    """Neither a cap nor an attempt."""
    read = read_tags(tags(**{TAG_CAP: text, TAG_ATTEMPT: text}))
    assert (read.cap_usd, read.attempt) == (None, None)


def test_a_machine_without_tags_has_nothing_to_read() -> None:
    """Nothing is made up."""
    assert {None} == set(msgspec.structs.asdict(read_tags({})).values())


# Judging


def test_a_machine_is_due_from_its_deadline_on() -> None:
    """Not a second before."""
    assert [(False, "WITHIN_DEADLINE"), (True, "PAST_DEADLINE"), (True, "PAST_DEADLINE")] == [
        (found.past_deadline, found.reason) for found in map(judged, (DUE_S - 1, DUE_S, DUE_S + 1))
    ]


def test_the_clouds_own_deadline_counts_before_the_tag() -> None:
    """The cloud's timer was armed with the machine; the tag is a copy."""
    later = START + timedelta(seconds=2 * DUE_S)
    assert not judged(DUE_S + 1, deadline_at=later).past_deadline
    assert judged(DUE_S - 1, deadline_at=START).past_deadline


@pytest.mark.parametrize("owner", ["somebody", ""])
def test_another_owners_machine_is_never_due(owner: str) -> None:
    """Whatever a listing shows: the tag is looked at again."""
    found = judged(10 * DUE_S, tags=tags(**{TAG_OWNER: owner}))
    assert (False, False, "OTHER_OWNER") == (found.past_deadline, found.is_unknown, found.reason)


@pytest.mark.parametrize("text", ["", "tomorrow"])
def test_a_machine_without_a_readable_deadline_is_never_due(text: str) -> None:
    """It is told, and offered by --unknown."""
    found = judged(1e6, tags=tags(**{TAG_DEADLINE: text}))
    assert (False, True, "UNREADABLE_DEADLINE") == (found.past_deadline, found.is_unknown, found.reason)


@pytest.mark.parametrize("name", ["j-1-2", "m-1"])
def test_a_machine_that_a_live_job_answers_for_is_known(name: str) -> None:
    """By its token, which is written down before the machine is made, or by its id."""
    assert not judged(0).known
    found = judged(0, frozenset({name}))
    assert (True, False) == (found.known, found.is_unknown)


def test_a_known_machine_is_due_all_the_same() -> None:
    """The order is safe to repeat, and the guard sees it gone."""
    found = judged(DUE_S, frozenset({"m-1"}))
    assert (True, True) == (found.known, found.past_deadline)


def test_the_document_of_a_machine() -> None:
    """Every field, as docs/sweep.md lists them."""
    assert sweep_json(judged(0, frozenset({"m-1"}))) == {
        "provider": "cloud",
        "machine_id": "m-1",
        "job": "j-1",
        "attempt": 2,
        "cap_usd": "4.50",
        "deadline": "2026-11-21T13:00:00Z",
        "state": "running",
        "past_deadline": False,
        "known": True,
        "action": "left",
        "reason": "WITHIN_DEADLINE",
    }


def test_what_cannot_be_read_is_null_in_the_document() -> None:
    """A script sees that it is not known."""
    document = sweep_json(judged(0, tags={TAG_OWNER: OWNER}))
    assert {None} == {document[field] for field in ("job", "attempt", "cap_usd", "deadline")}


def test_the_deadline_of_a_local_machine_counts_time_awake(tmp_path: Path) -> None:
    """A closed laptop moves the deadline on by as long as it sleeps: it costs nothing meanwhile."""
    clock = VirtualClock()
    provider = LocalProvider(clock=clock, home=str(tmp_path), settings={})
    record = {
        "token": "j-1-1",
        "owner": OWNER,
        "tags": tags(),
        "created_at": clock.now().isoformat(),
        "born_awake": clock.awake(),
        "boot": boot_id(),
        "hard_after_s": DUE_S,
    }
    Folder(tmp_path / "machines" / "local-1").make(record, b"")
    clock.advance(600)
    clock.suspend(7200)
    [found] = provider.list(OWNER)

    assert found.deadline_at == clock.now() + timedelta(seconds=3000)
    assert not judge("local", found, owner=OWNER, now=clock.now(), known=()).past_deadline
    clock.advance(3000)
    [found] = provider.list(OWNER)
    assert judge("local", found, owner=OWNER, now=clock.now(), known=()).past_deadline


# Destroying


def test_only_what_is_due_is_destroyed(lab: Lab) -> None:
    """And it is called destroyed only once nothing of it is left."""
    for token, hard_after_s in (("due-1", 600.0), ("also-1", 900.0), ("live-1", 7200.0)):
        lab.start(token=token, hard_after_s=hard_after_s)
    lab.run_until(1000)
    fates = sweep(lab)

    assert {("due", Action.DESTROYED), ("also", Action.DESTROYED)} == {(each.job, each.action) for each in fates}
    assert existing(lab) == {"live"}
    assert exit_code(fates, {}) == Exit.OK


def test_another_owners_machine_is_left_alone(lab: Lab) -> None:
    """Even past its deadline."""
    theirs = tags(**{TAG_OWNER: "somebody", TAG_JOB: "theirs"})
    lab.start(token="theirs-1", hard_after_s=600.0, owner="somebody", tags=theirs)
    lab.start(token="mine-1", hard_after_s=600.0)
    lab.run_until(2 * DUE_S)
    sweep(lab)

    assert existing(lab) == {"theirs"}


def test_a_delete_that_hangs_is_repeated_until_it_works(lab: Lab) -> None:
    """Accepted is not gone."""
    lab.start(hard_after_s=600.0)
    lab.run_until(1000)
    lab.faults.once("delete", HangingDelete(1e9), LostReply(), Refuse(RateLimited))
    [fate] = sweep(lab)

    assert fate.action == Action.DESTROYED
    assert lab.cloud.existing() == []
    assert lab.cloud.call_counts["delete"] >= 3


def test_a_delete_that_hangs_for_ever_is_not_confirmed(lab: Lab) -> None:
    """Exit code 9, after a bounded wait; the others are destroyed all the same."""
    stuck = lab.start(token="stuck-1", hard_after_s=600.0)
    lab.start(token="other-1", hard_after_s=600.0)
    lab.run_until(1000)
    lab.faults.every("delete", HangingDelete(1e9), lambda call: call.about == stuck)
    told: list[Found] = []
    before_s = lab.clock.monotonic()
    fates = sweep(lab, told.append)

    assert {("stuck", Action.NOT_CONFIRMED), ("other", Action.DESTROYED)} == {(each.job, each.action) for each in fates}
    assert [(each.job, each.action) for each in told] == [("other", "destroyed"), ("stuck", "not_confirmed")]
    assert sweep_json(told[1])["reason"] == "STILL_THERE"
    assert exit_code(fates, {}) == Exit.UNCONFIRMED
    assert lab.clock.monotonic() - before_s <= GONE_PATIENCE_S + LONGEST_WAIT_S


def test_all_are_ordered_before_any_is_waited_for(lab: Lab) -> None:
    """Billing stops first."""
    ids = {lab.start(token=f"job{number}-1", hard_after_s=600.0) for number in range(5)}
    lab.run_until(1000)
    sweep(lab)
    first = [call for call in lab.cloud.calls if call.name == "delete"][:5]

    assert {call.about for call in first} == ids
    assert len({call.at_s for call in first}) == 1


def test_an_api_that_is_down_for_deletes_is_not_confirmed(lab: Lab) -> None:
    """The cloud's own word is the reason."""
    lab.start(hard_after_s=600.0)
    lab.run_until(1000)
    lab.faults.every("delete", Refuse(ProviderUnavailable, code="ApiDown"))
    [fate] = sweep(lab)

    assert (Action.NOT_CONFIRMED, "ApiDown") == (fate.action, sweep_json(fate)["reason"])
    assert existing(lab) == {"job-1"}


def test_a_refusal_that_time_does_not_mend_is_told_at_once(lab: Lab) -> None:
    """Missing rights stay missing: nobody waits ten minutes for them, and nothing is called gone."""
    lab.start(hard_after_s=600.0)
    lab.run_until(1000)
    lab.faults.every("delete", Refuse(AuthError))
    before_s = lab.clock.monotonic()
    [fate] = sweep(lab)

    assert (Action.NOT_CONFIRMED, "AuthError") == (fate.action, sweep_json(fate)["reason"])
    assert lab.clock.monotonic() == before_s


def test_an_interrupt_ends_the_waiting_and_claims_nothing(lab: Lab) -> None:
    """What was ordered stays ordered, and is told as not confirmed."""
    lab.start(hard_after_s=600.0)
    lab.run_until(1000)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    due = look(lab)
    lab.clock.sleep = interrupt  # type: ignore[method-assign]
    [fate] = destroy(due, {"cloud": lab.provider}, lab.clock)

    assert fate.action == Action.NOT_CONFIRMED


def test_a_listing_that_fails_for_a_moment_is_asked_for_again(lab: Lab) -> None:
    """A sweep from cron has nobody to repeat it."""
    lab.start(hard_after_s=600.0)
    lab.faults.once("list", Refuse(RateLimited), Refuse(ProviderUnavailable))
    assert [each.job for each in look(lab)] == ["job-1"]


def test_a_provider_that_fails_does_not_stop_the_others() -> None:
    """Its error is kept, and gives the exit code when all else went well."""
    refused, works = Lab(), Lab(NO_TIMER, SILENT)
    refused.faults.every("list", Refuse(AuthError))
    works.start(hard_after_s=600.0)
    works.run_until(1000)
    providers = {"refused": refused.provider, "works": works.provider}
    listed, failed = list_all(providers, OWNER, works.clock)

    assert {"works": 1} == {name: len(machines) for name, machines in listed.items()}
    assert exit_code([], failed) == Exit.CREDENTIALS
