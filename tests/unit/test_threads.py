"""What the journal and the caches hold is read for the first time from several threads at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
RACE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
sys.setswitchinterval(1e-6)
from makers import make_attempt, make_job, make_offer, make_spec
from report_makers import made
from launcher.creation import offers_of
from launcher.job import spec_from_json, spec_to_json
from launcher.launch import thaw
from providers.prices.live import read_cached
job, attempt, spec = make_job(), made(), spec_to_json(make_spec(image="x"))
rows = b'{"source":"s","saved_at":"2026-11-21T12:00:00Z","rows":[]}'
read = {"spec": lambda: spec_from_json(spec), "intent": lambda: thaw(attempt), "offers": lambda: offers_of(job),
        "prices": lambda: read_cached(rows)}[sys.argv[2]]
go = threading.Barrier(8)
def work():
    go.wait()
    for _ in range(50):
        read()
threads = [threading.Thread(target=work) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
"""
TRIES = 4


@pytest.mark.parametrize("what", ["spec", "intent", "offers", "prices"])
def test_a_first_read_from_many_threads_crashes_nothing(what: str) -> None:
    """Msgspec 0.22 builds what it knows of a type at the first use, and a second thread then reads it half-built."""
    for _ in range(TRIES):
        done = subprocess.run([sys.executable, "-c", RACE, str(HERE), what], capture_output=True, text=True, timeout=60)
        assert (0, "") == (done.returncode, done.stderr)
