"""Deadlines under clocks that jump, stop and disagree."""

from __future__ import annotations

import pytest

from launcher.agent import clock
from launcher.agent.deadlines import Deadlines

HARD_AT = 1_800_000_000.0


class FakeTime:
    """Three clocks that are moved by hand."""

    def __init__(self) -> None:
        self.awake, self.always, self.wall = 100.0, 5000.0, HARD_AT - 600

    def pass_s(self, seconds: float) -> None:
        """Let time pass on all of them."""
        self.awake += seconds
        self.suspend(seconds)

    def suspend(self, seconds: float) -> None:
        """Close the lid for that long."""
        self.always += seconds
        self.wall += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The agent's clocks, in our hands."""
    fake = FakeTime()
    monkeypatch.setattr(clock, "awake", lambda: fake.awake)
    monkeypatch.setattr(clock, "always", lambda: fake.always)
    monkeypatch.setattr(clock, "wall", lambda: fake.wall)
    return fake


def deadlines(hard_at: float | None, origin: float | None = None) -> Deadlines:
    """Ten minutes, the last of them for saving."""
    return Deadlines({"soft_after_s": 540.0, "hard_after_s": 600.0, "hard_at": hard_at}, origin)


def test_age_counts_from_the_given_origin(time: FakeTime) -> None:
    """What passed before the agent started is part of the age, on either clock."""
    ages = [deadlines(hard_at, origin=time.awake - 30).age_s() for hard_at in (None, HARD_AT)]

    assert ages == [30, 30]


def test_age_starts_now_without_an_origin(time: FakeTime) -> None:
    """No origin means that billing starts now."""
    held = deadlines(None)
    time.pass_s(12)

    assert (held.age_s(), held.left_s()) == (12, 588)


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0])
def test_without_an_absolute_time_the_wall_clock_has_no_say(time: FakeTime, step_s: float) -> None:
    """A local job's wall clock may be set either way."""
    held = deadlines(None)
    time.wall += step_s
    time.pass_s(60)

    assert held.left_s() == 540


def test_without_an_absolute_time_suspended_time_is_free(time: FakeTime) -> None:
    """A laptop that sleeps for a night has lost nothing of its time."""
    held = deadlines(None)
    time.suspend(30_000)
    time.pass_s(60)

    assert (held.age_s(), held.left_s()) == (60, 540)


def test_with_an_absolute_time_suspended_time_counts(time: FakeTime) -> None:
    """A cloud bills a machine whether it sleeps or not."""
    held = deadlines(HARD_AT)
    time.suspend(500)
    time.pass_s(60)

    assert (held.age_s(), held.left_s()) == (560, 40)


def test_a_wall_clock_set_back_does_not_move_the_end_out(time: FakeTime) -> None:
    """The age holds then."""
    held = deadlines(HARD_AT)
    time.wall -= 7200
    time.pass_s(590)

    assert held.left_s() == 10


def test_a_late_start_does_not_move_the_end_out(time: FakeTime) -> None:
    """The absolute time holds when the machine was slow to start the agent, and the origin is not known."""
    time.wall = HARD_AT - 100
    held = deadlines(HARD_AT)
    time.pass_s(50)

    assert (held.age_s(), held.due_s(), held.left_s()) == (50, 550, 50)


def test_a_wall_clock_set_forward_ends_it_early(time: FakeTime) -> None:
    """The earlier of the two ends holds: the cap comes before the run."""
    held = deadlines(HARD_AT)
    time.wall += 7200

    assert held.left_s() < 0
    assert held.age_s() == 0
