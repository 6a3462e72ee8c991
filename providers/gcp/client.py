"""Compute Engine through google-cloud-compute: every call bounded in time, every error one of ours.

Three traps of the SDK decide how it is used. `insert()` and `delete()` follow their operation through a client that
asks Google whatever endpoint was set: the unary calls are used, and our own client for operations. The default retries
of `get` and `list` go on for 600 s whatever `timeout` says: each call brings its own. And importing the package takes
two seconds, so it is imported with the first call.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from providers.base import AmbiguousOutcome, MachineNotFound, ProviderUnavailable
from providers.gcp import errors
from providers.gcp.credentials import Source, installed, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from launcher.core.clock import Clock

# One HTTP exchange; the documented best effort of an API call is well below it.
CALL_TIMEOUT_S = 20.0
# Reads are repeated this long when the API answers 503 or not at all; the guard asks again at its next look anyway.
READ_PATIENCE_S = 8.0
_DATED = ("get", "insert", "delete", "list", "aggregated_list", "get_serial_port_output")


class Place(NamedTuple):
    """Where a machine is: `zone/name` is its id."""

    zone: str
    name: str

    @property
    def id(self) -> str:
        """As the journal knows it."""
        return f"{self.zone}/{self.name}"

    @property
    def region(self) -> str:
        """A zone is its region and a letter."""
        return self.zone.rpartition("-")[0]


def place_of(machine_id: str) -> Place:
    """The place that an id names."""
    zone, _, name = machine_id.partition("/")
    return Place(zone, name)


class Compute:
    """One project's Compute Engine."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self.project = source.project
        self.skew_s = 0.0
        """Seconds that this computer's clock is ahead of the cloud's, by the newest reply."""
        self._asking = threading.local()

    def load(self) -> None:
        """Import the SDK and read the credentials. Raises AuthError, InvalidRequest.

        To be called before several threads ask: the SDK's modules do not bear being imported by two at once.
        """
        _ = self._credentials, self._sdk

    # Machines

    def insert(self, zone: str, resource: dict[str, Any], request_id: str) -> str:
        """Ask for a machine; the operation's name. Raises AmbiguousOutcome when it may have been accepted."""
        request = self._sdk.InsertInstanceRequest(
            project=self.project, zone=zone, request_id=request_id, instance_resource=resource
        )
        try:
            with self._calling("make the machine"):
                operation = self._instances.insert_unary(request, retry=None, timeout=CALL_TIMEOUT_S)
        except ProviderUnavailable as error:
            raise AmbiguousOutcome(
                f"Whether {resource['name']} was made in {zone} is not known.", error.why or error.what, code=error.code
            ) from error
        return str(operation.name)

    def operation(self, zone: str, name: str) -> Any:
        """An operation as it stands now."""
        with self._calling("tell how an operation stands"):
            return self._operations.get(project=self.project, zone=zone, operation=name, **self._reading)

    def operations(self, place: Place) -> list[Any]:
        """What was done to a machine, oldest first, as long as Google keeps it: an hour at least, 14 days at most.

        Source: compute/docs/instances/viewing-compute-operations, "Operation retention".
        """
        request = self._sdk.ListZoneOperationsRequest(
            project=self.project, zone=place.zone, filter=f'targetLink eq ".*/instances/{place.name}"', max_results=500
        )
        with self._calling("list the operations"):
            found = list(self._operations.list(request, **self._reading))
        return sorted(found, key=lambda operation: operation.insert_time)

    def instance(self, place: Place) -> Any:
        """A machine as it stands now. Raises MachineNotFound."""
        with self._calling("describe the machine"):
            return self._instances.get(project=self.project, zone=place.zone, instance=place.name, **self._reading)

    def instances(self, label: str, value: str) -> list[Any]:
        """Every machine with that label, in all zones. Raises ProviderUnavailable when a zone does not answer."""
        request = self._sdk.AggregatedListInstancesRequest(
            project=self.project, filter=f"labels.{label}={value}", max_results=500
        )
        with self._calling("list the machines"):
            pages = self._instances.aggregated_list(request, **self._reading).pages
            return [each for page in pages for each in _whole(page, "instances")]

    def disks(self, label: str, value: str) -> list[Any]:
        """Every disk with that label, in all zones."""
        request = self._sdk.AggregatedListDisksRequest(
            project=self.project, filter=f"labels.{label}={value}", max_results=500
        )
        with self._calling("list the disks"):
            pages = self._disks.aggregated_list(request, **self._reading).pages
            return [each for page in pages for each in _whole(page, "disks")]

    def disk(self, place: Place) -> Any:
        """A machine's boot disk, which has the machine's name. Raises MachineNotFound."""
        with self._calling("describe the disk"):
            return self._disks.get(project=self.project, zone=place.zone, disk=place.name, **self._reading)

    def delete(self, place: Place) -> None:
        """Order a machine deleted, with its disk. Raises MachineNotFound."""
        with self._calling("delete the machine"):
            self._instances.delete_unary(
                project=self.project, zone=place.zone, instance=place.name, retry=None, timeout=CALL_TIMEOUT_S
            )

    def delete_disk(self, place: Place) -> None:
        """Order a disk deleted that its machine has left behind. Raises MachineNotFound."""
        with self._calling("delete the disk"):
            self._disks.delete_unary(
                project=self.project, zone=place.zone, disk=place.name, retry=None, timeout=CALL_TIMEOUT_S
            )

    def serial(self, place: Place, start: int) -> tuple[bytes, int]:
        """The serial console from byte `start` on, as far as it is kept, and where to go on. Raises MachineNotFound."""
        request = self._sdk.GetSerialPortOutputInstanceRequest(
            project=self.project, zone=place.zone, instance=place.name, port=1, start=start
        )
        with self._calling("read the console"):
            output = self._instances.get_serial_port_output(request, **self._reading)
        return output.contents.encode(), int(output.next_)

    # The project

    def describe_project(self) -> Any:
        """The project, with the quotas that hold in all regions together."""
        with self._calling("describe the project"):
            return self._projects.get(project=self.project, **self._reading)

    def regions(self) -> list[Any]:
        """Every region, with its quotas."""
        with self._calling("list the regions"):
            return list(self._regions.list(project=self.project, **self._reading))

    def zones_with(self, accelerator: str) -> list[str]:
        """The zones that have this kind of accelerator."""
        request = self._sdk.AggregatedListAcceleratorTypesRequest(
            project=self.project, filter=f"name={accelerator}", max_results=500
        )
        with self._calling("list the zones with GPUs"):
            pages = self._accelerators.aggregated_list(request, **self._reading).pages
            found = [each for page in pages for each in _whole(page, "accelerator_types")]
        return sorted(each.zone.rpartition("/")[2] for each in found)

    def firewalls(self) -> list[Any]:
        """Every firewall rule of the project."""
        with self._calling("list the firewall rules"):
            return list(self._firewalls.list(project=self.project, **self._reading))

    # The SDK, on first use

    @cached_property
    def _sdk(self) -> Any:
        return installed("google.cloud.compute_v1")

    @cached_property
    def _credentials(self) -> Any:
        return load(self._source)

    @property
    def _reading(self) -> dict[str, Any]:
        """How reads are called: repeated for a few seconds, where the fault is Google's."""
        from google.api_core import exceptions, retry

        passing = retry.if_exception_type(exceptions.ServiceUnavailable, exceptions.GatewayTimeout)
        return {
            "retry": retry.Retry(predicate=passing, initial=0.5, maximum=4.0, timeout=READ_PATIENCE_S),
            "timeout": CALL_TIMEOUT_S,
        }

    @cached_property
    def _instances(self) -> Any:
        return self._client("Instances", "instances")

    @cached_property
    def _operations(self) -> Any:
        return self._client("ZoneOperations", "zone_operations")

    @cached_property
    def _disks(self) -> Any:
        return self._client("Disks", "disks")

    @cached_property
    def _projects(self) -> Any:
        return self._client("Projects", "projects")

    @cached_property
    def _regions(self) -> Any:
        return self._client("Regions", "regions")

    @cached_property
    def _accelerators(self) -> Any:
        return self._client("AcceleratorTypes", "accelerator_types")

    @cached_property
    def _firewalls(self) -> Any:
        return self._client("Firewalls", "firewalls")

    def _client(self, name: str, module: str) -> Any:
        """One of the SDK's clients, on our endpoint and credentials, which notes the date of each reply."""
        from importlib import import_module

        credentials = self._credentials
        rest = import_module(f"google.cloud.compute_v1.services.{module}.transports.rest")
        heard = _interceptor(getattr(rest, f"{name}RestInterceptor"), self._hear_date)
        transport = getattr(rest, f"{name}RestTransport")(
            host=self._source.endpoint or "compute.googleapis.com", credentials=credentials, interceptor=heard
        )
        return getattr(self._sdk, f"{name}Client")(transport=transport)

    def _hear_date(self, header: str) -> None:
        """The cloud's clock said this second some time between our question and now: if it may be ours, it is."""
        said = parsedate_to_datetime(header).astimezone(UTC)
        most_s = (self._clock.now() - said).total_seconds()
        least_s = (self._asking.since - said).total_seconds() - 1.0
        self.skew_s = 0.0 if least_s <= 0.0 <= most_s else (least_s + most_s) / 2

    @contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        self._asking.since = self._clock.now()
        try:
            yield
        except Exception as error:
            known = errors.from_call(error, doing, project=self.project)
            if known is error:
                raise
            raise known from error


def _interceptor(base: type, hear_date: Callable[[str], None]) -> Any:
    """The SDK's own hook for replies, listening to their Date."""

    def note(_: Any, response: Any, metadata: Any) -> Any:
        date = next((value for key, value in metadata if key.lower() == "date"), None)
        if date:
            hear_date(str(date))
        return response, metadata

    return type("Dated", (base,), {f"post_{verb}_with_metadata": note for verb in _DATED})()


def _whole(page: Any, field: str) -> Iterator[Any]:
    """What an aggregated page holds. Raises ProviderUnavailable when part of the cloud did not answer for itself."""
    missing = list(page.unreachables)
    for scope, listed in page.items.items():
        if listed.warning.code == "UNREACHABLE":
            missing.append(scope)
        yield from getattr(listed, field)
    if missing:
        raise ProviderUnavailable(
            "Google Cloud could not list everything.", f"No answer from {', '.join(missing)}.", code="UNREACHABLE"
        )


def is_absent(call: Callable[[], Any]) -> bool:
    """Whether what the call asks for is not there."""
    try:
        call()
    except MachineNotFound:
        return True
    return False


def moment(text: str) -> datetime | None:
    """A time of Google's, such as 2026-11-21T04:00:00.000-08:00, in UTC; None where there is none."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
