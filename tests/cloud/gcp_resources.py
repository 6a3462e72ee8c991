"""The fake's replies: what really is, in Compute Engine's own shapes."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from gcp_state import Cloud, Disk, Instance, Operation

ROOT = "https://www.googleapis.com/compute/v1"


def stamp(at: datetime) -> str:
    """A time as Google writes it: with milliseconds, in Pacific time."""
    pacific = at + timedelta(hours=-8)
    return pacific.strftime("%Y-%m-%dT%H:%M:%S.") + f"{pacific.microsecond // 1000:03d}-08:00"


def zone_url(cloud: Cloud, zone: str) -> str:
    """A zone's address."""
    return f"{ROOT}/projects/{cloud.project}/zones/{zone}"


def operation(cloud: Cloud, each: Operation) -> dict[str, Any]:
    """An operation as it stands now."""
    done = each.ends_at is not None and cloud.now() >= each.ends_at
    reply: dict[str, Any] = {
        "kind": "compute#operation",
        "id": str(each.number),
        "name": each.name,
        "zone": zone_url(cloud, each.zone),
        "operationType": each.kind,
        "targetLink": f"{zone_url(cloud, each.zone)}/{each.target}",
        "user": each.user,
        "status": "DONE" if done else "RUNNING",
        "progress": 100 if done else 0,
        "insertTime": stamp(each.inserted_at),
        "startTime": stamp(each.inserted_at),
    }
    if each.request_id:
        reply["clientOperationId"] = each.request_id
    if done and each.ends_at is not None:
        reply["endTime"] = stamp(each.ends_at)
    if done and each.error is not None:
        reply["error"] = {"errors": each.error["errors"]}
        reply["httpErrorStatusCode"] = each.error["status"]
        reply["httpErrorMessage"] = "SERVICE UNAVAILABLE"
    return reply


def status(cloud: Cloud, each: Instance) -> str:
    """The machine's status now."""
    now = cloud.now()
    if each.dying_at is not None:
        return "STOPPING"
    if each.off_at is not None:
        return "TERMINATED"
    return "RUNNING" if now >= each.runs_at else "STAGING"


def instance(cloud: Cloud, each: Instance) -> dict[str, Any]:
    """A machine as it stands now."""
    url = zone_url(cloud, each.zone)
    reply = copy.deepcopy(each.body)
    runs = cloud.now() >= each.runs_at
    reply |= {
        "kind": "compute#instance",
        "id": str(each.number),
        "zone": url,
        "selfLink": f"{url}/instances/{each.name}",
        "status": status(cloud, each),
        "creationTimestamp": stamp(each.accepted_at),
        "resourceStatus": {"scheduling": {}},
    }
    reply["disks"] = [{"boot": True, "autoDelete": True, "source": f"{url}/disks/{each.name}", "type": "PERSISTENT"}]
    if runs:
        reply["lastStartTimestamp"] = stamp(each.runs_at)
        limit = each.ends_by_limit_at
        if limit is not None:
            reply["resourceStatus"]["scheduling"]["terminationTimestamp"] = stamp(limit)
    if runs and each.off_at is None:
        reply["networkInterfaces"][0]["accessConfigs"][0]["natIP"] = "203.0.113.7"
    return reply


def disk(cloud: Cloud, each: Disk) -> dict[str, Any]:
    """A disk as it stands now."""
    url = zone_url(cloud, each.zone)
    asked = each.body["initializeParams"]
    return {
        "kind": "compute#disk",
        "id": "9",
        "name": each.name,
        "zone": url,
        "selfLink": f"{url}/disks/{each.name}",
        "sizeGb": str(asked["diskSizeGb"]),
        "status": "READY" if each.gone_at is None else "DELETING",
        "labels": asked.get("labels", {}),
        "creationTimestamp": stamp(each.accepted_at),
    }


def project(cloud: Cloud) -> dict[str, Any]:
    """The project, with the quotas that hold everywhere."""
    used = float(len(cloud.instances))
    quotas = [{"metric": name, "limit": limit, "usage": used} for name, limit in cloud.quotas.items()]
    return {"kind": "compute#project", "id": "7", "name": cloud.project, "quotas": quotas}


def regions(cloud: Cloud) -> list[dict[str, Any]]:
    """Every region, with its quotas."""
    names = sorted({zone.rpartition("-")[0] for zone in cloud.zones})
    quotas = [{"metric": name, "limit": limit, "usage": 0.0} for name, limit in cloud.region_quotas.items()]
    return [{"kind": "compute#region", "id": "8", "name": name, "quotas": quotas} for name in names]


def accelerators(cloud: Cloud) -> list[dict[str, Any]]:
    """The T4s of every zone that has them."""
    return [
        {"kind": "compute#acceleratorType", "id": "6", "name": "nvidia-tesla-t4", "zone": zone_url(cloud, zone)}
        for zone in cloud.zones
    ]


def firewalls(cloud: Cloud) -> list[dict[str, Any]]:
    """The rules that a new project's default network has, and ours where it was made."""
    network = f"{ROOT}/projects/{cloud.project}/global/networks/default"
    common = {"kind": "compute#firewall", "id": "5", "network": network, "direction": "INGRESS", "disabled": False}
    everybody = {"sourceRanges": ["0.0.0.0/0"]}
    rules = [
        {**common, "name": "default-allow-internal", "priority": 65534, "sourceRanges": ["10.128.0.0/9"],
         "allowed": [{"IPProtocol": "tcp", "ports": ["0-65535"]}]},
    ]  # fmt: skip
    if cloud.ssh_open:
        ssh = {"name": "default-allow-ssh", "priority": 65534, "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]}
        rules.append({**common, **everybody, **ssh})
    return [*rules, *({**common, **made, "network": network} for made in cloud.rules)]
