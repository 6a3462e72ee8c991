"""How long the guard waits between two tries, and how long it has waited."""

from __future__ import annotations

import pytest

from launcher.core.clock import VirtualClock
from launcher.patience import LONGEST_BACKOFF_S, Patience, Waiting


def pauses(patience: Patience, clock: VirtualClock, count: int) -> list[float]:
    """The pause after each of so many failed tries."""
    found = []
    for _ in range(count):
        patience.tried("t", failed=True)
        since = clock.monotonic()
        while not patience.is_due("t"):
            clock.advance(1)
        found.append(clock.monotonic() - since)
    return found


def test_pauses_grow_and_are_bounded() -> None:
    """A cloud in trouble is not hammered, and is asked again at least once a minute."""
    clock = VirtualClock()
    found = pauses(Patience(clock, 5.0), clock, 50)

    assert found[:4] == [5.0, 10.0, 20.0, 40.0]
    assert set(found[4:]) == {LONGEST_BACKOFF_S}


def test_an_answer_ends_the_waiting() -> None:
    """The next call need not wait, and its pauses start anew."""
    clock = VirtualClock()
    patience = Patience(clock, 5.0)
    pauses(patience, clock, 10)
    patience.tried("t", failed=True)

    patience.settled("t")

    assert patience.is_due("t")
    assert patience.troubled_s("t") == 0.0
    assert pauses(patience, clock, 1) == [5.0]


def test_trouble_counts_from_the_first_failure() -> None:
    """Failures in a row are one trouble."""
    clock = VirtualClock()
    patience = Patience(clock, 5.0)
    patience.tried("t", failed=False)
    assert patience.troubled_s("t") == 0.0

    patience.tried("t", failed=True)
    clock.advance(100)
    patience.tried("t", failed=True)

    assert patience.troubled_s("t") == 100.0


def test_attempts_do_not_wait_for_each_other() -> None:
    """One in trouble holds up no other; one that is forgotten leaves nothing."""
    patience = Patience(VirtualClock(), 5.0)
    patience.tried("one", failed=True)
    assert (False, True) == (patience.is_due("one"), patience.is_due("other"))

    patience.forget("one")
    patience.forget("one")

    assert patience.is_due("one")


@pytest.mark.parametrize(
    ("read_at", "since", "silent_s"), [(None, None, 0.0), (None, 5.0, 0.0), (50.0, None, 0.0), (50.0, 20.0, 30.0)]
)
def test_silence_counts_up_to_the_last_reading(read_at: float | None, since: float | None, silent_s: float) -> None:
    """Time in which nobody looked is not silence."""
    assert silent_s == Waiting(beat_read_at=read_at, silent_since=since).silent_s
