"""The installed `gpulaunch` on Google Cloud: from `up` to nothing left, as processes over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from command_lab import wait_until
from gcp_lab import quick_cloud, up, use
from gcp_server import FakeGcp

from launcher.core.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from command_lab import Lab


@pytest.fixture
def gcp(lab: Lab) -> Iterator[FakeGcp]:
    """A project whose trainings go on for ever; every request that it gets must be one that Google would take."""
    fake = FakeGcp(quick_cloud())
    use(lab, fake)
    try:
        yield fake
    finally:
        if lab.live():
            lab.down()
        fake.close()
    assert fake.problems == []
    assert fake.cloud.existing() == set()


def test_a_machine_is_made_watched_and_ended(lab: Lab, gcp: FakeGcp) -> None:
    """One insert with the deadline in it; `status` tells all; after `down` nothing is left, and the cost is known."""
    gcp.cloud.timing.delete_s = 3.0  # long enough for the guard to see it end, and to hear what it has sent
    done = up(lab, "--detach")
    view = lab.await_state("running")
    [insert] = [call for call in gcp.calls if call.method == "compute.instances.insert"]
    limit_s = int(insert.body["scheduling"]["maxRunDuration"]["seconds"])
    ended = lab.run("down", "--all", "--yes", "--json")

    assert (done.code, done.out.count("Traceback")) == (0, 0), done.err
    assert (view["provider"], view["region"], view["machine_id"]) == (
        "gcp",
        "us-central1",
        f"us-central1-a/{insert.body['name']}",
    )
    assert view["cloud_deadline"] == gcp.cloud.lived()[0].ends_by_limit_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "the backstop ends it at" in done.err
    assert view["layers"] == {"guard": True, "agent": False, "backstop": True}
    assert insert.body["scheduling"]["instanceTerminationAction"] == "DELETE"
    assert 0 < limit_s < 3600
    assert ended.code == Exit.OK
    assert [(each["outcome"], each["spend_confirmed"]) for each in ended.document] == [("cancelled", True)]
    assert gcp.cloud.existing() == set()


def test_what_is_not_armed_is_said_before_money_is_spent(lab: Lab, gcp: FakeGcp) -> None:
    """Without a service account a machine cannot delete itself; and the default network lets everybody reach SSH."""
    plan = up(lab, "--dry-run", "--json").document
    layers = {layer["name"]: (layer["armed"], layer["fix"]) for layer in plan["layers"]}
    [note] = [warning for warning in plan["warnings"] if "firewall-rules create" in warning]

    assert layers["agent"] == (False, "Make the machine's own identity: gpulaunch init gcp --apply")
    assert layers["backstop"] == (True, "")
    assert "tcp 22" in note
    assert plan["price_as_of"].startswith("live, ")
    assert gcp.count("compute.instances.insert") == 0


def test_a_finished_job_ends_with_a_summary(lab: Lab, gcp: FakeGcp) -> None:
    """Three zones have no T4, the fourth has: in the order of the expected whole rate. The training ends, exit 0."""
    gcp.cloud.faults.stockout("us-central1-a", "us-central1-b", "us-central1-c")
    gcp.cloud.finishes_after_s = 1.5
    done = up(lab)
    tried = [call.path["zone"] for call in gcp.calls if call.method == "compute.instances.insert"]

    assert done.code == Exit.OK, done.err
    assert tried == ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]
    assert done.out.startswith("job: finished\n")
    assert "(confirmed)" in done.out
    assert len(gcp.cloud.lived()) == 1


def test_a_lost_reply_makes_one_machine(lab: Lab, gcp: FakeGcp) -> None:
    """The insert was carried out and nobody heard of it: the same name and request id find it again."""
    gcp.cloud.faults.add("lost_reply")
    done = up(lab, "--detach")
    lab.await_state("running")

    assert done.code == Exit.OK, done.err
    assert len(gcp.cloud.lived()) == 1
    assert gcp.count("compute.instances.insert") == 1


def test_a_project_without_gpus_says_how_to_ask_for_them(lab: Lab, gcp: FakeGcp) -> None:
    """New projects may have none: exit 4 at once, with the link and the text to send; nothing is tried."""
    gcp.cloud.quotas["GPUS_ALL_REGIONS"] = 0.0
    done = up(lab)

    assert done.code == Exit.UNAVAILABLE
    assert "GPUS_ALL_REGIONS" in done.err
    assert "https://console.cloud.google.com/iam-admin/quotas?project=proj" in done.err
    assert "Please raise GPUS_ALL_REGIONS to 1 for project proj." in done.err
    assert gcp.count("compute.instances.insert") == 0


def test_without_credentials_the_fix_is_named(lab: Lab) -> None:
    """Exit 3 with the command that logs in; no metadata server is asked, since that takes seconds where none is."""
    metadata = FakeGcp(quick_cloud())
    asked: list[str] = []
    metadata.other = lambda method, path, query, body: (asked.append(path) or 404, {}, False)
    lab.env |= {"GOOGLE_CLOUD_PROJECT": "proj", "GCE_METADATA_HOST": metadata.url.removeprefix("http://")}
    lab.write_job(["python", "train.py"], image="example.com/train:1", local={})
    try:
        done = up(lab)
    finally:
        metadata.close()

    assert done.code == Exit.CREDENTIALS
    assert "gcloud auth application-default login" in done.err
    assert "Traceback" not in done.err
    assert (asked, metadata.calls) == ([], [])


@pytest.mark.parametrize("endpoint", ["http://203.0.113.9", "https://127.0.0.1:1", "http://me@127.0.0.1:1"])
def test_another_endpoint_than_this_computer_is_refused(lab: Lab, endpoint: str) -> None:
    """Anywhere else it would be unencrypted, or get the user's credentials."""
    use(lab, FakeUrl(endpoint))  # type: ignore[arg-type]
    done = up(lab)

    assert done.code == Exit.USAGE
    assert "GPULAUNCH_GCP_ENDPOINT" in done.err


def test_a_killed_guard_is_replaced(lab: Lab, gcp: FakeGcp) -> None:
    """`status` starts another guard, which goes on with the same machine, though the variables have gone."""
    up(lab, "--detach")
    before = lab.await_state("running")
    lab.kill_guard()
    for name in ("GPULAUNCH_GCP_ENDPOINT", "GOOGLE_CLOUD_PROJECT"):
        del lab.env[name]
    lab.status()
    wait_until(lab.guards, "another guard")

    assert lab.await_state("running")["machine_id"] == before["machine_id"]
    assert len(gcp.cloud.lived()) == 1


class FakeUrl:
    """An address without a server behind it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cloud = quick_cloud()
