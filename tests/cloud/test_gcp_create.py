"""Making a machine on Compute Engine: the exact calls, and every way in which one can be made twice, or not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from gcp_project import HARD_S, IDENTITY, Project

from providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Intent,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    ProviderError,
    QuotaError,
    RateLimited,
)
from providers.gcp.requests import IMAGE, fingerprint, request_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project in which every request must be one that Google would take."""
    made = Project(tmp_path)
    yield made
    made.fake.close()
    assert made.fake.problems == []


def failing(project: Project, intent: Intent) -> ProviderError:
    """What a create raises."""
    with pytest.raises(ProviderError) as caught:
        project.provider.create(intent)
    return caught.value


def test_the_exact_calls_of_a_launch(project: Project) -> None:
    """One mutating call; then reads until it is placed, and one that sees the deadline which the cloud has set."""
    intent = project.intent()
    machine = project.provider.create(intent)
    [insert] = [call for call in project.fake.calls if call.method.endswith("insert")]
    polls = project.fake.names()[1:-1]

    assert project.fake.names()[0] == "instances.insert"
    assert set(polls) == {"zoneOperations.get"}
    assert project.fake.names()[-1] == "instances.get"
    assert insert.query == {"requestId": request_id("j-1-1")}
    assert insert.body == {
        "name": "gl-j-1-1",
        "machineType": "zones/us-central1-a/machineTypes/n1-standard-4",
        "guestAccelerators": [
            {"acceleratorType": "zones/us-central1-a/acceleratorTypes/nvidia-tesla-t4", "acceleratorCount": 1}
        ],
        "scheduling": {
            "provisioningModel": "STANDARD",
            "onHostMaintenance": "TERMINATE",
            "automaticRestart": False,
            "instanceTerminationAction": "DELETE",
            "maxRunDuration": {"seconds": "3600"},
        },
        "disks": [
            {
                "boot": True,
                "autoDelete": True,
                "initializeParams": {
                    "diskName": "gl-j-1-1",
                    "sourceImage": IMAGE,
                    "diskSizeGb": "100",
                    "diskType": "zones/us-central1-a/diskTypes/pd-balanced",
                    "labels": intent.tags,
                },
            }
        ],
        "networkInterfaces": [
            {
                "network": "global/networks/default",
                "accessConfigs": [{"name": "External NAT", "type": "ONE_TO_ONE_NAT", "networkTier": "PREMIUM"}],
            }
        ],
        "tags": {"items": ["gpulaunch"]},
        "serviceAccounts": [{"email": IDENTITY, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}],
        "metadata": {
            "items": [
                {"key": "startup-script", "value": "#!/bin/sh\necho hello\n"},
                {"key": "gpulaunch-request", "value": fingerprint(intent)},
            ]
        },
        "labels": intent.tags,
    }
    assert machine.deadline_at == project.cloud.only().ends_by_limit_at
    assert machine.billing_started_at == project.cloud.only().runs_at


def test_a_spot_machine_is_asked_for_as_one(project: Project) -> None:
    """It is deleted, not stopped, when it is taken back."""
    project.provider.create(project.intent(spot=True))
    scheduling = project.cloud.only().body["scheduling"]

    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("SPOT", "DELETE")


def test_image_and_network_can_be_overridden(project: Project) -> None:
    """A configuration names its own, and an identity is not invented."""
    intent = project.intent()
    settings = {"image": "projects/me/global/images/mine", "network": "quiet"}
    project.provider.create(msgspec.structs.replace(intent, settings=settings))
    body = project.cloud.only().body

    assert body["disks"][0]["initializeParams"]["sourceImage"] == "projects/me/global/images/mine"
    assert body["networkInterfaces"][0]["network"] == "global/networks/quiet"
    assert "serviceAccounts" not in body


def test_a_replay_never_moves_the_deadline_out(project: Project) -> None:
    """The request was lost on its way; asked for again ten minutes later, the machine may run ten minutes less."""
    intent = project.intent()
    project.cloud.faults.add("lost_request")
    error = failing(project, intent)
    project.clock.advance(600.0)
    machine = project.provider.create(intent)

    assert isinstance(error, AmbiguousOutcome)
    assert project.cloud.only().body["scheduling"]["maxRunDuration"] == {"seconds": "3000"}
    assert machine.deadline_at is not None
    assert machine.deadline_at <= intent.hard_deadline + timedelta(seconds=60)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_fault_of_the_api_leaves_the_fate_open(project: Project, status: int) -> None:
    """Google may have accepted the insert all the same."""
    intent = project.intent()
    project.cloud.faults.add("http", status=status)

    assert isinstance(failing(project, intent), AmbiguousOutcome)
    assert project.provider.create(intent).id in project.cloud.existing()


def test_a_lost_reply_is_settled_by_another_process(project: Project) -> None:
    """The machine is found by the operations of its name, and nothing is asked for again."""
    intent = project.intent()
    project.cloud.faults.add("lost_reply")
    error = failing(project, intent)
    project.clock.advance(60.0)
    project.provider = project.new_provider()
    machine = project.provider.create(intent)

    assert isinstance(error, AmbiguousOutcome)
    assert project.cloud.existing() == {machine.id}
    assert project.fake.count("compute.instances.insert") == 1


def test_an_insert_that_takes_too_long_is_found_again(project: Project) -> None:
    """Placing is waited for within bounds; a replay goes on waiting for the same operation."""
    project.cloud.faults.add("slow", seconds=90.0)
    intent = project.intent()
    machine_or_error = failing_or_machine(project, intent)

    assert machine_or_error == project.cloud.only().id
    assert project.fake.count("compute.instances.insert") == 1


def failing_or_machine(project: Project, intent: Intent) -> str:
    """Replay until it is settled."""
    for _ in range(5):
        try:
            return project.provider.create(intent).id
        except AmbiguousOutcome:
            project.clock.advance(1.0)
    raise AssertionError("it was never settled")


def test_a_machine_that_is_placed_too_late_is_given_back(project: Project) -> None:
    """Its limit counts from the moment it runs, so its deadline would be later than promised."""
    project.cloud.faults.add("slow", seconds=150.0)
    intent = project.intent()
    first, second = failing(project, intent), failing(project, intent)
    project.clock.advance(60.0)
    third = failing(project, intent)

    assert (first.code, second.code) == ("PLACING", "BACKSTOP_NOT_ARMED")
    assert isinstance(third, MachineNotFound)
    assert third.machine is not None
    assert project.cloud.existing() == set()


def test_a_token_whose_machine_is_gone_makes_none_again(project: Project) -> None:
    """Names can be used again on Compute Engine: the operations of the name prove that it has lived."""
    intent = project.intent()
    machine = project.provider.create(intent)
    project.bury(machine.id)
    project.provider = project.new_provider()
    error = failing(project, intent)

    assert (type(error), error.code) == (MachineNotFound, "IdempotentInstanceTerminated")
    assert isinstance(error, MachineNotFound)
    assert error.machine is not None
    assert error.machine.billing_ended_at == project.cloud.lived()[0].gone_at
    assert project.fake.count("compute.instances.insert") == 1


def test_what_cannot_be_proven_any_more_is_not_made(project: Project) -> None:
    """Google forgets its operations after an hour at the earliest; then nobody knows whether a name has lived."""
    intent = project.intent()
    long_s = 10 * HARD_S
    deadline = intent.created_at + timedelta(seconds=long_s)
    intent = msgspec.structs.replace(intent, hard_after_s=long_s, hard_deadline=deadline)
    project.bury(project.provider.create(intent).id)
    project.clock.advance(2 * 3600.0)
    project.provider = project.new_provider()
    error = failing(project, intent)

    assert (type(error), error.code) == (MachineNotFound, "IdempotentInstanceTerminated")
    assert isinstance(error, MachineNotFound)
    assert error.machine is None
    assert project.fake.count("compute.instances.insert") == 1


def test_the_same_name_for_another_request_is_refused(project: Project) -> None:
    """It is ours only if it was asked for with exactly this request."""
    intent = project.intent()
    project.provider.create(intent)
    project.provider = project.new_provider()
    error = failing(project, msgspec.structs.replace(intent, disk_gb=200))

    assert (type(error), error.code) == (InvalidRequest, "IdempotentParameterMismatch")


def test_another_accounts_job_is_left_alone(project: Project) -> None:
    """The credentials have changed since it was launched."""
    intent = msgspec.structs.replace(project.intent(), account="gcp/other/adc")

    assert isinstance(failing(project, intent), AuthError)
    assert project.fake.calls == []


FAILURES: list[tuple[dict[str, Any], type[ProviderError], str, str | None]] = [
    ({"kind": "operation", "code": "ZONE_RESOURCE_POOL_EXHAUSTED"}, CapacityError,
     "ZONE_RESOURCE_POOL_EXHAUSTED", "zone"),
    ({"kind": "operation", "code": "STRANGE", "reason": "stockout"}, CapacityError, "STRANGE", "zone"),
    ({"kind": "operation", "code": "UNSUPPORTED_OPERATION", "status": 400}, CapacityError,
     "UNSUPPORTED_OPERATION", "zone"),
    ({"kind": "operation", "code": "INTERNAL_ERROR", "status": 500}, CapacityError, "INTERNAL_ERROR", "zone"),
    ({"kind": "operation", "code": "QUOTA_EXCEEDED", "status": 403, "quota": "NVIDIA_T4_GPUS"}, QuotaError,
     "NVIDIA_T4_GPUS", "region"),
    ({"kind": "operation", "code": "QUOTA_EXCEEDED", "status": 403, "quota": "GPUS_ALL_REGIONS"}, QuotaError,
     "GPUS_ALL_REGIONS", "provider"),
    ({"kind": "operation", "code": "RESOURCE_NOT_FOUND", "status": 400}, InvalidRequest, "RESOURCE_NOT_FOUND", None),
    ({"kind": "http", "status": 403, "reason": "quotaExceeded"}, QuotaError, "QUOTAEXCEEDED", "region"),
    ({"kind": "http", "status": 403, "reason": "rateLimitExceeded"}, RateLimited, "RATELIMITEXCEEDED", None),
    ({"kind": "http", "status": 429, "reason": "whatever"}, RateLimited, "WHATEVER", None),
    ({"kind": "http", "status": 403, "reason": "forbidden"}, AuthError, "FORBIDDEN", None),
    ({"kind": "http", "status": 403, "reason": "accessNotConfigured"}, AuthError, "ACCESSNOTCONFIGURED", None),
    ({"kind": "http", "status": 401, "reason": "authError"}, AuthError, "InvalidOperation", None),
    ({"kind": "http", "status": 400, "reason": "invalid"}, InvalidRequest, "INVALID", None),
    ({"kind": "http", "status": 412, "reason": "conditionNotMet"}, InvalidRequest, "CONDITIONNOTMET", None),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "kind", "code", "scope"), FAILURES)
def test_a_refused_insert_has_made_nothing(
    project: Project, rule: dict[str, Any], kind: type[ProviderError], code: str, scope: str | None
) -> None:
    """At both layers an error is known by its code, and says where another attempt may succeed."""
    intent = project.intent()
    project.cloud.faults.add(**rule)
    error = failing(project, intent)

    assert (type(error), error.code, error.next_scope) == (kind, code, scope)
    assert error.what
    assert error.why or error.fix
    assert project.cloud.existing() == set()


def test_a_failed_insert_fails_again_when_it_is_replayed(project: Project) -> None:
    """Its operation says how it ended; nothing is asked for a second time."""
    intent = project.intent()
    project.cloud.faults.stockout("us-central1-a")
    first = failing(project, intent)
    project.provider = project.new_provider()
    project.clock.advance(60.0)
    again = failing(project, intent)

    assert (type(first), first.code) == (type(again), again.code)
    assert project.fake.count("compute.instances.insert") == 1


def test_reads_are_repeated_and_bounded(project: Project) -> None:
    """The SDK's own patience is ten minutes; ours is some seconds."""
    project.cloud.faults.add("http", method="compute.instances.get", times=2)
    machine = project.provider.create(project.intent())

    assert machine.state == MachineState.RUNNING
    assert project.fake.count("compute.instances.get") == 3


def test_a_deadline_that_is_too_near_is_refused(project: Project) -> None:
    """Compute Engine takes no limit below thirty seconds."""
    intent = msgspec.structs.replace(project.intent(), hard_after_s=20.0)
    error = failing(project, intent)

    assert (type(error), error.code) == (InvalidRequest, "DeadlinePassed")
    assert project.fake.calls == []
