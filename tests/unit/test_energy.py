"""Energy and temperature from a heartbeat's readings of the GPU, whoever read them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from makers import START, make_offer
from report_makers import NOW, gone, made

from launcher.cli.screen import energy_line, summary
from launcher.report.energy import energy, energy_text, temperature, temperature_text
from launcher.views import job_view
from providers.local.offers import rate_part

if TYPE_CHECKING:
    from launcher.records import Attempt

HOUR = timedelta(hours=1)
METER = {"energy_wh": 120.0, "mean_temperature_c": 60.0, "max_temperature_c": 70.0, "temperature_c": 65.0}


def here(number: int = 1, gpu: Any = None, usd_per_kwh: str = "0.15", **changes: Any) -> Attempt:
    """An hour on a computer of 150 W, with these readings."""
    offer = make_offer(parts=(rate_part({"watts": "150", "usd_per_kwh": usd_per_kwh}),))
    return made(number, offer=offer, beat=None if gpu is None else {"gpu": gpu}, **changes)


def rented(number: int = 1, gpu: Any = None, **changes: Any) -> Attempt:
    """An hour on a cloud's machine, whose rate pays for the energy."""
    return made(number, beat={"gpu": gpu}, **changes)


def test_a_rented_machine_tells_energy_and_has_no_tariff() -> None:
    """Its kWh are known from the heartbeat; no dollars come on top of its rate."""
    used = energy([rented(gpu=METER)], NOW)
    assert used == {"kwh": 0.12, "watts": 120.0, "measured": True, "usd_per_kwh": None, "usd": None}
    assert energy_text(used) == "0.120 kWh measured by the GPU"


def test_energy_adds_up_over_machines() -> None:
    """A measured hour and an assumed one, at one tariff; with two tariffs there is no price."""
    both = energy([here(1, METER), here(2)], NOW)
    assert both == {"kwh": 0.27, "watts": 135.0, "measured": True, "usd_per_kwh": "0.15", "usd": "0.0405"}
    mixed = energy([here(1), here(2, usd_per_kwh="0.30")], NOW)
    assert mixed is not None
    assert (mixed["kwh"], mixed["usd_per_kwh"], mixed["usd"]) == (0.3, None, None)


def test_a_live_machines_energy_goes_on() -> None:
    """The assumed watts count up to now."""
    used = energy([here(ended_at=None, gone_at=None, billed_s=None)], START + 2 * HOUR)
    assert used is not None
    assert used["kwh"] == 0.3


def test_the_mean_temperature_is_over_time_and_the_peak_over_all() -> None:
    """An hour at 60 degrees and half an hour at 75: 65 on average."""
    half = here(2, METER | {"mean_temperature_c": 75.0, "max_temperature_c": 80.5}, billed_s=1800.0)
    warmth = temperature([here(1, METER), half], NOW)
    assert warmth == {"mean_c": 65.0, "max_c": 80.5}
    assert temperature_text(warmth) == "65 C mean, 80.5 C peak"


def test_of_several_gpus_the_hottest_counts() -> None:
    """Their energies add up."""
    gpus = [METER, METER | {"max_temperature_c": 83.0, "mean_temperature_c": 77.0}]
    assert temperature([rented(gpu=gpus)], NOW) == {"mean_c": 77.0, "max_c": 83.0}
    used = energy([rented(gpu=gpus)], NOW)
    assert used is not None
    assert used["kwh"] == 0.24


@pytest.mark.parametrize("gpu", [None, [], {}, "hot", [3], {"temperature_c": "hot"}, {"temperature_c": float("nan")}])
def test_what_is_no_reading_is_passed_over(gpu: Any) -> None:
    """A heartbeat may hold anything."""
    assert temperature([rented(gpu=gpu)], NOW) is None
    assert energy([rented(gpu=gpu)], NOW) is None


@pytest.mark.parametrize("value", [True, "60", None, float("inf"), 1e300])
def test_energy_that_is_no_number_is_not_counted(value: Any) -> None:
    """The assumed watts stand then."""
    used = energy([here(gpu={"energy_wh": value})], NOW)
    assert used is not None
    assert (used["kwh"], used["measured"]) == (0.15, False)


def test_status_and_the_last_words_of_a_job_tell_both() -> None:
    """In one line."""
    view = job_view(gone(), [here(gpu=METER)], NOW)
    assert (view["energy"]["usd"], view["temperature"]["max_c"]) == ("0.018", 70.0)
    line = "0.120 kWh measured by the GPU, $0.0180 at $0.15 per kWh; GPU 60 C mean, 70 C peak"
    assert energy_line(view) == line
    assert f"  energy  {line}" in summary(view)


def test_nothing_known_nothing_said() -> None:
    """A price set outright, and no GPU."""
    view = job_view(gone(), [made()], NOW)
    assert (view["energy"], view["temperature"], energy_line(view)) == (None, None, "")
