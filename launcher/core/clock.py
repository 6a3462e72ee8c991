"""Time as an object, so that tests and simulations can own it.

Three times are kept apart, because a suspended laptop and a corrected wall clock look alike from one of them:

- `now`: the wall clock, UTC. It can be wrong, and it can jump.
- `monotonic`: seconds since boot that go on while the computer sleeps. A cloud bills by this one.
- `awake`: seconds since boot that stand still while the computer sleeps. A local job is billed by this one.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Where all code that needs time gets it from."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds since boot, time asleep included."""

    def awake(self) -> float:
        """Seconds since boot, time asleep left out."""

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait that long, or until `wake` is set."""


# CLOCK_MONOTONIC stands still in suspend on Linux (clock_gettime(2)) and runs on through it on macOS
# (clock_gettime(3), which names CLOCK_UPTIME_RAW for the one that stands still).
_ASLEEP_TOO = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_AWAKE_ONLY = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)


class SystemClock:
    """The computer's own clocks."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since boot, time asleep included."""
        return time.clock_gettime(_ASLEEP_TOO)

    def awake(self) -> float:
        """Seconds since boot, time asleep left out."""
        return time.clock_gettime(_AWAKE_ONLY)

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait that long, or until `wake` is set."""
        if wake is None:
            time.sleep(max(seconds, 0.0))
        else:
            wake.wait(max(seconds, 0.0))


class VirtualClock:
    """A clock that moves only when told: for tests and simulations.

    `sleep` jumps. `step` moves the wall clock alone, as a correction by NTP does; `suspend` is a closed laptop.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
        self._monotonic = 1000.0
        self._awake = 1000.0

    def now(self) -> datetime:
        """The wall clock, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since boot, time asleep included."""
        return self._monotonic

    def awake(self) -> float:
        """Seconds since boot, time asleep left out."""
        return self._awake

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Let that much time pass."""
        del wake
        self.advance(max(seconds, 0.0))

    def advance(self, seconds: float) -> None:
        """Let that much time pass on all three clocks."""
        self.suspend(seconds)
        self._awake += seconds

    def suspend(self, seconds: float) -> None:
        """Close the laptop for that long."""
        assert seconds >= 0, "time does not run backwards"
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back."""
        self._now += timedelta(seconds=seconds)


class AnchoredClock:
    """A clock whose `now` cannot be moved by a step of the wall clock.

    It reads the wall clock once, as its anchor, and from then on counts `monotonic` seconds. An anchor that was
    written down earlier in the same boot may be given, so that every process of that boot agrees.
    """

    def __init__(self, inner: Clock, anchor: tuple[datetime, float] | None = None) -> None:
        self._inner = inner
        self.anchor = anchor or (inner.now(), inner.monotonic())

    def now(self) -> datetime:
        """The anchor plus the time that has passed since, in UTC."""
        at, monotonic = self.anchor
        return at + timedelta(seconds=self._inner.monotonic() - monotonic)

    def monotonic(self) -> float:
        """Seconds since boot, time asleep included."""
        return self._inner.monotonic()

    def awake(self) -> float:
        """Seconds since boot, time asleep left out."""
        return self._inner.awake()

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait that long, or until `wake` is set."""
        self._inner.sleep(seconds, wake)

    def skew_s(self) -> float:
        """How far the wall clock stands ahead of this one, in seconds."""
        return (self._inner.now() - self.now()).total_seconds()


def boot_id() -> str:
    """A name for this boot of this computer: readings of `monotonic` compare only within one.

    Linux publishes one (random(4)); elsewhere the time of boot serves, to ten seconds.
    """
    if sys.platform != "linux":
        return f"boot-{round((time.time() - time.clock_gettime(_ASLEEP_TOO)) / 10)}"
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def rfc3339(at: datetime) -> str:
    """A time as RFC 3339 in UTC, to the second: `2026-11-21T22:00:00Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
