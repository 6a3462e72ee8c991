"""How long from `up --yes` until the machine is accepted, with 100 ms on every reply of the cloud.

    python benchmarks/launch.py [CLOUD...]

The installed command runs against each cloud in small (tests/cloud). What is printed: the time of the whole command;
the round trips in sequence, which no computer can make shorter; all calls; and those among them that change something.
A first launch asks everything; for a second one, prices and the account's limits are known.
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
GPULAUNCH = str(Path(sys.executable).with_name("gpulaunch"))
JOB = {"name": "bench", "image": "busybox", "command": ["true"]}


def in_sequence(calls: list[Any]) -> int:
    """The longest chain of calls each of which began when the one before had ended."""
    count, free_s = 0, 0.0
    for call in sorted(calls, key=lambda call: float(call.ended_s)):
        if call.began_s >= free_s:
            count, free_s = count + 1, call.ended_s
    return count


def launch(cloud: Any, name: str, folder: Path, environment: dict[str, str]) -> str:
    """One launch and its end; a line about it."""
    cloud.calls.clear()
    cloud.delay_s = DELAY_S
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
    changing = [call.name for call in until if call.changes]
    return (
        f"{took_s:5.2f} s   {in_sequence(until)} round trips in sequence   {len(until)} calls   "
        f"changing: {', '.join(changing)}"
    )


def main(names: list[str]) -> None:
    """Each cloud in turn."""
    for name in names or sorted(CLOUDS):
        module, _, kind = CLOUDS[name].partition(":")
        cloud = getattr(import_module(module), kind)().start()
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            (home / "gpulaunch.yaml").write_text(json.dumps(JOB), encoding="utf-8")
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "GPULAUNCH_HOME": str(home / "state"),
                **cloud.variables(),
            }
            for which in ("first", "second"):
                print(f"{name:<6} {which:<7} {launch(cloud, name, home, environment)}", flush=True)
        cloud.clear()


if __name__ == "__main__":
    main(sys.argv[1:])
