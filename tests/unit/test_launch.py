"""The frozen request of a rented machine: its store, its working folder, and the part of the agent that it fetches."""

from __future__ import annotations

import urllib.request
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import store_places
from makers import make_job, make_offer, make_spec
from scripted import ScriptedProvider
from test_boot_data import orders_in

from launcher import boot, launch, workdir
from launcher.core.clock import VirtualClock
from launcher.job import Checkpoints, EarlyStop
from launcher.plan import make_plan
from launcher.records import Attempt
from launcher.store.store import agent_path
from providers.base import Backstop, Intent, StoreRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launcher.job import JobSpec

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class Aws(ScriptedProvider):
    """A provider that rents machines, whose stores are in S3."""

    asked: StoreRequest | None = None
    region = "us-east-1"
    more: dict[str, Any] = {}  # noqa: RUF012 - a test replaces it

    def machine_store(self, request: StoreRequest) -> dict[str, Any]:
        """By the machine's own identity."""
        self.asked = request
        bucket, _, prefix = request.url.removeprefix("s3://").partition("/")
        return {"kind": "s3", "bucket": bucket, "prefix": prefix, "region": self.region, **self.more}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server that speaks S3."""
    with store_places.moto() as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket, which this process reaches."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    return f"s3://{store_places.make_bucket(server)}/runs"


def spec_with(store: str, **changes: Any) -> JobSpec:
    """A job for a rented machine, with all that makes its boot data large."""
    usual: dict[str, Any] = {
        "image": "pytorch",
        "store": store,
        "early_stop": EarlyStop(monitor="val_loss"),
        "checkpoints": Checkpoints(path="out"),
        "egress_gb": Decimal("0.5"),
    }
    return make_spec(**(usual | changes))


def frozen(spec: JobSpec, provider: Aws, **offer: Any) -> tuple[Attempt, dict[str, Any]]:
    """The attempt and the orders that its machine would get."""
    offers = [make_offer("us-east-1", provider="aws", egress_usd_per_gb=Decimal("0.09"), **offer)]
    plan = make_plan(spec, offers, provider, backstop=Backstop(armed=True, what=""), cap_usd=Decimal(5))
    job = make_job(spec=spec, provider="aws", offers=offers)
    attempt = launch.freeze(job, spec, plan, provider, number=1, owner="o", spent_usd=Decimal(0), now=NOW)
    return attempt, orders_in("aws", msgspec.json.decode(attempt.intent, type=Intent).boot_data)


@pytest.fixture
def aws() -> Aws:
    """The provider."""
    return Aws(VirtualClock(), name="aws", account="aws/1")


def test_the_rest_of_the_agent_lies_in_the_store(bucket: str, aws: Aws) -> None:
    """Anybody with the address can read it, and nothing but it: the machine needs no identity for that."""
    _, orders = frozen(spec_with(bucket), aws)
    with urllib.request.urlopen(orders["rest"]["url"], timeout=60) as reply:
        found = reply.read()

    assert found == boot.packed_rest()
    assert agent_path(found) in orders["rest"]["url"]
    assert "X-Amz-Signature=" in orders["rest"]["url"]


def rehearsed(spec: JobSpec, provider: Aws) -> tuple[str, ...]:
    """What the user is told before the question."""
    offers = [make_offer("us-east-1", provider="aws", egress_usd_per_gb=Decimal("0.09"))]
    plan = make_plan(spec, offers, provider, backstop=Backstop(armed=True, what=""), cap_usd=Decimal(5))
    return launch.rehearse(spec, plan, provider, {}, NOW)


def test_without_sending_nothing_is_written(bucket: str, aws: Aws) -> None:
    """A rehearsal before the question: the store is as it was."""
    rehearsed(spec_with(bucket), aws)

    assert workdir.job_store(bucket, {})._bucket.folders() == []


@pytest.mark.parametrize(("region", "said"), [("us-east-1", 0), ("eu-west-1", 1)])
def test_uploads_that_are_billed_are_said(bucket: str, aws: Aws, region: str, said: int) -> None:
    """Before anything is spent: they count against what is reserved for what leaves the cloud."""
    aws.region = region
    notes = rehearsed(spec_with(bucket), aws)

    assert [note for note in notes if "counts against egress_gb, 0.5 GB" in note] == list(notes)
    assert len(notes) == said


def test_a_store_that_can_only_be_written_is_said(bucket: str, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved there is of no use to another machine."""
    monkeypatch.setattr(aws, "more", {"post": {"url": "https://x/", "fields": {}}})

    assert rehearsed(spec_with(bucket), aws) == ()
    assert ["init aws --apply" in note for note in rehearsed(spec_with(bucket, resume=True), aws)] == [True]


def test_the_working_folder_goes_by_way_of_the_store(bucket: str, aws: Aws, tmp_path: Path) -> None:
    """It is sent once; the orders and the provider are told where it lies."""
    (tmp_path / "train.py").write_text("print()")
    spec, file = workdir.pack(spec_with(bucket, workdir=str(tmp_path)))
    assert file is not None
    sent = [workdir.send(spec, file, {}) for _ in range(2)]
    file.close()
    _, orders = frozen(spec, aws)

    assert spec.archive is not None
    assert sent == [True, False]
    assert orders["archive"] == msgspec.to_builtins(spec.archive)
    assert aws.asked is not None
    assert aws.asked.archive == spec.archive.path


def test_a_job_without_a_store_packs_nothing(tmp_path: Path) -> None:
    """There is no way for it to travel."""
    spec = spec_with("none", workdir=str(tmp_path / "missing"))

    assert workdir.pack(spec) == (spec, None)


@pytest.mark.parametrize(("region", "is_free"), [("us-east-1", True), ("eu-west-1", False)])
def test_the_reserve_for_what_leaves_the_cloud(bucket: str, aws: Aws, region: str, is_free: bool) -> None:
    """The machine is told how many bytes it is for, and whether the store counts."""
    aws.region = region
    attempt, orders = frozen(spec_with(bucket), aws, spot=True)

    assert attempt.egress_usd == Decimal("0.045")
    assert orders["egress"] == {"bytes": 500_000_000, "store_is_free": is_free}
    assert orders["spot"] is True


def test_a_machine_always_has_some_room_to_speak(bucket: str, aws: Aws) -> None:
    """To bring an image and to say how it is costs something, whatever the job file reserves."""
    _, orders = frozen(spec_with(bucket, egress_gb=Decimal(0)), aws)

    assert orders["egress"]["bytes"] == 200_000_000
