"""What every command works on: the state folder, its journal, and the clock that the journal keeps."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import guard_process
from launcher.config import state_home
from launcher.core.clock import Clock, SystemClock
from launcher.journal import Journal
from launcher.journal_file import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# How long `status` waits for a guard that it had to restart to look at everything once.
FIRST_LOOK_S = 3.0


@dataclass(frozen=True)
class Context:
    """The state folder, its journal, and its clock."""

    home: Path
    journal: Journal
    clock: Clock


def open_state() -> Context:
    """The state of this computer, made if there is none. Raises StateError."""
    home = state_home(os.environ)
    journal = Journal(home)
    return Context(home, journal, journal.clock(SystemClock()))


def open_state_if_any() -> Context | None:
    """The state of this computer, or None where no job was ever launched: looking creates nothing."""
    if not (state_home(os.environ) / FILE_NAME).exists():
        return None
    return open_state()


def ensure_guards(state: Context, accounts: Iterable[str]) -> list[str]:
    """Start a guard for each of these accounts that has none. Returns those that had none."""
    started = [account for account in accounts if not guard_process.guard_lives(state.home, account)]
    for account in started:
        guard_process.start_guard(state.home, account, os.environ)
    return started


def await_first_look(state: Context, accounts: Iterable[str]) -> None:
    """Wait, for a moment, until guards that were just started have looked at everything once."""
    before = {account: state.journal.ticks(account)[0] for account in accounts}
    wait_until(lambda: all(_looked(state, account, generation) for account, generation in before.items()), FIRST_LOOK_S)


def await_guard_exit(state: Context, accounts: Iterable[str]) -> None:
    """Wait, for a moment, until the guards of accounts that have no live job are gone: nothing of ours is left then."""
    live = set(state.journal.live_accounts())
    idle = [account for account in accounts if account not in live]
    wait_until(lambda: not any(guard_process.guard_lives(state.home, account) for account in idle), FIRST_LOOK_S)


def _looked(state: Context, account: str, before: int) -> bool:
    generation, ticked = state.journal.ticks(account)
    gone = not guard_process.guard_lives(state.home, account) and generation > before
    return gone or (generation > before and ticked > 0)


def wait_until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.05) -> bool:
    """Wait for a condition; False when the time is up."""
    ends = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= ends:
            return False
        time.sleep(step_s)
    return True
