"""Making an EC2 instance: what is asked for, and what is left when any call of it fails."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import boto3
import pytest
from aws_lab import WITH_TIMER, AwsLab, instance_of, open_default_group

from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)

if TYPE_CHECKING:
    from aws_cloud import AwsCloud


def params(cloud: AwsCloud) -> dict[str, str]:
    """What the one RunInstances asked for."""
    [call] = [call for call in cloud.calls if call.action == "RunInstances"]
    return call.params


def test_one_call_asks_for_all(aws: AwsLab) -> None:
    """Terminate on shutdown, IMDSv2 out of a container's reach, a disk that goes along, no inbound port, all tags."""
    intent = aws.intent()
    aws.provider.create(intent)
    asked = params(aws.cloud)
    tags = {asked[f"TagSpecification.1.Tag.{n}.Key"]: asked[f"TagSpecification.1.Tag.{n}.Value"] for n in range(1, 8)}

    assert intent.tags | {"gpulaunch-token": "j-1-1", "Name": "gpulaunch test"} == tags
    kinds = [asked.get(f"TagSpecification.{n}.ResourceType") for n in range(1, 5)]
    assert ["instance", "volume", "network-interface", None] == kinds
    assert {
        "ClientToken": "j-1-1",
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
        "BlockDeviceMapping.1.Ebs.VolumeSize": "100",
        "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
        "BlockDeviceMapping.1.DeviceName": "/dev/sda1",
        "MetadataOptions.HttpTokens": "required",
        "MetadataOptions.HttpPutResponseHopLimit": "1",
        "NetworkInterface.1.AssociatePublicIpAddress": "true",
        "NetworkInterface.1.DeleteOnTermination": "true",
        "MinCount": "1",
        "MaxCount": "1",
    }.items() <= asked.items()
    assert intent.boot_data == base64.b64decode(asked["UserData"])
    assert not [name for name in asked if name.startswith(("InstanceMarketOptions", "IamInstanceProfile", "KeyName"))]


def test_a_spot_machine_bids_its_compute_ceiling(aws: AwsLab) -> None:
    """Once, and terminated when it is taken back; the request is tagged too."""
    offer = next(offer for offer in aws.offers(spot=True, regions=("us-east-1",)) if offer.spot)
    aws.create(offer=offer)
    asked = params(aws.cloud)

    assert {
        "InstanceMarketOptions.MarketType": "spot",
        "InstanceMarketOptions.SpotOptions.SpotInstanceType": "one-time",
        "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior": "terminate",
        "InstanceMarketOptions.SpotOptions.MaxPrice": f"{offer.parts[0].worst_usd_per_hour:f}",
        "TagSpecification.4.ResourceType": "spot-instances-request",
    }.items() <= asked.items()


def test_the_users_image_and_identity_are_used(aws: AwsLab) -> None:
    """An image by its id brings its own root device; a parameter's name is resolved by EC2."""
    boto3.client("iam", region_name="us-east-1").create_instance_profile(InstanceProfileName="me")
    images = boto3.client("ec2", region_name="us-east-1").describe_images()["Images"]
    image = next(image["ImageId"] for image in images if image.get("RootDeviceName") == "/dev/xvda")
    aws.create(image=image, instance_profile="me")
    asked = params(aws.cloud)

    assert (image, "/dev/xvda") == (asked["ImageId"], asked["BlockDeviceMapping.1.DeviceName"])
    assert "me" == asked["IamInstanceProfile.Name"]


def test_a_lost_reply_leaves_one_machine(aws: AwsLab) -> None:
    """EC2 has carried it out; the replay with the same token finds it."""
    intent = aws.intent()
    aws.cloud.fault("RunInstances", lost="reply", times=1)
    with pytest.raises(AmbiguousOutcome):
        aws.provider.create(intent)
    machine = aws.new_provider().create(intent)

    assert [instance_of(machine)] == aws.cloud.alive()
    assert 2 == aws.cloud.names().count("ec2:RunInstances")


def test_a_lost_request_is_ambiguous_too(aws: AwsLab) -> None:
    """From here both look the same, and the replay settles it."""
    intent = aws.intent()
    aws.cloud.fault("RunInstances", lost="request", times=1)
    with pytest.raises(AmbiguousOutcome):
        aws.provider.create(intent)

    assert [] == aws.cloud.alive()
    assert [instance_of(aws.provider.create(intent))] == aws.cloud.alive()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InternalError", 500, AmbiguousOutcome),
        ("Unavailable", 503, AmbiguousOutcome),
        ("RequestLimitExceeded", 503, RateLimited),
        ("InsufficientInstanceCapacity", 500, CapacityError),
        ("UnauthorizedOperation", 403, AuthError),
    ],
)
def test_a_launch_is_tried_once_by_the_sdk(aws: AwsLab, code: str, status: int, kind: type[ProviderError]) -> None:
    """Whether it is tried again is the guard's to say, who writes it down first."""
    intent = aws.intent()
    aws.cloud.fault("RunInstances", code, status=status)
    with pytest.raises(kind) as caught:
        aws.provider.create(intent)

    assert code == caught.value.code
    assert 1 == aws.cloud.names().count("ec2:RunInstances")
    assert [] == aws.cloud.left()


@pytest.mark.parametrize(
    ("code", "spot", "quota"),
    [("VcpuLimitExceeded", False, "L-DB2E81BA"), ("MaxSpotInstanceCountExceeded", True, "L-3819A6DF")],
)
def test_a_quota_is_named_with_its_code_and_where_to_ask(aws: AwsLab, code: str, spot: bool, quota: str) -> None:
    """Quota, code, region and address: all that somebody needs to have it raised."""
    offer = next(offer for offer in aws.offers(spot=spot, regions=("us-east-1",)) if offer.spot == spot)
    aws.cloud.fault("RunInstances", code)
    with pytest.raises(QuotaError) as caught:
        aws.create(offer=offer)

    assert (code, "region") == (caught.value.code, caught.value.next_scope)
    assert quota in caught.value.what
    assert (
        f"https://us-east-1.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{quota}" in caught.value.fix
    )


def test_the_deadline_is_kept_by_a_schedule(aws: AwsLab) -> None:
    """It terminates this one instance, with the role, once, and deletes itself."""
    intent = aws.intent(**WITH_TIMER)
    machine = aws.provider.create(intent)
    [(region, _, schedule)] = aws.cloud.schedules()

    assert ("us-east-1", f"gpulaunch-{instance_of(machine)}") == (region, schedule.name)
    assert f"at({intent.hard_deadline:%Y-%m-%dT%H:%M:%S})" == schedule.schedule_expression
    assert "DELETE" == schedule.action_after_completion
    assert WITH_TIMER["scheduler_role_arn"] == schedule.target["RoleArn"]
    assert machine.deadline_at is not None


def test_a_schedule_whose_fate_is_unknown_is_armed_by_the_replay(aws: AwsLab) -> None:
    """There is a machine, so this may not pass for "nothing was made"."""
    intent = aws.intent(**WITH_TIMER)
    aws.cloud.fault("CreateSchedule", "InternalServerException", status=500)
    with pytest.raises(AmbiguousOutcome) as caught:
        aws.provider.create(intent)
    aws.cloud.faults.clear()
    machine = aws.provider.create(intent)
    again = aws.provider.create(intent)

    assert "timer" in caught.value.what
    assert ([instance_of(machine)], machine.id) == (aws.cloud.alive(), again.id)
    assert 1 == len(aws.cloud.schedules())


def test_a_role_that_is_not_known_everywhere_yet_is_waited_for(aws: AwsLab) -> None:
    """Right after `init --apply` the Scheduler may not be able to take it on."""
    aws.cloud.fault("CreateSchedule", "ValidationException", times=2)
    aws.create(**WITH_TIMER)

    assert 1 == len(aws.cloud.schedules())


@pytest.mark.parametrize("code", ["AccessDeniedException", "ValidationException"])
def test_a_machine_whose_timer_is_refused_is_taken_back(aws: AwsLab, code: str) -> None:
    """The plan has promised it; a typed failure means that nothing is left, and says what to do."""
    aws.cloud.fault("CreateSchedule", code, status=403 if code.startswith("Access") else 400)
    with pytest.raises((AuthError, InvalidRequest)) as caught:
        aws.create(**WITH_TIMER)

    assert (code, [], []) == (caught.value.code, aws.cloud.alive(), aws.cloud.left())
    assert "gpulaunch init aws --apply" in caught.value.fix


def test_a_machine_that_cannot_be_taken_back_is_not_forgotten(aws: AwsLab) -> None:
    """Its fate stays open until a replay has settled it."""
    intent = aws.intent(**WITH_TIMER)
    aws.cloud.fault("CreateSchedule", "AccessDeniedException", status=403)
    aws.cloud.fault("TerminateInstances", "Unavailable", status=503)
    with pytest.raises(AmbiguousOutcome):
        aws.provider.create(intent)
    aws.cloud.faults.pop()
    with pytest.raises(AuthError):
        aws.provider.create(intent)

    assert [] == aws.cloud.left()


def test_an_open_default_group_is_not_used(aws: AwsLab) -> None:
    """The machine gets a group of its own that lets nobody in, and it goes with the machine."""
    open_default_group(aws.cloud)
    machine = aws.create()
    [group] = [left for left in aws.cloud.left() if left.startswith("security group")]
    asked = params(aws.cloud)
    gone = aws.end(machine.id)

    assert "security group gpulaunch-j-1-1" == group
    assert asked["NetworkInterface.1.SecurityGroupId.1"].startswith("sg-")
    assert not [name for name in aws.cloud.names() if "Authorize" in name]
    assert ([], "Terminated") == (aws.cloud.left(), gone.code)


@pytest.mark.parametrize("lost", ["CreateSecurityGroup", "RunInstances", "CreateTags"])
def test_a_group_of_its_own_is_made_once(aws: AwsLab, lost: str) -> None:
    """Whichever reply is lost, the replay finds what was made."""
    open_default_group(aws.cloud)
    intent = aws.intent()
    aws.cloud.fault(lost, lost="reply", times=1)
    try:
        machine = aws.provider.create(intent)
    except AmbiguousOutcome:
        machine = aws.provider.create(intent)

    assert [instance_of(machine)] == aws.cloud.alive()
    assert 1 == len([left for left in aws.cloud.left() if left.startswith("security group")])
    aws.end(machine.id)
    assert [] == aws.cloud.left()


def test_a_group_without_a_machine_goes_with_the_failed_launch(aws: AwsLab) -> None:
    """A typed failure means that nothing is left; where that is not sure, the fate stays open."""
    open_default_group(aws.cloud)
    intent = aws.intent()
    aws.cloud.fault("RunInstances", "InsufficientInstanceCapacity", status=500)
    aws.cloud.fault("DeleteSecurityGroup", "Unavailable", status=503, times=3)
    with pytest.raises(AmbiguousOutcome):
        aws.provider.create(intent)
    with pytest.raises(CapacityError):
        aws.provider.create(intent)

    assert [] == aws.cloud.left()


def test_a_replay_after_the_deadline_makes_nothing(aws: AwsLab) -> None:
    """It finds what the first call made, if that has come into being."""
    first, second = aws.intent("j-1-1", hard_after_s=60.0), aws.intent("j-2-1", hard_after_s=60.0)
    machine = aws.provider.create(first)
    aws.clock.advance(120)
    aws.cloud.now = aws.clock.now
    aws.provider.get(machine.id)
    with pytest.raises(InvalidRequest) as caught:
        aws.provider.create(second)
    again = aws.provider.create(first)
    aws.end(machine.id)
    with pytest.raises(MachineNotFound) as gone:
        aws.provider.create(first)

    assert ("DeadlinePassed", machine.id) == (caught.value.code, again.id)
    assert gone.value.machine is not None
    assert gone.value.machine.state == MachineState.STOPPED


def test_another_accounts_job_is_refused(aws: AwsLab) -> None:
    """The credentials were changed under a living guard: not one effect may happen."""
    intent = aws.intent()
    aws.cloud.give_account("OTHER", "999999999999")
    provider = aws.new_provider()
    assert intent.account == provider.account
    provider._client.credentials.access_key = "OTHER"
    for act in (lambda: provider.create(intent), lambda: provider.delete("us-east-1/i-0123456789abcdef0")):
        with pytest.raises(AuthError) as caught:
            act()
        assert "AccountMismatch" == caught.value.code

    assert [] == aws.cloud.names(changing=True)


def test_an_endpoint_that_is_down_makes_nothing(aws: AwsLab) -> None:
    """Nothing was sent, so nothing can have come of it."""
    intent = aws.intent()
    aws.provider._client._clients.clear()
    aws.provider._client.endpoint = "http://127.0.0.1:9"
    with pytest.raises(ProviderUnavailable):
        aws.provider.create(intent)
