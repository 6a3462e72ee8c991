"""The provider contract: what every cloud must do, and what it must never do.

The comments on `Provider` are obligations. The contract suite in tests/contract holds every provider to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import msgspec

from launcher.core.errors import Exit, GpulaunchError


class RatePart(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the hourly bill: USD per hour.

    It bills while the machine is in a billed state or, when `standing`, from the create call until all is gone.
    """

    name: str
    worst_usd_per_hour: Decimal
    expected_usd_per_hour: Decimal
    source: str
    standing: bool = False


class OneTimeCost(msgspec.Struct, frozen=True, kw_only=True):
    """A cost that does not grow with time, such as a timer's calls: USD."""

    name: str
    usd: Decimal
    source: str


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that could be had: where, what, and at which price."""

    provider: str
    region: str
    instance_type: str
    parts: tuple[RatePart, ...]
    zone: str | None = None
    spot: bool = False
    one_time: tuple[OneTimeCost, ...] = ()
    egress_usd_per_gb: Decimal = Decimal(0)
    boot_s: float = 0.0
    """Seconds from the create call until training usually starts."""
    price_as_of: str = ""
    """Where the prices are from, and their age, for the screen."""

    @property
    def rate_usd_per_hour(self) -> Decimal:
        """USD per hour at its worst: the cap is computed with it."""
        return sum((part.worst_usd_per_hour for part in self.parts), Decimal(0))

    @property
    def expected_usd_per_hour(self) -> Decimal:
        """USD per hour as expected: offers are ranked by it."""
        return sum((part.expected_usd_per_hour for part in self.parts), Decimal(0))

    @property
    def standing_usd_per_hour(self) -> Decimal:
        """The part of the rate that bills whatever the machine's state: disk, address."""
        return sum((part.worst_usd_per_hour for part in self.parts if part.standing), Decimal(0))

    @property
    def one_time_usd(self) -> Decimal:
        """USD that is spent whatever the run time."""
        return sum((cost.usd for cost in self.one_time), Decimal(0))


class OfferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the job needs of a machine."""

    gpu: str | None
    disk_gb: int
    spot: bool
    regions: tuple[str, ...] = ()
    has_image: bool = False
    settings: dict[str, Any] = {}
    """The provider's own section of the configuration and the job file."""


class StoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The store that a machine is to reach, and until when."""

    url: str
    """As in the job file: a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."""
    job: str
    """The job's id: all that a machine writes lies under `<prefix>/<job>/`."""
    until: datetime
    """The hard deadline: nothing that is granted outlives it."""
    region: str
    archive: str | None = None
    """The object, below the prefix, from which the machine brings its working folder."""


class MachineState(StrEnum):
    """What the cloud says of a machine. There is no `gone`: what is gone raises MachineNotFound."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It exists, may bill, and will do no more work: only `delete` is left to do."""


class Billing(msgspec.Struct, frozen=True, kw_only=True):
    """How a cloud rounds: seconds, and the states in which the machine bills."""

    granularity_s: Decimal
    floor_s: Decimal
    billed_states: frozenset[MachineState]
    source: str


class Backstop(msgspec.Struct, frozen=True, kw_only=True):
    """The cloud's own timer: armed with the machine, or what arms it."""

    armed: bool
    what: str
    fix: str = ""
    own_end: bool = True
    """A machine whose job is over deletes itself. False: it switches itself off, and only the guard deletes it."""
    own_end_fix: str = ""
    """What lets it end itself."""
    notes: tuple[str, ...] = ()
    """What else the user should know before money is spent, each with what to do about it."""


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """The whole frozen request for one machine. It is in the journal before `create` is called.

    Times count from `created_at`, which is taken just before the first `create` call: billing cannot start earlier.
    """

    job: str
    name: str
    attempt: int
    token: str
    owner: str
    account: str
    offer: Offer
    created_at: datetime
    hard_after_s: float
    """Seconds after `created_at` when the machine must start to die so that the bill cannot pass the cap."""
    hard_deadline: datetime
    tags: dict[str, str]
    disk_gb: int
    boot_data: bytes
    """Opaque to providers."""
    settings: dict[str, Any] = {}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine as the cloud describes it now."""

    id: str
    token: str
    state: MachineState
    region: str
    created_at: datetime
    billing_started_at: datetime | None = None
    billing_ended_at: datetime | None = None
    billed_s: float | None = None
    """Seconds billed so far by the machine's own count, where it has one (a suspended laptop does not pay)."""
    compute_usd: Decimal | None = None
    """What its compute has cost at the prices that really held, where the cloud tells (a spot price's history)."""
    deadline_at: datetime | None = None
    """When the cloud itself will delete it, where it says so."""
    tags: dict[str, str] = {}
    state_reason: str | None = None
    never_ran: ProviderError | None = None
    """Why it ended before it ran, where the cloud says so only after it has accepted it."""
    log_path: str | None = None
    """Where the training's output can be read as a file on this computer, if it can."""
    console_url: str | None = None
    gpu: dict[str, float] | None = None
    """Readings of its GPU that are taken from outside: watts, energy_wh, temperature_c, …"""


class ProviderError(GpulaunchError):
    """The root of what a provider raises; classified by the cloud's error code, never by its message.

    GpulaunchError
    └── ProviderError
        ├── AuthError            who we are, or what we may do
        ├── QuotaError           a limit of the account
        ├── CapacityError        the cloud has no such machine free
        ├── PriceUnknown         no price, so no cap: refuse
        ├── RateLimited          too many calls
        ├── ProviderUnavailable  the API does not answer, or with a fault of its own
        ├── AmbiguousOutcome     a create whose fate is unknown: replay it with the same token
        ├── MachineNotFound      gone
        └── InvalidRequest       what we asked for makes no sense to the cloud

    `code` is the cloud's own code; `retry` says that the same call may work later; `next_scope` is where another
    attempt may succeed: "zone", "region", "provider" or nowhere (None).
    """

    exit_code = Exit.UNAVAILABLE
    retry: ClassVar[bool] = False

    def __init__(
        self, what: str, why: str = "", fix: str = "", *, code: str = "", next_scope: str | None = None
    ) -> None:
        super().__init__(what, why, fix)
        self.code = code or type(self).__name__
        self.next_scope = next_scope


class AuthError(ProviderError):
    """No credentials, expired credentials, or a missing right."""

    exit_code = Exit.CREDENTIALS


class QuotaError(ProviderError):
    """A limit of the account stands in the way."""


class CapacityError(ProviderError):
    """The cloud has no such machine free there now."""


class PriceUnknown(ProviderError):
    """No price is known. Unknown means refuse, never zero."""


class RateLimited(ProviderError):
    """Too many calls: the same call later."""

    retry = True


class ProviderUnavailable(ProviderError):
    """The API cannot be reached, or fails by a fault of its own: the same call later."""

    retry = True


class AmbiguousOutcome(ProviderError):
    """A create may or may not have been accepted. Settled by replaying the frozen request with the same token."""

    retry = True


class MachineNotFound(ProviderError):
    """The machine and everything made for it are gone: the only proof of teardown.

    `machine` is the evidence that is left of it, if any: when billing ended, and why.
    """

    def __init__(self, what: str, *, machine: Machine | None = None, code: str = "") -> None:
        super().__init__(what, code=code)
        self.machine = machine


class InvalidRequest(ProviderError):
    """The request can never be accepted as it is."""

    exit_code = Exit.USAGE


class Provider(Protocol):
    """What every cloud must do."""

    name: str
    billing: Billing
    bills_awake_only: bool
    """A machine that is this computer costs nothing while it sleeps, so its deadlines count time awake."""
    worst_lateness_s: float
    """Seconds that may pass, at worst, between a due end and the last billed second."""
    shutdown_notice_s: float
    """Seconds that a machine gets between the shutdown signal of a `delete` and its death."""
    poll_s: float
    """Seconds between two looks at the machines of this account."""
    heartbeat_s: float
    """Seconds between two readings of one machine's heartbeat."""
    boot_timeout_s: float
    """Seconds after which a machine that never sent a heartbeat is given up."""
    binding: dict[str, Any]
    """Settings with which another process speaks for the same account with the same credential source: a profile's
    name, a project, an endpoint. Never a credential."""

    @property
    def account(self) -> str:
        """`provider/account id/credential source/endpoint`: the guard speaks for one account.

        It may have to be asked for. Raises AuthError, ProviderUnavailable.
        """

    @property
    def skew_s(self) -> float:
        """Seconds by which this computer's clock is ahead of the cloud's, by the newest reply; 0 before the first.

        Every time in a `Machine` is one of this computer's clock: what the cloud says, plus this.
        """

    def preflight(self) -> Backstop:
        """Check credentials and rights; say whether the cloud's own timer will be armed. Raises AuthError."""

    def offers(self, request: OfferRequest) -> list[Offer]:
        """Every machine that would do, priced. Creates nothing. Raises PriceUnknown, InvalidRequest, QuotaError."""

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """How a machine of this provider reaches the user's store: the `store` of the agent's orders. Creates nothing.

        The machine's own identity by default; no credential of the user ever. Raises InvalidRequest for a store that
        its machines cannot reach, AuthError where the identity for it was not set up.
        """

    def calls(self, offer: Offer) -> list[str]:
        """What `create` would call for this offer, in order, for `up --dry-run`."""

    def create(self, intent: Intent) -> Machine:
        """Make the machine, or return the one that this token made already.

        Idempotent on `intent.token`. Returns once the cloud has accepted and placed the machine; never waits for its
        boot. When the fate of the call is unknown it raises AmbiguousOutcome. A token whose machine has lived and is
        gone raises MachineNotFound, with its evidence, and makes nothing. Every other error means: nothing was made,
        or what was made is already gone. The backstop is armed when it returns.
        """

    def get(self, machine_id: str) -> Machine:
        """The machine as it is now. Raises MachineNotFound once it and all that was made for it are gone."""

    def list(self, owner: str) -> list[Machine]:
        """Every machine with this owner's tag that is not gone. Pages fully, or raises."""

    def delete(self, machine_id: str) -> None:
        """Order the machine and all that was made for it destroyed. Returning means accepted, not gone.

        Repeating it is safe and drives the teardown on. Deleting what is gone is success.
        """

    def heartbeat(self, machine_id: str) -> bytes:
        """The tail of the machine's console, at most 64 KiB, or nothing. Readable for a while after it is gone."""

    def console_url(self, machine_id: str) -> str | None:
        """A page where a person can look at the machine, if there is one."""


TAG_JOB = "gpulaunch-job"
TAG_ATTEMPT = "gpulaunch-attempt"
TAG_OWNER = "gpulaunch-owner"
TAG_CAP = "gpulaunch-cap-microusd"
TAG_DEADLINE = "gpulaunch-deadline"
_DEADLINE_FORMAT = "%Y%m%dt%H%M%Sz"


def make_tags(*, job: str, attempt: int, owner: str, cap_usd: Decimal, hard_deadline: datetime) -> dict[str, str]:
    """The tags that let any computer account for a machine without local state.

    Lower case, digits, `-` and `_` only: what the labels of all three clouds allow.
    """
    return {
        TAG_JOB: job,
        TAG_ATTEMPT: str(attempt),
        TAG_OWNER: owner,
        TAG_CAP: str(int(cap_usd * 1_000_000)),
        TAG_DEADLINE: hard_deadline.strftime(_DEADLINE_FORMAT),
    }


class Tags(msgspec.Struct, frozen=True, kw_only=True):
    """What the tags of a machine say; None: missing, or not as `make_tags` writes it."""

    job: str | None
    attempt: int | None
    owner: str | None
    cap_usd: Decimal | None
    hard_deadline: datetime | None


def read_tags(tags: Mapping[str, str]) -> Tags:
    """The tags of a machine, read back."""
    cap = _whole(tags.get(TAG_CAP))
    return Tags(
        job=tags.get(TAG_JOB) or None,
        attempt=_whole(tags.get(TAG_ATTEMPT)),
        owner=tags.get(TAG_OWNER) or None,
        cap_usd=None if cap is None else Decimal(cap) / 1_000_000,
        hard_deadline=_deadline(tags.get(TAG_DEADLINE, "")),
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,15}", text) else None


def _deadline(text: str) -> datetime | None:
    try:
        at = datetime.strptime(text, _DEADLINE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return at if at.strftime(_DEADLINE_FORMAT) == text else None  # strptime alone forgives missing digits
