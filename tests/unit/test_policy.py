"""From what is seen of an attempt to what is done about it, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import make_attempt, make_offer

from launcher.outcome import Outcome, State
from launcher.policy import AGENT_TIMEOUT_S, MOST_ATTEMPTS, Decision, View, decide, goes_on, offers_left
from providers.base import MachineState, Offer

LIVE = (State.BOOTING, State.RUNNING, State.STOPPING)

VIEW = View(
    state=State.RUNNING,
    age_s=100.0,
    hard_after_s=3600.0,
    limit_outcome="budget_reached",
    cancel=False,
    machine=MachineState.RUNNING,
    beat={"state": "running"},
    boot_timeout_s=300.0,
)
FINISHED = {"state": "ended", "outcome": "finished", "reason": "EXIT_0"}
SHUT_DOWN = {"state": "ended", "outcome": "cancelled", "reason": "SHUTDOWN_SIGNAL"}


def keep(state: State) -> Decision:
    """Watch on."""
    return Decision(action="keep", state=state)


def destroy(outcome: str, reason: str) -> Decision:
    """End it."""
    return Decision(action="destroy", state=State.DELETING, outcome=outcome, reason=reason)


def gone(outcome: str, reason: str) -> Decision:
    """Write it down as gone."""
    return Decision(action="gone", state=State.GONE, outcome=outcome, reason=reason)


RULES: dict[str, tuple[dict[str, Any], Decision]] = {
    "a healthy run goes on": ({}, keep(State.RUNNING)),
    "nothing is known yet": ({"state": State.BOOTING, "beat": None}, keep(State.BOOTING)),
    "the agent has come up": ({"state": State.BOOTING, "beat": {"state": "booting"}}, keep(State.BOOTING)),
    "the image is being pulled": ({"state": State.BOOTING, "beat": {"state": "pulling"}}, keep(State.RUNNING)),
    "the training has started": ({"state": State.BOOTING}, keep(State.RUNNING)),
    "the training is being stopped": ({"beat": {"state": "stopping"}}, keep(State.STOPPING)),
    "the cloud stops the machine": ({"machine": MachineState.STOPPING}, keep(State.STOPPING)),
    "what stops does not run again": ({"state": State.STOPPING}, keep(State.STOPPING)),
    "the API is down": ({"machine": None}, keep(State.RUNNING)),
    "somebody wants it down": ({"cancel": True}, destroy("cancelled", "DOWN")),
    "down, but it had finished": ({"cancel": True, "beat": FINISHED}, destroy("finished", "EXIT_0")),
    "the hard deadline": ({"age_s": 3600.0}, destroy("budget_reached", "HARD_DEADLINE")),
    "the hard deadline of a time limit": (
        {"age_s": 3600.0, "limit_outcome": "duration_reached"},
        destroy("duration_reached", "HARD_DEADLINE"),
    ),
    "a moment before the deadline": ({"age_s": 3599.9}, keep(State.RUNNING)),
    "the deadline while the API is down": (
        {"age_s": 3600.0, "machine": None},
        destroy("budget_reached", "HARD_DEADLINE"),
    ),
    "the deadline, but it had finished": ({"age_s": 3600.0, "beat": FINISHED}, destroy("finished", "EXIT_0")),
    "the training has ended": ({"beat": FINISHED}, destroy("finished", "EXIT_0")),
    "ended by a signal that nobody here sent": ({"beat": SHUT_DOWN}, destroy("preempted", "SHUTDOWN_SIGNAL")),
    "stopped, and nobody knows why": (
        {"machine": MachineState.STOPPED},
        destroy("agent_lost", "MACHINE_GONE"),
    ),
    "stopped, and the cloud knows why": (
        {"machine": MachineState.STOPPED, "state_reason": "AGENT_DEAD"},
        destroy("agent_lost", "AGENT_DEAD"),
    ),
    "a spot machine was taken": (
        {"machine": MachineState.STOPPED, "state_reason": "PREEMPTED"},
        destroy("preempted", "PREEMPTED"),
    ),
    "stopped after it had finished": (
        {"machine": MachineState.STOPPED, "beat": FINISHED},
        destroy("finished", "EXIT_0"),
    ),
    "it never came up": (
        {"state": State.BOOTING, "beat": None, "age_s": 300.0, "silent_s": 300.0},
        destroy("agent_lost", "BOOT_TIMEOUT"),
    ),
    "all that is known of it is what the provider saw": (
        {"state": State.BOOTING, "beat": {"gpu": {"watts": 60}}, "silent_s": 300.0},
        destroy("agent_lost", "BOOT_TIMEOUT"),
    ),
    "it came up while nobody looked": (
        {"state": State.BOOTING, "age_s": 1000.0, "silent_s": 0.0},
        keep(State.RUNNING),
    ),
    "its console could not be read while it booted": (
        {"state": State.BOOTING, "beat": None, "age_s": 3000.0, "silent_s": 0.0},
        keep(State.BOOTING),
    ),
    "the agent went silent": ({"silent_s": AGENT_TIMEOUT_S}, destroy("agent_lost", "NO_HEARTBEAT")),
    "the agent is silent for a while": ({"silent_s": AGENT_TIMEOUT_S - 1}, keep(State.RUNNING)),
    "gone at the deadline": ({"gone": True, "age_s": 3600.0}, gone("budget_reached", "HARD_DEADLINE")),
    "gone with the agent's word": ({"gone": True, "beat": FINISHED}, gone("finished", "EXIT_0")),
    "gone without a word": ({"gone": True, "beat": None}, gone("agent_lost", "MACHINE_GONE")),
    "gone by preemption": ({"gone": True, "state_reason": "PREEMPTED"}, gone("preempted", "PREEMPTED")),
    "gone before it ran": (
        {"gone": True, "beat": None, "never_ran": "NoCapacity"},
        gone("launch_failed", "NoCapacity"),
    ),
    "stopped before it ran": (
        {"machine": MachineState.STOPPED, "beat": {"gpu": {}}, "never_ran": "NoCapacity"},
        destroy("launch_failed", "NoCapacity"),
    ),
    "said not to have run, but it was heard": (
        {"gone": True, "never_ran": "NoCapacity", "state_reason": "NoCapacity"},
        gone("agent_lost", "NoCapacity"),
    ),
    "gone by a signal": ({"gone": True, "beat": SHUT_DOWN}, gone("preempted", "SHUTDOWN_SIGNAL")),
    "gone just before it was to be taken down": ({"gone": True, "cancel": True}, gone("cancelled", "DOWN")),
    "gone as ordered": (
        {"gone": True, "state": State.DELETING, "outcome": "stalled", "reason": "NO_OUTPUT"},
        gone("stalled", "NO_OUTPUT"),
    ),
    "ordered down, but the agent tells how it ended": (
        {"gone": True, "state": State.DELETING, "outcome": "agent_lost", "reason": "NO_HEARTBEAT", "beat": FINISHED},
        gone("finished", "EXIT_0"),
    ),
    "ordered down, and the agent felt the signal": (
        {"gone": True, "state": State.DELETING, "outcome": "cancelled", "reason": "DOWN", "beat": SHUT_DOWN},
        gone("cancelled", "DOWN"),
    ),
    "an outcome that nobody knows is no word": (
        {"beat": {"state": "ended", "outcome": "abducted"}},
        destroy("agent_lost", "MACHINE_GONE"),
    ),
    "an outcome without a reason": ({"beat": {"state": "ended", "outcome": "failed"}}, destroy("failed", "")),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule(rule: str) -> None:
    """What is seen, and what must follow."""
    changes, expected = RULES[rule]

    assert expected == decide(replace(VIEW, **changes))


@pytest.mark.parametrize("machine", [None, *MachineState])
@pytest.mark.parametrize("age_s", [0.0, 3600.0, 1e9])
@pytest.mark.parametrize("beat", [None, {"state": "running"}, FINISHED])
def test_what_is_being_deleted_stays_so_until_it_is_seen_gone(
    machine: MachineState | None, age_s: float, beat: dict[str, Any] | None
) -> None:
    """No age, no state of the machine and no word of the agent turns deleting into gone."""
    view = replace(
        VIEW, state=State.DELETING, machine=machine, age_s=age_s, beat=beat, outcome="cancelled", reason="DOWN"
    )

    assert destroy("cancelled", "DOWN") == decide(view)


@given(
    state=st.sampled_from(LIVE),
    machine=st.sampled_from([None, *MachineState]),
    cancel=st.booleans(),
    silent_s=st.floats(0, 1e6),
    beat=st.sampled_from([None, {"state": "running"}, {"state": "stopping"}, FINISHED, SHUT_DOWN]),
    late_s=st.floats(0, 1e9),
)
def test_past_its_hard_deadline_every_machine_is_destroyed(
    state: State,
    machine: MachineState | None,
    cancel: bool,
    silent_s: float,
    beat: dict[str, Any] | None,
    late_s: float,
) -> None:
    """Whatever else is seen or not seen, with an outcome that has a name."""
    view = replace(VIEW, state=state, machine=machine, cancel=cancel, silent_s=silent_s, beat=beat)

    decision = decide(replace(view, age_s=view.hard_after_s + late_s))

    assert ("destroy", State.DELETING) == (decision.action, decision.state)
    assert decision.outcome in set(Outcome)


TAKEN: dict[str, Any] = {
    "outcome": "preempted",
    "reason": "PREEMPTED",
    "cancel": False,
    "resume": True,
    "spot": True,
}


@pytest.mark.parametrize("outcome", sorted(Outcome))
@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("spot", [False, True])
def test_only_what_was_taken_or_has_money_left_goes_on(
    outcome: Outcome, cancel: bool, resume: bool, spot: bool
) -> None:
    """Every other ending is the end of the job. A spot machine's deadline was computed from its ceiling."""
    expected = (outcome == "preempted" or (outcome == "budget_reached" and spot)) and resume and not cancel

    assert expected == goes_on(outcome=outcome, reason="CAP", cancel=cancel, resume=resume, spot=spot, attempts=1)


def test_a_training_that_sends_too_much_does_not_go_on() -> None:
    """It would do so again, until nothing of the cap is left."""
    assert not goes_on(
        outcome="budget_reached", reason="EGRESS_RESERVE", cancel=False, resume=True, spot=True, attempts=1
    )


def test_a_job_that_is_always_preempted_ends_some_day() -> None:
    """Every loop is bounded."""
    assert goes_on(**TAKEN, attempts=MOST_ATTEMPTS - 1)
    assert not goes_on(**TAKEN, attempts=MOST_ATTEMPTS)


R1A, R1B, R2A = make_offer("r1", "a"), make_offer("r1", "b"), make_offer("r2", "a")
R1A_SPOT = make_offer("r1", "a", spot=True)
ELSEWHERE = make_offer("r1", "a", provider="other")
EVERY = [R1A, R1A_SPOT, R1B, R2A, ELSEWHERE]


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("zone", [R1A_SPOT, R1B, R2A, ELSEWHERE]),
        ("region", [R2A, ELSEWHERE]),
        ("provider", [ELSEWHERE]),
        (None, []),
    ],
)
def test_a_failure_rules_out_its_scope_and_no_more(scope: str | None, expected: list[Offer]) -> None:
    """The cloud's error says how far one must go."""
    failed = make_attempt(error_kind="CapacityError", error_scope=scope)

    assert expected == offers_left(EVERY, [failed])


def test_failures_add_up() -> None:
    """Each one rules out its own."""
    attempts = [
        make_attempt(1, error_kind="CapacityError", error_scope="zone"),
        make_attempt(2, spot=True, error_kind="CapacityError", error_scope="zone"),
        make_attempt(3, zone="b", error_kind="QuotaError", error_scope="region"),
    ]

    assert offers_left(EVERY, attempts) == [R2A, ELSEWHERE]


def test_a_machine_that_lived_starts_the_list_anew() -> None:
    """What had no capacity an hour ago may have some now."""
    attempts = [
        make_attempt(1, error_kind="CapacityError", error_scope="region"),
        make_attempt(2, region="r2", create_called=True),
    ]

    assert offers_left(EVERY, attempts) == EVERY


def test_a_request_that_was_never_sent_changes_nothing() -> None:
    """Its guard died before it called the cloud, which therefore has no more capacity than before."""
    attempts = [make_attempt(1, error_kind="CapacityError", error_scope="region"), make_attempt(2, region="r2")]

    assert offers_left(EVERY, attempts) == [R2A, ELSEWHERE]


def test_without_offers_none_is_left() -> None:
    """Nothing is made up."""
    assert offers_left([], []) == []
