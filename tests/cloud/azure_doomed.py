"""A guard in a process of its own, which the cloud kills at one of its requests. For test_azure_crashes.py."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from azure_bench import azure_provider

from launcher.core.clock import SystemClock
from launcher.guard import Guard
from launcher.journal import Journal
from launcher.outcome import State

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path

BOUND_S = 60.0


def live(url: str, folder: Path, pid: int, go: Event | None = None) -> None:
    """Watch the one job of a journal until it is gone; it is called off as soon as it has a machine."""
    if go is not None:
        go.wait()
    clock = SystemClock()
    provider = azure_provider(url, clock, folder)
    journal = Journal(folder)
    journal._db.execute("PRAGMA synchronous = OFF")  # a process dies here, not a computer
    guard = Guard(journal.writer(provider.account, pid), provider, clock, launcher_alive=lambda _: True)
    ends_s = clock.monotonic() + BOUND_S
    try:
        while (job := journal.jobs()[0]).state != State.GONE:
            assert clock.monotonic() < ends_s, f"the job lives on: {journal.attempts(job.id)}"
            attempts = journal.attempts(job.id)
            if job.cancel_at is None and attempts and attempts[-1].machine_id is not None:
                journal.request_cancel(job.id, now=clock.now(), by="down")
            guard.tick()
            time.sleep(0.02)
    finally:
        journal.close()
        provider.close()
