"""AWS's APIs for one account and one credential source: who we are, one call, pages of calls, regions at once.

Every call goes through `call`: it sets timeouts and retries, reads the cloud's clock from the reply, and turns each
error into one of providers.base. boto3 is imported on first use.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from providers.aws.errors import translate
from providers.base import AuthError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from launcher.core.clock import Clock

T = TypeVar("T")
R = TypeVar("R")

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"
"""boto3's own (AWS SDKs and Tools reference guide, "Service-specific endpoints")."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HOME_REGION = "us-east-1"
"""Where calls go that belong to no region, unless the user has a region of their own."""

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
TRIES = 3
"""For calls that are safe to repeat, the first included. All others are tried once: the guard decides about them."""
AT_ONCE = 32
"""How many calls are under way at one time."""


class Client:
    """AWS for one credential source: the profile of the settings, else what boto3 finds.

    `settings` may name `profile`, `endpoint` and `regions`. Raises InvalidRequest for an endpoint that is plain http
    beyond this computer. Asks nothing of the network before the first call.
    """

    def __init__(self, *, clock: Clock, settings: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._profile: str | None = settings.get("profile")
        self._regions: tuple[str, ...] = settings.get("regions", ())
        self.endpoint = _checked(settings.get("endpoint") or environ.get(ENDPOINT_VARIABLE) or "")
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._lock = threading.Lock()
        self._checked_key = ""
        self.skew_s = 0.0

    @property
    def is_here(self) -> bool:
        """The cloud is a stand-in on this computer."""
        return urlsplit(self.endpoint).hostname in LOOPBACK

    # Who we are

    @cached_property
    def _session(self) -> Any:
        return self._guarded("load the AWS configuration", self._open_session)

    def _open_session(self) -> Any:
        try:
            boto3 = import_module("boto3")
        except ImportError as error:
            raise InvalidRequest(
                "AWS's SDK is not installed.",
                f"{error}.",
                "Run: pip install 'gpulaunch[aws]'",
                code="SdkMissing",
                next_scope="provider",
            ) from error
        return boto3.Session(profile_name=self._profile)

    @cached_property
    def credentials(self) -> Any:
        """The credentials as botocore has them. Raises AuthError without any."""
        found = self._guarded("load the AWS credentials", self._session.get_credentials)
        if found is None:
            raise AuthError(
                "There are no credentials for AWS.",
                "Neither variables, nor a profile, nor a role of this computer was found.",
                "Run: aws configure, or aws sso login, or set AWS_PROFILE.",
                code="NoCredentials",
            )
        return found

    @cached_property
    def source(self) -> str:
        """The credential source, as the account names it: a profile, or boto3's name for where they were found."""
        profile = self.profile
        return f"profile-{profile}" if profile else str(self.credentials.method)

    @property
    def profile(self) -> str | None:
        """The profile whose credentials are used; None where they are from somewhere else, such as variables."""
        if self._profile:
            return self._profile
        elsewhere = self.credentials.method in ("env", "iam-role", "container-role", "explicit")
        return None if elsewhere else str(self._session.profile_name)

    @cached_property
    def account_id(self) -> str:
        """The account's number, as AWS says it. Raises AuthError."""
        return self._identity()

    def _identity(self) -> str:
        key = self._frozen_key()
        account = str(self.call(self.home_region, "sts.get_caller_identity")["Account"])
        self._checked_key = key
        return account

    def check_account(self) -> None:
        """Raise AuthError unless the credentials still speak for `account_id`. Asks only when they have changed."""
        expected = self.account_id
        if self._frozen_key() != self._checked_key and (found := self._identity()) != expected:
            self._checked_key = ""
            raise AuthError(
                f"The AWS credentials now speak for account {found}, not for {expected}.",
                "The profile or the variables were changed while a job of the other account is live.",
                f"Give the credentials of account {expected} back.",
                code="AccountMismatch",
            )

    def _frozen_key(self) -> str:
        """The access key in use: it changes when somebody changes the profile, or a session is renewed."""
        return str(self._guarded("load the AWS credentials", self.credentials.get_frozen_credentials).access_key)

    @property
    def credentials_end(self) -> datetime | None:
        """When a session's credentials end, by this computer's clock; None for keys without an end."""
        self._frozen_key()
        return getattr(self.credentials, "_expiry_time", None)

    # Calls

    @cached_property
    def home_region(self) -> str:
        """The user's own region, else us-east-1."""
        return self._session.region_name or HOME_REGION

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """The regions that the account can use; of them those that the settings name, if they name any."""
        rows = self.call(self.home_region, "ec2.describe_regions")["Regions"]
        able = sorted(row["RegionName"] for row in rows if row.get("OptInStatus") != "not-opted-in")
        return tuple(region for region in able if region in (self._regions or able))

    def call(self, region: str, name: str, *, once: bool = False, **arguments: Any) -> dict[str, Any]:
        """One call, such as `ec2.describe_instances`. Raises ProviderError.

        `once` is for what must not be repeated blindly: one try, and AmbiguousOutcome where its fate is not known.
        """
        service, _, operation = name.partition(".")
        client = self.client(service, region, tries=1 if once else TRIES)

        def work() -> dict[str, Any]:
            reply: dict[str, Any] = getattr(client, operation)(**arguments)
            return reply

        return self._guarded(f"{_camel(operation)} in {region}", work, changes=once)

    def pages(self, region: str, name: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
        """All the rows of a paged call. Raises ProviderError rather than return a part of them."""
        service, _, operation = name.partition(".")
        paginator = self.client(service, region).get_paginator(operation)

        def work() -> list[dict[str, Any]]:
            return [row for page in paginator.paginate(**arguments) for row in page[key]]

        return self._guarded(f"{_camel(operation)} in {region}", work)

    def at_once(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Do the same for each at one time; the results in order. Raises what the first failing one raised."""
        items = list(items)
        with ThreadPoolExecutor(max(min(len(items), AT_ONCE), 1), thread_name_prefix="aws") as pool:
            return list(pool.map(work, items))

    def client(self, service: str, region: str, *, tries: int = TRIES) -> Any:
        """boto3's client, made once. It may be used from several threads; making one may not."""
        key = (service, region, tries)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._guarded("set up AWS's SDK", lambda: self._make(service, region, tries))
            return self._clients[key]

    def _make(self, service: str, region: str, tries: int) -> Any:
        config = import_module("botocore.config").Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": tries},
            max_pool_connections=AT_ONCE,
        )
        self.credentials  # noqa: B018 - without any, this says it better than the first call would
        made = self._session.client(service, region_name=region, endpoint_url=self.endpoint or None, config=config)
        made.meta.events.register("after-call", self._read_clock)
        return made

    def _read_clock(self, http_response: Any, **_: Any) -> None:
        """How far this computer's clock is ahead, by a reply's Date. It is cut to a second: half of one is added."""
        stamp = http_response.headers.get("Date")
        if stamp is not None:
            said = parsedate_to_datetime(stamp).replace(tzinfo=UTC)  # HTTP's dates are in GMT (RFC 9110, 5.6.7)
            self.skew_s = (self._clock.now() - said).total_seconds() - 0.5

    def _guarded(self, doing: str, work: Callable[[], R], *, changes: bool = False) -> R:
        """Do it; what botocore raises becomes one of our errors."""
        try:
            return work()
        except Exception as error:
            known = import_module("botocore.exceptions")
            if not isinstance(error, known.BotoCoreError | known.ClientError | OSError):
                raise  # one of ours, or a bug
            raise translate(error, doing, profile=self._profile, changes=changes) from error


def _checked(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise InvalidRequest(
            f"AWS's endpoint is {endpoint}: plain http, which others can read.",
            "It is allowed for an endpoint on this computer only.",
            f"Use https in {ENDPOINT_VARIABLE}, or unset it.",
            code="PlainHttp",
        )
    return endpoint.rstrip("/")


def _camel(operation: str) -> str:
    """`run_instances` as AWS writes it."""
    return "".join(word.capitalize() for word in operation.split("_"))
