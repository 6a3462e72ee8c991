"""What leaves this machine, which the cloud bills by the byte: counted where it leaves, against the reserve.

The kernel counts what the outward interface has sent. What went to a store of the same cloud and region is free, and is
taken off with what the network adds to it. Whatever that leaves, the container's own traffic counts in full.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

from . import processes

WIRE = 1.06
"""A byte of an upload on the wire, at most: 66 bytes of headers for 1,448 (Ethernet, IPv4, TCP), TLS, repeats."""
BRIDGE = "docker0"


def counters() -> tuple[int, int]:
    """Bytes that the outward interface has sent since boot, and those that containers have. Raises OSError."""
    counts = {}
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        counts[name.strip()] = [int(number) for number in numbers.split()]
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    outward = {route[0] for route in routes if route[1] == "00000000"}
    return sum(counts[name][8] for name in outward if name in counts), counts.get(BRIDGE, [0])[0]


class Egress:
    """All in bytes. `limits` is `{"bytes": the reserve, "store_is_free": …}`, or None where nothing is billed."""

    def __init__(self, limits: dict[str, Any] | None, folder: Path) -> None:
        self.limits = limits
        self.path = folder / "egress.json"
        self.used = 0
        self.kept = 0
        """For the last upload."""
        self.known: dict[str, Any] = {"boot": "", "before": 0, "pulled": None, "sent": 0, "used": 0}
        if limits is None:
            return
        with contextlib.suppress(OSError, ValueError):
            self.known |= json.loads(self.path.read_bytes())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        if self.known["boot"] != boot:  # the kernel's counters began anew
            self.known |= {"boot": boot, "before": self.known["used"], "pulled": None, "sent": 0}
        self.earlier: int = self.known["sent"]
        self.look(0, 0)

    def look(self, sent: int, bytes_kept: int) -> None:
        """Count anew: `sent` went to the store since this agent started, and the last upload may need so much."""
        if self.limits is None:
            return
        try:
            out, contained = counters()
        except (OSError, ValueError, IndexError):
            return
        known = self.known
        known["sent"] = self.earlier + sent
        free = known["sent"] * WIRE if self.limits["store_is_free"] else 0
        self.kept = 0 if self.limits["store_is_free"] else bytes_kept
        pulled = known["pulled"]
        here = out if pulled is None else pulled + max(round(out - pulled - free), contained)
        self.used = known["used"] = known["before"] + here

    def begin(self) -> None:
        """The training begins: what was sent until now was none of its own, nor of the store's."""
        if self.limits is not None and self.known["pulled"] is None:
            self.known["pulled"] = self.used - self.known["before"]

    def left(self) -> float:
        """Of the reserve."""
        return float("inf") if self.limits is None else self.limits["bytes"] - self.used

    def is_spent(self) -> bool:
        """Whether the container must stop, so that the last upload still fits; one that never would does not count."""
        if self.limits is None:
            return False
        return self.left() <= (self.kept if self.kept < self.limits["bytes"] else 0)

    def refused(self, size: int, periodic: bool) -> str:
        """Why an upload of that size must not be, if so."""
        if self.limits is None or self.limits["store_is_free"]:
            return ""
        if size + (self.kept if periodic else 0) <= self.left():
            return ""
        return f"{size / 1e6:.0f} MB are more than the egress reserve has room for"


def cut() -> None:
    """The container sends nothing more."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes.spawn(["iptables", "-w", "5", "-I", "DOCKER-USER", "-j", "DROP"], **quiet)
