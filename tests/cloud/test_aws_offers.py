"""What is on offer on AWS: zones, prices, quotas, where machines attach, and how they reach a store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import boto3
import pytest
from aws_lab import AwsLab

from launcher.core.clock import VirtualClock
from launcher.plan import rank
from providers.aws.account import CloudAccount
from providers.aws.client import Client
from providers.aws.credentials import are_there
from providers.aws.places import is_closed
from providers.aws.prices import AwsPrices
from providers.base import AuthError, InvalidRequest, PriceUnknown, ProviderError, QuotaError, StoreRequest

if TYPE_CHECKING:
    from aws_cloud import AwsCloud

ON_DEMAND, SPOT = "L-DB2E81BA", "L-3819A6DF"


def test_on_demand_machines_are_on_offer_in_each_zone_that_has_them(aws: AwsLab) -> None:
    """Cheapest region first; use1-az3 has no such machine."""
    offers = rank(aws.offers())

    zones = [offer.zone for offer in offers if offer.region == "us-east-1"]
    assert ["use1-az1", "use1-az2", "use1-az4", "use1-az5", "use1-az6"] == zones
    assert "us-east-1" == offers[0].region
    assert {"us-east-1", "us-east-2", "us-west-2", "eu-west-1"} == {offer.region for offer in offers}
    assert all(offer.price_as_of.startswith("live") and not offer.spot for offer in offers)


def test_a_spot_launch_may_use_both_kinds(aws: AwsLab) -> None:
    """Each zone at its own price, with a bid of a quarter above it."""
    aws.cloud.spot_usd["us-west-2"] = "0.20"
    offers = rank(aws.offers(spot=True))
    compute = offers[0].parts[0]

    assert ("us-west-2", True) == (offers[0].region, offers[0].spot)
    assert (Decimal("0.20"), Decimal("0.25")) == (compute.expected_usd_per_hour, compute.worst_usd_per_hour)
    assert {True, False} == {offer.spot for offer in offers}


def test_without_live_prices_the_table_is_used(aws: AwsLab, caplog: pytest.LogCaptureFixture) -> None:
    """With its margin, and it is told."""
    aws.cloud.fault("GetProducts", "AccessDeniedException", status=403)
    offers = aws.offers(regions=("us-east-1",))

    assert offers
    assert all(offer.price_as_of.startswith("table") for offer in offers)
    assert "Live prices of aws could not be had" in caplog.text


def test_a_region_without_quota_is_left_out(aws: AwsLab, caplog: pytest.LogCaptureFixture) -> None:
    """Asked before anything is tried; where only one kind is refused, the other is still on offer."""
    aws.cloud.quotas["us-east-1", ON_DEMAND] = 0.0
    aws.cloud.quotas["us-east-2", SPOT] = 0.0

    assert "us-east-1" not in {offer.region for offer in aws.offers()}
    kinds = {(offer.region, offer.spot) for offer in aws.offers(spot=True)}
    assert {("us-east-1", True), ("us-east-2", False)} <= kinds
    assert not {("us-east-1", False), ("us-east-2", True)} & kinds
    assert f"({ON_DEMAND}) of us-east-1 is 0 vCPUs: a g4dn.xlarge needs 4" in caplog.text


def test_no_quota_anywhere_is_an_error_that_says_where_to_ask(aws: AwsLab) -> None:
    """It is the first thing that a new account meets."""
    aws.cloud.quotas["us-east-1", ON_DEMAND] = 0.0
    with pytest.raises(QuotaError) as caught:
        aws.offers(regions=("us-east-1",))

    assert ON_DEMAND in caught.value.what
    assert f"quotas/{ON_DEMAND}" in caught.value.fix


def test_a_quota_that_cannot_be_asked_leaves_it_to_the_launch(aws: AwsLab) -> None:
    """Not everybody may read quotas."""
    aws.cloud.fault("GetServiceQuota", "AccessDeniedException", status=403)

    assert aws.offers(regions=("us-east-1",))


def test_good_answers_are_kept_and_bad_ones_asked_again(aws: AwsLab) -> None:
    """Somebody who had a quota raised is not told of the old one."""
    aws.cloud.quotas["us-east-1", ON_DEMAND] = 0.0
    aws.offers()
    aws.cloud.quotas.clear()
    aws.cloud.calls.clear()

    assert "us-east-1" in {offer.region for offer in aws.offers()}
    asked = [call.region for call in aws.cloud.calls if call.action == "GetServiceQuota"]
    assert ["us-east-1"] == asked
    aws.clock.advance(25 * 3600)
    aws.cloud.calls.clear()
    aws.offers()
    assert 4 == aws.cloud.names().count("servicequotas:GetServiceQuota")


def test_no_default_vpc_is_told_with_the_way_out(aws: AwsLab) -> None:
    """Somebody has removed it."""
    aws.cloud.no_default_vpc.add("us-east-1")
    with pytest.raises(InvalidRequest) as caught:
        aws.offers(regions=("us-east-1",))

    assert "NoDefaultVpc" == caught.value.code
    assert "aws ec2 create-default-vpc --region us-east-1" in caught.value.fix
    assert "us-east-1" not in {offer.region for offer in aws.offers()}


def test_another_gpu_has_no_price(aws: AwsLab) -> None:
    """Unknown means refuse, never zero."""
    with pytest.raises(PriceUnknown):
        aws.offers(gpu="H100")
    with pytest.raises(PriceUnknown):
        AwsPrices.of_settings(aws.clock, {}).load("H100")


def test_live_prices_have_rows_for_regions_and_zones(aws: AwsLab) -> None:
    """As `gpulaunch prices --live` shows them; a region that does not answer has no spot price."""
    aws.cloud.fault("DescribeSpotPriceHistory", "InternalError", status=500, region="eu-west-1")
    rows = AwsPrices.of_settings(aws.clock, {}).load("T4")

    on_demand = {row.region: row.usd for row in rows if not row.spot}
    assert {"eu-west-1": Decimal("0.587"), "us-east-1": Decimal("0.526")}.items() <= on_demand.items()
    spot = {(row.region, row.zone) for row in rows if row.spot}
    assert ("us-east-1", "use1-az1") in spot
    assert "eu-west-1" not in {region for region, _ in spot}
    assert all(row.live for row in rows)


@pytest.mark.parametrize(
    ("rule", "closed"),
    [
        ({"UserIdGroupPairs": [{"GroupId": "sg-1"}]}, True),
        ({"UserIdGroupPairs": [{"GroupId": "sg-2"}]}, False),
        ({"IpRanges": [{"CidrIp": "10.0.0.0/8"}]}, False),
        ({"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}, False),
        ({"PrefixListIds": [{"PrefixListId": "pl-1"}]}, False),
    ],
)
def test_a_closed_group_lets_its_own_members_in_alone(rule: dict[str, object], closed: bool) -> None:
    """That is what the default group of a new VPC does."""
    assert closed == is_closed({"GroupId": "sg-1", "IpPermissions": [rule]})


# Who we are


def test_wrong_keys_are_an_auth_error(aws: AwsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first question."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "WRONG")
    with pytest.raises(AuthError) as caught:
        aws.new_provider().preflight()

    assert "InvalidClientTokenId" == caught.value.code
    assert caught.value.fix


def test_two_profiles_are_two_accounts(aws: AwsLab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A guard finds its own again, whatever the shell it is started from has set."""
    file = tmp_path / "credentials"
    profiles = (f"[{p}]\naws_access_key_id = K{p.upper()}\naws_secret_access_key = S\n" for p in ("a", "b"))
    file.write_text("".join(profiles))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws.cloud.give_account("KB", "222222222222")
    monkeypatch.setenv("AWS_PROFILE", "a")
    first = aws.new_provider()
    first.preflight()
    monkeypatch.setenv("AWS_PROFILE", "b")
    second = aws.new_provider()
    second.preflight()
    again = aws.new_provider(**first.binding)

    endpoint = aws.cloud.endpoint
    assert f"aws/123456789012/profile-a/{endpoint}" == first.account == again.account
    assert f"aws/222222222222/profile-b/{endpoint}" == second.account
    assert {"profile": "b", "endpoint": endpoint} == second.binding
    assert "S" not in json.dumps(first.binding).split('"')


def test_without_credentials_there_is_a_way_out(aws: AwsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a profile that is not there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for settings, code in (({}, "NoCredentials"), ({"profile": "none"}, "ProfileNotFound")):
        with pytest.raises(AuthError) as caught:
            aws.new_provider(**settings).preflight()
        assert code == caught.value.code
        assert "aws" in caught.value.fix


def test_plain_http_is_for_this_computer() -> None:
    """Credentials and boot data travel on it."""
    with pytest.raises(InvalidRequest):
        Client(clock=VirtualClock(), settings={"endpoint": "http://example.com"}, environ={})


@pytest.mark.parametrize(
    ("environ", "settings", "config", "found"),
    [
        ({}, {}, "", False),
        ({"AWS_ACCESS_KEY_ID": "x"}, {}, "", True),
        ({"AWS_PROFILE": "x"}, {}, "", True),
        ({}, {"profile": "x"}, "", True),
        ({}, {}, "[default]\nregion = us-east-1\n", False),
        ({}, {}, "[profile x]\nsso_session = y\n", True),
        ({}, {}, "[profile x]\ncredential_process = /bin/y\n", True),
    ],
)
def test_credentials_are_seen_without_asking_anybody(
    environ: dict[str, str], settings: dict[str, str], config: str, found: bool, tmp_path: Path
) -> None:
    """`up --provider auto` asks the clouds that seem to have some."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text(config)

    assert found == are_there({"HOME": str(tmp_path), **environ}, settings)


# The store


def a_store(url: str = "s3://bucket/p", *, hours: float = 5.0, archive: str | None = None, aws: AwsLab) -> StoreRequest:
    """A machine's store until the hard deadline."""
    until = aws.clock.now() + timedelta(hours=hours)
    return StoreRequest(url=url, job="j-1", until=until, region="us-east-1", archive=archive)


@pytest.fixture
def bucket(aws: AwsLab) -> str:
    """A bucket in the cloud."""
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
    return "bucket"


def test_a_machine_reaches_its_store_by_its_own_identity(aws: AwsLab, bucket: str) -> None:
    """The default: nothing that could be stolen travels."""
    store = aws.new_provider(instance_profile="me").machine_store(a_store(aws=aws))

    expected = {"kind": "s3", "bucket": bucket, "prefix": "p", "region": "us-east-1", "endpoint": aws.cloud.endpoint}
    assert expected == store


def test_without_an_identity_a_signed_form_writes_below_the_jobs_prefix(aws: AwsLab, bucket: str) -> None:
    """Write-only, for this prefix, until the hard deadline; the working folder is read by a signed address."""
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.put_object(Bucket=bucket, Key="p/j-1/code.tar", Body=b"code")
    store = aws.provider.machine_store(a_store(aws=aws, archive="j-1/code.tar"))
    fields = store["post"]["fields"]
    body = b""
    for name, value in {**fields, "key": "p/j-1/1/output.log", "file": "log"}.items():
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    head = {"Content-Type": "multipart/form-data; boundary=x"}
    urlopen(Request(store["post"]["url"], data=body + b"--x--\r\n", headers=head)).close()
    policy = json.loads(__import__("base64").b64decode(fields["policy"]))

    assert b"log" == s3.get_object(Bucket=bucket, Key="p/j-1/1/output.log")["Body"].read()
    assert ["starts-with", "$key", "p/j-1/"] in policy["conditions"]
    ends = datetime.strptime(policy["expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(ends - a_store(aws=aws).until) < timedelta(seconds=60)
    with urlopen(store["archive_url"]) as reply:
        assert b"code" == reply.read()


@pytest.mark.parametrize(
    ("hours", "session_hours", "kind"), [(8 * 24, None, InvalidRequest), (5, 1, AuthError), (5, 6, None)]
)
def test_a_form_lives_as_long_as_the_job_or_is_refused(
    aws: AwsLab, bucket: str, hours: float, session_hours: float | None, kind: type[ProviderError] | None
) -> None:
    """What is signed dies with the session that signed it, and after seven days in any case."""
    if session_hours is not None:
        aws.provider._client.credentials._expiry_time = aws.clock.now() + timedelta(hours=session_hours)
    if kind is None:
        assert aws.provider.machine_store(a_store(aws=aws, hours=hours))["post"]
        return
    with pytest.raises(kind) as caught:
        aws.provider.machine_store(a_store(aws=aws, hours=hours))
    assert "gpulaunch init aws --apply" in caught.value.fix


@pytest.mark.parametrize("url", ["gs://bucket/p", "az://container/p", "/a/folder"])
def test_a_store_of_another_cloud_is_refused(aws: AwsLab, url: str) -> None:
    """With the way out: a bucket in S3, none, or that store's own cloud."""
    with pytest.raises(InvalidRequest) as caught:
        aws.provider.machine_store(a_store(url, aws=aws))

    assert url in caught.value.what
    assert "s3://" in caught.value.fix


# What init makes


def test_init_makes_two_roles_and_a_bucket_and_can_be_repeated(aws: AwsLab) -> None:
    """The scheduler may end our instances alone; the machines reach one prefix alone."""
    told: list[str] = []
    account = CloudAccount(clock=aws.clock, settings={}, store=None)
    made = account.apply(told.append)
    again = CloudAccount(clock=aws.clock, settings={}, store=None).apply(told.append)
    iam = boto3.client("iam", region_name="us-east-1")
    rights = {
        name: iam.get_role_policy(RoleName=name, PolicyName=name)["PolicyDocument"]["Statement"]
        for name in ("gpulaunch-scheduler", "gpulaunch-machine")
    }
    s3 = boto3.client("s3", region_name="us-east-1")
    closed = s3.get_public_access_block(Bucket="gpulaunch-123456789012-us-east-1")["PublicAccessBlockConfiguration"]

    assert made == again
    assert {
        "scheduler_role_arn": "arn:aws:iam::123456789012:role/gpulaunch-scheduler",
        "instance_profile": "gpulaunch-machine",
        "store": "s3://gpulaunch-123456789012-us-east-1/jobs",
    } == made
    [end] = rights["gpulaunch-scheduler"]
    assert ("ec2:TerminateInstances", "arn:aws:ec2:*:123456789012:instance/*") == (end["Action"], end["Resource"])
    assert {"StringLike": {"aws:ResourceTag/gpulaunch-job": "*"}} == end["Condition"]
    assert "arn:aws:s3:::gpulaunch-123456789012-us-east-1/jobs/*" == rights["gpulaunch-machine"][0]["Resource"]
    assert all(closed.values())


def test_the_document_says_what_apply_would_make(cloud: AwsCloud) -> None:
    """For those who want to read it first, or have somebody else deploy it; it asks nothing."""
    account = CloudAccount(clock=VirtualClock(), settings={}, store="s3://mine/deep/prefix")
    document = json.loads(account.document())

    kinds = sorted(resource["Type"] for resource in document["Resources"].values())
    assert ["AWS::IAM::InstanceProfile", "AWS::IAM::Role", "AWS::IAM::Role"] == kinds
    assert "arn:aws:s3:::mine/deep/prefix/*" in account.document()
    assert {"Value": "s3://mine/deep/prefix"} == document["Outputs"]["Store"]
    assert [] == cloud.names()
    with pytest.raises(InvalidRequest):
        CloudAccount(clock=VirtualClock(), settings={}, store="gs://other")
