"""What went wrong in other tools, and must not here: prices, bills and limits, and looking at them.

Each test has the name of the report that it comes from.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import ACCOUNT, START, make_attempt, make_job, make_offer, make_spec
from scripted import Bench, ScriptedProvider
from test_lessons import Rented

from launcher import guard_process
from launcher.cli import status as command
from launcher.core.clock import VirtualClock
from launcher.core.errors import Exit
from launcher.journal import Journal
from launcher.limits import Allowance, LimitReached
from launcher.outcome import State
from launcher.plan import make_plan
from launcher.views import job_view
from providers import registry
from providers.base import Backstop, CapacityError, Offer, RatePart
from providers.simulated.script import Script
from providers.simulated.shapes import AWS

if TYPE_CHECKING:
    from pathlib import Path

MONTH = timedelta(days=30)
SDKS = ("azure", "boto3", "botocore", "google", "obstore")


def with_disk(offer: Offer, usd_per_hour: str) -> Offer:
    """The same machine, and a disk that bills as long as it exists."""
    usd = Decimal(usd_per_hour)
    disk = RatePart(name="disk", worst_usd_per_hour=usd, expected_usd_per_hour=usd, source="a test", standing=True)
    return make_offer(offer.region, offer.zone, usd_per_hour=str(offer.rate_usd_per_hour), parts=(*offer.parts, disk))


def plan_of(*offers: Offer) -> Any:
    """The plan of a five-dollar job."""
    provider = ScriptedProvider(VirtualClock())
    timer = Backstop(armed=True, what="a timer")
    return make_plan(make_spec(), offers, provider, backstop=timer, cap_usd=Decimal(5))


def test_dstack_1553_disk_not_counted(tmp_path: Path) -> None:
    """$0.049 was shown and $4.54 was real; here the disk is in the rate, the deadline, the ranking and the bill."""
    bare = make_offer(usd_per_hour="0.049")
    whole = with_disk(bare, "4.491")
    shown, real = plan_of(bare), plan_of(whole)
    assert Decimal("4.54") == real.rate_usd_per_hour
    assert real.deadlines.hard_after_s < shown.deadlines.hard_after_s / 90
    assert "r2" == plan_of(whole, make_offer("r2", usd_per_hour="1")).offer.region

    bench = Bench(tmp_path, deadlines_held=False)
    bench.add(make_job(offers=[whole]))
    bench.run()
    real_usd = bench.provider.cost_usd()
    assert Decimal("4.90") < real_usd <= bench.job.cap_usd
    assert real_usd <= bench.spend_usd()


def test_dstack_1886_1890_provisioned_above_the_shown_price(tmp_path: Path) -> None:
    """A bid was eight times the shown price; here the worst price is the rate, and above it nothing is had or paid."""
    rented = Rented(tmp_path, AWS, Script(finishes_after_s=None))
    rented.launch(spot=True)
    rented.reach(State.RUNNING)
    machine, attempt = rented.machine(), rented.attempt()
    offer = machine.intent.offer
    assert machine.bid == offer.parts[0].worst_usd_per_hour < offer.expected_usd_per_hour * 2
    assert attempt.rate_usd_per_hour == offer.rate_usd_per_hour > offer.expected_usd_per_hour
    rented.cloud.fix_spot_price(offer.region, offer.zone, offer.expected_usd_per_hour * 8)
    rented.run()
    hours = Decimal(str(machine.gone_s - machine.created_s + 1)) / 3600
    assert ("preempted", True) == (rented.job().outcome, rented.cloud.bill() <= hours * attempt.rate_usd_per_hour)

    rented.launch("next", spot=True)
    planned = json.loads(rented.job("next").offers)[0]
    worst = Decimal(planned["parts"][0]["worst_usd_per_hour"])
    rented.cloud.fix_spot_price(planned["region"], planned["zone"], worst * 8)
    rented.reach(State.RUNNING, "next")
    refused, taken = rented.journal.attempts("j-next")
    assert ("CapacityError", planned["zone"]) == (refused.error_kind, refused.zone)
    assert (False, True) == (refused.create_called, taken.zone != planned["zone"])


def test_skypilot_1751_1645_cost_of_what_never_ran_and_after_stop(tmp_path: Path) -> None:
    """Cost was counted for machines that never were, and after their end; here only from billing's start to its end."""
    never = Bench(tmp_path / "never")

    def full(call: str, subject: str) -> None:
        if call == "create":
            raise CapacityError("Full.", next_scope="zone")

    never.provider.before = full
    never.add(make_job(offers=[make_offer("r1", "a"), make_offer("r1", "b")]))
    never.run()
    attempts = never.journal.attempts("j-tiny")
    view = job_view(never.job, attempts, never.clock.now() + MONTH)
    assert (2, "0.00", True) == (len(attempts), view["spend_usd"], view["spend_confirmed"])

    ended = Bench(tmp_path / "ended", training_s=600.0)
    ended.add(make_job(offers=[with_disk(make_offer(), "1")]))
    ended.run()
    view = job_view(ended.job, [ended.attempt], ended.clock.now() + MONTH)
    real_usd = ended.provider.cost_usd()
    assert real_usd <= Decimal(view["spend_usd"]) < real_usd + Decimal("0.01")


def test_skypilot_3967_3754_status_demands_a_cloud_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], socket_disabled: None
) -> None:
    """`status` failed without a cloud login; here it reads the journal, opens no socket and needs no SDK."""
    monkeypatch.setenv("GPULAUNCH_HOME", str(tmp_path))
    journal = Journal(tmp_path)
    journal.add_job(make_job(account="aws/123456789012/default/-", provider="aws"), now=START)
    writer = journal.writer("aws/123456789012/default/-", 1)
    running = make_attempt(account=writer.account, provider="aws", create_called=True, machine_id="i-1")
    writer.save(running, now=START)
    journal.close()
    opened = []
    real = command.open_state_if_any
    monkeypatch.setattr(command, "open_state_if_any", lambda: opened.append(real()) or opened[0])
    monkeypatch.setattr(guard_process, "guard_lives", lambda home, account: True)
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("no provider is needed"))
    for name in [name for name in sys.modules if name.partition(".")[0] in SDKS]:
        monkeypatch.delitem(sys.modules, name)
    for name in SDKS:
        monkeypatch.setitem(sys.modules, name, None)

    code = command.status.main(["--json"], standalone_mode=False)
    opened[0].journal.close()

    (view,) = json.loads(capsys.readouterr().out)
    assert (Exit.OK, "tiny", "aws", "i-1") == (code, view["name"], view["provider"], view["machine_id"])


def test_skypilot_7837_8766_cloudexec_30_cloudos_cli_57_dollar_limits(tmp_path: Path) -> None:
    """Users asked in vain for limits in dollars; here a job has its cap, and a month and the number of jobs theirs."""
    bench = Bench(tmp_path, training_s=600.0)
    allowed = Allowance(monthly_usd=Decimal(12), jobs=2)

    def launch(name: str) -> None:
        now = bench.clock.now()
        bench.journal.add_job(make_job(name, created_at=now), now=now, allowance=allowed)

    launch("a")
    launch("b")
    with pytest.raises(LimitReached, match=r"limits\.jobs is 2"):
        launch("c")
    bench.run()
    assert {True} == {job.spend_usd is not None and job.spend_usd < job.cap_usd for job in bench.journal.jobs()}

    launch("c")  # what a and b did not spend is free again
    launch("d")
    bench.provider.training_s = None
    bench.run()
    assert {"budget_reached"} == {bench.journal.find(name).outcome for name in "cd"}
    with pytest.raises(LimitReached, match=r"limits\.monthly_usd"):
        launch("e")
    assert ACCOUNT == bench.job.account
    assert sum((job.spend_usd or Decimal(0) for job in bench.journal.jobs()), Decimal(0)) <= Decimal(12)
