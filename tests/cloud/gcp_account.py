"""The parts of Google Cloud that `gpulaunch init gcp` speaks to beside Compute Engine: services, IAM, storage.

It answers in the shapes of their REST references, and refuses what those refuse: a second thing of the same name, a
policy with a stale etag or with a condition and no version 3, a member that does not exist yet.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any

Answer = tuple[int, Any, bool]


@dataclass
class Account:
    """One project's identities, policies and buckets."""

    project: str = "proj"
    services: list[str] = field(default_factory=list)
    identities: list[str] = field(default_factory=list)
    roles: dict[str, dict[str, Any]] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=lambda: {"version": 1, "etag": "e0", "bindings": [
        {"role": "roles/owner", "members": ["user:me@example.com"]}]})  # fmt: skip
    buckets: dict[str, dict[str, Any]] = field(default_factory=dict)
    bucket_policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown_for: int = 1
    """So many times a new identity is not known to the policies yet."""
    changes: int = 0
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Answer:
        """One request."""
        self.asked.append(f"{method} {path}")
        project = f"/v1/projects/{self.project}"
        routes = {
            ("POST", f"{project}/services:batchEnable"): self._enable,
            ("POST", f"{project}/serviceAccounts"): self._identity,
            ("POST", f"{project}/roles"): self._role,
            ("POST", f"{project}:getIamPolicy"): lambda _: (200, copy.deepcopy(self.policy), False),
            ("POST", f"{project}:setIamPolicy"): self._set_policy,
            ("POST", "/storage/v1/b"): self._bucket,
        }
        if (method, path) in routes:
            return routes[method, path](body)
        if method == "PATCH" and (found := re.fullmatch(rf"{project}/roles/(\w+)", path)):
            self.roles[found[1]] |= body
            return 200, self.roles[found[1]], False
        if found := re.fullmatch(r"/storage/v1/b/([a-z0-9._-]+)(/iam)?", path):
            return self._storage(method, found[1], bool(found[2]), body)
        return _refuse(404, f"the fake knows no {method} {path}")

    def _enable(self, body: Any) -> Answer:
        self.services = body["serviceIds"]
        return 200, {"name": "operations/1", "done": True}, False

    def _identity(self, body: Any) -> Answer:
        email = f"{body['accountId']}@{self.project}.iam.gserviceaccount.com"
        if email in self.identities:
            return _refuse(409, "already exists")
        self.identities.append(email)
        self.changes += 1
        return 200, {"email": email}, False

    def _role(self, body: Any) -> Answer:
        if body["roleId"] in self.roles:
            return _refuse(409, "already exists")
        self.roles[body["roleId"]] = body["role"]
        self.changes += 1
        return 200, body["role"], False

    def _set_policy(self, body: Any) -> Answer:
        refusal = self._refusal(body["policy"], self.policy)
        if refusal:
            return _refuse(400, refusal)
        self.changes += 1
        self.policy = {**body["policy"], "etag": f"e{self.changes}"}
        return 200, self.policy, False

    def _refusal(self, policy: dict[str, Any], before: dict[str, Any]) -> str:
        if policy.get("etag") != before.get("etag"):
            return "somebody else has changed it"
        if any("condition" in each for each in policy["bindings"]) and policy.get("version") != 3:
            return "conditions need version 3"
        members = {m for each in policy["bindings"] for m in each["members"] if m.startswith("serviceAccount:")}
        known = {f"serviceAccount:{email}" for email in self.identities}
        if members - known or self.unknown_for > 0:
            self.unknown_for -= 1
            return "there is no such service account"
        return ""

    def _bucket(self, body: Any) -> Answer:
        self.buckets[body["name"]] = body
        self.bucket_policies[body["name"]] = {"version": 1, "etag": "b0", "bindings": []}
        self.changes += 1
        return 200, body, False

    def _storage(self, method: str, name: str, of_policy: bool, body: Any) -> Answer:
        if name not in self.buckets:
            return _refuse(404, "no such bucket")
        if not of_policy:
            return 200, self.buckets[name], False
        if method == "PUT":
            refusal = self._refusal(body, self.bucket_policies[name])
            if refusal:
                return _refuse(400, refusal)
            self.changes += 1
            self.bucket_policies[name] = {**body, "etag": f"b{self.changes}"}
        return 200, copy.deepcopy(self.bucket_policies[name]), False


def _refuse(status: int, message: str) -> Answer:
    """As the newer APIs refuse: without `errors[]`."""
    return status, {"error": {"code": status, "message": message, "status": "FAILED"}}, False
