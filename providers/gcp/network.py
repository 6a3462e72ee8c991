"""What the network lets in. We open nothing; what a user's network opens to everybody is told, with what closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from providers.base import AuthError
from providers.gcp.requests import NETWORK_TAG

if TYPE_CHECKING:
    from providers.gcp.client import Compute

RULE = "gpulaunch-no-ingress"
RULE_PRIORITY = 900
EVERYBODY = frozenset({"0.0.0.0/0", "::/0"})


def rules_of(compute: Compute) -> list[Any] | None:
    """Every firewall rule of the project; None where we may not see them."""
    try:
        return compute.firewalls()
    except AuthError:
        return None


def open_ports_note(rules: list[Any] | None, network: str) -> str:
    """One sentence on what of the internet can reach a machine in this network, and what closes it; empty if nothing.

    Every new project's default network allows SSH, RDP and ICMP from everywhere, at priority 65534
    (vpc/docs/firewalls, "Pre-populated rules in the default network").
    """
    if rules is None:
        return f"Whether the network {_name(network)} lets others reach the machine could not be checked."
    ours = [rule for rule in rules if rule.network.endswith(network) and _concerns_us(rule)]
    denied = min((rule.priority for rule in ours if _is_deny_all(rule)), default=None)
    opened = [rule for rule in ours if rule.allowed and (denied is None or rule.priority < denied)]
    if not opened:
        return ""
    ports = sorted({port for rule in opened for port in _ports(rule)})
    return (
        f"The network {_name(network)} lets everybody reach the machine's {', '.join(ports)} "
        f"(rule {', '.join(sorted(rule.name for rule in opened))}); gpulaunch needs none of it. "
        f"Close it: {closing(network)}"
    )


def closing(network: str) -> str:
    """The command that closes machines of ours, and no others."""
    return (
        f"gcloud compute firewall-rules create {RULE} --network {_name(network)} --direction INGRESS --action DENY "
        f"--rules all --priority {RULE_PRIORITY} --target-tags {NETWORK_TAG}"
    )


def _concerns_us(rule: Any) -> bool:
    """A rule for everybody outside that holds for our machines."""
    ours = not rule.target_service_accounts and (not rule.target_tags or NETWORK_TAG in rule.target_tags)
    outside = bool(EVERYBODY & set(rule.source_ranges)) and not rule.source_tags
    return rule.direction == "INGRESS" and not rule.disabled and ours and outside


def _is_deny_all(rule: Any) -> bool:
    return any(each.I_p_protocol == "all" and not each.ports for each in rule.denied)


def _ports(rule: Any) -> list[str]:
    return [f"{each.I_p_protocol} {port}" for each in rule.allowed for port in each.ports or [""]]


def _name(network: str) -> str:
    return network.rpartition("/")[2]
