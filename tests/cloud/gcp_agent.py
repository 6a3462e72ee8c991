"""What runs on a machine of the fake: an agent that speaks on the serial console and keeps the deadline by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from launcher.agent import heartbeat

if TYPE_CHECKING:
    from gcp_state import Cloud

BEAT_S = 15.0
EGRESS_BYTES = 4_000_000
"""What a machine of this cloud sends in its life, and what its agent counts."""


@dataclass
class Agent:
    """Boots after a while, then beats. Its whole console can be told from the times alone."""

    up_at: datetime
    hard_at: datetime
    finishes_at: datetime | None
    dead_at: datetime | None = None
    shutdown_at: datetime | None = None
    keeps_deadline: bool = True
    words: list[bytes] = field(default_factory=list)
    """Other output, before the first beat."""

    @classmethod
    def of(cls, body: dict[str, Any], runs_at: datetime, cloud: Cloud) -> Agent:
        """The agent of a machine that was asked for with this body."""
        deadline = datetime.strptime(body["labels"]["gpulaunch-deadline"], "%Y%m%dt%H%M%Sz").replace(tzinfo=UTC)
        up_at = runs_at + timedelta(seconds=cloud.timing.boot_s)
        finishes_s = cloud.finishes_after_s
        return cls(up_at, deadline, None if finishes_s is None else up_at + timedelta(seconds=finishes_s))

    def die(self, at: datetime) -> None:
        """Without a word: no beat and no end of its own from now on."""
        self.dead_at = self.dead_at or at

    def hear_shutdown(self, at: datetime) -> None:
        """The power-off signal, unless it has ended by then."""
        self.shutdown_at = self.shutdown_at or at

    def ends_at(self) -> datetime | None:
        """When it ends its machine; None: never."""
        due = [at for at in (self.finishes_at, self.hard_at if self.keeps_deadline else None) if at is not None]
        at = min(due, default=None)
        return None if at is None or (self.dead_at is not None and self.dead_at <= at) else at

    def console(self, now: datetime) -> bytes:
        """All that it has said by now."""
        until = min(at for at in (now, self.dead_at, self.shutdown_at, self.ends_at()) if at is not None)
        lines = [*self.words]
        if until < self.up_at:
            return b"".join(lines)
        beats = int((until - self.up_at).total_seconds() // BEAT_S)
        lines += [_line(number, {"state": "running"}) for number in range(1, beats + 2)]
        last = self._last_word(now)
        if last is not None:
            lines.append(_line(beats + 2, last))
        return b"".join(lines)

    def _last_word(self, now: datetime) -> dict[str, Any] | None:
        ended = {"state": "ended", "egress_bytes": EGRESS_BYTES}
        end = self.ends_at()
        if end is not None and now >= end and (self.shutdown_at is None or end <= self.shutdown_at):
            if end == self.finishes_at:
                return {**ended, "outcome": "finished", "reason": "EXIT_0", "exit_code": 0}
            return {**ended, "outcome": "budget_reached", "reason": "HARD_DEADLINE"}
        if self.shutdown_at is not None and now >= self.shutdown_at and self.dead_at is None:
            return {**ended, "outcome": "preempted", "reason": "SHUTDOWN_SIGNAL"}
        return None


def _line(number: int, beat: dict[str, Any]) -> bytes:
    return heartbeat.encode(number, beat).encode() + b"\n"
