"""Faults by rule: which request is met by which misfortune, and how often."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass, field
from typing import Any

# refuse       the answer is an error, and nothing was done
# drop         the connection ends before anything was done
# lose         it was done, and the connection ends without an answer
# fail         the request is accepted, and its operation fails with `code`
# hang         the request is accepted, and its operation never ends
# kill         the client (`pid`) dies before anything was done
# kill_after   it was done, and the client dies before the answer
KINDS = ("refuse", "drop", "lose", "fail", "hang", "kill", "kill_after")


@dataclass
class Rule:
    """One misfortune. `path` is a pattern that is searched for; the first `skip` matches are let through."""

    kind: str
    method: str = ".*"
    path: str = ""
    times: int = 1
    skip: int = 0
    status: int = 409
    code: str = "Conflict"
    headers: dict[str, str] = field(default_factory=dict)
    pid: int = 0

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    def meets(self, method: str, path: str) -> bool:
        """Whether it is this request's turn."""
        if self.times <= 0 or not re.fullmatch(self.method, method) or not re.search(self.path, path, re.IGNORECASE):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True

    def strike(self) -> None:
        """SIGKILL to the client."""
        os.kill(self.pid, signal.SIGKILL)


@dataclass
class Faults:
    """All rules; the first that a request meets is taken."""

    rules: list[Rule] = field(default_factory=list)

    def add(self, kind: str, **how: Any) -> Rule:
        """Another rule."""
        self.rules.append(Rule(kind, **how))
        return self.rules[-1]

    def meet(self, method: str, path: str) -> Rule | None:
        """The misfortune of this request, if it has one."""
        return next((rule for rule in self.rules if rule.meets(method, path)), None)
