"""Where machines can be attached: each region's default VPC, its subnets and its default group, and its zones.

Nothing is made here. A default VPC is there in every account unless somebody removed it (VPC user guide, "Default
VPCs"); its default group lets nobody in from outside unless somebody opened it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from providers.aws.requests import IMAGE, ROOT_DEVICE, Place
from providers.base import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.aws.client import Client


def place_in(client: Client, region: str, image: str | None) -> Place:
    """What must be known of a region to launch there, asked at one time. Raises InvalidRequest."""
    asks: tuple[Callable[[], Any], ...] = (
        lambda: default_subnets(client, region),
        lambda: default_groups(client, region),
        lambda: image_in(client, region, image),
    )
    subnets, groups, found = client.at_once(lambda ask: ask(), asks)
    return make_place(region, subnets, groups, found)


def default_subnets(client: Client, region: str) -> list[dict[str, Any]]:
    """The default subnet of each zone."""
    filters = [{"Name": "default-for-az", "Values": ["true"]}]
    return client.pages(region, "ec2.describe_subnets", "Subnets", Filters=filters)


def default_groups(client: Client, region: str) -> list[dict[str, Any]]:
    """The default group of each VPC."""
    filters = [{"Name": "group-name", "Values": ["default"]}]
    return client.pages(region, "ec2.describe_security_groups", "SecurityGroups", Filters=filters)


def image_in(client: Client, region: str, image: str | None) -> tuple[str, str]:
    """The image and its root device. One of the user's own is asked for; ours is known.

    An image is named by its id, which belongs to one region, or by an SSM parameter, which may exist in all.
    """
    if image is None:
        return IMAGE, ROOT_DEVICE
    if not image.startswith("ami-"):
        return f"resolve:ssm:{image.removeprefix('resolve:ssm:')}", ROOT_DEVICE
    rows = client.call(region, "ec2.describe_images", ImageIds=[image])["Images"]
    return image, rows[0]["RootDeviceName"]


def make_place(
    region: str, subnets: list[dict[str, Any]], groups: list[dict[str, Any]], image: tuple[str, str]
) -> Place:
    """The place that these answers describe. Raises InvalidRequest without a default VPC."""
    if not subnets:
        raise InvalidRequest(
            f"There is no default VPC in {region}.",
            "A machine needs a subnet whose machines reach the internet.",
            f"Run: aws ec2 create-default-vpc --region {region}, or choose another region with --region.",
            code="NoDefaultVpc",
            next_scope="region",
        )
    vpc = subnets[0]["VpcId"]
    group = next((group for group in groups if group["VpcId"] == vpc), None)
    return Place(
        vpc=vpc,
        subnets={subnet["AvailabilityZoneId"]: subnet["SubnetId"] for subnet in subnets},
        group=group["GroupId"] if group is not None and is_closed(group) else None,
        image=image[0],
        root_device=image[1],
    )


def is_closed(group: dict[str, Any]) -> bool:
    """Whether a group lets nobody in but its own members."""
    return all(
        not any(rule.get(kind) for kind in ("IpRanges", "Ipv6Ranges", "PrefixListIds"))
        and all(pair.get("GroupId") == group["GroupId"] for pair in rule.get("UserIdGroupPairs", []))
        for rule in group.get("IpPermissions", [])
    )


def zones_with(client: Client, region: str, instance_type: str) -> set[str]:
    """The ids of the zones where this type of machine exists."""
    rows = client.pages(
        region,
        "ec2.describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone-id",
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
    )
    return {row["Location"] for row in rows}
