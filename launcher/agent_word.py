"""What a machine's agent tells: on the console, else in the job's store.

A console is read at the provider's own cadence. Silence counts only over time in which it could be read, and ends when
either place has news: an agent that is heard in its store is not lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from launcher.agent import heartbeat
from launcher.guard_log import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.core.clock import Clock
    from launcher.patience import Patience, Waiting
    from launcher.records import Attempt, Job
    from providers.base import Provider

# A gap in the readings of a console, beyond which silence before the gap proves nothing: the laptop slept, or the
# cloud's API was down.
GAP_S = 60.0
# A console that has told nothing for so long, in which an agent sends its store several heartbeats.
ASK_STORE_S = 120.0
# A console that cannot be read is tried again this long after its machine was seen gone: nothing is billed any more.
LAST_WORD_S = 600.0


class Stores(Protocol):
    """What agents leave in the stores of their jobs."""

    def result(self, job: Job, attempt: Attempt) -> dict[str, Any] | None:
        """How the machine ended; None where that is not known in time."""

    def beat(self, job: Job, attempt: Attempt) -> bytes:
        """The newest heartbeat that is known of; empty for none. Waits for nothing."""


class NoStores:
    """No job has a store."""

    def result(self, job: Job, attempt: Attempt) -> None:
        """Nothing is known."""

    def beat(self, job: Job, attempt: Attempt) -> bytes:
        """Nothing is known."""
        del job, attempt
        return b""


class AgentWord:
    """Reads what agents tell, for one guard."""

    def __init__(self, provider: Provider, clock: Clock, patience: Patience, stores: Stores) -> None:
        self._provider = provider
        self._clock = clock
        self._patience = patience
        self._stores = stores

    def newest(self, job: Job, attempt: Attempt, *, force: bool = False) -> Attempt:
        """The attempt with the newest heartbeat; `force`: with the console's, read now, for a last word."""
        waiting, now_s = self._patience.of(attempt.token), self._clock.monotonic()
        attempt = _with_news(attempt, waiting.beat)
        since_s = None if waiting.beat_read_at is None else now_s - waiting.beat_read_at
        if not force and since_s is not None and since_s < self._provider.heartbeat_s:
            return attempt
        console = _read(attempt, lambda: self._provider.heartbeat(str(attempt.machine_id)))
        if console is None and force:
            waiting.last_word_tried_at = waiting.last_word_tried_at or now_s
            return attempt
        told = console or attempt
        if told is attempt and not force:
            told = self._in_store(job, attempt, waiting, now_s)
        if told is not attempt:
            waiting.heard_at, waiting.beat = now_s, (told.beat_seq, told.beat or {})
        if console is None:
            return told
        if told is not attempt or since_s is None or since_s > self._provider.heartbeat_s + GAP_S:
            waiting.silent_since = now_s
        waiting.beat_read_at, waiting.last_word_tried_at = now_s, None
        return told

    def last(self, job: Job, attempt: Attempt) -> Attempt:
        """The attempt with what its agent said last: on the console, else in the result that it left in the store."""
        attempt = self.newest(job, attempt, force=True)
        if "outcome" in (attempt.beat or {}):
            return attempt
        result = self._stores.result(job, attempt)
        return replace(attempt, beat={**(attempt.beat or {}), **result, "state": "ended"}) if result else attempt

    def awaits_last(self, attempt: Attempt) -> bool:
        """Whether how the training ended may still be read from the console of a machine that is gone."""
        tried_at = self._patience.of(attempt.token).last_word_tried_at
        told = "outcome" in (attempt.beat or {})
        return tried_at is not None and not told and self._clock.monotonic() - tried_at < LAST_WORD_S

    def _in_store(self, job: Job, attempt: Attempt, waiting: Waiting, now_s: float) -> Attempt:
        """The attempt with what the store has, once the console has told nothing for long."""
        waiting.heard_at = now_s if waiting.heard_at is None else waiting.heard_at
        if now_s - waiting.heard_at < ASK_STORE_S:
            return attempt
        return _read(attempt, lambda: self._stores.beat(job, attempt)) or attempt


def _read(attempt: Attempt, source: Callable[[], bytes]) -> Attempt | None:
    """The attempt with the newest heartbeat there, where it is news; None where nothing can be read."""
    try:
        return _with_news(attempt, heartbeat.latest(source()))
    except Exception as error:  # noqa: BLE001 - whatever stands there, a due machine must still be ended
        say(attempt.token, error)
        return None


def _with_news(attempt: Attempt, found: tuple[int, dict[str, Any]] | None) -> Attempt:
    """The attempt with this heartbeat, if it is newer; else that very attempt."""
    return replace(attempt, beat_seq=found[0], beat=found[1]) if found and found[0] > attempt.beat_seq else attempt
