"""What `gpulaunch init azure` makes, once: storage for jobs, an identity that may use it, and a role with one right.

    resource group `gpulaunch`
    ├── storage account with one container: the jobs' store
    └── identity: Storage Blob Data Contributor on that container, and nothing else
    role `gpulaunch: delete own group`: Microsoft.Resources/subscriptions/resourceGroups/delete, and nothing else

The role is only ever assigned on an attempt's own resource group. Costs nothing while nothing is stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from providers.azure import credentials
from providers.azure.backstop import DELETE_GROUP, role_id
from providers.azure.client import Arm
from providers.azure.store import STORAGE_API
from providers.base import InvalidRequest, ProviderError, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.core.clock import Clock

GROUP = "gpulaunch"
IDENTITY = "gpulaunch-store"
CONTAINER = "gpulaunch"
REGION = "eastus"
ROLE_NAME = "gpulaunch: delete own group"
TAGS = {"gpulaunch": "init"}
# Built-in roles have the same id everywhere ("Azure built-in roles", learn.microsoft.com).
BLOB_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
IDENTITY_API = "2023-01-31"
ROLES_API = "2022-04-01"
GROUPS_API = "2021-04-01"
PATIENCE_S = 180.0
AGAIN_S = 3.0


class CloudAccount:
    """The user's account, as `init` prepares it. Raises AuthError without a subscription."""

    def __init__(self, *, clock: Clock, settings: Mapping[str, Any], store: str | None) -> None:
        self._clock = clock
        self._arm = Arm(
            clock,
            subscription=credentials.subscription(os.environ, settings),
            source=credentials.source(os.environ, settings),
            endpoint=credentials.endpoint(os.environ, settings),
        )
        if store and urlsplit(store).scheme not in ("", "az"):
            raise InvalidRequest(
                f"The store {store} is not in Azure.",
                "A machine on Azure reaches Blob storage only.",
                "Set `store: az://container/prefix` in the configuration, or leave it out.",
                code="StoreElsewhere",
            )
        named = urlsplit(store or "")
        self._container = named.netloc or CONTAINER
        self._store = str(store) if named.scheme == "az" else f"az://{self._container}/jobs"
        # A storage account's name is unique in the world: 3 to 24 lower-case letters and digits.
        own = hashlib.sha256(self._arm.subscription.encode()).hexdigest()[:14]
        self._account = str(settings.get("storage_account") or f"gpulaunch{own}")

    def document(self) -> str:
        """Every call that `apply` makes, as the `az` command takes it."""
        lines = ["# What `gpulaunch init azure --apply` makes, in the subscription " + self._arm.subscription]
        for what, path, api, body in self._things(principal="PRINCIPAL-ID-OF-THE-IDENTITY"):
            url = f"/subscriptions/{self._arm.subscription}{path}?api-version={api}"
            lines += [f"# {what}", f"az rest --method put --url '{url}' --body '{json.dumps(body)}'"]
        return "\n".join(lines)

    def apply(self, tell: Callable[[str], None]) -> dict[str, str]:
        """Make what is missing; safe to repeat."""
        principal = client = ""
        for what, path, api, body in self._things(principal=None):
            reply = self._put(path, api, body(principal) if callable(body) else body, what)
            if path.endswith(IDENTITY):
                principal, client = reply["properties"]["principalId"], reply["properties"]["clientId"]
            tell(f"Made: {what}.")
        return {
            "subscription": self._arm.subscription,
            "storage_account": self._account,
            "identity": f"/subscriptions/{self._arm.subscription}{self._identity}",
            "identity_client_id": client,
            "role": role_id(self._arm.subscription, self._role),
            "store": self._store,
        }

    @property
    def _home(self) -> str:
        return f"/resourceGroups/{GROUP}"

    @property
    def _identity(self) -> str:
        return f"{self._home}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{IDENTITY}"

    @property
    def _storage(self) -> str:
        return f"{self._home}/providers/Microsoft.Storage/storageAccounts/{self._account}"

    @property
    def _role(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"gpulaunch/{self._arm.subscription}/role"))

    def _things(self, *, principal: str | None) -> list[tuple[str, str, str, Any]]:
        """What is made, in order: its name for the user, path, api-version and body.

        Without a principal the body of the store's role is a function of it: it is known once the identity is made.
        """
        container = f"{self._storage}/blobServices/default/containers/{self._container}"
        scope = f"/subscriptions/{self._arm.subscription}"

        def grant(to: str) -> dict[str, Any]:
            role = role_id(self._arm.subscription, BLOB_CONTRIBUTOR)
            return {"properties": {"roleDefinitionId": role, "principalId": to, "principalType": "ServicePrincipal"}}

        rights = {"actions": [DELETE_GROUP], "notActions": [], "dataActions": [], "notDataActions": []}
        role = {
            "roleName": ROLE_NAME,
            "description": "Lets a machine or its timer delete the one resource group that this is assigned on.",
            "type": "CustomRole",
            "assignableScopes": [scope],
            "permissions": [rights],
        }
        storage = {
            "location": REGION,
            "tags": TAGS,
            "sku": {"name": "Standard_LRS"},
            "kind": "StorageV2",
            "properties": {
                "allowBlobPublicAccess": False,
                "minimumTlsVersion": "TLS1_2",
                "supportsHttpsTrafficOnly": True,
            },
        }
        own = str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"gpulaunch/{self._arm.subscription}/{self._account}/{self._container}")
        )
        return [
            ("the resource group " + GROUP, self._home, GROUPS_API, {"location": REGION, "tags": TAGS}),
            ("the storage account " + self._account, self._storage, STORAGE_API, storage),
            ("the container " + self._container, container, STORAGE_API, {"properties": {"publicAccess": "None"}}),
            ("the identity " + IDENTITY, self._identity, IDENTITY_API, {"location": REGION, "tags": TAGS}),
            (
                "its role on the container",
                f"{container}/providers/Microsoft.Authorization/roleAssignments/{own}",
                ROLES_API,
                grant(principal) if principal else grant,
            ),
            (
                f"the role {ROLE_NAME!r}",
                f"/providers/Microsoft.Authorization/roleDefinitions/{self._role}",
                ROLES_API,
                {"properties": role},
            ),
        ]

    def _put(self, path: str, api: str, body: Any, what: str) -> Any:
        """Make one thing and wait until it is there. A new identity takes a while to be known to roles."""
        ends_s = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                reply = self._arm.request("PUT", path, f"make {what}", body=body, **{"api-version": api})
            except ProviderError as error:
                if error.code == "RoleAssignmentExists":
                    return {}
                if error.code not in ("PrincipalNotFound", "StorageAccountOperationInProgress") or self._late(ends_s):
                    raise
            else:
                state = ((reply or {}).get("properties") or {}).get("provisioningState", "Succeeded")
                if reply is not None and state == "Succeeded":
                    return reply
                if self._late(ends_s):
                    raise ProviderUnavailable(f"Azure has not made {what} in time.", f"It is {state}.", "Run it again.")
            self._clock.sleep(AGAIN_S)

    def _late(self, ends_s: float) -> bool:
        return self._clock.monotonic() >= ends_s
