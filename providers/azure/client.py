"""One way to Azure Resource Manager: the SDK's clients, made when first used, over one pipeline of our own.

The pipeline is set explicitly. The SDKs' own defaults are ten retries, timeouts of 300 s, a look at an operation every
30 s, and a registration of missing resource providers in passing, which can take minutes: none of them fits a guard
that has deadlines to keep.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from launcher.core.version import VERSION
from providers.azure import errors
from providers.azure.credentials import LOGIN_FIX
from providers.base import AuthError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launcher.core.clock import Clock

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
RETRIES = 1
"""Of a call whose connection failed. What Azure refuses is not repeated here: the guard knows how long it may wait."""
CLI_TIMEOUT_S = 10
POLL_S = 2.0
"""Between two looks at an operation, unless Azure asks for more."""
LONGEST_POLL_S = 15.0
# The `Date` header has whole seconds and travels a while: less than this is no skew.
SKEW_RESOLUTION_S = 2.0
PUBLIC = "https://management.azure.com"
_SCOPE = "https://management.azure.com/.default"


class Arm:
    """The clients for one subscription. Every call goes through `asking`, which turns errors into ours."""

    def __init__(
        self,
        clock: Clock,
        *,
        subscription: str,
        source: str,
        endpoint: str | None,
        on_skew: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`on_skew` is told how far this computer's clock is ahead of Azure's, in seconds, at each reply."""
        self._on_skew = on_skew
        self.clock = clock
        self.subscription = subscription
        self.endpoint = endpoint
        self.skew_s = 0.0
        self._source = source
        self._lock = threading.RLock()

    @cached_property
    def resources(self) -> Any:
        """Resource groups and what is registered."""
        from azure.mgmt.resource.resources import ResourceManagementClient

        return ResourceManagementClient(**self._arguments)

    @cached_property
    def compute(self) -> Any:
        """Machines, sizes, quotas."""
        from azure.mgmt.compute import ComputeManagementClient

        return ComputeManagementClient(**self._arguments)

    @cached_property
    def network(self) -> Any:
        """Networks."""
        from azure.mgmt.network import NetworkManagementClient

        return NetworkManagementClient(**self._arguments)

    @cached_property
    def authorization(self) -> Any:
        """Role assignments."""
        from azure.mgmt.authorization import AuthorizationManagementClient

        return AuthorizationManagementClient(**self._arguments)

    @cached_property
    def logic(self) -> Any:
        """Workflows: Logic Apps by consumption."""
        from azure.mgmt.logic import LogicManagementClient

        return LogicManagementClient(**self._arguments)

    @cached_property
    def schedule(self) -> Any:
        """Deallocation at a time."""
        from azure.mgmt.computeschedule import ComputeScheduleMgmtClient

        return ComputeScheduleMgmtClient(**self._arguments)

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        with self._lock:
            return {
                "credential": self._credential,
                "subscription_id": self.subscription,
                "base_url": self.endpoint or PUBLIC,
                "credential_scopes": [_SCOPE],
                "policies": self._policies(),
                "transport": self._transport,
            }

    @cached_property
    def _transport(self) -> Any:
        from azure.core.pipeline.transport import RequestsTransport

        # A proxy is for the internet, never for this computer.
        return RequestsTransport(
            connection_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, use_env_settings=self.endpoint is None
        )

    def _policies(self) -> list[Any]:
        from azure.core.pipeline import policies

        retry = policies.RetryPolicy(
            retry_total=RETRIES, retry_connect=RETRIES, retry_read=RETRIES, retry_status=0, retry_backoff_factor=0.2
        )
        return [
            policies.RequestIdPolicy(),
            policies.HeadersPolicy(),
            policies.UserAgentPolicy(f"gpulaunch/{VERSION}"),
            policies.ContentDecodePolicy(),
            retry,
            self._authentication_policy(),
            self._clock_policy(),
        ]

    def _authentication_policy(self) -> Any:
        """On this computer no credential is sent: there is none, and plain http would show it."""
        from azure.core.pipeline.policies import SansIOHTTPPolicy
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        if self.endpoint is not None:
            return SansIOHTTPPolicy()
        return ARMChallengeAuthenticationPolicy(self._credential, _SCOPE)

    def _clock_policy(self) -> Any:
        from azure.core.pipeline.policies import SansIOHTTPPolicy

        arm = self

        class DateWatch(SansIOHTTPPolicy):  # type: ignore[type-arg]
            """Reads the cloud's clock from each reply."""

            def on_response(self, request: Any, response: Any) -> None:
                """Note the skew."""
                del request
                arm.note_date(response.http_response.headers.get("Date"))

        return DateWatch()

    def note_date(self, text: str | None) -> None:
        """Compare this computer's clock with a reply's `Date`."""
        if not text:
            return
        try:
            skew_s = (self.clock.now() - parsedate_to_datetime(text)).total_seconds()
        except (TypeError, ValueError):
            return
        self.skew_s = skew_s if abs(skew_s) >= SKEW_RESOLUTION_S else 0.0
        self._on_skew(self.skew_s)

    @cached_property
    def _credential(self) -> Any:
        if self.endpoint is not None:
            return _NoCredential()
        from azure.identity import AzureCliCredential, EnvironmentCredential

        if self._source == "environment":
            return EnvironmentCredential(
                retry_total=RETRIES, connection_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S
            )
        return AzureCliCredential(process_timeout=CLI_TIMEOUT_S)

    @contextmanager
    def asking(self, doing: str) -> Iterator[None]:
        """Raise what the SDK raises as one of our errors. `doing` completes "Azure refused to …"."""
        try:
            from azure.core.exceptions import AzureError
        except ImportError as error:
            raise AuthError(
                "The Azure SDK is not installed.", str(error) + ".", "Run: pip install 'gpulaunch[azure]'", code="NoSdk"
            ) from error
        try:
            yield
        except ProviderError:
            raise
        except AzureError as error:
            raise errors.translate(error, doing) from error
        except ImportError as error:
            raise AuthError(
                "The Azure SDK is not installed.", str(error) + ".", "Run: pip install 'gpulaunch[azure]'", code="NoSdk"
            ) from error
        except OSError as error:  # a certificate file that cannot be read, for example
            raise AuthError(
                f"Azure could not be asked to {doing}.", f"{error}.", LOGIN_FIX, code="NoCredentials"
            ) from error

    def request(self, method: str, path: str, doing: str, *, body: Any = None, **query: str) -> Any:
        """A call that no SDK of ours knows; `path` begins below the subscription. Returns the decoded reply."""
        with self.asking(doing):
            from azure.core.rest import HttpRequest

            url = path if path.startswith("http") else f"/subscriptions/{self.subscription}{path}"
            reply = self.resources.send_request(HttpRequest(method, url, params=query or None, json=body))
            if reply.status_code >= 400:
                from azure.core.exceptions import HttpResponseError

                raise HttpResponseError(response=reply)
            return reply.json() if reply.content else None

    def pages(self, path: str, doing: str, **query: str) -> list[Any]:
        """Every row of a paged list."""
        rows: list[Any] = []
        page = self.request("GET", path, doing, **query)
        rows += page.get("value", [])
        while page.get("nextLink"):
            page = self.request("GET", page["nextLink"], doing)
            rows += page.get("value", [])
        return rows

    def following(self, *, within_s: float, enough: Callable[[], bool] = lambda: False) -> Any:
        """How an SDK is to follow an operation: on our clock, no longer than `within_s`, or until it is `enough`."""
        from providers.azure.operations import Following

        return Following(self.clock, within_s=within_s, enough=enough)

    def cloud_time(self, at: datetime) -> datetime:
        """A time of this computer's clock as the cloud's clock shows it."""
        return at - timedelta(seconds=self.skew_s)

    def local_time(self, text: str | datetime | None) -> datetime | None:
        """A time that the cloud names, as this computer's clock shows it; None for what is no time."""
        at = read_time(text)
        return None if at is None else at + timedelta(seconds=self.skew_s)

    def close(self) -> None:
        """Close the connections."""
        transport = self.__dict__.get("_transport")
        if transport is not None:
            transport.close()


class _NoCredential:
    """For a cloud on this computer: the SDKs insist on a credential; our pipeline never asks it."""

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """Never called."""
        raise AssertionError(f"no token is sent to a cloud on this computer: {scopes} {options}")


def read_time(text: str | datetime | None) -> datetime | None:
    """A time as Azure writes it: up to seven decimals, `Z` or an offset."""
    if text is None or isinstance(text, datetime):
        return text
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def raw(pipeline_response: Any, deserialized: Any, headers: Any) -> Any:
    """For an SDK's `cls`: the reply as it came. Models differ between generations of the SDKs; the wire does not."""
    del deserialized, headers
    reply = pipeline_response.http_response
    return reply.json() if hasattr(reply, "json") else pipeline_response.context.get("deserialized_data")


def as_json(model: Any) -> dict[str, Any]:
    """A row of an SDK's list as it came."""
    if hasattr(model, "serialize"):
        found: dict[str, Any] = model.serialize(keep_readonly=True)
        return found
    return dict(model)
