"""A security group of a machine's own, where the default one lets somebody in: it has no rule that does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.aws.machine import MACHINE_TAG, tag_list
from providers.aws.requests import Place, all_tags, group_name
from providers.base import InvalidRequest

if TYPE_CHECKING:
    from providers.aws.client import Client
    from providers.base import Intent


def own(client: Client, intent: Intent, place: Place) -> str:
    """The machine's own group: made, or found from an earlier call. Its id."""
    region, name = intent.offer.region, group_name(intent)
    try:
        made = client.call(
            region,
            "ec2.create_security_group",
            GroupName=name,
            Description="gpulaunch: nobody gets in",
            VpcId=place.vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": tag_list(all_tags(intent))}],
        )
    except InvalidRequest as error:
        if error.code != "InvalidGroup.Duplicate":
            raise
        filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [place.vpc]}]
        [found] = client.pages(region, "ec2.describe_security_groups", "SecurityGroups", Filters=filters)
        return str(found["GroupId"])
    return str(made["GroupId"])


def claim(client: Client, region: str, group: str, instance: str) -> None:
    """Write down whose it is, so that it is found even when EC2 has forgotten the instance."""
    client.call(region, "ec2.create_tags", Resources=[group], Tags=tag_list({MACHINE_TAG: instance}))


def drop(client: Client, region: str, group: str) -> None:
    """Remove a group that no machine came to use. One that is in use is that of an earlier call's machine."""
    try:
        client.call(region, "ec2.delete_security_group", GroupId=group)
    except InvalidRequest as error:
        if error.code not in ("InvalidGroup.NotFound", "DependencyViolation", "InvalidGroup.InUse"):
            raise
