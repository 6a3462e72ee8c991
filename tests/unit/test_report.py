"""The report of a job: the document."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from makers import START, make_job, make_offer, make_spec
from report_makers import NOW, a_beat, evil_report, gone, made, report_of

from launcher.job import EarlyStop
from launcher.outcome import State
from launcher.records import Event
from launcher.report.page import sections, to_html, to_markdown
from providers.base import OneTimeCost, RatePart
from providers.local.offers import rate_part

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


# The bill


def test_the_parts_of_the_bill_add_up_to_the_ledger() -> None:
    """Compute until it ended, the disk until all was gone, and the timer's calls, over two machines."""
    parts = (
        RatePart(name="compute", worst_usd_per_hour=Decimal("0.5"), expected_usd_per_hour=Decimal("0.5"), source="s"),
        RatePart(
            name="disk",
            worst_usd_per_hour=Decimal("0.011"),
            expected_usd_per_hour=Decimal("0.011"),
            source="s",
            standing=True,
        ),
    )
    offer = make_offer(parts=parts, one_time=(OneTimeCost(name="timer", usd=Decimal("0.0002"), source="s"),))
    attempts = [made(1, offer, gone_at=START + timedelta(hours=2)), made(2, offer)]
    spend = report_of(gone(), attempts)["spend"]
    expected = sum(attempt.cost_usd(NOW) for attempt in attempts)
    assert [(part["attempt"], part["name"], part["usd"]) for part in spend["parts"]] == [
        (1, "compute", "0.50"),
        (1, "disk", "0.022"),
        (1, "timer", "0.0002"),
        (2, "compute", "0.50"),
        (2, "disk", "0.011"),
        (2, "timer", "0.0002"),
    ]
    assert sum(Decimal(part["usd"]) for part in spend["parts"]) == expected == Decimal(spend["usd"])


@given(
    billed_ms=st.lists(st.integers(0, 10_000_000), min_size=1, max_size=3), rate=st.decimals("0.0001", "9", places=4)
)
def test_the_parts_add_up_to_the_total_as_it_is_told(billed_ms: list[int], rate: Decimal) -> None:
    """To the micro-dollar, whatever was rounded on the way."""
    part = RatePart(name="p", worst_usd_per_hour=rate, expected_usd_per_hour=rate, source="s")
    attempts = [
        made(n, offer=make_offer(parts=(part,)), billed_s=ms / 1000, granularity_s=Decimal("0.001"))
        for n, ms in enumerate(billed_ms, 1)
    ]
    spend = report_of(gone(), attempts)["spend"]

    assert Decimal(spend["usd"]) == sum(Decimal(part["usd"]) for part in spend["parts"])


def test_what_the_cloud_says_that_compute_cost_is_shared_out() -> None:
    """A spot machine that cost less than its ceiling: the parts are of what it cost."""
    attempt = made(compute_usd=Decimal("1.2"))
    spend = report_of(gone(), [attempt])["spend"]
    assert (spend["usd"], spend["parts"][0]["usd"], spend["parts"][0]["charged_s"]) == ("1.20", "1.20", 1200.0)


def test_the_share_of_the_cap_and_that_it_is_confirmed() -> None:
    """3.60 of 5.00, on evidence."""
    spend = report_of(gone(), [made()])["spend"]
    assert (spend["usd"], spend["cap_usd"], spend["cap_share"], spend["confirmed"]) == ("3.60", "5.00", 0.72, True)


def test_an_upper_bound_is_called_one() -> None:
    """Without evidence of its end, a machine's cost is not called confirmed, in the document and on the page."""
    report = report_of(gone(), [made(confirmed=False)])
    assert report["spend"]["confirmed"] is False
    assert "an upper bound" in to_markdown(report)


def test_a_machine_that_was_never_created_cost_nothing() -> None:
    """It is listed with its reason, and has no line in the bill."""
    refused = made(1, create_called=False, outcome="launch_failed", reason="NoCapacity", billed_s=None, machine_id=None)
    report = report_of(gone(), [refused, made(2)])
    assert [(each["attempt"], each["created"], each["cost_usd"]) for each in report["attempts"]] == [
        (1, False, "0.00"),
        (2, True, "3.60"),
    ]
    assert {part["attempt"] for part in report["spend"]["parts"]} == {2}
    assert "No machine could be had. The reason given is NoCapacity." in to_markdown(report)


# Times


def test_the_times_of_a_job_that_has_ended() -> None:
    """Launched, billed, ended, with the seconds between."""
    assert report_of(gone(), [made()])["times"] == {
        "created_at": "2026-11-21T12:00:00Z",
        "started_at": "2026-11-21T12:00:00Z",
        "ended_at": "2026-11-21T13:00:00Z",
        "lasted_s": 3600.0,
        "billed_s": 3600.0,
    }


def test_a_live_job_is_marked_as_such() -> None:
    """Its report has no end, its spend goes on, and both pages say so."""
    attempt = made(state=State.RUNNING, ended_at=None, gone_at=None, confirmed=False, outcome=None, reason=None)
    report = report_of(make_job(state=State.RUNNING), [attempt])
    assert (report["job"]["live"], report["times"]["ended_at"], report["spend"]["usd"]) == (True, None, "10.80")
    for page in (to_markdown(report), to_html(report)):
        assert "this job is live" in page
        assert "while the job was live" in page


def test_a_job_between_two_machines_is_not_confirmed() -> None:
    """What the first cost is known, and yet the bill is not closed."""
    report = report_of(make_job(state=State.WAITING), [made(outcome="preempted", reason="PREEMPTED")])
    assert (report["spend"]["usd"], report["spend"]["confirmed"]) == ("3.60", False)


# Metrics


def test_the_series_goes_on_in_dollars_over_three_machines() -> None:
    """A machine's points start at what those before it had cost."""
    attempts = [made(1, beat=a_beat([3.0, 2.5])), made(2, beat=a_beat([2.4])), made(3, beat=a_beat([2.3]))]
    points = report_of(gone(), attempts)["metrics"]["points"]
    assert [(point["usd"], point["value"]) for point in points] == [
        ("0.60", 3.0),
        ("1.20", 2.5),
        ("4.20", 2.4),
        ("7.80", 2.3),
    ]


@pytest.mark.parametrize(("mode", "expected"), [("min", 1.5), ("max", 1.75), (None, 1.5)])
def test_the_best_is_over_all_machines(mode: str | None, expected: float) -> None:
    """A machine that resumed may never beat the one before it. Which way is better, early_stop or the agent says."""
    early_stop = EarlyStop(monitor="val_loss", mode=mode) if mode else None
    attempts = [made(1, beat=a_beat([2.0, 1.5, 1.8])), made(2, beat=a_beat([1.9, 1.75, 1.8]))]
    metrics = report_of(gone(spec=make_spec(early_stop=early_stop)), attempts)["metrics"]
    assert (metrics["best"]["value"], metrics["monitored"]) == (expected, mode is not None)


def test_a_metric_that_rises_is_best_at_its_highest() -> None:
    """Nobody said which way is better: a best above the newest value tells what the agent took it for."""
    beat = a_beat([0.5, 0.9, 0.8], name="accuracy")
    beat["metrics"]["accuracy"] |= {"best": 0.9, "best_step": 2}
    worse = a_beat([0.6], name="accuracy")
    best = report_of(gone(), [made(1, beat=beat), made(2, beat=worse)])["metrics"]["best"]
    assert best == {"value": 0.9, "step": 2}


def test_a_metric_that_is_nan_is_reported_and_charted() -> None:
    """The agent writes nan as text: the page shows it, and the chart marks it."""
    report = report_of(gone(), [made(beat=a_beat([3.0, "nan"]))])
    assert report["metrics"]["last"][0]["value"] == "nan"
    chart = next(section for section in sections(report) if section.title == "val_loss against dollars")
    assert "!" in chart.text.splitlines()[0]


def test_a_heartbeat_that_tells_nothing_leaves_its_parts_out() -> None:
    """A job that never told a metric has a report of the rest."""
    report = report_of(gone(), [made(beat=None)])
    assert report["metrics"]["last"] == report["metrics"]["points"] == report["checkpoints"] == report["gpu"] == []
    assert [section.title for section in sections(report)] == ["Result", "Command", "Machines", "Spend"]


def test_a_job_without_any_machine_has_a_report() -> None:
    """It was called off before: nothing ran, nothing was spent."""
    report = report_of(gone(outcome="cancelled", reason="DOWN"), [])
    assert (report["spend"]["usd"], report["attempts"], report["times"]["started_at"]) == ("0.00", [], None)
    assert "The job was ended on request. Somebody asked for it." in to_markdown(report)


# Energy


def test_energy_at_the_tariff_that_the_rate_was_computed_from() -> None:
    """150 W for an hour at 0.20: 0.15 kWh and three cents, as providers/local writes its part."""
    offer = make_offer(parts=(rate_part({"watts": "150", "usd_per_kwh": "0.2"}),))
    assert report_of(gone(), [made(offer=offer)])["energy"] == {
        "kwh": 0.15,
        "watts": 150.0,
        "measured": False,
        "usd_per_kwh": "0.20",
        "usd": "0.03",
    }


@pytest.mark.parametrize(
    ("gpu", "kwh"),
    [
        ({"energy_wh": 60.0, "mean_watts": 61.0, "watts": 70.0}, 0.06),
        ({"mean_watts": 61.0, "watts": 70.0}, 0.061),
        ([{"watts": 70.0}, {"watts": 30.0}], 0.1),
    ],
)
def test_measured_energy_counts_before_the_assumed(gpu: Any, kwh: float) -> None:
    """What the GPU added up, else its mean, else its last watts; several GPUs add up."""
    offer = make_offer(parts=(rate_part({}),))
    energy = report_of(gone(), [made(offer=offer, beat={"gpu": gpu})])["energy"]
    assert (energy["kwh"], energy["measured"]) == (kwh, True)


def test_no_watts_no_energy() -> None:
    """A price set outright tells nothing of energy."""
    offer = make_offer(parts=(rate_part({"price_per_hour": "1"}),))
    assert report_of(gone(), [made(offer=offer)])["energy"] is None


def test_the_temperature_of_the_gpu_is_on_the_page() -> None:
    """The last readings are shown with their units in their names, and the peak by itself."""
    report = report_of(gone(), [made(beat={"gpu": {"temperature_c": 71.0, "utilisation_percent": 98.0}})])
    page = to_markdown(report)
    assert "temperature_c 71, utilisation_percent 98" in page
    assert "| GPU temperature | 71 C peak |" in page


def test_energy_and_temperature_of_a_measured_run_are_on_the_page() -> None:
    """TRAINING.md tells kWh, what they cost at the tariff, mean power, mean and peak temperature."""
    offer = make_offer(parts=(rate_part({"watts": "150", "usd_per_kwh": "0.2"}),))
    gpu = {"energy_wh": 60.0, "mean_temperature_c": 64.5, "max_temperature_c": 71.0, "temperature_c": 70.0}
    page = to_markdown(report_of(gone(), [made(offer=offer, beat={"gpu": gpu})]))
    assert "| Energy | 0.060000 kWh measured by the GPU, $0.0120 at $0.20 per kWh |" in page
    assert "| Power | 60 W on average |" in page
    assert "| GPU temperature | 64.5 C mean, 71 C peak |" in page


# Events


def test_events_are_told_in_words_and_in_order() -> None:
    """Those without words are left out; the end has words here."""
    events = [
        Event(1, "j-tiny", None, START, "planned", {}),
        Event(2, "j-tiny", 1, START, "internal", {}),
        Event(3, "j-tiny", None, NOW, "ended", {"outcome": "finished", "reason": "EXIT_0"}),
    ]
    assert [each["text"] for each in report_of(gone(), [made()], events)["events"]] == [
        "written down; the guard takes over",
        "the job ended: finished EXIT_0",
    ]


# The document


def test_the_document_is_json_with_money_as_text() -> None:
    """Every amount is a string with at most six decimals."""
    report = evil_report()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    amounts = [value for key, value in _leaves(report) if re.search(r"(^|_)usd(_per_(hour|kwh))?$", key) and value]
    assert [amount for amount in amounts if not re.fullmatch(r"\d+\.\d{2,6}", amount)] == []
    assert len(amounts) >= 5


def test_every_field_is_documented() -> None:
    """docs/report.md names each field of the document."""
    report = report_of(
        gone(),
        [made(offer=make_offer(parts=(rate_part({}),)), beat=a_beat([1.0]))],
        [Event(1, "j", 1, NOW, "well", {})],
    )
    documented = set(re.findall(r"[a-z_]+", DOCS.read_text(encoding="utf-8")))
    assert {key for key, _ in _leaves(report)} - documented == set()


def test_a_report_is_made_of_a_job_that_was_changed_by_nobody() -> None:
    """Making it twice gives the same: it is a pure function of what the journal holds."""
    job, attempts = gone(), [made(beat=a_beat([2.0, 1.0]))]
    assert report_of(job, attempts) == report_of(job, [replace(attempts[0])])


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    """Each field's name with its value; metrics are listed by name, so their names are values."""
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in _leaves(inner, name)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [leaf for inner in value for leaf in _leaves(inner, key)]
    return [(key, value)]
