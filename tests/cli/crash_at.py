"""Runs one command and dies by SIGKILL just before its nth effect. Started by test_crashes.py as a process of its own.

    python crash_at.py N COUNT_FILE up ARGS…       `gpulaunch up ARGS`, in this process
    python crash_at.py N COUNT_FILE guard ARGS…    the guard of a job that `gpulaunch up ARGS` has just written down

An effect is whatever another process could see: a file opened for writing, a folder made, a rename, a removal, a lock,
a process started, a commit. When the command ends by itself, COUNT_FILE gets the number of effects that it had.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.mkdir", "os.rename", "os.remove", "subprocess.Popen", "sqlite3.connect", "fcntl.flock"}


class Effects:
    """Counts effects once it is armed, and kills this process before the one that was named."""

    def __init__(self, fatal: int) -> None:
        self.count = 0
        self._fatal = fatal
        self._armed = False

    def arm(self) -> None:
        """Begin to count."""
        connect = sqlite3.connect
        effects = self

        class Counting(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql.startswith(("COMMIT", "PRAGMA journal_mode")):
                    effects.one()
                return super().execute(sql, *values)

        sqlite3.connect = lambda *args, **how: connect(*args, **how, factory=Counting)  # type: ignore[assignment]
        sys.addaudithook(self._hear)
        self._armed = True

    def disarm(self) -> None:
        """Count no further."""
        self._armed = False

    def one(self) -> None:
        """An effect is about to happen."""
        self.count += self._armed
        if self._armed and self.count == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event in _EVENTS or (event == "open" and isinstance(args[2], int) and args[2] & _WRITES):
            self.one()


def run(args: list[str]) -> int:
    """A command in this process; its exit code."""
    from launcher import cli

    sys.argv = ["gpulaunch", *args]
    try:
        cli.main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def launcher_until_the_guard_dies(args: list[str]) -> str:
    """Fork an `up` that writes its job down and then waits; returns the account that it wants watched.

    It holds its launch lock until this process ends, and then dies by SIGKILL at the very place where it would have
    started a guard.
    """
    from launcher import guard_process

    told, tell = os.pipe()
    life, held = os.pipe()
    if os.fork() == 0:
        os.close(held)

        def wait(home: Path, account: str, environ: object) -> None:
            os.write(tell, account.encode())
            os.read(life, 1)
            os.kill(os.getpid(), signal.SIGKILL)

        guard_process.start_guard = wait
        os._exit(run(["up", *args]))
    os.close(tell)
    os.set_inheritable(held, False)
    account = os.read(told, 1000).decode()
    assert account, "the launcher ended before it wanted a guard"
    return account


def main() -> None:
    """Run what the command line says."""
    _, fatal, count_file, command, *args = sys.argv
    effects = Effects(int(fatal))
    # What is imported first is not what is tested: compiled modules may be written on the way.
    import providers.local.provider  # noqa: F401

    if command == "guard":
        args = ["--account", launcher_until_the_guard_dies(args)]
    effects.arm()
    code = run([command, *args])
    effects.disarm()
    Path(count_file).write_text(str(effects.count), encoding="ascii")
    sys.exit(code)


if __name__ == "__main__":
    main()
