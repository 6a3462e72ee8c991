"""What this computer's NVIDIA GPU does while a job runs: NVML through nvidia-ml-py, the extra `gpu`.

Without the extra, without a driver or without a GPU there are no readings, and nothing else changes. Energy is power
added up over time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

JOULES_PER_WATT_HOUR = 3600.0
MIB = 1024 * 1024


class GpuMeter:
    """Readings of all GPUs of this computer together: power and memory add up, the hottest and the busiest count."""

    def __init__(self, nvml: Any, handles: list[Any]) -> None:
        self._nvml = nvml
        self._handles = handles
        self._energy_j = 0.0
        self._seconds = 0.0
        self._degree_seconds = 0.0
        self._hottest_c = 0.0
        self._watts = 0.0
        self._last_s: float | None = None

    def read(self, now_s: float) -> dict[str, float]:
        """One reading at `now_s`, a monotonic time in seconds.

        Watts now and on average, watt-hours since the first reading, degrees Celsius now, mean and highest, utilisation
        in percent, MiB of memory. Raises the driver's errors.
        """
        nvml = self._nvml
        watts = sum(nvml.nvmlDeviceGetPowerUsage(handle) for handle in self._handles) / 1000.0
        temperature_c = float(
            max(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU) for handle in self._handles)
        )
        utilisation = float(max(nvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in self._handles))
        memory = [nvml.nvmlDeviceGetMemoryInfo(handle) for handle in self._handles]
        if self._last_s is not None:
            passed_s = max(now_s - self._last_s, 0.0)
            self._energy_j += (watts + self._watts) / 2 * passed_s
            self._degree_seconds += temperature_c * passed_s
            self._seconds += passed_s
        self._last_s, self._watts = now_s, watts
        self._hottest_c = max(self._hottest_c, temperature_c)
        return {
            "count": float(len(self._handles)),
            "watts": round(watts, 1),
            "mean_watts": round(self._energy_j / self._seconds, 1) if self._seconds else round(watts, 1),
            "energy_wh": round(self._energy_j / JOULES_PER_WATT_HOUR, 3),
            "temperature_c": temperature_c,
            "mean_temperature_c": round(self._degree_seconds / self._seconds, 1) if self._seconds else temperature_c,
            "max_temperature_c": self._hottest_c,
            "utilisation_percent": utilisation,
            "memory_used_mib": round(sum(each.used for each in memory) / MIB, 1),
            "memory_total_mib": round(sum(each.total for each in memory) / MIB, 1),
        }


def open_meter() -> GpuMeter | None:
    """The meter of this computer's GPUs, or None where there is no library, no driver or no GPU."""
    try:
        nvml = import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return None
    return GpuMeter(nvml, handles) if handles else None
