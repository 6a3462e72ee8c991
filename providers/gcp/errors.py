"""Google's errors as ours: by HTTP status, reason and code, never by the words of a message.

Two layers: an HTTP error has a status and a reason; an operation that was accepted may still end with errors, each with
a code (compute reference, `Operation.error`). Most lacks of capacity and quota come by the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from providers.gcp.credentials import LOGIN

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPACITY = frozenset({
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "REGION_RESOURCE_POOL_EXHAUSTED",
    "RESOURCE_POOL_EXHAUSTED",
    "GPU_STOCKOUT",
    "STOCKOUT",
    "STOCKOUTERROR",
    "RESOURCE_AVAILABILITY",
    "INSUFFICIENTCAPACITY",
    # A spot machine that was taken back while it was being made.
    "UNSUPPORTED_OPERATION",
})  # fmt: skip
QUOTA = frozenset({"QUOTA_EXCEEDED", "QUOTAEXCEEDED", "LIMIT_EXCEEDED", "LIMITEXCEEDED"})
RATE = frozenset({
    "RATE_LIMIT_EXCEEDED", "RATELIMITEXCEEDED", "USERRATELIMITEXCEEDED", "RESOURCE_OPERATION_RATE_EXCEEDED",
})  # fmt: skip
NOT_READY = frozenset({"RESOURCE_NOT_READY", "RESOURCENOTREADY", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
                       "RESOURCEINUSEBYANOTHERRESOURCE"})  # fmt: skip
INTERNAL = frozenset({"INTERNAL_ERROR", "INTERNALERROR", "BACKENDERROR", "BACKEND_ERROR"})
ALREADY = frozenset({"ALREADYEXISTS", "RESOURCE_ALREADY_EXISTS"})
DISABLED = frozenset({"ACCESSNOTCONFIGURED", "SERVICE_DISABLED"})
GLOBAL_GPUS = "GPUS_ALL_REGIONS"


class AlreadyExists(InvalidRequest):
    """Something of that name is there."""


def quota_error(project: str, metric: str, *, where: str, limit: float, next_scope: str | None) -> QuotaError:
    """What is asked for does not fit a quota: the link, and the text to send with it."""
    return QuotaError(
        f"The quota {metric} of project {project} is {limit:g} in {where}: no machine with a T4 may be made there.",
        "New projects have none until it is asked for." if not limit else "What is used up counts.",
        f"Ask for more: https://console.cloud.google.com/iam-admin/quotas?project={project}&metric={metric} "
        f"(text to send: Please raise {metric} to {int(limit) + 1} for project {project}. "
        "It is for one T4 at a time, to train small language models.)",
        code=metric,
        next_scope=next_scope,
    )


def from_call(error: Exception, doing: str, *, project: str = "") -> ProviderError:
    """What the SDK raised as one of our errors. `doing` says what was asked, such as "list the machines"."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests.exceptions import RequestException

    if isinstance(error, ProviderError):
        return error
    if isinstance(error, RetryError) and error.cause is not None:
        return from_call(error.cause, doing, project=project)
    what = f"Google Cloud would not {doing}."
    if isinstance(error, GoogleAPICallError) and error.code is not None:
        return _from_status(what, int(error.code), reasons(error), error.message or "", project)
    if isinstance(error, TransportError | RequestException) or _is_unreachable(error):
        return ProviderUnavailable(
            f"Google Cloud could not be asked to {doing}.", f"{type(error).__name__}.", code="UNREACHABLE"
        )
    if isinstance(error, GoogleAuthError):
        return AuthError(
            what, "The credentials are not accepted any more.", f"Log in again: {LOGIN}", code=type(error).__name__
        )
    if isinstance(error, GoogleAPICallError):
        return ProviderUnavailable(what, error.message or "", code=type(error).__name__)
    raise error


def from_reply(reply: Any, doing: str, *, project: str = "") -> ProviderError:
    """A refusal that came as a plain HTTP reply."""
    from google.api_core.exceptions import from_http_response

    return from_call(from_http_response(reply), doing, project=project)  # type: ignore[no-untyped-call]


def _is_unreachable(error: Exception) -> bool:
    """A connection that broke below the SDK, as urllib3 and http.client report it."""
    return isinstance(error, OSError)


def reasons(error: Any) -> list[str]:
    """The reasons of an HTTP error, upper case: from `errors[]` and from an ErrorInfo."""
    found = [str(each.get("reason", "")) for each in error.errors or () if isinstance(each, dict)]
    return [reason.upper() for reason in (*found, getattr(error, "reason", None) or "") if reason]


def _from_status(what: str, status: int, found: list[str], why: str, project: str) -> ProviderError:
    code = found[0] if found else str(status)
    kind = _by_code(found, what, why, code, project)
    if kind is not None:
        return kind
    if status == 401:
        return AuthError(what, why, f"Log in again: {LOGIN}", code=code)
    if status == 403:
        return AuthError(
            what, why, f"Ask for the role Compute Instance Admin (v1) in project {project or 'of yours'}.", code=code
        )
    if status == 404:
        return MachineNotFound(f"{what} There is no such thing.", code=code)
    if status == 409:
        return AlreadyExists(what, why, code=code) if ALREADY & set(found) else _later(what, why, code)
    if status == 429:
        return RateLimited(what, why, "It is tried again later.", code=code)
    if status >= 500 or status == 408:
        return _later(what, why, code)
    return InvalidRequest(what, why, "Change what is asked for; `gpulaunch up --dry-run` shows it.", code=code)


def _by_code(found: Iterable[str], what: str, why: str, code: str, project: str) -> ProviderError | None:
    """What a code says by itself, at either layer."""
    codes = {each.upper() for each in found}
    if codes & CAPACITY:
        return CapacityError(what, why or "It has no such machine free.", code=code, next_scope="zone")
    if codes & QUOTA:
        return _quota(what, why, code, project)
    if codes & RATE:
        return RateLimited(what, why, "It is tried again later.", code=code)
    if codes & DISABLED:
        return AuthError(
            what,
            "The API is not switched on in this project.",
            f"Switch it on: gcloud services enable compute.googleapis.com --project {project}",
            code=code,
        )
    if codes & NOT_READY:
        return _later(what, why, code)
    return None


def _quota(what: str, why: str, code: str, project: str, info: Any = None) -> QuotaError:
    """A quota that turned out to be used up: the metric is known where the cloud names it apart from its text."""
    metric = info.limit_name.removesuffix("-per-project-region").removesuffix("-per-project") if info else ""
    metric = metric.replace("-", "_").upper() or code
    return QuotaError(
        what,
        why,
        f"Ask for more: https://console.cloud.google.com/iam-admin/quotas?project={project}",
        code=metric,
        next_scope="provider" if metric == GLOBAL_GPUS else "region",
    )


def _later(what: str, why: str, code: str) -> ProviderUnavailable:
    return ProviderUnavailable(what, why, "It is tried again later.", code=code)


def from_operation(operation: Any, doing: str, *, project: str = "") -> ProviderError:
    """The error that an accepted operation ended with."""
    listed = list(operation.error.errors)
    codes = [str(each.code) for each in listed]
    why = " ".join(each.message for each in listed if each.message)
    infos = [detail.error_info.reason for each in listed for detail in each.error_details if detail.error_info.reason]
    what = f"Google Cloud could not {doing}."
    code = codes[0] if codes else str(operation.http_error_status_code)
    quotas = [detail.quota_info for each in listed for detail in each.error_details if detail.quota_info.limit_name]
    if quotas:
        return _quota(what, why, code, project, quotas[0])
    kind = _by_code((*codes, *infos), what, why, code, project)
    if kind is not None:
        return kind
    if {each.upper() for each in codes} & INTERNAL:
        return CapacityError(what, why, code=code, next_scope="zone")
    return _from_status(what, int(operation.http_error_status_code or 400), codes, why, project)
