"""How a machine ended that is gone and whose console said nothing: its agent leaves the result in the store, last."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from launcher import boot
from launcher.core.errors import GpulaunchError
from launcher.job import spec_from_json
from launcher.workdir import job_store

if TYPE_CHECKING:
    from launcher.records import Attempt, Job

# A guard has other machines to watch: a store that does not answer by then is not waited for.
LIMIT_S = 15.0


def result_of(job: Job, attempt: Attempt) -> dict[str, Any] | None:
    """The result of a rented machine, if its store has one; None as well when the store cannot be asked."""
    address = spec_from_json(job.spec).store
    if not boot.is_rented(attempt.provider) or address in (None, "none"):
        return None
    found: list[dict[str, Any] | None] = []

    def ask() -> None:
        try:
            found.append(job_store(str(address), job.settings or {}).result(job.id, attempt.number))
        except GpulaunchError as error:
            print(f"{attempt.token}: {error}", file=sys.stderr, flush=True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(LIMIT_S)
    return found[0] if found else None
