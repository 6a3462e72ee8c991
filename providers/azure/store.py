"""How a machine on Azure reaches the user's store: Blob storage, by an identity that `gpulaunch init azure` made.

That identity is the user's, made once, with a role on one container and nothing else. Were it the machine's own, the
role would have to be assigned on the container at each launch, and would stay there when the machine is gone: an entry
for nobody, which only a launcher that still lives could take away. This one outlives attempts by intent, and nothing of
an attempt is left on the container.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from providers.base import AuthError, InvalidRequest, ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.azure.client import Arm
    from providers.base import StoreRequest

STORAGE_API = "2023-05-01"
ACCOUNT_VARIABLES = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")


def machine_store(request: StoreRequest, settings: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The `store` of the agent's orders. Raises InvalidRequest for another cloud's store, AuthError for no identity."""
    parts = urlsplit(request.url)
    if parts.scheme != "az":
        raise InvalidRequest(
            f"A machine on Azure cannot reach {request.url}.",
            "It has an identity for Azure's own storage, and no credential for anything else.",
            "Use a store in Blob storage: gpulaunch init azure --apply, then `store: az://container/prefix`; "
            "or --no-store.",
            code="StoreElsewhere",
        )
    account = settings.get("storage_account") or next((environ[n] for n in ACCOUNT_VARIABLES if environ.get(n)), None)
    identity = settings.get("identity_client_id")
    if not account or not identity or not settings.get("identity"):
        raise AuthError(
            f"No identity was set up with which a machine could reach {request.url}.",
            "The configuration's section `azure` lacks storage_account, identity or identity_client_id.",
            "Run: gpulaunch init azure --apply",
            code="NoStoreIdentity",
        )
    return {
        "kind": "blob",
        "account": str(account),
        "container": parts.netloc,
        "prefix": parts.path.strip("/"),
        "client_id": str(identity),
    }


def region_of(account: str, identity: str, arm: Arm) -> str | None:
    """Where a storage account is that `init` made beside the identity; None for another, or where nobody may read it.

    Uploads from another place are billed as traffic.
    """
    group = identity.partition("/providers/")[0].partition("/resourceGroups/")[2]
    path = f"/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}"
    try:
        found = arm.request("GET", path, "see where the storage account is", **{"api-version": STORAGE_API})
    except ProviderError:
        return None
    return str(found["location"]).lower().replace(" ", "")
