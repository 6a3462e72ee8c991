"""What goes wrong in the fake, by rule: which call, where, how often, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Rule:
    """One thing that goes wrong the next `times` times that it could."""

    kind: str
    """`http`, `lost_reply`, `lost_request`, `operation`, `slow`, `preempt`."""
    method: str = "compute.instances.insert"
    zone: str = ""
    """Only there; empty: everywhere."""
    times: int = 1
    status: int = 503
    reason: str = "backendError"
    code: str = ""
    quota: str = ""
    seconds: float = 0.0


@dataclass
class Faults:
    """The rules that hold."""

    rules: list[Rule] = field(default_factory=list)

    def add(self, kind: str, **values: Any) -> Rule:
        """One more rule."""
        rule = Rule(kind, **values)
        self.rules.append(rule)
        return rule

    def stockout(self, *zones: str, times: int = 1) -> None:
        """No T4 is free there: the insert is accepted, and its operation fails."""
        for zone in zones:
            code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
            self.add("operation", zone=zone, times=times, code=code, reason="resource_availability")

    def take(self, method: str, zone: str, *kinds: str) -> Rule | None:
        """The first rule of these kinds that holds now; it counts as met."""
        for rule in self.rules:
            if rule.times > 0 and rule.kind in kinds and rule.method == method and rule.zone in ("", zone):
                rule.times -= 1
                return rule
        return None

    def operation_error(self, zone: str) -> dict[str, Any] | None:
        """What an accepted insert fails with."""
        rule = self.take("compute.instances.insert", zone, "operation")
        if rule is None:
            return None
        detail: dict[str, Any] = {"errorInfo": {"reason": rule.reason, "domain": "compute.googleapis.com"}}
        if rule.quota:
            name = f"{rule.quota.replace('_', '-')}-per-project-region".removesuffix(
                "-region" if rule.quota == "GPUS_ALL_REGIONS" else " "
            )
            detail = {"quotaInfo": {"metricName": f"compute.googleapis.com/{rule.quota.lower()}", "limitName": name}}
        return {
            "status": rule.status,
            "errors": [{"code": rule.code, "message": f"{rule.code} in {zone}.", "errorDetails": [detail]}],
        }

    def slow_s(self, zone: str) -> float:
        """How much longer placing takes."""
        rule = self.take("compute.instances.insert", zone, "slow")
        return rule.seconds if rule else 0.0

    def preempt_after_s(self, zone: str) -> float | None:
        """When the cloud takes the next spot machine back."""
        rule = self.take("compute.instances.insert", zone, "preempt")
        return rule.seconds if rule else None
