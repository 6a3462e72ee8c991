"""The agent inside a simulated machine: when it stops the training, ends the machine, and what it tells.

All of it is worked out at once when the agent comes up, so that a machine costs nothing while time passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from providers.simulated.script import Script

# The console's tail is short: a reader wants the newest heartbeat, and each one costs time to write.
_TAIL = 3
_KILLED = 137
"""Exit code of a process that ended by SIGKILL, as a shell counts: 128 + 9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The agent's deadlines, as times in seconds."""

    soft_s: float
    hard_s: float
    grace_s: float
    soft_outcome: str
    soft_reason: str


class SimAgent:
    """One agent's life: times in seconds on the cloud's axis, `math.inf` for never."""

    __slots__ = (
        "_script",
        "cut_s",
        "ended_s",
        "exit_code",
        "outcome",
        "reason",
        "running_s",
        "silent_s",
        "stop_s",
        "up_s",
    )

    def __init__(self, script: Script, orders: Orders, *, running_s: float, up_s: float, needs_network: bool) -> None:
        self._script = script
        self.running_s = running_s
        self.up_s = up_s
        cut = script.network_cut_s
        self.cut_s = (up_s + cut[0], up_s + cut[1]) if cut else (math.inf, math.inf)
        self.silent_s = math.inf if script.agent_dies_after_s is None else up_s + script.agent_dies_after_s
        self.stop_s = math.inf
        self.outcome = ""
        self.reason = ""
        self.exit_code: int | None = None
        self.ended_s = self._end(orders)
        if needs_network and self.cut_s[0] <= self.ended_s < self.cut_s[1]:
            # It tries again until the network is back. Switching off instead would go on billing.
            self.ended_s = self.cut_s[1]
        if self.silent_s <= self.ended_s:
            self.ended_s = math.inf

    def _end(self, orders: Orders) -> float:
        """When the training has ended and why; the hard deadline waits for nothing."""
        script = self._script
        done_s = math.inf if script.finishes_after_s is None else self.up_s + script.finishes_after_s
        soft_s, hard_s = max(orders.soft_s, self.up_s), max(orders.hard_s, self.up_s)
        if done_s <= min(soft_s, hard_s):
            self._because("failed" if script.exit_code else "finished", self._exit_reason(), script.exit_code)
            return done_s
        if soft_s < hard_s:
            self.stop_s = soft_s
            self._because(orders.soft_outcome, orders.soft_reason, self._stopped_code(orders.grace_s))
            return min(soft_s + min(script.stops_in_s, orders.grace_s), hard_s)
        self._because(orders.soft_outcome, "HARD_DEADLINE", _KILLED)
        return hard_s

    def shut_down(self, at_s: float, notice_s: float) -> None:
        """The machine is being destroyed from outside: what the agent still does within its notice."""
        over_s = at_s + notice_s
        if self.stop_s > at_s and self.ended_s > at_s:
            self.stop_s = at_s
            self._because("preempted", "SHUTDOWN_SIGNAL", self._stopped_code(notice_s))
            self.ended_s = at_s + self._script.stops_in_s if self.silent_s > at_s else math.inf
        self.silent_s = min(self.silent_s, over_s)
        if self.ended_s > over_s:
            self.ended_s = math.inf

    def die(self, at_s: float) -> None:
        """Nothing more is heard of it, and it ends nothing."""
        self.silent_s = min(self.silent_s, at_s)
        if self.ended_s > at_s:
            self.ended_s = math.inf

    def _because(self, outcome: str, reason: str, exit_code: int) -> None:
        self.outcome, self.reason, self.exit_code = outcome, reason, exit_code

    def _exit_reason(self) -> str:
        return f"EXIT_{self._script.exit_code}"

    def _stopped_code(self, grace_s: float) -> int:
        return 0 if self._script.stops_in_s <= grace_s else _KILLED

    def beats(self, now_s: float) -> list[tuple[int, dict[str, Any]]]:
        """The newest heartbeats that have left the machine by then, oldest first, with their sequence numbers."""
        until_s = self._heard_until(now_s)
        if until_s < self.up_s:
            return []
        every_s = self._script.heartbeat_s
        last = int((min(until_s, self.ended_s) - self.up_s) / every_s)
        at_s = [self.up_s + n * every_s for n in range(max(last - _TAIL, 0), last + 1)]
        if at_s[-1] >= self.ended_s:
            at_s.pop()
        at_s += [t for t in (self.stop_s, self.ended_s) if t <= until_s]
        lost = self.cut_s
        return [(self._seq(t), self._beat(t)) for t in sorted(at_s)[-_TAIL:] if not lost[0] <= t < lost[1]]

    def _heard_until(self, now_s: float) -> float:
        until_s = min(now_s, self.silent_s)
        cut_s, back_s = self.cut_s
        return math.nextafter(cut_s, -math.inf) if cut_s <= until_s < back_s else until_s

    def _seq(self, at_s: float) -> int:
        regular = int((at_s - self.up_s) / self._script.heartbeat_s)
        return regular + (at_s >= self.stop_s) + (at_s >= self.ended_s)

    def _beat(self, at_s: float) -> dict[str, Any]:
        beat: dict[str, Any] = {
            "state": self._state(at_s),
            "age_s": round(at_s - self.running_s, 3),
            "output_bytes": int(at_s - self.up_s) * 100,
            "output_age_s": 0.0,
            "notes": [],
        }
        if self._script.metrics is not None:
            beat |= self._script.metrics(at_s - self.up_s)
        if at_s >= self.ended_s:
            beat |= {"outcome": self.outcome, "reason": self.reason, "exit_code": self.exit_code}
        return beat

    def _state(self, at_s: float) -> str:
        if at_s >= self.ended_s:
            return "ended"
        if at_s >= self.stop_s:
            return "stopping"
        return "booting" if at_s <= self.up_s else "running"
