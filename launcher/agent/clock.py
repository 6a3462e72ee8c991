"""Time on the machine: three clocks, because a suspended computer and a corrected wall clock look alike from one."""

from __future__ import annotations

import time

# CLOCK_MONOTONIC stands still in suspend on Linux (clock_gettime(2)) and runs on through it on macOS
# (clock_gettime(3), which names CLOCK_UPTIME_RAW for the one that stands still).
_AWAKE = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)
_ALWAYS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def awake() -> float:
    """Seconds since boot, time asleep left out."""
    return time.clock_gettime(_AWAKE)


def always() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(_ALWAYS)


def wall() -> float:
    """Seconds since 1970. It can be wrong, and it can jump."""
    return time.time()


def rfc3339(at: float) -> str:
    """A wall time as RFC 3339 in UTC, to the second: `2026-11-21T22:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
