"""The request of RunInstances, from a frozen intent and its place. Pure: a replay is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from providers.aws.machine import TIMER_TAG, TOKEN_TAG, tag_list
from providers.base import InvalidRequest

if TYPE_CHECKING:
    from providers.base import Intent

IMAGE = "resolve:ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""The Deep Learning Base AMI (NVIDIA driver, docker, container toolkit), resolved by EC2 itself: no call of its own."""
ROOT_DEVICE = "/dev/sda1"
"""Of that image. A mapping for another name would add a second disk."""
MOST_TOKEN_LENGTH = 64


class Place(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where in a region a machine is attached: it travels in the frozen intent's settings."""

    vpc: str
    subnets: dict[str, str]
    """Zone id to its default subnet."""
    group: str | None
    """The VPC's default group; None where that lets anybody in, so that each machine gets a group of its own."""
    image: str = IMAGE
    root_device: str = ROOT_DEVICE


def all_tags(intent: Intent) -> dict[str, str]:
    """What every resource that is made for this machine carries."""
    return {**intent.tags, TOKEN_TAG: intent.token, "Name": f"gpulaunch {intent.name}"}


def group_name(intent: Intent) -> str:
    """The name of a security group of this machine's own."""
    return f"gpulaunch-{intent.token}"


def run_instances(intent: Intent, place: Place, group: str) -> dict[str, Any]:
    """The whole request. Raises InvalidRequest for a zone without a default subnet, or a token that EC2 cannot take."""
    offer = intent.offer
    subnet = place.subnets.get(offer.zone or min(place.subnets))
    if subnet is None:
        raise InvalidRequest(
            f"Zone {offer.zone} has no default subnet.",
            fix=f"Run: aws ec2 create-default-subnet --region {offer.region} --availability-zone-id {offer.zone}",
            code="NoDefaultSubnet",
            next_scope="zone",
        )
    if len(intent.token) > MOST_TOKEN_LENGTH:
        raise InvalidRequest(f"The token {intent.token} is longer than EC2 takes.", code="TokenTooLong")
    request: dict[str, Any] = {
        "ClientToken": intent.token,
        "ImageId": place.image,
        "InstanceType": offer.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": intent.boot_data,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "BlockDeviceMappings": [{"DeviceName": place.root_device, "Ebs": _disk(intent)}],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet,
                "Groups": [group],
                "AssociatePublicIpAddress": True,
                "DeleteOnTermination": True,
            }
        ],
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "TagSpecifications": _tag_specifications(intent),
    }
    if profile := intent.settings.get("instance_profile"):
        key = "Arn" if profile.startswith("arn:") else "Name"
        request["IamInstanceProfile"] = {key: profile}
    if offer.spot:
        request["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {
                "SpotInstanceType": "one-time",
                "InstanceInterruptionBehavior": "terminate",
                "MaxPrice": f"{offer.parts[0].worst_usd_per_hour:f}",
            },
        }
    return request


def _disk(intent: Intent) -> dict[str, Any]:
    return {"VolumeSize": intent.disk_gb, "VolumeType": "gp3", "DeleteOnTermination": True}


def _tag_specifications(intent: Intent) -> list[dict[str, Any]]:
    """A spot request can be tagged only when there is one."""
    tags = all_tags(intent)
    kinds = ["volume", "network-interface", *(["spot-instances-request"] if intent.offer.spot else [])]
    own = {**tags, TIMER_TAG: "schedule"} if intent.settings.get("scheduler_role_arn") else tags
    return [
        {"ResourceType": "instance", "Tags": tag_list(own)},
        *({"ResourceType": kind, "Tags": tag_list(tags)} for kind in kinds),
    ]
