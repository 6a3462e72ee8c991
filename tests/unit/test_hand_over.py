"""A job that goes from one provider to another: each account's guard makes its own machines, under the one cap."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from makers import ACCOUNT, PROVIDER, make_job, make_offer, make_spec
from scripted import Bench, ScriptedProvider

from launcher.cli.follow import describe
from launcher.guard import Guard
from launcher.launch import thaw
from launcher.outcome import State
from providers.base import CapacityError, QuotaError

if TYPE_CHECKING:
    from pathlib import Path

    from launcher.records import Job

OTHER, OTHER_ACCOUNT = "gcp", "gcp/account-2"
HERE = make_offer("r1", "a", usd_per_hour="0.5")
THERE = make_offer("r9", "z", usd_per_hour="0.6", provider=OTHER)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A journal and a cloud."""
    return Bench(tmp_path)


def job_for_both(**changes: Any) -> Job:
    """A job that may run on either."""
    values = {
        "spec": make_spec(image="pytorch"),
        "offers": [HERE, THERE],
        "settings": {"profile": "a"},
        "elsewhere": {OTHER: {"account": OTHER_ACCOUNT, "settings": {"project": "p"}}},
    }
    return make_job(**(values | changes))


def others_guard(bench: Bench) -> tuple[Guard, ScriptedProvider]:
    """The guard of the other account, over a cloud of its own."""
    provider = ScriptedProvider(bench.clock, name=OTHER, account=OTHER_ACCOUNT)
    writer = bench.journal.writer(OTHER_ACCOUNT, 2)
    return Guard(writer, provider, bench.clock, launcher_alive=lambda job: True), provider


def refuse(error: Exception) -> Any:
    """A cloud that has no machine."""

    def script(call: str, subject: str) -> None:
        if call == "create":
            raise error

    return script


def test_a_provider_without_machines_hands_the_job_over(bench: Bench) -> None:
    """The next offer is another provider's: its account gets the job with its own settings, and its guard is told."""
    bench.provider.before = refuse(CapacityError("Nothing is free.", code="Full", next_scope="zone"))
    bench.add(job_for_both())
    bench.tick(3)

    job = bench.job
    assert (OTHER_ACCOUNT, OTHER, {"project": "p"}) == (job.account, job.provider, job.settings)
    assert {PROVIDER: {"account": ACCOUNT, "settings": {"profile": "a"}}} == job.elsewhere
    assert [OTHER_ACCOUNT] == bench.heard.accounts
    assert ("moved", {"from": PROVIDER, "to": OTHER}) in [
        (event.kind, event.data) for event in bench.journal.events(job.id)
    ]
    assert "going on with gcp: local has no machine for it" in [
        describe(event) for event in bench.journal.events(job.id)
    ]
    assert bench.guard.tick() is None


def test_the_other_guard_goes_on_with_the_same_job(bench: Bench) -> None:
    """Its machine is made with its own account, and counts on in the row of attempts."""
    bench.provider.before = refuse(QuotaError("None allowed.", code="Quota", next_scope="region"))
    bench.add(job_for_both())
    bench.tick(3)
    guard, provider = others_guard(bench)
    guard.tick()

    (box,) = provider.boxes.values()
    assert {} == bench.provider.boxes
    assert (OTHER_ACCOUNT, "j-tiny-2", {"project": "p", "container": "gpulaunch-j-tiny-2"}) == (
        box.intent.account,
        box.intent.token,
        box.intent.settings,
    )
    assert State.RUNNING == bench.job.state


def test_a_preempted_job_takes_what_is_left_of_its_cap_along(bench: Bench) -> None:
    """One cap for all providers: the second machine's deadline is computed without what the first has cost."""
    spec = make_spec(resume=True, image="pytorch")
    bench.add(job_for_both(spec=spec))
    bench.tick(2)
    bench.clock.advance(3600.0)
    bench.box.taken_at = bench.clock.now()
    bench.provider.before = refuse(CapacityError("Nothing is free.", code="Full", next_scope="provider"))
    bench.tick(3)
    spent_usd = bench.journal.attempts("j-tiny")[0].cost_usd(bench.clock.now())
    guard, provider = others_guard(bench)
    guard.tick()

    (box,) = provider.boxes.values()
    left_usd = 5 - spent_usd
    assert Decimal("0.5") <= spent_usd <= Decimal("0.51")
    assert box.intent.hard_after_s <= float(left_usd / Decimal("0.6")) * 3600
    assert box.intent.hard_after_s > float(left_usd / Decimal("0.6")) * 3600 - 10


def test_what_the_cap_buys_nothing_more_of_is_left_behind(bench: Bench) -> None:
    """A provider that is too dear for the cap is not asked again: the job does not go to and fro."""
    dear = make_offer("r1", "a", usd_per_hour="0.5", boot_s=50_000.0)
    bench.add(job_for_both(offers=[dear, THERE]))
    bench.tick()
    guard, provider = others_guard(bench)
    guard.tick()

    assert 1 == len(provider.boxes)
    assert [OTHER_ACCOUNT] == bench.heard.accounts


def test_a_job_with_a_machine_cannot_be_handed_over(bench: Bench) -> None:
    """Whoever made a machine sees it gone."""
    bench.started(offers=[HERE])

    with pytest.raises(ValueError, match="not seen gone"):
        bench.writer.hand_over(bench.job, bench.job, now=bench.clock.now())


def test_deadlines_follow_the_clouds_clock(bench: Bench) -> None:
    """This computer's clock is a minute ahead: the machine's own deadline is a time of the cloud's clock."""
    bench.provider.skew_s = 60.0
    bench.add()
    bench.tick()
    intent = thaw(bench.attempt)

    assert intent.created_at + timedelta(seconds=intent.hard_after_s - 60.0) == intent.hard_deadline
