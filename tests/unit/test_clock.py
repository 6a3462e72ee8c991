"""Three clocks, and what a step or a suspended laptop does to each."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from launcher.core.clock import AnchoredClock, SystemClock, VirtualClock, boot_id, rfc3339


def test_passing_time_moves_all_three_clocks() -> None:
    """An ordinary minute is a minute everywhere."""
    clock = VirtualClock()
    before = (clock.now(), clock.monotonic(), clock.awake())

    clock.sleep(60)

    assert (before[0] + timedelta(seconds=60), before[1] + 60, before[2] + 60) == (
        clock.now(),
        clock.monotonic(),
        clock.awake(),
    )


def test_a_closed_laptop_stands_still_awake_only() -> None:
    """A cloud bills on; this computer does not."""
    clock = VirtualClock()
    monotonic, awake = clock.monotonic(), clock.awake()

    clock.suspend(3600)

    assert (monotonic + 3600, awake) == (clock.monotonic(), clock.awake())


def test_a_step_moves_the_wall_clock_only() -> None:
    """NTP corrects the wall clock; durations stay true."""
    clock = VirtualClock()
    now, monotonic = clock.now(), clock.monotonic()

    clock.step(-7200)

    assert (now - timedelta(hours=2), monotonic) == (clock.now(), clock.monotonic())


def test_time_does_not_run_backwards() -> None:
    """A test that asks for it has a mistake in it."""
    with pytest.raises(AssertionError, match="backwards"):
        VirtualClock().advance(-1)


@pytest.mark.parametrize("step_s", [7200.0, -7200.0])
def test_an_anchored_clock_ignores_steps(step_s: float) -> None:
    """Deadlines count on from the anchor, whatever is done to the wall clock; the skew says by how much it is off."""
    inner = VirtualClock()
    clock = AnchoredClock(inner)
    start = clock.now()

    inner.step(step_s)
    clock.sleep(10)

    assert start + timedelta(seconds=10) == clock.now()
    assert step_s == clock.skew_s()
    assert (inner.monotonic(), inner.awake()) == (clock.monotonic(), clock.awake())


def test_an_anchored_clock_counts_a_suspended_hour() -> None:
    """The cloud's machine lived on while the laptop was closed."""
    inner = VirtualClock()
    clock = AnchoredClock(inner)
    start = clock.now()

    inner.suspend(3600)

    assert start + timedelta(hours=1) == clock.now()


def test_two_clocks_with_one_anchor_agree() -> None:
    """Every process of one boot tells the same time, even if the wall clock was stepped between their starts."""
    inner = VirtualClock()
    first = AnchoredClock(inner)
    inner.step(-7200)

    assert first.now() == AnchoredClock(inner, first.anchor).now()


def test_the_system_clock_runs_forward_in_utc() -> None:
    """Readings never decrease, and the wall clock carries its zone."""
    clock = SystemClock()
    before = (clock.monotonic(), clock.awake())
    clock.sleep(0)
    clock.sleep(-1)

    assert before <= (clock.monotonic(), clock.awake())
    assert clock.now().tzinfo is UTC


def test_a_signal_ends_a_sleep() -> None:
    """A guard that is told to stop does not finish its pause first; the test's own time limit is the bound."""
    wake = threading.Event()
    wake.set()

    SystemClock().sleep(3600, wake)


def test_a_boot_has_one_name() -> None:
    """Readings of the monotonic clock compare only within one boot, so its name must not change."""
    assert boot_id() == boot_id() != ""


def test_where_the_system_gives_no_boot_id_the_time_of_boot_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    monkeypatch.setattr("time.clock_gettime", lambda clock: 400_000.0)

    assert boot_id() == "boot-60000"


def test_a_time_is_written_in_utc_to_the_second() -> None:
    """Whatever zone it came in."""
    at = datetime(2026, 11, 21, 23, 30, 5, 999_999, tzinfo=timezone(timedelta(hours=1)))

    assert rfc3339(at) == "2026-11-21T22:30:05Z"
