"""The installed command against AWS in small: launch, failover, kill -9 anywhere, and nothing left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_commands import IN_ONE_REGION, UP, AwsCommands
from command_lab import wait_until

from launcher.core.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aws_cloud import AwsCloud

CALLS_OF_UP = (
    "sts:GetCallerIdentity",
    "ec2:DescribeRegions",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeSubnets",
    "ec2:DescribeSecurityGroups",
    "sts:GetCallerIdentity",  # the guard's, which is a process of its own
    "ec2:RunInstances",
)
"""All of them, for the first launch in one region: a call more is a right and a delay more."""


@pytest.fixture
def lab(cloud: AwsCloud, tmp_path: Path) -> Iterator[AwsCommands]:
    """One place to run commands in; nothing may be left of it, here or in the cloud."""
    made = AwsCommands(tmp_path / "lab", cloud)
    yield made
    cloud.faults.clear()
    assert [] == made.clean_up()
    assert [] == cloud.left()


def test_a_job_from_up_to_nothing_left(lab: AwsCommands) -> None:
    """One RunInstances that is safe by itself; a name is used once; `down` sees all of it gone."""
    done = lab.up()
    called = [call.name for call in lab.cloud.calls]
    view = lab.status()
    second = lab.run(*IN_ONE_REGION)
    ec2 = boto3.client("ec2", region_name="us-east-1", endpoint_url=lab.cloud.endpoint, **_keys())
    [row] = [
        row
        for reservation in ec2.describe_instances()["Reservations"]
        for row in reservation["Instances"]
        if row["State"]["Name"] != "terminated"
    ]
    shutdown = ec2.describe_instance_attribute(
        InstanceId=row["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    [volume] = ec2.describe_volumes()["Volumes"]
    lab.down()

    until_made = called[: called.index("ec2:RunInstances") + 1]
    assert sorted(CALLS_OF_UP) == sorted(until_made)
    assert f"accepted: us-east-1/{row['InstanceId']}" in done.err
    assert ("booting", "aws", "us-east-1") == (view["state"], view["provider"], view["region"])
    assert (Exit.USAGE, True) == (second.code, "job" in second.err)
    assert "terminate" == shutdown["InstanceInitiatedShutdownBehavior"]["Value"]
    assert ("required", 1) == tuple(row["MetadataOptions"][k] for k in ("HttpTokens", "HttpPutResponseHopLimit"))
    assert ("gp3", True) == (volume["VolumeType"], row["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"])
    tags = {tag["Key"] for tag in row["Tags"]} & {tag["Key"] for tag in volume["Tags"]}
    wanted = {"job", "attempt", "owner", "cap-microusd", "deadline"}
    assert {f"gpulaunch-{each}" for each in wanted} <= tags
    assert 16_384 >= len(lab.cloud.user_data(row["InstanceId"]))
    assert ["ec2:RunInstances", "ec2:TerminateInstances"] == lab.made()
    assert "NOT ARMED: terminate-on-shutdown" in done.err
    assert "gpulaunch init aws --apply" in done.err


def test_what_init_makes_is_used(lab: AwsCommands) -> None:
    """The timer is then armed with the machine, and removed after it."""
    document = lab.run("init", "aws")
    nothing = lab.made()
    assert (0, 0) == (document.code, lab.run("init", "aws", "--apply").code)
    done = lab.up()
    armed = len(lab.cloud.schedules())
    lab.down()

    assert ([], 1) == (nothing, armed)
    assert "AWSTemplateFormatVersion" in document.document
    assert "backstop  armed" in done.err
    assert ["ec2:RunInstances", "scheduler:CreateSchedule"] == [
        name for name in lab.made() if name[:3] in ("ec2", "sch")
    ][:2]


def test_no_capacity_in_two_regions_leads_to_the_third(lab: AwsCommands) -> None:
    """Zone by zone, region by region, in the order of the rate, one call each; and the output says why."""
    for region in ("us-east-1", "us-east-2"):
        lab.cloud.fault("RunInstances", "InsufficientInstanceCapacity", status=500, region=region)
    done = lab.up(how=UP)
    called = [(call.name, call.region) for call in lab.cloud.calls]
    tried = called[called.index(("ec2:RunInstances", "us-east-1")) :][:9]
    view = lab.status()
    lab.down()

    assert [("ec2:RunInstances", region) for region in [*["us-east-1"] * 5, *["us-east-2"] * 3, "us-west-2"]] == tried
    assert "us-west-2" == view["region"]
    assert "There is no g4dn.xlarge (on demand) in use1-az1, us-east-1: InsufficientInstanceCapacity." in done.err
    assert "There is no g4dn.xlarge (on demand) in use2-az1, us-east-2: InsufficientInstanceCapacity." in done.err


def test_an_instance_that_ends_while_it_starts_is_followed_by_the_next_zone(lab: AwsCommands) -> None:
    """EC2 had accepted it, and had no capacity after all; the attached command says so, and goes on."""
    up = lab.start(*(word for word in UP if word != "--detach"))
    first = lab.await_state("booting")
    lab.cloud.fail_to_start(*lab.cloud.alive(), "Server.InsufficientInstanceCapacity")
    wait_until(lambda: lab.status()["attempt"] == 2 and lab.status()["state"] == "booting", "the next machine")
    second = lab.status()
    lab.down()
    done = lab.ended(up)
    zones = [call.params["NetworkInterface.1.SubnetId"] for call in lab.cloud.calls if call.action == "RunInstances"]

    assert first["machine_id"] != second["machine_id"]
    assert len(set(zones)) == len(zones) == 2
    assert "it never ran: There was not enough capacity to start the machine." in done.err
    assert Exit.CANCELLED == done.code


def test_a_quota_that_is_used_up_is_named(lab: AwsCommands) -> None:
    """Which one, its code, and where to ask for more."""
    lab.cloud.fault("RunInstances", "VcpuLimitExceeded")
    done = lab.up(code=Exit.UNAVAILABLE)

    assert "'Running On-Demand G and VT instances' (L-DB2E81BA) of us-east-1 is used up" in done.err
    assert "servicequotas/home/services/ec2/quotas/L-DB2E81BA" in done.err
    assert ["ec2:RunInstances"] == lab.made()


def test_a_lost_reply_is_settled_by_the_same_token(lab: AwsCommands) -> None:
    """One machine, and no orphan."""
    lab.cloud.fault("RunInstances", lost="reply", times=1)
    lab.up()
    tokens = {call.params["ClientToken"] for call in lab.cloud.calls if call.action == "RunInstances"}
    alive = lab.cloud.alive()
    lab.down()

    assert ["ec2:RunInstances", "ec2:RunInstances"] == lab.made()[:2]
    assert (1, 1) == (len(tokens), len(alive))


def test_wrong_keys_are_said_at_once(lab: AwsCommands) -> None:
    """Before a plan is made; with the way out."""
    lab.env["AWS_ACCESS_KEY_ID"] = "WRONG"
    done = lab.up(code=Exit.CREDENTIALS)

    assert "InvalidClientTokenId" in done.err
    assert "aws configure" in done.err


def test_an_endpoint_that_is_down_is_said(lab: AwsCommands) -> None:
    """A clear error in bounded time, and nothing was made."""
    lab.env["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    done = lab.up(code=Exit.UNAVAILABLE)

    assert "EndpointConnectionError" in done.err
    assert "Check the network" in done.err


def test_a_cloud_that_falls_silent_takes_nothing_with_it(lab: AwsCommands) -> None:
    """What cannot be asked for is not gone; when the cloud is back, it is ended as ordered."""
    lab.up()
    lab.cloud.fault("", lost="request")
    done = lab.start("down", "job", "--yes")
    wait_until(
        lambda: lab.views()[0]["trouble"] and lab.views()[0]["state"] == "deleting", "the trouble with it to be told"
    )
    state = lab.views()[0]["state"]
    alive = lab.cloud.alive()
    lab.cloud.faults.clear()

    assert ("deleting", 1) == (state, len(alive))
    assert 0 == lab.ended(done).code
    assert ["gone"] == [view["state"] for view in lab.views()]


def test_a_sweep_asks_only_the_regions_that_are_named(lab: AwsCommands) -> None:
    """An account may be forbidden the others; without the option that is told, since something may be there."""
    lab.up()
    lab.cloud.fault("DescribeInstances", "UnauthorizedOperation", status=403, region="eu-west-1")
    everywhere = lab.run("sweep", "--provider", "aws", "--dry-run", "--json")
    named = lab.run("sweep", "--provider", "aws", "--region", "us-east-1", "--dry-run", "--json")
    lab.cloud.faults.clear()
    lab.down()

    assert Exit.CREDENTIALS == everywhere.code
    assert "DescribeInstances in eu-west-1 failed" in everywhere.err
    assert (0, 1) == (named.code, len(named.document)), named.err


def use_profiles(lab: AwsCommands) -> None:
    """Two profiles, a and b, and no variables."""
    (lab.user / ".aws").mkdir()
    profiles = "".join(f"[{p}]\naws_access_key_id = K-{p}\naws_secret_access_key = S\n" for p in ("a", "b"))
    (lab.user / ".aws" / "credentials").write_text(profiles)
    del lab.env["AWS_ACCESS_KEY_ID"], lab.env["AWS_SECRET_ACCESS_KEY"]


def test_live_prices_are_asked_with_the_profile_of_the_configuration(lab: AwsCommands) -> None:
    """Not with whichever credentials boto3 would find."""
    use_profiles(lab)
    lab.configure("aws: {profile: b}\n")
    lab.env["GPULAUNCH_AZURE_PRICES_ENDPOINT"] = "http://127.0.0.1:9"
    done = lab.run("prices", "--live", "--json")
    asked = {call.key for call in lab.cloud.calls if call.name == "pricing:GetProducts"}

    assert 0 == done.code, done.err
    assert {"K-b"} == asked
    assert {"aws"} == {shape["provider"] for shape in done.document["shapes"] if shape["live"]}


def test_two_profiles_are_guarded_each_with_its_own(lab: AwsCommands) -> None:
    """Whatever the shell has set from which the guards are started again."""
    use_profiles(lab)
    lab.cloud.give_account("K-b", "222222222222")
    for profile in ("a", "b"):
        lab.env["AWS_PROFILE"] = profile
        lab.up("--name", profile)
    guards = lab.guards()
    for guard in guards:
        guard.kill()
    wait_until(lambda: not lab.guards(), "both guards to die")
    del lab.env["AWS_PROFILE"]
    assert 0 == lab.run("status").code
    lab.down()

    assert 2 == len(guards)
    owners: dict[str, set[str]] = {}
    for call in lab.cloud.calls:
        if call.action == "TerminateInstances":
            owners.setdefault(call.params["InstanceId.1"], set()).add(call.key)
    assert [{"K-a"}, {"K-b"}] == sorted(owners.values(), key=min)


def _keys() -> dict[str, Any]:
    return {"aws_access_key_id": "T", "aws_secret_access_key": "S"}
