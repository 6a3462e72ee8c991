"""From SIGTERM to the last checkpoint in the store, beside a plain copy of the same file, and the agent's memory.

    python benchmarks/checkpoint.py [--megabytes 500] [--runs 3] [--folder FOLDER]

A training holds a checkpoint that was just written when the machine is told to shut down. It ends at once, so what is
measured is the agent: noticing, copying with a checksum, writing to the disk, and the manifest. The plain copies of the
same file, into the same folder and in the same run, are `shutil.copyfile`, and the same with an fsync, as the agent
does it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from agent import STARTER, orders

REPOSITORY = Path(__file__).resolve().parents[1]
MEMORY_AIM_MIB = 40.0
RATIO_AIM = 4.0
LOOK_S = 0.005
BOUND_S = 600.0
TRAINING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.mkdir("checkpoints")
with open("checkpoints/model.pt", "wb") as file:
    block = os.urandom(1 << 20)
    for _ in range(int(sys.argv[1])):
        file.write(block)
    os.fsync(file.fileno())
print("ready", flush=True)
while True:
    time.sleep(1)
"""


def await_path(path: Path, process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Wait until a path exists, watching the memory of the process. Raises RuntimeError when it never does."""
    until = time.monotonic() + BOUND_S
    watched = psutil.Process(process.pid)
    while not path.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{path} never came")
        peak[0] = max(peak[0], watched.memory_info().rss)
        time.sleep(LOOK_S)


def measure_agent(folder: Path, megabytes: int) -> tuple[float, float, Path]:
    """Run it once: seconds from SIGTERM to the manifest, the agent's peak memory in MiB, and the checkpoint's file."""
    workdir, machine, store, path = (folder / name for name in ("work", "machine", "store", "orders.json"))
    workdir.mkdir()
    machine.mkdir()
    training = [sys.executable, "-c", TRAINING, str(megabytes)]
    wanted: dict[str, Any] = {
        **orders(workdir, training),
        "early_stop": None,
        "checkpoints": {"path": "checkpoints", "every_s": 36000.0, "keep": 3},
        "store": {"kind": "folder", "path": str(store)},
        "grace_s": 60.0,
    }
    path.write_text(json.dumps(wanted))
    peak = [0]
    with subprocess.Popen([sys.executable, "-c", STARTER, str(path), str(machine)], cwd=REPOSITORY) as process:
        log = machine / "output.log"
        await_path(log, process, peak)
        while "ready" not in log.read_text():
            time.sleep(LOOK_S)
        began = time.monotonic()
        process.terminate()
        await_path(store / "benchmark/checkpoints/1/manifest.json", process, peak)
        took_s = time.monotonic() - began
        process.wait()
    return took_s, peak[0] / (1 << 20), workdir / "checkpoints/model.pt"


def measure_copy(source: Path, target: Path, *, sync: bool) -> float:
    """Seconds for a plain copy, into a file that is removed afterwards."""
    began = time.monotonic()
    shutil.copyfile(source, target)
    if sync:
        with target.open("rb+") as file:
            os.fsync(file.fileno())
    took_s = time.monotonic() - began
    target.unlink()
    return took_s


def main() -> int:
    """Measure so many times, and print the best of each; the exit code is 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500, help="the size of the checkpoint")
    parser.add_argument("--runs", type=int, default=3, help="how often; the best run of each counts")
    parser.add_argument("--folder", type=Path, default=None, help="where, for another disk than that of TMPDIR")
    chosen = parser.parse_args()
    runs = []
    for _ in range(chosen.runs):
        with tempfile.TemporaryDirectory(dir=chosen.folder) as temporary:
            agent_s, mib, model = measure_agent(Path(temporary), chosen.megabytes)
            plain_s, synced_s = (measure_copy(model, model.with_name("copy"), sync=sync) for sync in (False, True))
            runs.append((agent_s, plain_s, synced_s, mib))
    agent_s, plain_s, synced_s, mib = (min(column) for column in zip(*runs, strict=True))
    ratio = min(each[0] / each[2] for each in runs)
    print(f"{chosen.megabytes} MiB checkpoint, best of {chosen.runs}")
    print(f"  agent:           {agent_s:6.2f} s from SIGTERM to the manifest, peak {mib:.1f} MiB")
    print(f"  copy:            {plain_s:6.2f} s")
    print(f"  copy and fsync:  {synced_s:6.2f} s")
    print(f"  the agent takes {ratio:.2f} times a copy with fsync, within one run")
    print(f"  aim: under {RATIO_AIM:.0f} times, and under {MEMORY_AIM_MIB:.0f} MiB")
    return 0 if ratio < RATIO_AIM and mib < MEMORY_AIM_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
