"""What the agent costs while it follows a training: its share of one core, and its memory.

    python benchmarks/agent.py [--rate 1000] [--seconds 20] [--format generic]

A child prints so many lines a second, each with a write of its own, as an unbuffered training does. The real agent
follows it, reads metrics from it and applies an early stop that never comes. Beside it stands what it costs to read
the same stream and do nothing with it: `cat >/dev/null`.
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

FORMATS = {
    "generic": "step {n}/1000000 train_loss={loss:.4f} lr=3.0e-04 tokens_per_s=51234",
    "plain": "line {n}: nothing to see here, the training is only talking about its day",
    "hf": "{{'loss': '{loss:.4f}', 'grad_norm': '1.172', 'learning_rate': '4.8e-05', 'epoch': '0.{n:07d}'}}",
    "nanogpt": "iter {n}: loss {loss:.4f}, time 131.52ms, mfu 12.34%",
    "jsonl": '{{"step": {n}, "loss": {loss:.4f}, "lr": 0.0003}}',
    "bar": " 12%|#2        | {n}/1000000 [00:10<01:20,  6.10it/s]\r",
}
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
        "env": {},
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
            "patience": 5,
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


def main() -> int:
    """Measure both, and print them with the aim; the exit code is 1 when the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000, help="lines a second")
    parser.add_argument("--seconds", type=float, default=20, help="how long the child prints")
    parser.add_argument("--format", choices=FORMATS, default="generic", help="what a line looks like")
    chosen = parser.parse_args()
    stream = [sys.executable, "-c", STREAM, FORMATS[chosen.format], str(chosen.rate), str(chosen.seconds)]
    cat_cpu_s, cat_s, cat_mib = measure_cat(stream)
    cpu_s, agent_s, mib, result = measure_agent(stream)
    print(f"{chosen.rate:.0f} lines a second for {chosen.seconds:.0f} s, format {chosen.format}")
    print(f"  agent: {cpu_s / agent_s:7.2%} of a core ({cpu_s:.2f} s of {agent_s:.1f} s), peak {mib:.1f} MiB")
    print(f"  cat:   {cat_cpu_s / cat_s:7.2%} of a core ({cat_cpu_s:.2f} s of {cat_s:.1f} s), peak {cat_mib:.1f} MiB")
    print(f"  result: {result['outcome']}, {result['output_bytes']} bytes, notes {result['notes']}")
    print(f"  aim: under {CPU_AIM_PERCENT:.0f} % and {MEMORY_AIM_MIB:.0f} MiB, at 1,000 lines a second, start included")
    return 0 if cpu_s / agent_s * 100 < CPU_AIM_PERCENT and mib < MEMORY_AIM_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
