"""What one guard costs: CPU for each look, memory, calls to the cloud, and how fast it ends many jobs at once.

    python benchmarks/guard.py [--large] [--profile]

The cloud is simulated in this process. Its own share of the CPU is measured apart and not counted as the guard's.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from launcher import boot
from launcher.agent import heartbeat
from launcher.core.clock import VirtualClock
from launcher.guard import Guard
from launcher.job import JobSpec, spec_to_json
from launcher.journal import Journal
from launcher.outcome import State
from launcher.records import Job
from providers.base import Intent, Machine, OfferRequest
from providers.simulated.cloud import SimulatedCloud
from providers.simulated.faults import ANY, Slow
from providers.simulated.offers import offers
from providers.simulated.provider import SimulatedProvider
from providers.simulated.script import Script
from providers.simulated.shapes import AWS

T = TypeVar("T")

LOOKS = 12
# One call to a cloud's API, over the internet.
CALL_S = 0.1
STORM_JOBS = 1000
OWNER = "owner-1"
AIM_MIB = 300


class MeteredProvider(SimulatedProvider):
    """The simulated provider, which counts the CPU that the cloud itself takes in this process."""

    cloud_s = 0.0

    def _metered(self, call: Callable[[], T]) -> T:
        started_s = time.process_time()
        try:
            return call()
        finally:
            self.cloud_s += time.process_time() - started_s

    def create(self, intent: Intent) -> Machine:
        """As the simulated provider does."""
        return self._metered(lambda: SimulatedProvider.create(self, intent))

    def get(self, machine_id: str) -> Machine:
        """As the simulated provider does."""
        return self._metered(lambda: SimulatedProvider.get(self, machine_id))

    def delete(self, machine_id: str) -> None:
        """As the simulated provider does."""
        return self._metered(lambda: SimulatedProvider.delete(self, machine_id))

    def heartbeat(self, machine_id: str) -> bytes:
        """As the simulated provider does."""
        return self._metered(lambda: SimulatedProvider.heartbeat(self, machine_id))

    def list(self, owner: str) -> list[Machine]:
        """As the simulated provider does."""
        return self._metered(lambda: SimulatedProvider.list(self, owner))


class Bench:
    """A journal on disk, a guard, and so many running jobs on a cloud without timers."""

    def __init__(self, home: Path, jobs: int, script: Script) -> None:
        self.clock = VirtualClock()
        self.cloud = SimulatedCloud(
            self.clock,
            shape=replace(AWS, timer=None),
            encode=heartbeat.encode,
            script=script,
            orders=lambda intent: json.loads(intent.boot_data),
        )
        self.provider = MeteredProvider(clock=self.clock, home="", settings={"cloud": self.cloud})
        self.journal = Journal(home)
        self._add_jobs(jobs)
        writer = self.journal.writer(self.provider.account, 1)
        self.guard = Guard(writer, self.provider, self.clock, launcher_alive=lambda _: True)

    def _add_jobs(self, jobs: int) -> None:
        found = offers(self.cloud, OfferRequest(gpu="T4", disk_gb=100, spot=False))
        text = msgspec.json.encode(found).decode()
        for number in range(jobs):
            name = f"job-{number}"
            spec = JobSpec(name=name, command=("train",), workdir="/work", path="/work/gpulaunch.yaml")
            job = Job(
                id=f"j-{number:06d}",
                name=name,
                account=self.provider.account,
                provider=self.provider.name,
                cap_usd=Decimal(5),
                spec=spec_to_json(spec),
                created_at=self.clock.now(),
                settings={},
                offers=text,
                owner=OWNER,
            )
            self.journal.add_job(job, now=job.created_at)

    def bring_up(self) -> None:
        """Let every job come to run."""
        while True:
            self.look()
            live = self.journal.live_attempts(self.provider.account)
            if live and all(attempt.state == State.RUNNING for attempt in live):
                return

    def look(self) -> None:
        """One look of the guard, at its usual distance from the last."""
        wait_s = self.guard.tick()
        assert wait_s is not None, "no job is live"
        self.clock.advance(wait_s)


def _light_boot_data(provider: str, orders: dict[str, Any], rest_url: object = "") -> bytes:
    del provider, rest_url
    return json.dumps(orders).encode()


def watching(jobs: int, *, profile: bool) -> dict[str, Any]:
    """CPU, memory and calls of a guard that watches that many running jobs."""
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home), jobs, Script(finishes_after_s=None))
        bench.bring_up()
        calls_before, cloud_before_s = Counter(bench.cloud.call_counts), bench.provider.cloud_s
        profiler = cProfile.Profile() if profile else None
        started_s = time.process_time()
        if profiler is not None:
            profiler.enable()
        for _ in range(LOOKS):
            bench.look()
        if profiler is not None:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(30)
        cpu_s = time.process_time() - started_s - (bench.provider.cloud_s - cloud_before_s)
        calls = bench.cloud.call_counts - calls_before
        bench.journal.close()
        return {
            "jobs": jobs,
            "cpu_ms_per_look": round(cpu_s / LOOKS * 1000, 2),
            "share_of_a_core": round(cpu_s / LOOKS / bench.provider.poll_s, 4),
            "rss_mib": round(psutil.Process().memory_info().rss / 2**20, 1),
            "calls_per_look": {name: round(count / LOOKS, 2) for name, count in sorted(calls.items())},
        }


def storm(jobs: int) -> dict[str, Any]:
    """How long it takes until all of so many jobs that meet their cap in the same second were ordered destroyed."""
    with tempfile.TemporaryDirectory() as home:
        bench = Bench(Path(home), jobs, Script(finishes_after_s=None, agent_dies_after_s=1e9))
        bench.bring_up()
        live = bench.journal.live_attempts(bench.provider.account)
        due_s = bench.clock.monotonic() + live[0].hard_after_s - live[0].age_s(bench.clock.now())
        for machine in bench.cloud.existing():
            bench.cloud.kill_agent(machine.id)
        bench.clock.advance(due_s - bench.clock.monotonic())
        bench.cloud.faults.rate(ANY, Slow(CALL_S), 1.0)
        deletes_before, cloud_before_s = bench.cloud.call_counts["delete"], bench.provider.cloud_s
        started_s = time.process_time()
        bench.guard.tick()
        cpu_s = time.process_time() - started_s - (bench.provider.cloud_s - cloud_before_s)
        asked = bench.cloud.call_counts["delete"] - deletes_before
        bench.journal.close()
        return {
            "jobs": jobs,
            "asked_in_the_first_look": asked,
            "guard_cpu_s": round(cpu_s, 2),
            "seconds_at_100_ms_a_call": round(bench.clock.monotonic() - due_s, 1),
        }


def main() -> int:
    """Measure and print, one JSON document in each line."""
    boot.build = _light_boot_data  # packing boot data is no part of watching
    sizes = [1, 100, 1000, *([10_000] if "--large" in sys.argv else [])]
    for jobs in sizes:
        print(
            json.dumps({"watching": watching(jobs, profile="--profile" in sys.argv and jobs == sizes[-1])}), flush=True
        )
    print(json.dumps({"storm": storm(STORM_JOBS)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
