"""The body of the one call that makes a machine. Pure: the same intent gives the same machine."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import msgspec

from providers.base import InvalidRequest

if TYPE_CHECKING:
    from providers.base import Intent

PREFIX = "gl-"
"""Every machine's name begins with it: the machine's own right to delete is limited to such names."""
NETWORK_TAG = "gpulaunch"
# Ubuntu 22.04 with CUDA and NVIDIA's driver in it (deep-learning-vm/docs/images, families of 2026).
IMAGE = "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"
ACCELERATORS = {"T4": "nvidia-tesla-t4"}
DISK_TYPE = "pd-balanced"
FINGERPRINT = "gpulaunch-request"
_NAMESPACE = UUID("5c1d9cc1-3a4c-4e8f-9d6b-6f0d0d6b7c11")


def name_of(token: str) -> str:
    """The machine's name for a token. Names are unique in a zone, which is what makes `create` idempotent."""
    name = f"{PREFIX}{token}"
    if not re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise InvalidRequest(f"{token!r} cannot name a machine.", "Lower case, digits and - only.", code="INVALID_NAME")
    return name


def token_of(name: str) -> str:
    """The token that a machine was made for."""
    return name.removeprefix(PREFIX)


def request_id(token: str) -> str:
    """Google ignores a second insert with the same one, for a while that it does not name."""
    return str(uuid5(_NAMESPACE, token))


def fingerprint(intent: Intent) -> str:
    """What tells one frozen request from another with the same name."""
    return hashlib.sha256(msgspec.json.encode(intent, order="sorted")).hexdigest()


def fingerprint_on(instance: Any) -> str:
    """The fingerprint that a machine carries."""
    return next((item.value for item in instance.metadata.items if item.key == FINGERPRINT), "")


def instance(intent: Intent, *, run_s: int) -> dict[str, Any]:
    """The machine that `insert` asks for. `run_s`: seconds that it may run until the cloud deletes it.

    No ingress is opened: the machine has a tag of its own and there is no rule that lets anything in for that tag. The
    external address is for what the machine itself fetches and sends.
    """
    zone, settings = str(intent.offer.zone), intent.settings
    identity = settings.get("service_account")
    return {
        "name": name_of(intent.token),
        "machine_type": f"zones/{zone}/machineTypes/{intent.offer.instance_type}",
        "guest_accelerators": [
            {"accelerator_type": f"zones/{zone}/acceleratorTypes/{ACCELERATORS['T4']}", "accelerator_count": 1}
        ],
        "scheduling": _scheduling(spot=intent.offer.spot, run_s=run_s),
        "disks": [
            {
                "boot": True,
                "auto_delete": True,
                "initialize_params": {
                    "disk_name": name_of(intent.token),
                    "source_image": settings.get("image") or IMAGE,
                    "disk_size_gb": intent.disk_gb,
                    "disk_type": f"zones/{zone}/diskTypes/{DISK_TYPE}",
                    "labels": intent.tags,
                },
            }
        ],
        "network_interfaces": [
            {
                "network": network_of(settings),
                "access_configs": [{"name": "External NAT", "type_": "ONE_TO_ONE_NAT", "network_tier": "PREMIUM"}],
            }
        ],
        "tags": {"items": [NETWORK_TAG]},
        "service_accounts": [{"email": identity, "scopes": [_SCOPE]}] if identity else [],
        "metadata": {
            "items": [
                {"key": "startup-script", "value": intent.boot_data.decode()},
                {"key": FINGERPRINT, "value": fingerprint(intent)},
            ]
        },
        "labels": intent.tags,
    }


# The role limits the identity, not the scope (compute/docs/access/service-accounts, "Access scopes").
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def network_of(settings: Any) -> str:
    """The network that a machine is in."""
    return f"global/networks/{settings.get('network') or 'default'}"


def _scheduling(*, spot: bool, run_s: int) -> dict[str, Any]:
    """The cloud's own deadline. A machine with a GPU cannot be moved, and one that was ended must not come back."""
    return {
        "provisioning_model": "SPOT" if spot else "STANDARD",
        "on_host_maintenance": "TERMINATE",
        "automatic_restart": False,
        "instance_termination_action": "DELETE",
        "max_run_duration": {"seconds": run_s},
    }
