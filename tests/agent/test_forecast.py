"""The forecast: rate, finish, cost, and the cap that would do."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.agent.forecast import SAMPLES, Forecast, Track


def orders(**changes: Any) -> dict[str, Any]:
    """$5 at $0.50 an hour, $0.20 spent before; the soft deadline is at 9 h, so $0.30 are for the ending."""
    return {
        "rate_usd_per_hour": "0.50",
        "spent_usd": "0.20",
        "cap_usd": "5.00",
        "soft_after_s": 9 * 3600,
        "soft_outcome": "budget_reached",
        **changes,
    }


def run(forecast: Forecast, total: float, step_s: float, count: int, start_s: float = 100.0) -> float:
    """Let the training do `count` steps of `step_s`; the age at the last of them, in seconds."""
    for step in range(1, count + 1):
        forecast.see({"step": float(step), "steps": total}, start_s + step * step_s)
    return start_s + count * step_s


def test_nothing_is_known_at_first() -> None:
    """No position, no progress."""
    assert Forecast(orders()).report(0) == {}
    assert Forecast(orders()).note(0) == ""


def test_a_training_that_fits() -> None:
    """1,000 steps of 10 s: done after 10,100 s, for $0.20 and 10,100 s at $0.50 an hour."""
    forecast = Forecast(orders())
    age_s = run(forecast, 1000, 10, 100)
    assert forecast.report(age_s) == {
        "unit": "step",
        "step": 100,
        "steps": 1000,
        "steps_per_s": 0.1,
        "eta_s": 9000,
        "finish_age_s": 10_100,
        "cost_usd": "1.61",
        "fits": True,
        "cap_needed_usd": "1.99",
        "settled": True,
    }
    assert forecast.note(age_s) == ""


def test_a_training_that_does_not_fit() -> None:
    """4,000 steps of 10 s are 11.1 h: the note names the cap that would do, with 5 % and the ending's share."""
    forecast = Forecast(orders())
    age_s = run(forecast, 4000, 10, 100)
    said = forecast.report(age_s)
    assert [said["fits"], said["finish_age_s"], said["cost_usd"]] == [False, 40_100, "5.77"]
    assert said["cap_needed_usd"] == "6.36"  # (0.20 + 40,100 / 3,600 * 0.50) * 1.05 + 0.30, up to the next cent
    assert forecast.note(age_s) == (
        "The training will not be done in time: it needs 11.1 h and $5.77, and is stopped after 9.0 h. "
        "--budget 6.36 would do."
    )


def test_a_duration_limit_needs_more_time_not_more_money() -> None:
    """Where --max-duration is the limit, the note names a duration."""
    forecast = Forecast(orders(soft_after_s=3600, soft_outcome="duration_reached"))
    age_s = run(forecast, 1000, 10, 100)
    assert forecast.report(age_s)["cap_needed_usd"] == "1.69"
    assert forecast.note(age_s).endswith("is stopped after 1.0 h. --max-duration 177m would do.")


def test_no_loud_word_from_a_few_steps() -> None:
    """Four steps are not enough to alarm anyone."""
    forecast = Forecast(orders())
    age_s = run(forecast, 4000, 10, 4)
    assert forecast.report(age_s)["fits"] is False
    assert forecast.note(age_s) == ""


def test_warm_up_is_left_out() -> None:
    """A first step of half an hour does not count for the rate."""
    track = Track()
    track.see(0, 100, 0)
    for step in range(1, 11):
        track.see(step, 100, 1800 + step * 10)
    assert track.rate() == pytest.approx(0.1)


def test_the_rate_is_of_the_later_half() -> None:
    """A training that became slower is judged by how it is now."""
    track = Track()
    for step in range(11):
        track.see(step, 100, step * 1)
    for step in range(11, 31):
        track.see(step, 100, 10 + (step - 10) * 20)
    assert track.rate() == pytest.approx(0.05)


def test_lines_that_arrive_together() -> None:
    """Of many positions at one age the last counts, and the rate stays right."""
    track = Track()
    for second in range(10):
        for step in range(5):
            track.see(second * 5 + step, 1000, second)
    assert track.rate() == pytest.approx(5.0)


def test_samples_are_bounded() -> None:
    """A million steps leave 64 samples, and the right rate."""
    track = Track()
    for step in range(100_000):
        track.see(step, 1_000_000, step * 0.5)
    assert len(track.samples) <= SAMPLES
    assert track.rate() == pytest.approx(2.0, rel=0.05)


def test_a_bar_that_begins_again() -> None:
    """A bar of one epoch says nothing about the end of the training."""
    forecast = Forecast(orders())
    for age_s in range(1, 31):
        forecast.see({"bar": float(age_s % 10 or 10), "bars": 10.0}, age_s)
    assert forecast.report(31) == {"unit": "step", "step": 10, "steps_per_s": 1}


def test_a_run_that_goes_back_to_a_checkpoint() -> None:
    """A step backwards in mid-run is a restart: its end is still known, its rate is measured anew."""
    forecast = Forecast(orders())
    run(forecast, 1000, 10, 500)
    for step in range(400, 410):
        forecast.see({"step": float(step), "steps": 1000.0}, 6000 + (step - 400) * 20)
    said = forecast.report(6180)
    assert [said["steps_per_s"], said["eta_s"]] == [0.05, (1000 - 409) * 20]


def test_epochs_out_of_several_beat_the_steps_of_one() -> None:
    """`Epoch [2/10], Step [100/600]`: the end is that of the epochs."""
    forecast = Forecast(orders())
    for epoch in range(1, 6):
        for step in (300, 600):
            forecast.see({"epoch": epoch, "epochs": 10, "step": step, "steps": 600}, epoch * 1200 + step * 2)
    said = forecast.report(7200)
    assert [said["unit"], said["step"], said["steps"], said["finish_age_s"]] == ["epoch", 5, 10, 12_600]


def test_the_first_of_several_epochs_has_no_forecast_yet() -> None:
    """The steps of one epoch must not look like the whole training."""
    forecast = Forecast(orders())
    for step in range(1, 11):
        forecast.see({"epoch": 1.0, "epochs": 10.0, "step": float(step), "steps": 100.0}, step)
    assert forecast.report(10) == {"unit": "epoch", "step": 1, "steps": 10}


def test_the_bar_of_an_epoch_gives_way_to_counted_epochs() -> None:
    """Keras and plain loops show both."""
    forecast = Forecast(orders())
    forecast.see({"epoch": 1.0, "epochs": 10.0}, 10)
    forecast.see({"bar": 5.0, "bars": 100.0}, 11)
    assert forecast.report(11) == {"unit": "epoch", "step": 1, "steps": 10}


@pytest.mark.parametrize("total", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_total_that_is_none(total: float) -> None:
    """max_steps of -1 means that it is not set; nonsense is no total either."""
    forecast = Forecast(orders())
    for step in range(1, 9):
        forecast.see({"step": float(step), "steps": total}, step)
    assert forecast.report(9) == {"unit": "step", "step": 8, "steps_per_s": 1}


def test_a_finished_training_costs_what_it_has_cost() -> None:
    """At its last step the forecast is now."""
    forecast = Forecast(orders())
    age_s = run(forecast, 100, 36, 100, start_s=0)
    said = forecast.report(age_s)
    assert [said["eta_s"], said["cost_usd"]] == [0, "0.70"]
