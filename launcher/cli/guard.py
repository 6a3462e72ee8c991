"""`gpulaunch guard`: watch live jobs in the foreground. `up` and `status` start the same as a detached process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import click

from launcher import guard_process
from launcher.account_check import await_account
from launcher.cli.screen import say
from launcher.cli.state import Context, open_state, open_state_if_any
from launcher.config import load_config
from launcher.core import locks
from launcher.core.errors import Exit, GpulaunchError
from launcher.guard import Guard
from launcher.job_stores import JobStores
from launcher.journal import ReplacedError
from launcher.listener import Listener
from launcher.notify import Notifier
from providers import registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from launcher.core.clock import Clock
    from providers.base import Provider


@click.command()
@click.option("--account", hidden=True, help="Watch this account only.")
def guard(*, account: str | None) -> int:
    """Watch live jobs in the foreground until none is left.

    Meant for systemd or cron; `up` and `status` start a guard by themselves.
    """
    if account is not None:
        return _watch(open_state(), account)
    state = open_state_if_any()
    accounts = state.journal.live_accounts() if state is not None else []
    if state is None or not accounts:
        say("No job is live: nothing to watch.")
        return Exit.OK
    if len(accounts) == 1:
        return _watch(state, accounts[0])
    # One guard for each account, so that the credentials of one never touch the machines of another.
    children = [
        subprocess.Popen([sys.executable, "-P", "-m", "launcher.cli", "guard", "--account", a]) for a in accounts
    ]
    return max(child.wait() for child in children)


def _watch(state: Context, account: str) -> int:
    # Never closed: the lock is free when this process is gone, and not before.
    if guard_process.hold(guard_process.guard_lock(state.home, account)) is None:
        say(f"A guard watches {account} already.")
        return Exit.OK
    jobs = state.journal.jobs(live=True, account=account, limit=1)
    settings = (jobs[0].settings if jobs else None) or {}
    writer = state.journal.writer(account, os.getpid())
    listener = _Listener(state, _addresses())
    signals = _Signals(state.clock)

    def load() -> Provider:
        name, _, _ = account.partition("/")
        return registry.load(name, clock=state.clock, home=str(state.home), settings=settings)

    try:
        provider = await_account(writer, load, state.clock, signals.pause)
        if provider is not None:
            signals.watcher = Guard(
                writer,
                provider,
                state.clock,
                launcher_alive=lambda job: locks.is_held(guard_process.launch_lock(state.home, job)),
                listener=listener,
                stores=JobStores(),
                wake=signals.stop,
            )
            if not signals.stop.is_set():
                signals.watcher.run()
    except ReplacedError as error:
        say(str(error))
    listener.wait()
    return Exit.OK


class _Listener(Notifier, Listener):
    """Starts the guards that get a job from this one, and tells people."""

    def __init__(self, state: Context, addresses: Sequence[str]) -> None:
        super().__init__(addresses, state.clock)
        self._home = state.home

    def handed_over(self, account: str) -> None:
        """Its machines are watched by a process of their own."""
        guard_process.start_guard(self._home, account, os.environ)


def _addresses() -> tuple[str, ...]:
    """Whom to tell. A configuration that has become unreadable keeps no machine from being watched; it is told."""
    try:
        return load_config(os.environ).notify
    except GpulaunchError as error:
        say(f"notify: {error}")
        return ()


class _Signals:
    """SIGTERM and SIGINT end the guard after what it is doing; a terminal that is closed changes nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stop = threading.Event()
        self.watcher: Guard | None = None
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._obey)
        signal.signal(signal.SIGINT, self._obey)

    def _obey(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.stop.set()
        if self.watcher is not None:
            self.watcher.stop()

    def pause(self, wait_s: float) -> bool:
        """Wait; whether to go on."""
        self._clock.sleep(wait_s, self.stop)
        return not self.stop.is_set()
