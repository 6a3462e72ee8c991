"""The log of a training on a rented machine: from the job's store where it has one, else from the machine's console."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from launcher.agent import heartbeat
from launcher.cli.screen import say
from launcher.job import spec_from_json
from launcher.outcome import State
from launcher.store.bucket import ObjectNotFound
from launcher.workdir import job_store
from providers import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launcher.cli.state import Context
    from launcher.records import Attempt
    from launcher.store.store import Store
    from providers.base import Provider

STORE_LOOK_S = 5.0
"""A machine sends what is new every 30 s."""
CONSOLE_LOOK_S = 15.0
ANCHOR_BYTES = 4096
"""Of a console's tail: by so much of its end the next one is put to it."""


def show(state: Context, job_id: str, *, follow: bool) -> None:
    """Print it, saying where it is from; with `follow`, until the job is gone. Raises StoreError, ProviderError."""
    job = state.journal.job(job_id)
    address = spec_from_json(job.spec).store
    has_store = address not in (None, "none")
    look: Callable[[Attempt], Iterator[bytes]]
    if has_store:
        store = job_store(str(address), job.settings or {})
        look, pause_s, place = _StoreLog(store).new, STORE_LOOK_S, f"the store {store.address}"
    else:
        look, pause_s, place = _ConsoleLog(state).new, CONSOLE_LOOK_S, "the machine's console, which shows a part of it"
    number, waiting = 0, False
    while True:
        job = state.journal.job(job_id)
        gone = job.state == State.GONE
        made = [attempt for attempt in state.journal.attempts(job_id) if attempt.create_called]
        for part in look(made[-1]) if made else ():
            if number != made[-1].number:
                number = made[-1].number
                say(f"From {place}{f', machine {number}' if number > 1 else ''}:")
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        if not follow or gone:
            break
        if not number and not waiting:
            say(f"{job.name} has printed nothing yet: {job.state}.")
            waiting = True
        state.clock.sleep(pause_s)
    if not number:
        say(f"{job.name} has printed nothing, or there is no log of it in {place}: {job.state}.")


class _StoreLog:
    """The chunks that came since the last look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: set[tuple[int, str]] = set()

    def new(self, attempt: Attempt) -> Iterator[bytes]:
        """Of that machine's log."""
        names = self._store.log_chunks(attempt.job, attempt.number)
        whole = (attempt.number, "")
        if not names and whole not in self._seen:
            for part in self._store.log(attempt.job, attempt.number) or ():
                self._seen.add(whole)
                yield part
        for name in names:
            if (attempt.number, name) not in self._seen:
                self._seen.add((attempt.number, name))
                try:
                    yield self._store.log_chunk(attempt.job, attempt.number, name)
                except ObjectNotFound:
                    return  # somebody is emptying the store


class _ConsoleLog:
    """The lines of the training that came to the console since the last look."""

    def __init__(self, state: Context) -> None:
        self._state = state
        self._provider: Provider | None = None
        self._account = ""
        self._last = b""

    def new(self, attempt: Attempt) -> Iterator[bytes]:
        """Of that machine's console."""
        tail = self._provider_of(attempt).heartbeat(str(attempt.machine_id))
        tail = tail[: tail.rfind(b"\n") + 1]  # the last line may still be coming
        anchor = self._last[-ANCHOR_BYTES:]
        at = tail.rfind(anchor) if anchor else -1
        self._last = tail or self._last
        for line in (tail[at + len(anchor) :] if at >= 0 else tail).splitlines():
            if line.startswith(heartbeat.OUTPUT_PREFIX.encode()):
                yield line.removeprefix(heartbeat.OUTPUT_PREFIX.encode()) + b"\n"

    def _provider_of(self, attempt: Attempt) -> Provider:
        """Made once, and again when the job has moved to another account."""
        if self._provider is None or self._account != attempt.account:
            self._account = attempt.account
            settings = self._state.journal.job(attempt.job).settings or {}
            self._provider = registry.load(
                attempt.provider, clock=self._state.clock, home=str(self._state.home), settings=settings
            )
        return self._provider
