"""Which credentials there are for Azure, by variables and files alone: no SDK, no network.

Two sources are used, each bounded in time: a service principal in the environment, and the login of the `az` command.
A managed identity of this computer is never looked for: its address answers nobody here, slowly.
"""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from providers.base import AuthError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT_VARIABLE = "GPULAUNCH_AZURE_ENDPOINT"
SUBSCRIPTION_VARIABLE = "AZURE_SUBSCRIPTION_ID"
# azure.identity.EnvironmentCredential: a service principal with a secret or a certificate.
_PRINCIPAL = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
_PROOF = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH")
LOGIN_FIX = "Run: az login (or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET)."


def are_there(environ: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    """Whether there seem to be credentials."""
    return bool(endpoint(environ, settings)) or _in_environment(environ) or _cli_subscription(environ) is not None


def source(environ: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Where the credentials come from: `environment`, `cli`, or `none` for a cloud on this computer."""
    if endpoint(environ, settings):
        return "none"
    bound = settings.get("credentials")
    if bound:
        return str(bound)
    return "environment" if _in_environment(environ) else "cli"


def subscription(environ: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """The subscription to work in. Raises AuthError when none is named and `az` has no login."""
    found = settings.get("subscription") or environ.get(SUBSCRIPTION_VARIABLE) or _cli_subscription(environ)
    if not found:
        raise AuthError(
            "There are no credentials for Azure.",
            "No subscription is named in the configuration or in AZURE_SUBSCRIPTION_ID, and `az` has no login here.",
            LOGIN_FIX,
            code="NoCredentials",
        )
    return str(found)


def endpoint(environ: Mapping[str, str], settings: Mapping[str, Any]) -> str | None:
    """Another address of Resource Manager: plain http on this computer, without credentials. None: Azure's own.

    Raises InvalidRequest for any other address.
    """
    found = settings.get("endpoint") or environ.get(ENDPOINT_VARIABLE)
    if not found:
        return None
    parts = urlsplit(str(found))
    host = parts.hostname or ""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if parts.scheme != "http" or not loopback:
        raise InvalidRequest(
            f"The address {found!r} of {ENDPOINT_VARIABLE} is refused.",
            "It is for a cloud on this computer: plain http on loopback, to which no credential is sent.",
            f"Unset {ENDPOINT_VARIABLE}.",
            code="EndpointRefused",
        )
    return str(found).rstrip("/")


def _in_environment(environ: Mapping[str, str]) -> bool:
    return all(environ.get(name) for name in _PRINCIPAL) and any(environ.get(name) for name in _PROOF)


def _cli_subscription(environ: Mapping[str, str]) -> str | None:
    """The default subscription of the `az` command, from the file that `az login` writes."""
    folder = environ.get("AZURE_CONFIG_DIR") or os.path.join(environ.get("HOME", ""), ".azure")  # noqa: PTH118
    try:
        profile = json.loads((Path(folder) / "azureProfile.json").read_text(encoding="utf-8-sig"))
        found = [each for each in profile["subscriptions"] if each.get("isDefault")] or profile["subscriptions"]
        return str(found[0]["id"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
