"""Energy and temperature of a run, as its commands tell them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from command_lab import NEVER, wait_until

if TYPE_CHECKING:
    from command_lab import Lab

METER = {"energy_wh": 412.0, "mean_temperature_c": 61.5, "max_temperature_c": 71.0, "temperature_c": 70.0}


def test_what_the_gpu_took_is_in_status_and_in_the_report(lab: Lab) -> None:
    """From the readings that lie with the machine to each place where a person or a script looks."""
    lab.write_job(NEVER, local={"watts": 150, "usd_per_kwh": 0.15})
    lab.launch()
    (lab.machine() / "gpu.json").write_text(json.dumps(METER), encoding="utf-8")
    wait_until(lambda: lab.status()["temperature"], "the guard to read the GPU")
    told = lab.run("status").out
    lab.down()
    view = lab.status()

    assert view["energy"] == {
        "kwh": 0.412,
        "watts": view["energy"]["watts"],
        "measured": True,
        "usd_per_kwh": "0.15",
        "usd": "0.0618",
    }
    assert view["temperature"] == {"mean_c": 61.5, "max_c": 71.0}
    line = "0.412 kWh measured by the GPU, $0.0618 at $0.15 per kWh; GPU 61.5 C mean, 71 C peak"
    assert f"job: {line}\n" in told
    report = lab.run("report", "job", "--format", "json").document
    assert (report["energy"], report["temperature"]) == (view["energy"], view["temperature"])
    page = lab.run("report", "job").out
    assert "| Energy | 0.412 kWh measured by the GPU, $0.0618 at $0.15 per kWh |" in page
    assert "| GPU temperature | 61.5 C mean, 71 C peak |" in page
