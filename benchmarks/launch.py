"""How long from `up --yes` until the machine is accepted, with 100 ms on every reply of the cloud.

    python benchmarks/launch.py [CLOUD...]

The installed command runs against each cloud in small (tests/cloud). What is printed: the time of the whole command;
the round trips that wait for each other, which no computer can make fewer; all calls; and those that change something.
A first launch asks everything; for a second one, prices and the account's limits are known.

A slow computer sends one after the other what could go out together, so round trips are counted in a launch of its
own, in which a reply takes so long that the computer's own time plays no part.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "cloud"))

CLOUDS = {"aws": "aws_cloud:AwsCloud", "azure": "azure_cloud:AzureCloud", "gcp": "gcp_launch:LaunchCloud"}
"""Cloud to its stand-in: a class with `start()`, which returns it; `variables()`, the environment that leads there;
`delay_s`, added to each reply; `clear()`; and `calls`, each with a `name`, `changes`, `began_s` and `ended_s`, and
`settles` for a read that a launch must wait for, where there are such."""
DELAY_S = 0.1
LONG_DELAY_S = 2.0
GPULAUNCH = str(Path(sys.executable).with_name("gpulaunch"))
JOB = {"name": "bench", "image": "busybox", "command": ["true"]}


def in_sequence(calls: list[Any]) -> int:
    """The longest chain of calls each of which began when the one before had ended."""
    count, free_s = 0, 0.0
    for call in sorted(calls, key=lambda call: float(call.ended_s)):
        if call.began_s >= free_s:
            count, free_s = count + 1, call.ended_s
    return count


def launch(cloud: Any, name: str, folder: Path, environment: dict[str, str], delay_s: float) -> tuple[float, list[Any]]:
    """One launch and its end; how long it took in seconds, and the calls until the machine was accepted."""
    cloud.calls.clear()
    cloud.delay_s = delay_s
    began_s = time.perf_counter()
    arguments = ["up", "--provider", name, "--budget", "5", "--no-store", "--yes", "--detach", "--json"]
    done = subprocess.run([GPULAUNCH, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    took_s = time.perf_counter() - began_s
    cloud.delay_s = 0.0
    if done.returncode:
        raise SystemExit(done.stderr)
    seen = list(cloud.calls)
    last = max(index for index, call in enumerate(seen) if call.changes or getattr(call, "settles", False))
    until = [call for call in seen[: last + 1] if call.ended_s]
    subprocess.run([GPULAUNCH, "down", "--all", "--yes"], cwd=folder, env=environment, capture_output=True, check=True)
    return took_s, until


def main(names: list[str]) -> None:
    """Each cloud in turn."""
    for name in names or sorted(CLOUDS):
        module, _, kind = CLOUDS[name].partition(":")
        cloud = getattr(import_module(module), kind)().start()
        timed = launches(cloud, name, DELAY_S)
        counted = launches(cloud, name, LONG_DELAY_S)
        for which, (took_s, calls), (_, slow) in zip(("first", "second"), timed, counted, strict=True):
            changing = ", ".join(call.name for call in calls if call.changes)
            trips = f"{in_sequence(slow)} round trips in sequence"
            print(
                f"{name:<6} {which:<7} {took_s:5.2f} s   {trips}   {len(calls)} calls   changing: {changing}",
                flush=True,
            )
        cloud.clear()


def launches(cloud: Any, name: str, delay_s: float) -> list[tuple[float, list[Any]]]:
    """A first launch and a second one, in a home of their own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "gpulaunch.yaml").write_text(json.dumps(JOB), encoding="utf-8")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "GPULAUNCH_HOME": str(home / "state"),
            **cloud.variables(),
        }
        return [launch(cloud, name, home, environment, delay_s) for _ in range(2)]


if __name__ == "__main__":
    main(sys.argv[1:])
