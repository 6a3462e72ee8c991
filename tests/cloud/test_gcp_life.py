"""A machine of Compute Engine between its making and its end: what is seen of it, and what is left of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from gcp_account import Account
from gcp_project import Project
from gcp_state import Disk

from launcher.agent import heartbeat
from providers.base import (
    AuthError,
    InvalidRequest,
    MachineNotFound,
    MachineState,
    OfferRequest,
    PriceUnknown,
    ProviderUnavailable,
    QuotaError,
    StoreRequest,
)
from providers.gcp.backstop import WORST_LATENESS_S

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


def gone(project: Project, machine_id: str) -> MachineNotFound:
    """The proof that nothing is left."""
    with pytest.raises(MachineNotFound) as caught:
        project.provider.get(machine_id)
    return caught.value


def run(project: Project, seconds: float) -> None:
    """Let time pass, and everything happen that is due by then."""
    project.clock.advance(seconds)
    project.cloud.look()


def test_the_exact_calls_of_a_plan_of_a_look_and_of_an_end(project: Project) -> None:
    """Before a launch four reads at once; a look is two listings; an end is one order, then reads until gone."""
    project.fake.page_size = 500
    project.provider = project.new_provider()
    project.fake.calls.clear()
    project.provider.preflight()
    project.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=False))
    plan = sorted(project.fake.names())
    machine = project.provider.create(project.intent())
    project.fake.calls.clear()
    project.provider.list("owner-1")
    look = project.fake.names()
    project.fake.calls.clear()
    project.bury(machine.id)
    gone(project, machine.id)

    assert plan == ["acceleratorTypes.aggregatedList", "firewalls.list", "projects.get", "regions.list"]
    assert look == ["instances.aggregatedList", "disks.aggregatedList"]
    assert project.fake.names() == ["instances.delete", "instances.get", "zoneOperations.list", "disks.get"]


def test_a_preempted_machine_says_so_when_it_is_gone(project: Project) -> None:
    """With termination action DELETE it vanishes: the zone's operations tell why, and when billing ended."""
    project.cloud.faults.add("preempt", seconds=100.0)
    machine = project.provider.create(project.intent(spot=True))
    run(project, 101.0)
    dying = project.provider.get(machine.id)
    run(project, project.cloud.timing.delete_s)
    evidence = gone(project, machine.id).machine

    assert dying.state == MachineState.STOPPING
    assert evidence is not None
    assert evidence.state_reason == "PREEMPTED"
    assert evidence.billing_ended_at == project.cloud.lived()[0].gone_at
    assert evidence.compute_usd == project.fake.bill().compute_usd


def test_a_machine_that_was_switched_off_is_stopped(project: Project) -> None:
    """It does no more work, and its disk bills: only a delete is left to do."""
    machine = project.provider.create(project.intent())
    instance = project.cloud.only()
    instance.body.pop("serviceAccounts")
    instance.agent.finishes_at = project.clock.now() + timedelta(seconds=60)
    run(project, 61.0)
    stopped = project.provider.get(machine.id)
    [listed] = project.provider.list("owner-1")
    project.bury(machine.id)
    evidence = gone(project, machine.id).machine

    assert (stopped.state, stopped.state_reason) == (MachineState.STOPPED, "SWITCHED_OFF")
    assert (listed.id, listed.state) == (machine.id, MachineState.STOPPED)
    assert evidence is not None
    assert evidence.billing_ended_at == instance.off_at


def test_the_limit_tells_its_reason(project: Project) -> None:
    """Neither guard nor agent: the cloud itself."""
    machine = project.provider.create(project.intent())
    project.cloud.only().agent.die(project.clock.now())
    run(project, 3600.0 + WORST_LATENESS_S)
    evidence = gone(project, machine.id).machine

    assert evidence is not None
    assert evidence.state_reason == "MAX_RUN_DURATION"


def test_evidence_is_found_by_a_process_that_never_saw_the_machine(project: Project) -> None:
    """From the operations alone: not exact to the second, and never below the truth."""
    machine = project.provider.create(project.intent())
    run(project, 300.0)
    project.bury(machine.id)
    project.provider = project.new_provider()
    evidence = gone(project, machine.id).machine
    [lived] = project.cloud.lived()

    assert evidence is not None
    assert evidence.billing_started_at is not None
    assert evidence.billing_started_at <= lived.runs_at
    assert evidence.billing_ended_at == lived.gone_at


def test_a_disk_that_outlives_its_machine_is_not_gone(project: Project) -> None:
    """It is shown as stopped, listed for the sweep with its tags, and a delete deletes it."""
    project.cloud.keeps_disks = True
    intent = project.intent()
    machine = project.provider.create(intent)
    project.provider.delete(machine.id)
    run(project, project.cloud.timing.delete_s + 1)
    left = project.provider.get(machine.id)
    [listed] = project.provider.list("owner-1")
    project.cloud.keeps_disks = False
    project.bury(machine.id)

    assert (left.state, left.tags) == (MachineState.STOPPED, intent.tags)
    assert left.billing_ended_at is not None
    assert (listed.id, listed.tags, listed.state) == (machine.id, intent.tags, MachineState.STOPPED)
    assert gone(project, machine.id).machine is not None


def test_a_listing_is_whole_or_fails(project: Project) -> None:
    """A zone that does not answer for itself may hide a machine."""
    project.provider.create(project.intent())
    project.cloud.unreachable = "zones/us-east1-c"
    with pytest.raises(ProviderUnavailable) as caught:
        project.provider.list("owner-1")

    assert "us-east1-c" in caught.value.why


def test_a_listing_has_all_pages(project: Project) -> None:
    """Five machines and their disks, on pages of two."""
    project.cloud.quotas["GPUS_ALL_REGIONS"] = 9.0
    made = {project.provider.create(project.intent(f"j-1-{number}")).id for number in range(1, 6)}

    assert {machine.id for machine in project.provider.list("owner-1")} == made
    assert project.fake.count("compute.instances.aggregatedList") == 3


def test_the_console_is_read_on_from_where_it_ended(project: Project) -> None:
    """Each reading asks for what is new alone; all of it, up to 64 KiB, stays to be read."""
    machine = project.provider.create(project.intent())
    project.cloud.only().agent.words = [b"| x" * 10 + b"\n"] * 3000
    run(project, 60.0)
    first = project.provider.heartbeat(machine.id)
    run(project, 60.0)
    second = project.provider.heartbeat(machine.id)
    starts = [int(c.query["start"]) for c in project.fake.calls if c.method.endswith("getSerialPortOutput")]

    assert len(first) <= 65_536
    assert first.startswith(b"| x")
    assert second != first
    assert starts[0] == 0
    assert starts[1] > 65_536
    assert heartbeat.latest(second) is not None


def test_the_last_word_is_read_while_a_machine_ends(project: Project) -> None:
    """Its console goes with it, so it is read as soon as the end is seen, whoever asked."""
    machine = project.provider.create(project.intent())
    instance = project.cloud.only()
    instance.agent.finishes_at = project.clock.now() + timedelta(seconds=120)
    run(project, 125.0)
    project.provider.list("owner-1")
    run(project, project.cloud.timing.delete_s)
    last = heartbeat.latest(project.provider.heartbeat(machine.id))

    assert gone(project, machine.id).machine is not None
    assert last is not None
    assert last[1]["outcome"] == "finished"


def test_a_console_that_cannot_be_read_is_no_proof(project: Project) -> None:
    """A fault of the API is not silence."""
    machine = project.provider.create(project.intent())
    project.cloud.faults.add("http", method="compute.instances.getSerialPortOutput", status=500)
    with pytest.raises(ProviderUnavailable):
        project.provider.heartbeat(machine.id)


def test_a_machine_that_is_not_ready_to_be_deleted_is_asked_again(project: Project) -> None:
    """Google refuses while another operation holds it; that is not a success."""
    machine = project.provider.create(project.intent())
    project.cloud.faults.add("http", method="compute.instances.delete", status=400, reason="resourceNotReady")
    with pytest.raises(ProviderUnavailable):
        project.provider.delete(machine.id)
    project.bury(machine.id)


def test_spot_prices_are_known_to_the_second(project: Project) -> None:
    """What the catalogue says held from before the start until after the end is what was paid."""
    machine = project.provider.create(project.intent(spot=True))
    run(project, 500.0)
    project.provider.get(machine.id)
    project.bury(machine.id)
    evidence = gone(project, machine.id).machine

    assert evidence is not None
    assert evidence.compute_usd == project.fake.bill().compute_usd


def test_the_clock_of_the_cloud_is_followed(project: Project) -> None:
    """This computer's clock is two minutes ahead: every time is one of its own, and the difference is known."""
    project.provider.preflight()
    before = project.provider.skew_s
    project.cloud.behind_s = 120.0
    machine = project.provider.create(project.intent())

    assert before == 0.0
    assert project.provider.skew_s == pytest.approx(120.0, abs=1.0)
    assert machine.created_at <= project.clock.now()
    assert machine.created_at >= project.clock.now() - timedelta(seconds=60)


def test_quotas_are_asked_once(project: Project) -> None:
    """Three reads at the same time, and their answers are kept for the offers."""
    project.provider.preflight()
    project.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=False))

    assert project.fake.count("compute.regions.list") == 1
    assert project.fake.count("compute.acceleratorTypes.aggregatedList") == 3, "three pages of five zones"


def test_a_region_without_quota_is_not_offered(project: Project) -> None:
    """On demand needs NVIDIA_T4_GPUS; without any region left, it is said how to ask."""
    project.cloud.region_quotas["NVIDIA_T4_GPUS"] = 0.0
    spot = project.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=True))
    with pytest.raises(QuotaError) as caught:
        project.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=False))

    assert {offer.spot for offer in spot} == {True}
    assert (caught.value.code, caught.value.next_scope) == ("NVIDIA_T4_GPUS", "region")
    assert "Please raise NVIDIA_T4_GPUS to 1 for project proj." in caught.value.fix


def test_spot_machines_use_the_standard_quota_where_they_have_none(project: Project) -> None:
    """As Google does when no preemptible quota was granted."""
    project.cloud.region_quotas["PREEMPTIBLE_NVIDIA_T4_GPUS"] = 0.0
    offers = project.provider.offers(OfferRequest(gpu="T4", disk_gb=100, spot=True))

    assert {offer.spot for offer in offers} == {True, False}


def test_a_gpu_without_a_price_is_refused(project: Project) -> None:
    """Unknown is never zero."""
    with pytest.raises(PriceUnknown):
        project.provider.offers(OfferRequest(gpu="H100", disk_gb=100, spot=False))


def test_a_bucket_of_cloud_storage_is_reached_by_the_machines_identity(project: Project) -> None:
    """No credential is in the orders."""
    project.fake.other = Account().answer  # type: ignore[method-assign]
    request = StoreRequest(url="gs://mine/runs/", job="j-1", until=project.clock.now(), region="us-central1")

    assert project.provider.machine_store(request) == {"kind": "gcs", "bucket": "mine", "prefix": "runs"}


@pytest.mark.parametrize("url", ["s3://mine/runs", "az://mine/runs", "/somewhere"])
def test_a_store_elsewhere_is_refused_with_the_way_out(project: Project, url: str) -> None:
    """A machine of Google Cloud has an identity there alone."""
    request = StoreRequest(url=url, job="j-1", until=project.clock.now(), region="us-central1")
    with pytest.raises(InvalidRequest) as caught:
        project.provider.machine_store(request)

    assert "gs://bucket/prefix" in caught.value.fix


def test_a_store_needs_the_identity(project: Project) -> None:
    """It is made once."""
    request = StoreRequest(url="gs://mine", job="j-1", until=project.clock.now(), region="us-central1")
    with pytest.raises(AuthError) as caught:
        project.new_provider(service_account=None).machine_store(request)

    assert "gpulaunch init gcp --apply" in caught.value.fix


def test_a_foreign_disk_is_no_machine_of_ours(project: Project) -> None:
    """Only what carries the owner's label is listed."""
    body = {"initializeParams": {"diskSizeGb": "10", "labels": {"team": "vision"}}}
    project.cloud.disks["us-central1-a", "other"] = Disk("us-central1-a", "other", body, project.cloud.now())

    assert project.provider.list("owner-1") == []
