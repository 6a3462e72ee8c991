"""The one ending: whatever happened, nothing is left running, the result is written, and a last heartbeat says so."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from . import clock, deadlines
from .run import TICK_S, Run

KILL_S = 5.0
LATE_KILL_S = 1.0
MARGIN_S = 1.0
"""Before the hard deadline: when the store is no longer waited for."""
RESULT_S = 5.0
AGAIN_S = 5.0
"""Between two tries to end the machine."""


def finish(run: Run) -> None:
    """Kill what is left, send the last things to the store, write the result, say the last word."""
    for step in (_kill, _settle, _send, _tell):
        try:
            step(run)
        except Exception as error:  # noqa: BLE001 - one failed step never skips the others
            run.fault(error)
            if step is _tell:
                run.watch = None  # it may be its report that cannot be written
                _tell(run)
    deadlines.release()


def _kill(run: Run) -> None:
    """Leave nothing of the training alive."""
    if not run.training.kill(KILL_S if run.deadlines.left_s() > 0 else LATE_KILL_S):
        run.notes["kill"] = "not every process of the training could be killed"
    run.died_at = clock.wall()


def _settle(run: Run) -> None:
    """Read the last output, and say how it ended."""
    run.drain()
    if run.exit_code is None:
        run.exit_code = run.training.exit_code()
    if run.outcome is None:
        run.outcome = run.training.outcome()
    if run.watch and run.training.stage == "running":
        run.watch.poll(run.deadlines.age_s())


def _send(run: Run) -> None:
    """The last checkpoints and the log, for as long as there is time."""

    def time_is_up() -> bool:
        told = run.shutdown_at
        return run.deadlines.left_s() < MARGIN_S or (told is not None and run.deadlines.age_s() > told + run.notice_s)

    _wait(run, time_is_up)
    if not time_is_up():
        run.store.last(run.died_at if run.killed or run.training.half_written() else None, time_is_up)
        _wait(run, time_is_up)


def _wait(run: Run, given_up: Callable[[], bool]) -> None:
    while (thread := run.store.thread) and thread.is_alive() and not given_up():
        thread.join(TICK_S)
        run.egress.look(run.store.sent, 0)
        run.beat_if_due()


def _tell(run: Run) -> None:
    """The result, here and in the store, and the last heartbeat."""
    (run.folder / "reserve").unlink(missing_ok=True)
    run.egress.look(run.store.sent, 0)
    orders = run.orders
    result = {
        **{key: orders[key] for key in ("job", "name", "attempt")},
        "started_at": clock.rfc3339(run.started_at),
        "ended_at": clock.rfc3339(clock.wall()),
        **run.report(),
    }
    run.keep("result.json", json.dumps(result, allow_nan=False, indent=1).encode())
    until = min(run.deadlines.age_s() + RESULT_S, run.deadlines.hard_s)
    if not run.store.busy():
        run.store.result()
        _wait(run, lambda: run.deadlines.age_s() > until)
    run.state = "ended"
    run.beat()


def end_machine(run: Run) -> None:
    """End a rented machine the cloud's way, again and again until it is dead. Elsewhere the agent's exit is the end."""
    while run.training.rented:
        subprocess.run(["sh", run.training.ending], check=False)
        time.sleep(AGAIN_S)
