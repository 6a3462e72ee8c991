"""Compute Engine behind the provider contract."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from providers.base import (
    TAG_OWNER,
    AmbiguousOutcome,
    AuthError,
    Backstop,
    Billing,
    Intent,
    InvalidRequest,
    Machine,
    MachineNotFound,
    MachineState,
    Offer,
    OfferRequest,
    ProviderError,
    StoreRequest,
)
from providers.gcp import backstop, credentials, errors, machine, requests
from providers.gcp.client import Compute, Place, is_absent, place_of
from providers.gcp.network import open_ports_note
from providers.gcp.offers import Facts, offers
from providers.gcp.prices import CATALOGUE_AGE_S, GcpCataloguePrices
from providers.gcp.store import machine_store, region_of
from providers.prices.market import shapes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from launcher.core.clock import Clock

CONSOLE_TAIL_BYTES = 64 * 1024
# An operation is asked after its first half second, then more and more seldom.
FIRST_POLL_S = 0.5
LONGEST_POLL_S = 4.0
# A first call that is this young cannot be the replay of one whose machine has lived and died.
FRESH_S = 10.0
# Finished operations are kept an hour at least (compute/docs/instances/viewing-compute-operations): later, nothing
# proves that a token's machine has not lived. The rest is for the time that a create may take.
PROVABLE_S = 3000.0
GONE = "IdempotentInstanceTerminated"
INIT = "gpulaunch init gcp --apply"


class GcpProvider:
    """Machines of one Google Cloud project."""

    name = "gcp"
    billing = Billing(
        granularity_s=Decimal(1),
        floor_s=Decimal(60),
        billed_states=frozenset({MachineState.RUNNING, MachineState.STOPPING}),
        source="compute/all-pricing: per second, one minute at least; STOPPING is counted as billed",
    )
    bills_awake_only = False
    worst_lateness_s = backstop.WORST_LATENESS_S
    shutdown_notice_s = backstop.SPOT_SHUTDOWN_S
    poll_s = 15.0
    heartbeat_s = 30.0
    boot_timeout_s = 900.0

    def __init__(self, *, clock: Clock, home: str, settings: Mapping[str, Any]) -> None:
        self._clock = clock
        self._home = home
        self._settings = dict(settings)
        self._source = credentials.find(os.environ, settings)
        self.account = self._source.account
        self.binding: dict[str, Any] = {
            "project": self._source.project,
            "credentials": self._source.path,
            "endpoint": self._source.endpoint,
        }
        self._compute = Compute(self._source, clock)
        self._facts = Facts(self._compute, clock)
        self._prices = GcpCataloguePrices(clock, self._source)
        self._consoles: dict[str, tuple[bytes, int]] = {}
        self._seen: dict[str, Machine] = {}
        self._called: set[str] = set()
        self._spot: set[str] = set()
        self._spot_usd: dict[str, Decimal] = {}
        if self._source.endpoint:  # a cloud on this computer limits no calls
            self.poll_s = self.heartbeat_s = 1.0

    @property
    def skew_s(self) -> float:
        """Seconds by which this computer's clock is ahead of Google's."""
        return self._compute.skew_s

    # Before anything is made

    def preflight(self) -> Backstop:
        """Check credentials, project and rights. The cloud's timer is part of the insert, so it is always armed."""
        credentials.check(self._source)
        self._facts.ask()
        identity = self._settings.get("service_account")
        note = open_ports_note(self._facts.rules, requests.network_of(self._settings))
        return Backstop(
            armed=True,
            what=backstop.WHAT,
            own_end=bool(identity),
            own_end_fix="" if identity else f"Make the machine's own identity: {INIT}",
            notes=(note,) if note else (),
        )

    def offers(self, request: OfferRequest) -> list[Offer]:
        """Every zone with a T4 that the quotas leave room for, priced."""
        credentials.check(self._source)
        self._facts.ask()
        shapes = shapes_of(request, clock=self._clock, home=self._home, loader=self._prices, max_age_s=CATALOGUE_AGE_S)
        return offers(request, shapes, self._facts, self._source.project)

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """A bucket of Cloud Storage, by the machine's own identity."""
        store = machine_store(request, self._settings)
        region = region_of(store["bucket"], self._source)
        return {**store, "region": region} if region else store

    def calls(self, offer: Offer) -> list[str]:
        """One call makes all, its deadline included."""
        kind = "spot" if offer.spot else "standard"
        return [
            (
                f"compute.instances.insert: one {offer.instance_type} with one T4 in {offer.zone} ({kind}), its disk "
                "and its address, deleted by Compute Engine itself at the hard deadline"
            ),
            "compute.zoneOperations.get: until it is placed",
            "compute.instances.get: to see the deadline that Compute Engine has set",
        ]

    # Making

    def create(self, intent: Intent) -> Machine:
        """One insert, safe to repeat: by its name, which is unique in the zone, and by its request id."""
        self._check_account(intent)
        place = Place(str(intent.offer.zone), requests.name_of(intent.token))
        age_s = (self._clock.now() - intent.created_at).total_seconds()
        if intent.token in self._called or age_s > FRESH_S:
            made = self._made_before(place, intent)
            if made is not None:
                return made
        self._called.add(intent.token)
        run_s = backstop.run_s(intent, self._clock.now())
        if run_s < backstop.LEAST_RUN_S:
            raise InvalidRequest(
                f"The deadline of {place.id} is too near, or has passed.",
                f"Compute Engine takes no limit below {backstop.LEAST_RUN_S} s.",
                code="DeadlinePassed",
            )
        if age_s > PROVABLE_S:
            raise MachineNotFound(f"Whether {place.id} has lived cannot be told any more; nothing is there.", code=GONE)
        resource = requests.instance(intent, run_s=run_s)
        try:
            operation = self._compute.insert(place.zone, resource, requests.request_id(intent.token))
        except errors.AlreadyExists:
            return self._made_before(place, intent) or self._accept(place, intent)
        self._follow(place, operation)
        return self._accept(place, intent)

    def _check_account(self, intent: Intent) -> None:
        if intent.account != self.account:
            raise AuthError(
                f"These credentials speak for {self.account}, and the job belongs to {intent.account}.",
                fix="Give the credentials that launched it back.",
                code="ACCOUNT_MISMATCH",
            )

    def _made_before(self, place: Place, intent: Intent) -> Machine | None:
        """What an earlier call with this token has made; None if none was accepted. Raises what became of it."""
        insert = machine.insert_of(self._compute.operations(place))
        if insert is not None and not machine.is_done(insert):
            self._follow(place, insert.name)
        elif insert is not None and insert.error.errors:
            self._raise_failed(place, insert)
        elif insert is None and is_absent(lambda: self._compute.instance(place)):
            return None
        return self._accept(place, intent)

    def _accept(self, place: Place, intent: Intent) -> Machine:
        """The machine that is there, if it is the one that was asked for and the cloud will end it in time."""
        try:
            instance = self._compute.instance(place)
        except MachineNotFound:
            return self._what_is_left(place, code=GONE)
        if requests.fingerprint_on(instance) != requests.fingerprint(intent):
            raise InvalidRequest(
                f"The token {intent.token} was used for another request.", code="IdempotentParameterMismatch"
            )
        if machine.is_pending(instance):
            raise AmbiguousOutcome(f"{place.id} is being placed.", code="PLACING")
        if not backstop.is_armed(instance, intent):
            self.delete(place.id)
            raise AmbiguousOutcome(
                f"{place.id} was placed too late, and is given back.",
                f"Compute Engine would delete it at {backstop.deadline_of(instance) or 'no time'}, "
                f"not at {intent.hard_deadline}.",
                code="BACKSTOP_NOT_ARMED",
            )
        return self._note(instance)

    def _follow(self, place: Place, operation_name: str) -> None:
        """Wait until an insert is decided. Raises what it failed with, AmbiguousOutcome when it takes too long."""
        until_s = self._clock.monotonic() + backstop.PLACED_WITHIN_S
        wait_s = FIRST_POLL_S
        trouble: ProviderError | None = None
        while self._clock.monotonic() < until_s:
            try:
                operation = self._compute.operation(place.zone, operation_name)
            except ProviderError as error:
                trouble = error
            else:
                if machine.is_done(operation):
                    if operation.error.errors:
                        self._raise_failed(place, operation)
                    return
            self._clock.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_POLL_S)
        raise AmbiguousOutcome(
            f"Whether {place.id} could be placed is not known after {backstop.PLACED_WITHIN_S:.0f} s.",
            trouble.what if trouble else "",
            code="PLACING",
        )

    def _raise_failed(self, place: Place, operation: Any) -> None:
        """An insert that ended with an error has made nothing; should something stand there all the same, it goes."""
        error = errors.from_operation(operation, f"make {place.id}", project=self._source.project)
        if isinstance(error, errors.AlreadyExists):
            return
        if is_absent(lambda: self._compute.instance(place)):
            raise error
        self._compute.delete(place)
        raise AmbiguousOutcome(f"{place.id} failed, and is being deleted.", error.what, code=error.code)

    # Watching

    def get(self, machine_id: str) -> Machine:
        """The machine, or the disk that it has left behind. Raises MachineNotFound with the evidence of its end.

        The external address is ephemeral: it is part of the machine, and is released with it.
        """
        place = place_of(machine_id)
        try:
            return self._note(self._compute.instance(place))
        except MachineNotFound as error:
            return self._what_is_left(place, code=error.code)

    def _what_is_left(self, place: Place, *, code: str) -> Machine:
        """The disk of a machine that is gone. Raises MachineNotFound when there is none."""
        ended = machine.evidence(place, self._compute.operations(place), self._seen.get(place.id), self.skew_s)
        try:
            disk = self._compute.disk(place)
        except MachineNotFound:
            raise MachineNotFound(f"{place.id} is gone.", machine=self._priced(ended), code=code) from None
        return machine.describe_disk(disk, ended, self.skew_s)

    def list(self, owner: str) -> list[Machine]:
        """Every machine with this owner's label in all zones, and every disk without its machine."""
        found = {each.id: each for each in map(self._note, self._compute.instances(TAG_OWNER, owner))}
        for disk in self._compute.disks(TAG_OWNER, owner):
            left = machine.describe_disk(disk, None, self.skew_s)
            found.setdefault(left.id, left)
        return list(found.values())

    def _note(self, instance: Any) -> Machine:
        """A machine that exists. What only it can tell, and not once it is gone, is kept: its start, its last words."""
        described = machine.describe(instance, self.skew_s, project=self._source.project)
        if described.state == MachineState.STOPPED:
            described = msgspec.structs.replace(described, state_reason=self._why_stopped(place_of(described.id)))
        if described.state in (MachineState.STOPPING, MachineState.STOPPED):
            self._read_console(described.id)
        self._seen[described.id] = described
        if instance.scheduling.provisioning_model == "SPOT":
            self._spot.add(described.id)
        return described

    def _why_stopped(self, place: Place) -> str | None:
        return machine.ending(self._compute.operations(place))

    def delete(self, machine_id: str) -> None:
        """Order the machine deleted; where only its disk is left, that."""
        place = place_of(machine_id)
        for order in (self._compute.delete, self._compute.delete_disk):
            try:
                order(place)
            except MachineNotFound:
                continue
            return

    def heartbeat(self, machine_id: str) -> bytes:
        """The tail of the serial console; once the machine is gone, what was read of it before."""
        self._read_console(machine_id)
        return self._consoles.get(machine_id, (b"", 0))[0]

    def _read_console(self, machine_id: str) -> None:
        """Read on from where the last reading ended."""
        tail, start = self._consoles.get(machine_id, (b"", 0))
        try:
            more, start = self._compute.serial(place_of(machine_id), start)
        except MachineNotFound:
            return
        self._consoles[machine_id] = _tail(tail + more), start

    def console_url(self, machine_id: str) -> str | None:
        """Its page in Google's console."""
        return machine.console_url(place_of(machine_id), self._source.project)

    # What it has cost

    def _priced(self, ended: Machine | None) -> Machine | None:
        """With what a spot machine's compute has cost, where the catalogue proves it; else its ceiling counts."""
        if ended is None or ended.id not in self._spot:
            return ended
        start, end = ended.billing_started_at, ended.billing_ended_at
        if start is None or end is None:
            return ended
        if ended.id not in self._spot_usd:
            skew = timedelta(seconds=self.skew_s)
            rate = self._prices.spot_usd_per_hour(ended.region, start - skew, end - skew)
            if rate is None:
                return ended
            seconds = max(Decimal(math.ceil((end - start).total_seconds() - 1e-6)), self.billing.floor_s)
            self._spot_usd[ended.id] = seconds * rate / 3600
        return msgspec.structs.replace(ended, compute_usd=self._spot_usd[ended.id])


def _tail(console: bytes) -> bytes:
    """The last whole lines that fit."""
    if len(console) <= CONSOLE_TAIL_BYTES:
        return console
    cut = console[-CONSOLE_TAIL_BYTES:]
    return cut[cut.find(b"\n") + 1 :]
