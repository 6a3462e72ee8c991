"""kill -9 between every two calls of a life with all that it can have: a group of its own, and a timer."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest
from aws_commands import AwsCommands
from aws_lab import ROLE, open_default_group

if TYPE_CHECKING:
    from pathlib import Path

    from aws_cloud import AwsCloud

AT_ONCE = 3
LIFE = (
    ("GetCallerIdentity", 1),  # the guard's own; the first one was `up`'s
    ("CreateSecurityGroup", 0),
    ("RunInstances", 0),
    ("CreateTags", 0),
    ("CreateSchedule", 0),
    ("DescribeInstances", 0),
    ("TerminateInstances", 0),
    ("DescribeVolumes", 0),
    ("DeleteSecurityGroup", 0),
    ("DeleteSchedule", 0),
)
"""Every call of a guard that makes a difference, in order: it is killed when the call was carried out, unanswered."""


def one_death(folder: Path, cloud: AwsCloud, number: int) -> None:
    """One life, whose guard is killed after one of its calls."""
    action, skip = LIFE[number]
    lab = AwsCommands(folder, cloud, key=f"K{number}")
    lab.configure(f"aws: {{scheduler_role_arn: '{ROLE}'}}\n")
    killed: list[int] = []

    def kill() -> None:
        for guard in lab.guards():
            with contextlib.suppress(psutil.NoSuchProcess):
                guard.kill()
                killed.append(guard.pid)

    cloud.fault(action, lost="reply", key=lab.key, skip=skip, times=1, does=kill)
    try:
        lab.up()
        status = lab.run("status", "--json")
        lab.down()
        where = f"killed at {action}"
        assert killed, f"{where}: nobody was"
        assert (0, "") == (status.code, status.err), where
        assert ["gone"] == [view["state"] for view in lab.views()], where
        mine = {
            call.params["ClientToken"] for call in cloud.calls if call.key == lab.key and call.action == "RunInstances"
        }
        assert 1 == len(mine), where
    finally:
        left = lab.clean_up()
    assert [] == left, f"killed at {action}: {left}"


@pytest.mark.timeout(300)
def test_the_guard_may_be_killed_between_every_two_calls(cloud: AwsCloud, tmp_path: Path) -> None:
    """The next command goes on from the journal; then there is nothing left in the cloud, and there was one machine."""
    open_default_group(cloud)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: one_death(tmp_path / str(number), cloud, number), range(len(LIFE))))

    assert [] == cloud.left()
