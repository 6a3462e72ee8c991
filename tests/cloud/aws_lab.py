"""A provider on a virtual clock that speaks to the cloud in small, and frozen requests for it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import boto3

from launcher.core.clock import SystemClock, VirtualClock
from providers.aws.provider import AwsProvider
from providers.base import Intent, MachineNotFound, Offer, OfferRequest, make_tags

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from aws_cloud import AwsCloud

    from providers.base import Machine

OWNER = "owner-1"
ROLE = "arn:aws:iam::123456789012:role/gpulaunch-scheduler"
WITH_TIMER = {"scheduler_role_arn": ROLE}


class AwsLab:
    """One account, as one process sees it."""

    def __init__(self, cloud: AwsCloud, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cloud = cloud
        self.clock = VirtualClock(SystemClock().now())
        self._folder = folder
        monkeypatch.setenv("HOME", str(folder))
        for name, value in cloud.variables().items():
            monkeypatch.setenv(name, value)
        self.provider = self.new_provider()

    def new_provider(self, **settings: Any) -> AwsProvider:
        """Another process of the same user."""
        return AwsProvider(clock=self.clock, home=str(self._folder), settings=settings)

    def offers(self, **changes: Any) -> list[Offer]:
        """What is on offer for a T4."""
        return self.provider.offers(OfferRequest(**({"gpu": "T4", "disk_gb": 100, "spot": False} | changes)))

    def intent(
        self, token: str = "j-1-1", *, offer: Offer | None = None, hard_after_s: float = 3600.0, **settings: Any
    ) -> Intent:
        """A frozen request in us-east-1, made now."""
        now = self.clock.now()
        deadline = now + timedelta(seconds=hard_after_s)
        job, _, attempt = token.rpartition("-")
        return Intent(
            job=job,
            name="test",
            attempt=int(attempt),
            token=token,
            owner=OWNER,
            account=self.provider.account,
            offer=offer or self.offers(regions=("us-east-1",))[0],
            created_at=now,
            hard_after_s=hard_after_s,
            hard_deadline=deadline,
            tags=make_tags(job=job, attempt=int(attempt), owner=OWNER, cap_usd=Decimal(5), hard_deadline=deadline),
            disk_gb=100,
            boot_data=b"#cloud-config",
            settings=settings,
        )

    def create(self, token: str = "j-1-1", **how: Any) -> Machine:
        """A machine."""
        return self.provider.create(self.intent(token, **how))

    def end(self, machine_id: str) -> MachineNotFound:
        """Delete, as often as a guard would, until it is gone; what was said then."""
        for _ in range(10):
            self.provider.delete(machine_id)
            try:
                self.provider.get(machine_id)
            except MachineNotFound as gone:
                return gone
        raise AssertionError(f"{machine_id} is still there: {self.cloud.left()}")


def instance_of(machine: Machine) -> str:
    """The instance's own id."""
    return machine.id.partition("/")[2]


def open_default_group(cloud: AwsCloud, region: str = "us-east-1") -> None:
    """Somebody lets the world in."""
    keys = {"aws_access_key_id": "T", "aws_secret_access_key": "S"}
    ec2 = boto3.client("ec2", region_name=region, endpoint_url=cloud.endpoint, **keys)
    [group] = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    ec2.authorize_security_group_ingress(
        GroupId=group["GroupId"], IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    cloud.calls.clear()
