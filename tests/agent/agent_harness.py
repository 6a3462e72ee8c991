"""A real agent on a real child, in a folder of its own, with a simple stand-in for the metric watcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from launcher.agent import heartbeat

REPOSITORY = Path(__file__).parents[2]
BOUND_S = 60.0

# The stand-in counts what it is given, and gives its verdict when a line asks for it.
STARTER = """
import json, os, re, signal, sys, types

class Watch:
    def __init__(self, orders, workdir, folder):
        self.seen, self.said, self.orders, self.notes = 0, None, orders, []

    def lines(self, lines, age_s):
        self.seen += len(lines)
        for line in lines:
            if line.startswith("verdict "):
                self.said = tuple(line.split()[1:])
            if line.startswith("note "):
                self.notes = [line[5:]]
            if line == "raise":
                raise ValueError("a fault for the test")
            if line.startswith("hang"):
                open(sys.argv[1] + ".hangs", "w").close()
            if line == "hang in python":
                re.match("(a*)*b", "a" * 64)
            if line == "hang in the kernel":
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
                os.read(os.pipe()[0], 1)

    def poll(self, age_s):
        pass

    def verdict(self, age_s):
        return self.said

    def report(self):
        return {"metrics": {"lines": self.seen}, "notes": self.notes}

def jumped():
    try:
        return float(open(sys.argv[1] + ".jump").read() or 0)
    except FileNotFoundError:
        return 0.0

from launcher.agent import clock
real = clock.awake
clock.awake = lambda: real() + jumped()
watch = types.ModuleType("launcher.agent.watch")
watch.Watch = Watch
sys.modules["launcher.agent.watch"] = watch
from launcher.agent.main import main
orders = json.load(open(sys.argv[1]))
exec(orders.pop("before", ""))
sys.exit(main(orders, sys.argv[2], orders.pop("origin", None)))
"""


def orders(workdir: Path, command: list[str], **changes: Any) -> dict[str, Any]:
    """Orders for a training that may take its time."""
    return {
        "job": "job-1",
        "name": "test",
        "attempt": 1,
        "command": command,
        "image": None,
        "env": {},
        "workdir": str(workdir),
        "soft_after_s": 1000.0,
        "hard_after_s": 2000.0,
        "soft_outcome": "budget_reached",
        "soft_reason": "CAP",
        "hard_at": None,
        "grace_s": 20.0,
        "stall": {"no_output_s": None, "no_progress_s": None},
        "metrics": {},
        "early_stop": None,
        "rate_usd_per_hour": "1",
        "spent_usd": "0",
        "cap_usd": "5",
        "checkpoints": None,
        "store": None,
        "heartbeat_s": 5.0,
        "ending": "exit",
        **changes,
    }


def python(source: str) -> list[str]:
    """A command that runs this source."""
    return [sys.executable, "-c", source]


def wait_until(condition: Callable[[], Any], bound_s: float = BOUND_S) -> Any:
    """Wait for a true value, and return it; fails when the bound is reached."""
    until = time.monotonic() + bound_s
    while not (value := condition()):
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)
    return value


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Agent:
    """One started agent."""

    def __init__(
        self, folder: Path, command: list[str], agent_env: dict[str, str] | None = None, **changes: Any
    ) -> None:
        self.workdir = folder / "work"
        self.machine = folder / "machine"
        for made in (self.workdir, self.machine):
            made.mkdir(parents=True, exist_ok=True)
        self.orders = folder / "orders.json"
        self.orders.write_text(json.dumps(orders(self.workdir, command, **changes)))
        self.jumped_s = 0.0
        self.marker = f"test-{uuid.uuid4()}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(self.orders), str(self.machine)],
            cwd=REPOSITORY,
            env={**os.environ, "GPULAUNCH_MACHINE": self.marker, **(agent_env or {})},
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process.wait()
        for pid in self.marked():
            os.kill(pid, signal.SIGKILL)

    def pass_time(self, seconds: float) -> None:
        """Let the agent's clock jump, so that no test must wait for a deadline, nor race against one."""
        self.jumped_s += seconds
        path = self.orders.with_suffix(".json.jump")
        path.with_suffix(".tmp").write_text(str(self.jumped_s))
        path.with_suffix(".tmp").replace(path)

    def hangs(self) -> None:
        """Wait until the watcher hangs, as a line told it to."""
        wait_until(self.orders.with_suffix(".json.hangs").exists)

    def finish(self, bound_s: float = BOUND_S) -> dict[str, Any]:
        """Wait until it has ended by itself; its result."""
        _, errors = self.process.communicate(timeout=bound_s)
        assert (self.process.returncode, errors) == (0, b"")
        return self.result()

    def result(self) -> dict[str, Any]:
        """What it has written."""
        return json.loads((self.machine / "result.json").read_text())  # type: ignore[no-any-return]

    def output(self) -> bytes:
        """The log."""
        path = self.machine / "output.log"
        return path.read_bytes() if path.exists() else b""

    def beats(self) -> list[dict[str, Any]]:
        """Its heartbeats so far; each line must be one."""
        path = self.machine / "console.log"
        lines = path.read_text().splitlines() if path.exists() else []
        decoded = [heartbeat.decode(line) for line in lines]
        assert None not in decoded
        return [beat for _, beat in filter(None, decoded)]

    def log_bytes(self) -> int:
        """The size of the log."""
        path = self.machine / "output.log"
        return path.stat().st_size if path.exists() else 0

    def peak_kib(self) -> int:
        """The most memory that the agent has held, so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def training_pid(self) -> int:
        """The training's process, once it runs."""
        path = self.machine / "training.json"
        wait_until(path.exists)
        return int(json.loads(path.read_text())["pid"])

    def says(self, text: str) -> None:
        """Wait until the training has printed this."""
        wait_until(lambda: text.encode() in self.output())

    def states(self) -> list[str]:
        """The states it went through."""
        states = [beat["state"] for beat in self.beats()]
        return [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]

    def marked(self) -> list[int]:
        """The living processes that were started below it, and have kept their environment."""
        return [
            process.pid
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("GPULAUNCH_MACHINE") == self.marker and alive(process.pid)
        ]
