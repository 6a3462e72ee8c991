"""How long the guard has waited, and when it tries again. Kept in memory: losing it costs only patience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.core.clock import Clock

# Between two tries of the same call: doubled each time, from one look to a minute.
LONGEST_BACKOFF_S = 60.0


@dataclass(slots=True)
class Waiting:
    """What the guard knows of one attempt beyond the journal. Times are readings of the monotonic clock."""

    tries: int = 0
    next_try_at: float = 0.0
    troubled_since: float | None = None
    beat: tuple[int, dict[str, Any]] | None = None
    """The newest heartbeat, until the journal has it: its disk may be full."""
    beat_read_at: float | None = None
    heard_at: float | None = None
    """When the agent was heard last, wherever; at first, when it was listened to first."""
    silent_since: float | None = None
    saved_at: float = 0.0
    last_word_tried_at: float | None = None
    """When the console of a machine that is gone could not be read for the first time."""
    alarm_from: float | None = None
    """Since when it is stuck, and after how long that is told next."""
    alarm_after_s: float = 0.0

    @property
    def silent_s(self) -> float:
        """How long the console could be read and held nothing new."""
        if self.silent_since is None or self.beat_read_at is None:
            return 0.0
        return self.beat_read_at - self.silent_since


class Patience:
    """One `Waiting` for each attempt, by its token."""

    def __init__(self, clock: Clock, first_backoff_s: float) -> None:
        self._clock = clock
        self._first_backoff_s = first_backoff_s
        self._waiting: dict[str, Waiting] = {}

    def of(self, token: str) -> Waiting:
        """What is known of this attempt."""
        return self._waiting.setdefault(token, Waiting())

    def forget(self, token: str) -> None:
        """The attempt is gone."""
        self._waiting.pop(token, None)

    def is_due(self, token: str) -> bool:
        """Whether the call may be tried again now."""
        return self._clock.monotonic() >= self.of(token).next_try_at

    def tried(self, token: str, *, failed: bool, longest_s: float = LONGEST_BACKOFF_S) -> None:
        """The call was made: the next one waits, longer each time, at most `longest_s` seconds and a minute."""
        waiting = self.of(token)
        now_s = self._clock.monotonic()
        waiting.tries += 1
        longest_s = max(min(longest_s, LONGEST_BACKOFF_S), self._first_backoff_s)
        waiting.next_try_at = now_s + min(self._first_backoff_s * 2 ** min(waiting.tries - 1, 10), longest_s)
        if failed and waiting.troubled_since is None:
            waiting.troubled_since = now_s

    def settled(self, token: str) -> None:
        """The call was answered: the next one need not wait."""
        waiting = self.of(token)
        waiting.tries, waiting.next_try_at, waiting.troubled_since = 0, 0.0, None

    def troubled_s(self, token: str) -> float:
        """How long calls for this attempt have failed without a success between."""
        since = self.of(token).troubled_since
        return 0.0 if since is None else self._clock.monotonic() - since
