"""The words for where a job stands and how it ended, and the exit code that each ending gets."""

from __future__ import annotations

from enum import StrEnum

from launcher.core.errors import Exit


class State(StrEnum):
    """Where an attempt stands. A job has the state of its current attempt, or `waiting` between two."""

    PLANNED = "planned"
    CREATING = "creating"
    BOOTING = "booting"
    RUNNING = "running"
    STOPPING = "stopping"
    DELETING = "deleting"
    GONE = "gone"
    WAITING = "waiting"


# Every transition of an attempt. Anything else is an error, raised before it is written down.
TRANSITIONS: dict[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.CREATING, State.GONE}),
    State.CREATING: frozenset({State.BOOTING, State.DELETING, State.GONE}),
    State.BOOTING: frozenset({State.RUNNING, State.STOPPING, State.DELETING, State.GONE}),
    State.RUNNING: frozenset({State.STOPPING, State.DELETING, State.GONE}),
    State.STOPPING: frozenset({State.DELETING, State.GONE}),
    State.DELETING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


class Outcome(StrEnum):
    """Why a job ended."""

    FINISHED = "finished"
    EARLY_STOPPED = "early_stopped"
    FAILED = "failed"
    BUDGET_REACHED = "budget_reached"
    DURATION_REACHED = "duration_reached"
    STALLED = "stalled"
    AGENT_LOST = "agent_lost"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    LAUNCH_FAILED = "launch_failed"


# An early stop for one of these is bad news; for any other reason it is good news.
DIVERGED = frozenset({"NON_FINITE_METRIC", "DIVERGENCE_THRESHOLD"})

_EXIT = {
    Outcome.FINISHED: Exit.OK,
    Outcome.EARLY_STOPPED: Exit.OK,
    Outcome.FAILED: Exit.JOB_FAILED,
    Outcome.BUDGET_REACHED: Exit.LIMIT,
    Outcome.DURATION_REACHED: Exit.LIMIT,
    Outcome.STALLED: Exit.LIMIT,
    Outcome.AGENT_LOST: Exit.JOB_FAILED,
    Outcome.PREEMPTED: Exit.UNAVAILABLE,
    Outcome.CANCELLED: Exit.CANCELLED,
    Outcome.LAUNCH_FAILED: Exit.UNAVAILABLE,
}

# A launch that failed for one of these has a more exact code than "unavailable".
_LAUNCH_EXIT = {"AuthError": Exit.CREDENTIALS, "InvalidRequest": Exit.USAGE, "INTERRUPTED": Exit.INTERRUPTED}


def exit_code(state: str, outcome: str | None, reason: str | None, kind: str | None = None) -> Exit:
    """The exit code for a job; `kind` is the class of the provider's error when a launch failed."""
    if state == State.DELETING:
        return Exit.UNCONFIRMED
    if state != State.GONE or outcome is None:
        return Exit.RUNNING
    if outcome == Outcome.EARLY_STOPPED and reason in DIVERGED:
        return Exit.JOB_FAILED
    if outcome == Outcome.LAUNCH_FAILED:
        return _LAUNCH_EXIT.get(kind or reason or "", Exit.UNAVAILABLE)
    return _EXIT[Outcome(outcome)]
