"""Silence and time: what counts as a lost agent, and what a sleeping laptop or a wrong clock may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from scripted import DEATH_S, Bench

from launcher.agent import heartbeat
from launcher.core.clock import AnchoredClock
from launcher.guard import Guard
from launcher.outcome import State
from launcher.policy import AGENT_TIMEOUT_S
from providers.base import AuthError, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DOWN = ProviderUnavailable("The API does not answer.")
HOUR_S = 3600.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud whose machines never end by themselves: only the guard is left."""
    return Bench(tmp_path, deadlines_held=False)


def failing(error: Exception, *calls: str) -> Callable[[str, str], None]:
    """A script in which these calls fail."""

    def script(call: str, subject: str) -> None:
        if call in calls:
            raise error

    return script


def fine(call: str, subject: str) -> None:
    """A script in which every call works."""


def cancel(bench: Bench) -> None:
    """Somebody types `gpulaunch down`."""
    assert bench.journal.request_cancel(bench.job.id, now=bench.clock.now(), by="a test")


def test_a_silent_agent_is_given_up(bench: Bench) -> None:
    """Its console can be read, and says nothing new."""
    bench.started().silent = True
    since = bench.clock.monotonic()
    while bench.attempt.state == State.RUNNING:
        bench.tick()

    assert ("agent_lost", "NO_HEARTBEAT") == (bench.attempt.outcome, bench.attempt.reason)
    assert AGENT_TIMEOUT_S <= bench.clock.monotonic() - since <= AGENT_TIMEOUT_S + 4 * bench.provider.poll_s


def test_a_machine_that_never_speaks_is_given_up(bench: Bench) -> None:
    """Its boot has failed."""
    bench.provider.after = lambda call, subject: setattr(bench.box, "beat", None) if call == "create" else None
    bench.add()
    bench.run()

    assert ("agent_lost", "BOOT_TIMEOUT") == (bench.job.outcome, bench.job.reason)
    assert bench.provider.cost_usd() < 1


def test_a_machine_that_booted_while_no_guard_lived_goes_on(bench: Bench) -> None:
    """The guard comes back long after the time that a boot may take, and reads that the training runs."""
    box_made = bench.provider.after
    bench.provider.after = lambda call, subject: setattr(bench.box, "beat", None) if call == "create" else None
    bench.add()
    bench.tick()
    bench.provider.after = box_made
    assert State.BOOTING == bench.attempt.state

    bench.clock.advance(1000)
    bench.box.beat = {"state": "running"}
    bench.restart()
    bench.tick(2)

    assert State.RUNNING == bench.attempt.state


@pytest.mark.parametrize("error", [DOWN, AuthError("Not allowed.")])
def test_a_console_that_cannot_be_read_is_not_silence(bench: Bench, error: Exception) -> None:
    """Hours of it: the machine lives, and its deadline holds."""
    bench.started()
    bench.provider.before = failing(error, "heartbeat")
    bench.tick(360)
    assert State.RUNNING == bench.attempt.state

    bench.run()
    assert "budget_reached" == bench.job.outcome


def in_store(bench: Bench, seq: int, **beat: Any) -> None:
    """The machine's agent reaches its store."""
    bench.stores.beats[bench.attempt.token] = heartbeat.encode(seq, {"state": "running", **beat}).encode()


def test_an_agent_that_is_heard_in_its_store_is_not_lost(bench: Bench) -> None:
    """The console can be read and stays silent for an hour: the training goes on, and what it tells is known."""
    bench.started().silent = True
    for minute in range(60):
        in_store(bench, 1000 + minute, metrics={"step": minute})
        bench.tick(6)

    assert (State.RUNNING, {"step": 59}) == (bench.attempt.state, (bench.attempt.beat or {})["metrics"])


def test_an_agent_that_falls_silent_in_both_places_is_given_up(bench: Bench) -> None:
    """What the store has is old by then."""
    bench.started().silent = True
    in_store(bench, 1000)
    bench.tick(30)
    since = bench.clock.monotonic()
    while bench.attempt.state == State.RUNNING:
        bench.tick()

    assert ("agent_lost", "NO_HEARTBEAT") == (bench.attempt.outcome, bench.attempt.reason)
    assert bench.clock.monotonic() - since < AGENT_TIMEOUT_S


def test_a_machine_that_boots_without_a_console_is_heard_in_its_store(bench: Bench) -> None:
    """It runs, and is not given up when a boot has had its time."""
    bench.provider.after = lambda call, subject: setattr(bench.box, "beat", None) if call == "create" else None
    bench.add()
    bench.tick(2)
    in_store(bench, 1)
    bench.tick(20)

    assert State.RUNNING == bench.attempt.state


def test_a_console_that_cannot_be_read_is_made_up_for_by_the_store(bench: Bench) -> None:
    """Without the right to read it, `status` still tells how the training is."""
    bench.started()
    bench.provider.before = failing(AuthError("Not allowed."), "heartbeat")
    in_store(bench, 1000, metrics={"step": 7})
    bench.tick(20)

    assert {"step": 7} == (bench.attempt.beat or {})["metrics"]


def test_a_store_is_not_asked_while_the_console_speaks(bench: Bench) -> None:
    """Each question is a call that somebody pays for."""
    bench.started()
    bench.tick(100)

    assert (State.RUNNING, 0) == (bench.attempt.state, bench.stores.asked)


def test_a_store_that_fails_keeps_no_due_machine_alive(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a bug there: what is cancelled is ended."""
    bench.started().silent = True
    monkeypatch.setattr(bench.stores, "beat", lambda job, attempt: 1 / 0)
    bench.tick(20)
    cancel(bench)
    bench.run()

    assert "cancelled" == bench.job.outcome


def test_a_suspended_laptop_is_not_silence(bench: Bench) -> None:
    """The first reading after the gap shows no news yet: silence counts from there."""
    box = bench.started()
    box.silent = True
    bench.clock.suspend(HOUR_S)
    bench.tick(3)
    assert State.RUNNING == bench.attempt.state

    box.silent = False
    bench.tick(100)
    assert State.RUNNING == bench.attempt.state


def test_after_a_suspended_night_what_is_due_ends_first_thing(bench: Bench) -> None:
    """One look, one order."""
    bench.started()
    bench.clock.suspend(12 * HOUR_S)
    assert 0 == bench.count("delete")

    bench.guard.tick()

    assert (1, State.DELETING, "budget_reached") == (bench.count("delete"), bench.attempt.state, bench.attempt.outcome)


@pytest.mark.parametrize("step_s", [2 * HOUR_S, -2 * HOUR_S])
def test_a_step_of_the_wall_clock_moves_no_deadline(bench: Bench, step_s: float) -> None:
    """Two hours forward end nothing early, two hours back let nothing live longer."""
    system = bench.clock
    anchored = AnchoredClock(system)
    bench.guard = Guard(bench.writer, bench.provider, anchored, launcher_alive=lambda job: True)
    bench.provider.clock = anchored  # type: ignore[assignment]
    bench.started()
    since = system.monotonic() - 2 * bench.provider.poll_s
    deadline_s = bench.attempt.hard_after_s

    system.step(step_s)
    bench.run()

    assert "budget_reached" == bench.job.outcome
    assert bench.lived_s() == pytest.approx(deadline_s + DEATH_S, abs=0.1)
    assert since < system.monotonic()
