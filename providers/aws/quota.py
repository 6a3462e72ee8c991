"""The account's limit on GPU machines: asked before anything is tried, and told in a way that can be acted on.

EC2 user guide, "On-Demand Instance quotas" and "Spot Instance quotas": both count vCPUs of all running machines of the
G and VT families in a region.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from providers.base import ProviderError, QuotaError

if TYPE_CHECKING:
    from providers.aws.client import Client

ON_DEMAND = "L-DB2E81BA"
SPOT = "L-3819A6DF"
NAMES = {ON_DEMAND: "Running On-Demand G and VT instances", SPOT: "All G and VT Spot Instance Requests"}
VCPUS = {"g4dn.xlarge": 4}
REFUSALS = frozenset({"VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "InstanceLimitExceeded"})
"""How RunInstances says that this limit is reached."""


def code_of(*, spot: bool) -> str:
    """The quota that a machine counts against."""
    return SPOT if spot else ON_DEMAND


def limit_vcpus(client: Client, region: str, code: str) -> Decimal | None:
    """The limit in vCPUs; None where it cannot be asked: then the launch itself decides."""
    for call in ("service-quotas.get_service_quota", "service-quotas.get_aws_default_service_quota"):
        try:
            reply = client.call(region, call, ServiceCode="ec2", QuotaCode=code)
        except ProviderError as error:
            if error.code != "NoSuchResourceException":
                return None
        else:
            return Decimal(str(reply["Quota"]["Value"]))
    return None


def refusal(region: str, instance_type: str, *, spot: bool, limit: Decimal | None = None, code: str = "") -> QuotaError:
    """The error that names the quota, and where to ask for more of it."""
    quota = code_of(spot=spot)
    allowed = "is used up" if limit is None else f"is {limit.normalize():f} vCPUs"
    needed = VCPUS.get(instance_type, 4)
    return QuotaError(
        f"The quota {NAMES[quota]!r} ({quota}) of {region} {allowed}: a {instance_type} needs {needed}.",
        "AWS counts the vCPUs of all running machines of these families against it.",
        f"Ask for more: https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{quota} "
        f"or choose another region with --region.",
        code=code or "QuotaTooSmall",
        next_scope="region",
    )
