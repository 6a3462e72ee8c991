"""The fake's own eyes: a request that Google would refuse must be seen, or every other test here proves little."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from gcp_check import check_reply, check_request

ZONE = "/compute/v1/projects/proj/zones/us-central1-a"
GOOD: dict[str, Any] = {
    "name": "gl-1",
    "machineType": "zones/us-central1-a/machineTypes/n1-standard-4",
    "guestAccelerators": [{"acceleratorType": "zones/z/acceleratorTypes/nvidia-tesla-t4", "acceleratorCount": 1}],
    "scheduling": {
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "maxRunDuration": {"seconds": "600"},
    },
    "disks": [{"boot": True, "autoDelete": True, "initializeParams": {"diskSizeGb": "100"}}],
    "networkInterfaces": [{"network": "global/networks/default"}],
    "labels": {"gpulaunch-job": "j-1"},
}


def problems(**changes: Any) -> tuple[str, ...]:
    """What is wrong with an insert."""
    body = copy.deepcopy(GOOD) | changes
    return check_request("POST", f"{ZONE}/instances", body).problems


def test_a_good_insert_has_no_problem() -> None:
    """Else nothing could be made."""
    assert problems() == ()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"machine_type": "x"}, "no such field"),
        ({"disks": [{"boot": "yes"}]}, "not true or false"),
        ({"disks": []}, "exactly one must be the boot disk"),
        ({"scheduling": {**GOOD["scheduling"], "onHostMaintenance": "MIGRATE"}}, "needs TERMINATE"),
        ({"scheduling": {**GOOD["scheduling"], "onHostMaintenance": "DIE"}}, "is none of"),
        ({"scheduling": {**GOOD["scheduling"], "automaticRestart": True}}, "must be false"),
        ({"scheduling": {**GOOD["scheduling"], "maxRunDuration": {"seconds": "29"}}}, "30 seconds to 120 days"),
        ({"scheduling": {**GOOD["scheduling"], "maxRunDuration": {"seconds": 600}}}, "not a number as text"),
        ({"scheduling": {**GOOD["scheduling"], "terminationTime": "2026-11-21T12:00:00Z"}}, "not both"),
        ({"scheduling": {"onHostMaintenance": "TERMINATE", "instanceTerminationAction": "DELETE"}}, "needs spot"),
        ({"guestAccelerators": [{"acceleratorCount": "one"}]}, "not a whole number"),
        ({"labels": {"Job": "j"}}, "lower case"),
        ({"metadata": {"items": [{"key": "startup-script", "value": "x" * 262_145}]}}, "256 KiB"),
        ({"networkInterfaces": None}, "not a list"),
    ],
)
def test_a_bad_insert_is_seen(changes: dict[str, Any], word: str) -> None:
    """Each by its own rule."""
    assert any(word in problem for problem in problems(**changes)), problems(**changes)


@pytest.mark.parametrize(
    ("method", "target", "word"),
    [
        ("PUT", f"{ZONE}/instances/gl-1", "no method"),
        ("GET", f"{ZONE}/machines", "no method"),
        ("GET", f"{ZONE}/instances/gl-1?colour=red", "colour: unknown"),
        ("DELETE", f"{ZONE}/instances/gl-1?requestId=1", "not a UUID"),
        ("DELETE", f"{ZONE}/instances/gl-1?requestId=00000000-0000-0000-0000-000000000000", "not a UUID"),
        ("GET", f"{ZONE}/instances/GL_1", "does not match"),
        ("GET", f"{ZONE}/operations?maxResults=many", "not a whole number"),
        ("POST", f"{ZONE}/instances", "no body"),
    ],
)
def test_a_bad_call_is_seen(method: str, target: str, word: str) -> None:
    """Path, query and body."""
    call = check_request(method, target, None)

    assert any(word in problem for problem in call.problems), call.problems


def test_a_reply_of_the_fake_is_checked_too() -> None:
    """A fake that answers what Google never would proves nothing."""
    assert check_reply("compute.instances.get", {"name": "x", "status": "RUNNING"}) == []
    assert check_reply("compute.instances.get", {"status": "FINE", "colour": "red"}) != []
