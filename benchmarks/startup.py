"""How fast commands start, against a Python that does nothing.

    python benchmarks/startup.py [--runs 25] [--jobs 1000]

Runs `gpulaunch --help`, `gpulaunch --version` and `gpulaunch status`, the latter with a journal of past jobs, and
`python -c pass`. They take turns, so that whatever else the computer does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from launcher import launch
from launcher.core.clock import SystemClock
from launcher.job import load_job, spec_to_json
from launcher.journal import Journal
from launcher.outcome import State
from launcher.plan import make_plan
from launcher.records import Job
from providers import registry
from providers.base import OfferRequest

SCRIPT = Path(sys.executable).with_name("gpulaunch")
BARE = "python -c pass"
# Milliseconds over a bare Python.
AIMS_MS = {"gpulaunch --help": 60.0, "gpulaunch --version": 60.0, "gpulaunch status": 100.0}
BETWEEN_JOBS = timedelta(minutes=10)


def write_jobs(home: Path, count: int) -> None:
    """A journal of so many jobs that have ended, each with one machine; the youngest of them within a day."""
    job_file = home / "gpulaunch.yaml"
    job_file.write_text("name: past\ncommand: [python, train.py]\nbudget: 5\n", encoding="utf-8")
    spec = load_job(job_file)
    provider = registry.load("local", clock=SystemClock(), home=str(home), settings={})
    offers = provider.offers(OfferRequest(gpu=None, disk_gb=100, spot=False))
    cap_usd = spec.budget_usd
    assert cap_usd is not None, "the job above has a budget"
    plan = make_plan(spec, offers, provider, backstop=provider.preflight(), cap_usd=cap_usd)
    journal = Journal(home)
    writer = journal.writer(provider.account, os.getpid())
    now = SystemClock().now()
    first = Job(
        id="j-0",
        name="past",
        account=provider.account,
        provider="local",
        cap_usd=cap_usd,
        spec=spec_to_json(spec),
        created_at=now,
    )
    frozen = launch.freeze(first, spec, plan, provider, number=1, owner="me", spent_usd=first.cap_usd * 0, now=now)
    for number in range(count):
        at = now - (count - number) * BETWEEN_JOBS
        job = replace(first, id=f"j-{number:010x}", created_at=at, outcome="finished", reason="EXIT_0", exit_code=0)
        ended = replace(
            frozen,
            job=job.id,
            token=f"{job.id}-1",
            state=State.GONE,
            create_called=True,
            confirmed=True,
            created_at=at,
            started_at=at,
            ended_at=at + BETWEEN_JOBS / 2,
            billed_s=BETWEEN_JOBS.total_seconds() / 2,
            outcome="finished",
            reason="EXIT_0",
            beat={"state": "ended", "metrics": {"val_loss": {"value": 2.5, "step": 400}}},
        )
        journal.add_job(job, now=at)
        writer.save(ended, now=at, kind="gone")
        writer.close_job(job, now=ended.ended_at or at, spend_usd=ended.cost_usd(now))
    journal.close()


def one_ms(argv: list[str], env: dict[str, str]) -> float:
    """Milliseconds of wall time for one run. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    subprocess.run(argv, env=env, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return (time.perf_counter() - began) * 1000


def measure(commands: dict[str, list[str]], env: dict[str, str], runs: int) -> dict[str, list[float]]:
    """The times of each command, run in turns; the first turn, which reads the disk, is not counted."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, argv in commands.items():
            took_ms = one_ms(argv, env)
            if turn:
                times[name].append(took_ms)
    return times


def report(times: dict[str, list[float]], jobs: int) -> bool:
    """Print the medians; whether every aim is met."""
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    runs = len(times[BARE])
    print(f"median of {runs} runs each, in turns; `status` over {jobs} past jobs")
    print(f"{'':22}{'ms':>8}{'min':>8}{'over bare':>11}{'aim':>8}")
    met = True
    for name, median in medians.items():
        over_ms, aim_ms = median - medians[BARE], AIMS_MS.get(name)
        line = f"{name:22}{median:8.1f}{min(times[name]):8.1f}"
        if aim_ms is not None:
            met = met and over_ms <= aim_ms
            line += f"{over_ms:11.1f}{aim_ms:8.0f}  {'met' if over_ms <= aim_ms else 'MISSED'}"
        print(line)
    return met


def main() -> int:
    """Measure and print; exit status 1 when an aim is missed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=25, help="runs of each command (default 25)")
    options.add_argument("--jobs", type=int, default=1000, help="past jobs in the journal (default 1000)")
    chosen = options.parse_args()
    commands = {
        BARE: [sys.executable, "-c", "pass"],
        "gpulaunch --help": [str(SCRIPT), "--help"],
        "gpulaunch --version": [str(SCRIPT), "--version"],
        "gpulaunch status": [str(SCRIPT), "status"],
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_jobs(home, chosen.jobs)
        met = report(measure(commands, {**os.environ, "GPULAUNCH_HOME": folder}, chosen.runs), chosen.jobs)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
