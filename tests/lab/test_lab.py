"""A job's whole life: the installed command, an emulated EC2, and real machines in it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from boot_machine import wait_until

if TYPE_CHECKING:
    from lab_commands import LabCommands

pytestmark = pytest.mark.root


def ran(view: dict[str, Any]) -> bool:
    """Whether the bill is above nothing and not above the cap."""
    return Decimal(0) < Decimal(view["spend_usd"]) <= Decimal(view["cap_usd"])


def test_a_job_that_finishes(lab: LabCommands, capsys: pytest.CaptureFixture[str]) -> None:
    """From `up` to nothing left; what it saved comes home, and how long the machine lived on is told."""
    lab.job(10)
    plan = lab.up("--budget", "5").err
    follower = lab.start("logs", "job", "-f")
    instance = lab.cloud.instance()
    ended = instance.machine.root / "var/lib/gpulaunch/workspace/ended"
    wait_until(ended.exists, 120)
    exit_at = time.monotonic() - (time.time() - ended.stat().st_mtime)
    wait_until(lambda: instance.ended_at)
    view = lab.gone()
    files = lab.pulled()
    followed = lab.ended(follower)
    uploads_s = lab.cloud.uploads_s(exit_at)
    all_s = instance.ended_at - exit_at
    with capsys.disabled():
        print(
            f"\nfrom the container's exit to the machine's power-off: {all_s:.1f} s, "
            f"of which until the last upload was complete: {uploads_s:.1f} s"
        )

    assert ("finished", "EXIT_0") == (view["outcome"], view["reason"])
    assert ran(view)
    assert "workdir   2 files" in plan
    assert "backstop  armed" in plan
    assert files["checkpoint/state"] == "done\n"
    assert "started with: nothing" in files["output.log"]
    assert followed.out == files["output.log"]
    assert "From the store s3://" in followed.err
    assert '"outcome": "finished"' in files["result.json"]
    assert lab.cloud.aws.left() == []


def test_a_limit_is_kept_without_the_launching_computer(lab: LabCommands) -> None:
    """The guard is killed while the training runs: the machine ends itself; a guard that comes back sees it gone."""
    lab.job(10_000, max_duration="40s")
    lab.up("--budget", "5")
    instance = lab.cloud.instance()
    wait_until(lambda: instance.machine.state() == "running", 120)
    lab.kill_guard()
    wait_until(lambda: instance.ended_at, 120)
    before = lab.cloud.aws.left()
    lab.run("status")
    view = lab.gone()

    assert [each.split()[0] for each in before] == ["schedule"]
    assert ("duration_reached", "MAX_DURATION") == (view["outcome"], view["reason"])
    assert ran(view)
    assert lab.pulled()["checkpoint/state"] == "saved on SIGTERM\n"
    assert lab.cloud.aws.left() == []


@pytest.mark.skipif("long" not in os.environ.get("GPULAUNCH_LAB", ""), reason="it takes 8 minutes: make lab LAB=long")
@pytest.mark.timeout(900)
def test_the_cap_is_kept_without_the_launching_computer(lab: LabCommands) -> None:
    """The same with the smallest cap that is of any use."""
    lab.job(10_000, grace="5s")
    refused = lab.run("up", "--provider", "aws", "--region", "us-east-1", "--yes", "--detach", "--budget", "0.02")
    smallest = refused.err.partition("--budget ")[2].split()[0].rstrip(".")
    lab.up("--budget", smallest)
    instance = lab.cloud.instance()
    wait_until(lambda: instance.machine.state() == "running", 120)
    lab.kill_guard()
    wait_until(lambda: instance.ended_at, 800)
    lab.run("status")
    view = lab.gone()

    assert ("budget_reached", "CAP") == (view["outcome"], view["reason"])
    assert ran(view)
    assert lab.cloud.aws.left() == []


@pytest.mark.timeout(300)
def test_a_machine_whose_network_is_cut(lab: LabCommands) -> None:
    """It ends at its hard deadline, waiting for an answer until then; what it had saved before is in the store."""
    lab.job(10_000, max_duration="60s", grace="3s")
    lab.up("--budget", "5")
    instance = lab.cloud.instance()
    wait_until(lambda: lab.cloud.sent("manifest.json"), 120)
    instance.cut_the_network()
    wait_until(lambda: instance.ended_at, 200)
    view = lab.gone()

    assert ("duration_reached", "MAX_DURATION") == (view["outcome"], view["reason"])
    assert ran(view)
    assert lab.pulled()["checkpoint/state"].startswith("step ")
    assert lab.cloud.aws.left() == []


def test_a_machine_that_is_taken_back(lab: LabCommands) -> None:
    """The training saves, another machine goes on from there under the same cap, and one job is told of."""
    lab.job(60, resume=True, resources={"spot": True})
    lab.up("--budget", "5")
    first = lab.cloud.instance()
    wait_until(lambda: "step 5 " in first.machine.output(), 120)
    at = datetime.now(UTC) + timedelta(seconds=60)
    first.cable.say("spot", f'{{"action": "terminate", "time": "{at:%Y-%m-%dT%H:%M:%SZ}"}}')
    wait_until(lambda: first.ended_at, 120)
    second = lab.cloud.instance(2)
    view = lab.gone()
    files = lab.pulled()

    assert ("finished", "EXIT_0", 2) == (view["outcome"], view["reason"], view["attempt"])
    assert ran(view)
    assert first.machine.result()["reason"] == "SPOT_NOTICE"
    assert "started with: saved on SIGTERM" in second.machine.output()
    assert files["checkpoint/state"] == "done\n"
    assert lab.cloud.aws.left() == []
