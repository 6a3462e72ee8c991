"""Guards that die by SIGKILL before or after their nth request. Started by test_gcp_crashes.py as a process of its own.

    python gcp_crash.py FOLDER FIRST LAST

For each number it forks: an `up` that writes its job down and waits; the guard that this `up` wants, which is killed at
that request; and then another guard, which has only the journal, until no job is left. FOLDER/<number>/count gets the
number of places at which a guard could have died, when it was not killed. The SDK is imported once, before the forks.
"""

from __future__ import annotations

import http.client
import os
import signal
import sys
from pathlib import Path
from typing import Any

from crash_at import launcher_until_the_guard_dies, run

AT_ONCE = 10
UP = ["--provider", "gcp", "--budget", "0.50", "--yes", "--no-store", "--detach"]


def count_requests(fatal: int) -> list[int]:
    """Count each request twice, before it is sent and after its reply was read; die at that number."""
    counted = [0]

    def one() -> None:
        counted[0] += 1
        if counted[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, _: tuple[Any, ...]) -> None:
        if event == "http.client.send":
            one()

    answered = http.client.HTTPConnection.getresponse

    def getresponse(self: http.client.HTTPConnection) -> http.client.HTTPResponse:
        reply = answered(self)
        one()
        return reply

    sys.addaudithook(hear)
    http.client.HTTPConnection.getresponse = getresponse  # type: ignore[method-assign]
    return counted


def forked(work: Any) -> int:
    """Do something in a process of its own; its exit status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def one_life(folder: Path, fatal: int) -> int:
    """A guard that dies, and the one that comes after it."""
    os.environ["GPULAUNCH_HOME"] = str(folder / "home")
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    account = launcher_until_the_guard_dies(UP)

    def dies() -> int:
        counted = count_requests(fatal)
        code = run(["guard", "--account", account])
        (folder / "count").write_text(str(counted[0]), encoding="ascii")
        return code

    forked(dies)
    return forked(lambda: run(["guard", "--account", account]))


def main() -> None:
    """Every number of the command line, some at once."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    from google.cloud import compute_v1  # noqa: F401

    from providers.gcp.client import Compute  # noqa: F401 - what is imported here is not imported in each fork

    living: set[int] = set()
    for number in range(first, last + 1):
        (folder / str(number)).mkdir()
        if len(living) >= AT_ONCE:
            living.discard(os.wait()[0])
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = one_life(folder / str(number), number)
            finally:
                os._exit(code)
        living.add(pid)
    while living:
        living.discard(os.wait()[0])


if __name__ == "__main__":
    main()
