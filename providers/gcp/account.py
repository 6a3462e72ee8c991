"""What `gpulaunch init gcp` makes, once: the machine's own identity with two rights, a bucket, and a closed network.

The identity may delete machines whose names begin with `gl-`, and write into the store. IAM conditions cannot ask for
a label of a machine, but for its name (iam/docs/conditions-attribute-reference, "Resource attributes").
"""

from __future__ import annotations

import os
import shlex
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tenacity

from providers.base import InvalidRequest, ProviderError
from providers.gcp import credentials, errors
from providers.gcp.network import RULE, RULE_PRIORITY, closing
from providers.gcp.requests import NETWORK_TAG, PREFIX, network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from launcher.core.clock import Clock

NAME = "gpulaunch"
ROLE = "gpulaunchMachine"
PERMISSIONS = ("compute.instances.delete", "compute.disks.delete")
BUCKET_ROLE = "roles/storage.objectUser"
LOCATION = "us-central1"
"""Where T4s cost least. A bucket cannot be moved; name your own with `store:` to have it elsewhere."""
SERVICES = (
    "compute.googleapis.com",
    "iam.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "storage.googleapis.com",
    "cloudbilling.googleapis.com",
)
TIMEOUT_S = 20.0
# A new account and a new role are known everywhere after some seconds (iam/docs/access-change-propagation).
PATIENCE_S = 60.0
CONFLICT, NOT_FOUND = 409, 404
THERE = "is there already"


class CloudAccount:
    """The user's project, and what gpulaunch needs in it."""

    def __init__(self, *, clock: Clock, settings: Mapping[str, Any], store: str | None) -> None:
        self._clock = clock
        self._source = credentials.find(os.environ, settings)
        credentials.check(self._source)
        self._project = self._source.project
        self._network = network_of(settings)
        self._email = f"{NAME}@{self._project}.iam.gserviceaccount.com"
        self._member = f"serviceAccount:{self._email}"
        url = urlsplit(store or f"gs://{NAME}-{self._project}")
        self._bucket = url.netloc if url.scheme == "gs" else ""
        self._prefix = url.path.strip("/")

    def document(self) -> str:
        """The commands of gcloud that make the same. Calls nothing."""
        where = ["--project", self._project]
        role = f"projects/{self._project}/roles/{ROLE}"
        commands = [
            ["gcloud", "services", "enable", *SERVICES, *where],
            ["gcloud", "iam", "service-accounts", "create", NAME, *where, "--display-name", "A machine of gpulaunch"],
            ["gcloud", "iam", "roles", "create", ROLE, *where, "--title", "gpulaunch: a machine ends itself",
             "--permissions", ",".join(PERMISSIONS)],
            ["gcloud", "projects", "add-iam-policy-binding", self._project, "--member", self._member, "--role", role,
             "--condition", _flag("own_machines", own_machines())],
        ]  # fmt: skip
        if self._bucket:
            bucket = f"gs://{self._bucket}"
            condition = ["--condition", _flag("own_prefix", own_prefix(self._bucket, self._prefix))]
            commands += [
                ["gcloud", "storage", "buckets", "create", bucket, *where, "--location", LOCATION,
                 "--uniform-bucket-level-access", "--public-access-prevention"],
                ["gcloud", "storage", "buckets", "add-iam-policy-binding", bucket, "--member", self._member, "--role",
                 BUCKET_ROLE, *(condition if self._prefix else [])],
            ]  # fmt: skip
        lines = [shlex.join(command) for command in commands]
        return "\n".join([*lines, f"{closing(self._network)} --project {shlex.quote(self._project)}"])

    def apply(self, tell: Callable[[str], None]) -> dict[str, str]:
        """Make what is missing; safe to repeat. Returns the keys of the configuration's section `gcp`, and `store`."""
        self._enable(tell)
        self._identity(tell)
        self._role(tell)
        self._bind_project(tell)
        made = {"project": self._project, "service_account": self._email}
        if self._bucket:
            self._make_bucket(tell)
            made["store"] = f"gs://{self._bucket}/{self._prefix}".rstrip("/")
        else:
            tell("The store is not a bucket of Google Cloud: its machines cannot reach it, so none was prepared.")
        self._close_network(tell)
        return made

    # The steps

    def _enable(self, tell: Callable[[str], None]) -> None:
        path = f"/v1/projects/{self._project}/services:batchEnable"
        self._call("POST", "serviceusage", path, {"serviceIds": list(SERVICES)}, doing="switch on the APIs")
        tell("The APIs are switched on.")

    def _identity(self, tell: Callable[[str], None]) -> None:
        body = {"accountId": NAME, "serviceAccount": {"displayName": "A machine of gpulaunch"}}
        path = f"/v1/projects/{self._project}/serviceAccounts"
        made = self._make("iam", path, body, doing="make the service account")
        tell(f"The service account {self._email} {made}.")

    def _role(self, tell: Callable[[str], None]) -> None:
        role = {
            "title": "gpulaunch: a machine ends itself",
            "includedPermissions": list(PERMISSIONS),
            "stage": "GA",
        }
        path = f"/v1/projects/{self._project}/roles"
        made = self._make("iam", path, {"roleId": ROLE, "role": role}, doing="make the role")
        if made == THERE:
            fields = {"includedPermissions": list(PERMISSIONS)}
            update = f"{path}/{ROLE}?updateMask=includedPermissions"
            self._call("PATCH", "iam", update, fields, doing="update the role")
        tell(f"The role {ROLE} {made}: {', '.join(PERMISSIONS)}.")

    def _bind_project(self, tell: Callable[[str], None]) -> None:
        path = f"/v1/projects/{self._project}"
        binding = {
            "role": f"projects/{self._project}/roles/{ROLE}",
            "members": [self._member],
            "condition": {"title": "own_machines", "expression": own_machines()},
        }

        def bind() -> None:
            ask = {"options": {"requestedPolicyVersion": 3}}
            policy = self._call("POST", "cloudresourcemanager", f"{path}:getIamPolicy", ask, doing="read who may what")
            if binding not in policy.get("bindings", []):
                changed = {"policy": _with(policy, binding)}
                self._call("POST", "cloudresourcemanager", f"{path}:setIamPolicy", changed, doing="grant the role")

        self._patiently(bind)
        tell(f"It may delete machines whose names begin with {PREFIX}, and nothing else.")

    def _make_bucket(self, tell: Callable[[str], None]) -> None:
        body = {
            "name": self._bucket,
            "location": LOCATION,
            "iamConfiguration": {
                "uniformBucketLevelAccess": {"enabled": True},
                "publicAccessPrevention": "enforced",
            },
            "labels": {NAME: "store"},
        }
        if self._absent("storage", f"/storage/v1/b/{self._bucket}", doing="look at the bucket"):
            path = f"/storage/v1/b?project={self._project}"
            self._call("POST", "storage", path, body, doing="make the bucket")
            tell(f"The bucket {self._bucket} is made, closed to the public.")
        else:
            tell(f"The bucket {self._bucket} {THERE}.")
        binding: dict[str, Any] = {"role": BUCKET_ROLE, "members": [self._member]}
        if self._prefix:
            binding["condition"] = {"title": "own_prefix", "expression": own_prefix(self._bucket, self._prefix)}

        def bind() -> None:
            path = f"/storage/v1/b/{self._bucket}/iam"
            policy = self._call(
                "GET", "storage", f"{path}?optionsRequestedPolicyVersion=3", None, doing="read who may use the bucket"
            )
            if binding not in policy.get("bindings", []):
                self._call("PUT", "storage", path, _with(policy, binding), doing="let the machines use the bucket")

        self._patiently(bind)
        tell(f"A machine may use gs://{self._bucket}/{self._prefix}".rstrip("/") + ", and nothing else of it.")

    def _close_network(self, tell: Callable[[str], None]) -> None:
        rule = {
            "name": RULE,
            "network": self._network,
            "direction": "INGRESS",
            "priority": RULE_PRIORITY,
            "denied": [{"IPProtocol": "all"}],
            "sourceRanges": ["0.0.0.0/0"],
            "targetTags": [NETWORK_TAG],
        }
        path = f"/compute/v1/projects/{self._project}/global/firewalls"
        made = self._make("compute", path, rule, doing="close the network for our machines")
        tell(f"The firewall rule {RULE} {made}: nothing reaches our machines from outside.")

    # How it is asked

    @cached_property
    def _session(self) -> Any:
        from google.auth.transport.requests import AuthorizedSession

        return AuthorizedSession(credentials.load(self._source))  # type: ignore[no-untyped-call]

    def _ask(self, method: str, service: str, path: str, body: Any, *, doing: str) -> Any:
        """One request; the reply, whatever its status."""
        base = self._source.endpoint or f"https://{service}.googleapis.com"
        try:
            return self._session.request(method, f"{base}{path}", json=body, timeout=TIMEOUT_S)
        except Exception as error:
            raise errors.from_call(error, doing, project=self._project) from error

    def _call(self, method: str, service: str, path: str, body: Any, *, doing: str) -> dict[str, Any]:
        """One request that must succeed. Raises a ProviderError."""
        return self._document(self._ask(method, service, path, body, doing=doing), doing)

    def _make(self, service: str, path: str, body: Any, *, doing: str) -> str:
        """Make something that may be there already; in words, what came of it."""
        reply = self._ask("POST", service, path, body, doing=doing)
        if reply.status_code == CONFLICT:
            return THERE
        self._document(reply, doing)
        return "is made"

    def _absent(self, service: str, path: str, *, doing: str) -> bool:
        reply = self._ask("GET", service, path, None, doing=doing)
        if reply.status_code == NOT_FOUND:
            return True
        self._document(reply, doing)
        return False

    def _document(self, reply: Any, doing: str) -> dict[str, Any]:
        if reply.status_code >= 300:
            raise errors.from_reply(reply, doing, project=self._project)
        return dict(reply.json()) if reply.content else {}

    def _patiently(self, step: Callable[[], None]) -> None:
        """A step that needs what was just made: it is not known everywhere at once; and another may change the same."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_pass),
            stop=tenacity.stop_after_attempt(int(PATIENCE_S / 5)),
            wait=tenacity.wait_fixed(5),
            sleep=self._clock.sleep,
            reraise=True,
        )
        retrying(step)


def own_machines() -> str:
    """The IAM condition for machines of ours, and for their disks, which go with them."""
    kinds = (("Instance", "instances"), ("Disk", "disks"))
    return " || ".join(
        f'(resource.type == "compute.googleapis.com/{kind}" && '
        f'resource.name.extract("/{path}/{{name}}").startsWith("{PREFIX}"))'
        for kind, path in kinds
    )


def own_prefix(bucket: str, prefix: str) -> str:
    """The IAM condition for what lies below a prefix, and for listing it."""
    return (
        f'resource.name.startsWith("projects/_/buckets/{bucket}/objects/{prefix}/") || '
        f'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("{prefix}/")'
    )


def _flag(title: str, expression: str) -> str:
    """A condition as gcloud takes it: with another separator, since the expression has commas."""
    return f"^:^title={title}:expression={expression}"


def _with(policy: dict[str, Any], binding: dict[str, Any]) -> dict[str, Any]:
    """The policy with one more binding; its etag keeps another's change from being lost."""
    return {**policy, "version": 3, "bindings": [*policy.get("bindings", []), binding]}


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ProviderError) and (error.retry or isinstance(error, InvalidRequest))
