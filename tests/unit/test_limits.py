"""Limits above one job: what a launch reserves, when it is freed, and who gets the last of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import ACCOUNT, START, make_job

from launcher.core.errors import Exit, NameInUse
from launcher.journal import Journal
from launcher.limits import Allowance, LimitReached, Usage, check, limits_json, lines, measure, month_of
from launcher.outcome import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TWENTY = Allowance(monthly_usd=Decimal(20), path="/home/me/config.yaml")
# Prints `ready`, waits for a line, and tries to launch; the name, the cap and the limit are arguments.
RACER = """
import sys
from decimal import Decimal
from pathlib import Path
from makers import START, make_job
from launcher.journal import Journal
from launcher.limits import Allowance, LimitReached
home, name, cap, limit, jobs = sys.argv[1:]
journal = Journal(Path(home))
allowance = Allowance(monthly_usd=Decimal(limit), jobs=int(jobs))
print("ready", flush=True)
sys.stdin.readline()
try:
    journal.add_job(make_job(name, cap_usd=Decimal(cap)), now=START, allowance=allowance)
    print("launched")
except LimitReached:
    print("refused")
"""


def used(spent: str = "0", reserved: str = "0", live: int = 0) -> Usage:
    """What jobs hold."""
    return Usage(month="2026-11", spent_usd=Decimal(spent), reserved_usd=Decimal(reserved), live_jobs=live)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    made = Journal(tmp_path / "home")
    yield made
    made.close()


def close(journal: Journal, name: str, spend: str) -> None:
    """The job is gone and has cost that much."""
    writer = journal.writer(ACCOUNT, 1)
    writer.close_job(journal.job(f"j-{name}"), now=START, spend_usd=Decimal(spend))


@pytest.mark.parametrize(
    ("at", "first", "after"),
    [
        (datetime(2026, 11, 21, 12, tzinfo=UTC), (2026, 11), (2026, 12)),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), (2026, 12), (2027, 1)),
        (datetime(2027, 1, 1, tzinfo=UTC), (2027, 1), (2027, 2)),
        (datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2))), (2026, 11), (2026, 12)),
    ],
)
def test_a_month_is_a_calendar_month_in_utc(at: datetime, first: tuple[int, int], after: tuple[int, int]) -> None:
    """Wherever the user is."""
    assert (datetime(*first, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC)) == month_of(at)


def test_a_live_job_holds_its_cap_and_a_gone_one_its_cost() -> None:
    """A job of another month counts only among the live ones."""
    october = START - timedelta(days=30)
    jobs = [
        make_job("a", cap_usd=Decimal(5)),
        make_job("b", cap_usd=Decimal(7), state=State.GONE, spend_usd=Decimal("1.25")),
        make_job("c", cap_usd=Decimal(2), state=State.DELETING),
        make_job("d", cap_usd=Decimal(9), created_at=october),
        make_job("e", cap_usd=Decimal(9), created_at=october, state=State.GONE, spend_usd=Decimal(8)),
    ]
    assert used(spent="1.25", reserved="7", live=3) == measure(jobs, START)


def test_a_cap_that_fits_exactly_is_allowed() -> None:
    """A limit is what may be spent, not what may not be reached."""
    check(TWENTY, used(spent="5", reserved="10"), Decimal(5))
    with pytest.raises(LimitReached):
        check(TWENTY, used(spent="5", reserved="10"), Decimal("5.000001"))


def test_no_limit_refuses_nothing() -> None:
    """Absent keys mean: not set."""
    check(Allowance(), used(spent="1000", reserved="1000", live=1000), Decimal(1000))
    assert [] == lines(Allowance(), used())


def test_the_refusal_says_what_is_left_and_what_to_do() -> None:
    """What is reserved, what is left, the command that shows it, and the file to change."""
    with pytest.raises(LimitReached) as caught:
        check(TWENTY, used(spent="2.5", reserved="14", live=3), Decimal(5))
    error = caught.value

    assert error.exit_code == Exit.UNAVAILABLE
    assert (
        error.what
        == "This job's cap is $5.00, and $3.50 is left of the $20.00 that limits.monthly_usd allows for 2026-11."
    )
    assert error.why == "Jobs of this month that are gone cost $2.50; live ones have reserved $14.00, their whole caps."
    assert error.fix == (
        "Launch with --budget 3.50 or less, or wait for a live job to end, which frees what it did not spend "
        "(`gpulaunch status`), or change limits.monthly_usd in /home/me/config.yaml."
    )


def test_what_is_left_is_never_rounded_up() -> None:
    """The budget that the refusal names is one that fits."""
    usage = used(spent="19.991")
    with pytest.raises(LimitReached, match=r"\$0\.00 is left") as caught:
        check(TWENTY, usage, Decimal("0.01"))

    assert caught.value.fix == "Change limits.monthly_usd in /home/me/config.yaml."


def test_a_limit_that_was_lowered_below_what_is_held_leaves_nothing() -> None:
    """What is left is not negative."""
    document = limits_json(TWENTY, used(spent="18", reserved="9", live=1), Decimal(1))
    assert {"left_usd": "0.00", "allowed": False} == {key: document[key] for key in ("left_usd", "allowed")}


def test_the_count_of_live_jobs_is_limited() -> None:
    """The refusal names the limit and the way out."""
    two = Allowance(jobs=2, path="/home/me/config.yaml")
    check(two, used(live=1), Decimal(5))
    with pytest.raises(LimitReached, match=r"2 jobs are live, and limits\.jobs is 2\.") as caught:
        check(two, used(live=2), Decimal(5))

    assert "gpulaunch down JOB" in caught.value.fix
    assert "/home/me/config.yaml" in caught.value.fix


def test_the_limits_are_shown_before_a_launch() -> None:
    """On the screen and as JSON."""
    allowance = Allowance(monthly_usd=Decimal(20), jobs=3)
    usage = used(spent="2.5", reserved="10", live=1)
    document: dict[str, Any] = {
        "month": "2026-11",
        "monthly_usd": "20.00",
        "spent_usd": "2.50",
        "reserved_usd": "10.00",
        "left_usd": "7.50",
        "jobs": 3,
        "live_jobs": 1,
        "allowed": True,
    }
    assert document == limits_json(allowance, usage, Decimal(5))
    assert lines(allowance, usage) == [
        "$7.50 left of $20.00 for 2026-11: $2.50 spent, $10.00 reserved by live jobs",
        "1 job is live of 3 that may be",
    ]


def test_a_launch_reserves_its_cap_until_the_job_is_gone(journal: Journal) -> None:
    """What it did not spend is free again; what it spent is not."""
    journal.add_job(make_job("a", cap_usd=Decimal(12)), now=START, allowance=TWENTY)
    later = make_job("b", cap_usd=Decimal(12))
    with pytest.raises(LimitReached):
        journal.add_job(later, now=START, allowance=TWENTY)
    assert used(reserved="12", live=1) == journal.usage(START)

    close(journal, "a", "3.5")
    assert used(spent="3.5") == journal.usage(START)
    journal.add_job(later, now=START, allowance=TWENTY)
    assert used(spent="3.5", reserved="12", live=1) == journal.usage(START)


def test_a_refused_launch_leaves_nothing(journal: Journal) -> None:
    """No job, no event, and its name is free."""
    with pytest.raises(LimitReached):
        journal.add_job(make_job("a", cap_usd=Decimal(21)), now=START, allowance=TWENTY)

    assert journal.jobs() == []
    assert journal.events("j-a") == []


def test_a_new_month_starts_empty(journal: Journal) -> None:
    """A job that lives on from the month before holds nothing of this one, but is still a live job."""
    journal.add_job(make_job("a", cap_usd=Decimal(20)), now=START, allowance=TWENTY)
    december = START.replace(month=12, day=1, hour=0)
    assert used(reserved="20", live=1) == journal.usage(december - timedelta(seconds=1))
    fresh = journal.usage(december)
    assert ("2026-12", Decimal(0), 1) == (fresh.month, fresh.held_usd, fresh.live_jobs)
    journal.add_job(make_job("b", cap_usd=Decimal(20), created_at=december), now=december, allowance=TWENTY)


def test_a_name_in_use_is_told_before_a_limit(journal: Journal) -> None:
    """A second `up` of the same job is a mistake, not a matter of money."""
    one = Allowance(jobs=1)
    journal.add_job(make_job("a"), now=START, allowance=one)
    with pytest.raises(NameInUse):
        journal.add_job(make_job("a", id="j-other"), now=START, allowance=one)


@pytest.mark.parametrize(("limit", "jobs", "fit"), [("12", "100", 2), ("1000", "3", 3)])
def test_launches_that_race_never_pass_a_limit(tmp_path: Path, limit: str, jobs: str, fit: int) -> None:
    """Processes that all saw room for one more: only as many get it as there is room for."""
    home = tmp_path / "home"
    Journal(home).close()
    path = [part for part in sys.path if part]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(home), f"r{number}", "5", limit, jobs],
            env={"PYTHONPATH": ":".join(path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        said = []
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert sorted(said) == ["launched"] * fit + ["refused"] * (6 - fit)
