"""What agents leave in the stores of their jobs: the newest heartbeat while they live, the result at the end.

The console has the first word. This is for a machine whose console is silent or cannot be read.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from launcher import boot
from launcher.core.errors import GpulaunchError
from launcher.guard_log import say
from launcher.job import spec_from_json
from launcher.workdir import job_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from launcher.records import Attempt, Job
    from launcher.store.store import Store

# A guard has other machines to watch: a store that does not answer by then is not waited for.
LIMIT_S = 15.0
# So many stores are asked for a heartbeat at one time: a guard may have thousands of jobs.
MOST_QUESTIONS = 8


class JobStores:
    """The stores of jobs on rented machines. One that cannot be asked says nothing; the guard's log has why."""

    def __init__(self) -> None:
        self._questions: dict[str, _Question] = {}

    def result(self, job: Job, attempt: Attempt) -> dict[str, Any] | None:
        """How the machine ended; None where its store says nothing of that in time."""
        self._questions.pop(attempt.token, None)
        if (address := _address(job, attempt)) is None:
            return None
        question = _Question(job, attempt, address, lambda store: store.result(job.id, attempt.number))
        question.join(LIMIT_S)
        answer: dict[str, Any] | None = question.answer
        return answer

    def beat(self, job: Job, attempt: Attempt) -> bytes:
        """The newest heartbeat, as the last question was answered. Asks anew, and waits for nothing."""
        if (address := _address(job, attempt)) is None:
            return b""
        asked = self._questions.get(attempt.token)
        if asked is not None and asked.is_alive():
            return b""
        if sum(each.is_alive() for each in self._questions.values()) < MOST_QUESTIONS:
            question = _Question(job, attempt, address, lambda store: store.heartbeat(job.id, attempt.number))
            self._questions[attempt.token] = question
        return (asked.answer or b"") if asked is not None else b""


class _Question(threading.Thread):
    """One question to a store, asked at once. A daemon: a store that hangs keeps no guard from ending."""

    def __init__(self, job: Job, attempt: Attempt, address: str, ask: Callable[[Store], Any]) -> None:
        super().__init__(name="store", daemon=True)
        self.answer: Any = None
        self._about, self._address, self._settings, self._ask = attempt.token, address, job.settings or {}, ask
        self.start()

    def run(self) -> None:
        """Ask; an error is told in the log."""
        try:
            self.answer = self._ask(job_store(self._address, self._settings))
        except GpulaunchError as error:
            say(self._about, error)


def _address(job: Job, attempt: Attempt) -> str | None:
    """The job's store, where a rented machine has one: what runs here writes its console into a file."""
    address = spec_from_json(job.spec).store
    return str(address) if boot.is_rented(attempt.provider) and address not in (None, "none") else None
