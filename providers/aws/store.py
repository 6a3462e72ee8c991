"""How a machine reaches a store in S3: by its own identity, or by a form that was signed for one job's prefix.

S3 API reference, "Browser-based uploads using POST": a signed policy lets its bearer write below a prefix until it
expires, and nothing else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from providers.base import AuthError, InvalidRequest, StoreRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from launcher.core.clock import Clock
    from providers.aws.client import Client

LONGEST_SIGNATURE = timedelta(days=7)
"""SigV4: what is signed is good for seven days at most (S3 user guide, "presigned URLs")."""
LARGEST_OBJECT_BYTES = 5 * 1024**3
"""What one POST may carry (S3 user guide, "Uploading objects")."""


def machine_store(client: Client, settings: Mapping[str, Any], request: StoreRequest, clock: Clock) -> dict[str, Any]:
    """The `store` of the agent's orders. Raises InvalidRequest for one that is not in S3, AuthError."""
    scheme, _, rest = request.url.partition("://")
    if scheme != "s3":
        raise InvalidRequest(
            f"A machine on AWS cannot reach the store {request.url}.",
            "It has an identity on AWS alone, and no credential of yours is ever sent to it.",
            "Use a bucket in S3 (store: s3://bucket/prefix), or --no-store, or the store's own cloud with --provider.",
            code="StoreNotReachable",
            next_scope="provider",
        )
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    place = {"kind": "s3", "bucket": bucket, "prefix": prefix, "region": _region_of(client, bucket)}
    if client.endpoint:
        place["endpoint"] = client.endpoint
    if settings.get("instance_profile"):
        return place
    return {**place, **_signed(client, place, request, clock)}


def _region_of(client: Client, bucket: str) -> str:
    """Where the bucket is: a signature names it, and traffic to another region costs money."""
    reply = client.call(client.home_region, "s3.head_bucket", Bucket=bucket)
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    return str(reply.get("BucketRegion") or headers.get("x-amz-bucket-region") or client.home_region)


def _signed(client: Client, place: dict[str, Any], request: StoreRequest, clock: Clock) -> dict[str, Any]:
    """A form that writes below the job's prefix until the hard deadline, and an address that reads its archive."""
    lasts = request.until + timedelta(seconds=client.skew_s) - clock.now()
    _check_lifetime(client, request.until, lasts, clock)
    lasts_s = max(int(lasts.total_seconds()), 1)
    below = "/".join(part for part in (place["prefix"], request.job) if part)
    s3 = client.client("s3", place["region"])
    post = s3.generate_presigned_post(
        place["bucket"],
        f"{below}/${{filename}}",
        Conditions=[["starts-with", "$key", f"{below}/"], ["content-length-range", 0, LARGEST_OBJECT_BYTES]],
        ExpiresIn=lasts_s,
    )
    if request.archive is None:
        return {"post": post}
    key = "/".join(part for part in (place["prefix"], request.archive) if part)
    where = {"Bucket": place["bucket"], "Key": key}
    return {"post": post, "archive_url": s3.generate_presigned_url("get_object", Params=where, ExpiresIn=lasts_s)}


def _check_lifetime(client: Client, until: datetime, lasts: timedelta, clock: Clock) -> None:
    """What is signed dies with the credentials that signed it: a session's may end before the job does."""
    ends = client.credentials_end
    if lasts > LONGEST_SIGNATURE:
        raise InvalidRequest(
            f"The job may run until {until:%Y-%m-%d %H:%M} UTC: longer than a signed upload form is good for.",
            "Without an identity of its own a machine can write to the store for seven days.",
            "Run: gpulaunch init aws --apply, or set max_duration below 7 days.",
            code="SignatureTooLong",
        )
    if ends is not None and ends < clock.now() + lasts:
        raise AuthError(
            f"Your AWS session ends at {ends:%Y-%m-%d %H:%M} UTC, before the job's deadline: its uploads would fail.",
            "Without an identity of its own a machine writes with a form that your session has signed.",
            "Run: gpulaunch init aws --apply, which gives machines an identity; or log in anew; or use --no-store.",
            code="SessionTooShort",
        )
