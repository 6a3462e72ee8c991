"""The two deadlines, and the second hand that holds the hard one when the agent itself hangs.

Where suspended time costs nothing (`hard_at` is null) age counts while the computer is awake, and the wall clock has
no say. Elsewhere age counts suspended time too, and the wall clock has a say as well: the earlier end holds, so that
neither a clock that was set back nor a late start of this program can move the end out.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from . import clock

LOOK_S = 1.0


class Deadlines:
    """How old the machine is, and how much time is left. All in seconds."""

    def __init__(self, orders: dict[str, Any], origin: float | None) -> None:
        self.soft_s: float = orders["soft_after_s"]
        self.hard_s: float = orders["hard_after_s"]
        self.hard_at: float | None = orders["hard_at"]
        self.read = clock.awake if self.hard_at is None else clock.always
        # The origin is a reading of the awake clock: it is carried over to the one in use.
        self.origin = self.read() - (0 if origin is None else clock.awake() - origin)

    def age_s(self) -> float:
        """Since billing started."""
        return self.read() - self.origin

    def due_s(self) -> float:
        """The age that the deadlines are held against: never behind what the wall clock says."""
        age = self.age_s()
        return age if self.hard_at is None else max(age, self.hard_s - (self.hard_at - clock.wall()))

    def left_s(self) -> float:
        """Until the hard deadline; negative after it."""
        return self.hard_s - self.due_s()


def hold(deadlines: Deadlines, strike: Callable[[float], None]) -> None:
    """Call `strike(seconds late)` from the hard deadline on, again and again, whatever the main loop is doing.

    Two ways, since each has a hole that the other covers. A signal is delivered in the middle of long work in Python,
    such as a regular expression that never comes back, but not while the main thread hangs in the kernel on a dead
    disk. A thread runs on through that, but not through work that keeps the interpreter's lock. Both look at the clock
    each second in place of sleeping until the end: a timer stands still in suspend and does not see a clock that jumps.
    """

    def look(*_: object) -> None:
        if deadlines.left_s() <= 0:
            strike(-deadlines.left_s())

    def watch() -> None:
        while True:
            time.sleep(LOOK_S)
            look()

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
    threading.Thread(target=watch, daemon=True).start()


def release() -> None:
    """Stop the signal: the agent is about to end."""
    signal.setitimer(signal.ITIMER_REAL, 0)
