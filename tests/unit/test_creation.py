"""From a planned attempt to one machine, and never two: write-ahead, replays, and the way to the next offer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from makers import make_job, make_offer, make_spec
from scripted import Bench

from launcher.creation import CREATE_PATIENCE_S
from launcher.launch import thaw
from launcher.outcome import State
from providers.base import (
    TAG_DEADLINE,
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    MachineState,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OFFERS = [make_offer("r1", "a"), make_offer("r1", "b"), make_offer("r2", "a")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud."""
    return Bench(tmp_path)


def fails(call: str, *errors: Exception) -> Callable[[str, str], None]:
    """A script that lets the first so many of these calls fail, one after the other."""
    left = list(errors)

    def script(called: str, subject: str) -> None:
        if called == call and left:
            raise left.pop(0)

    return script


def always(call: str, error: Exception) -> Callable[[str, str], None]:
    """A script that lets all these calls fail."""

    def script(called: str, subject: str) -> None:
        if called == call:
            raise error

    return script


def tokens(bench: Bench) -> list[str]:
    """The token of each create call."""
    return [subject for call, subject in bench.provider.log if call == "create"]


# Write-ahead


def test_the_whole_request_is_written_down_before_the_call(bench: Bench) -> None:
    """A crash after the call finds in the journal all that is needed to replay it, and to account for it."""
    seen: list[Any] = []

    def look(call: str, subject: str) -> None:
        if call == "create":
            seen.append(bench.attempt)

    bench.provider.before = look
    bench.add()
    bench.tick()

    (attempt,) = seen
    intent = thaw(attempt)
    assert (State.CREATING, True) == (attempt.state, attempt.create_called)
    assert attempt.token == intent.token == bench.box.intent.token
    assert intent == bench.box.intent
    assert (attempt.hard_after_s, attempt.created_at) == (intent.hard_after_s, intent.created_at)
    assert intent.tags[TAG_DEADLINE] == intent.hard_deadline.strftime("%Y%m%dt%H%M%Sz")


def test_an_accepted_machine_boots(bench: Bench) -> None:
    """From now on the guard may go on without the `up` that asked."""
    bench.add()
    bench.tick()

    assert (State.RUNNING, "m-j-tiny-1") == (bench.attempt.state, bench.attempt.machine_id)
    assert bench.job.accepted_at is not None
    assert ["planned", "attempt", "creating", "accepted", "running"] == [
        event.kind for event in bench.journal.events(bench.job.id)
    ]


def test_the_container_gets_a_name_that_only_this_machine_has(bench: Bench) -> None:
    """So that it can be found and stopped."""
    bench.add(make_job(spec=make_spec(image="pytorch"), settings={"watts": 100}))
    bench.tick()

    assert {"watts": 100, "container": "gpulaunch-j-tiny-1"} == bench.box.intent.settings


# A fate that is unknown


def test_a_listing_from_before_a_replay_does_not_end_the_machine(bench: Bench) -> None:
    """It shows the machine half-made, as one that does no more work; what counts is how it stands after the replay."""
    bench.provider.after = fails("create", AmbiguousOutcome("No answer."))
    bench.add()
    bench.tick()
    half_made = msgspec.structs.replace(bench.provider._describe(bench.box), state=MachineState.STOPPED)
    bench.provider.list = lambda owner: [half_made]  # type: ignore[method-assign]
    bench.tick()

    assert (State.RUNNING, 1) == (bench.attempt.state, len(bench.provider.boxes))


def test_an_unknown_fate_is_settled_by_replaying_the_same_token(bench: Bench) -> None:
    """The first call was accepted, its answer lost: the replay finds that machine, and no second one starts."""
    bench.provider.after = fails("create", AmbiguousOutcome("No answer."), AmbiguousOutcome("No answer."))
    bench.add(make_job(offers=OFFERS))
    for _ in range(10):
        bench.tick()
        assert len(bench.journal.attempts(bench.job.id)) == len(bench.provider.boxes) == 1

    assert State.RUNNING == bench.attempt.state
    assert ["j-tiny-1"] * 3 == tokens(bench)
    assert bench.attempt.trouble is None


def test_an_unknown_fate_is_never_taken_for_failure(bench: Bench) -> None:
    """However long it takes, and although the job was cancelled meanwhile: what may exist is not forgotten."""
    bench.provider.after = always("create", AmbiguousOutcome("No answer."))
    bench.add(make_job(offers=OFFERS))
    bench.tick()
    bench.journal.request_cancel("j-tiny", now=bench.clock.now(), by="a test")
    bench.tick(200)

    assert (State.CREATING, "No answer.") == (bench.attempt.state, bench.attempt.trouble)
    assert {"j-tiny-1"} == set(tokens(bench))

    bench.provider.after = lambda call, subject: None
    bench.run()
    assert ("cancelled", {}) == (bench.job.outcome, bench.provider.boxes)


@pytest.mark.parametrize("error", [ProviderUnavailable("Down."), RateLimited("Slow."), AuthError("Who?")])
def test_no_answer_to_a_replay_settles_nothing(bench: Bench, error: ProviderError) -> None:
    """The API is down, or the credentials have expired: that says nothing of the call before."""
    bench.provider.after = fails("create", AmbiguousOutcome("No answer."))
    bench.add(make_job(offers=OFFERS))
    bench.tick()
    bench.provider.before = always("create", error)
    bench.tick(100)

    assert (State.CREATING, 1) == (bench.attempt.state, len(bench.journal.attempts(bench.job.id)))

    bench.provider.before = lambda call, subject: None
    bench.tick(8)
    assert (State.RUNNING, 1) == (bench.attempt.state, len(bench.provider.boxes))


def test_a_guard_that_died_in_the_call_left_an_unknown_fate(bench: Bench) -> None:
    """Its successor meets an API that is down, and does not take that for an answer."""
    bench.provider.after = fails("create", AmbiguousOutcome("No answer."))
    bench.add(make_job(offers=OFFERS))
    bench.tick()
    bench.provider.before = always("create", ProviderUnavailable("Down."))
    bench.restart()
    bench.tick(100)

    assert (State.CREATING, 1) == (bench.attempt.state, len(bench.journal.attempts(bench.job.id)))


def test_a_fault_of_our_own_in_the_call_is_an_unknown_fate(bench: Bench) -> None:
    """The machine was made, and then the code that read the answer failed."""
    bench.provider.after = fails("create", KeyError("id"))
    bench.add(make_job(offers=OFFERS))
    bench.tick()
    bench.provider.before = always("create", ProviderUnavailable("Down."))
    bench.tick(100)

    assert (State.CREATING, 1) == (bench.attempt.state, len(bench.journal.attempts(bench.job.id)))


@pytest.mark.parametrize("evidence", [True, False])
def test_a_machine_that_lived_and_died_unseen_is_paid_for(bench: Bench, evidence: bool) -> None:
    """The guard died in the call; when the next one comes the machine has met its deadline. It cost money."""
    bench.provider.keeps_evidence = evidence
    bench.provider.after = fails("create", AmbiguousOutcome("No answer."))
    bench.add(make_job(offers=OFFERS))
    bench.tick()
    bench.clock.advance(36_000)
    bench.restart()
    bench.run()

    assert {} == bench.provider.boxes
    assert bench.provider.cost_usd() > 4
    assert bench.provider.cost_usd() <= bench.spend_usd() <= bench.job.cap_usd
    assert evidence == bench.journal.attempts("j-tiny")[0].confirmed


def test_replays_are_not_hurried(bench: Bench) -> None:
    """The pauses grow to a minute."""
    bench.provider.before = always("create", AmbiguousOutcome("No answer."))
    bench.add()
    bench.tick(360)

    assert 60 <= bench.count("create") <= 66


# A failure that is known


@pytest.mark.parametrize(
    ("error", "offer"),
    [
        (CapacityError("Full.", next_scope="zone"), OFFERS[1]),
        (CapacityError("Full.", next_scope="region"), OFFERS[2]),
        (QuotaError("Zero GPUs.", next_scope="region"), OFFERS[2]),
    ],
)
def test_a_failure_leads_to_the_next_offer_outside_its_scope(bench: Bench, error: ProviderError, offer: Any) -> None:
    """Where the cloud says that it may succeed."""
    bench.provider.before = fails("create", error)
    bench.add(make_job(offers=OFFERS))
    bench.tick(2)

    first, second = bench.journal.attempts(bench.job.id)
    assert (State.GONE, False, True, 0) == (
        first.state,
        first.create_called,
        first.confirmed,
        first.cost_usd(bench.clock.now()),
    )
    assert (type(error).__name__, error.next_scope) == (first.error_kind, first.error_scope)
    assert offer == bench.box.intent.offer
    assert State.RUNNING == second.state


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (CapacityError("Full.", next_scope="provider", code="ZONE_FULL"), 4),
        (AuthError("Who?", code="ExpiredToken"), 3),
        (InvalidRequest("What?", code="BadImage"), 2),
    ],
)
def test_a_failure_that_no_other_offer_helps_ends_the_job(bench: Bench, error: ProviderError, exit_code: int) -> None:
    """Nothing was made, nothing is owed, and the cloud's own code is the reason."""
    from launcher.views import job_exit_code

    bench.provider.before = always("create", error)
    bench.add(make_job(offers=OFFERS))
    bench.run()

    assert ("launch_failed", error.code, 0) == (bench.job.outcome, bench.job.reason, bench.spend_usd())
    assert exit_code == job_exit_code(bench.job, bench.journal.attempts("j-tiny"))
    assert bench.count("create") == 1


def test_the_next_offer_is_tried_at_once(bench: Bench) -> None:
    """A cloud that is full in ten zones is not asked for each a quarter of a minute later."""
    bench.provider.before = fails("create", CapacityError("Full.", next_scope="zone"))
    bench.add(make_job(offers=OFFERS))

    assert 0.0 == bench.guard.tick()
    assert bench.provider.poll_s == bench.guard.tick()
    assert State.RUNNING == bench.attempt.state


def test_when_every_offer_has_failed_the_job_ends(bench: Bench) -> None:
    """Each is tried once."""
    bench.provider.before = always("create", CapacityError("Full.", next_scope="zone", code="FULL"))
    bench.add(make_job(offers=OFFERS))
    bench.run()

    assert ("launch_failed", "FULL", 3) == (bench.job.outcome, bench.job.reason, bench.count("create"))


@pytest.mark.parametrize(
    "error", [RateLimited("Slow.", next_scope="zone"), ProviderUnavailable("Down.", next_scope="zone")]
)
def test_a_call_that_may_work_later_is_tried_for_a_while(bench: Bench, error: ProviderError) -> None:
    """Then the next offer has its turn: bounded, and with one more look of patience at most."""
    bench.provider.before = always("create", error)
    bench.add(make_job(offers=OFFERS[:1]))
    since = bench.clock.monotonic()
    bench.run()

    assert CREATE_PATIENCE_S <= bench.clock.monotonic() - since <= CREATE_PATIENCE_S + 70
    assert (5, {"j-tiny-1"}) == (bench.count("create"), set(tokens(bench)))
    assert "launch_failed" == bench.job.outcome


def test_trouble_that_passes_leaves_no_trace(bench: Bench) -> None:
    """Told once while it lasts, then forgotten."""
    bench.provider.before = fails("create", RateLimited("Slow."), RateLimited("Slow."))
    bench.add()
    bench.tick(5)

    kinds = [event.kind for event in bench.journal.events("j-tiny")]
    assert (State.RUNNING, None, 1) == (bench.attempt.state, bench.attempt.trouble, kinds.count("trouble"))


def test_an_offer_that_the_rest_of_the_cap_does_not_pay_for_is_passed_over(bench: Bench) -> None:
    """A later offer that fits is still taken."""
    slow = make_offer("r2", usd_per_hour="3.7", boot_s=360_000.0)
    bench.provider.before = fails("create", CapacityError("Full.", next_scope="region"))
    bench.add(make_job(offers=[make_offer("r1"), slow, make_offer("r3", usd_per_hour="3.8")]))
    bench.tick(2)

    assert bench.box.intent.offer.region == "r3"


# Asked to stop, or left alone


def test_a_job_cancelled_before_its_first_machine_makes_none(bench: Bench) -> None:
    """Nothing to tear down."""
    bench.add()
    bench.journal.request_cancel("j-tiny", now=bench.clock.now(), by="a test")
    bench.run()

    assert ("cancelled", "DOWN", 0) == (bench.job.outcome, bench.job.reason, bench.count("create"))


def test_a_job_cancelled_between_the_plan_and_the_call_makes_none(bench: Bench) -> None:
    """The request was frozen, and is not sent."""
    job = bench.add()
    creation = bench.guard._creation
    planned = creation.next_attempt(job, [])
    assert planned is not None

    assert creation.create(replace(job, cancel_at=bench.clock.now()), planned) is None
    assert (State.GONE, "cancelled", 0) == (bench.attempt.state, bench.attempt.outcome, bench.count("create"))


def test_a_cancelled_job_does_not_wait_for_a_busy_cloud(bench: Bench) -> None:
    """The call is known to have made nothing, so it is not tried again."""
    bench.provider.before = always("create", RateLimited("Slow.", next_scope="zone"))
    bench.add(make_job(offers=OFFERS))
    bench.tick()
    bench.journal.request_cancel("j-tiny", now=bench.clock.now(), by="a test")
    bench.run()

    assert ("cancelled", 2) == (bench.job.outcome, bench.count("create"))


def test_a_launch_whose_launcher_died_first_is_called_off(bench: Bench) -> None:
    """`up` was killed before anything was created: nothing is."""
    bench.launcher_lives = False
    bench.add()
    bench.run()

    assert ("launch_failed", "LAUNCHER_GONE", 0) == (bench.job.outcome, bench.job.reason, bench.count("create"))


def test_a_job_whose_machine_was_accepted_needs_no_launcher(bench: Bench) -> None:
    """The terminal is a viewer."""
    bench.provider.training_s = 100.0
    bench.started()
    bench.launcher_lives = False
    bench.run()

    assert "finished" == bench.job.outcome


def test_a_frozen_request_of_a_dead_guard_is_not_used(bench: Bench) -> None:
    """Its deadlines count from then. A new one is frozen, and the old one is known to have made nothing."""
    bench.guard._creation.next_attempt(bench.add(), [])
    bench.clock.advance(3600)
    bench.restart()
    bench.tick()

    stale, fresh = bench.journal.attempts("j-tiny")
    assert (State.GONE, "STALE", False) == (stale.state, stale.reason, stale.create_called)
    assert (State.RUNNING, ["j-tiny-2"]) == (fresh.state, tokens(bench))
    assert fresh.created_at == bench.box.born_at
