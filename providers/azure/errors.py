"""Azure's errors as ours: classified by `error.code` alone.

The status says little: a quota that is used up comes as 409 and is raised as ResourceExistsError; an operation that
failed is reported with status 200; a create-only PUT that meets an existing resource is 412, raised as
ResourceExistsError too. Codes: "Resolve common Azure deployment errors", "Troubleshoot allocation failures" and
"Error messages for Spot virtual machines" (learn.microsoft.com, read November 2026).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from providers.azure.credentials import LOGIN_FIX
from providers.base import (
    AuthError,
    CapacityError,
    InvalidRequest,
    MachineNotFound,
    ProviderError,
    ProviderUnavailable,
    QuotaError,
    RateLimited,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPACITY = {
    "AllocationFailed": "region",
    "ZonalAllocationFailed": "zone",
    "OverconstrainedAllocationRequest": "region",
    "OverconstrainedZonalAllocationRequest": "zone",
    "SkuNotAvailable": "region",
    "SpotPriceGreaterThanProvidedMaxPrice": "region",
    "AzureSpotIsNotSupportedForThisVMSize": "region",
    "AzureSpotFeatureNotEnabledForSubscription": "provider",
    "LocationNotAvailableForResourceType": "region",
    "LocationNotAvailableForResourceGroup": "region",
    "RequestDisallowedByAzure": "region",
}
# On the PUT of a machine, OperationNotAllowed (409) is the quota of cores.
QUOTA = {
    "OperationNotAllowed": "region",
    "QuotaExceeded": "region",
    "ResourceQuotaExceeded": "region",
    "PublicIPCountLimitReached": "region",
    "PublicIpCountLimitReached": "region",
    "ResourceGroupQuotaExceeded": "provider",
}
AUTH = {
    "AuthorizationFailed",
    "LinkedAuthorizationFailed",
    "AuthenticationFailed",
    "InvalidAuthenticationToken",
    "InvalidAuthenticationTokenTenant",
    "ExpiredAuthenticationToken",
    "SubscriptionNotFound",
    "DisabledSubscription",
    "ReadOnlyDisabledSubscription",
    "RequestDisallowedByPolicy",
    "MissingSubscriptionRegistration",
    "ScopeLocked",
    "MarketplacePurchaseEligibilityFailed",
    "ResourcePurchaseValidationFailed",
    "RoleAssignmentUpdateNotPermitted",
    "DenyAssignmentAuthorizationFailed",
}
RATE = {"TooManyRequests", "OperationNotAllowedThrottled", "SubscriptionRequestsThrottled"}
# True of this moment only: the same call works later.
BUSY = {
    "AnotherOperationInProgress",
    "RetryableError",
    "ResourceGroupBeingDeleted",
    "InternalServerError",
    "InternalExecutionError",
    "ServerTimeout",
    "OperationTimedOut",
    "GatewayTimeout",
    "ServiceUnavailable",
    "OperationPreempted",
    "Conflict",
    "PrincipalNotFound",
    "ReferencedResourceNotProvisioned",
    "RetryableErrorDueToAnotherOperation",
}
NOT_FOUND = {"ResourceNotFound", "ResourceGroupNotFound", "NotFound"}
EXISTS = {"PreconditionFailed", "ResourceExists", "ResourceAlreadyExists"}
_STATUS = {401: AuthError, 403: AuthError, 404: MachineNotFound, 429: RateLimited}
_FIXES = {
    "AuthorizationFailed": "Ask an owner of the subscription for the role Contributor.",
    "RequestDisallowedByPolicy": "Ask who set the policy, or choose another region with --region.",
    "MissingSubscriptionRegistration": "Run: az provider register --namespace Microsoft.Compute",
    "ScopeLocked": "Run: az lock list --resource-group GROUP, then az lock delete for each.",
}


def code_of(error: Exception) -> str:
    """The cloud's own code, from the error that the SDK raised; empty where the reply held none."""
    found = getattr(error, "error", None)
    code = getattr(found, "code", None)
    if not code:
        code = _code_in_body(error)
    return str(code or "")


def _code_in_body(error: Exception) -> str | None:
    """Older SDKs leave the body unread: it is `{"error": {"code": …}}` or `{"code": …}`."""
    try:
        body: Any = json.loads(error.response.text())  # type: ignore[attr-defined]
        code = body.get("error", body).get("code")
    except (AttributeError, TypeError, ValueError, LookupError):
        return None
    return str(code) if code else None


def message_of(error: Exception) -> str:
    """The cloud's own sentence, in one line."""
    found = getattr(error, "error", None)
    text = getattr(found, "message", None) or getattr(error, "message", None) or str(error)
    return " ".join(str(text).split())[:500]


def translate(error: Exception, doing: str) -> ProviderError:
    """What the SDK raised, as one of our errors. `doing` says what was tried, such as "list resource groups"."""
    from azure.core import exceptions as azure

    if isinstance(error, azure.ClientAuthenticationError) and not code_of(error):
        return AuthError(f"Azure could not be asked to {doing}.", message_of(error), LOGIN_FIX, code="NoCredentials")
    if isinstance(error, azure.HttpResponseError):
        return from_code(code_of(error), status=error.status_code, doing=doing, why=message_of(error))
    what = f"Azure did not answer when it was asked to {doing}."
    return ProviderUnavailable(what, message_of(error), "It is tried again.", code=type(error).__name__)


def from_code(code: str, *, doing: str, why: str, status: int | None = None) -> ProviderError:
    """An error by its code; by its status where it has none."""
    what = f"Azure refused to {doing}."
    if code in CAPACITY and status != 429:
        return CapacityError(what, why, "Another place is tried.", code=code, next_scope=CAPACITY[code])
    if code in QUOTA and status != 429:
        return QuotaError(what, why, "Another place is tried.", code=code, next_scope=QUOTA[code])
    kind = _kind(code, status)
    if kind is MachineNotFound:
        return MachineNotFound(what, code=code or "NotFound")
    fix = _FIXES.get(code) or ("It is tried again." if kind.retry else "")
    if kind is AuthError and not fix:
        fix = LOGIN_FIX
    scope = "region" if code == "RequestDisallowedByPolicy" else "provider" if kind is AuthError else None
    return kind(what, why, fix, code=code or f"Http{status}", next_scope=scope)


def _kind(code: str, status: int | None) -> type[ProviderError]:
    tables: Iterable[tuple[set[str], type[ProviderError]]] = (
        (AUTH, AuthError),
        (RATE, RateLimited),
        (BUSY, ProviderUnavailable),
        (NOT_FOUND, MachineNotFound),
    )
    for codes, kind in tables:
        if code in codes:
            return kind
    if status in _STATUS:
        return _STATUS[status]
    return ProviderUnavailable if status is not None and (status >= 500 or status == 408) else InvalidRequest
