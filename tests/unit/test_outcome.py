"""The exit code that each ending gets, and the table of states."""

from __future__ import annotations

import pytest

from launcher.core.errors import Exit
from launcher.outcome import TRANSITIONS, Outcome, State, exit_code

EXITS = {
    "finished": 0,
    "early_stopped": 0,
    "launch_failed": 4,
    "preempted": 4,
    "failed": 5,
    "agent_lost": 5,
    "cancelled": 6,
    "budget_reached": 7,
    "duration_reached": 7,
    "stalled": 7,
}


def test_every_outcome_has_its_exit_code() -> None:
    """README and docs/json.md promise these numbers to scripts."""
    assert EXITS == {outcome.value: int(exit_code("gone", outcome, None)) for outcome in Outcome}


@pytest.mark.parametrize("reason", ["NON_FINITE_METRIC", "DIVERGENCE_THRESHOLD"])
def test_a_diverged_run_failed(reason: str) -> None:
    """An early stop is good news, but not for these reasons."""
    assert Exit.JOB_FAILED == exit_code("gone", "early_stopped", reason)


@pytest.mark.parametrize(
    ("kind", "reason", "expected"),
    [
        ("AuthError", "ExpiredToken", Exit.CREDENTIALS),
        ("InvalidRequest", "BadImage", Exit.USAGE),
        ("CapacityError", "ZONE_FULL", Exit.UNAVAILABLE),
        (None, "INTERRUPTED", Exit.INTERRUPTED),
        (None, None, Exit.UNAVAILABLE),
    ],
)
def test_a_failed_launch_has_the_code_of_its_cause(kind: str | None, reason: str | None, expected: Exit) -> None:
    """Credentials, a wrong request and a full cloud ask for different deeds."""
    assert expected == exit_code("gone", "launch_failed", reason, kind)


@pytest.mark.parametrize("state", sorted(set(State) - {State.GONE, State.DELETING}))
def test_a_live_job_is_still_running(state: State) -> None:
    """Also one without a machine yet, or between two."""
    assert Exit.RUNNING == exit_code(state, None, None)


@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_a_teardown_that_is_not_confirmed_wins_over_every_outcome(outcome: Outcome | None) -> None:
    """Something may still be billed, and a script must see that first."""
    assert Exit.UNCONFIRMED == exit_code("deleting", outcome, None)


def test_states_only_move_towards_gone() -> None:
    """No attempt comes back: gone is final, deleting leads to gone alone, and each state but `planned` is reached."""
    order = list(State)

    assert frozenset() == TRANSITIONS[State.GONE]
    assert frozenset({State.GONE}) == TRANSITIONS[State.DELETING]
    assert all(order.index(after) > order.index(before) for before in TRANSITIONS for after in TRANSITIONS[before])
    assert set(State) - {State.PLANNED, State.WAITING} == frozenset().union(*TRANSITIONS.values())
    assert State.WAITING not in TRANSITIONS


def test_nothing_runs_without_a_create() -> None:
    """The journal says `creating` before any machine can exist."""
    assert frozenset({State.CREATING, State.GONE}) == TRANSITIONS[State.PLANNED]
