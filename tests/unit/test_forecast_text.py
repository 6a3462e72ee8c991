"""The forecast in words, the ending in words, and text made safe to show."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from makers import START, make_attempt, make_job

from launcher.agent.forecast import Forecast
from launcher.outcome import Outcome, State
from launcher.report.ending_text import OUTCOMES, ending_words
from launcher.report.forecast_text import AGENT_NOTE, forecast_remark, other_notes
from launcher.report.plain_text import plain

NOW = START + timedelta(minutes=10)
PROGRESS = {
    "fits": False,
    "settled": True,
    "finish_age_s": 7200,
    "cost_usd": "7.20",
    "cap_needed_usd": "7.57",
}


def remark(progress: dict[str, Any] | None, state: State = State.RUNNING, **changes: Any) -> str:
    """What is said of a job under a cap of 5 dollars with this progress."""
    attempt = make_attempt(state=state, create_called=True, beat={"progress": progress}, **changes)
    return forecast_remark(make_job(state=state), [attempt], NOW)


def test_a_training_that_costs_more_than_its_cap_is_told_the_cap_that_would_do() -> None:
    """It says when, how much, above what, and the flag to use."""
    assert remark(PROGRESS) == (
        "at this pace it finishes at 2026-11-21T14:00:00Z and costs $7.20, above the cap of $5.00: "
        "--budget 7.57 would do"
    )


def test_a_training_that_leaves_no_room_for_the_ending_is_told_so() -> None:
    """It costs less than the cap, and would still be stopped before it is done."""
    assert "costs $4.99, too close to the cap of $5.00: --budget 5.40 would do" in remark(
        PROGRESS | {"cost_usd": "4.99", "cap_needed_usd": "5.40"}
    )


def test_a_time_limit_has_a_flag_of_its_own() -> None:
    """Where max_duration ends the job, more money would not help."""
    assert remark(PROGRESS, limit_outcome="duration_reached") == (
        "at this pace it finishes at 2026-11-21T14:00:00Z, after its time limit at 2026-11-21T12:50:00Z: "
        "--max-duration 126m would do"
    )


@pytest.mark.parametrize(
    "progress",
    [
        None,
        {},
        {"step": 3, "steps": 10},
        PROGRESS | {"fits": True},
        PROGRESS | {"settled": False},
        {"fits": False, "finish_age_s": 7200},
        {"fits": False, "cost_usd": "7.20"},
    ],
)
def test_nothing_is_said_before_it_is_known(progress: dict[str, Any] | None) -> None:
    """No heartbeat, no end, a training that fits, a pace that is not settled, or figures that are missing."""
    assert remark(progress) == ""


def test_nothing_is_said_of_a_job_that_is_gone_or_has_no_machine() -> None:
    """A forecast is about what is to come."""
    assert remark(PROGRESS, State.GONE) == ""
    assert forecast_remark(make_job(), [], NOW) == ""


def test_the_agents_own_note_is_recognised() -> None:
    """The note that the real agent writes begins as AGENT_NOTE says, and only that note is left out."""
    orders = {"rate_usd_per_hour": "3.6", "spent_usd": "0", "cap_usd": "0.10", "soft_after_s": 60.0}
    forecast = Forecast(orders)
    for step in range(1, 10):
        forecast.see({"step": step, "steps": 1000}, step * 10.0)
    note = forecast.note(90.0)
    assert note.startswith(AGENT_NOTE)
    assert other_notes(["another", note]) == ["another"]


def test_the_remark_follows_from_the_real_agents_progress() -> None:
    """The fields are those that the agent sends: 1000 steps of 10 s at 3.60 an hour are 10 dollars."""
    orders = {"rate_usd_per_hour": "3.6", "spent_usd": "0", "cap_usd": "5", "soft_after_s": 4000.0}
    forecast = Forecast(orders)
    for step in range(1, 10):
        forecast.see({"step": step, "steps": 1000}, step * 10.0)
    said = remark(forecast.report(90.0))
    assert said.startswith("at this pace it finishes at 2026-11-21T14:46:40Z and costs $10.00, above the cap of $5.00")
    assert Decimal(said.split("--budget ")[1].split()[0]) > 10


# Endings


def test_every_outcome_has_words() -> None:
    """A new outcome must be put into words."""
    assert set(OUTCOMES) == set(Outcome)


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        (None, None, "The job has not ended."),
        ("finished", "", "The training finished."),
        ("failed", "EXIT_3", "The training failed. It ended by itself, with exit code 3."),
        ("failed", "SIGNAL_SIGSEGV", "The training failed. A signal ended it: SIGSEGV."),
        ("launch_failed", "ZoneFull", "No machine could be had. The reason given is ZoneFull."),
        (
            "preempted",
            "PREEMPTED",
            "The cloud took the machine back. It was a spot machine that the cloud wanted for itself.",
        ),
    ],
)
def test_endings_in_words(outcome: str | None, reason: str | None, expected: str) -> None:
    """Known reasons have a sentence, codes are explained, and others are named as they are."""
    assert ending_words(outcome, reason) == expected


# Text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("val_loss é 漢", "val_loss é 漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\u202eabc", "\\u202eabc"),
        ("\ud800", "\\ud800"),
        (3.5, "3.5"),
    ],
)
def test_what_does_not_print_is_shown_as_an_escape(text: object, expected: str) -> None:
    """Text of a training cannot move the cursor, turn the reading direction, or break an encoding."""
    assert plain(text) == expected


def test_line_ends_can_stay() -> None:
    """For text that is shown in a block of its own."""
    assert plain("a\nb\r\n\x07", lines=True) == "a\nb\\r\n\\x07"
