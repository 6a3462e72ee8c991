"""What `gpulaunch init aws` makes, once: a role for the timers, an identity for the machines, and a bucket.

One description serves both ways: CloudFormation's document, and the calls of `--apply`. Least rights: the timers' role
can terminate instances that carry our tag, the machines' identity can reach one prefix of one bucket, and nothing else.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from providers.aws.client import Client
from providers.aws.machine import tag_list
from providers.base import TAG_JOB, InvalidRequest, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.core.clock import Clock

SCHEDULER, MACHINE = "gpulaunch-scheduler", "gpulaunch-machine"
"""The names of the two roles; the second one's instance profile has its name too."""
TAGS = {"gpulaunch": "init"}
ACCOUNT, REGION = "${AWS::AccountId}", "${AWS::Region}"
PROPOSED_BUCKET, PROPOSED_PREFIX = f"gpulaunch-{ACCOUNT}-{REGION}", "jobs"
UNFINISHED_DAYS = 7
"""Parts of an upload that was never finished are billed until they are removed."""


class Role(NamedTuple):
    """One role: who may take it on, and what it may do then."""

    name: str
    service: str
    condition: dict[str, Any]
    statements: tuple[dict[str, Any], ...]

    @property
    def trust(self) -> dict[str, Any]:
        """The policy that says who may take it on."""
        who = {"Effect": "Allow", "Principal": {"Service": self.service}, "Action": "sts:AssumeRole"}
        return _policy(who | ({"Condition": self.condition} if self.condition else {}))

    @property
    def rights(self) -> dict[str, Any]:
        """The policy that says what it may do."""
        return _policy(*self.statements)


class Bucket(NamedTuple):
    """A bucket and the prefix in it that is ours."""

    name: str
    prefix: str

    @property
    def url(self) -> str:
        """As `store` in the configuration."""
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


def scheduler_role() -> Role:
    """For EventBridge Scheduler: only this account's schedules, and only instances with our tag."""
    return Role(
        SCHEDULER,
        "scheduler.amazonaws.com",
        {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
        (
            {
                "Effect": "Allow",
                "Action": "ec2:TerminateInstances",
                "Resource": f"arn:aws:ec2:*:{ACCOUNT}:instance/*",
                "Condition": {"StringLike": {f"aws:ResourceTag/{TAG_JOB}": "*"}},
            },
        ),
    )


def machine_role(bucket: Bucket) -> Role:
    """For the machines: what lies below the prefix, and the names of what lies there."""
    below = f"{bucket.prefix}/*" if bucket.prefix else "*"
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return Role(
        MACHINE,
        "ec2.amazonaws.com",
        {},
        (
            {"Effect": "Allow", "Action": objects, "Resource": f"arn:aws:s3:::{bucket.name}/{below}"},
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": f"arn:aws:s3:::{bucket.name}",
                "Condition": {"StringLike": {"s3:prefix": below}},
            },
        ),
    )


class CloudAccount:
    """What is made in the user's account, for the store that the user named, or for a bucket of our own.

    Raises InvalidRequest for a store that machines on AWS cannot reach.
    """

    def __init__(self, *, clock: Clock, settings: Mapping[str, Any], store: str | None) -> None:
        self._client = Client(clock=clock, settings=settings)
        self._bucket = _bucket_of(store)
        self._is_proposed = self._bucket == Bucket(PROPOSED_BUCKET, PROPOSED_PREFIX)

    def document(self) -> str:
        """A CloudFormation template. Asks nothing and makes nothing."""
        resources = {
            "SchedulerRole": _cfn_role(scheduler_role()),
            "MachineRole": _cfn_role(machine_role(self._bucket)),
            "MachineProfile": {
                "Type": "AWS::IAM::InstanceProfile",
                "Properties": {"InstanceProfileName": MACHINE, "Roles": [{"Ref": "MachineRole"}]},
            },
        }
        if self._is_proposed:
            resources["Bucket"] = _cfn_bucket(self._bucket)
        outputs = {
            "SchedulerRoleArn": {"Value": {"Fn::GetAtt": ["SchedulerRole", "Arn"]}},
            "InstanceProfile": {"Value": MACHINE},
            "Store": {"Value": self._bucket.url},
        }
        template = {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": "gpulaunch: timers that end machines, and the machines' access to one bucket. Deploy with "
            "aws cloudformation deploy --capabilities CAPABILITY_NAMED_IAM, and write the outputs into the "
            "configuration: aws.scheduler_role_arn, aws.instance_profile, store.",
            "Resources": resources,
            "Outputs": outputs,
        }
        return json.dumps(_with_subs(template), indent=2)

    def apply(self, tell: Callable[[str], None]) -> dict[str, str]:
        """Make what is missing, and set what is there to these rights. Raises ProviderError; safe to repeat."""
        client = self._client
        names = {ACCOUNT: client.account_id, REGION: client.home_region}
        bucket = Bucket(*(_filled(part, names) for part in self._bucket))
        arn = self._make_role(_filled(scheduler_role(), names), tell)
        self._make_role(_filled(machine_role(bucket), names), tell)
        self._make_profile(tell)
        self._make_bucket(bucket, tell)
        return {"scheduler_role_arn": arn, "instance_profile": MACHINE, "store": bucket.url}

    def _call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return self._client.call(self._client.home_region, name, **arguments)

    def _make_role(self, role: Role, tell: Callable[[str], None]) -> str:
        trust = json.dumps(role.trust)
        try:
            made = self._call(
                "iam.create_role",
                RoleName=role.name,
                AssumeRolePolicyDocument=trust,
                Description="gpulaunch (gpulaunch init aws)",
                Tags=tag_list(TAGS),
            )
            tell(f"Made the role {role.name}.")
        except InvalidRequest as error:
            if error.code != "EntityAlreadyExists":
                raise
            made = self._call("iam.get_role", RoleName=role.name)
            self._call("iam.update_assume_role_policy", RoleName=role.name, PolicyDocument=trust)
            tell(f"The role {role.name} is there; its rights are set anew.")
        rights = json.dumps(role.rights)
        self._call("iam.put_role_policy", RoleName=role.name, PolicyName=role.name, PolicyDocument=rights)
        return str(made["Role"]["Arn"])

    def _make_profile(self, tell: Callable[[str], None]) -> None:
        try:
            self._call("iam.create_instance_profile", InstanceProfileName=MACHINE, Tags=tag_list(TAGS))
            tell(f"Made the instance profile {MACHINE}.")
        except InvalidRequest as error:
            if error.code != "EntityAlreadyExists":
                raise
        found = self._call("iam.get_instance_profile", InstanceProfileName=MACHINE)["InstanceProfile"]
        if not found["Roles"]:
            self._call("iam.add_role_to_instance_profile", InstanceProfileName=MACHINE, RoleName=MACHINE)

    def _make_bucket(self, bucket: Bucket, tell: Callable[[str], None]) -> None:
        """A bucket of the user's own is left as it is."""
        try:
            self._call("s3.head_bucket", Bucket=bucket.name)
        except ProviderError as error:
            if error.code not in ("404", "NoSuchBucket"):
                raise
        else:
            tell(f"The bucket {bucket.name} is there, and is left as it is.")
            return
        region = self._client.home_region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self._call("s3.create_bucket", Bucket=bucket.name, **where)
        self._call("s3.put_public_access_block", Bucket=bucket.name, PublicAccessBlockConfiguration=CLOSED)
        self._call("s3.put_bucket_tagging", Bucket=bucket.name, Tagging={"TagSet": tag_list(TAGS)})
        self._call("s3.put_bucket_lifecycle_configuration", Bucket=bucket.name, LifecycleConfiguration=TIDY)
        tell(f"Made the bucket {bucket.name} in {region}, closed to the public.")


CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
TIDY = {
    "Rules": [
        {
            "ID": "unfinished",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_DAYS},
        }
    ]
}


def _bucket_of(store: str | None) -> Bucket:
    if store is None or store == "none":
        return Bucket(PROPOSED_BUCKET, PROPOSED_PREFIX)
    if not store.startswith("s3://"):
        raise InvalidRequest(
            f"The store {store} of the configuration is not in S3.",
            "Machines on AWS have an identity on AWS alone.",
            "Set `store: s3://bucket/prefix`, or take `store` out of the configuration and a bucket is proposed.",
            code="StoreNotReachable",
        )
    name, _, prefix = store.removeprefix("s3://").partition("/")
    return Bucket(name, prefix.strip("/"))


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _cfn_role(role: Role) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": role.name,
            "AssumeRolePolicyDocument": role.trust,
            "Policies": [{"PolicyName": role.name, "PolicyDocument": role.rights}],
            "Tags": tag_list(TAGS),
        },
    }


def _cfn_bucket(bucket: Bucket) -> dict[str, Any]:
    unfinished = {"DaysAfterInitiation": UNFINISHED_DAYS}
    rule = {"Id": "unfinished", "Status": "Enabled", "AbortIncompleteMultipartUpload": unfinished}
    return {
        "Type": "AWS::S3::Bucket",
        "DeletionPolicy": "Retain",
        "Properties": {
            "BucketName": bucket.name,
            "PublicAccessBlockConfiguration": CLOSED,
            "LifecycleConfiguration": {"Rules": [rule]},
            "Tags": tag_list(TAGS),
        },
    }


def _with_subs(value: Any) -> Any:
    """The same with CloudFormation's substitution around each text that has a name to fill in."""
    if isinstance(value, dict):
        return {key: _with_subs(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_subs(inner) for inner in value]
    return {"Fn::Sub": value} if isinstance(value, str) and "${" in value else value


def _filled(value: Any, names: dict[str, str]) -> Any:
    """The same with the names filled in."""
    if isinstance(value, Role):
        return Role(*(_filled(part, names) for part in value))
    if isinstance(value, dict):
        return {key: _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(inner, names) for inner in value)
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(name, text)
    return value
