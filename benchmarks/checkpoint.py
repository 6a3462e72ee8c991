"""From SIGTERM to the last checkpoint in the store, beside a plain copy of the same file, and the agent's memory.

    python benchmarks/checkpoint.py [--megabytes 500] [--runs 3] [--folder FOLDER]

A training holds a checkpoint that was just written when the machine is told to shut down. It ends at once, so what is
measured is the agent: noticing, sending with a checksum, and the manifest. It is done twice: into a folder, and into a
bucket on the loopback that reads what it is sent and keeps nothing (sink.py), by a signed upload in parts. The plain
copies of the same file, into the same folder and in the same run, are `shutil.copyfile`, and the same with an fsync, as
the agent does it for a folder.
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
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from agent import STARTER, orders

REPOSITORY = Path(__file__).resolve().parents[1]
MEMORY_AIM_MIB = 40.0
BUCKET_MEMORY_AIM_MIB = 120.0
RATIO_AIM = 4.0
BUCKET_AIM_S = 10.0
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


def await_it(it: Callable[[], Any], process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Wait until that is true, watching the memory of the process. Raises RuntimeError when it never is."""
    until = time.monotonic() + BOUND_S
    watched = psutil.Process(process.pid)
    while not it():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError("it never came")
        peak[0] = max(peak[0], watched.memory_info().rss)
        time.sleep(LOOK_S)


def measure_agent(
    folder: Path, megabytes: int, store: dict[str, Any], is_there: Callable[[], Any], before: str = ""
) -> tuple[float, float]:
    """Run it once: seconds from SIGTERM to the manifest in the store, and the agent's peak memory in MiB."""
    workdir, machine, path = (folder / name for name in ("work", "machine", "orders.json"))
    for each in (workdir, machine):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    training = [sys.executable, "-c", TRAINING, str(megabytes)]
    wanted: dict[str, Any] = {
        **orders(workdir, training),
        "early_stop": None,
        "checkpoints": {"path": "checkpoints", "every_s": 36000.0, "keep": 3},
        "store": store,
        "grace_s": 60.0,
    }
    path.write_text(json.dumps(wanted))
    peak = [0]
    with subprocess.Popen([sys.executable, "-c", before + STARTER, str(path), str(machine)], cwd=REPOSITORY) as process:
        log = machine / "output.log"
        await_it(log.exists, process, peak)
        while "ready" not in log.read_text():
            time.sleep(LOOK_S)
        began = time.monotonic()
        process.terminate()
        await_it(is_there, process, peak)
        took_s = time.monotonic() - began
        process.wait()
    return took_s, peak[0] / (1 << 20)


def measure_folder(folder: Path, megabytes: int) -> tuple[float, float]:
    """Into a folder."""
    store = folder / "store"
    manifest = store / "benchmark/checkpoints/1/manifest.json"
    return measure_agent(folder, megabytes, {"kind": "folder", "path": str(store)}, manifest.exists)


def measure_bucket(folder: Path, megabytes: int) -> tuple[float, float]:
    """Into a bucket that keeps nothing."""
    sink = [sys.executable, str(REPOSITORY / "benchmarks/sink.py")]
    with subprocess.Popen(sink, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        url = served.stdout.readline().strip()

        def is_there() -> bool:
            with urllib.request.urlopen(f"{url}/manifests") as reply:
                return int(reply.read()) > 0

        store = {"kind": "s3", "bucket": "b", "prefix": "runs", "region": "us-east-1", "endpoint": url}
        role = f"from launcher.agent import identity; identity.METADATA = {url!r}\n"
        measured = measure_agent(folder, megabytes, store, is_there, role)
        served.communicate()
    return measured


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
            folder_s, folder_mib = measure_folder(Path(temporary), chosen.megabytes)
            model = Path(temporary, "work/checkpoints/model.pt")
            plain_s, synced_s = (measure_copy(model, model.with_name("copy"), sync=sync) for sync in (False, True))
            bucket_s, bucket_mib = measure_bucket(Path(temporary), chosen.megabytes)
            runs.append((folder_s, plain_s, synced_s, bucket_s, folder_mib, bucket_mib))
    folder_s, plain_s, synced_s, bucket_s, folder_mib, bucket_mib = (min(column) for column in zip(*runs, strict=True))
    ratio = min(each[0] / each[2] for each in runs)
    print(f"{chosen.megabytes} MiB checkpoint, best of {chosen.runs}, from SIGTERM to the manifest")
    print(f"  agent, folder:   {folder_s:6.2f} s, peak {folder_mib:.1f} MiB")
    print(f"  agent, bucket:   {bucket_s:6.2f} s, peak {bucket_mib:.1f} MiB")
    print(f"  copy:            {plain_s:6.2f} s")
    print(f"  copy and fsync:  {synced_s:6.2f} s")
    print(f"  into a folder the agent takes {ratio:.2f} times a copy with fsync, within one run")
    print(
        f"  aims: a folder under {RATIO_AIM:.0f} times, a bucket under {BUCKET_AIM_S:.0f} s; "
        f"memory under {MEMORY_AIM_MIB:.0f} and {BUCKET_MEMORY_AIM_MIB:.0f} MiB"
    )
    good = ratio < RATIO_AIM and bucket_s < BUCKET_AIM_S
    return 0 if good and folder_mib < MEMORY_AIM_MIB and bucket_mib < BUCKET_MEMORY_AIM_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
