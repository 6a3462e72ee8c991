"""How a machine reaches the user's bucket: by its own identity, which `gpulaunch init gcp` has made."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from providers.base import AuthError, InvalidRequest, StoreRequest
from providers.gcp import credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 10.0


def machine_store(request: StoreRequest, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The store as the agent's orders name it. Raises InvalidRequest, AuthError."""
    parts = urlsplit(request.url)
    if parts.scheme != "gs" or not parts.netloc:
        raise InvalidRequest(
            f"A machine of Google Cloud cannot reach the store {request.url}.",
            "It has an identity for Cloud Storage alone, and no credential of yours ever goes to a machine.",
            "Name a bucket there (store: gs://bucket/prefix), or let the machine keep nothing: --no-store",
            code="STORE",
        )
    if not settings.get("service_account"):
        raise AuthError(
            f"The machine has no identity with which it could write to {request.url}.",
            "gcp.service_account is not set in the configuration.",
            "Make it once: gpulaunch init gcp --apply",
            code="NO_SERVICE_ACCOUNT",
        )
    return {"kind": "gcs", "bucket": parts.netloc, "prefix": parts.path.strip("/")}


def region_of(bucket: str, source: credentials.Source) -> str | None:
    """Where a bucket is; None where that cannot be read. Uploads from another place are billed as traffic."""
    from google.auth.transport.requests import AuthorizedSession

    base = source.endpoint or "https://storage.googleapis.com"
    # Whatever is in the way of this question, the answer is only that nothing is known.
    with contextlib.suppress(Exception):
        session: Any = AuthorizedSession(credentials.load(source))  # type: ignore[no-untyped-call]
        reply = session.get(f"{base}/storage/v1/b/{bucket}?fields=location", timeout=TIMEOUT_S)
        if reply.status_code == 200:
            return str(reply.json()["location"]).lower()
    return None
