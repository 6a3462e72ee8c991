"""The pace that a past job told of itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from makers import make_attempt, make_job

from launcher.agent.forecast import MARGIN, Forecast
from launcher.core.errors import UsageError
from launcher.estimate.pace import Measured, measured_pace


def beat(progress: dict[str, Any] | None = None, **metrics: Any) -> dict[str, Any]:
    """A heartbeat with those metrics."""
    return {"metrics": {name: {"value": value} for name, value in metrics.items()}, "progress": progress}


def measured(*beats: dict[str, Any] | None, tokens_per_step: int | None = None) -> Measured:
    """The pace of a job whose attempts had those last heartbeats."""
    attempts = [make_attempt(number, beat=each) for number, each in enumerate(beats, start=1)]
    return measured_pace(make_job(), attempts, tokens_per_step)


@pytest.mark.parametrize(
    "name", ["tokens_per_s", "tokens_per_sec", "train/tokens_per_second", "train_tokens_per_second", "tok_s", "tok/s"]
)
def test_tokens_per_second_are_known_by_their_usual_names(name: str) -> None:
    """As trainers spell them."""
    assert measured(beat(**{"loss": 3.1, name: 9000})).pace.high == 9000


def test_one_rate_alone_gets_the_forecasts_margin_at_its_slow_end() -> None:
    """5 %, as the agent adds to a forecast."""
    found = measured(beat(tokens_per_s=10_500.0))
    assert (found.pace.low, found.pace.high) == (10_000, 10_500)


def test_the_newest_attempt_that_told_a_pace_counts() -> None:
    """A later one that told nothing is passed over."""
    found = measured(beat(tokens_per_s=1), beat(tokens_per_s=2), beat(loss=3.0), None)
    assert found.pace.high == 2
    assert found.source == "measured: tokens_per_s of job tiny, attempt 2"


def test_the_forecasts_steps_count_pauses_in_and_are_the_slow_end() -> None:
    """Steps per second as the agent reports them, times the tokens of a step."""
    forecast = Forecast({"rate_usd_per_hour": "1", "spent_usd": "0", "cap_usd": "5", "soft_after_s": 9000})
    for step in range(10):
        forecast.see({"step": step, "steps": 100}, 2.0 * step)
    found = measured(beat(forecast.report(18.0), tokens_per_s=12_000), tokens_per_step=20_000)
    assert (found.pace.low, found.pace.high) == (10_000, 12_000)


def test_an_estimate_from_a_running_job_ends_when_its_forecast_does() -> None:
    """One pace for both: the hours for all its tokens are the forecast's time from the first step to the last."""
    forecast = Forecast({"rate_usd_per_hour": "1", "spent_usd": "0", "cap_usd": "5", "soft_after_s": 9000})
    for step in range(20):
        forecast.see({"step": step, "steps": 5000}, 2.5 * step)
    told = forecast.report(47.5)
    found = measured(beat(told), tokens_per_step=20_000)
    assert told["finish_age_s"] == 12_500
    shortest_h, longest_h = found.pace.hours(5000 * 20_000)
    assert shortest_h * 3600 == 12_500
    assert longest_h == shortest_h * MARGIN


def test_steps_alone_will_do_when_the_tokens_of_a_step_are_said() -> None:
    """And not otherwise, nor for epochs."""
    told = beat({"unit": "step", "steps_per_s": 0.5})
    assert measured(told, tokens_per_step=20_000).pace.high == 10_000
    for each, tokens in ((told, None), (beat({"unit": "epoch", "steps_per_s": 0.5}), 20_000)):
        with pytest.raises(UsageError, match="has told no tokens per second"):
            measured(each, tokens_per_step=tokens)


@pytest.mark.parametrize("value", ["nan", "inf", 0, -1.0, None, float("inf")])
def test_what_is_no_rate_is_not_taken_for_one(value: Any) -> None:
    """The job is said to have told none, and what to do about it."""
    with pytest.raises(UsageError) as caught:
        measured(beat(tokens_per_s=value))
    assert "metrics.regex" in caught.value.fix


def test_an_evaluations_tokens_per_second_are_not_the_trainings() -> None:
    """They are faster: nothing is learned meanwhile."""
    with pytest.raises(UsageError):
        measured(beat(eval_tokens_per_second=90_000))


def test_the_machine_is_that_of_the_attempt() -> None:
    """A pace holds for the card it was measured on."""
    attempt = make_attempt(beat=beat(tok_s=5), provider="aws", instance_type="g4dn.xlarge")
    found = measured_pace(make_job(), [attempt], None)
    assert (found.provider, found.instance_type) == ("aws", "g4dn.xlarge")
    assert found.pace.hours(18_000) == (1, Decimal("1.05"))
