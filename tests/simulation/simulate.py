"""`make simulate RUNS=… SEED=…`: many worlds, each from its seed; exits 1 when an invariant was broken.

RUNS is how many, SEED the first of them (default: from the clock), VERBOSE=1 prints the trace of each run.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import limits
from crashing_journal import empty_database
from runner import Result, run

BATCH = 50
SHOWN_VIOLATIONS = 20


def _batch(seeds: range) -> list[Result]:
    database = empty_database()
    return [run(seed, database=database) for seed in seeds]


def results(first_seed: int, runs: int, *, workers: int) -> Iterator[Result]:
    """The results of that many runs, in the order of their seeds."""
    seeds = range(first_seed, first_seed + runs)
    batches = [seeds[index : index + BATCH] for index in range(0, runs, BATCH)]
    if workers == 1:
        for batch in batches:
            yield from _batch(batch)
        return
    with multiprocessing.Pool(workers) as pool:
        for found in pool.imap(_batch, batches):
            yield from found


class Summary:
    """What many runs showed together."""

    def __init__(self) -> None:
        self.runs = self.jobs = self.refused = self.looks = self.steps = 0
        self.violations: list[Result] = []
        self.injected: Counter[str] = Counter()
        self.limits: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.worst = (Decimal(0), 0)
        self.usable: dict[str, list[float]] = {}

    def add(self, result: Result) -> None:
        """Count one run in."""
        self.runs += 1
        self.jobs += result.jobs
        self.refused += result.refused
        self.looks += result.looks
        self.steps += result.steps
        self.injected += result.injected
        self.limits += result.limits
        self.outcomes += result.outcomes
        self.worst = max(self.worst, (result.worst_share, result.seed))
        for shape, share in result.usable:
            self.usable.setdefault(shape, []).append(share)
        if result.violation is not None:
            self.violations.append(result)

    def lines(self) -> Iterator[str]:
        """The summary for the screen."""
        for result in self.violations[:SHOWN_VIOLATIONS]:
            yield f"seed {result.seed}: {result.violation}"
            yield f"    make simulate RUNS=1 SEED={result.seed} VERBOSE=1"
        yield f"{len(self.violations)} violations"
        yield f"{self.runs} runs, {self.jobs} jobs ({self.refused} refused), {self.looks} looks, {self.steps} checks"
        yield "faults injected: " + _counted(self.injected)
        yield "outcomes: " + _counted(self.outcomes)
        yield f"worst bill: {self.worst[0] * 100:.2f} % of its cap (seed {self.worst[1]})"
        for shape, shares in sorted(self.usable.items()):
            median = statistics.median(shares) * 100
            yield f"usable share on {shape}, on demand, $5: median {median:.2f} % of {len(shares)} runs"
        for name in limits.ALL:
            yield f"limit met by {self.limits[name]} machines: {name}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def main() -> int:
    """Run as the environment says."""
    runs = int(os.environ.get("RUNS") or 1000)
    first = int(os.environ.get("SEED") or time.time_ns() // 1_000_000 % 1_000_000_000)
    verbose = bool(os.environ.get("VERBOSE"))
    summary = Summary()
    print(f"seeds {first} to {first + runs - 1}", flush=True)
    started_s = time.monotonic()
    if verbose:
        for seed in range(first, first + runs):
            summary.add(run(seed, say=print))
    else:
        workers = min(os.cpu_count() or 1, -(-runs // BATCH))
        for result in results(first, runs, workers=workers):
            summary.add(result)
            if result.violation is not None and len(summary.violations) <= SHOWN_VIOLATIONS:
                print(f"seed {result.seed}: {result.violation}", flush=True)
    for line in summary.lines():
        print(line)
    print(f"{time.monotonic() - started_s:.0f} s")
    return 1 if summary.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
