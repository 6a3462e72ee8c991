"""A place to run the installed `gpulaunch` in: a home of its own, a clean environment, eyes on all its processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from launcher.core.clock import SystemClock
from launcher.journal import Journal
from launcher.views import job_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BIN = Path(sys.executable).parent
GPULAUNCH = BIN / "gpulaunch"
MARK = "GPULAUNCH_MACHINE"
BOUND_S = 60.0
# A training that does not end within a test, and that no test can leave behind for long.
NEVER = ["sleep", "600"]
PRICE_PER_HOUR = "3.6"  # a tenth of a cent in a second
SMALL_CAP = "0.0085"  # with no grace: six and a half seconds


def wait_until(condition: Callable[[], Any], what: str, bound_s: float = BOUND_S) -> Any:
    """Wait for a true value, and return it. Raises AssertionError, naming `what`, when the bound is reached."""
    until = time.monotonic() + bound_s
    while not (value := condition()):
        assert time.monotonic() < until, f"waited {bound_s:.0f} s for {what}"
        time.sleep(0.05)
    return value


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its stdout as one JSON document. Raises ValueError if it is anything else."""
        return json.loads(self.out)


class Terminal:
    """A command on a terminal of its own, which a test can read, type on, and close."""

    def __init__(self, argv: list[str], *, cwd: Path, env: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        # The stub makes the terminal the controlling one, so that Ctrl-C and hang-up reach the command.
        stub = "import fcntl,os,sys,termios;fcntl.ioctl(0,termios.TIOCSCTTY,0);os.execv(sys.argv[1],sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", stub, *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def _read(self) -> bool:
        """Take in what was printed; False when nothing more can come."""
        if self._master < 0 or not select.select([self._master], [], [], 0.05)[0]:
            return self._master >= 0
        try:
            chunk = os.read(self._master, 65536)
        except OSError:  # Linux: the last writer has gone
            return False
        self.text += chunk.decode(errors="replace")
        return bool(chunk)

    def shows(self, text: str) -> None:
        """Wait until that was printed."""

        def seen() -> bool:
            goes_on = self._read()
            assert text in self.text or goes_on, f"{text!r} was never printed: {self.text}"
            return text in self.text

        wait_until(seen, f"{text!r} on the terminal")

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def press_ctrl_c(self) -> None:
        """Interrupt, as the keyboard does."""
        self.type("\x03")

    def answers_ctrl_c(self, text: str) -> None:
        """Interrupt a question, and wait for the answer.

        Python's `input` can miss a signal that comes just before it begins to wait for a key; a person presses again.
        """
        next_press = 0.0

        def seen() -> bool:
            nonlocal next_press
            if time.monotonic() >= next_press:
                next_press = time.monotonic() + 1.0
                self.press_ctrl_c()
            self._read()
            return text in self.text

        wait_until(seen, f"{text!r} on the terminal")

    def ends(self) -> int:
        """Wait for the command's end; its exit code."""
        wait_until(lambda: self.process.poll() is not None or (self._read() and False), "the command to end")
        while self._read() and select.select([self._master], [], [], 0)[0]:
            pass
        return self.process.wait()

    def close(self) -> None:
        """Close the terminal: the command gets SIGHUP."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


class Lab:
    """One state folder, one working folder, and the commands that use them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.gpulaunch = [str(GPULAUNCH)]
        self.home = folder / "home"
        self.work = folder / "work"
        self.user = folder / "user"
        for made in (self.work, self.user):
            made.mkdir()
        config = folder / "config.yaml"
        config.touch()
        self.env = {
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.user),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.user),
            "TZ": "UTC",
            "GPULAUNCH_HOME": str(self.home),
            "GPULAUNCH_CONFIG": str(config),
        }
        self._started: list[subprocess.Popen[str]] = []
        self._terminals: list[Terminal] = []

    # Running commands

    def write_job(self, command: list[str] | None = None, **keys: Any) -> Path:
        """Write `gpulaunch.yaml`: a job named `job` at 3.6 dollars an hour that never ends, unless told otherwise."""
        document = {
            "name": "job",
            "command": command or NEVER,
            "grace": "0s",
            "local": {"price_per_hour": PRICE_PER_HOUR},
            **keys,
        }
        path = self.work / "gpulaunch.yaml"
        path.write_text(json.dumps(document), encoding="utf-8")  # every JSON document is YAML
        return path

    def start(self, *args: str, **how: Any) -> subprocess.Popen[str]:
        """Start a command; `ended` waits for it."""
        return self.start_argv([*self.gpulaunch, *args], **how)

    def start_argv(self, argv: list[str], **how: Any) -> subprocess.Popen[str]:
        """Start any program, in the working folder and with the clean environment."""
        process = subprocess.Popen(
            argv,
            cwd=how.pop("cwd", self.work),
            env={**self.env, **how.pop("env", {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )
        self._started.append(process)
        return process

    def ended(self, process: subprocess.Popen[str], bound_s: float = BOUND_S) -> Done:
        """Wait for a started command."""
        out, err = process.communicate(timeout=bound_s)
        return Done(process.returncode, out, err)

    def run(self, *args: str, **how: Any) -> Done:
        """Run a command to its end."""
        return self.ended(self.start(*args, **how))

    def run_argv(self, argv: list[str], **how: Any) -> Done:
        """Run any program to its end."""
        return self.ended(self.start_argv(argv, **how))

    def raw(self, *args: str) -> bytes:
        """What a command prints, as bytes."""
        return subprocess.run(
            [*self.gpulaunch, *args], cwd=self.work, env=self.env, capture_output=True, timeout=BOUND_S, check=True
        ).stdout

    def terminal(self, *args: str) -> Terminal:
        """Start a command on a terminal of its own."""
        terminal = Terminal([*self.gpulaunch, *args], cwd=self.work, env={**self.env, "TERM": "xterm"})
        self._terminals.append(terminal)
        return terminal

    def launch(self, *args: str, cap: str = "0.05") -> dict[str, Any]:
        """Launch the job of this folder, detached, and wait until its training runs; how it stands."""
        done = self.run("up", "--budget", cap, "--yes", "--detach", *args)
        assert (done.code, done.out.count("Traceback")) == (0, 0), done.err
        return self.await_state("running")

    def down(self) -> None:
        """End every job."""
        done = self.run("down", "--all", "--yes")
        assert done.code == 0, done.err

    def status(self, job: str = "job") -> dict[str, Any]:
        """What `gpulaunch status JOB --json` says."""
        done = self.run("status", job, "--json")
        assert done.code == 0, done.err
        [view] = done.document
        return view  # type: ignore[no-any-return]

    # Looking without touching: no guard is started by these

    def views(self) -> list[dict[str, Any]]:
        """Every job as the journal has it."""
        if not (self.home / "journal.db").exists():
            return []
        journal = Journal(self.home)
        try:
            now = journal.clock(SystemClock()).now()
            return [job_view(job, journal.attempts(job.id), now) for job in journal.jobs()]
        finally:
            journal.close()

    def live(self) -> list[str]:
        """The names of the jobs that are not gone."""
        return [view["name"] for view in self.views() if view["state"] != "gone"]

    def await_state(self, state: str, job: str = "job") -> dict[str, Any]:
        """Wait until the newest job of that name is in that state; how it stands."""

        def found() -> dict[str, Any] | None:
            view = next((view for view in self.views() if view["name"] == job), None)
            assert view is None or state == "gone" or view["state"] != "gone", f"{job} is gone: {view}"
            return view if view is not None and view["state"] == state else None

        view: dict[str, Any] = wait_until(found, f"{job} to be {state}")
        return view

    def await_any_job(self) -> None:
        """Wait until a job is written down."""
        wait_until(self.views, "a job in the journal")

    def machines(self) -> list[Path]:
        """The folders of all machines that were ever made."""
        return sorted(self.home.glob("machines/*"))

    def machine(self) -> Path:
        """The folder of the one machine."""
        [folder] = self.machines()
        return folder

    def agent_pid(self) -> int:
        """The pid of the one machine's agent."""
        return int((self.machine() / "agent.pid").read_text())

    def backstop_pid(self) -> int:
        """The pid of the one machine's backstop."""
        return int((self.machine() / "backstop.pid").read_text())

    def started_training_pid(self) -> int:
        """The pid of the one machine's training, 0 while it has not started."""
        known = [path for folder in self.machines() if (path := folder / "training.json").exists()]
        return int(json.loads(known[0].read_text())["pid"]) if known else 0

    def training_pid(self) -> int:
        """The pid of the one machine's training, once it runs."""
        return int(wait_until(self.started_training_pid, "the training to start"))

    def processes(self, *words: str) -> list[psutil.Process]:
        """The living processes of this home; with words, only those whose command line holds all of them."""
        ids = {folder.name for folder in self.machines()}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                line, env = process.cmdline(), process.environ()
                mine = env.get("GPULAUNCH_HOME") == str(self.home) or env.get(MARK) in ids
                mine = mine or any(str(self.home) in word for word in line)
                if mine and all(word in line for word in words) and alive(process.pid):
                    found.append(process)
        return found

    def guards(self) -> list[psutil.Process]:
        """The guards of this home."""
        return self.processes("guard")

    def kill_guard(self) -> None:
        """SIGKILL to the one guard."""
        [guard] = self.guards()
        guard.kill()
        wait_until(lambda: not alive(guard.pid), "the guard to die")

    def clean_up(self) -> list[str]:
        """End what was started; what a test has left behind, which is a failure of it."""
        for terminal in self._terminals:
            terminal.close()
        live = self.live()
        if not live:
            for guard in self.guards():  # it would end by itself, after a second in which it only waits
                guard.terminate()
            with contextlib.suppress(AssertionError):
                wait_until(lambda: not self.processes(), "the last processes to end", bound_s=10.0)
        left = [f"job {name} is live" for name in live]
        left += self._kill_all()
        for process in [*self._started, *(terminal.process for terminal in self._terminals)]:
            process.wait(timeout=BOUND_S)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        return left

    def _kill_all(self) -> list[str]:
        """SIGKILL to all, again until none is left; the command lines of those that lived."""
        found = set()
        while living := self.processes():
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.add(f"{process.pid}: {' '.join(process.cmdline())[:200]}")
                    process.kill()
        return sorted(found)


def spent(view: dict[str, Any]) -> Decimal:
    """The spend of a job."""
    return Decimal(view["spend_usd"])


def assert_no_traceback(texts: Iterable[str]) -> None:
    """A traceback is a bug, wherever it is printed."""
    for text in texts:
        assert "Traceback" not in text, text
