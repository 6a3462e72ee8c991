"""kill -9 at every effect of a creation: the next command adopts or destroys what was made."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from pathlib import Path

import pytest
from command_lab import BOUND_S, PRICE_PER_HOUR, Lab, spent, wait_until

DRIVER = Path(__file__).with_name("crash_at.py")
AT_ONCE = 4
MOST_EFFECTS = 300


def crash(lab: Lab, command: str, fatal: int) -> int | None:
    """Run a command that dies before its effect number `fatal`; how many effects it had, if it had fewer."""
    counted = lab.user / "count"
    driver = subprocess.run(
        [sys.executable, str(DRIVER), str(fatal), str(counted), command, "--budget", "0.05", "--yes", "--detach"],
        cwd=lab.work,
        env=lab.env,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert "Traceback" not in driver.stderr, driver.stderr
    if counted.exists():
        assert driver.returncode == 0, driver.stderr
        return int(counted.read_text())
    assert driver.returncode == -signal.SIGKILL, driver.stderr
    return None


def assert_next_commands_put_it_right(lab: Lab) -> None:
    """`status` works whatever was left; `down` ends what lives; then there is no process, and no live job."""
    looked = lab.run("status", "--all", "--json")
    assert (looked.code, looked.err) == (0, "")
    if lab.live():
        lab.down()
    wait_until(lambda: not lab.processes(), "every process to end", bound_s=20.0)
    views = lab.run("status", "--all", "--json").document
    assert [view["state"] for view in views] in ([], ["gone"])
    assert len(lab.machines()) <= 1
    for machine in lab.machines():
        if (machine / "ended.json").exists():
            billed_s = Decimal(str(json.loads((machine / "ended.json").read_text())["billed_s"]))
            assert spent(views[0]) >= billed_s * Decimal(PRICE_PER_HOUR) / 3600, "the ledger understates"
        if (machine / "result.json").exists() and '"outcome": "finished"' in (machine / "result.json").read_text():
            assert views[0]["outcome"] == "finished", "a training that has finished is told as such"
    if lab.home.exists() and (lab.home / "journal.db").exists():
        with sqlite3.connect(lab.home / "journal.db") as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()


def one_crash(folder: Path, command: str, job: list[str], fatal: int) -> int | None:
    """One walk's step, in a home of its own."""
    lab = Lab(folder)
    lab.write_job(job)
    try:
        effects = crash(lab, command, fatal)
        assert_next_commands_put_it_right(lab)
    except AssertionError as error:
        raise AssertionError(f"killed before effect {fatal} of {command}: {error}") from error
    finally:
        left = lab.clean_up()
    assert left == [], f"killed before effect {fatal} of {command}: {left}"
    return effects


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("command", "job", "least"), [("up", ["sleep", "600"], 15), ("guard", ["true"], 30)])
def test_a_creation_may_be_killed_at_any_effect(tmp_path: Path, command: str, job: list[str], least: int) -> None:
    """Every effect of `up` until it returns, and every effect of a guard from its start to the job's end."""
    effects = None
    numbers = count(1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while effects is None:
            batch = [next(numbers) for _ in range(AT_ONCE)]
            steps = [pool.submit(one_crash, tmp_path / f"{number}", command, job, number) for number in batch]
            effects = next((found for step in steps if (found := step.result()) is not None), None)
            assert batch[-1] < MOST_EFFECTS, "the command's effects have no end"

    assert least <= effects < MOST_EFFECTS
