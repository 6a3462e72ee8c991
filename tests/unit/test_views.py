"""The one document behind `status`, `up` and `down`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from makers import START, make_attempt, make_job

from launcher.cli.screen import metric_line
from launcher.core.errors import Exit
from launcher.outcome import State
from launcher.views import job_exit_code, job_view, spend_usd

HOUR = START + timedelta(hours=1)
# docs/json.md promises these; fields are only added.
PROMISED = {
    "job",
    "name",
    "state",
    "outcome",
    "reason",
    "provider",
    "region",
    "instance_type",
    "spot",
    "machine_id",
    "attempt",
    "spend_usd",
    "spend_confirmed",
    "cap_usd",
    "rate_usd_per_hour",
    "soft_deadline",
    "hard_deadline",
    "started_at",
    "ended_at",
    "metrics",
    "layers",
    "console_url",
}
RUNNING = make_attempt(
    state=State.RUNNING,
    create_called=True,
    machine_id="m-1",
    started_at=START,
    beat={"state": "running", "metrics": {"loss": {"value": 2.5}}, "notes": ["slow disk"], "gpu": {"watts": 60}},
    log_path="/tmp/output.log",
)
GONE = replace(
    RUNNING,
    state=State.GONE,
    ended_at=START + timedelta(seconds=100),
    gone_at=START + timedelta(seconds=100),
    observed_at=START + timedelta(seconds=130),
    confirmed=True,
    outcome="finished",
)


def view(*attempts: Any, **job: Any) -> dict[str, Any]:
    """The document of a job with these attempts, an hour after it was asked for."""
    return json.loads(json.dumps(job_view(make_job(**job), attempts, HOUR)))


def test_every_promised_field_is_always_there() -> None:
    """Also before there is any machine."""
    for shown in (view(), view(RUNNING), view(GONE, state=State.GONE)):
        assert PROMISED <= set(shown)


def test_a_job_that_was_just_asked_for() -> None:
    """It has cost nothing, and nothing is known of a machine."""
    shown = view()

    assert ("planned", "local", 0, "0.00", "5.00") == tuple(
        shown[key] for key in ("state", "provider", "attempt", "spend_usd", "cap_usd")
    )
    assert [None] * 5 == [
        shown[key] for key in ("region", "machine_id", "soft_deadline", "hard_deadline", "rate_usd_per_hour")
    ]
    assert "2026-11-21T12:00:00Z" == shown["created_at"]


def test_a_job_that_runs() -> None:
    """Where, for how much, until when, and what its training says."""
    shown = view(RUNNING, state=State.RUNNING)

    assert ("running", "r1", "t4", "m-1", 1, "3.60", "3.60") == tuple(
        shown[key]
        for key in ("state", "region", "instance_type", "machine_id", "attempt", "spend_usd", "rate_usd_per_hour")
    )
    assert ("2026-11-21T12:50:00Z", "2026-11-21T13:00:00Z") == (shown["soft_deadline"], shown["hard_deadline"])
    assert ("2026-11-21T12:00:00Z", None, False) == (shown["started_at"], shown["ended_at"], shown["spend_confirmed"])
    assert ({"loss": {"value": 2.5}}, ["slow disk"], {"watts": 60}) == (shown["metrics"], shown["notes"], shown["gpu"])
    assert 3600.0 == shown["billed_s"]


def test_a_job_that_is_gone() -> None:
    """Its bill stands still, and is confirmed."""
    shown = view(GONE, state=State.GONE, outcome="finished", reason="EXIT_0", exit_code=0, ended_at=HOUR)

    assert ("0.10", True, 100.0) == (shown["spend_usd"], shown["spend_confirmed"], shown["billed_s"])
    assert "2026-11-21T12:01:40Z" == shown["ended_at"]
    assert ("finished", "EXIT_0", 0) == (shown["outcome"], shown["reason"], shown["exit_code"])


def test_a_bill_that_is_an_upper_bound_says_so() -> None:
    """One attempt is enough."""
    bound = replace(GONE, number=2, token="j-tiny-2", confirmed=False)

    assert not view(GONE, bound, state=State.GONE)["spend_confirmed"]
    assert not view(GONE, state=State.DELETING)["spend_confirmed"]


def test_a_job_that_never_had_a_machine_is_confirmed_to_have_cost_nothing() -> None:
    """And ended when it was closed."""
    shown = view(state=State.GONE, outcome="launch_failed", ended_at=HOUR)

    assert ("0.00", True, "2026-11-21T13:00:00Z", None) == (
        shown["spend_usd"],
        shown["spend_confirmed"],
        shown["ended_at"],
        shown["started_at"],
    )


def test_the_machine_that_was_made_is_shown_not_the_offer_that_failed_after_it() -> None:
    """What the user can look at; the trouble is that of the last attempt."""
    failed = make_attempt(2, state=State.GONE, region="r2", error_kind="CapacityError", trouble="Full.")
    shown = view(GONE, failed, state=State.GONE)

    assert ("r1", "m-1", 1, "Full.") == (shown["region"], shown["machine_id"], shown["attempt"], shown["trouble"])


def test_all_attempts_are_paid() -> None:
    """Those that were never sent cost nothing."""
    attempts = [GONE, make_attempt(2, state=State.GONE), replace(GONE, number=3)]

    assert Decimal("0.2") == spend_usd(attempts, HOUR)
    assert 0 == spend_usd([], HOUR)


@pytest.mark.parametrize(
    ("job", "attempts", "expected"),
    [
        ({"state": State.RUNNING}, [RUNNING], Exit.RUNNING),
        ({"state": State.GONE, "outcome": "finished"}, [GONE], Exit.OK),
        ({"state": State.DELETING, "outcome": None}, [RUNNING], Exit.UNCONFIRMED),
        ({"state": State.GONE, "outcome": "launch_failed"}, [make_attempt(error_kind="AuthError")], Exit.CREDENTIALS),
        ({"state": State.GONE, "outcome": "launch_failed", "reason": "LAUNCHER_GONE"}, [], Exit.UNAVAILABLE),
    ],
)
def test_the_exit_code_tells_how_the_job_stands(job: dict[str, Any], attempts: list[Any], expected: Exit) -> None:
    """From the job, and from the last error of its launch."""
    assert expected == job_exit_code(make_job(**job), attempts)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2.31449, "2.314"), (11450.7, "11451"), (1e-5, "1e-05"), (1.5e9, "1.5e+09"), (0, "0"), ("nan", "nan")],
)
def test_a_metric_reads_well_on_a_screen(value: float | str, shown: str) -> None:
    """Four digits, and whole numbers for what is counted in thousands."""
    assert metric_line({"metrics": {"x": {"value": value, "step": None}}}) == f"x={shown}"
