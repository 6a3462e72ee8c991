"""From what is seen of an attempt to what is done about it. Pure.

Nothing but `down` and this policy ends a job, and nothing at all moves a deadline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher.outcome import Outcome, State
from providers.base import MachineState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launcher.records import Attempt
    from providers.base import Offer

# No heartbeat for this long, while the console could be read: the agent is lost (DESIGN, section 8).
AGENT_TIMEOUT_S = 600.0
# A job that is preempted again and again gives up after this many machines.
MOST_ATTEMPTS = 20

SHUTDOWN_SIGNAL = "SHUTDOWN_SIGNAL"
EGRESS_RESERVE = "EGRESS_RESERVE"


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of one attempt at one moment. Durations in seconds; ages count as the cap counts them."""

    state: State
    age_s: float
    hard_after_s: float
    limit_outcome: str
    cancel: bool
    machine: MachineState | None = None
    """None: the cloud could not be asked this time."""
    gone: bool = False
    """The cloud said `not found` this time."""
    state_reason: str | None = None
    never_ran: str | None = None
    """The cloud's code for why the machine ended before it ran."""
    beat: dict[str, Any] | None = None
    silent_s: float = 0.0
    """How long the console could be read and held no new heartbeat."""
    boot_timeout_s: float = 0.0
    agent_timeout_s: float = AGENT_TIMEOUT_S
    outcome: str | None = None
    """What was decided before, when the machine was ordered destroyed."""
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do: `keep` watching (in `state`), `destroy`, or record it as `gone`; and why."""

    action: str
    state: State
    outcome: str | None = None
    reason: str | None = None


def _verdict_of_agent(view: View) -> tuple[str, str] | None:
    """How the agent says the training ended, unless all it knows is that somebody shut the machine down."""
    beat = view.beat or {}
    outcome, reason = beat.get("outcome"), beat.get("reason")
    if outcome is None or reason == SHUTDOWN_SIGNAL or outcome not in set(Outcome):
        return None
    return str(outcome), str(reason or "")


def _ended_by_itself(view: View) -> tuple[str, str]:
    """Why a machine is gone, or useless, that nobody here ordered destroyed."""
    if view.age_s >= view.hard_after_s:
        return view.limit_outcome, "HARD_DEADLINE"
    if view.never_ran is not None and "state" not in (view.beat or {}):
        return Outcome.LAUNCH_FAILED, view.never_ran
    if (view.beat or {}).get("reason") == SHUTDOWN_SIGNAL:
        return Outcome.PREEMPTED, SHUTDOWN_SIGNAL
    if view.state_reason == "PREEMPTED":
        return Outcome.PREEMPTED, "PREEMPTED"
    return Outcome.AGENT_LOST, view.state_reason or "MACHINE_GONE"


def _verdict(view: View) -> tuple[str, str]:
    """The outcome of an attempt whose machine is gone or is of no more use."""
    agent = _verdict_of_agent(view)
    if agent is not None:
        return agent
    if view.outcome is not None:
        return view.outcome, view.reason or ""
    if view.cancel:
        return Outcome.CANCELLED, "DOWN"
    return _ended_by_itself(view)


def _due(view: View) -> tuple[str, str] | None:
    """Why a machine that exists must be destroyed now, if it must."""
    beat = view.beat or {}
    if view.cancel:
        return _verdict(view)
    if view.age_s >= view.hard_after_s:
        return _verdict_of_agent(view) or (view.limit_outcome, "HARD_DEADLINE")
    if beat.get("state") == "ended" or view.machine == MachineState.STOPPED:
        return _verdict(view)
    heard = "state" in beat
    if view.silent_s >= (view.agent_timeout_s if heard else view.boot_timeout_s):
        return Outcome.AGENT_LOST, "NO_HEARTBEAT" if heard else "BOOT_TIMEOUT"
    return None


def decide(view: View) -> Decision:
    """What to do about an attempt whose machine was created."""
    if view.gone:
        outcome, reason = _verdict(view)
        return Decision(action="gone", state=State.GONE, outcome=outcome, reason=reason)
    if view.state == State.DELETING:
        return Decision(action="destroy", state=State.DELETING, outcome=view.outcome, reason=view.reason)
    due = _due(view)
    if due is not None:
        return Decision(action="destroy", state=State.DELETING, outcome=due[0], reason=due[1])
    return Decision(action="keep", state=_state(view))


def _state(view: View) -> State:
    """The state that follows from what the agent last said."""
    said = (view.beat or {}).get("state")
    if said in ("stopping", "ended") or view.machine == MachineState.STOPPING:
        return State.STOPPING
    if view.state == State.BOOTING and said in ("running", "pulling", "fetching"):
        return State.RUNNING
    return view.state


def goes_on(*, outcome: str | None, reason: str | None, cancel: bool, resume: bool, spot: bool, attempts: int) -> bool:
    """Whether a job whose attempt ended this way gets another machine, if it can resume and the cap still buys one.

    After a preemption; and after a spot machine that met its cap, whose deadline was computed from a ceiling: at the
    prices that really held, a part of the cap is left. A training that has sent away all that it may would only do so
    again.
    """
    met_cap = outcome == Outcome.BUDGET_REACHED and reason != EGRESS_RESERVE
    lives_on = outcome == Outcome.PREEMPTED or (met_cap and spot)
    return lives_on and resume and not cancel and attempts < MOST_ATTEMPTS


def offers_left(offers: Sequence[Offer], attempts: Sequence[Attempt]) -> list[Offer]:
    """The offers that no failed create of this launch rules out, in their order.

    A failure rules out its zone, its region or its provider, as the cloud's error said. A machine that was accepted
    starts the list anew: what had no capacity before may have some now.
    """
    failures: list[Attempt] = []
    for attempt in attempts:
        if attempt.error_kind is not None:
            failures.append(attempt)
        elif attempt.create_called:
            failures.clear()
    return [offer for offer in offers if not any(_rules_out(failure, offer) for failure in failures)]


def _rules_out(failure: Attempt, offer: Offer) -> bool:
    if failure.error_scope is None:
        return True
    if failure.provider != offer.provider:
        return False
    if failure.error_scope == "provider":
        return True
    if failure.region != offer.region:
        return False
    return failure.error_scope == "region" or (failure.zone == offer.zone and failure.spot == offer.spot)
