"""`gpulaunch init gcp`: an identity with two rights, a bucket, a closed network; least rights, and safe to repeat."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from gcp_account import Account
from gcp_server import FakeGcp
from gcp_state import Cloud

from launcher.core.clock import VirtualClock
from providers.base import AuthError, StoreRequest
from providers.gcp.account import PERMISSIONS, CloudAccount, own_machines
from providers.gcp.network import open_ports_note, rules_of
from providers.gcp.provider import GcpProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

EMAIL = "gpulaunch@proj.iam.gserviceaccount.com"
STORE = "gs://mine/runs"


@pytest.fixture
def fake() -> Iterator[FakeGcp]:
    """A project in which nothing was prepared."""
    made = FakeGcp(Cloud(VirtualClock()))
    made.account = Account()  # type: ignore[attr-defined]
    made.other = made.account.answer  # type: ignore[attr-defined]
    yield made
    made.close()
    assert made.problems == []


def account_of(fake: FakeGcp) -> Account:
    """What the project's other APIs hold."""
    return fake.account  # type: ignore[attr-defined,no-any-return]


def init(fake: FakeGcp, store: str | None = STORE) -> CloudAccount:
    """What the command works with."""
    settings = {"endpoint": fake.url, "project": "proj"}
    return CloudAccount(clock=VirtualClock(), settings=settings, store=store)


def test_it_makes_an_identity_that_may_end_our_machines_alone(fake: FakeGcp) -> None:
    """Two permissions, and only for names that begin as ours do; what others may is left as it was."""
    told: list[str] = []
    made = init(fake).apply(told.append)
    account = account_of(fake)
    owner, ours = account.policy["bindings"]

    assert made == {"project": "proj", "service_account": EMAIL, "store": STORE}
    assert account.identities == [EMAIL]
    assert account.roles["gpulaunchMachine"]["includedPermissions"] == list(PERMISSIONS)
    assert owner == {"role": "roles/owner", "members": ["user:me@example.com"]}
    assert ours["members"] == [f"serviceAccount:{EMAIL}"]
    assert ours["condition"]["expression"] == own_machines()
    assert '.startsWith("gl-")' in own_machines()
    assert told


def test_a_machine_is_told_where_its_bucket_is(fake: FakeGcp) -> None:
    """Uploads to it are free in that region; where a bucket cannot be looked at, nothing is said."""
    settings = {"endpoint": fake.url, "project": "proj", **init(fake).apply(lambda _: None)}
    provider = GcpProvider(clock=VirtualClock(), home="/nowhere", settings=settings)
    found = [
        provider.machine_store(StoreRequest(url=f"gs://{name}", job="j-1", until=fake.cloud.clock.now(), region="r"))
        for name in ("mine", "another")
    ]

    assert [store.get("region") for store in found] == ["us-central1", None]


def test_the_bucket_is_closed_and_the_identity_keeps_to_its_prefix(fake: FakeGcp) -> None:
    """No public access, rights by policy alone, and only below the store's prefix."""
    init(fake).apply(lambda _: None)
    account = account_of(fake)
    [binding] = account.bucket_policies["mine"]["bindings"]

    assert account.buckets["mine"]["iamConfiguration"] == {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    }
    assert binding["role"] == "roles/storage.objectUser"
    assert 'projects/_/buckets/mine/objects/runs/")' in binding["condition"]["expression"]


def test_it_may_be_repeated(fake: FakeGcp) -> None:
    """What is there already is left alone."""
    first = init(fake).apply(lambda _: None)
    changes = account_of(fake).changes
    told: list[str] = []

    assert init(fake).apply(told.append) == first
    assert account_of(fake).changes == changes
    assert sum("is there already" in line for line in told) == 4


def test_without_a_store_one_is_proposed(fake: FakeGcp) -> None:
    """A bucket of its own, named after the project."""
    assert init(fake, store=None).apply(lambda _: None)["store"] == "gs://gpulaunch-proj"


def test_a_store_elsewhere_gets_no_bucket(fake: FakeGcp) -> None:
    """Machines of Google Cloud reach no other cloud's store, and that is said."""
    told: list[str] = []
    made = init(fake, store="s3://mine").apply(told.append)

    assert "store" not in made
    assert account_of(fake).buckets == {}
    assert any("cannot reach it" in line for line in told)


def test_the_rule_it_makes_closes_what_the_default_network_opens(fake: FakeGcp) -> None:
    """Before, everybody reaches SSH, and that is said with the command that closes it; after, nobody does."""
    settings = {"endpoint": fake.url, "project": "proj"}
    compute = GcpProvider(clock=VirtualClock(), home="unused", settings=settings)._compute
    before = open_ports_note(rules_of(compute), "global/networks/default")
    init(fake).apply(lambda _: None)
    [rule] = fake.cloud.rules

    assert "tcp 22 (rule default-allow-ssh)" in before
    assert "gcloud compute firewall-rules create gpulaunch-no-ingress" in before
    assert (rule["name"], rule["targetTags"], rule["denied"]) == (
        "gpulaunch-no-ingress",
        ["gpulaunch"],
        [{"IPProtocol": "all"}],
    )
    assert open_ports_note(rules_of(compute), "global/networks/default") == ""


def test_the_document_says_the_same_as_commands(fake: FakeGcp) -> None:
    """Each line is one command of gcloud that a shell takes as it stands; nothing is asked for it."""
    lines = [shlex.split(line) for line in init(fake).document().splitlines()]
    conditions = [line[line.index("--condition") + 1] for line in lines if "--condition" in line]

    assert [line[:4] for line in lines] == [
        ["gcloud", "services", "enable", "compute.googleapis.com"],
        ["gcloud", "iam", "service-accounts", "create"],
        ["gcloud", "iam", "roles", "create"],
        ["gcloud", "projects", "add-iam-policy-binding", "proj"],
        ["gcloud", "storage", "buckets", "create"],
        ["gcloud", "storage", "buckets", "add-iam-policy-binding"],
        ["gcloud", "compute", "firewall-rules", "create"],
    ]
    assert f"^:^title=own_machines:expression={own_machines()}" in conditions
    assert account_of(fake).asked == []


def test_a_missing_right_is_told_with_what_to_ask_for(fake: FakeGcp) -> None:
    """Exit 3, not a traceback."""
    fake.other = lambda *_: (403, {"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}, False)
    with pytest.raises(AuthError) as caught:
        init(fake).apply(lambda _: None)

    assert "switch on the APIs" in caught.value.what
    assert caught.value.fix
