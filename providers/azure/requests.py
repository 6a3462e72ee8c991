"""What is asked of Azure for one attempt, as plain documents in Azure's own words. Pure.

All of it lies in one resource group: to delete that is to delete everything.

The disk is a managed Standard SSD, not an ephemeral one on the host, although that would cost nothing. Which backstop
is armed depends on the user's rights, and a machine with an ephemeral disk cannot be deallocated, which is all that the
backstop for users without the right to assign roles can do. One kind of machine for both keeps its ending simple.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.base import Intent

GROUP_PREFIX = "gpulaunch-"
MACHINE = "machine"
NETWORK = "network"
SUBNET = "machines"
TIMER = "deadline"
ADMIN = "gpulaunch"
ADDRESSES = "10.0.0.0/24"
# Driver, docker and the NVIDIA runtime inside (Azure/azhpc-images); the newest version known in November 2026.
IMAGE = "microsoft-dsvm:ubuntu-hpc:2204:22.04.2026082801"
LEAST_DISK_GB = 64
"""The image does not fit on a smaller disk."""
DISK_TYPE = "StandardSSD_LRS"
NETWORK_API_VERSION = "2022-11-01"
"""Of what the machine's own request makes in passing: interface and address."""

# Our own tags on a group, beside the five of every machine.
TAG_REQUEST = "gpulaunch-request"
TAG_MADE = "gpulaunch-made"
TAG_SPOT = "gpulaunch-spot"
TAG_TIMER = "gpulaunch-timer"
OWN_TAGS = frozenset({TAG_REQUEST, TAG_MADE, TAG_SPOT, TAG_TIMER})
MADE_FORMAT = "%Y%m%dt%H%M%Sz"


def group_name(token: str) -> str:
    """The resource group of an attempt, which is also the machine's id."""
    return GROUP_PREFIX + token


def token_of(group: str) -> str:
    """The token that a group was made for."""
    return group.removeprefix(GROUP_PREFIX)


def digest(intent: Intent) -> str:
    """What tells one frozen request from another."""
    return hashlib.sha256(msgspec.json.encode(intent, order="deterministic")).hexdigest()[:32]


def group_body(intent: Intent) -> dict[str, Any]:
    """The resource group, with the tags from which any computer can account for the attempt."""
    own = {
        TAG_REQUEST: digest(intent),
        TAG_MADE: intent.created_at.strftime(MADE_FORMAT),
        TAG_SPOT: "yes" if intent.offer.spot else "no",
    }
    return {"location": intent.offer.region, "tags": {**intent.tags, **own}}


def network_body(intent: Intent) -> dict[str, Any]:
    """A network for one machine. No rule lets anything in, and a Standard address is closed without one."""
    subnet = {"name": SUBNET, "properties": {"addressPrefix": ADDRESSES}}
    return {
        "location": intent.offer.region,
        "tags": intent.tags,
        "properties": {"addressSpace": {"addressPrefixes": [ADDRESSES]}, "subnets": [subnet]},
    }


def machine_body(intent: Intent, settings: Mapping[str, Any], *, subscription: str) -> dict[str, Any]:
    """The machine with its disk, interface and address, each of which goes with it."""
    properties: dict[str, Any] = {
        "hardwareProfile": {"vmSize": intent.offer.instance_type},
        # Trusted launch would refuse NVIDIA's driver where it is not signed.
        "securityProfile": {"securityType": "Standard"},
        "diagnosticsProfile": {"bootDiagnostics": {"enabled": True}},
        "storageProfile": {
            "imageReference": _image(settings.get("image") or IMAGE),
            "osDisk": {
                "createOption": "FromImage",
                "deleteOption": "Delete",
                "diskSizeGB": max(intent.disk_gb, LEAST_DISK_GB),
                "managedDisk": {"storageAccountType": DISK_TYPE},
            },
        },
        "osProfile": {
            "computerName": "gpulaunch",
            "adminUsername": ADMIN,
            "customData": base64.b64encode(intent.boot_data).decode("ascii"),
            "linuxConfiguration": {
                "disablePasswordAuthentication": True,
                "ssh": {"publicKeys": [{"path": f"/home/{ADMIN}/.ssh/authorized_keys", "keyData": throw_away_key()}]},
            },
        },
        "networkProfile": {
            "networkApiVersion": NETWORK_API_VERSION,
            "networkInterfaceConfigurations": [_interface(intent, subscription)],
        },
    }
    if intent.offer.spot:
        ceiling = next(part.worst_usd_per_hour for part in intent.offer.parts if part.name == "compute")
        properties |= {
            "priority": "Spot",
            "evictionPolicy": "Delete",
            "billingProfile": {"maxPrice": float(ceiling)},
        }
    body = {
        "location": intent.offer.region,
        "tags": intent.tags,
        "identity": _identity(settings.get("identity")),
        "properties": properties,
    }
    return {**body, "zones": [intent.offer.zone]} if intent.offer.zone else body


def _identity(for_the_store: str | None) -> dict[str, Any]:
    """The machine's own identity, which may delete its group; beside it the one that `init` made for the store."""
    if not for_the_store:
        return {"type": "SystemAssigned"}
    return {"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {for_the_store: {}}}


def _image(text: str) -> dict[str, str]:
    """publisher:offer:sku:version, or the id of an image of the user's own."""
    if text.startswith("/"):
        return {"id": text}
    publisher, offer, sku, version = text.split(":")
    return {"publisher": publisher, "offer": offer, "sku": sku, "version": version}


def _interface(intent: Intent, subscription: str) -> dict[str, Any]:
    subnet = (
        f"/subscriptions/{subscription}/resourceGroups/{group_name(intent.token)}"
        f"/providers/Microsoft.Network/virtualNetworks/{NETWORK}/subnets/{SUBNET}"
    )
    address = {
        "name": "address",
        "sku": {"name": "Standard", "tier": "Regional"},
        "properties": {"deleteOption": "Delete", "publicIPAllocationMethod": "Static"},
    }
    inside = {
        "name": "inside",
        "properties": {"subnet": {"id": subnet}, "publicIPAddressConfiguration": address},
    }
    return {
        "name": "interface",
        "properties": {"primary": True, "deleteOption": "Delete", "ipConfigurations": [inside]},
    }


def throw_away_key() -> str:
    """A public key whose private half is forgotten at once: Azure insists on one, and nobody is to log in."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
