"""Readings of this computer's GPU, against a stand-in for the NVML library."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from providers.local import gpu


class FakeNvml(SimpleNamespace):
    """Two GPUs whose figures the test sets: milliwatts, degrees, percent, bytes."""

    NVMLError = OSError
    NVML_TEMPERATURE_GPU = 0

    def nvmlInit(self) -> None:  # noqa: N802 - the library's own name
        """Start the library, or fail as it does without a driver."""
        if self.driver is None:
            raise OSError("driver not loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """How many GPUs there are."""
        return len(self.milliwatts)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        """A handle is the index."""
        return index

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        """Milliwatts."""
        return int(self.milliwatts[handle])

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:  # noqa: N802
        """Degrees Celsius."""
        return int(self.celsius[handle])

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        """Percent."""
        return SimpleNamespace(gpu=self.percent[handle])

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        """Bytes."""
        return SimpleNamespace(used=1 << 30, total=4 << 30)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """The stand-in, where the real library would be imported from."""
    fake = FakeNvml(driver="580", milliwatts=[100_000, 50_000], celsius=[60, 70], percent=[90, 10])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_power_and_memory_add_up_and_the_hottest_gpu_counts(nvml: FakeNvml) -> None:
    """One reading of two GPUs."""
    meter = gpu.open_meter()
    assert meter is not None
    assert {
        "count": 2.0,
        "watts": 150.0,
        "mean_watts": 150.0,
        "energy_wh": 0.0,
        "temperature_c": 70.0,
        "mean_temperature_c": 70.0,
        "max_temperature_c": 70.0,
        "utilisation_percent": 90.0,
        "memory_used_mib": 2048.0,
        "memory_total_mib": 8192.0,
    } == meter.read(0.0)


def test_energy_is_power_over_time(nvml: FakeNvml) -> None:
    """150 W for half an hour, then 50 W for half an hour after a straight fall over one: 0.1 kWh each way."""
    meter = gpu.open_meter()
    assert meter is not None
    meter.read(0.0)
    steady = meter.read(1800.0)
    nvml.milliwatts = [25_000, 25_000]
    nvml.celsius = [40, 40]
    fallen = meter.read(5400.0)
    assert (75.0, 150.0) == (steady["energy_wh"], steady["mean_watts"])
    assert (175.0, 116.7, 70.0, 50.0) == (
        fallen["energy_wh"],
        fallen["mean_watts"],
        fallen["max_temperature_c"],
        fallen["mean_temperature_c"],
    )


@pytest.mark.parametrize("missing", ["driver", "gpu"])
def test_without_a_driver_or_a_gpu_there_are_no_readings(nvml: FakeNvml, missing: str) -> None:
    """A computer without an NVIDIA GPU is not an error."""
    if missing == "driver":
        nvml.driver = None
    else:
        nvml.milliwatts = []
    assert None is gpu.open_meter()


def test_without_the_library_there_are_no_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `gpu` is optional."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert None is gpu.open_meter()
