"""What the agent costs while it follows a training: its share of one core, and its memory.

    python benchmarks/agent.py [--rate 1000] [--seconds 20] [--format all]

A child prints so many lines a second, each with a write of its own, as an unbuffered training does; or it writes as
many rows or records into a file of the usual name. The real agent follows it, reads metrics from it and applies an
early stop that never comes. Beside it stands what it costs to read the printed stream and do nothing with it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

CPU_AIM_PERCENT = 2.0
MEMORY_AIM_MIB = 30.0
REPOSITORY = Path(__file__).resolve().parents[1]

# What a printed line looks like.
LINES = {
    "plain": "line {n}: nothing to see here, the training is only talking about its day",
    "generic": "step {n}/1000000 train_loss={loss:.4f} lr=3.0e-04 tokens_per_s=51234",
    "hf": "{{'loss': '{loss:.4f}', 'grad_norm': '1.172', 'learning_rate': '4.8e-05', 'epoch': '0.{n:07d}'}}",
    "keras": "6/6 - 0s - 14ms/step - accuracy: 0.9792 - loss: {loss:.4f} - val_accuracy: 1.0000 - val_loss: 9.{n:07d}",
    "nanogpt": "iter {n}: loss {loss:.4f}, time 131.52ms, mfu 12.34%",
    "llmc": "step {n}/1000000 | loss {loss:.6f} (+0.10z)| norm 1.2 (+0.1z)| lr 3.0e-04 | 98.1 ms | 41.2% | 41234 tok/s",
    "jsonl": '{{"step": {n}, "loss": {loss:.4f}, "lr": 0.0003}}',
    "bar": " 12%|#2        | {n}/1000000 [00:10<01:20,  6.10it/s]\r",
}
# What a row of a file looks like: the file's usual name, its header, a row.
FILES = {
    "lightning csv": ("lightning_logs/version_0/metrics.csv", "epoch,step,train_loss,val_loss", "0,{n},{loss:.4f},"),
    "keras csv": ("log.csv", "epoch,accuracy,loss,val_loss", "{n},0.97,{loss:.4f},9.5"),
    "metrics file": ("", "", '{{"step": {n}, "train_loss": {loss:.4f}}}'),
    "tensorboard": ("runs/events.out.tfevents.1.host", "", ""),
}
FORMATS = (*LINES, *FILES)
STREAM = """
import os, sys, time
line, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
end = "" if line.endswith("\\r") else "\\n"
start, n = time.monotonic(), 0
while n < rate * seconds:
    due = min(int((time.monotonic() - start) * rate) + 1, int(rate * seconds))
    if rate > 20_000:  # one write for each line could not keep up
        os.write(1, "".join(line.format(n=k, loss=3 + 1 / (k + 1)) + end for k in range(n, due)).encode())
        n = due
    while n < due:
        os.write(1, (line.format(n=n, loss=3 + 1 / (n + 1)) + end).encode())
        n += 1
    time.sleep(max(0.0, start + n / rate - time.monotonic(), 0.001))
"""
# The same pace into a file. A TensorBoard record is written as its format says: length, checksum, event, checksum.
ROWS = """
import os, struct, sys, time
from launcher.agent.tensorboard import masked_crc
path, header, row, rate, seconds = *sys.argv[1:4], float(sys.argv[4]), float(sys.argv[5])
path = path or os.environ["GPULAUNCH_METRICS_FILE"]
os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
events = "tfevents" in path

def record(n):
    value = bytes([10, 4]) + b"loss" + bytes([21]) + struct.pack("<f", 3 + 1 / (n + 1))
    summary = bytes([10, len(value)]) + value
    step = bytes([16, n & 127 | 128, n >> 7 & 127])
    event = bytes([9]) + struct.pack("<d", n) + step + bytes([42, len(summary)]) + summary
    size = struct.pack("<Q", len(event))
    return size + struct.pack("<I", masked_crc(size)) + event + struct.pack("<I", masked_crc(event))

with open(path, "ab", buffering=0) as file:
    if header:
        file.write(header.encode() + bytes([10]))
    start, n = time.monotonic(), 0
    while n < rate * seconds:
        due = min(int((time.monotonic() - start) * rate) + 1, int(rate * seconds))
        while n < due:
            file.write(record(n) if events else row.format(n=n, loss=3 + 1 / (n + 1)).encode() + bytes([10]))
            n += 1
        time.sleep(max(0.0, start + n / rate - time.monotonic(), 0.001))
"""
STARTER = (
    "import json, sys; from launcher.agent.main import main; sys.exit(main(json.load(open(sys.argv[1])), sys.argv[2]))"
)


def orders(workdir: Path, stream: list[str]) -> dict[str, Any]:
    """Orders with a metric to watch, and hours of time."""
    return {
        "job": "benchmark",
        "name": "benchmark",
        "attempt": 1,
        "command": stream,
        "image": None,
        "env": {"PYTHONPATH": str(REPOSITORY)},
        "workdir": str(workdir),
        "soft_after_s": 36000.0,
        "hard_after_s": 36100.0,
        "soft_outcome": "budget_reached",
        "soft_reason": "BUDGET",
        "hard_at": None,
        "grace_s": 5.0,
        "stall": {"no_output_s": 600.0, "no_progress_s": 600.0},
        "metrics": {"format": "auto", "files": [], "regex": []},
        "early_stop": {
            "monitor": "val_loss",
            "mode": "min",
            "patience": 1_000_000_000,
            "min_delta": 0.001,
            "check_finite": True,
            "stopping_threshold": None,
            "divergence_threshold": None,
            "strict": False,
            "start_from_step": None,
            "baseline": None,
            "patience_usd": None,
        },
        "rate_usd_per_hour": "0.50",
        "spent_usd": "0",
        "cap_usd": "5",
        "checkpoints": None,
        "store": None,
        "heartbeat_s": 10.0,
        "ending": "exit",
    }


def follow(process: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Watch a process until it ends: CPU seconds, seconds, and the peak of its memory in MiB."""
    watched = psutil.Process(process.pid)
    start, cpu_s, peak = time.monotonic(), 0.0, 0
    while process.poll() is None:
        try:
            with watched.oneshot():
                times = watched.cpu_times()
                cpu_s, peak = times.user + times.system, max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    process.wait()
    return cpu_s, time.monotonic() - start, peak / (1 << 20)


def measure_agent(stream: list[str]) -> tuple[float, float, float, dict[str, Any]]:
    """Run the agent on the stream; CPU seconds, seconds, MiB, and its result."""
    with tempfile.TemporaryDirectory() as temporary:
        workdir, folder, path = (Path(temporary, name) for name in ("work", "machine", "orders.json"))
        workdir.mkdir()
        folder.mkdir()
        path.write_text(json.dumps(orders(workdir, stream)))
        argv = [sys.executable, "-c", STARTER, str(path), str(folder)]
        measured = follow(subprocess.Popen(argv, cwd=REPOSITORY))
        return *measured, json.loads((folder / "result.json").read_text())


def measure_cat(stream: list[str]) -> tuple[float, float, float]:
    """Run cat on the same stream."""
    with subprocess.Popen(stream, stdout=subprocess.PIPE) as source:
        return follow(subprocess.Popen(["cat"], stdin=source.stdout, stdout=subprocess.DEVNULL))


def measure(form: str, rate: float, seconds: float) -> bool:
    """Measure one format and print a row; whether the aim is met."""
    if form in FILES:
        child = [sys.executable, "-c", ROWS, *FILES[form], str(rate), str(seconds)]
        beside = "-"
    else:
        child = [sys.executable, "-c", STREAM, LINES[form], str(rate), str(seconds)]
        cat_cpu_s, cat_s, _ = measure_cat(child)
        beside = f"{cat_cpu_s / cat_s:.2%}"
    cpu_s, agent_s, mib, result = measure_agent(child)
    seen = ", ".join(result.get("metrics") or {}) or "none"
    print(
        f"{form:<14} {cpu_s / agent_s:>7.2%} {mib:>9.1f} {beside:>7}   {result['outcome']}; metrics: {seen}", flush=True
    )
    return cpu_s / agent_s * 100 < CPU_AIM_PERCENT and mib < MEMORY_AIM_MIB


def main() -> int:
    """Measure each format, and print them with the aim; the exit code is 1 when the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000, help="lines, rows or records a second")
    parser.add_argument("--seconds", type=float, default=20, help="how long the child prints or writes")
    parser.add_argument("--format", choices=("all", *FORMATS), default="all", help="what the training prints or writes")
    chosen = parser.parse_args()
    print(f"{chosen.rate:.0f} lines a second for {chosen.seconds:.0f} s; share of one core, peak memory, beside `cat`")
    print(f"{'format':<14} {'agent':>7} {'MiB':>9} {'cat':>7}   result")
    forms = FORMATS if chosen.format == "all" else (chosen.format,)
    met = [measure(form, chosen.rate, chosen.seconds) for form in forms]
    print(f"aim: under {CPU_AIM_PERCENT:.0f} % and {MEMORY_AIM_MIB:.0f} MiB at 1,000 lines a second, start included")
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
