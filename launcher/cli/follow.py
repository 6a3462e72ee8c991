"""The attached `up`: a viewer of the journal. Closing it changes nothing; the guard does the work."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from launcher import guard_process
from launcher.cli.screen import duration, is_smart, metric_line, money, say
from launcher.core.errors import Exit
from launcher.outcome import State
from launcher.report.forecast_text import forecast_remark, other_notes
from launcher.views import job_view

if TYPE_CHECKING:
    from types import FrameType

    from launcher.cli.state import Context
    from launcher.records import Event, Job

LOOK_S = 0.2
SECOND_PRESS_S = 5.0
# How often the viewer sees to it that a guard lives; a new one takes a moment to take its lock.
GUARD_CHECK_S = 2.0
# Off a terminal: how often a line tells how far the job is.
PLAIN_LINE_S = 15.0


class Signals:
    """SIGINT and SIGTERM as wishes that the viewer looks at, so that recording is never cut in the middle."""

    def __init__(self, *, interactive: bool) -> None:
        self.interactive = interactive
        self.presses = 0
        self._before: dict[signal.Signals, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.presses += 1

    def __enter__(self) -> Signals:
        """Take the signals over."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Viewer:
    """Shows one job's events until it is accepted, or gone."""

    def __init__(self, state: Context, job_id: str, signals: Signals, *, quiet: bool) -> None:
        self._state = state
        self._job_id = job_id
        self._signals = signals
        self._quiet = quiet
        self._smart = is_smart() and not quiet
        self._seen = 0
        self._line = ""
        self._plain_due = 0.0
        self._warned = False
        self._noted: set[str] = set()
        self._guard_check_due = 0.0

    def until_accepted(self) -> Exit | None:
        """Wait until a machine is accepted. An exit code when the job is gone instead.

        A signal tears the job down: what is being created is recorded first.
        """
        asked = False
        while True:
            job = self._look()
            if job.state == State.GONE:
                return Exit.INTERRUPTED
            if self._signals.presses and not asked:
                asked = True
                self._say("Stopping: what is being created is recorded first, then torn down.")
                self._cancel("interrupt while creating")
            if job.accepted_at is not None and not asked:
                return None
            time.sleep(LOOK_S / 4)

    def until_gone(self) -> Exit | None:
        """Follow the job to its end. An exit code when the user detached."""
        self._say("Ctrl-C detaches; the job goes on under its guard.") if self._signals.interactive else None
        detached_at: float | None = None
        stopping = False
        while True:
            job = self._look()
            if job.state == State.GONE:
                self._clear()
                return None
            presses = self._signals.presses
            if presses and not stopping and (not self._signals.interactive or presses > 1):
                stopping = True
                detached_at = None
                self._say("Stopping the job: its machine is being destroyed.")
                self._cancel("interrupt")
            elif presses == 1 and detached_at is None and not stopping:
                detached_at = time.monotonic()
                self._say(
                    f"Detaching: the guard, the agent and the backstop still watch {job.name}. "
                    f"Press Ctrl-C again within {SECOND_PRESS_S:.0f} s to stop the job instead."
                )
                self._say(f"Follow it: gpulaunch status {job.name}   Stop it: gpulaunch down {job.name}")
            if detached_at is not None and time.monotonic() - detached_at >= SECOND_PRESS_S:
                return Exit.RUNNING
            time.sleep(LOOK_S)

    def _cancel(self, by: str) -> None:
        self._state.journal.request_cancel(self._job_id, now=self._state.clock.now(), by=by)

    def _look(self) -> Job:
        """Read the journal once; show what is new; see to it that a guard lives."""
        job = self._state.journal.job(self._job_id)
        if job.state != State.GONE and time.monotonic() >= self._guard_check_due:
            self._guard_check_due = time.monotonic() + GUARD_CHECK_S
            if job.accepted_at is None:
                guard_process.check_room(self._state.home)
            guard_process.start_guard(self._state.home, job.account, os.environ)
        for event in self._state.journal.events(self._job_id, self._seen):
            self._seen = event.seq
            text = describe(event)
            if text:
                self._say(f"[{event.at.astimezone():%H:%M:%S}] {text}")
        if job.state == State.RUNNING:
            self._show_progress(job)
        return job

    def _show_progress(self, job: Job) -> None:
        if self._quiet:
            return
        now, attempts = self._state.clock.now(), self._state.journal.attempts(job.id)
        view = job_view(job, attempts, now)
        remark = forecast_remark(job, attempts, now)
        if remark and not self._warned:
            self._warned = True
            self._say(f"{job.name}: {remark}")
        for note in other_notes(view["notes"]):
            if note not in self._noted:
                self._noted.add(note)
                self._say(f"{job.name}: {note}")
        line = f"{money(view['spend_usd'])} of {money(view['cap_usd'])}, {duration(view['billed_s'])}"
        metrics = metric_line(view)
        line += f", {metrics}" if metrics else ""
        if self._smart:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns
            self._line = line[: max(columns - 1, 10)]
            sys.stderr.write("\r\x1b[K" + self._line)
            sys.stderr.flush()
        elif time.monotonic() >= self._plain_due:
            self._plain_due = time.monotonic() + PLAIN_LINE_S
            say(f"           {line}")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._clear()
            say(text)

    def _clear(self) -> None:
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._line = ""


_WORDS = {
    "planned": "written down; the guard takes over",
    "creating": "creating the machine",
    "booting": "booting",
    "running": "the training runs",
    "stopping": "the training was told to stop",
    "well": "the trouble is over",
}


def describe(event: Event) -> str:
    """One event in words; empty for those that say nothing to a user."""
    data = event.data
    if event.kind in _WORDS:
        return _WORDS[event.kind]
    if event.kind == "attempt":
        again = f"attempt {event.attempt}: " if (event.attempt or 1) > 1 else ""
        return f"{again}{data['provider']}, {data['region']}, {data['instance_type']}"
    if event.kind == "moved":
        return f"going on with {data['to']}: {data['from']} has no machine for it"
    if event.kind == "accepted":
        by = f"; the backstop ends it at {data['cloud_deadline']}" if data.get("cloud_deadline") else ""
        return f"accepted: {data['machine']}{by}"
    if event.kind == "cancel_requested":
        return "asked to end the job"
    if event.kind == "deleting":
        return f"destroying the machine: {data['outcome']} {data['reason'] or ''}".rstrip()
    if event.kind == "gone":
        why = f"it never ran: {data['error']} " if data.get("error") else ""
        return f"{why}seen gone: the machine and all that was made for it"
    if event.kind in ("trouble", "not_created"):
        return data.get("error") or ""
    if event.kind == "guard_error":
        return f"the guard met a bug and goes on: {data['error']}"
    return ""
