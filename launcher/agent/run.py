"""One run from its first heartbeat to its end: the loop that follows the training and decides when it must stop."""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import clock, deadlines, egress, files, processes
from .console import Console
from .output import Output
from .training import LIMIT_S, NOT_EXECUTABLE, NOT_FOUND, Training

LOG_BYTES = 128 << 20
TICK_S = 0.2
POLL_S = 2.0
NOTICE_S = 25.0
"""What a machine has between the shutdown signal and its death, where the orders do not say."""
GRACE_SHARE = 0.8
"""Of the notice: the rest is for the last checkpoints and the result."""
DRAIN_S = 2.0
NOTE_KEY = 30
RESERVE_BYTES = 1 << 16
"""Set aside at the start, so that the result can be written to a disk that has become full."""


class NoStore:
    """What stands in the place of a store that was not sent: it saves nothing."""

    thread = checkpoints = None
    sent = kept = 0

    def tick(self, *_: object) -> None:
        """Nothing to do, as for each of these."""

    busy = last = result = tick


class Run:
    """The state of the one run. Ages are seconds since billing started."""

    def __init__(self, orders: dict[str, Any], folder: str, origin: float | None) -> None:
        self.orders = orders
        self.folder = Path(folder).absolute()
        self.deadlines = deadlines.Deadlines(orders, origin)
        self.notes: dict[str, str] = {}
        self.words: Sequence[str] = ()
        self.told: set[str] = set()
        self.state = "booting"
        self.outcome: tuple[str, str] | None = None
        self.exit_code: int | None = None
        self.shutdown_at: float | None = None
        """The age at which the machine was told to shut down."""
        self.shutdown_reason = "SHUTDOWN_SIGNAL"
        self.kill_at: float | None = None
        self.killed = False
        self.died_at = self.stage_at = 0.0
        self.notice_s: float = orders.get("notice_s") or NOTICE_S
        self.started_at = clock.wall()
        self.next_beat = self.next_poll = self.deadlines.age_s()
        self.watch: Any = None
        self.gpu: Any = None
        self.console = Console(self.folder, self.notes, orders.get("console") or [])
        self.output = Output(self.folder, orders.get("log_bytes", LOG_BYTES), self.notes)
        self.training = Training(orders, self.folder)
        self.egress = egress.Egress(orders.get("egress"), self.folder)
        self.store = self._make_store()

    # Starting

    def start(self) -> None:
        """Say that we live, hold the hard deadline, and start the training."""
        signal.signal(signal.SIGTERM, self._shutdown)
        for ignored in (signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, lambda *_: None)  # not SIG_IGN: the training would inherit that
        self.beat()
        deadlines.hold(self.deadlines, self.training.strike)
        if not processes.adopt_orphans():
            self.notes["adopt"] = "this system cannot hold a process that leaves its group and its parent"
        self.keep("reserve", bytes(RESERVE_BYTES))
        self._listen()
        if self.training.container and not self.training.docker:
            self.outcome = "launch_failed", "NO_DOCKER"
            self.say("docker is needed to run the image, and there is none")
        else:
            self.next_stage()

    def _listen(self) -> None:
        """A spot machine of a cloud asks whether it is to be taken back."""
        if self.training.rented and self.orders.get("spot"):
            try:
                from .notices import Notices
            except ImportError:
                return  # the shutdown signal is what remains
            Notices(self.orders["cloud"], self._preempted)

    def _make_watch(self) -> None:
        """Boot data that is short of room brings no metric readers: the training runs and ends without them."""
        if self.training.rented:
            try:
                from .gpu import Gpu
            except ImportError:
                pass
            else:
                self.gpu = Gpu()
        try:
            from . import watch
        except ImportError:
            self.notes["watch"] = "no metrics and no early stop: this machine was sent no readers for them"
        else:
            self.watch = watch.Watch(self.orders, self.orders["workdir"], str(self.folder))

    def _make_store(self) -> Any:
        try:
            from .store import Store
        except ImportError:
            if self.orders["store"]:
                self.notes["store"] = "nothing is saved: this machine was not sent the way to the store"
            return NoStore()
        return Store(self.orders, self.folder, self.notes, self.egress)

    def next_stage(self) -> None:
        """Start what is next; a command that cannot be started ends the run."""
        writer = self.output.open()
        self.stage_at = self.deadlines.age_s()
        self.notes.pop("pull", None)
        if len(self.training.stages) == 1:
            self.egress.begin()
            self._make_watch()  # what lies there already is not the training's own
        try:
            self.state = self.training.start(writer)
        except OSError as error:
            self.outcome = "failed", "COMMAND_NOT_FOUND"
            self.exit_code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            self.say(f"cannot start the command: {error}")
            return
        finally:
            os.close(writer)
        pid = self.training.group
        known = {"pid": pid, "pgid": pid, "start": self.training.begun, "container": self.training.container}
        self.keep("training.json", json.dumps(known).encode())
        self.beat()

    # Following

    def follow(self) -> None:
        """Until the training has ended, or must be killed."""
        while self.going():
            self.read(min(TICK_S, max(self.deadlines.left_s(), 0)))
            self.egress.look(self.store.sent, self.store.kept)
            if self.kill_at is not None or self.training.alive():
                self.check()
            age = self.deadlines.age_s()
            if self.watch and age >= self.next_poll and self.training.stage == "running":
                self.next_poll = age + POLL_S
                self.watch.poll(age)
            self.beat_if_due()
            self.store.tick(age)

    def read(self, wait_s: float) -> None:
        """Hand on what was printed, and collect the dead."""
        lines = self.output.read(wait_s)
        self.console.show(lines)
        if lines and self.training.stage in ("fetching", "pulling"):
            self.notes["pull"] = self.training.pulled(lines)
        elif lines and self.watch and self.training.stage == "running":
            self.watch.lines(lines, self.deadlines.age_s())
        processes.reap()

    def going(self) -> bool:
        """Whether there is still something to follow. Starts the next stage when one has ended well."""
        if self.outcome and self.kill_at is None:
            return False  # it never started
        if self.kill_at is not None and self.deadlines.age_s() >= self.kill_at:
            self.killed = True
            return False
        if self.training.alive():
            return True
        if self.kill_at is not None:
            return self.training.ask_rest()
        if self.training.stages and self.training.ended_well():
            self.drain()
            self.next_stage()
            return self.outcome is None
        return False

    def drain(self) -> None:
        """Read what is left in the pipe. One that somebody holds open is given up."""
        until = clock.awake() + DRAIN_S
        while self.output.reader >= 0 and clock.awake() < until:
            self.read(0.05)

    def check(self) -> None:
        """Stop the training when a rule says so. The first reason to stop is the one that stays."""
        age, due = self.deadlines.age_s(), self.deadlines.due_s()
        soft = self.orders["soft_outcome"], self.orders["soft_reason"]
        quiet_s = self.orders["stall"]["no_output_s"]
        if due >= self.deadlines.hard_s:
            self.stop(soft, 0)
        elif self.shutdown_at is not None:
            grace_s = min(self.orders["grace_s"], self.notice_s * GRACE_SHARE)
            self.stop(("preempted", self.shutdown_reason), max(self.shutdown_at + grace_s - age, 0))
        elif self.outcome:
            return
        elif due >= self.deadlines.soft_s:
            self.stop(soft, self.orders["grace_s"])
        elif self.egress.is_spent():
            egress.cut()
            self.stop(("budget_reached", "EGRESS_RESERVE"), self.orders["grace_s"])
        elif self.training.stage != "running":
            if self.training.rented and age - self.stage_at >= LIMIT_S[self.training.stage]:
                self.stop(("launch_failed", self.training.stage.upper() + "_TIMEOUT"), 0)
        elif quiet_s and self.output.quiet_s() >= quiet_s:
            self.stop(("stalled", "NO_OUTPUT"), self.orders["grace_s"])
        elif self.watch and (verdict := self.watch.verdict(age)):
            self.stop(verdict, self.orders["grace_s"])

    def stop(self, outcome: tuple[str, str], grace_s: float) -> None:
        """Ask the training to end, and set the time when it is killed; a stop under way can only get shorter."""
        kill_at = self.deadlines.age_s() + grace_s
        self.kill_at = kill_at if self.kill_at is None else min(self.kill_at, kill_at)
        if self.outcome is None:
            self.outcome, self.state = outcome, "stopping"
            if grace_s:
                self.training.terminate(grace_s)
            self.beat()

    def _shutdown(self, *_: object) -> None:
        if self.shutdown_at is None:
            self.shutdown_at = self.deadlines.age_s()
            self.notes["shutdown"] = "the machine was told to shut down"
            self.next_beat = 0.0

    def _preempted(self, left_s: float) -> None:
        """The cloud has said when it takes the machine back. A shutdown signal that follows finds us at it."""
        if self.shutdown_at is None:
            self.notice_s, self.shutdown_reason = left_s, "SPOT_NOTICE"
            self.notes["shutdown"] = f"the cloud takes this machine back in {left_s:.0f} s"
            self.shutdown_at, self.next_beat = self.deadlines.age_s(), 0.0

    # Telling

    def say(self, text: str) -> None:
        """A line of our own in the training's log."""
        start = "\n" if self.output.rest else ""
        self.output.write(f"{start}gpulaunch: {text}\n".encode(errors="replace"))

    def report(self) -> dict[str, Any]:
        """What is known of the run, for heartbeats and the result."""
        known = self.watch.report() if self.watch else {}
        self.words = known.get("notes", ())
        notes = [*self.notes.values(), *self.words]
        known.update(age_s=round(self.deadlines.age_s(), 1), output_bytes=self.output.bytes, notes=notes)
        if self.outcome:
            known["outcome"], known["reason"] = self.outcome
        if self.exit_code is not None:
            known["exit_code"] = self.exit_code
        if self.gpu and self.gpu.reading:
            known["gpu"] = self.gpu.reading
        if self.egress.limits:
            known["egress_bytes"] = self.egress.used
        if self.store.checkpoints and self.store.checkpoints.latest:
            known["checkpoint"] = self.store.checkpoints.latest
        return known

    def beat(self) -> None:
        """One heartbeat, now."""
        self.next_beat = self.deadlines.age_s() + self.orders["heartbeat_s"]
        own = {"state": self.state, "pid": self.training.group, "output_age_s": round(self.output.quiet_s(), 1)}
        report = self.report()
        for note in self.words:
            # Once each, into the log too; the figures in a note change, its first words do not.
            if note[:NOTE_KEY] not in self.told:
                self.told.add(note[:NOTE_KEY])
                self.say(note)
        self.console.beat({**report, **own})
        if self.egress.limits:
            self.keep("egress.json", json.dumps(self.egress.known).encode())

    def beat_if_due(self) -> None:
        """A heartbeat, unless the last is still fresh."""
        if self.deadlines.age_s() >= self.next_beat:
            self.beat()

    def fault(self, error: Exception) -> None:
        """A fault of the agent itself: the run is over."""
        self.notes["agent"] = f"a fault in the agent: {type(error).__name__}: {error}"[:300]
        self.say("".join(traceback.format_exception(error)))
        self.outcome = self.outcome or ("failed", "AGENT_ERROR")

    def keep(self, name: str, content: bytes) -> None:
        """Write a file of ours; a disk that refuses is a note."""
        try:
            files.replace(self.folder / name, content)
        except OSError as error:
            self.notes[name] = f"{name}: {error.strerror}"
