"""The configuration's keys: what each means and its kind. Absent keys mean: not set."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Struct

from launcher.jobfile.document import FileProblems
from launcher.jobfile.job_kinds import Store
from launcher.jobfile.job_schema import Local
from launcher.jobfile.kinds import DOLLARS, matching, text, whole
from launcher.jobfile.schema import Items, Key, Section

_ARN = matching(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+", "a role's ARN, such as arn:aws:iam::123456789012:role/name")
_GUID = matching("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "an id (a GUID)")
_SUBSCRIPTION = matching("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "a subscription's id (a GUID)")


class ConfigError(FileProblems):
    """The configuration has problems: `problems` lists them all, str() shows one in each line."""


class Limits(Struct, frozen=True, kw_only=True):
    """Limits above one job."""

    monthly_usd: Annotated[Decimal | None, Key(DOLLARS, "What all jobs of a calendar month may cost, in dollars.")] = (
        None
    )
    jobs: Annotated[int | None, Key(whole(1, 10_000), "How many jobs may live at one time.")] = None


class Aws(Struct, frozen=True, kw_only=True):
    """Settings for AWS."""

    profile: Annotated[str | None, Key(text("a profile of ~/.aws/config"), "The profile to take credentials from.")] = (
        None
    )
    scheduler_role_arn: Annotated[
        str | None, Key(_ARN, "The role with which EventBridge Scheduler ends a machine at its deadline.")
    ] = None
    instance_profile: Annotated[
        str | None, Key(text("an instance profile's name or ARN"), "The machine's own identity.")
    ] = None
    image: Annotated[str | None, Key(text("an image's id, such as ami-…"), "The machine's image.")] = None


class Azure(Struct, frozen=True, kw_only=True):
    """Settings for Azure."""

    subscription: Annotated[str | None, Key(_SUBSCRIPTION, "The subscription to work in.")] = None
    image: Annotated[
        str | None,
        Key(
            matching(
                r"[^:\s]+(:[^:\s]+){3}|/subscriptions/\S+", "an image, publisher:offer:sku:version or a resource id"
            ),
            "The machine's image.",
        ),
    ] = None
    storage_account: Annotated[
        str | None, Key(matching("[a-z0-9]{3,24}", "a storage account's name"), "The account of az:// stores.")
    ] = None
    identity: Annotated[
        str | None, Key(text("an identity's resource id"), "The identity with which machines reach the store.")
    ] = None
    identity_client_id: Annotated[str | None, Key(_GUID, "The same identity's client id.")] = None
    role: Annotated[
        str | None, Key(text("a role definition's id"), "The role with which a machine may delete its own group.")
    ] = None


class Gcp(Struct, frozen=True, kw_only=True):
    """Settings for GCP."""

    project: Annotated[str | None, Key(text("a project's id"), "The project to work in.")] = None
    service_account: Annotated[
        str | None, Key(text("a service account's email address"), "The machine's own identity.")
    ] = None
    image: Annotated[str | None, Key(text("an image's address"), "The machine's image.")] = None
    network: Annotated[str | None, Key(text("a network's name"), "The network, where it is not `default`.")] = None


class Config(Struct, frozen=True, kw_only=True):
    """What holds for all of a user's jobs. A job file or a flag wins over it."""

    store: Annotated[
        str | None, Key(Store(), "Where checkpoints, logs and results go when the job file does not say.")
    ] = None
    owner: Annotated[
        str | None, Key(text("a name"), "Whose machines these are, for a team that shares an account.")
    ] = None
    limits: Annotated[Limits, Key(Section(Limits), "Limits above one job.")] = Limits()
    notify: Annotated[
        tuple[str, ...],
        Key(Items(text("an address to notify", longest=2000), "[mailto://…]"), "Whom to tell of endings."),
    ] = ()
    aws: Annotated[Aws, Key(Section(Aws), "Settings for AWS.")] = Aws()
    azure: Annotated[Azure, Key(Section(Azure), "Settings for Azure.")] = Azure()
    gcp: Annotated[Gcp, Key(Section(Gcp), "Settings for GCP.")] = Gcp()
    local: Annotated[Local, Key(Section(Local), "What this computer costs while a job runs.")] = Local()


CONFIG = Section(Config)
